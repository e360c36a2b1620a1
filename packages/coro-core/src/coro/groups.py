"""Coroutines that belong together: `Pool` runs so many at a time, and `group` is a block that outlasts its children.

Stands on `coro.sync`.  Both count a child off when it ends, which `at_end` tells, and not in a wrapper around its
function: a child that is cancelled before it begins counts too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from types import TracebackType
from typing import Any, TypeVar

from .coroutine import at_end, check_name, coro
from .exceptions import ScheduleError, Shutdown, timeout_of
from .kernel import Timeout, calling
from .queues import fifo
from .sync import check_count, described, first_of, inverted_semaphore, semaphore
from .verbs import check_body, current, spawn

__all__ = ["Pool", "group"]

T = TypeVar("T")


class Children:
    """Some coroutines, and how to wait for the end of all of them.  ``len()`` is how many have not ended."""

    __slots__ = ("__weakref__", "_alive", "_children")

    def __init__(self) -> None:
        self._children: dict[coro, None] = {}
        self._alive = inverted_semaphore()

    def __len__(self) -> int:
        return len(self._children)

    def __bool__(self) -> bool:
        return True

    def _add(self, co: coro) -> None:
        self._children[co] = None
        self._alive.acquire()
        at_end(co, self, type(self)._ended)

    def _ended(self, co: coro) -> None:
        del self._children[co]
        self._alive.release()

    def _shut_down(self) -> None:
        """Shut down all children.  If the caller is one of them, `Shutdown` is raised in it last."""
        me = current()
        for co in list(self._children):
            if co is not me:
                co.shutdown()
        if me in self._children:
            me.shutdown()

    def _check_caller(self) -> None:
        """Refuse to wait in the main program, and in one of the children, which would wait for itself."""
        if self._children:
            _, me = calling()
            if me in self._children:
                raise ScheduleError(me, f"cannot wait for the end of all in {self!r}: it is one of them")

    def _outlast(self, exc: BaseException | None) -> BaseException | None:
        """Wait until all children have ended, at the end of a block that *exc* has left.

        As soon as something is raised in the caller, the children are shut down; the wait goes on.  Returns what is to
        come out of the block.
        """
        raised = [] if exc is None else [exc]
        if exc is not None:
            self._shut_down()
        self._check_caller()
        while True:
            try:
                self._alive.block_till_zero()
                break
            except BaseException as another:
                raised.append(another)
                if len(raised) == 1:
                    self._shut_down()
                if isinstance(another, (RecursionError, MemoryError)):
                    break  # waiting itself has failed, and would again
        try:
            return prevailing(raised)
        finally:
            raised.clear()  # they know this frame by their tracebacks


def prevailing(raised: list[BaseException]) -> BaseException | None:
    """Return the exception to go on with: a Shutdown, else the first interrupt, else the first of all."""
    if not raised:
        return None
    chosen = min(raised, key=lambda exc: (not isinstance(exc, Shutdown), isinstance(exc, Exception)))
    for other in raised:
        timeout = timeout_of(other)
        if other is not chosen and timeout is not None and timeout[0] is not None:
            timeout[2] = None  # an outer timeout has met an inner one here: it strikes again
            timeout[0]._kernel.add_timer(timeout[1], timeout)
    return chosen


class group(Children):
    """``with coro.group() as g:`` is a block that does not end before all coroutines that it has spawned have ended.

    When a child fails, the other children are shut down and the block is interrupted where it blocks; once all have
    ended, the failures come out of the block.  The same happens when the block itself fails, or is interrupted.  In
    detail, what comes out is:

    * nothing, if nothing has failed, or if `cancel` has ended it;
    * what has interrupted the owner, as it is: a `Shutdown`, a timeout of an outer frame, a SystemExit.  Failures of
      children that this hides go to the exception notifier;
    * the failure of the block, as it is, if no child has failed;
    * else an `ExceptionGroup` of the failures of the children, in the order in which they happened, and that of the
      block; a `BaseExceptionGroup` if one of them is no `Exception`.

    A child that ends by `Shutdown` has not failed.  A SystemExit or KeyboardInterrupt in a child ends the event loop,
    as in any coroutine.  One object serves one block.  Entering it outside a coroutine is `YieldFromMain`.
    """

    __slots__ = ("_cancelled", "_errors", "_in_body", "_interrupt", "_open", "_owner")

    def __init__(self) -> None:
        super().__init__()
        self._owner: coro | None = None
        self._open = False  # children may come
        self._in_body = False
        self._cancelled = False
        self._interrupt: Timeout | None = None  # what interrupts the body: a timeout of 0 seconds
        self._errors: list[BaseException] = []  # of the children

    def spawn(self, fun: Callable[..., Any], /, *args: Any, thread_name: str | None = None, **kwargs: Any) -> coro:
        """Spawn a child, like `coro.spawn`.  Children may do this too, as long as the block has not ended.

        Its failure is not reported to the exception notifier: it comes out of the block.  In a group that has been
        cancelled the child is cancelled before it begins.  RuntimeError before the block has begun and after its end.
        """
        if not self._open or self._owner is None:
            raise RuntimeError(f"{self!r} takes no children: its 'with' block is not open")
        self._owner._kernel.check_thread(self._owner)
        co = spawn(fun, *args, thread_name=thread_name, **kwargs)
        co._collected += 1
        self._add(co)
        if self._cancelled:
            co.shutdown()
        return co

    def cancel(self) -> None:
        """Shut down all children, and interrupt the block where it blocks next.  Then it ends without an error.

        May be called by the block, by children, whose `Shutdown` is raised in place, and by others; more than once.
        """
        if self._cancelled or not self._open or self._owner is None:
            return
        self._owner._kernel.check_thread(self._owner)
        if self._in_body:
            self._interrupt = self._owner._kernel.begin_timeout(self._owner, 0)
        self._shut_down()

    @property
    def cancelled(self) -> bool:
        """Whether the group has been cancelled: by `cancel`, by a failure, or by an interrupt of the block."""
        return self._cancelled

    def _ended(self, co: coro) -> None:
        super()._ended(co)
        if co._error is not None:
            error = co._error[0]
            if not isinstance(error, (Shutdown, SystemExit, KeyboardInterrupt)):
                self._errors.append(error)
                self.cancel()

    def _shut_down(self) -> None:
        if not self._cancelled:  # once: a second Shutdown would meet the children in their finally blocks
            self._cancelled = True
            super()._shut_down()

    def __enter__(self) -> group:
        if self._owner is not None:
            raise RuntimeError(f"{self!r} has been used already: make one group for each block")
        _, self._owner = calling()
        self._open = self._in_body = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        assert self._owner is not None
        self._in_body = False
        ours = None
        if self._interrupt is not None:
            if exc is not None and exc is self._interrupt[2]:
                ours = exc
            self._owner._kernel.end_timeout(self._interrupt)
        chosen = self._outlast(None if ours is exc else exc)
        self._open = False
        errors, self._errors = self._errors, []
        try:
            if chosen is not None and not isinstance(chosen, Exception):
                if errors:
                    report(BaseExceptionGroup(f"in {self!r}, which has been interrupted", errors))
            elif errors:
                if chosen is not None and not any(chosen is error for error in errors):
                    errors.append(chosen)
                raise BaseExceptionGroup(f"in {self!r}", errors) from None
            if chosen is not None and chosen is not exc:
                raise chosen
            return ours is not None
        finally:
            del chosen, errors, ours  # they know this frame by their tracebacks

    def __repr__(self) -> str:
        state = "cancelled" if self._cancelled else "open" if self._open else "not open"
        return f"<group of {self._owner!r} {state}, {len(self)} children>"


def report(exc: BaseException) -> None:
    """Tell the exception notifier of *exc*, which nobody else will see."""
    from .report import notify

    try:
        raise exc
    except BaseException as caught:
        notify(caught)


class Pool(Children):
    """Runs coroutines, so many at a time.  ``len(pool)`` is how many there are now.

    ``with coro.Pool(size) as pool:`` is a block that does not end before they have all ended.  When it fails or is
    interrupted they are shut down first.  A failure of one of them goes to the exception notifier, like that of any
    coroutine, unless somebody waits for its `result`.

    Args:
        size: how many may run at the same time, 1 or more.  TypeError, ValueError.

    Attributes:
        size: the same.
    """

    __slots__ = ("_free", "size")

    def __init__(self, size: int) -> None:
        check_count(size, "the size of a pool", 1)
        super().__init__()
        self.size = size
        self._free = semaphore(size)

    @property
    def free(self) -> int:
        """How many more may be spawned without waiting."""
        return self._free.avail

    def spawn(self, fun: Callable[..., Any], /, *args: Any, thread_name: str | None = None, **kwargs: Any) -> coro:
        """Spawn a coroutine, like `coro.spawn`, but wait first until fewer than ``size`` are there."""
        check_body(fun)
        check_name(thread_name)
        self._free.acquire()
        co = spawn(fun, *args, thread_name=thread_name, **kwargs)
        self._add(co)
        return co

    def map(self, fun: Callable[..., T], iterable: Iterable[Any], /, *iterables: Iterable[Any]) -> list[T]:
        """Return the results of *fun* for all items, or tuples of items, in their order, like the builtin `map`.

        When one call fails the others are shut down, and its exception is raised here.
        """
        check_body(fun)
        results: dict[int, T] = {}
        with closing(self._each(fun, zip(iterable, *iterables, strict=False))) as ended:
            for number, co in ended:
                try:
                    results[number] = co.result()
                finally:
                    del co  # it holds its error, whose traceback holds this frame
        return [results[number] for number in range(len(results))]

    def imap_unordered(
        self, fun: Callable[..., T], iterable: Iterable[Any], /, *iterables: Iterable[Any]
    ) -> Iterator[T]:
        """Return an iterator over the results of *fun*, like `map`, but each as soon as it is there.

        It is lazy: it takes items only as calls can begin, and keeps no more than ``size`` calls and results that have
        not been fetched.  When one call fails, or the iterator is closed, the other calls are shut down.
        """
        check_body(fun)
        return self._results(fun, zip(iterable, *iterables, strict=False))

    def join(self) -> None:
        """Wait until no coroutine is left.  `ScheduleError` in one of them, which would wait for itself."""
        self._check_caller()
        self._alive.block_till_zero()

    def shutdown(self) -> None:
        """Shut down all that are there.  Does not wait; in one of them, `Shutdown` is raised in place."""
        self._shut_down()

    def _ended(self, co: coro) -> None:
        super()._ended(co)
        self._free.release()

    def _results(self, fun: Callable[..., T], items: Iterator[tuple[Any, ...]]) -> Iterator[T]:
        with closing(self._each(fun, items)) as ended:
            for _, co in ended:
                try:
                    value = co.result()
                finally:
                    del co  # as in map
                yield value

    def _each(self, fun: Callable[..., Any], items: Iterator[tuple[Any, ...]]) -> Any:
        """Spawn a call for each item and yield (number of the item, coroutine) as they end."""
        running: dict[coro, int] = {}  # and those that have ended, but have not been yielded
        ended: fifo[coro] = fifo()
        try:
            for number, args in enumerate(items):
                while ended or (running and not self.free):
                    co = ended.pop()
                    yield running.pop(co), co
                co = self.spawn(fun, *args)
                co._collected += 1
                running[co] = number
                at_end(co, ended, fifo.push)
            while running:
                co = ended.pop()
                yield running.pop(co), co
        finally:
            for co in list(running):
                co.shutdown()

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        chosen = self._outlast(exc)
        try:
            if chosen is not None and chosen is not exc:
                raise chosen
        finally:
            del chosen

    def __repr__(self) -> str:
        waiting = self._free._waiting
        return described(self, f"size={self.size} children={len(self)}, ", first_of(waiting), len(waiting))
