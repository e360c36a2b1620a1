"""What coro says to people: stacks, tracebacks, the exception notifier, lines on stderr.

Stands on `coro.coroutine`.  Nothing here is needed while nothing goes wrong, and the kernel imports it only then.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from types import CodeType, FrameType, TracebackType
from typing import Final, TextIO

from greenlet import getcurrent

from .coroutine import MAIN, all_threads, coro
from .exceptions import Shutdown

__all__ = [
    "get_live_coros",
    "made_at",
    "print_stderr",
    "set_exception_notifier",
    "stack_string",
    "traceback_string",
    "waits_for",
    "where",
    "where_all",
    "write_stderr",
]

MOST_PLACES: Final = 50  # of a stack in one line; a recursion has hundreds

Notifier = Callable[[], object]


def _stderr() -> TextIO | None:
    return sys.__stderr__ or sys.stderr


def write_stderr(text: str) -> None:
    """Write *text* as it is to the real stderr, whatever `sys.stderr` is now.  A broken one is ignored."""
    stream = _stderr()
    if stream is not None:
        with suppress(OSError, ValueError):  # gone or closed: there is no place left to say so
            stream.write(text)
            stream.flush()


def print_stderr(text: str) -> None:
    """Write a line to the real stderr: ``<coroutine id>:<TAB><time> <text>``, with id -1 for the main program."""
    from .kernel import this_kernel

    co = this_kernel().current or MAIN
    write_stderr(f"{co.id}:\t{time.ctime()} {text}" + ("" if text.endswith("\n") else "\n"))


def _place(frame: FrameType, line: int) -> str:
    return _location(frame.f_code, line)


def _location(code: CodeType, line: int) -> str:
    path = code.co_filename.replace("\\", "/").split("/")
    return f"{'/'.join(path[-2:])} {code.co_name}|{line}"


def _places(tb: TracebackType | None) -> list[str]:
    places: list[str] = []
    while tb is not None:
        places.append(_place(tb.tb_frame, tb.tb_lineno))
        tb = tb.tb_next
    return places


def stack_string(frame: FrameType | None = None) -> str:
    """Return a stack in one line, innermost first: ``[dir/file function|line] [caller...]``.

    Args:
        frame: the innermost frame; None for that of the caller.
    """
    if frame is None:
        frame = sys._getframe(1)
    places: list[str] = []
    # Below the scheduler it is the same for all.
    while frame is not None and frame.f_globals.get("__name__") not in ("coro.kernel", "coro.running"):
        if len(places) == MOST_PLACES:
            places.append("[...]")
            break
        places.append(f"[{_place(frame, frame.f_lineno)}]")
        frame = frame.f_back
    return " ".join(places)


def traceback_string(exc: BaseException | None = None) -> str:
    """Return an exception in one line: its type, its text, and the places from the outermost to where it was raised.

    Args:
        exc: the exception; None for the one that is being handled.
    """
    if exc is None:
        exc = sys.exception()
    if exc is None:
        return "no exception"
    places = [f"[{place}]" for place in _places(exc.__traceback__)]
    return f"{type(exc).__name__}: {exc} {' '.join(places)}"


def where(co: coro) -> str:
    """Return in one line where a coroutine is: its stack, innermost first, or that it has not started or is dead."""
    if co.dead:
        return "dead"
    if co is not MAIN and not co.started:
        return "not started"
    frame = co.get_frame()
    return "" if frame is None else stack_string(frame)


def made_at(co: coro) -> str:
    """Return where `spawn` or `new` was called to make a coroutine, as ``dir/file function|line``; "" if unknown."""
    if co._made_in is None:
        return ""
    code, at = co._made_in, co._made_at
    line = next((line for start, stop, line in code.co_lines() if start <= at < stop), None)
    return _location(code, line or code.co_firstlineno)


def waits_for(co: coro) -> str:
    """Return in words what a coroutine waits for.

    Nothing is recorded for this while nobody asks: it is looked up in the tables that the wait itself needs, and for a
    lock, a queue and the like in the frame that is blocked.
    """
    kernel = co._kernel
    if co is MAIN or co.dead or kernel.current is co:
        return "nothing"
    if co.scheduled:
        return "its turn"
    if not co.started:
        return "its start"
    for entry in list(kernel.fds.values()):
        if co is entry.reader or co is entry.writer:
            return f"descriptor {entry.fd} to become {'readable' if co is entry.reader else 'writable'}"
    for when, target in list(kernel.timer_map.items()):
        if target is co or (isinstance(target, dict) and id(co) in target):
            return f"{max(0.0, when - time.monotonic()):.3g} s to pass"
    for other in all_threads.values():
        if isinstance(other._joiners, dict) and co in other._joiners:
            return f"the end of {other!r}"
    greenlet = co._greenlet
    frame = sys._getframe() if greenlet is None or greenlet is getcurrent() else greenlet.gr_frame
    while frame is not None and frame.f_globals.get("__name__", "").startswith("coro."):
        waited_for = frame.f_locals.get("self")
        if waited_for is not None and waited_for is not kernel and waited_for is not co:
            return repr(waited_for)
        frame = frame.f_back
    return "somebody to schedule it"


def where_all() -> dict[int, tuple[str, coro, str]]:
    """Return ``{id: (name, coroutine, where)}`` for all coroutines of the process."""
    return {co.id: (co.name, co, where(co)) for co in all_threads.values()}


def get_live_coros() -> int:
    """Return how many coroutines have not ended."""
    return len(all_threads)


# -- the exception notifier ------------------------------------------------------------------------------------------


def default_notifier() -> None:
    """Print the traceback of the exception that is being handled, and the coroutine that it ends."""
    from .kernel import this_kernel

    exc = sys.exception()
    co = this_kernel().current or MAIN
    from traceback import format_exception

    lines = format_exception(exc) if exc is not None else []
    print_stderr(f"coroutine {co.id} ({co.name}) has failed: {exc!r}\n{''.join(lines)}")


_notifier: Notifier | None = None


def set_exception_notifier(new_func: Notifier | None) -> Notifier | None:
    """Install the function that is told of each exception that ends a coroutine, except `Shutdown`.

    It is called without arguments in the dying coroutine, where `sys.exception()` is the exception; it may block.
    What it raises itself is reported by the default notifier.

    Args:
        new_func: the function; None for the default, which prints a traceback to the real stderr.

    Returns the one that was installed before, None for the default.  TypeError if it is not callable.
    """
    global _notifier
    if new_func is not None and not callable(new_func):
        raise TypeError(f"an exception notifier is a function without arguments, not {new_func!r}")
    old, _notifier = _notifier, new_func
    return old


def notify(exc: BaseException) -> None:
    """Tell the notifier of *exc*, which is being handled.  Raises nothing."""
    try:
        (_notifier or default_notifier)()
    except Shutdown:
        pass  # while it was blocked
    except BaseException:
        default_notifier()


def compact_traceback(
    kind: type[BaseException] | None = None, exc: BaseException | None = None, tb: TracebackType | None = None
) -> tuple[str, str, str, str]:
    """Return ``(innermost place, type, text, all places)`` of an exception, by default the one being handled."""
    if exc is None:
        exc = sys.exception()
    if exc is None:
        return ("no exception", "None", "None", "")
    places = _places(tb or exc.__traceback__)
    return (places[-1] if places else "", str(kind or type(exc)), str(exc), " ".join(f"[{p}]" for p in places))
