"""A poller on kqueue(2), for macOS and the BSDs.  Stands on `select.kqueue` and the contract in `coro.poller`.

Facts about kqueue
------------------
1. A registration, a *knote*, is keyed by number and filter.  Reading and writing are two filters, so a descriptor has
   two knotes and reports in two events, which may come in two batches.
2. It belongs to the number, not to the open file: closing the number removes it at once and silently, whatever
   duplicates there are.  A number that comes back is clean.
3. ``EV_CLEAR`` reports what holds when the knote is added, then only what is new.  ``EV_ONESHOT`` removes the knote as
   it reports.  Adding a knote that exists changes neither: it only tests the condition anew and sets ``udata``, a
   number that comes back with every event.
4. Changes are applied in order.  One that fails raises if the call has no room for events, and the rest is dropped; if
   there is room, the error becomes an event, and where nothing fails real events take that room.  CPython repeats an
   interrupted call together with its changes, though the system has applied them already (PEP 475).
5. ``EV_EOF`` from the read filter: the peer has finished sending, and data may be left.  From the write filter: nobody
   reads any more, or our side is shut down.  With it, ``fflags`` is the error of the socket.
6. Adding the write filter of a pipe whose reader is gone fails with ``EPIPE`` (NetBSD: ``EBADF``; macOS now takes it
   and says ``EV_EOF``).  When the reader of a *full* pipe goes, FreeBSD and macOS tell the write filter; on NetBSD,
   OpenBSD and DragonFly only the read filter of the writing end hears of it: by their sources the writers are woken
   before the mark of the end is set.
7. Regular files and directories are accepted, but their filters tell positions, not readiness: reading is silent at
   the end of the file, writing always true.  macOS refuses /dev/tty and some other devices with ``EINVAL``.
8. A forked child does not inherit a kqueue: there its number is free.  CPython before 3.11.7 and 3.12.1 does not know
   that, and closes whatever has the number by then (https://github.com/python/cpython/issues/110395).
9. A kqueue is readable while it holds events, to another kqueue too.  It lives until the last duplicate of its number
   is closed.  ``EVFILT_PROC`` with ``NOTE_EXIT`` puts one event into it when a process ends.  FreeBSD puts it there
   at once for a zombie; macOS answers ``ESRCH``, as if there were no such process, and so may the others.
10. A call with room for no events never waits.  Python refuses a timeout of more than 292 years, and infinity.

Consequence
-----------
By 2 nothing here can go stale but a table of what is registered, so there is none: what a report has to know, whether
it disarms and whom, travels in ``udata`` (3).  By 3 flags are changed only by deleting the knote first.  By 4 errors
reach the caller at once and no event gets lost if changes go one by one, in calls that have no room and cannot sleep.
By 6 a wait for writing to a pipe needs both filters, and an error of the write filter may mean "write, and you will
hear it".

Rule
----
`register` and `arm` delete what there is and add anew, with ``EV_CLEAR`` or ``EV_ONESHOT``.  Where two knotes serve one
`arm`, the first report deletes them both.  For a pipe that is to be written the read filter stands sentry: nothing but
its end of file counts.  `wait` merges the events of one descriptor, and reads on with a timeout of 0 while the list
comes back full.  What is always ready is refused with ``EPERM``, as epoll does.  `process_fd` is a kqueue of its own.

Not reported: out-of-band data, and on macOS the last writer leaving a named FIFO, which that system may keep to itself.
"""

from __future__ import annotations

import errno
import os
import select
import stat
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final

from coro.poller import ERROR, HANGUP, READ, READ_HANGUP, WRITE, Poller

_ROOM: Final = 256  # events for one call: 16 KiB on FreeBSD, whose events are the largest (Go: 64, libuv: 1024)
_LONGEST: Final = 86_400.0  # seconds, as in trio: to return early is allowed

# What ``udata`` says, in addition to the bits for which a one-shot was armed (none: registered for good).
_PIPE: Final = 0x100  # the end of file of one direction is the end of both
_PAIR: Final = 0x200  # another knote serves the same `arm`

_inherited: list[Any] = []  # kqueue objects of parent processes, kept for ever: to collect them would close a stranger


class KqueuePoller(Poller):
    """Opens a kqueue (close-on-exec); raises `OSError` if the system refuses, for example with ``EMFILE``."""

    edge = True

    def __init__(self) -> None:
        system: Any = select  # as `Any`: for a type checker, the attributes of this module depend on the platform
        self._system = system
        self._kqueue = system.kqueue()
        self._control = self._kqueue.control
        self._process = os.getpid()
        self._read_filter: int = system.KQ_FILTER_READ  # by name: NetBSD numbers its filters in its own way
        self._write_filter: int = system.KQ_FILTER_WRITE
        self._eof: int = system.KQ_EV_EOF
        self._error: int = system.KQ_EV_ERROR
        self._ready: dict[int, int] = {}  # what the next `wait` returns before anything else

    def register(self, fd: int) -> None:
        self._watch(fd, READ | WRITE, self._system.KQ_EV_CLEAR, _look(fd))

    def arm(self, fd: int, mask: int) -> None:
        note = _look(fd) | mask
        if mask & WRITE and note & (READ | _PIPE):
            note |= _PAIR
        self._watch(fd, mask, self._system.KQ_EV_ONESHOT, note)

    def unregister(self, fd: int) -> None:
        self._ready.pop(fd, None)
        self._delete(fd)

    def wait(self, timeout: float | None) -> Iterable[tuple[int, int]]:
        ready = self._ready
        if ready:
            timeout = 0
        elif timeout is not None and timeout > _LONGEST:
            timeout = _LONGEST
        while True:
            events = self._control(None, _ROOM, timeout)
            for event in events:
                fd, flags, note = event.ident, event.flags, event.udata
                if flags & self._error:
                    mask = ERROR
                elif event.filter == self._write_filter:
                    mask = WRITE
                    if flags & self._eof:
                        mask |= HANGUP | (ERROR if event.fflags else 0)
                elif flags & self._eof:
                    mask = READ | READ_HANGUP | (ERROR if event.fflags else 0)
                    if note & _PIPE:
                        mask |= WRITE | HANGUP
                elif note & (READ | WRITE) == WRITE:
                    continue  # the sentry has seen data
                else:
                    mask = READ
                if note & _PAIR:
                    self._delete(fd)
                ready[fd] = ready.get(fd, 0) | mask
            if len(events) < _ROOM:
                break
            timeout = 0
        self._ready = {}
        return ready.items()

    def close(self) -> None:
        if os.getpid() == self._process:
            self._kqueue.close()
        else:
            _inherited.append(self._kqueue)

    def process_fd(self, pid: int) -> int:
        """Return a duplicate of a kqueue that waits for nothing but the end of *pid*.

        A `select.kqueue` closes its number when it is collected, and cannot be told to let go of it: so the caller gets
        another number for the same queue.  No system of the five refuses to duplicate a kqueue (fact 9; mio, hence
        tokio, does it on each).  One that did would raise `OSError` here, and the kernel would wait in a thread.
        """
        system = self._system
        queue = system.kqueue()
        try:
            flags = system.KQ_EV_ADD | system.KQ_EV_ONESHOT
            queue.control([system.kevent(pid, system.KQ_FILTER_PROC, flags, system.KQ_NOTE_EXIT)], 0, 0)
            return os.dup(queue.fileno())
        except ProcessLookupError:
            if not _is_child(pid):
                raise
            return _readable()
        finally:
            queue.close()

    def _watch(self, fd: int, mask: int, flags: int, note: int) -> None:
        """Have the filters of *mask*, and them alone, report *fd*; or raise, and have none."""
        self.unregister(fd)
        try:
            if mask & READ:
                self._add(fd, self._read_filter, flags, note)
            elif note & _PIPE:
                with suppress(OSError):  # a named FIFO may have no read filter on its writing end, and needs none
                    self._add(fd, self._read_filter, self._system.KQ_EV_CLEAR, note)
            if mask & WRITE:
                try:
                    self._add(fd, self._write_filter, flags, note)
                except OSError as exc:
                    if exc.errno != errno.EPIPE and not (exc.errno == errno.EBADF and note & _PIPE):
                        raise
                    self._ready[fd] = mask | HANGUP
                    if note & mask:  # a one-shot, and this was the report
                        self._delete(fd)
        except OSError as exc:
            self.unregister(fd)
            if exc.errno == errno.EINVAL:
                exc.add_note(
                    "kqueue cannot wait for this kind of descriptor.  On macOS /dev/tty is one: open the terminal by "
                    "its own name, os.ttyname(0), or choose another poller with CORO_POLLER=select."
                )
            raise

    def _add(self, fd: int, filter_: int, flags: int, note: int) -> None:
        self._control([self._system.kevent(fd, filter_, self._system.KQ_EV_ADD | flags, 0, 0, note)], 0, 0)

    def _delete(self, fd: int) -> None:
        for filter_ in (self._read_filter, self._write_filter):
            with suppress(OSError, ValueError, OverflowError):  # unknown, closed, in use again, or no descriptor at all
                self._control([self._system.kevent(fd, filter_, self._system.KQ_EV_DELETE)], 0, 0)


def _look(fd: int) -> int:
    """Return `_PIPE` if *fd* is a pipe, else 0.  Raise `OSError` if it is closed or always ready."""
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISBLK(mode):
        raise PermissionError(errno.EPERM, "a file, a directory or a disk is always ready: nothing to wait for")
    return _PIPE if stat.S_ISFIFO(mode) else 0


def _is_child(pid: int) -> bool:
    """Tell a child that has ended, or is about to, from a process that there is not."""
    system: Any = os
    try:
        if hasattr(system, "waitid"):
            system.waitid(system.P_PID, pid, system.WEXITED | system.WNOHANG | system.WNOWAIT)
        else:  # on macOS before Python 3.13
            os.kill(pid, 0)  # succeeds for a zombie, as POSIX demands
    except (ChildProcessError, ProcessLookupError):
        return False
    return True


def _readable() -> int:
    """Return a new descriptor that is readable at once and for ever."""
    reader, writer = os.pipe()
    os.close(writer)
    return reader
