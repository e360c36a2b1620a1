"""The kqueue(2) poller of coro.  This module only answers the hook, so that it imports on every platform."""

from __future__ import annotations

import select

from coro.poller import PollerInfo, hookimpl

from ._poller import KqueuePoller

__all__ = ["KqueuePoller"]


@hookimpl
def coro_poller() -> PollerInfo:
    """Describe the kqueue poller (priority 100)."""
    unavailable = None if hasattr(select, "kqueue") else "needs macOS or a BSD: this Python has no select.kqueue"
    return PollerInfo("kqueue", KqueuePoller, priority=100, unavailable=unavailable)
