"""The verbs of a coroutine: make one, look one up, sleep, yield, suspend, wait for a descriptor.

Stands on `coro.kernel`.  `yield_slice` and `sleep_relative` spell out `Kernel.park` to save a Python frame for each
switch; everything else calls it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from heapq import heappush
from math import inf, nextafter
from sys import _getframe
from types import CodeType, FunctionType
from typing import Any, Final, NoReturn, Protocol

from greenlet import getcurrent

from . import coroutine
from .coroutine import MAIN, READY, all_threads, check_name, coro, made, next_id
from .exceptions import ClosedError, SimultaneousError
from .kernel import READ, WRITE, Descriptor, Kernel, adopted, calling, monotonic, outside, this_kernel, worker

__all__ = [
    "current",
    "get_now",
    "get_thread_by_id",
    "new",
    "notify_of_close",
    "schedule",
    "sleep_absolute",
    "sleep_relative",
    "spawn",
    "suspend",
    "ticks_per_sec",
    "ticks_per_usec",
    "wait_for_read",
    "wait_for_write",
    "yield_slice",
]

get_now = time.monotonic_ns  #: The current tick.  A tick is a nanosecond of the monotonic clock.
ticks_per_sec: Final = 10**9
ticks_per_usec: Final = 10**3

NOT_A_BODY: Final = 0x20 | 0x80 | 0x200  # CO_GENERATOR, CO_COROUTINE, CO_ASYNC_GENERATOR: inspect costs 10 ms


class HasFileno(Protocol):
    def fileno(self) -> int: ...


# -- making and finding coroutines -----------------------------------------------------------------------------------


def spawn(fun: Callable[..., Any], /, *args: Any, thread_name: str | None = None, **kwargs: Any) -> coro:
    """Make a coroutine that will call ``fun(*args, **kwargs)``, ready to run after all that are ready now.

    Args:
        fun: any callable, but not a generator function or an ``async def``, whose call would run nothing.
        thread_name: the name of the coroutine; None for the qualified name of *fun*.

    Returns the coroutine; `join` it or take its `result`.  It begins with a copy of the caller's context variables.
    May be called before the loop runs.  TypeError, before anything is made, for a wrong *fun* or *thread_name*.
    """
    me = worker()
    try:
        kernel = me.kernel
    except AttributeError:
        kernel = this_kernel()
    if fun is not kernel.body:  # most programs spawn the same few: to look at its flags costs as much as two switches
        try:
            if fun.__code__.co_flags & NOT_A_BODY:
                refuse_body(fun)
        except AttributeError:
            check_body(fun)
        if type(fun) is FunctionType:  # a bound method would keep its object alive, and be another one the next time
            kernel.body = fun
    if thread_name is not None:
        check_name(thread_name)
    context = me.gr_context
    co = coro()  # `made`, spelt out: a tenth of what it takes to run a coroutine
    co._kernel = kernel
    co._fun = fun
    co._args = args
    co._kwargs = kwargs or None
    co._name = thread_name
    co._context = context if context is None else context.copy()
    co._id = number = next_id()
    co._dead = False
    co._allowance = co._selfishness = coroutine._selfishness
    co._collected = 0
    co._pending = co._resume = co._joiners = co._local_key = co._value = co._error = None
    frame = _getframe(1)
    co._made_in = frame.f_code
    co._made_at = frame.f_lasti  # the line number would cost as much as all of this
    co._scheduled = READY
    kernel.live[number] = co
    kernel.newborn.append(co)
    kernel.ready.append(kernel.start)
    return co


def new(fun: Callable[..., Any], /, *args: Any, thread_name: str | None = None, **kwargs: Any) -> coro:
    """Make a coroutine like `spawn`, but leave it to its `start` (or `schedule`) to make it ready."""
    check_body(fun)
    check_name(thread_name)
    kernel = this_kernel()
    context = getcurrent().gr_context
    co = made(coro(), kernel, fun, args, kwargs, thread_name, context if context is None else context.copy())
    frame = _getframe(1)
    co._made_in, co._made_at = frame.f_code, frame.f_lasti
    kernel.unstarted[co._id] = co
    return co


def check_body(fun: Any) -> None:
    """Refuse what cannot be the body of a coroutine."""
    if not callable(fun):
        raise TypeError(f"a coroutine needs a function to run, not {fun!r}: write spawn(f, x), not spawn(f(x))")
    code = getattr(fun, "__code__", None) or getattr(getattr(fun, "func", None), "__code__", None)
    if isinstance(code, CodeType) and code.co_flags & NOT_A_BODY:
        refuse_body(fun)


def refuse_body(fun: Any) -> NoReturn:
    """Raise the error for a function whose call only makes a generator or an asyncio coroutine."""
    raise TypeError(
        f"calling {fun!r} runs nothing: it is a generator function or an 'async def'; give a plain function that "
        "iterates over the generator, or write the body without async and await"
    )


def current() -> coro:
    """Return the running coroutine.

    In the main program, and in signal handlers and poller code that run while no coroutine does, that is the main
    object, number -1, which cannot be scheduled.
    """
    try:
        kernel = worker().kernel
    except AttributeError:
        kernel = this_kernel()
    return kernel.current or MAIN


def get_thread_by_id(thread_id: int) -> coro:
    """Return the coroutine with this id.  KeyError if it has ended, or if there never was one."""
    return all_threads[thread_id]


def schedule(co: coro, value: Any = None) -> None:
    """Do ``co.schedule(value)``.  TypeError if *co* is no coroutine."""
    if not isinstance(co, coro):
        raise TypeError(f"can only schedule a coroutine, not {co!r}")
    co.schedule(value)


# -- giving way ------------------------------------------------------------------------------------------------------


def suspend() -> Any:
    """Block until somebody calls `schedule` on this coroutine, and return the value given there.

    This is what synchronization is built from: queue the current coroutine somewhere, suspend, and see to it that it
    leaves the queue on every way out.  `YieldFromMain` outside a coroutine.
    """
    kernel, co = calling()
    try:
        co._value = None
        kernel.park(co)
        return co._value
    finally:
        co._value = None


def yield_slice() -> None:
    """Let every other coroutine run that is ready, and all that these make ready, then go on.

    If somebody waits for a descriptor the system is asked first, so "write to a pipe, then yield" lets the reader of
    that pipe run before this returns.  `YieldFromMain` outside a coroutine.
    """
    try:
        kernel = worker().kernel
        co: Any = kernel.current
        resume = co._resume  # which None has not
    except AttributeError:
        return yield_elsewhere()
    try:
        ready = kernel.ready
        yielded = kernel.yielded
        if ready:
            co._scheduled = yielded
            yielded.append(resume)
            ready.popleft()()
        # The end of a pass.  In a short one its price is shared by few, so Kernel.next_pass is spelt out: with two
        # runnable a switch takes 4 to 7 % less, and to yield alone takes 30 to 38 % less.
        elif (
            kernel.fds
            or (budget := kernel.budget - len(yielded) - 1) <= 0
            or kernel.exiting
            or ready  # a signal handler has run in a call
        ):
            co._scheduled = yielded
            yielded.append(resume)
            kernel.next_pass()()
        else:
            kernel.budget = budget
            kernel.in_pass = 0
            if not yielded:  # nobody else is there
                return None
            co._scheduled = yielded
            kernel.ready = yielded
            kernel.yielded = ready
            yielded.append(resume)  # after that: a signal handler may run in a call
            yielded.popleft()()
        kernel.current = co
        co._scheduled = 0
        if co._pending is not None:
            kernel.settle(co)
    except BaseException as exc:
        if exc is not kernel.settled:  # as in Kernel.park
            kernel.ready.appendleft(partial(kernel.repair, co))
            kernel.current = co
            co._scheduled = 0
        kernel.settled = None
        raise
    return None


def yield_elsewhere() -> None:
    """Yield in a greenlet that a library has made on top of a coroutine; in the main program that is an error."""
    calling()
    adopted(yield_slice)


def sleep_relative(delta: float) -> None:
    """Sleep for *delta* seconds, int or float; never shorter.

    0 or less is `yield_slice`, infinity is for ever.  `schedule` ends a sleep early.  In the main program, while no
    loop runs, this is `time.sleep`.  TypeError for None, ValueError for NaN.
    """
    try:
        kernel = worker().kernel
    except AttributeError:
        return sleep_elsewhere(delta)
    co = kernel.current
    if co is None:
        outside()
    try:
        if not delta > 0:
            return yield_slice() if delta == delta else check_delta(delta)
    except TypeError:
        return check_delta(delta)
    when = monotonic() + delta
    timer_map = kernel.timer_map
    try:
        if when in timer_map:
            kernel.add_timer(when, co)
        else:
            timer_map[when] = co
            heappush(kernel.timers, when)
        ready = kernel.ready
        (ready.popleft() if ready else kernel.next_pass())()
        kernel.current = co
        co._scheduled = 0
        if co._pending is not None:
            kernel.settle(co)
    except BaseException as exc:
        if exc is not kernel.settled:  # as in Kernel.park
            kernel.ready.appendleft(partial(kernel.repair, co))
            kernel.current = co
            co._scheduled = 0
            if timer_map.get(when) is co:
                del timer_map[when]  # the heap may hold what the map does not
        kernel.settled = None
        kernel.cancel_timer(when, co)
        raise
    if when in timer_map:
        kernel.cancel_timer(when, co)
    return None


def sleep_elsewhere(delta: float) -> None:
    """Sleep in the main program, or in a greenlet that a library has made on top of a coroutine."""
    if this_kernel().running:
        adopted(sleep_relative, delta)
    else:
        check_delta(delta)
        time.sleep(max(0.0, min(delta, threading_timeout_max)))


threading_timeout_max: Final = 10.0**9  # seconds: more than 30 years, and less than what time.sleep() refuses


def check_delta(delta: Any) -> None:
    """Refuse what is no length of time."""
    if not isinstance(delta, (int, float)):
        raise TypeError(f"can only sleep for a number of seconds, not {delta!r}")
    if delta != delta:
        raise ValueError("cannot sleep for NaN seconds")


def sleep_absolute(when: float) -> None:
    """Sleep until the tick *when*, on the scale of `get_now`: nanoseconds of the monotonic clock.

    In the past it is `yield_slice`.  Those that sleep until the same tick wake in the order in which they began.
    TypeError for None, ValueError for NaN.
    """
    if not isinstance(when, (int, float)):
        raise TypeError(f"can only sleep until a tick, a number as get_now() returns, not {when!r}")
    if when != when:
        raise ValueError("cannot sleep until NaN")
    kernel, co = calling()
    if when <= get_now():
        yield_slice()
        return
    # The division rounds to nearest; one step up makes it never early, by whatever the clock's own rounding is.
    deadline = nextafter(when / ticks_per_sec, inf)
    try:
        kernel.add_timer(deadline, co)
        kernel.park(co)
    finally:
        kernel.cancel_timer(deadline, co)


# -- descriptors that coro does not own ------------------------------------------------------------------------------


def wait_for_read(fd: int | HasFileno) -> None:
    """Block until a read from *fd*, or an accept, would not block; an end of file and an error count too.

    Args:
        fd: a descriptor, or an object with a method ``fileno()``.

    For descriptors that coro does not own: one system call for each wait.  Call `notify_of_close` before you close one
    that a coroutine may wait for.  Raises `SimultaneousError` if another coroutine waits for the same, `ClosedError`
    when it is closed meanwhile, OSError if the poller refuses it: ``EBADF`` for a closed one, ``EPERM`` for a regular
    file, which is always ready.  `YieldFromMain` outside a coroutine.
    """
    kernel, co = calling()
    wait_for(kernel, co, descriptor_number(fd), READ)


def wait_for_write(fd: int | HasFileno) -> None:
    """Block until a write to *fd* would not block, or a connect is decided.  Otherwise like `wait_for_read`."""
    kernel, co = calling()
    wait_for(kernel, co, descriptor_number(fd), WRITE)


def wait_for(kernel: Kernel, co: coro, fd: int, mask: int) -> None:
    """Park *co* until *fd*, which coro does not own, is ready for *mask* (READ or WRITE)."""
    entry = kernel.fds.get(fd)
    if entry is None:
        entry = Descriptor(fd, owned=False)
    elif entry.owned:
        raise ValueError(f"descriptor {fd} belongs to a coro socket: use the methods of that socket")
    other = entry.reader if mask == READ else entry.writer
    if other is not None and other._pending is None:  # one that is about to leave is in nobody's way
        raise SimultaneousError(co, other, (fd, "read" if mask == READ else "write"))
    try:
        kernel.arm(entry, mask)  # first: what fails here leaves nothing behind (D-16)
    except OSError as exc:
        from .oserrors import raise_specific  # not needed by `import coro`

        raise_specific(exc)
        raise
    try:
        kernel.fds[fd] = entry
        if mask == READ:
            entry.reader = co
        else:
            entry.writer = co
        while entry.reader is co if mask == READ else entry.writer is co:
            kernel.park(co)
    finally:
        leave(kernel, co, entry, mask)


def leave(kernel: Kernel, co: coro, entry: Descriptor, mask: int) -> None:
    """*co* no longer waits; what it armed is withdrawn unless it has been reported."""
    interrupted = False
    if mask == READ and entry.reader is co:
        entry.reader = None
        interrupted = True
    elif mask == WRITE and entry.writer is co:
        entry.writer = None
        interrupted = True
    if kernel.fds.get(entry.fd) is not entry:
        return  # closed meanwhile
    if entry.reader is None and entry.writer is None:
        del kernel.fds[entry.fd]
        if interrupted and kernel.poller is not None:
            kernel.poller.unregister(entry.fd)


def descriptor_number(fd: int | HasFileno) -> int:
    """Return the number of a descriptor or of an object that has one."""
    number = fd if isinstance(fd, int) else getattr(fd, "fileno", None)
    if callable(number):
        number = number()
    if not isinstance(number, int) or isinstance(number, bool):
        raise TypeError(f"not a descriptor, nor an object with fileno(): {fd!r}")
    if number < 0:
        raise ValueError(f"{fd!r} is closed: its descriptor is {number}")
    return number


def notify_of_close(fd: int | HasFileno) -> None:
    """Raise `ClosedError` in the coroutines that wait for *fd*.  To be called before *fd* is closed.

    Whoever has been woken already is left alone.
    """
    kernel = this_kernel()
    entry = kernel.fds.get(descriptor_number(fd))
    if entry is not None:
        forget(kernel, entry, current())


def forget(kernel: Kernel, entry: Descriptor, closer: coro) -> None:
    """Take *entry*, about to be closed, out of the table, and raise `ClosedError` in those that wait for it."""
    entry.kernel = None
    if kernel.fds.get(entry.fd) is entry:
        del kernel.fds[entry.fd]
        if kernel.poller is not None:
            kernel.poller.unregister(entry.fd)
    for co, verb in ((entry.reader, "read from"), (entry.writer, "write to")):
        if co is not None and co._pending is None and not (entry.owned and co._scheduled):
            text = f"descriptor {entry.fd} was closed by {closer!r} while {co!r} waited to {verb} it"
            kernel.interrupt(co, ClosedError(text, closer))
    entry.reader = entry.writer = None
    entry.readable = entry.writable = True  # whoever is on its way finds it closed
