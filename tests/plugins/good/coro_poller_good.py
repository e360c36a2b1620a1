"""A stranger's poller that works, and better than any other: it has the highest priority of those that can be opened.

Stands on the contract in `coro.poller` and on `select.select`.
"""

from __future__ import annotations

import select
import sys
from collections.abc import Iterable

from coro.poller import READ, WRITE, Poller, PollerInfo, hookimpl


class GoodPoller(Poller):
    """Says on stdout that it was opened, so that a test can see it."""

    edge = False

    def __init__(self) -> None:
        print("good is open", file=sys.stdout, flush=True)
        self._armed: dict[int, int] = {}

    def arm(self, fd: int, mask: int) -> None:
        self._armed[fd] = mask

    def unregister(self, fd: int) -> None:
        self._armed.pop(fd, None)

    def wait(self, timeout: float | None) -> Iterable[tuple[int, int]]:
        readers = [fd for fd, mask in self._armed.items() if mask & READ]
        writers = [fd for fd, mask in self._armed.items() if mask & WRITE]
        readable, writable, _ = select.select(readers, writers, [], timeout)
        events = dict.fromkeys(readable, READ)
        for fd in writable:
            events[fd] = events.get(fd, 0) | WRITE
        for fd in events:
            del self._armed[fd]
        return events.items()

    def close(self) -> None:
        self._armed.clear()


@hookimpl
def coro_poller() -> PollerInfo:
    """Describe the good poller."""
    return PollerInfo("good", GoodPoller, priority=200, api=1)
