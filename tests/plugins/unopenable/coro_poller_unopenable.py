"""A stranger's poller that looks usable, and best of all, until it is opened."""

from __future__ import annotations

import errno
from typing import NoReturn

from coro.poller import PollerInfo, hookimpl


def open_it() -> NoReturn:
    """What a sandbox says that forbids the system call."""
    raise PermissionError(errno.EPERM, "the sandbox forbids it")


@hookimpl
def coro_poller() -> PollerInfo:
    """Describe the unopenable poller."""
    return PollerInfo("unopenable", open_it, priority=300, api=1)
