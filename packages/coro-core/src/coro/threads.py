"""Coroutines and threads: `Portal`, the door by which other threads reach a loop, and `to_thread`, the way out.

Stands on `coro.kernel`, whose inbox is the one thing that another thread may touch, and on `concurrent.futures`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import Context, copy_context
from functools import partial
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Final, ParamSpec, TypeVar

from .coroutine import at_end, coro
from .exceptions import DeadCoroutine, Shutdown
from .kernel import Kernel, calling, this_kernel
from .verbs import check_body, spawn

__all__ = ["Portal", "ThreadPool", "set_thread_limit", "to_thread"]

P = ParamSpec("P")
T = TypeVar("T")


# -- from a thread into the loop -------------------------------------------------------------------------------------


class Portal:
    """A door into the running event loop of this thread, for the use of other threads.

    Made inside the loop; `call` and `schedule` may then be used by any thread, by signal handlers and finalizers too.
    It is open until somebody closes it or the loop ends; ``with Portal() as portal:`` closes it.  While it is open
    the loop does not take itself for deadlocked, since somebody may come in at any time.

    A forked child inherits no portal, as it inherits no other thread: there `call` and `schedule` raise RuntimeError,
    `close` does nothing, and the futures of the parent's calls are never done.  It may make portals of its own.

    RuntimeError when it is made while no loop runs in this thread.
    """

    # No lock: a signal handler may come in while its own thread is here.  A call goes into `_waiting` and the inbox and
    # looks at `_closed` afterwards; to close is to set `_closed` first.  So one of the two sees the other, and whoever
    # takes the future out of `_waiting` deals with it.

    __slots__ = ("__weakref__", "_begun", "_closed", "_kernel", "_waiting")

    def __init__(self) -> None:
        kernel = this_kernel()
        if not kernel.running:
            raise RuntimeError("a Portal leads into a running event loop: make it in a coroutine")
        self._kernel: Kernel = kernel
        self._closed = False
        self._waiting: set[Future[Any]] = set()  # calls that have not begun
        self._begun: dict[Future[Any], coro] = {}  # touched by the thread of the loop only
        kernel.externals += 1
        kernel.at_end.add(self._shut)

    def call(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have ``fn(*args, **kwargs)`` called by a coroutine of its own in the loop.  Returns at once.

        Returns the `concurrent.futures.Future` of its result or exception.  To cancel it is to shut the coroutine
        down; it is cancelled when the coroutine is shut down, and when the portal is closed or the loop ends before.
        The coroutine begins with a copy of the caller's context variables.  Wait for the future in other threads only:
        in the thread of the loop that would block the loop.

        RuntimeError if the portal is closed or the parent's, TypeError if *fn* cannot be called.
        """
        check_body(fn)
        self._check_open()
        future: Future[T] = Future()
        self._waiting.add(future)
        future.add_done_callback(self._done)
        self._send(partial(self._begin, future, copy_context(), fn, args, kwargs))
        if self._closed and self._take_back(future):
            self._check_open()
        return future

    def schedule(self, co: coro, value: Any = None) -> None:
        """Make *co*, a coroutine of this loop, ready, as ``co.schedule(value)`` does.  Returns at once.

        If it has ended or is ready already when the loop gets to know of this, nothing happens.

        RuntimeError if the portal is closed or the parent's, TypeError if *co* is no coroutine, ValueError for one of
        another loop, `DeadCoroutine` if it has ended already.
        """
        if not isinstance(co, coro):
            raise TypeError(f"can only schedule a coroutine, not {co!r}")
        self._check_open()
        if co._kernel is not self._kernel:
            raise ValueError(f"{co!r} belongs to another thread than the loop that this portal leads to")
        if co._dead:
            raise DeadCoroutine(co, "has ended and cannot be scheduled")
        self._send(partial(schedule_if_blocked, co, value))

    def close(self) -> None:
        """Let nobody in any more, and cancel the calls that have not ended.  May be called by any thread, and again."""
        self._closed = True
        if self._shut not in self._kernel.at_end:
            return  # closed before; or in a forked child, where a thread that is not there may hold a future's lock
        if threading.get_ident() == self._kernel.thread:
            self._shut()
        else:
            self._send(self._shut)

    def __enter__(self) -> Portal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "of the parent process" if self._inherited() else "closed" if self._closed else "open"
        return f"<coro.Portal to thread {self._kernel.thread}, {state}>"

    def _inherited(self) -> bool:
        """Return whether it was open when the parent forked this process, where `coro.processes` has forgotten it."""
        forgotten = self._shut not in self._kernel.at_end
        return forgotten and not self._closed  # in this order: to close is to set the flag first

    def _check_open(self) -> None:
        if self._inherited():
            raise RuntimeError(f"{self!r} leads nowhere in a forked child: make a portal here, in a coroutine")
        if self._closed:
            raise RuntimeError(f"{self!r}: it was closed, or its event loop has ended")

    def _send(self, entry: Callable[[], Any]) -> None:
        self._kernel.inbox.append(entry)
        self._kernel.wake_up()

    def _begin(self, future: Future[Any], context: Context, fn: Callable[..., Any], args: Any, kwargs: Any) -> None:
        """Make the coroutine of a call.  Runs in the scheduler."""
        if not self._take_back(future):
            return
        name = getattr(fn, "__qualname__", None) or repr(fn)
        co = context.run(spawn, self._run, future, fn, args, kwargs, thread_name=name)
        self._begun[future] = co
        at_end(co, future, lambda future, co: self._settle(future))  # in case that it is cancelled before it begins
        if self._closed or future.cancelled():
            co.shutdown()

    def _run(self, future: Future[Any], fn: Callable[..., Any], args: Any, kwargs: Any) -> None:
        """The body of that coroutine."""
        try:
            value = None if future.cancelled() else fn(*args, **kwargs)
        except Shutdown:
            self._settle(future)
            raise
        except BaseException as exc:
            told = self._settle(future, future.set_exception, exc)
            if not told or isinstance(exc, (SystemExit, KeyboardInterrupt)):
                raise
        else:
            self._settle(future, future.set_result, value)
        finally:
            del future  # it holds the exception, whose traceback holds this frame

    def _take_back(self, future: Future[Any]) -> bool:
        """Let nobody else deal with a call that has not begun.  Returns False if somebody else does."""
        try:
            self._waiting.remove(future)
        except KeyError:
            return False
        return True

    def _settle(self, future: Future[Any], finish: Callable[[Any], None] | None = None, outcome: Any = None) -> bool:
        """Finish the future of a call that has begun.  Returns False if it was settled or cancelled before."""
        if self._begun.pop(future, None) is None:
            return False
        if finish is None:
            cancel(future)
        elif future.set_running_or_notify_cancel():
            finish(outcome)
            return True
        return False

    def _shut(self) -> None:
        """Close, in the thread of the loop.  Called by `close` and when the loop ends; again is without effect."""
        self._closed = True
        kernel = self._kernel
        if self._shut in kernel.at_end:
            kernel.at_end.remove(self._shut)
            kernel.externals -= 1
        for future in list(self._waiting):
            if self._take_back(future):
                cancel(future)
        for future, co in list(self._begun.items()):
            if co is not kernel.current:  # the call that does the closing may come to its end
                self._settle(future)
                co.shutdown()

    def _done(self, future: Future[Any]) -> None:
        """Whoever has cancelled a future comes by here, in any thread."""
        if future.cancelled() and not self._closed:
            self._send(partial(self._shut_down, future))

    def _shut_down(self, future: Future[Any]) -> None:
        co = self._begun.get(future)
        if co is not None:
            co.shutdown()


def cancel(future: Future[Any]) -> None:
    """Cancel *future* unless its holder has, and tell those that wait for it, which is to be done once."""
    future.cancel()
    future.set_running_or_notify_cancel()


def schedule_if_blocked(co: coro, value: Any) -> None:
    """Do what `Portal.schedule` asks, in the scheduler."""
    if not co._dead and not co._scheduled:
        co.schedule(value)


# -- from a coroutine into a thread ----------------------------------------------------------------------------------


def block_until_done(future: Future[Any]) -> None:
    """Block the current coroutine until *future*, which another thread works on, is done."""
    kernel, co = calling()
    waiter = [co]  # empty once nobody waits: a late wake-up must not end what the coroutine does then

    def wake() -> None:
        for co in waiter:
            kernel.wake(co)

    def done(future: Future[Any]) -> None:  # in the thread
        kernel.inbox.append(wake)
        kernel.wake_up()

    kernel.externals += 1
    try:
        future.add_done_callback(done)
        while not future.done():
            kernel.park(co)
    finally:
        kernel.externals -= 1
        waiter.clear()


class ThreadPool:
    """Threads for blocking calls, at most *limit* of them, for the loops of all threads.  Made once, never ended.

    The threads begin when they are needed.  They are those of `concurrent.futures`: an idle one does not hold up the
    exit of the process, a call that is under way does.
    """

    def __init__(self, name: str, limit: int | None = None) -> None:
        self.name = name
        self.limit = limit  # None: the default of ThreadPoolExecutor
        self._forget()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        """Begin anew, also in a forked child, which has none of its parent's threads and may have a locked lock."""
        self._lock = threading.Lock()  # nobody submits to an executor that is being replaced
        self._executor: ThreadPoolExecutor | None = None

    def set_limit(self, limit: int | None) -> int | None:
        """Set how many threads there may be.  Returns the old limit.  Calls under way are not disturbed."""
        with self._lock:
            old, self.limit = self.limit, limit
            if self._executor is not None:
                self._executor.shutdown(wait=False)  # it still does what it was given
                self._executor = None
        return old

    def submit(self, fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Future[T]:
        """Queue a call, which will see a copy of the caller's context variables."""
        with self._lock:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(self.limit, self.name)
            return self._executor.submit(copy_context().run, fn, *args, **kwargs)

    def call(self, fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
        """Let a thread call ``fn(*args, **kwargs)``, and block the current coroutine meanwhile.  As `to_thread`."""
        calling()
        future = self.submit(fn, args, kwargs)
        try:
            block_until_done(future)
            return future.result()
        finally:
            future.cancel()
            del future  # else an exception, its traceback, this frame and the future would hold each other


class DaemonPool:
    """Threads for calls that may hang, at most *limit* of them: not even a call that is under way holds up the exit.

    Otherwise like `ThreadPool`.
    """

    def __init__(self, name: str, limit: int) -> None:
        self.name = name
        self.limit = limit
        self._forget()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        """Begin anew, as `ThreadPool._forget`."""
        self._lock = threading.Lock()  # held to count
        self._threads = self._unfinished = 0  # the calls that are queued or under way
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()

    def submit(self, fn: Callable[..., T], *args: Any) -> Future[T]:
        """Queue a call, which will see a copy of the caller's context variables.  RuntimeError if no thread begins."""
        future: Future[T] = Future()
        with self._lock:
            if self._unfinished >= self._threads < self.limit:
                try:
                    threading.Thread(target=self._work, name=self.name, daemon=True).start()
                    self._threads += 1
                except RuntimeError:  # the system has none left: those that there are must do
                    if not self._threads:
                        raise
            self._unfinished += 1
        self._calls.put((future, partial(copy_context().run, fn, *args)))
        return future

    def _work(self) -> None:
        """Make calls for ever: the body of a thread."""
        while True:
            future, call = self._calls.get()
            begins = future.set_running_or_notify_cancel()
            value = error = None
            try:
                value = call() if begins else None
            except BaseException as exc:
                error = exc
            with self._lock:  # first: whoever is told may submit the next call
                self._unfinished -= 1
            if error is not None:
                future.set_exception(error)
            elif begins:
                future.set_result(value)
            del future, call, value, error  # nothing is kept while there is nothing to do


_pool: Final = ThreadPool("coro-thread")


def to_thread(fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call ``fn(*args, **kwargs)`` in a thread, for what would block the whole loop, and wait for it in this coroutine.

    Returns what it returns and raises what it raises.  It sees a copy of the caller's context variables.  It may not
    use coroutines of this loop: it runs in another thread, where a `Portal` is the way back.

    The wait can be interrupted, by a timeout or a shutdown.  A call that has not begun is then cancelled; one that is
    under way cannot be stopped: it goes on in its thread, and what comes out of it is dropped.  The process cannot exit
    before it has ended.

    All loops of the process share the threads, see `set_thread_limit`; calls beyond the limit wait for their turn.

    TypeError if *fn* cannot be called, `YieldFromMain` outside a coroutine, RuntimeError while the process exits.
    """
    check_body(fn)
    return _pool.call(fn, args, kwargs)


def set_thread_limit(n: int | None) -> int | None:
    """Set how many threads `to_thread` may use in all.

    Args:
        n: the number, from 1 up; None for the default, that of `concurrent.futures.ThreadPoolExecutor`: the number of
            processors and four more, at most 32.

    Returns the old limit, None for the default.  Calls that are queued or under way go on in the threads that they
    were given to, beside the new ones.  TypeError and ValueError for what is no such number.
    """
    if n is not None:
        if isinstance(n, bool) or not isinstance(n, int):
            raise TypeError(f"the limit is a number of threads, not {n!r}")
        if n < 1:
            raise ValueError(f"there must be at least 1 thread, not {n}")
    return _pool.set_limit(n)
