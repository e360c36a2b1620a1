"""A poller for coro on poll(2).  This module only answers the hook, so that it imports on every platform."""

from __future__ import annotations

import select

from coro.poller import PollerInfo, hookimpl

from ._poller import PollPoller

__all__ = ["PollPoller"]


@hookimpl
def coro_poller() -> PollerInfo:
    """Describe the poll poller (priority 20: better than select, which says 10, worse than epoll and kqueue)."""
    unavailable = None if hasattr(select, "poll") else "this platform has no poll(2)"
    return PollerInfo("poll", PollPoller, priority=20, api=1, unavailable=unavailable)
