"""Timeouts: `with_timeout` and `timeout`, in a coroutine and outside the loop.

Stands on the timers of `coro.kernel`, and outside the loop on SIGALRM and setitimer(2).  Both forms have one rule: the
exception that unwinds the inner frames is an `Interrupted` that names its timeout, and only the frame that owns this
timeout turns it into `TimeoutError`.  So an inner ``except TimeoutError`` never catches what belongs to an outer frame.
"""

from __future__ import annotations

import signal
import threading
import time
import warnings
from collections.abc import Callable
from math import inf
from types import FrameType, TracebackType
from typing import Any, Final, ParamSpec, TypeVar

from .coroutine import coro
from .exceptions import Interrupted, TimeoutError
from .kernel import Kernel, Timeout, calling, monotonic, this_kernel, worker

__all__ = ["timeout", "with_timeout"]

P = ParamSpec("P")
T = TypeVar("T")


def with_timeout(delta: float, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call ``function(*args, **kwargs)`` here and now, for at most *delta* seconds.

    Args:
        delta: seconds, int or float.  0 or less is over at once, which the function notices when it first blocks;
            infinity is never.
        function: what to call, in the calling coroutine.  Its result is returned, its exceptions pass through.

    Raises `TimeoutError` when the function was blocked as the time ran out.  A function that returns late without
    blocking is not disturbed, and a wake-up that came before the timeout is delivered first.  Of two timeouts with the
    same deadline the outer one wins.  TypeError and ValueError for None and NaN.

    Outside a coroutine the same is done with SIGALRM, which needs the main thread and a platform that has setitimer(2).
    """
    try:
        kernel = worker().kernel
        co = kernel.current
        if co is None:
            kernel, co = calling()
    except AttributeError:
        found = somewhere()
        if found is None:
            with Alarm(delta):
                return function(*args, **kwargs)
        kernel, co = found
    # Kernel.begin_timeout and end_timeout, spelt out: two frames less
    ours: Timeout | None = None
    try:  # from here on: it must not stay armed, whatever comes between any two of these lines
        if delta > 0:
            ours = [co, monotonic() + delta, None, None]
            ours[3] = kernel.unarmed  # not in the line before: what makes the list may run the garbage collector
            kernel.unarmed = ours
        else:
            check_seconds(delta)
            ours = kernel.begin_timeout(co, delta)
        if kwargs:
            value = function(*args, **kwargs)
        elif not args:
            value = function()  # type: ignore[call-arg]
        elif len(args) == 1:  # by hand, as in Kernel._work
            value = function(args[0])  # type: ignore[call-arg, arg-type]
        else:
            value = function(*args, **kwargs)
        if kernel.unarmed is ours:
            kernel.unarmed = ours[3]
            return value
        if ours[2] is not None:
            check_swallowed(ours[2], co, delta)
        kernel.end_timeout(ours)
        return value
    except BaseException as exc:
        if ours is None:  # perhaps because *delta* is no number, which the comparison has said in its own words
            try:
                check_seconds(delta)
            except (TypeError, ValueError) as wrong:
                raise wrong from None
            raise
        expires = ours[2] is exc
        if kernel.unarmed is ours:  # without a call: the stack may be full
            kernel.unarmed = ours[3]
            ours[3] = None  # the exception may be kept, and with it this frame
        else:
            kernel.end_timeout(ours)
        if expires:
            raise expired(delta) from None
        raise


class timeout:
    """``with coro.timeout(seconds):`` puts a block under a timeout, with the rules of `with_timeout`.

    Args:
        seconds: how long the block may take; 0 or less is over at the first blocking call, infinity is never.

    Raises `TimeoutError` at the end of the block if it was interrupted.  One object serves one block.
    """

    __slots__ = ("_alarm", "_kernel", "_ours", "seconds")

    def __init__(self, seconds: float) -> None:
        check_seconds(seconds)
        self.seconds = seconds
        self._kernel: Kernel | None = None
        self._ours: Timeout | None = None
        self._alarm: Alarm | None = None

    def __enter__(self) -> timeout:
        if self._ours is not None or self._alarm is not None:
            raise RuntimeError(f"{self!r} is in use already: make one timeout for each block")
        found = somewhere()
        if found is None:
            self._alarm = Alarm(self.seconds)
            self._alarm.__enter__()
        else:
            self._kernel, co = found
            self._ours = self._kernel.begin_timeout(co, self.seconds)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._alarm is not None:
            alarm, self._alarm = self._alarm, None
            alarm.__exit__(kind, exc, traceback)
            return
        ours, kernel = self._ours, self._kernel
        assert ours is not None
        assert kernel is not None
        self._ours = None
        co, _, interrupt, _ = ours
        try:
            if interrupt is not None and exc is None and co is not None:
                check_swallowed(interrupt, co, self.seconds)
        finally:
            kernel.end_timeout(ours)
        if interrupt is not None and exc is interrupt:
            raise expired(self.seconds) from None

    def __repr__(self) -> str:
        return f"<coro.timeout of {self.seconds:g} s>"


def somewhere() -> tuple[Kernel, coro] | None:
    """Return the kernel and coroutine of the caller; None where no loop runs, so that SIGALRM must serve."""
    kernel = this_kernel()
    if not kernel.running:
        return None
    return calling()


def expired(seconds: float) -> TimeoutError:
    """Make the error that the owner of a timeout raises."""
    error = TimeoutError(f"timed out after {seconds:g} s")
    error.seconds = seconds
    return error


def check_seconds(seconds: Any) -> None:
    """Refuse what is no length of time: TypeError for None and other types, ValueError for NaN."""
    if not isinstance(seconds, (int, float)):
        raise TypeError(f"a timeout is a number of seconds (infinity for none), not {seconds!r}")
    if seconds != seconds:
        raise ValueError("a timeout cannot be NaN seconds")


def check_swallowed(interrupt: Interrupted | bool, co: coro, seconds: float) -> None:
    """Warn if the function has caught and hidden the interrupt of its timeout (D-11)."""
    if isinstance(interrupt, Interrupted) and interrupt.__traceback__ is not None:  # it was really raised
        warnings.warn(
            f"{co!r} has swallowed its timeout of {seconds:g} s: code that may run under a timeout must let "
            "coro.Interrupted pass",
            RuntimeWarning,
            stacklevel=3,
        )


class Alarm:
    """A timeout outside the loop: SIGALRM, raised by setitimer(2), interrupts the main thread.

    Alarms nest, and keep an alarm that the program itself has set: it goes off when it is due, late if that was
    while ours was in force.
    """

    __slots__ = ("deadline", "interrupt", "old_delay", "old_handler", "old_interval", "seconds", "since")

    def __init__(self, seconds: float) -> None:
        check_seconds(seconds)
        self.seconds = seconds
        self.interrupt: Interrupted | None = None

    def __enter__(self) -> None:
        if not hasattr(signal, "setitimer"):
            raise RuntimeError("a timeout outside a coroutine needs setitimer(2), which this platform does not have")
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("a timeout outside a coroutine works in the main thread only: run an event loop here")
        self.since = time.monotonic()
        self.deadline = self.since + self.seconds
        self.old_delay, self.old_interval = signal.setitimer(signal.ITIMER_REAL, 0)
        self.old_handler = signal.signal(signal.SIGALRM, self._ring)
        _alarms.append(self)
        self._set()

    def _set(self) -> None:
        """Let the timer run out at the earliest deadline of those in force."""
        due = min(alarm.deadline for alarm in _alarms)
        outermost = _alarms[0]
        if outermost.old_delay and callable(outermost.old_handler):
            due = min(due, outermost.since + outermost.old_delay)
        # Again and again: a signal that arrives just before a system call begins does not interrupt it.
        signal.setitimer(signal.ITIMER_REAL, 0 if due == inf else max(due - time.monotonic(), MOMENT), AGAIN)

    def _ring(self, signum: int, frame: FrameType | None) -> None:
        if not _alarms or within(frame, *Alarm.SILENT):
            return  # the block has not begun, or is over in time: it is the block that must be interrupted
        now = time.monotonic()
        outermost = _alarms[0]
        if outermost.old_delay and outermost.since + outermost.old_delay <= now and callable(outermost.old_handler):
            # the program's own alarm: serve it, and set it again if it is periodic
            outermost.since += outermost.old_delay
            outermost.old_delay = outermost.old_interval
            outermost.old_handler(signum, frame)
            now = time.monotonic()
        for alarm in _alarms:  # the outer one first, as with equal deadlines in the loop
            if alarm.deadline <= now:
                alarm.deadline = inf
                alarm.interrupt = Interrupted(alarm)
                self._set()
                raise alarm.interrupt
        self._set()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        _alarms.remove(self)
        signal.signal(signal.SIGALRM, self.old_handler)
        if _alarms:
            _alarms[0]._set()
        elif self.old_delay:
            left = self.since + self.old_delay - time.monotonic()
            signal.setitimer(signal.ITIMER_REAL, max(left, MOMENT), self.old_interval)
        if exc is not None and exc is self.interrupt:
            raise expired(self.seconds) from None

    SILENT = (__enter__, __exit__)


MOMENT: Final = 1e-6  # seconds: short, but not 0, which setitimer takes for "never"
AGAIN: Final = 0.01


def within(frame: FrameType | None, *functions: Any) -> bool:
    """Return whether *frame* is that of one of *functions*, or at most a few calls below it."""
    for _ in range(5):
        if frame is None:
            return False
        if any(frame.f_code is function.__code__ for function in functions):
            return True
        frame = frame.f_back
    return False


_alarms: list[Alarm] = []  # those in force in the main thread, the outermost first
