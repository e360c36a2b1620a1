"""Processes: waiting for the end of a child, and what a forked child keeps of coro.

Stands on `coro.kernel` and on the poller's ``process_fd``.

A fork copies everything: the coroutines, what they wait for, and descriptors that both processes then share.  A child
that went on with all that would do the work of its parent a second time.  So `os.register_at_fork` has each child, made
by whatever means, forget it: of its coroutines there remains the one that forked, if it was one.  The others are not
unwound, since their ``finally`` blocks belong to the parent: they count as dead, and stay where they are for good,
because to free a greenlet is to raise GreenletExit in it.  The poller is closed, never asked to unregister, which
would undo what the parent has registered.  A new one is opened once the child blocks; until then the child takes no
signals for its loop either, so that one which only runs some function and exits can be interrupted and terminated.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from math import inf
from typing import Any, Final

from . import signal_handler
from .coroutine import CANCELLED, all_threads, coro
from .exceptions import DeadCoroutine, SimultaneousError
from .kernel import READ, Kernel, calling, this_kernel
from .running import close_kernel, open_kernel
from .verbs import wait_for

__all__ = ["fork", "waitpid"]

# -- waiting for a child ---------------------------------------------------------------------------------------------

_waiters: Final[dict[int, coro]] = {}  # by process: only one can get the status, whatever its thread
_watchers: Final[dict[int, Watcher]] = {}  # likewise
_descriptors: Final[set[int]] = set()  # those of process_fd that are open


def waitpid(pid: int) -> tuple[int, int]:
    """Block until the child *pid* has ended.  Returns ``(pid, status)`` with the raw wait status.

    `os.waitstatus_to_exitcode` makes an exit code of that.  A child that has ended before is dealt with at once.
    If the wait is interrupted, say by a timeout, the child can be waited for again.

    Args:
        pid: the id of one child of this process, more than 0.

    Raises `ChildProcessError` if there is no such child, or somebody else has waited for it, `SimultaneousError` if
    another coroutine waits for the same one, TypeError and ValueError for what is no process id, `YieldFromMain`
    outside a coroutine.
    """
    if not isinstance(pid, int) or isinstance(pid, bool):
        raise TypeError(f"waitpid() needs the id of a process, an int, not {pid!r}")
    if not 0 < pid < 1 << 31:
        raise ValueError(f"waitpid() needs the id of one process, an int more than 0, not {pid!r}")
    if not hasattr(os, "WNOHANG"):
        raise RuntimeError("waitpid() needs the waitpid(2) of POSIX: here use coro.to_thread(process.wait)")
    kernel, co = calling()
    other = _waiters.setdefault(pid, co)
    if other is not co:
        if not other._dead:
            raise SimultaneousError(co, other, ("process", pid))
        _waiters[pid] = co  # the other was abandoned at the end of its loop
    fd = None
    try:
        while (found := reap(pid)) is None:
            if fd is None and pid not in _watchers:
                fd = open_process(kernel, pid)
            if fd is not None:
                wait_for(kernel, co, fd, READ)
            else:
                wait_in_thread(kernel, co, pid)
        return found
    finally:
        if fd is not None:
            _descriptors.discard(fd)
            os.close(fd)
        _waiters.pop(pid, None)


def reap(pid: int) -> tuple[int, int] | None:
    """Return the id and the status of a child that has ended, None for one that has not."""
    watcher = _watchers.get(pid)
    try:
        found = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        if watcher is None:
            text = f"process {pid} is no child of this process, or somebody has waited for its end already"
            raise ChildProcessError(errno.ECHILD, text) from None
        if not watcher.done:
            return None  # its thread is about to say how it ended
        _watchers.pop(pid, None)
        return watcher.found or reap(pid)
    if watcher is not None and watcher.done:
        _watchers.pop(pid, None)  # what it has found is of an earlier child that had the same id
    return found if found[0] else None


def open_process(kernel: Kernel, pid: int) -> int | None:
    """Return a descriptor that turns readable when *pid* ends and for which the poller can wait, None if none can."""
    try:
        fd = kernel.poller.process_fd(pid)  # type: ignore[union-attr]
    except (OSError, NotImplementedError):
        return None
    try:
        kernel.poller.arm(fd, READ)  # type: ignore[union-attr]  # to see whether it can: select has a limit
    except OSError:
        os.close(fd)
        return None
    _descriptors.add(fd)
    return fd


class Watcher:
    """A thread that waits for the end of a process.  There is one for each, however often its waiter is interrupted.

    It leaves the status to whoever asks next, where waitid(2) can do that.  Elsewhere it keeps the status itself.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.waiter: coro | None = None
        self.found: tuple[int, int] | None = None
        self.done = False
        threading.Thread(target=self.run, name=f"coro waits for process {pid}", daemon=True).start()

    def run(self) -> None:
        with suppress(OSError):  # somebody else has got the status: the waiter will hear so from waitpid(2)
            if hasattr(os, "waitid"):
                os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
            else:
                self.found = os.waitpid(self.pid, 0)
        if self.found is None:
            _watchers.pop(self.pid, None)
        self.done = True
        waiter = self.waiter  # after `done`, which whoever waits reads after it has set this
        if waiter is not None:
            waiter._kernel.inbox.append(partial(self.tell, waiter))
            waiter._kernel.wake_up()

    def tell(self, waiter: coro) -> None:
        """In the thread of the waiter, which may have given up meanwhile."""
        if self.waiter is waiter:
            waiter._kernel.wake(waiter)


def wait_in_thread(kernel: Kernel, co: coro, pid: int) -> None:
    """Block until a thread says that *pid* has ended, or until woken for no reason."""
    watcher = _watchers.get(pid)
    if watcher is None:
        watcher = _watchers[pid] = Watcher(pid)
    watcher.waiter = co
    kernel.externals += 1
    try:
        if not watcher.done:
            kernel.park(co)
    finally:
        kernel.externals -= 1
        watcher.waiter = None


# -- fork ------------------------------------------------------------------------------------------------------------

_inherited: Final[list[object]] = []  # what belongs to the parent: never freed in a child


def fork() -> int:
    """Fork this process, as `os.fork` does.  Returns 0 in the child and the id of the child in the parent.

    In the child the calling coroutine goes on as the only one, still under its own timeouts; the others are dead there
    without having been unwound, those not yet started included.  Its event loop goes on too, with a poller of the same
    kind: what stands after `event_loop` or `run` is executed in the child as well, unless it ends by `os._exit`.  When
    the main function of `run` was not the caller, nothing is left to return its result: `run` raises `DeadlockError`
    in the child once the caller has ended.  In the main program, all coroutines are dead in the child.

    The same holds for `os.fork`, and for whatever calls it, such as `multiprocessing`.
    Raises OSError if the system refuses, RuntimeError where there is no fork(2).
    """
    if not hasattr(os, "fork"):
        raise RuntimeError("this platform has no fork(2): use subprocess, or multiprocessing with 'spawn'")
    return os.fork()


class _Mask(threading.local):
    blocked: Iterable[int] = ()  # the signals that this thread had blocked before the fork


_mask: Final = _Mask()


def before_fork() -> None:
    """Hold back what a loop has taken: what came to the child before that is given back would be lost.

    But not SIGINT, whose usual handler would raise KeyboardInterrupt in `after_fork`, where nobody could catch it.
    """
    taken = set(signal_handler.taken)
    for kernel in list(all_threads.kernels):
        signals = kernel.signals  # once: another thread may end its loop just now
        if signals is not None:
            taken.update(signals[2])
    _mask.blocked = signal.pthread_sigmask(signal.SIG_BLOCK, taken - {signal.SIGINT})


def after_fork() -> None:
    """Let it come."""
    signal.pthread_sigmask(signal.SIG_SETMASK, _mask.blocked)


def after_fork_in_child() -> None:
    """Forget what the parent was doing, in all of its threads."""
    try:
        forget_all()
    finally:
        after_fork()


def forget_all() -> None:
    mine = this_kernel()
    for kernel in list(all_threads.kernels):
        forget(kernel, kernel.current if kernel is mine else None)
    _waiters.clear()
    _watchers.clear()
    for fd in _descriptors if hasattr(os, "pidfd_open") else ():  # a kqueue is not inherited: its number is free
        with suppress(OSError):
            os.close(fd)
    _descriptors.clear()


def forget(kernel: Kernel, survivor: coro | None) -> None:
    """Leave nothing of *kernel* but its hub, its spare workers and *survivor*, with the timeouts that it is under."""
    for co in (*kernel.live.values(), *kernel.unstarted.values()):
        if co is not survivor:
            if not co.started:
                co._value = CANCELLED
            co._dead = True
            co._scheduled = 0
            co._pending = co._joiners = None
            co._error = DeadCoroutine(co, "belongs to the parent process: it does not run in a forked child"), None
            _inherited.append(co)
    kernel.live.clear()
    kernel.unstarted.clear()
    kernel.stale.clear()
    targets: list[Any] = []
    if survivor is not None:
        kernel.live[survivor._id] = survivor
        survivor._joiners = None
        survivor._collected = 0
        for target in (*kernel.timer_map.values(), *kernel.begun()):  # hence the outer ones first
            targets.extend(target.values() if type(target) is dict else (target,))
    kernel.timers.clear()
    kernel.timer_map.clear()
    kernel.unarmed = None
    for target in {id(target): target for target in targets}.values():  # one in both would make a ring
        if type(target) is list and target[0] is survivor:
            target[3] = kernel.unarmed
            kernel.unarmed = target
    kernel.next_review, kernel.on_review = inf, None
    for queue in (kernel.ready, kernel.yielded, kernel.newborn, kernel.inbox, kernel.events):
        queue.clear()
    kernel.budget = 0
    kernel.ready.append(kernel.poll)
    for fd, entry in list(kernel.fds.items()):
        if entry.owned:
            entry.reader = entry.writer = None
            entry.readable = entry.writable = True  # as far as anybody knows
            entry.hung_up = False
        else:
            del kernel.fds[fd]
    kernel.at_end.clear()
    if kernel.signals is not None:
        kernel.signals[1]()
    kernel.externals = 0
    kernel.thread = threading.get_ident()
    if kernel.poller is not None:
        close_kernel(kernel)
        kernel.poller = Unopened(kernel)  # type: ignore[assignment]


class Unopened:
    """Stands for the poller in a forked child, until somebody asks it for something: then a new one is opened."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel

    def close(self) -> None:
        """Nothing has been opened."""

    def __getattr__(self, name: str) -> Any:
        kernel = self.kernel
        kernel.poller = None
        try:
            open_kernel(kernel, kernel.request)
        except BaseException:
            kernel.poller = self  # type: ignore[assignment]
            raise
        poller = kernel.poller
        assert poller is not None
        for fd, entry in kernel.fds.items():
            if entry.edge:
                with suppress(OSError):  # whoever uses it will meet the error itself
                    poller.register(fd)
        if kernel.signals is not None:
            kernel.signals[0]()
        kernel.woken = False
        if kernel.inbox:  # filled while there was nothing to wake
            kernel.wake_up()
        return getattr(poller, name)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=before_fork, after_in_parent=after_fork, after_in_child=after_fork_in_child)
