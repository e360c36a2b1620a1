"""The select(2) poller of coro.  This module only answers the hook."""

from __future__ import annotations

from coro.poller import PollerInfo, hookimpl

from ._poller import SelectPoller

__all__ = ["SelectPoller"]


@hookimpl
def coro_poller() -> PollerInfo:
    """Describe the select poller (priority 10: whatever else is there is better)."""
    return PollerInfo("select", SelectPoller, priority=10)
