"""Every exception of coro.  Stands on nothing.

Two families.  `Interrupted` and what derives from it unwind a coroutine and derive from `BaseException`, so that an
``except Exception`` in application code cannot swallow a shutdown or somebody else's timeout.  The others are
ordinary errors: they say what happened, to which coroutine or descriptor, and how to mend it.
"""

from __future__ import annotations

import builtins
import errno
from contextlib import suppress
from typing import Any

__all__ = [
    "ClosedError",
    "DeadCoroutine",
    "DeadlockError",
    "InParallelError",
    "Interrupted",
    "LockError",
    "NoPollerError",
    "NotStartedError",
    "ScheduleError",
    "Shutdown",
    "SimultaneousError",
    "TimeoutError",
    "WakeUp",
    "YieldFromMain",
]


class Interrupted(BaseException):
    """Unwinds a coroutine.  Never hide it: code that may run under a timeout must let it pass.

    An expired timeout travels through inner frames as an `Interrupted` whose ``args[0]`` is a private token; only the
    frame that owns the timeout turns it into `TimeoutError`.
    """

    def __str__(self) -> str:
        timeout = timeout_of(self)
        return super().__str__() if timeout is None else f"the time of {timeout[0]!r} is over"


def timeout_of(exc: object) -> list[Any] | None:
    """Return the timeout (see `coro.kernel.Timeout`) that *exc* carries, if it does."""
    timeout = exc.args[0] if type(exc) is Interrupted and exc.args else None
    return timeout if type(timeout) is list and len(timeout) == 4 and timeout[2] is exc else None


class Shutdown(Interrupted):
    """Raised in a coroutine by `coro.shutdown()` and when the loop ends.  Silent at the top of a coroutine."""


class TimeoutError(Interrupted, builtins.TimeoutError):
    """A `with_timeout` or `timeout` expired.  Raised only at the frame that owns it.

    It is also a builtin `TimeoutError` (hence an `OSError` and an `Exception`).

    Attributes:
        seconds: how long the timeout was, in seconds; None where that is not known.
    """

    seconds: float | None = None


class ScheduleError(Exception):
    """A coroutine cannot be scheduled as it stands.  ``args[0]`` is the coroutine, ``args[1]`` says why."""

    def __str__(self) -> str:
        return " ".join(str(arg) for arg in self.args)


class DeadCoroutine(ScheduleError):
    """The coroutine has ended or was cancelled before it began."""


class NotStartedError(ScheduleError):
    """The coroutine has not run yet, so nothing can be raised in it (see ``cancel_start``)."""


class YieldFromMain(RuntimeError):
    """Something blocked outside a coroutine: in the main program, in a signal handler, or in poller code."""


class SimultaneousError(Exception):
    """Two coroutines wait for the same thing, of which only one may.

    Attributes:
        co: the coroutine that came second and got this error.
        other: the one that was waiting already, and still is.
        event: what both want, such as ``(7, "read")``.
    """

    def __init__(self, co: Any, other: Any, event: Any) -> None:
        super().__init__(co, other, event)
        self.co = co
        self.other = other
        self.event = event

    def __repr__(self) -> str:
        return f"<SimultaneousError co={self.co!r} other={self.other!r} event={self.event!r}>"

    def __str__(self) -> str:
        return f"{self.co!r} cannot wait for {self.event!r}: {self.other!r} is waiting for it, and only one may"


class EBADF(OSError):
    """`coro.oserrors.EBADF`, which is here for the sake of `ClosedError`."""


EBADF.__module__ = "coro.oserrors"


class ClosedError(EBADF):
    """A descriptor was closed while somebody waited for it, or is used after its close.  Its errno is ``EBADF``.

    Attributes:
        closed_by: the coroutine that closed it; None where that is not known.
    """

    def __init__(self, message: str = "the descriptor is closed", closed_by: Any = None) -> None:
        super().__init__(errno.EBADF, message)
        self.closed_by = closed_by


class WakeUp(Exception):
    """For programs to raise in their own sleepers with ``raise_exception``.  coro itself never raises it."""


class InParallelError(Exception):
    """Some function that `in_parallel` ran has failed.

    Attributes:
        result_list: one pair per function, in the order of the input: ``(SUCCESS, value)`` or ``(FAILURE, exc_info)``.
    """

    def __init__(self, result_list: list[tuple[str, Any]]) -> None:
        super().__init__(result_list)
        self.result_list = result_list

    def __str__(self) -> str:
        failed = [f"[{i}] {result[1]!r}" for i, (status, result) in enumerate(self.result_list) if status == "failure"]
        return f"{len(failed)} of {len(self.result_list)} calls failed: {', '.join(failed)}"


class LockError(Exception):
    """A lock is misused: unlocked by a stranger, or left locked by an owner that has ended."""


class NoPollerError(RuntimeError):
    """No poller can be used, or not the one that was asked for.  The text ends with the command that mends it."""


class DeadlockError(RuntimeError):
    """Nothing can ever happen again: every coroutine is blocked, and no timer, descriptor or thread can wake one."""


def clear_own_frames(exc: BaseException | None) -> None:
    """Drop the variables of coro's own functions from the traceback of *exc* and of those that it came from.

    They know the coroutine, which keeps the exception: without this only the garbage collector could free it.
    """
    seen: set[int] = set()  # a program may have made a ring of them
    while exc is not None and id(exc) not in seen:
        seen.add(id(exc))
        place = exc.__traceback__
        while place is not None:
            if str(place.tb_frame.f_globals.get("__name__")).startswith("coro."):
                with suppress(RuntimeError):  # the worker's own, which is running
                    place.tb_frame.clear()
            place = place.tb_next
        exc = exc.__context__
