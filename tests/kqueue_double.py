"""A test double of `select.kqueue` and `select.kevent`.  It is not a kqueue: that cannot run on Linux, where this does.

What is real are the descriptors.  Sockets, pipes and processes are those of Linux, and whether they are ready is asked
of poll(2) and epoll(7).  What is simulated is the bookkeeping of kqueue(2) around them: knotes keyed by number and
filter, the order of changes and their errors, ``EV_CLEAR``, ``EV_ONESHOT``, ``EV_DISPATCH``, ``EV_RECEIPT``,
``EV_EOF``, the number that loses its knotes when it is closed, the kqueue that a forked child does not inherit.  It was
written from manuals and from the sources of the systems, not from running them: it can confirm that a poller follows
the rules as they are understood, and not that they are understood rightly.  `SYSTEMS` are the sets of rules it knows.

Each kqueue is three epoll objects: one for the read filters and one for the write filters, both edge-triggered, inside
one for the whole, which also has the processes and whose number is the number of the kqueue.  An epoll event only says
"look again"; what a filter answers is computed from poll(2) at that moment.

Where it is simpler than a kernel: a number that was closed and taken by a duplicate of the same file counts as never
closed; a socket error comes as ``EIO``, because the real one cannot be read without taking it away; our own ``SHUT_WR``
is no end of file; and processes whose kqueue was closed are watched until `release` is called, since nobody can see
whether a duplicate of that kqueue is left.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import stat
import time
import weakref
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

import pytest

EV_ADD, EV_DELETE, EV_ENABLE, EV_DISABLE = 0x0001, 0x0002, 0x0004, 0x0008
EV_ONESHOT, EV_CLEAR, EV_RECEIPT, EV_DISPATCH = 0x0010, 0x0020, 0x0040, 0x0080
EV_ERROR, EV_EOF = 0x4000, 0x8000
NOTE_EXIT: Final = 0x80000000
RDHUP: Final = 0x2000

FOREVER: Final = 2**63 / 1e9  # seconds: what fits into the nanoseconds of CPython
waitid = os.waitid  # tests take the name away

DISTURBED: Final = select.POLLIN | select.POLLERR | RDHUP


@dataclass(frozen=True)
class System:
    """What differs between the systems, as far as their sources tell."""

    name: str
    filters: tuple[int, int, int] = (-1, -2, -5)  #: The numbers of the filters for reading, writing and processes.
    delete_closed: int = errno.EBADF  #: The error of deleting what belonged to a number that is closed.
    dead_pipe: int = errno.EPIPE  #: The error of adding the write filter of a pipe without a reader; 0: none.
    writer_told: bool = True  #: The write filter of a full pipe hears that the reader has gone.
    reader_told: bool = True  #: The read filter of the writing end hears it.
    zombies: bool = False  #: ``EVFILT_PROC`` accepts a process that has ended but was not reaped.
    echo: bool = False  #: Events carry the flags of the change that made them.


SYSTEMS: Final = (
    System("FreeBSD", reader_told=False, zombies=True),
    System("macOS", delete_closed=errno.ENOENT, dead_pipe=0, echo=True),
    System("NetBSD", filters=(0, 1, 4), dead_pipe=errno.EBADF, writer_told=False),
    System("OpenBSD", writer_told=False),
)


class Kevent:
    """`select.kevent`: six numbers."""

    def __init__(
        self,
        ident: Any,
        filter: int = -1,  # noqa: A002
        flags: int = EV_ADD,
        fflags: int = 0,
        data: int = 0,
        udata: int = 0,
    ) -> None:
        self.ident: int = ident if isinstance(ident, int) else ident.fileno()
        if self.ident < 0:
            raise OverflowError("can't convert negative value to unsigned int")
        self.filter, self.flags, self.fflags, self.data, self.udata = filter, flags, fflags, data, udata


@dataclass
class Knote:
    """One registration."""

    ident: int
    filter: int
    flags: int
    udata: int
    identity: object
    enabled: bool = True
    always: bool = False  # a regular file, which epoll does not take
    pidfd: int = -1
    level: bool = field(init=False)

    def __post_init__(self) -> None:
        self.level = not self.flags & (EV_CLEAR | EV_ONESHOT | EV_DISPATCH)


class Kqueue:
    """`select.kqueue`."""

    system: ClassVar[System]
    knows_forks: ClassVar[bool] = True  #: Like CPython since 3.11.7 and 3.12.1.
    calls: ClassVar[list[tuple[int, int, float | None]]] = []  #: Of `control`: changes, room for events, timeout.
    _all: ClassVar[weakref.WeakSet[Kqueue]] = weakref.WeakSet()
    _orphans: ClassVar[list[int]] = []
    _number = -1

    def __init__(self) -> None:
        self.READ, self.WRITE, self.PROC = self.system.filters
        self._whole = select.epoll()
        self._parts = {self.READ: select.epoll(), self.WRITE: select.epoll()}
        for part in self._parts.values():
            self._whole.register(part.fileno(), select.EPOLLIN)
        self._knotes: dict[tuple[int, int], Knote] = {}
        self._number = self._whole.fileno()
        self._all.add(self)

    def __del__(self) -> None:
        self.close()

    def fileno(self) -> int:
        self._check()
        return self._number

    @property
    def closed(self) -> bool:
        return self._number < 0

    def close(self) -> None:
        """Close the number, and with it the knotes, unless a duplicate keeps them: that cannot be seen from here."""
        if self._number < 0:
            return
        if self._whole.closed:  # in a forked child, where an old Python does not know that the number is gone
            with suppress(OSError):
                os.close(self._number)
        self._release()
        self._number = -1

    def control(
        self, changelist: Iterable[Kevent] | None, max_events: int, timeout: float | None = None
    ) -> list[Kevent]:
        self._check()
        changes = list(changelist or ())
        if max_events < 0:
            raise ValueError(f"Length of eventlist must be 0 or positive, got {max_events}")
        if timeout is not None:
            if not -FOREVER < timeout < FOREVER:  # neither are infinity and NaN
                raise TypeError(f"timeout must be a real number or None, not {timeout}")
            if timeout < 0:
                raise ValueError("timeout must be positive or None")
        self.calls.append((len(changes), max_events, timeout))
        if self._whole.closed:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        answers: list[Kevent] = []
        for change in changes:
            code = self._apply(change)
            if not code and not change.flags & EV_RECEIPT:
                continue
            if len(answers) < max_events:
                flags = EV_ERROR | (change.flags if self.system.echo else 0)
                answers.append(Kevent(change.ident, change.filter, flags, change.fflags, code, change.udata))
            elif code:
                raise OSError(code, os.strerror(code))
            else:
                break
        if answers or not max_events:
            return answers
        return self._scan(max_events, timeout)

    # -- changes -----------------------------------------------------------------------------------------------------

    def _apply(self, change: Kevent) -> int:
        """Make one change, and return the number of its error or 0."""
        if change.filter not in self.system.filters:
            return errno.EINVAL
        key = change.ident, change.filter
        knote = self._knotes.get(key)
        if knote is not None and change.filter != self.PROC and identity(change.ident) != knote.identity:
            self._drop(knote)  # closed meanwhile
            knote = None
        try:
            if change.flags & EV_ADD and knote is None:
                knote = self._knotes[key] = self._attach(change)
            elif knote is None:
                dead = change.filter != self.PROC and identity(change.ident) is None
                return self.system.delete_closed if dead else errno.ENOENT
        except OSError as exc:
            return exc.errno or errno.EIO
        if change.flags & EV_DELETE:
            self._drop(knote)
            return 0
        knote.udata = change.udata
        if change.flags & EV_DISABLE:
            knote.enabled = False
        if change.flags & EV_ENABLE:
            knote.enabled = True
        self._touch(knote)
        return 0

    def _attach(self, change: Kevent) -> Knote:
        fd = change.ident
        if change.filter == self.PROC:
            return self._attach_process(change)
        knote = Knote(fd, change.filter, change.flags & ~(EV_ENABLE | EV_DISABLE), change.udata, identity(fd))
        if knote.identity is None:
            raise OSError(errno.EBADF, "closed")
        mode = os.fstat(fd).st_mode
        if os.readlink(f"/proc/self/fd/{fd}") == "anon_inode:[eventpoll]" and (
            change.filter == self.WRITE or fd == self._number
        ):
            raise OSError(errno.EINVAL, "a kqueue can be read only, and not by itself")
        if change.filter == self.WRITE and stat.S_ISFIFO(mode) and poll(fd) & select.POLLERR and self.system.dead_pipe:
            raise OSError(self.system.dead_pipe, "the reader is gone")
        knote.always = stat.S_ISREG(mode) or stat.S_ISDIR(mode)
        if not knote.always:
            part = self._parts[change.filter]
            interest = select.EPOLLIN | RDHUP if change.filter == self.READ else select.EPOLLOUT
            try:
                part.register(fd, interest | select.EPOLLET)
            except FileExistsError:
                part.modify(fd, interest | select.EPOLLET)
            except PermissionError:
                raise OSError(errno.EINVAL, "a device without filters") from None
        return knote

    def _attach_process(self, change: Kevent) -> Knote:
        pid = change.ident
        pidfd = os.pidfd_open(pid)
        with suppress(ChildProcessError):  # somebody else's child
            if not self.system.zombies and waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                os.close(pidfd)
                raise OSError(errno.ESRCH, "a zombie")
        self._whole.register(pidfd, select.EPOLLIN)
        return Knote(pid, change.filter, change.flags | EV_ONESHOT | EV_CLEAR, change.udata, None, pidfd=pidfd)

    def _drop(self, knote: Knote) -> None:
        del self._knotes[knote.ident, knote.filter]
        with suppress(OSError):  # gone with the number already
            if knote.pidfd >= 0:
                self._whole.unregister(knote.pidfd)
                os.close(knote.pidfd)
            elif not knote.always:
                self._parts[knote.filter].unregister(knote.ident)

    def _touch(self, knote: Knote) -> None:
        """Have the condition looked at again."""
        if knote.pidfd < 0 and not knote.always:
            interest = select.EPOLLIN | RDHUP if knote.filter == self.READ else select.EPOLLOUT
            with suppress(OSError):  # closed meanwhile
                self._parts[knote.filter].modify(knote.ident, interest | select.EPOLLET)

    # -- events ------------------------------------------------------------------------------------------------------

    def _scan(self, room: int, timeout: float | None) -> list[Kevent]:
        end = None if timeout is None else time.monotonic() + timeout
        for knote in self._knotes.values():
            if knote.level:
                self._touch(knote)
        while not (found := [event for _, event in zip(range(room), self._collect(room), strict=False)]):
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                break
            self._whole.poll(left)
        return found

    def _collect(self, room: int) -> Iterator[Kevent]:
        for knote in [knote for knote in self._knotes.values() if knote.always]:
            yield from self._report(knote)
        for pidfd, _ in self._whole.poll(0):
            for knote in [knote for knote in self._knotes.values() if knote.pidfd == pidfd]:
                yield from self._report(knote)
        for filter_, part in self._parts.items():
            for _ in range(room):
                for fd, _ in part.poll(0, 1):  # one by one, so that what finds no room stays in the queue
                    if (noted := self._knotes.get((fd, filter_))) is not None:
                        yield from self._report(noted)
                    break
                else:
                    break

    def _report(self, knote: Knote) -> Iterator[Kevent]:
        """Yield the event of *knote*, if there is one now."""
        if not knote.enabled:
            return
        if knote.pidfd >= 0:
            answer = EV_EOF, 0
        elif identity(knote.ident) != knote.identity:
            self._drop(knote)
            return
        elif knote.always:
            if knote.filter == self.READ and os.lseek(knote.ident, 0, os.SEEK_CUR) >= os.fstat(knote.ident).st_size:
                return
            answer = 0, 0
        else:
            found = self._readable(knote.ident) if knote.filter == self.READ else self._writable(knote.ident)
            if found is None:
                return
            answer = found
        if knote.flags & EV_ONESHOT:
            self._drop(knote)
        elif knote.flags & EV_DISPATCH:
            knote.enabled = False
        flags, fflags = answer
        kept = knote.flags & (EV_ONESHOT | EV_CLEAR | EV_DISPATCH) | (EV_ADD | EV_ENABLE if self.system.echo else 0)
        yield Kevent(knote.ident, knote.filter, flags | kept, fflags, 0, knote.udata)

    def _readable(self, fd: int) -> tuple[int, int] | None:
        """Return the flags with which the read filter answers, or None while it is silent."""
        mode, bits = os.fstat(fd).st_mode, poll(fd)
        if stat.S_ISFIFO(mode) and writes_only(fd):
            return (EV_EOF, 0) if bits & select.POLLERR and self.system.reader_told else None
        if not bits & (DISTURBED | select.POLLHUP) or (stat.S_ISSOCK(mode) and is_fresh(fd, bits)):
            return None
        if not bits & (select.POLLHUP | RDHUP):
            return 0, 0
        return EV_EOF, errno.EIO if bits & select.POLLERR else 0

    def _writable(self, fd: int) -> tuple[int, int] | None:
        """The same for the write filter."""
        mode, bits = os.fstat(fd).st_mode, poll(fd)
        if stat.S_ISFIFO(mode):
            if bits & select.POLLERR:
                return (EV_EOF, 0) if self.system.writer_told else None
            return (0, 0) if bits & select.POLLOUT else None
        if not bits & (select.POLLOUT | select.POLLHUP | select.POLLERR) or is_fresh(fd, bits):
            return None
        if not bits & select.POLLHUP:
            return 0, 0
        return EV_EOF, errno.EIO if bits & select.POLLERR else 0

    # -- the end -----------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        if self._number < 0:
            raise ValueError("I/O operation on closed kqueue object")

    def _release(self) -> None:
        for part in (*self._parts.values(), self._whole):
            part.close()
        self._orphans.extend(knote.pidfd for knote in self._knotes.values() if knote.pidfd >= 0)
        self._knotes.clear()

    @classmethod
    def after_fork(cls) -> None:
        """In a forked child: what is not inherited is gone."""
        for queue in list(cls._all):
            queue._release()
            if queue.knows_forks:
                queue._number = -1


os.register_at_fork(after_in_child=Kqueue.after_fork)


def identity(fd: int) -> object:
    """Return what tells the open files behind a number apart, or None if it is closed."""
    try:
        status = os.fstat(fd)
        return status.st_dev, status.st_ino, fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
    except (OSError, OverflowError):
        return None


def poll(fd: int) -> int:
    """Return all bits that poll(2) has for *fd* now."""
    asked = select.poll()
    asked.register(fd, select.POLLIN | select.POLLOUT | RDHUP)
    return next((bits for _, bits in asked.poll(0)), 0)


def writes_only(fd: int) -> bool:
    return fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY


def is_fresh(fd: int, bits: int) -> bool:
    """Tell a socket that was never connected: Linux says ``POLLHUP`` of it, kqueue says nothing."""
    return bool(bits & select.POLLHUP) and not bits & DISTURBED and stat.S_ISSOCK(os.fstat(fd).st_mode)


def release() -> None:
    """Forget the processes whose kqueue was closed."""
    while Kqueue._orphans:
        os.close(Kqueue._orphans.pop())


def install(monkeypatch: pytest.MonkeyPatch, system: System) -> type[Kqueue]:
    """Let the module `select` look as it does on *system*, and return its `select.kqueue`."""
    double = type("kqueue", (Kqueue,), {"system": system, "calls": []})
    names: dict[str, object] = {
        "kqueue": double,
        "kevent": Kevent,
        "KQ_FILTER_READ": system.filters[0],
        "KQ_FILTER_WRITE": system.filters[1],
        "KQ_FILTER_PROC": system.filters[2],
        "KQ_EV_ADD": EV_ADD,
        "KQ_EV_DELETE": EV_DELETE,
        "KQ_EV_ENABLE": EV_ENABLE,
        "KQ_EV_DISABLE": EV_DISABLE,
        "KQ_EV_ONESHOT": EV_ONESHOT,
        "KQ_EV_CLEAR": EV_CLEAR,
        "KQ_EV_EOF": EV_EOF,
        "KQ_EV_ERROR": EV_ERROR,
        "KQ_NOTE_EXIT": NOTE_EXIT,
    }
    for name, value in names.items():
        monkeypatch.setattr(select, name, value, raising=False)
    return double
