"""The poller contract: what a backend does for coro, and nothing more.

This is the only file that the author of a poller must read.  It stands on nothing but pluggy's two markers.

An event is a pair ``(fd, mask)`` with the bits of poll(2), which is what `select.epoll` and `select.poll` return
already: those backends translate nothing.  (POLLPRI, 0x0002, is taken too where a poller reports it: urgent data wakes
the reader.)  The kernel owns everything that each backend would repeat: the table of
descriptors, cached readiness, the waiters, the timers, the waker (a socketpair that it arms like any other descriptor)
and what happens at a fork.  A poller is opened, used and closed in one thread, so it needs no lock.

A backend is found through an entry point of the group ``coro.pollers`` whose module has the hook `coro_poller`::

    from coro.poller import PollerInfo, hookimpl

    @hookimpl
    def coro_poller() -> PollerInfo:
        from ._poller import UringPoller, why_not
        return PollerInfo("uring", UringPoller, priority=120, unavailable=why_not())

That module must import everywhere: that a platform lacks something is said by ``unavailable``, not by an ImportError.
Whether a poller keeps this contract is tested by ``coro.testing.PollerTests``.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar, Final

import pluggy

__all__ = [
    "ERROR",
    "HANGUP",
    "POLLER_API",
    "READ",
    "READ_HANGUP",
    "WRITE",
    "Poller",
    "PollerInfo",
    "hookimpl",
    "hookspec",
]

POLLER_API: Final = 1  #: Raised only when a poller written for an older number would misbehave.

READ: Final = 0x0001  #: POLLIN: a read, an accept or an end of file would not block.
WRITE: Final = 0x0004  #: POLLOUT: a write would not block, or a connect is decided.
ERROR: Final = 0x0008  #: POLLERR: reported whether asked for or not.
HANGUP: Final = 0x0010  #: POLLHUP: reported whether asked for or not.
READ_HANGUP: Final = 0x2000  #: POLLRDHUP of Linux: the peer has finished sending.


class Poller(ABC):
    """A source of readiness.  Calling the class opens one; it raises `OSError` if the system refuses."""

    #: True: the kernel may `register` a descriptor once, and each change to ready is then reported by itself.
    #: False: the kernel calls `arm` each time that a coroutine is about to wait.
    edge: ClassVar[bool]

    def register(self, fd: int) -> None:
        """Report every edge of *fd*, in both directions, until `unregister` (only where `edge` is true).

        What holds already counts as the first edge.  Raises `OSError` like `arm`.
        """
        raise NotImplementedError(f"{type(self).__name__} is not edge-triggered: use arm()")

    @abstractmethod
    def arm(self, fd: int, mask: int) -> None:
        """Report *fd* once, when a bit of *mask* (`READ`, `WRITE` or both) holds; replaces an earlier `arm` of *fd*.

        Level-triggered when armed: what holds already is reported by the next `wait`.  The one report disarms both
        directions.  Raises `OSError`: ``EBADF`` for a closed descriptor, ``EPERM`` for one that cannot be waited for
        because it is always ready (a regular file); then nothing is armed.
        """

    @abstractmethod
    def unregister(self, fd: int) -> None:
        """Forget *fd*.  Never raises: it may be unknown, closed, or a number that is already in use again."""

    @abstractmethod
    def wait(self, timeout: float | None) -> Iterable[tuple[int, int]]:
        """Block for at most *timeout* seconds (0: not at all, None: without limit) and return the events.

        Rounds up, so that a timer is never early.  It may return nothing before the time is over, and may report what
        is no longer so, but must not lose an edge.  A signal does not end it (PEP 475); what a Python signal handler
        raises comes out of it.  A descriptor that was closed while armed must not disturb the others.
        """

    @abstractmethod
    def close(self) -> None:
        """Release the descriptors that this process holds.  May be called twice.

        It is also called in a forked child, which shares them with its parent: close there, never unregister.
        The kernel then opens a new poller.
        """

    def process_fd(self, pid: int) -> int:
        """Return a new descriptor, owned by the caller, that turns readable when the child *pid* has ended.

        Raises `ProcessLookupError` where there is no such process, and `NotImplementedError` or another `OSError`
        where the platform has no such descriptor; the kernel then waits in a thread.
        """
        if not hasattr(os, "pidfd_open"):
            raise NotImplementedError("this platform has no pidfd_open(2)")
        return os.pidfd_open(pid)


@dataclass(frozen=True)
class PollerInfo:
    """What a plugin says of its poller: the answer of the hook `coro_poller`."""

    name: str  #: The name to ask for: ``CORO_POLLER=name``, ``event_loop(poller="name")``.
    poller: Callable[[], Poller]  #: The class.  Calling it opens a poller.
    priority: int = 50  #: The highest usable one is chosen.  epoll and kqueue say 100, select says 10.
    api: int = POLLER_API  #: The `POLLER_API` that it was written for.
    unavailable: str | None = None  #: Why it cannot work here ("needs Linux"); None where it can.


hookspec = pluggy.HookspecMarker("coro")
hookimpl = pluggy.HookimplMarker("coro")


@hookspec
def coro_poller() -> PollerInfo:
    """Describe one poller.  All answers are collected; the order of the calls means nothing."""
    raise NotImplementedError  # a specification: pluggy never calls it
