"""Shrapnel's small names, for programs that come from it; new programs need none of them.

Stands on the modules that hold the real ones.  The table in docs/migration.md says what to write instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from .clocks import tsc_time
from .clocks.tsc_time import sec_to_ticks as absolute_secs_to_ticks
from .clocks.tsc_time import ticks_to_sec as ticks_to_absolute_secs
from .clocks.tsc_time import ticks_to_usec as ticks_to_absolute_time
from .clocks.tsc_time import ticks_to_usec_safe as ticks_to_absolute_time_safe
from .clocks.tsc_time import update_time_relation
from .clocks.tsc_time import usec_to_ticks as absolute_time_to_ticks
from .clocks.tsc_time import usec_to_ticks_safe as absolute_time_to_ticks_safe
from .loop import coro_is_running
from .report import default_notifier as default_exception_notifier
from .report import print_stderr as P
from .report import write_stderr as W
from .tb import traceback_string as compact_traceback
from .verbs import get_now
from .verbs import suspend as _yield

__all__ = [
    "P",
    "W",
    "_yield",
    "absolute_secs_to_ticks",
    "absolute_time_to_ticks",
    "absolute_time_to_ticks_safe",
    "compact_traceback",
    "ctime_ticks",
    "ctime_usec",
    "default_exception_notifier",
    "event_loop_is_running",
    "get_usec",
    "microseconds",
    "now",
    "now_usec",
    "ticks_to_absolute_secs",
    "ticks_to_absolute_time",
    "ticks_to_absolute_time_safe",
    "update_time_relation",
]

microseconds: Final = 10**6  #: How many there are in a second.


def get_usec() -> int:
    """Return the current POSIX time in microseconds."""
    return tsc_time.now_raw_posix_usec()


def ctime_ticks(t: int) -> str:
    """Return the local time of a tick in 24 characters."""
    return tsc_time.TSC(t).ctime()


def ctime_usec(u: int) -> str:
    """Return the local time of a POSIX time in microseconds, in 24 characters."""
    return tsc_time.TSC.from_posix_usec(u).ctime()


if TYPE_CHECKING:
    now: int
    now_usec: int
    event_loop_is_running: bool
else:

    def __getattr__(name: str) -> Any:
        """Variables that change: ``now``, ``now_usec`` and ``event_loop_is_running``, as they are at this moment."""
        if name == "now":
            return get_now()
        if name == "now_usec":
            return get_usec()
        if name == "event_loop_is_running":
            return coro_is_running()
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
