"""Queues: `Queue` to hand things from coroutine to coroutine, Shrapnel's `fifo`, and `event_queue`, ordered by time.

Stands on `coro.kernel` and on what the primitives of `coro.sync` share; their promises hold here too: first come, first
served, interruptible, usable without waiting in the main program, and not across threads.

A thing that is put while somebody waits is handed over through the *box* of that waiter and never lies in the queue.
If the waiter is interrupted before it runs, the thing goes to the next one, or back to the front of the queue.

`Queue.put` and `Queue.get` spell out `Kernel.park`, like `yield_slice`.
"""

from __future__ import annotations

import queue
import sys
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator
from functools import partial
from itertools import chain
from math import inf
from typing import Any, Final, Generic, NoReturn, TypeVar

from .coroutine import READY
from .exceptions import TimeoutError
from .kernel import adopted, calling, outside, worker
from .sync import Box, check_count, check_waker, described, first_of, leave
from .timeouts import with_timeout

if sys.version_info >= (3, 13):
    from queue import ShutDown
else:

    class ShutDown(Exception):
        """What the standard library has from 3.13 on."""


__all__ = ["Queue", "QueueClosed", "event_queue", "fifo"]

T = TypeVar("T")

EMPTY: Final[Any] = object()  # in the box of a getter that has got nothing yet
TAKEN: Final[Any] = object()  # in the box of a putter that may put now


class QueueClosed(ShutDown):
    """The queue is closed: nothing can be put any more, and nothing is left to get.

    On Python 3.13 and newer this is a `queue.ShutDown`.
    """


class Queue(Generic[T]):
    """A queue of things, first in, first out.  ``len(queue)`` is how many are in it.

    What was handed to a getter that is interrupted before it runs goes back to the front; of several, the one that was
    interrupted last comes first.

    Iterating over it takes things out, waiting for each, until the queue is closed and empty.

    Args:
        maxsize: how many may be in it before `put` has to wait; 0 for any number.  TypeError if it is no int,
            ValueError if it is negative.
    """

    __slots__ = ("__weakref__", "_getters", "_items", "_limit", "_promised", "_putters", "maxsize")

    def __init__(self, maxsize: int = 0) -> None:
        check_count(maxsize, "the size of a queue")
        self.maxsize = maxsize
        self._items: deque[T] = deque()
        #: How many may be in it for a `put` to go ahead at once: 0 while getters wait, who are given the thing instead,
        #: and while places are promised to putters that have not run yet, whom nobody may overtake; infinite without a
        #: limit, -infinite once closed.
        self._limit: float = maxsize or inf
        self._promised = 0
        self._getters: deque[Box] = deque()  # [coroutine, EMPTY or what it has got]; none while there are items
        self._putters: deque[Box] = deque()  # [coroutine, EMPTY or TAKEN]; none while there is room

    def put(self, item: T, block: bool = True, timeout: float | None = None) -> None:
        """Put *item* in, waiting until there is room and all that came before have put theirs.

        Args:
            item: anything.
            block: whether to wait; if not, the error comes at once.
            timeout: seconds to wait at most; None waits without limit.

        Raises `queue.Full` of the standard library when there is no room (in time), `QueueClosed` when the queue is
        closed, also while this waits.  Whenever it raises, the item is not in the queue.
        """
        items = self._items
        if len(items) < self._limit:
            items.append(item)
            return
        getters = self._getters
        if getters and not self._promised:
            if getters[0][0]._kernel.current is None:
                check_waker(getters[0][0])
            while getters:
                box = getters.popleft()
                co = box[0]
                if co._pending is None and not co._dead:
                    box[1] = item
                    if not co._scheduled:  # Kernel.wake, spelt out
                        kernel = co._kernel
                        kernel.ready.append(co._resume)
                        co._scheduled = READY
                        budget = kernel.budget - 1
                        if not budget:
                            kernel.ready.append(kernel.poll)
                        kernel.budget = budget
                    if not getters:
                        self._limit = self.maxsize or inf
                    return
            self._limit = self.maxsize or inf
            items.append(item)
            return
        if self._limit == -inf:
            self._refuse()
        if not block:
            raise queue.Full
        if timeout is not None:
            calling()
            try:
                with_timeout(timeout, self.put, item)
            except TimeoutError:
                raise queue.Full from None
            return
        try:
            kernel = worker().kernel
        except AttributeError:
            adopted(self.put, item)
            return
        co = kernel.current
        if co is None:
            outside()
        box = [co, EMPTY]
        try:
            self._putters.append(box)
            while True:
                ready = kernel.ready
                (ready.popleft() if ready else kernel.next_pass())()
                kernel.current = co
                co._scheduled = 0
                if co._pending is not None:
                    kernel.settle(co)
                if box[1] is not EMPTY or self._limit == -inf:
                    break
        except BaseException as exc:
            if exc is not kernel.settled:  # as in Kernel.park
                kernel.ready.appendleft(partial(kernel.repair, co))
                kernel.current = co
                co._scheduled = 0
            kernel.settled = None
            if box[1] is EMPTY:
                leave(self._putters, box)
            else:
                self._promised -= 1
                self._admit()
            raise
        if self._limit == -inf:
            leave(self._putters, box)
            self._promised -= box[1] is not EMPTY
            self._refuse()
        self._promised -= 1
        while getters:  # somebody waits already for what was to go into that place: _give, spelt out
            box = getters.popleft()
            co = box[0]
            if co._pending is None and not co._dead:
                box[1] = item
                if not co._scheduled:
                    kernel.ready.append(co._resume)
                    co._scheduled = READY
                    budget = kernel.budget - 1
                    if not budget:
                        kernel.ready.append(kernel.poll)
                    kernel.budget = budget
                break
        else:
            items.append(item)
        if self._promised or self._putters:
            self._admit()
        elif not getters and self._limit == 0:  # only a queue with a limit has putters that wait
            self._limit = self.maxsize

    def get(self, block: bool = True, timeout: float | None = None) -> T:
        """Take the oldest thing out, waiting until there is one and all that came before have theirs.

        Args:
            block: whether to wait; if not, the error comes at once.
            timeout: seconds to wait at most; None waits without limit.

        Raises `queue.Empty` of the standard library when there is nothing (in time), `QueueClosed` when the queue is
        closed and empty, also while this waits.
        """
        items = self._items
        if items:
            putters = self._putters
            if not putters:
                return items.popleft()
            if putters[0][0]._kernel.current is None:
                check_waker(putters[0][0])
            item = items.popleft()
            self._admit()
            return item
        if self._limit == -inf:
            self._refuse()
        if not block:
            raise queue.Empty
        if timeout is not None:
            calling()
            try:
                return with_timeout(timeout, self.get)
            except TimeoutError:
                raise queue.Empty from None
        try:
            kernel = worker().kernel
        except AttributeError:
            return adopted(self.get)  # type: ignore[no-any-return]
        co = kernel.current
        if co is None:
            outside()
        box = [co, EMPTY]
        try:
            self._getters.append(box)
            self._limit = 0
            while True:
                ready = kernel.ready
                (ready.popleft() if ready else kernel.next_pass())()
                kernel.current = co
                co._scheduled = 0
                if co._pending is not None:
                    kernel.settle(co)
                if box[1] is not EMPTY:
                    return box[1]  # type: ignore[no-any-return]
                if self._limit == -inf:
                    break
        except BaseException as exc:
            if exc is not kernel.settled:  # as in Kernel.park
                kernel.ready.appendleft(partial(kernel.repair, co))
                kernel.current = co
                co._scheduled = 0
            kernel.settled = None
            if box[1] is EMPTY:
                leave(self._getters, box)
                self._reopen()
            else:
                self._give(box[1])
            raise
        leave(self._getters, box)
        return self.get()

    def put_nowait(self, item: T) -> None:
        """Put *item* in.  Raises `queue.Full` or `QueueClosed` if that is not possible at once."""
        self.put(item, False)

    def get_nowait(self) -> T:
        """Take the oldest thing out.  Raises `queue.Empty` or `QueueClosed` if that is not possible at once."""
        return self.get(False)

    def close(self) -> None:
        """Close the queue.  What is in it can still be taken out; then, and at once for putters, comes `QueueClosed`.

        Those that wait are woken with it.  Closing again does nothing.
        """
        waiting = list(first_of(chain(self._getters, self._putters)))
        if waiting:
            check_waker(waiting[0])
        self._limit = -inf
        for co in waiting:
            co._kernel.wake(co)
        self._getters.clear()
        self._putters.clear()

    @property
    def closed(self) -> bool:
        """Whether `close` has been called."""
        return self._limit == -inf

    def qsize(self) -> int:
        """Return how many things are in it."""
        return len(self._items)

    def empty(self) -> bool:
        """Return whether nothing is in it."""
        return not self._items

    def full(self) -> bool:
        """Return whether a `put` would have to wait."""
        return -inf < self._limit <= len(self._items) and (not self._getters or self._promised > 0)

    def _give(self, item: T) -> None:
        """Hand *item*, which is older than all that are in the queue, to the first getter, or put it in front."""
        getters = self._getters
        while getters:
            box = getters.popleft()
            co = box[0]
            if co._pending is None and not co._dead:
                box[1] = item
                co._kernel.wake(co)
                break
        else:
            self._items.appendleft(item)
        self._reopen()

    def _admit(self) -> None:
        """Promise the places that are free to the first putters."""
        putters = self._putters
        room = self.maxsize - len(self._items) - self._promised
        while room > 0 and putters:
            box = putters.popleft()
            co = box[0]
            if co._pending is None and not co._dead:
                box[1] = TAKEN
                self._promised += 1
                room -= 1
                if not co._scheduled:
                    kernel = co._kernel
                    kernel.ready.append(co._resume)
                    co._scheduled = READY
                    budget = kernel.budget - 1
                    if not budget:
                        kernel.ready.append(kernel.poll)
                    kernel.budget = budget
        if self._limit != -inf:
            self._limit = 0 if self._promised or self._getters else self.maxsize

    def _reopen(self) -> None:
        """Let `put` go ahead at once, or not, after getters and promises have changed."""
        if self._limit != -inf:
            self._limit = 0 if self._getters or self._promised else self.maxsize or inf

    def _refuse(self) -> NoReturn:
        raise QueueClosed(f"{self!r} is closed")

    def __iter__(self) -> Iterator[T]:
        while True:
            try:
                item = self.get()
            except QueueClosed:
                return
            yield item

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        limit = f" of {self.maxsize}" if self.maxsize else ""
        state = f"{len(self._items)}{limit}{' closed' if self.closed else ''}, "
        waiting = self._getters or self._putters
        return described(self, state, first_of(waiting), len(waiting))


class fifo(Queue[T]):
    """A queue without limit, with Shrapnel's names.  Iterating over it looks at what is in it and takes nothing out."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__()

    def push(self, thing: T) -> None:
        """Put *thing* in, behind all others."""
        self.put(thing)

    def push_front(self, thing: T) -> None:
        """Put *thing* in, before all others."""
        if self.closed:
            self._refuse()
        self._give(thing)

    def pop(self) -> T:
        """Take the first thing out, waiting until there is one."""
        return self.get()

    def pop_all(self) -> list[T]:
        """Take all things out, waiting until there is at least one."""
        things = [self.get()]
        while self._items:
            things.append(self.get())
        return things

    def top(self) -> T:
        """Return the first thing and leave it there.  IndexError if there is none."""
        if not self._items:
            raise IndexError(f"nothing is in {self!r}")
        return self._items[0]

    def __iter__(self) -> Iterator[T]:
        return iter(list(self._items))


class event_queue(Generic[T]):
    """Things ordered by time, and by their insertion where the times are equal.  Nothing in it waits.

    Times are numbers of any unit, such as the ticks of `get_now`.  ``len(event_queue)`` is how many things are in it.
    """

    __slots__ = ("__weakref__", "_events")

    def __init__(self) -> None:
        self._events: list[tuple[float, T]] = []  # the next one last, where a list is quick

    def insert(self, time: float, value: T) -> None:
        """Put *value* in at *time*.  TypeError if *time* is no number, ValueError if it is NaN."""
        if not isinstance(time, (int, float)):
            raise TypeError(f"the time of an event is a number, not {time!r}")
        if time != time:
            raise ValueError("the time of an event cannot be NaN")
        self._events.insert(self._position(time), (time, value))

    def top(self) -> T:
        """Return the value with the earliest time and leave it there.  IndexError if there is none."""
        if not self._events:
            raise IndexError("the event queue is empty")
        return self._events[-1][1]

    def pop(self) -> T:
        """Take out the value with the earliest time and return it.  IndexError if there is none."""
        if not self._events:
            raise IndexError("the event queue is empty")
        return self._events.pop()[1]

    def remove(self, time: float, value: T) -> None:
        """Take out *value*, this very object, which was put in at *time*.  IndexError if it is not there.

        If it was put in more than once, the one that would come first goes.
        """
        events = self._events
        found = None
        for position in range(self._position(time), len(events)):
            if events[position][0] != time:
                break
            if events[position][1] is value:
                found = position
        if found is None:
            raise IndexError(f"{value!r} is not in the event queue at time {time!r}")
        del events[found]

    def _position(self, time: float) -> int:
        """Return where the events of *time* begin."""
        return bisect_left(self._events, -time, key=lambda event: -event[0])

    def __len__(self) -> int:
        return len(self._events)

    def __repr__(self) -> str:
        if not self._events:
            return "<event_queue empty>"
        time, value = self._events[-1]
        return f"<event_queue {len(self._events)} events, the next one {value!r} at {time!r}>"
