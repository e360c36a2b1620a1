"""A poller on Linux epoll(7).  Stands on `select.epoll` and the contract in `coro.poller`.

Facts about epoll
-----------------
1. An entry is keyed by the number *and* the open file behind it.  Closing the number removes the entry only when no
   duplicate of the file is left, here or in a forked child.  Until then events arrive for a number that may by then
   belong to somebody else, and the entry can no longer be deleted: ``EPOLL_CTL_DEL`` looks the number up first.
2. Edge-triggered (``EPOLLET``), adding an entry reports what holds already as the first edge.  Afterwards only changes
   are reported: after a partial read there is no new event until new data arrives.
3. A FIN that arrives together with data is one event, ``EPOLLIN | EPOLLRDHUP``.  Nothing more follows once the data
   is read.  ``EPOLLERR`` and ``EPOLLHUP`` are always reported; ``EPOLLRDHUP`` must be asked for, and is then reported
   to whoever waits, for writing too.  ``EPOLLIN`` alone reports a FIN as well.
4. ``EPOLLONESHOT`` disables the entry at its first report but keeps it, so waiting once more is one ``EPOLL_CTL_MOD``;
   MOD also checks the file anew, hence reports what holds already.
5. A regular file is refused with ``EPERM``, a closed descriptor with ``EBADF``, an entry that the system has
   dropped meanwhile with ``ENOENT`` on MOD.
6. A forked child shares the epoll object: what it deletes is gone for its parent.  Closing its copy harms nobody.
7. The timeout has a resolution of 1 ms.  Python rounds it up, and goes on waiting after a signal handler (PEP 475).
8. The bits are those of poll(2).

Consequence
-----------
By 2 and 3 a descriptor can be added once for its whole life if whoever gets the events remembers them, the hangup above
all: the kernel does, in its table.  By 4 a descriptor that coro does not own costs one system call for each wait.
By 1 an event may be stale.  One-shot entries are silent after a single stray event and edge-triggered ones report only
changes, so neither can keep the loop spinning, as a level-triggered one would.

Rule
----
`register` adds once with ``EPOLLET``.  `arm` modifies, and adds when the system answers ``ENOENT``: the system's own
table is the only one, there is none here to go stale.  `unregister` ignores every error.  `wait` *is* `epoll.poll`:
by 8 there is nothing to translate, so no Python frame lies between the kernel and the system call.
"""

from __future__ import annotations

import select
from collections.abc import Iterable
from contextlib import suppress

from coro.poller import READ_HANGUP, Poller

_EDGE = 0x80000000 | READ_HANGUP | 0x0001 | 0x0002 | 0x0004  # EPOLLET | EPOLLRDHUP | EPOLLIN | EPOLLPRI | EPOLLOUT
_ONCE = 0x40000000  # EPOLLONESHOT; without EPOLLRDHUP, which would wake a writer when the peer half-closes (fact 3)


class EpollPoller(Poller):
    """Opens an epoll object (close-on-exec); raises `OSError` if the system refuses, for example with ``EMFILE``."""

    edge = True

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self.wait = self._epoll.poll  # type: ignore[method-assign]  # saves a Python frame for each wait
        self.close = self._epoll.close  # type: ignore[method-assign]

    def register(self, fd: int) -> None:
        try:
            self._epoll.register(fd, _EDGE)
        except FileExistsError:  # it was armed before
            self._epoll.modify(fd, _EDGE)

    def arm(self, fd: int, mask: int) -> None:
        try:
            self._epoll.modify(fd, mask | _ONCE)
        except FileNotFoundError:
            self._epoll.register(fd, mask | _ONCE)

    def unregister(self, fd: int) -> None:
        with suppress(OSError, ValueError, OverflowError):  # unknown, closed, or no descriptor at all: forgotten
            self._epoll.unregister(fd)

    def wait(self, timeout: float | None) -> Iterable[tuple[int, int]]:
        raise NotImplementedError  # the instance has the bound method of its epoll object

    def close(self) -> None:
        raise NotImplementedError  # likewise
