"""One run of a kernel: what it gets from the system and gives back, and what it leaves behind, which is nothing.

Stands on `coro.kernel`.  `coro.loop` calls this; so does `coro.processes`, for the poller of a forked child.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Any

from greenlet import getcurrent

from .kernel import DRAIN_POLLS, LONGEST_WAIT, NOBODY, READ, Kernel, Worker, monotonic

if TYPE_CHECKING:
    from greenlet import greenlet

__all__ = ["close_kernel", "open_kernel", "run_kernel"]

#: The greenlets of coroutines that refused to end: freeing one would raise GreenletExit in it, to be refused again.
abandoned: list[greenlet | None] = []


def open_kernel(kernel: Kernel, poller: Any) -> None:
    """Get a poller and the waker: what a run needs of the system.  Whoever succeeds must call `run_kernel`."""
    from . import processes  # noqa: F401  has each forked child forget what is its parent's
    from .discovery import open_poller

    if kernel.running and kernel.poller is not None:
        raise RuntimeError("the event loop of this thread is running already: spawn a coroutine in it instead")
    close_kernel(kernel)  # what a KeyboardInterrupt before `run_kernel` has left
    kernel.poller_name, kernel.poller = open_poller(poller)
    given = type(poller) if poller is kernel.poller else poller
    kernel.request = kernel.poller_name if poller is None or isinstance(poller, str) else given
    try:
        from socket import socketpair  # not needed before, and costs as much as this package

        kernel.wake_read, kernel.wake_write = socketpair()
        kernel.wake_read.setblocking(False)
        kernel.wake_write.setblocking(False)
        kernel.woken = False  # a thread that came too late for the last run may have left it set
        kernel.poller.arm(kernel.wake_read.fileno(), READ)
        if threading.current_thread() is threading.main_thread():
            kernel.old_wakeup_fd = signal.set_wakeup_fd(kernel.wake_write.fileno(), warn_on_full_buffer=False)
    except BaseException:
        close_kernel(kernel)
        raise


def run_kernel(kernel: Kernel, max_wait: float, grace: Callable[[], float]) -> Any:
    """Run until somebody ends it, then give the coroutines that are left ``grace()`` seconds to unwind.

    Returns the exit code.  Raises what `fail` was given.  Releases all that `open_kernel` got, on every way out.
    """
    kernel.max_wait = min(max_wait, LONGEST_WAIT)
    kernel.hub = getcurrent()
    try:
        kernel.running = True
        kernel.polled = monotonic()
        dispatch(kernel)
        for shut in list(kernel.at_end):
            shut()
        kernel.deadline = monotonic() + grace()
        kernel.ready.appendleft(kernel.tell)
        dispatch(kernel)
        if kernel.failure is not None:
            raise kernel.failure
        return kernel.exit_code
    finally:
        tidy(kernel, grace())
        close_kernel(kernel)


def dispatch(kernel: Kernel) -> None:
    """Run coroutines until `stop`."""
    while True:
        try:
            serve(kernel)  # a function of its own, because CPython's backward jumps are not covered by a try
            return
        except BaseException as exc:  # a signal handler that raised while the hub ran: its turn
            kernel.current = None
            kernel.ready.appendleft(kernel.repair)
            kernel._turn_failed(exc)


def serve(kernel: Kernel) -> None:
    """Be the hub.  The part that it has is to make greenlets."""
    while not kernel.stop:
        entry = kernel.next_entry()
        if entry is not kernel.start:
            entry = entry()
        while entry is kernel.start:
            kernel.current = None
            if kernel.newborn[0]._dead:
                kernel.newborn.popleft()
                break
            new = Worker(kernel._work, kernel.hub)
            new.kernel = kernel
            entry = new.switch()
    kernel.stop = False


def tidy(kernel: Kernel, grace: float) -> None:
    """Leave nothing behind: no greenlet, timer, descriptor or waiter.  The loop may be run again."""
    kernel.current = None
    kernel.running = False
    for co in list(kernel.live.values()):
        from .report import print_stderr

        print_stderr(f"{co!r} did not end within {grace:g} s of its shutdown and is abandoned")
        abandoned.append(co._greenlet)
        kernel.bury(co)
    while kernel.idle:
        kernel.idle.pop()(None)
    for queue in (kernel.ready, kernel.yielded, kernel.newborn, kernel.inbox, kernel.events, kernel.timers):
        queue.clear()
    for entry in kernel.fds.values():
        entry.kernel = None
    for table in (kernel.timer_map, kernel.fds, kernel.told, kernel.stale):
        table.clear()
    kernel.budget = kernel.limit
    kernel.exiting = kernel.stop = False
    kernel.exit_code = kernel.failures = 0
    kernel.failure = kernel.hub = kernel.waited_for = kernel.unarmed = None
    kernel.body = NOBODY
    kernel.drain, kernel.deadline = DRAIN_POLLS, inf
    for shut in list(kernel.at_end):  # opened meanwhile
        shut()
    kernel.externals = 0


def close_kernel(kernel: Kernel) -> None:
    """Give back to the system what `open_kernel` got."""
    if kernel.old_wakeup_fd is not None:
        try:
            signal.set_wakeup_fd(kernel.old_wakeup_fd)
        except (OSError, ValueError):  # the program has closed it meanwhile
            signal.set_wakeup_fd(-1)
        kernel.old_wakeup_fd = None
    kernel.woken = False
    if kernel.poller is not None:
        kernel.poller.close()
    for end in (kernel.wake_read, kernel.wake_write):
        if end is not None:
            end.close()
    kernel.poller = kernel.wake_read = kernel.wake_write = None
