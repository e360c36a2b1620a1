"""A stranger's plugin that was written for an older contract.  It would win if its number were not looked at."""

from __future__ import annotations

from typing import NoReturn

from coro.poller import PollerInfo, hookimpl


def open_it() -> NoReturn:
    """What must never be called."""
    raise AssertionError("a poller of another API was opened")


@hookimpl
def coro_poller() -> PollerInfo:
    """Describe the outdated poller."""
    return PollerInfo("outdated", open_it, priority=400, api=0)
