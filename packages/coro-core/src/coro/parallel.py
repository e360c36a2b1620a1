"""`in_parallel`: call several functions at once, each in a coroutine of its own, and wait for all of them.

Stands on `coro.kernel` and on the coroutine object.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from .coroutine import coro
from .exceptions import DeadCoroutine, InParallelError, Shutdown
from .kernel import calling
from .verbs import check_body, new, spawn

__all__ = ["FAILURE", "SUCCESS", "in_parallel"]

SUCCESS: Final = "success"
FAILURE: Final = "failure"

Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


def in_parallel(fun_arg_list: Iterable[Sequence[Any]], *, cancel: bool = True) -> list[Any]:
    """Call all the functions at the same time, each in a coroutine of its own, and wait until every one has ended.

    Args:
        fun_arg_list: pairs ``(function, arguments)`` or triples ``(function, arguments, keyword_arguments)``, where
            the arguments are any iterable and the keyword arguments a mapping.
        cancel: what becomes of the coroutines when the caller is interrupted, by a timeout or a shutdown.  True: they
            are shut down, and have ended before the interruption goes on; a second one does not wait for them.  False:
            they run on, and their results are dropped.

    Returns the results in the order of the input; ``[]`` for nothing to do.

    Raises `InParallelError` if any function has failed, after all have ended.  Its ``result_list`` holds for each
    function ``(SUCCESS, result)`` or ``(FAILURE, exc_info)``, its ``__cause__`` is what was raised, or the group of all
    that was.  A function whose coroutine was shut down or cancelled has failed too.  The exception notifier is not told
    of failures, unless the caller is interrupted and so nobody else learns of them.

    TypeError, before anything starts, names the index of an entry that is wrong.  `YieldFromMain` outside a coroutine.
    """
    calling()
    try:
        entries = list(fun_arg_list)
    except TypeError as exc:
        if isinstance(fun_arg_list, Iterable):
            raise  # from the generator itself
        raise TypeError(f"in_parallel() needs pairs (function, arguments), not {fun_arg_list!r}") from exc
    calls = [checked(index, entry) for index, entry in enumerate(entries)]
    children: list[coro] = []
    try:
        for fun, args, kwargs in calls:
            child = new(fun, *args)
            child._kwargs = kwargs  # not through new(), to which a thread_name would be the name
            child._collected += 1
            children.append(child)
            child.start()
        for child in children:
            child.join()
    except BaseException:
        for child in children:
            child._collected -= 1
            if cancel and not child._dead:
                child.shutdown()
            elif child._error is not None and not isinstance(child._error[0], (Shutdown, *ENDS_THE_LOOP)):
                spawn(child.result, thread_name=child.name)  # raises it, for the notifier
        if cancel:
            for child in children:
                child.join()
        raise
    results = [outcome(child) for child in children]
    errors: list[BaseException] = [result[1] for status, result in results if status == FAILURE]
    if errors:
        text = f"{len(errors)} of {len(results)} calls failed"
        raise InParallelError(results) from (errors[0] if len(errors) == 1 else BaseExceptionGroup(text, errors))
    return [result for _, result in results]


ENDS_THE_LOOP: Final = (SystemExit, KeyboardInterrupt)  # the kernel has dealt with these


def checked(index: int, entry: Any) -> Call:
    """Return entry number *index* as (function, tuple, dict), or raise a TypeError that says what is wrong with it."""
    if not isinstance(entry, Sequence) or isinstance(entry, (str, bytes)) or len(entry) not in (2, 3):
        raise TypeError(
            f"entry {index} of in_parallel() is no pair (function, arguments) nor a triple with keyword arguments: "
            f"{entry!r}"
        )
    fun, args, kwargs = (*entry, {})[:3]
    try:
        check_body(fun)
    except TypeError as exc:
        raise TypeError(f"entry {index} of in_parallel(): {exc}") from None
    if not isinstance(args, Iterable):
        raise TypeError(f"the arguments in entry {index} of in_parallel() are a tuple or a list, not {args!r}")
    if not isinstance(kwargs, Mapping) or not all(isinstance(key, str) for key in kwargs):
        raise TypeError(f"the keyword arguments in entry {index} of in_parallel() are a dict by name, not {kwargs!r}")
    return fun, tuple(args), dict(kwargs)


def outcome(child: coro) -> tuple[str, Any]:
    """Return ``(SUCCESS, value)`` or ``(FAILURE, exc_info)`` of a coroutine that has ended."""
    if child._error is not None:
        error, traceback = child._error
    elif child.started:
        return SUCCESS, child._value
    else:
        error, traceback = DeadCoroutine(child, "was cancelled before it began"), None
    return FAILURE, (type(error), error, traceback)
