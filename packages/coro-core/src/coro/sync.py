"""Synchronization: semaphores, condition variables, events, barriers, and what these share with locks and queues.

Stands on `coro.kernel`.  What all of them promise:

* First come, first served.  What becomes free is handed to the first waiter there and then, so whoever comes later
  cannot snatch it, and a waiter that is woken for another reason goes on waiting.
* A waiter can be interrupted and can stand under a timeout.  What had been handed to it goes to the next one.
* What does not have to wait works everywhere, in the main program too; waiting there raises `YieldFromMain`.
* They belong to one thread.  To wake a coroutine from another thread, use a `Portal`.

A waiter is a small list, its *box*: the coroutine, and what it waits for.  Whoever serves it takes the box out of the
queue and notes so in the box; that note, not the wake-up, is what the waiter goes by.

`semaphore.acquire` and `Event.wait` spell out `Kernel.park`, like `yield_slice`; the others call it.
"""

from __future__ import annotations

import copy
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import Any, Final

from .coroutine import READY, coro
from .exceptions import TimeoutError
from .kernel import adopted, calling, outside, worker
from .timeouts import with_timeout

__all__ = [
    "Barrier",
    "Event",
    "condition_variable",
    "inverted_semaphore",
    "semaphore",
]

Box = list[Any]

ONE: Final = 1  # to tell the usual number of units from what must be looked at, among it True and 1.0
MOST_NAMES: Final = 10  # of waiters in a repr


# -- what the primitives share ---------------------------------------------------------------------------------------


def check_count(n: Any, what: str, least: int = 0) -> None:
    """Refuse what is no count: TypeError for anything but an int, ValueError below *least*."""
    if not isinstance(n, int) or isinstance(n, bool):
        raise TypeError(f"{what} is an int, not {n!r}")
    if n < least:
        raise ValueError(f"{what} must be {least} or more, not {n}")


def leave(waiting: deque[Any], waiter: Any) -> None:
    """Take a waiter out of a queue if it is still there.  Most go from one of the ends, which costs no search."""
    if waiting and waiting[0] is waiter:
        waiting.popleft()
    elif waiting and waiting[-1] is waiter:
        waiting.pop()
    else:
        with suppress(ValueError):
            waiting.remove(waiter)


def is_lost(co: coro) -> bool:
    """Return whether a waiter will not take what it is given: an exception is on its way to it, or it is dead."""
    return co._pending is not None or co._dead


def check_waker(waiter: coro) -> None:
    """Refuse to wake *waiter* from another thread: its loop would not notice until something else ends its poll.

    A loop that polls runs no coroutine, so it costs nearly nothing to look at the thread only then.
    """
    if waiter._kernel.current is None:
        waiter._kernel.check_thread(waiter)


def described(primitive: object, state: str, waiting: Iterable[coro], count: int) -> str:
    """Make the repr of a primitive: its state and its waiters, the first one first."""
    names = ", ".join(f"#{co.id} {co.name!r}" for co in islice(waiting, MOST_NAMES))
    more = ", ..." if count > MOST_NAMES else ""
    return f"<{type(primitive).__name__} {state}{count} waiting{': ' if count else ''}{names}{more}>"


def first_of(boxes: Iterable[Box]) -> Iterator[coro]:
    """Return the coroutines of boxes."""
    return (box[0] for box in boxes)


# -- semaphores ------------------------------------------------------------------------------------------------------


class semaphore:
    """A number of units that coroutines take and give back.  ``with`` takes one.

    Args:
        value: how many units there are at first, 0 or more.  There is no upper limit later.

    Attributes:
        avail: how many units are free; ``int(semaphore)`` is the same.

    TypeError and ValueError, here and in the methods, for what is no int and for negative numbers.
    """

    __slots__ = ("__weakref__", "_waiting", "avail")

    def __init__(self, value: int) -> None:
        check_count(value, "the value of a semaphore")
        self.avail = value
        self._waiting: deque[Box] = deque()  # [coroutine, how many it wants; 0: it has them]

    def acquire(self, n: int = 1) -> None:
        """Take *n* units, waiting until so many are free and all that came before have theirs."""
        if n is not ONE:
            check_count(n, "a number of units")
        waiting = self._waiting
        avail = self.avail
        if avail >= n and (not waiting or not n):
            self.avail = avail - n
            return
        try:
            kernel = worker().kernel
        except AttributeError:
            adopted(self.acquire, n)
            return
        co = kernel.current
        if co is None:
            outside()
        box = [co, n]
        try:
            waiting.append(box)
            while True:
                ready = kernel.ready
                (ready.popleft() if ready else kernel.next_pass())()
                kernel.current = co
                co._scheduled = 0
                if co._pending is not None:
                    kernel.settle(co)
                if not box[1]:
                    return
        except BaseException as exc:
            if exc is not kernel.settled:  # as in Kernel.park
                kernel.ready.appendleft(partial(kernel.repair, co))
                kernel.current = co
                co._scheduled = 0
            kernel.settled = None
            if box[1]:
                leave(waiting, box)
                n = 0  # but those behind it may want less, and have enough now (D-38)
            self.release(n)
            raise

    def try_acquire(self, n: int = 1) -> bool:
        """Take *n* units if that needs no waiting.  Returns whether it did."""
        check_count(n, "a number of units")
        if self.avail < n or (self._waiting and n):
            return False
        self.avail -= n
        return True

    def release(self, n: int = 1) -> None:
        """Give back *n* units.  They go to the waiters at once, as far as they suffice."""
        if n is not ONE:
            check_count(n, "a number of units")
        avail = self.avail + n
        waiting = self._waiting
        while avail and waiting:
            co, need = box = waiting.popleft()
            kernel = co._kernel
            if kernel.current is None:
                waiting.appendleft(box)
                check_waker(co)
                waiting.popleft()
            if co._pending is None and not co._dead:
                if need > avail:
                    waiting.appendleft(box)
                    break
                avail -= need
                box[1] = 0
                if not co._scheduled:  # Kernel.wake, spelt out
                    kernel.ready.append(co._resume)
                    co._scheduled = READY
                    budget = kernel.budget - 1
                    if not budget:
                        kernel.ready.append(kernel.poll)
                    kernel.budget = budget
        self.avail = avail

    def __int__(self) -> int:
        return self.avail

    __enter__ = acquire

    def __exit__(self, *exc: object) -> None:
        self.release(1)

    def __repr__(self) -> str:
        return described(self, f"avail={self.avail}, ", first_of(self._waiting), len(self._waiting))


class inverted_semaphore:
    """A counter of things in progress, to wait for the end of all of them.

    Args:
        value: what it begins with, 0 or more.

    Attributes:
        value: the count; ``int(inverted_semaphore)`` is the same.  It may go below 0, when a thing ends before it is
            counted.
    """

    __slots__ = ("__weakref__", "_waiting", "value")

    def __init__(self, value: int = 0) -> None:
        check_count(value, "the value of an inverted semaphore")
        self.value = value
        self._waiting: dict[coro, None] = {}  # whoever has been woken is no longer in it

    def acquire(self, n: int = 1) -> None:
        """Add *n* to the count.  Never blocks.  TypeError or ValueError unless *n* is an int, 0 or more."""
        check_count(n, "a number of units")
        self._set(self.value + n)

    def release(self, n: int = 1) -> None:
        """Take *n* from the count; if it is 0 then, all that wait are woken.  Otherwise like `acquire`."""
        check_count(n, "a number of units")
        self._set(self.value - n)

    def _set(self, value: int) -> None:
        if value == 0 and self._waiting:
            wake_all(self._waiting)
        self.value = value

    def block_till_zero(self) -> None:
        """Wait until the count is 0.  Whoever is woken by that returns, even if the count has risen meanwhile."""
        if self.value:
            wait_in(self._waiting)

    def __int__(self) -> int:
        return self.value

    def __repr__(self) -> str:
        return described(self, f"value={self.value}, ", self._waiting, len(self._waiting))


def wait_in(waiting: dict[coro, None]) -> None:
    """Wait until somebody takes the caller out of *waiting*."""
    kernel, co = calling()
    waiting[co] = None
    try:
        while co in waiting:
            kernel.park(co)
    finally:
        waiting.pop(co, None)


def wake_all(waiting: dict[coro, Any]) -> None:
    """Take all waiters, of which there are some, out of *waiting* and wake them, in the order in which they came."""
    kernel = next(iter(waiting))._kernel
    if kernel.current is None:
        check_waker(next(iter(waiting)))
    ready = kernel.ready
    for co in waiting:
        if not (co._scheduled or co._dead):
            ready.append(co._resume)
            co._scheduled = READY
    kernel.count(len(waiting))
    waiting.clear()


# -- signalling ------------------------------------------------------------------------------------------------------


class condition_variable:
    """A place to wait for something that others announce.  It has no memory: who comes later waits for the next time.

    ``len(condition_variable)`` is the number of waiters.
    """

    __slots__ = ("__weakref__", "_waiting")

    def __init__(self) -> None:
        self._waiting: deque[Box] = deque()  # [coroutine], then also the value, and whether it was meant for one only

    def wait(self) -> Any:
        """Wait to be woken.  Returns the value that the waker gave, ``()`` by default."""
        kernel, co = calling()
        box: Box = [co]
        try:
            self._waiting.append(box)
            while len(box) == 1:
                kernel.park(co)
        except BaseException:
            if len(box) == 1:
                leave(self._waiting, box)
            elif box[2]:
                self.wake_one(box[1])  # it was meant for one waiter, and this one has not had it (D-09)
            raise
        return box[1]

    def wait_timeout(self, timeout: float) -> Any:
        """Deprecated: ``with_timeout(timeout, condition_variable.wait)``."""
        warnings.warn("wait_timeout() is deprecated: use with_timeout()", DeprecationWarning, stacklevel=2)
        return with_timeout(timeout, self.wait)

    def wake_one(self, args: Any = ()) -> bool:
        """Wake the first waiter, whose `wait` returns *args*.  Returns whether there was one."""
        return self.wake_n(1, args) == 1

    def wake_n(self, count: int, args: Any = ()) -> int:
        """Wake the first *count* waiters and return how many there were.

        If one of them is interrupted before it runs, the next is woken instead.  TypeError or ValueError unless
        *count* is an int, 0 or more.
        """
        check_count(count, "a number of waiters")
        return self._wake(count, args, True)

    def wake_all(self, args: Any = ()) -> None:
        """Wake all that wait now; their `wait` returns *args*."""
        self._wake(len(self._waiting), args, False)

    def raise_all(self, exc: BaseException | type[BaseException]) -> None:
        """Raise an exception in all that wait now.

        Args:
            exc: a class, or an instance, of which each waiter gets a copy: one that is raised in several coroutines
                would collect the tracebacks of all (D-55).

        TypeError, before anything is raised, for what is no exception or cannot be copied.
        """
        waiters = [co for co in first_of(self._waiting) if not is_lost(co)]
        if isinstance(exc, type) and issubclass(exc, BaseException):
            copies: list[Any] = [exc] * len(waiters)
        elif isinstance(exc, BaseException):
            copies = [copied(exc) for _ in waiters]
        else:
            raise TypeError(f"can only raise an exception in those that wait for {self!r}, not {exc!r}")
        self._waiting.clear()
        for co, one in zip(waiters, copies, strict=True):
            co._kernel.interrupt(co, one)

    def _wake(self, count: int, args: Any, for_one: bool) -> int:
        waiting = self._waiting
        woken = 0
        if waiting:
            check_waker(waiting[0][0])
        while waiting and woken < count:
            box = waiting[0]
            co = box[0]
            if not is_lost(co):
                co._kernel.wake(co)
                box += args, for_one
                woken += 1
            waiting.popleft()
        return woken

    def __len__(self) -> int:
        return len(self._waiting)

    def __repr__(self) -> str:
        return described(self, "", first_of(self._waiting), len(self._waiting))


def copied(exc: BaseException) -> BaseException:
    """Return a copy of an exception, without its traceback.  TypeError if that is not possible."""
    try:
        twin = copy.copy(exc)
    except Exception as why:
        raise TypeError(f"{exc!r} cannot be copied for each waiter ({why}): pass the class instead") from why
    if type(twin) is not type(exc) or twin is exc:
        raise TypeError(f"the copy of {exc!r} is {twin!r}: pass the class instead")
    return twin


class Event:
    """A flag to wait for.  Once it is set, nobody waits until it is cleared."""

    __slots__ = ("__weakref__", "_flag", "_waiting")

    def __init__(self) -> None:
        self._flag = False
        self._waiting: dict[coro, None] = {}  # whoever has been woken is no longer in it

    def is_set(self) -> bool:
        """Return whether the event is set."""
        return self._flag

    def set(self) -> None:
        """Set the event and wake all that wait.  Their `wait` returns even if the event is cleared meanwhile."""
        if self._waiting:
            wake_all(self._waiting)
        self._flag = True

    def clear(self) -> None:
        """Make the event unset."""
        self._flag = False

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the event is set.

        Args:
            timeout: seconds to wait at most; None waits without limit.

        Returns True, or False when the time is over.
        """
        if self._flag:
            return True
        if timeout is not None:
            calling()
            try:
                return with_timeout(timeout, self.wait)
            except TimeoutError:
                return False
        try:
            kernel = worker().kernel
        except AttributeError:
            return bool(adopted(self.wait))
        co = kernel.current
        if co is None:
            outside()
        waiting = self._waiting
        waiting[co] = None
        try:
            while True:
                ready = kernel.ready
                (ready.popleft() if ready else kernel.next_pass())()
                kernel.current = co
                co._scheduled = 0
                if co._pending is not None:
                    kernel.settle(co)
                if co not in waiting:
                    return True
        except BaseException as exc:
            if exc is not kernel.settled:  # as in Kernel.park
                kernel.ready.appendleft(partial(kernel.repair, co))
                kernel.current = co
                co._scheduled = 0
            kernel.settled = None
            waiting.pop(co, None)
            raise

    def __repr__(self) -> str:
        return described(self, "set, " if self._flag else "unset, ", self._waiting, len(self._waiting))


class Barrier:
    """Lets coroutines go on together, as soon as so many wait.  It can be used again and again.

    Args:
        parties: how many must come, 1 or more.  TypeError, ValueError.
    """

    __slots__ = ("__weakref__", "_waiting", "parties")

    def __init__(self, parties: int) -> None:
        check_count(parties, "the number of parties of a barrier", 1)
        self.parties = parties
        self._waiting: dict[coro, Box] = {}

    @property
    def n_waiting(self) -> int:
        """How many wait now."""
        return len(self._waiting)

    def wait(self) -> int:
        """Wait until all have come.  Returns the number in which the caller came, 0 to ``parties - 1``.

        Whoever is interrupted while it waits no longer counts; the others go on waiting for the full number.
        """
        waiting = self._waiting
        if len(waiting) == self.parties - 1:
            for co in [co for co in waiting if is_lost(co)]:
                del waiting[co]
        if len(waiting) == self.parties - 1:
            for number, box in enumerate(waiting.values()):
                box.append(number)
            if waiting:
                wake_all(waiting)
            return self.parties - 1
        kernel, co = calling()
        waiting[co] = box = []
        try:
            while not box:
                kernel.park(co)
        finally:
            waiting.pop(co, None)
        return int(box[0])

    def __repr__(self) -> str:
        return described(self, f"parties={self.parties}, ", self._waiting, len(self._waiting))
