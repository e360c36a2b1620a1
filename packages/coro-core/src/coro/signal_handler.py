"""Signals for coroutines: each signal runs its handler in a coroutine of its own, where it may block.

Stands on `coro.kernel` and on Python's own signal handlers.  Nothing is blocked in the signal mask, which children
would inherit: what is installed is an ordinary handler that leaves a note, the byte that `signal.set_wakeup_fd` writes
ends the poll, and the loop then makes the coroutine.

A registration is a setting of the program.  It may be made before the loop, outlives it and holds for the next one; but
only while the loop of the main thread runs is the signal really taken.  At other times, and again after `unregister`,
the signal does what it did before: what the program has set, or the default.
"""

from __future__ import annotations

import signal
import threading
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from functools import partial
from types import FrameType
from typing import Any, Final

from .coroutine import MAIN, coro, made
from .exceptions import SimultaneousError
from .kernel import Kernel, this_kernel
from .verbs import check_body

__all__ = ["register", "register_signal_handler", "unregister", "unregister_signal_handler"]


class Registration:
    """Who is to be called for a signal."""

    __slots__ = ("co", "context", "handler", "once_only")

    def __init__(self, handler: Callable[[int], object], once_only: bool, context: Context, co: coro) -> None:
        self.handler = handler
        self.once_only = once_only
        self.context = context
        self.co = co  # who has registered it


_registered: Final[dict[int, Registration]] = {}
taken: Final[dict[int, Any]] = {}  # those of them that a loop has installed, with the handler that was there before
_arrived: Final[deque[int]] = deque()  # those that have come and for which no coroutine has been made yet


def register(signum: int, handler: Callable[[int], object], once_only: bool = False) -> None:
    """Call ``handler(signum)`` in a new coroutine each time that the signal comes while the loop runs.

    Args:
        signum: the signal, such as ``signal.SIGHUP``.  For SIGINT and SIGTERM it replaces what the loop does otherwise.
        handler: a function of one argument.  It may block.  What it raises is reported as for any coroutine, and the
            next signal is served all the same.  It runs in a copy of the caller's context variables.
        once_only: unregister it as the first signal is served.

    Signals that come in quick succession may be merged, but a run always follows the last one.  As long as something is
    registered a running loop has something to wait for.  For the main thread only, in its loop or before it.

    Raises `SimultaneousError` if the signal has a handler already, RuntimeError in another thread than the main one,
    ValueError for what is no signal or cannot be caught (SIGKILL), TypeError for a wrong argument.
    """
    signum = check(signum)
    check_body(handler)
    kernel = this_kernel()
    me = kernel.current or MAIN
    if signum in _registered:
        raise SimultaneousError(me, _registered[signum].co, ("signal", signum))
    try:
        old = signal.getsignal(signum)
        if old is not None:
            signal.signal(signum, old)  # changes nothing, but tells whether it could be changed
    except (OSError, ValueError) as exc:
        raise ValueError(f"signal {signum} cannot be caught on this platform: {exc}") from None
    _registered[signum] = Registration(handler, bool(once_only), copy_context(), me)
    if kernel.on_wake is not None:  # the loop takes signals: it is running, and in a forked child it has gone on
        install(kernel, signum)


def unregister(signum: int) -> bool:
    """Let the signal do again what it did before `register`.  Returns False if nothing was registered for it.

    Handlers that are running go on.  Raises as `register` does.
    """
    signum = check(signum)
    if signum not in _registered:
        return False
    if signum in taken:
        put_back(this_kernel(), signum)
    del _registered[signum]
    return True


register_signal_handler = register
unregister_signal_handler = unregister


def check(signum: Any) -> int:
    """Refuse what is no signal, and callers outside the main thread."""
    if not isinstance(signum, int) or isinstance(signum, bool):
        raise TypeError(f"a signal is a number such as signal.SIGHUP, not {signum!r}")
    if signum not in signal.valid_signals():
        raise ValueError(f"there is no signal {signum!r} on this platform")
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("signals reach the main thread only: register their handlers there, in its loop or before")
    return int(signum)


# -- for the loop ----------------------------------------------------------------------------------------------------


def take(kernel: Kernel) -> None:
    """The loop of the main thread begins: install all that is registered."""
    kernel.on_wake = partial(deliver, kernel)
    for signum in _registered:
        install(kernel, signum)


def give_back(kernel: Kernel) -> None:
    """The loop of the main thread ends, or a child was forked: put back what was there before."""
    for signum in list(taken):
        put_back(kernel, signum)
    _arrived.clear()
    kernel.on_wake = None


def install(kernel: Kernel, signum: int) -> None:
    taken[signum] = signal.signal(signum, note)
    kernel.externals += 1


def put_back(kernel: Kernel, signum: int) -> None:
    if signal.getsignal(signum) is note:  # else the program has set another one meanwhile
        old = taken[signum]
        signal.signal(signum, signal.SIG_DFL if old is None else old)  # None: not set by Python, hence lost
    del taken[signum]  # last: the calls above fail on a full stack
    if kernel.externals:  # the end of a loop has set it to 0; a loop that could not begin has not
        kernel.externals -= 1


def note(signum: int, frame: FrameType | None) -> None:
    """Leave a note and wake the loop: a Python signal handler, which may run between any two instructions."""
    if signum not in _arrived:
        _arrived.append(signum)
    this_kernel().wake_up()


def deliver(kernel: Kernel) -> None:
    """Make the coroutines for the signals that have come: called in the poll."""
    while _arrived:
        signum = _arrived[0]
        registration = _registered.get(signum)
        if registration is not None:  # else unregistered meanwhile
            if registration.once_only:
                unregister(signum)
            kernel.launch(made(coro(), kernel, registration.handler, (signum,), {}, None, registration.context.copy()))
        _arrived.popleft()  # last: if the stack is full the hub tries again
