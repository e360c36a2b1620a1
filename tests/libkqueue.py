"""The API of `select.kqueue` on libkqueue (https://github.com/mheily/libkqueue), through ctypes.

libkqueue is kqueue(2) in user space, made of epoll(7) on Linux: an implementation that nobody wrote for these tests,
which is why they run against it where it is installed.  It is no kernel, however: it cannot see that a descriptor is
closed, and its kqueues are numbers that it looks up, so they can be neither waited for nor duplicated.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import pytest

FOREVER = 2**63 / 1e9  # seconds: what fits into the nanoseconds of CPython
NAMES = {
    "KQ_FILTER_READ": -1,
    "KQ_FILTER_WRITE": -2,
    "KQ_FILTER_PROC": -5,
    "KQ_EV_ADD": 0x0001,
    "KQ_EV_DELETE": 0x0002,
    "KQ_EV_ENABLE": 0x0004,
    "KQ_EV_DISABLE": 0x0008,
    "KQ_EV_ONESHOT": 0x0010,
    "KQ_EV_CLEAR": 0x0020,
    "KQ_EV_EOF": 0x8000,
    "KQ_EV_ERROR": 0x4000,
    "KQ_NOTE_EXIT": 0x80000000,
}


class Raw(ctypes.Structure):
    """``struct kevent`` of libkqueue."""

    _fields_ = (
        ("ident", ctypes.c_size_t),
        ("filter", ctypes.c_short),
        ("flags", ctypes.c_ushort),
        ("fflags", ctypes.c_uint),
        ("data", ctypes.c_ssize_t),
        ("udata", ctypes.c_size_t),
    )


class Timespec(ctypes.Structure):
    """``struct timespec``."""

    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class Kevent:
    """`select.kevent`: six numbers."""

    def __init__(
        self,
        ident: Any,
        filter: int = -1,  # noqa: A002
        flags: int = 1,
        fflags: int = 0,
        data: int = 0,
        udata: int = 0,
    ) -> None:
        self.ident: int = ident if isinstance(ident, int) else ident.fileno()
        if self.ident < 0:
            raise OverflowError("can't convert negative value to unsigned int")
        self.filter, self.flags, self.fflags, self.data, self.udata = filter, flags, fflags, data, udata


class Kqueue:
    """`select.kqueue`."""

    libkqueue: Any
    _number = -1

    def __init__(self) -> None:
        self._number = self.libkqueue.kqueue()
        if self._number < 0:
            raise error()

    def __del__(self) -> None:
        self.close()

    def fileno(self) -> int:
        self._check()
        return self._number

    @property
    def closed(self) -> bool:
        return self._number < 0

    def close(self) -> None:
        if self._number >= 0:
            os.close(self._number)
            self._number = -1
            with suppress(AttributeError):  # before 2.7
                self.libkqueue.libkqueue_drain_pending_close()  # a thread of the library does the rest: wait for it

    def control(
        self, changelist: Iterable[Kevent] | None, max_events: int, timeout: float | None = None
    ) -> list[Kevent]:
        self._check()
        if timeout is not None and not -FOREVER < timeout < FOREVER:  # neither are infinity and NaN
            raise TypeError(f"timeout must be a real number or None, not {timeout}")
        changes = [Raw(c.ident, c.filter, c.flags, c.fflags, c.data, c.udata) for c in changelist or ()]
        raw_changes = (Raw * len(changes))(*changes)
        room = (Raw * max_events)()
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None
            if end is not None:
                nanoseconds = max(0, -int(-(end - time.monotonic()) * 1e9 // 1))
                left = ctypes.byref(Timespec(*divmod(nanoseconds, 10**9)))
            found = self.libkqueue.kevent(
                self._number, raw_changes, len(changes), room if max_events else None, max_events, left
            )
            if found >= 0:
                return [Kevent(e.ident, e.filter, e.flags, e.fflags, e.data, e.udata) for e in room[:found]]
            if ctypes.get_errno() != errno.EINTR:
                raise error()
            # PEP 475: the handler has run as the call came back; the call is made again, with its changes.

    def _check(self) -> None:
        if self._number < 0:
            raise ValueError("I/O operation on closed kqueue object")


def error() -> OSError:
    """Return the error of the last call."""
    return OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def load() -> ctypes.CDLL | None:
    """Return the library, or None if it is not installed."""
    try:
        library = ctypes.CDLL("libkqueue.so.0", use_errno=True)
    except OSError:
        return None
    os.close(library.kqueue())  # what it opens once and for all is open now
    return library


def install(monkeypatch: pytest.MonkeyPatch, library: ctypes.CDLL | None) -> type[Kqueue]:
    """Let the module `select` look as if the system had the kqueue of *library*."""
    queue = type("kqueue", (Kqueue,), {"libkqueue": library})
    for name, value in {**NAMES, "kqueue": queue, "kevent": Kevent}.items():
        monkeypatch.setattr(select, name, value, raising=False)
    return queue
