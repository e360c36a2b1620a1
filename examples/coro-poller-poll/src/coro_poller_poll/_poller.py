"""A poller on poll(2).  Stands on `select.poll` and the contract in `coro.poller`.

Facts: poll(2) is level-triggered and remembers nothing; the table of descriptors is in the `select.poll` object.  A
closed descriptor does not make it fail, but is reported as ``POLLNVAL`` by every call.  A regular file is always ready.
The timeout is in milliseconds, which Python rounds up.

Rule: what is reported is taken out of the table; what cannot be waited for is refused by `arm`.
"""

from __future__ import annotations

import errno
import os
import select
import stat
from collections.abc import Iterable
from contextlib import suppress

from coro.poller import ERROR, Poller

_POLLNVAL = 0x20  # not a bit of the contract


class PollPoller(Poller):
    """Opens nothing: the table is in this process."""

    edge = False

    def __init__(self) -> None:
        self._poll = select.poll()

    def arm(self, fd: int, mask: int) -> None:
        self.unregister(fd)
        if stat.S_ISREG(os.fstat(fd).st_mode):  # fstat says EBADF for a closed descriptor
            raise OSError(errno.EPERM, "a regular file is always ready: there is nothing to wait for")
        self._poll.register(fd, mask)

    def unregister(self, fd: int) -> None:
        with suppress(KeyError, ValueError, OverflowError):  # unknown, or not a descriptor at all
            self._poll.unregister(fd)

    def wait(self, timeout: float | None) -> Iterable[tuple[int, int]]:
        events = self._poll.poll(None if timeout is None else timeout * 1000)
        for fd, _ in events:
            self.unregister(fd)
        return [(fd, ERROR if mask & _POLLNVAL else mask) for fd, mask in events]

    def close(self) -> None:
        self._poll = select.poll()
