"""Locks: `mutex`, owned by one coroutine, and `rw_lock`, held by one writer or many readers.

Stands on `coro.kernel` and on what the primitives of `coro.sync` share; their promises hold here too: first come, first
served, interruptible, usable without waiting in the main program, and not across threads.

A lock knows its holders.  While somebody waits it is told of their end (`at_end`), so that nobody waits for the dead.

`mutex.lock` spells out `Kernel.park`, like `yield_slice`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from itertools import islice
from typing import Final, NoReturn

from .coroutine import MAIN, READY, at_end, coro, not_at_end
from .exceptions import LockError
from .kernel import adopted, calling, outside, worker
from .sync import MOST_NAMES, Box, described, first_of, is_lost, leave
from .verbs import current

__all__ = ["mutex", "rw_lock"]

READING: Final = "read"
WRITING: Final = "write"


class mutex:
    """A lock that one coroutine owns, which may lock it again and must unlock it as often.  ``with`` does both.

    If the owner ends without unlocking, what the lock protects is in an unknown state: `LockError` is raised in those
    that wait, and in all that try to lock it afterwards (D-41).  ``len(mutex)`` is the number of waiters.
    """

    __slots__ = ("__weakref__", "_depth", "_owner", "_waiting")

    def __init__(self) -> None:
        self._owner: coro | None = None
        self._depth = 0  # how often the owner has locked it
        self._waiting: deque[coro] = deque()

    def lock(self) -> bool:
        """Lock the mutex, waiting until it is free.

        Returns whether it had to wait.  `LockError` if the owner has ended, or ends, without unlocking.
        """
        try:
            kernel = worker().kernel
        except AttributeError:
            return not self.try_lock() and bool(adopted(self.lock))
        co = kernel.current
        owner = self._owner
        if co is None:
            return not self.try_lock() and outside()
        if owner is None:
            self._owner = co
            self._depth = 1
            return False
        if owner is co:
            self._depth += 1
            return False
        if owner._dead:
            self._orphaned(co)
        waiting = self._waiting
        if not waiting:
            if owner._joiners is None:
                owner._joiners = self
            else:
                at_end(owner, self, mutex._owner_ended)
        try:
            waiting.append(co)
            while True:
                ready = kernel.ready
                (ready.popleft() if ready else kernel.next_pass())()
                kernel.current = co
                co._scheduled = 0
                if co._pending is not None:
                    kernel.settle(co)
                owner = self._owner
                if owner is co:
                    return True
                if owner is not None and owner._dead:
                    break
        except BaseException as exc:
            if exc is not kernel.settled:  # as in Kernel.park
                kernel.ready.appendleft(partial(kernel.repair, co))
                kernel.current = co
                co._scheduled = 0
            kernel.settled = None
            leave(waiting, co)
            owner = self._owner
            if owner is co:
                self.__exit__()
            elif owner is not None and not waiting:
                not_at_end(owner, self)
            raise
        leave(waiting, co)
        return self._orphaned(co)

    def try_lock(self) -> bool:
        """Lock the mutex if that needs no waiting.  Returns True if the caller owns it now."""
        co = current()
        owner = self._owner
        if owner is None:
            self._owner = co
            self._depth = 1
            return True
        if owner is co:
            self._depth += 1
            return True
        if owner._dead:
            self._orphaned(co)
        return False

    def trylock(self) -> bool:
        """Like `try_lock` with Shrapnel's answer: True if the mutex was *not* obtained."""
        return not self.try_lock()

    def unlock(self) -> bool:
        """Undo one `lock`; the last one hands the mutex to the first waiter.

        Returns whether a waiter has it now.  `LockError` if the caller does not own it.
        """
        last = self._depth == 1
        self.__exit__()
        return last and self._owner is not None

    __enter__ = lock

    # `unlock` calls this, not the other way round: most use ``with``, and a frame is a twentieth of a hand-over.
    def __exit__(self, kind: object = None, exc: object = None, traceback: object = None) -> None:
        try:
            co = worker().kernel.current or MAIN
        except AttributeError:
            co = current()
        if self._owner is not co:
            raise LockError(f"{co!r} cannot unlock {self!r}: only its owner may")
        if self._depth > 1:
            self._depth -= 1
            return
        waiting = self._waiting
        if waiting and co._joiners is not None:
            if co._joiners is self:  # not_at_end, spelt out
                co._joiners = None
            else:
                not_at_end(co, self)
        while waiting:
            heir = waiting.popleft()
            if heir._pending is None and not heir._dead:
                self._owner = heir
                if waiting:
                    if heir._joiners is None:
                        heir._joiners = self
                    else:
                        at_end(heir, self, mutex._owner_ended)
                if not heir._scheduled:  # Kernel.wake, spelt out
                    kernel = heir._kernel
                    kernel.ready.append(heir._resume)
                    heir._scheduled = READY
                    budget = kernel.budget - 1
                    if not budget:
                        kernel.ready.append(kernel.poll)
                    kernel.budget = budget
                return
        self._owner = None

    def locked(self) -> bool:
        """Return whether somebody owns the mutex."""
        return self._owner is not None

    def has_lock(self, thread: coro | None = None) -> bool:
        """Return whether a coroutine, by default the caller, owns the mutex."""
        return self._owner is (current() if thread is None else thread)

    def _owner_ended(self, co: coro) -> None:
        """Wake all that wait: they find out."""
        for waiter in self._waiting:
            waiter._kernel.wake(waiter)

    def _orphaned(self, co: coro) -> NoReturn:
        raise LockError(
            f"{co!r} cannot have {self!r}: its owner has ended without unlocking it; use 'with' there, which unlocks"
        )

    def __len__(self) -> int:
        return len(self._waiting)

    def __repr__(self) -> str:
        state = "unlocked, " if self._owner is None else f"owner={self._owner!r} depth={self._depth}, "
        return described(self, state, self._waiting, len(self._waiting))


class rw_lock:
    """A lock that many coroutines can hold for reading, or one for writing.  ``with lock.reader``, ``lock.writer``.

    Those that wait are served in the order in which they came, so readers wait behind a writer that waits.  Whoever
    holds it may lock it again and must unlock it as often; the writer may also read, and keeps reading after its
    `write_unlock`.  A reader cannot become a writer, which would wait for itself: `LockError` (D-39).  As with a
    `mutex`, `LockError` is raised in those that wait for somebody who ended without unlocking.
    """

    __slots__ = ("__weakref__", "_depth", "_readers", "_waiting", "_writer")

    def __init__(self) -> None:
        self._writer: coro | None = None
        self._depth = 0  # how often the writer has locked it
        self._readers: dict[coro, int] = {}  # and how often each has locked it
        self._waiting: deque[Box] = deque()  # [coroutine, READING or WRITING; None: it has the lock]

    def read_lock(self) -> bool:
        """Lock for reading, waiting for writers that hold it or came before.  Returns whether it had to wait."""
        return not self.read_lock_nowait() and self._wait(READING)

    def write_lock(self) -> bool:
        """Lock for writing, waiting for all that hold it or came before.  Returns whether it had to wait.

        `LockError` if the caller holds it for reading only.
        """
        if self.write_lock_nowait():
            return False
        co = current()
        if co in self._readers:
            raise LockError(
                f"{co!r} reads {self!r} and would wait for itself: call read_unlock() before write_lock(), "
                "or write_lock() first"
            )
        return self._wait(WRITING)

    def read_lock_nowait(self) -> bool:
        """Lock for reading if that needs no waiting.  Returns True if the caller reads now."""
        co = current()
        readers = self._readers
        if not (co in readers or self._writer is co or (self._writer is None and not self._waiting)):
            return False
        readers[co] = readers.get(co, 0) + 1
        return True

    def write_lock_nowait(self) -> bool:
        """Lock for writing if that needs no waiting.  Returns True if the caller writes now."""
        co = current()
        if self._writer is not co:
            if self._writer is not None or self._readers or self._waiting:
                return False
            self._writer = co
        self._depth += 1
        return True

    def try_read_lock(self) -> bool:
        """Like `read_lock_nowait` with Shrapnel's answer: True if the lock was *not* obtained."""
        return not self.read_lock_nowait()

    def try_write_lock(self) -> bool:
        """Like `write_lock_nowait` with Shrapnel's answer: True if the lock was *not* obtained."""
        return not self.write_lock_nowait()

    def read_unlock(self) -> None:
        """Undo one `read_lock`.  `LockError` if the caller does not read."""
        co = current()
        depth = self._readers.get(co)
        if depth is None:
            raise LockError(f"{co!r} cannot end reading {self!r}: it does not hold it for reading")
        if depth > 1:
            self._readers[co] = depth - 1
        else:
            del self._readers[co]
            self._released(co)

    def write_unlock(self) -> None:
        """Undo one `write_lock`.  `LockError` if the caller is not the writer."""
        co = current()
        if self._writer is not co:
            raise LockError(f"{co!r} cannot end writing {self!r}: it does not hold it for writing")
        self._depth -= 1
        if not self._depth:
            self._writer = None
            self._released(co)

    @property
    def reader(self) -> AbstractContextManager[None]:
        """For ``with lock.reader:``, a block that reads."""
        return held(self.read_lock, self.read_unlock)

    @property
    def writer(self) -> AbstractContextManager[None]:
        """For ``with lock.writer:``, a block that writes."""
        return held(self.write_lock, self.write_unlock)

    def _holders(self) -> list[coro]:
        return list(self._readers) if self._writer is None else [self._writer, *self._readers]

    def _wait(self, kind: str) -> bool:
        kernel, co = calling()
        box: Box = [co, kind]
        self._waiting.append(box)
        if len(self._waiting) == 1:
            self._watch()
        try:
            while box[1]:
                for holder in self._holders() if kind is WRITING else filter(None, [self._writer]):
                    if holder._dead:
                        raise LockError(f"{co!r} cannot have {self!r}: {holder!r} has ended without unlocking it")
                kernel.park(co)
        except BaseException:
            if box[1]:
                leave(self._waiting, box)
            elif kind is WRITING:
                self._writer = None
                self._depth = 0
            else:
                del self._readers[co]
            self._released(co)
            raise
        return True

    def _released(self, co: coro) -> None:
        """*co* has let go of something: serve those that wait."""
        if co is not self._writer and co not in self._readers:
            not_at_end(co, self)
        waiting = self._waiting
        served = False
        while waiting:
            box = waiting[0]
            waiter, kind = box
            if not is_lost(waiter):
                if self._writer is not None or (kind is WRITING and self._readers):
                    break
                waiter._kernel.wake(waiter)
                if kind is WRITING:
                    self._writer = waiter
                    self._depth = 1
                else:
                    self._readers[waiter] = 1
                box[1] = None
            waiting.popleft()
            served = True
        if served or not waiting:
            self._watch()

    def _watch(self) -> None:
        """Be told of the end of those that hold it, as long as somebody waits for them."""
        for holder in self._holders():
            if self._waiting:
                at_end(holder, self, rw_lock._holder_ended)
            else:
                not_at_end(holder, self)

    def _holder_ended(self, co: coro) -> None:
        for waiter in first_of(self._waiting):
            waiter._kernel.wake(waiter)

    def __repr__(self) -> str:
        readers = ", ".join(f"#{co.id} {co.name!r}" for co in islice(self._readers, MOST_NAMES))
        state = f"writer={self._writer!r} depth={self._depth} readers=[{readers}], "
        return described(self, state, first_of(self._waiting), len(self._waiting))


@contextmanager
def held(lock: Callable[[], object], unlock: Callable[[], object]) -> Iterator[None]:
    """Lock for the length of a block."""
    lock()
    try:
        yield
    finally:
        unlock()
