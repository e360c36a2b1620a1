"""Running the loop: `event_loop`, `run`, `set_exit`, and what SIGINT and SIGTERM mean meanwhile.

Stands on `coro.kernel`.  The loop of the main thread takes SIGINT and SIGTERM while it runs, unless the program has
handlers of its own or sets ``coro.install_signal_handlers = False``.  The handler only leaves a note: the byte that
`signal.set_wakeup_fd` writes ends the poll, and the loop then unwinds all coroutines.  So a KeyboardInterrupt is never
raised in the scheduler, nor in a coroutine that happens to run.  Only a second ^C is, in a coroutine that does not give
way, because nothing else could end it.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

from . import signal_handler
from .coroutine import coro
from .exceptions import DeadCoroutine, DeadlockError, Shutdown
from .kernel import Kernel, this_kernel
from .latency import watch
from .report import made_at, print_stderr, waits_for, where
from .running import open_kernel, run_kernel
from .verbs import check_body, spawn

__all__ = [
    "coro_is_running",
    "event_loop",
    "run",
    "set_exit",
    "set_exit_grace",
    "set_print_exit_string",
]

T = TypeVar("T")

_print_exit_string = True
_grace = 5.0  # seconds


def set_print_exit_string(val: object) -> None:
    """Choose whether `event_loop` prints "Exiting..." to stderr when it ends (default: it does)."""
    global _print_exit_string
    _print_exit_string = bool(val)


def set_exit_grace(seconds: float) -> float:
    """Set how many seconds the coroutines that are left get to unwind when a loop ends (default 5).

    Returns the old value.  Whoever has not ended by then is named on stderr and abandoned.
    """
    global _grace
    if not isinstance(seconds, (int, float)):
        raise TypeError(f"a grace time is a number of seconds, not {seconds!r}")
    if not seconds >= 0:
        raise ValueError(f"a grace time cannot be {seconds!r} seconds")
    old, _grace = _grace, float(seconds)
    return old


def coro_is_running() -> bool:
    """Return whether the event loop of this thread is running."""
    return this_kernel().running


def set_exit(exit_code: Any = 0) -> None:
    """End the event loop of this thread.

    The coroutines that are ready still run, and all that these make ready; then `Shutdown` is raised in those that are
    left, so that their ``finally`` blocks run, and `event_loop` raises ``SystemExit(exit_code)``.  The last call wins.
    Before the loop it makes the next one end as soon as those that are ready have run.
    """
    this_kernel().set_exit(exit_code)


def event_loop(timeout: float = 30, *, poller: Any = None) -> None:
    """Run the coroutines of this thread until somebody calls `set_exit`.  It can be run again afterwards.

    Args:
        timeout: seconds, int or float, that one poll may last at most.  Not meant to be changed.
        poller: a poller's name, class or instance; by default ``CORO_POLLER`` and then the priorities decide.

    Raises `SystemExit` with the code of `set_exit`, which SIGTERM and SIGINT call with 0, and whatever else ended the
    loop: a `KeyboardInterrupt`, or the error of a poller that fails for good.  `NoPollerError` if there is no poller,
    RuntimeError if the loop of this thread is running already.

    When nothing is left that could ever happen, it says so once on stderr and goes on waiting for signals.
    """
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"the timeout of an event loop is a number of seconds, not {timeout!r}")
    if not timeout > 0:
        raise ValueError(f"the timeout of an event loop must be more than 0 seconds, not {timeout!r}")
    kernel = this_kernel()

    def on_deadlock() -> None:
        kernel.on_deadlock = None
        print_stderr(f"{deadlock_text(kernel)}The event loop waits for signals.")

    with signals(kernel, lambda signum: kernel.set_exit(0)), watch(kernel):
        open_kernel(kernel, poller)
        kernel.on_deadlock = on_deadlock
        try:
            code = run_kernel(kernel, timeout, lambda: _grace)
        finally:
            kernel.on_deadlock = None
            if _print_exit_string:
                print_stderr("Exiting...")
    raise SystemExit(code)


def run(fn: Callable[..., T], /, *args: Any) -> T:
    """Run ``fn(*args)`` as the main coroutine of an event loop and return what it returns, or raise what it raises.

    The coroutines that it leaves behind are shut down first.  ``CORO_POLLER`` or the priorities choose the poller.

    Raises `DeadlockError` when nothing can ever happen again, KeyboardInterrupt for SIGINT, ``SystemExit(143)`` for
    SIGTERM, ``SystemExit(code)`` if somebody calls ``set_exit(code)``, and RuntimeError inside a running loop.
    """
    check_body(fn)
    kernel = this_kernel()
    finished = False
    value: list[T] = []
    error: list[BaseException] = []

    def main() -> None:
        nonlocal finished
        try:
            value.append(fn(*args))
        except BaseException as exc:
            error.append(exc)
        finished = not kernel.exiting  # else somebody has ended the loop before
        kernel.exiting = True

    def on_deadlock() -> None:
        exc, _ = co._error or (None, None)
        # Out of memory, a coroutine can end before the first line of its function.
        kernel.fail(exc if isinstance(exc, MemoryError) else DeadlockError(deadlock_text(kernel)))

    def on_signal(signum: int) -> None:
        if signum == signal.SIGINT:
            kernel.fail(KeyboardInterrupt())
        else:
            kernel.set_exit(128 + signum)

    caller = sys._getframe(1)
    with signals(kernel, on_signal) as late, watch(kernel):
        open_kernel(kernel, None)
        kernel.on_deadlock = on_deadlock
        co = spawn(main, thread_name=getattr(fn, "__qualname__", None) or repr(fn))
        co._made_in, co._made_at = caller.f_code, caller.f_lasti
        del caller
        try:
            code = run_kernel(kernel, 30, lambda: _grace)
        finally:
            kernel.on_deadlock = None
    if late:
        raise late.pop()
    if not finished:
        raise SystemExit(code)
    if not error:
        return value[0]
    if isinstance(error[0], Shutdown):
        raise DeadCoroutine(co, "was the main coroutine and was shut down")
    raise error[0]


def deadlock_text(kernel: Kernel) -> str:
    """Say that nothing can happen any more, and list who is blocked where."""
    blocked: list[coro] = list(kernel.live.values())
    if not blocked:
        return "Nothing is left to do: all coroutines have ended, and nobody has called set_exit().  "
    lines = "".join(f"\n  {co!r}, made at [{made_at(co)}], waits for {waits_for(co)} at {where(co)}" for co in blocked)
    return f"Deadlock: every coroutine is blocked, and no timer, descriptor or thread is there to wake one:{lines}\n"


@contextmanager
def signals(kernel: Kernel, on_signal: Callable[[int], None]) -> Iterator[list[BaseException]]:
    """While the block runs, in the main thread, take SIGINT and SIGTERM and let any signal end a poll.

    In the list is, after the block, what is to be raised because of a signal that came when the loop had ended already.
    """
    package = sys.modules[__package__]
    late: list[BaseException] = []
    if threading.current_thread() is not threading.main_thread():
        yield late
        return

    def handler(signum: int, frame: FrameType | None) -> None:
        forced = kernel.exiting
        on_signal(signum)
        kernel.wake_up()
        if forced and signum == signal.SIGINT:
            kernel.deadline = 0.0
            kernel.ready.appendleft(kernel.poll)  # look at it before anything else is run
            if kernel.current is not None:
                raise KeyboardInterrupt

    previous: dict[int, Any] = {}
    defaults: dict[int, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}

    def take() -> None:
        if getattr(package, "install_signal_handlers", True):
            for signum, default in defaults.items():
                if signal.getsignal(signum) == default:
                    previous[signum] = signal.signal(signum, handler)
        signal_handler.take(kernel)  # last, and given back first: in the place of ours

    def give_back() -> None:
        signal_handler.give_back(kernel)
        while previous:
            signal.signal(*previous.popitem())

    kernel.signals = take, give_back, previous
    try:
        take()
        yield late
    finally:
        kernel.signals = None
        give_back()
        if kernel.exiting and not kernel.running:  # the next loop is not to end because of it
            late.append(kernel.failure or SystemExit(kernel.exit_code))
            kernel.exiting, kernel.failure, kernel.exit_code = False, None, 0
