"""The epoll(7) poller of coro.  This module only answers the hook, so that it imports on every platform."""

from __future__ import annotations

import select

from coro.poller import PollerInfo, hookimpl

from ._poller import EpollPoller

__all__ = ["EpollPoller"]


@hookimpl
def coro_poller() -> PollerInfo:
    """Describe the epoll poller (priority 100)."""
    unavailable = None if hasattr(select, "epoll") else "needs Linux: this Python has no select.epoll"
    return PollerInfo("epoll", EpollPoller, priority=100, unavailable=unavailable)
