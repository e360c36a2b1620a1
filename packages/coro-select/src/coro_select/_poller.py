"""A poller on select(2), for any platform.  Stands on `select.select` and the contract in `coro.poller`.

Facts about select
------------------
1. Each call brings three sets of descriptors along and gets three back; the system remembers nothing in between.  So
   there is no object to open, to share with a forked child or to leak, and each call costs as much as there are
   descriptors.
2. It is level-triggered: what holds is reported by every call for as long as it holds.
3. A set is an array of ``FD_SETSIZE`` bits on POSIX (1,024 nearly everywhere), so the *number* of a descriptor is
   limited; Python says `ValueError` to the first that is too high.  On Windows a set is an array of 512 sockets, so
   *how many* there are is limited, and nothing but a socket is accepted.
4. One descriptor that is closed makes the whole call fail: ``EBADF``, on Windows ``WSAENOTSOCK``.  Which one it was
   is not said.
5. There are no bits for a hangup or an error: both count as readable and, where it matters to a writer, as writable.
   But Windows reports a failed connect in the third set only, which elsewhere is for urgent data.
6. A regular file is always readable and writable.
7. Windows refuses to wait for three empty sets (``WSAEINVAL``).
8. Python rounds the timeout up to a microsecond, and goes on waiting after a signal handler (PEP 475).

Consequence
-----------
By 1 and 2 one-shot means: take a descriptor out of the sets when it is reported.  By 3, 4 and 6 a bad descriptor would
be noticed late, by whoever waits next, and would harm all: it has to be refused when it is armed.  One that is closed
after that can only be found by asking for each alone.

Rule
----
`arm` asks select for the one descriptor, so that nothing here has to know the limit of the system.  `wait` reports what
it must not ask for any longer as `ERROR` and leaves the others armed: they are reported by the next call.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import sys
import time
from collections.abc import Iterable
from typing import Final

from coro.poller import ERROR, READ, WRITE, Poller

_WINDOWS: Final = sys.platform == "win32"
_MOST_SOCKETS: Final = 512  # CPython's FD_SETSIZE on Windows
_CLOSED: Final = (errno.EBADF, errno.ENOTSOCK)  # the second on Windows
_ALWAYS_READY: Final = (stat.S_IFREG, stat.S_IFDIR, stat.S_IFBLK)
_LONG: Final = 3600.0  # seconds: a wait may come back with nothing


class SelectPoller(Poller):
    """Holds two sets of descriptors and nothing of the system."""

    edge = False

    def __init__(self) -> None:
        self._readers: set[int] = set()
        self._writers: set[int] = set()

    def arm(self, fd: int, mask: int) -> None:
        self.unregister(fd)
        _check(fd)
        if _WINDOWS and max(len(self._readers), len(self._writers)) >= _MOST_SOCKETS:
            raise OSError(errno.EMFILE, f"on Windows select() watches {_MOST_SOCKETS} sockets and no more")
        if mask & READ:
            self._readers.add(fd)
        if mask & WRITE:
            self._writers.add(fd)

    def unregister(self, fd: int) -> None:
        self._readers.discard(fd)
        self._writers.discard(fd)

    def wait(self, timeout: float | None) -> Iterable[tuple[int, int]]:
        readers, writers = self._readers, self._writers
        if _WINDOWS and not readers and not writers:
            time.sleep(_LONG if timeout is None else timeout)
            return ()
        try:
            readable, writable, failed = select.select(readers, writers, writers if _WINDOWS else (), timeout)
        except OSError as error:
            events = {fd: ERROR for fd in readers | writers if _is_closed(fd)}
            if error.errno not in _CLOSED or not events:
                raise
        else:
            events = dict.fromkeys(readable, READ)
            for fd in writable:
                events[fd] = events.get(fd, 0) | WRITE
            for fd in failed:
                events[fd] = events.get(fd, 0) | ERROR
        readers.difference_update(events)
        writers.difference_update(events)
        return events.items()

    def close(self) -> None:
        self._readers.clear()
        self._writers.clear()


def _check(fd: int) -> None:
    """Raise `OSError` if select cannot wait for *fd*."""
    if not _WINDOWS and stat.S_IFMT(os.fstat(fd).st_mode) in _ALWAYS_READY:
        raise OSError(errno.EPERM, "a file is always ready: there is nothing to wait for")
    try:
        closed = fd < 0 or _is_closed(fd)
    except ValueError:
        raise OSError(
            errno.EMFILE,
            f"select(2) watches descriptors below FD_SETSIZE only (mostly 1024), this is {fd}; "
            "install a poller without such a limit: coro-epoll on Linux, coro-kqueue on macOS and BSD",
        ) from None
    if closed:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))


def _is_closed(fd: int) -> bool:
    """Whether select says that *fd* is no descriptor (on Windows: no socket)."""
    try:
        select.select([fd], (), (), 0)
    except OSError as error:
        return error.errno in _CLOSED
    return False
