"""A stranger's poller that has the name of another one, ``good``, and comes behind it by its priority."""

from __future__ import annotations

from typing import NoReturn

from coro.poller import PollerInfo, hookimpl


def open_it() -> NoReturn:
    """What must never be called while the other one is there."""
    raise OSError("the wrong one of two pollers called good was opened")


@hookimpl
def coro_poller() -> PollerInfo:
    """Describe the second poller called good."""
    return PollerInfo("good", open_it, priority=150, api=1)
