"""Looks for what coroutines leave behind, however they end: ``python tests/leaks.py --count 100000 --poller epoll``.

Stands on the public names of coro and on what `coro.kernel` says of its tables.  Makes so many coroutines for each way
of ending, in batches, and counts before and after what there is of everything: objects, descriptors, threads, memory,
entries in the tables of the kernel.  Then it lets all of them end at once, a tenth first, to see that the price of each
does not depend on the number.  Prints a table; the status is 1 if anything is left or grows.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any, Final, NamedTuple, TypeVar

from greenlet import greenlet

import coro
from coro.discovery import open_poller
from coro.kernel import this_kernel

BATCH: Final = 100  # coroutines at a time: two descriptors each must be allowed everywhere
PATIENCE: Final = 2.0  # seconds that other threads get to let go of what they were given
HEAP_GARBAGE: Final = 64  # cancelled timers that the heap may hold: see Kernel.cancel_timer
NOISE: Final = 0.1  # allocated blocks per coroutine that are caches of the interpreter; a leak is one at least
SETTLING: Final = 4 * 1024 * 1024  # bytes that the process may grow by: the allocator never gives all back
RUNS: Final = 5
WORST_GROWTH: Final = 5.0  # of the time for each when there are ten times as many; if quadratic, it is 10


T = TypeVar("T")


class Boom(Exception):
    pass


class Token:
    """Is given to each coroutine.  Whoever holds it in the end is a leak."""


Run = Callable[[int, Token], None]  # makes so many coroutines end, each with the token


class Ending(NamedTuple):
    """A way in which coroutines end."""

    name: str
    run: Run
    ends_loop: bool  # so it is called outside, else in a coroutine
    at_once: bool  # any number of coroutines may end so at the same time


ENDINGS: Final[dict[str, Ending]] = {}


def ending(name: str, *, ends_loop: bool = False, at_once: bool = True) -> Callable[[Run], Run]:
    """Enter a function in the table of endings."""

    def enter(run: Run) -> Run:
        ENDINGS[name] = Ending(name, run, ends_loop, at_once)
        return run

    return enter


class raises:
    """``with raises(Boom):`` is a block that must raise this.  (A generator would leave a ring of garbage.)"""

    def __init__(self, kind: type[BaseException]) -> None:
        self.kind = kind

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> bool:
        assert kind is not None, f"{self.kind} was not raised"
        return issubclass(kind, self.kind)


def spawned(count: int, fun: Callable[..., Any], *args: Any) -> list[coro.coro]:
    """Return so many coroutines that have come as far as they can."""
    children = [coro.spawn(fun, *args) for _ in range(count)]
    coro.yield_slice()
    return children


def join(children: list[coro.coro]) -> None:
    for co in children:
        co.join()


def blocked(token: Token) -> None:
    coro.suspend()


def fail(token: Token) -> None:
    raise Boom


# -- by themselves ---------------------------------------------------------------------------------------------------


@ending("return")
def _(count: int, token: Token) -> None:
    join(spawned(count, id, token))


@ending("return after a sleep")
def _(count: int, token: Token) -> None:
    def body(token: Token) -> None:
        coro.sleep_relative(0.001)

    join(spawned(count, body, token))


@ending("exception")
def _(count: int, token: Token) -> None:
    join(spawned(count, fail, token))


@ending("exception that somebody collects")
def _(count: int, token: Token) -> None:
    def collect(token: Token) -> None:
        with raises(Boom):
            coro.spawn(fail, token).result()

    join(spawned(count, collect, token))


@ending("exception that refers to its coroutine")
def _(count: int, token: Token) -> None:
    def body(token: Token) -> None:
        raise Boom(token, coro.current())

    join(spawned(count, body, token))


@ending("joined by another")
def _(count: int, token: Token) -> None:
    targets = spawned(count, blocked, token)
    joiners = [coro.spawn(co.join) for co in targets]
    coro.yield_slice()
    for co in targets:
        co.schedule(token)
    join(joiners)


@ending("interrupted joiner")
def _(count: int, token: Token) -> None:
    (target,) = spawned(1, blocked, token)
    joiners = spawned(count, target.join)
    for co in joiners:
        co.shutdown()
    join(joiners)
    target.shutdown()


# -- by somebody else ------------------------------------------------------------------------------------------------


@ending("shutdown while blocked")
def _(count: int, token: Token) -> None:
    children = spawned(count, blocked, token)
    for co in children:
        co.shutdown()
    join(children)


@ending("shutdown while it sleeps")
def _(count: int, token: Token) -> None:
    def body(token: Token) -> None:
        coro.sleep_relative(600)

    children = spawned(count, body, token)
    for co in children:
        co.shutdown()
    join(children)


@ending("shutdown of itself")
def _(count: int, token: Token) -> None:
    def body(token: Token) -> None:
        coro.current().shutdown()

    join(spawned(count, body, token))


@ending("shutdown before its start")
def _(count: int, token: Token) -> None:
    children = [coro.spawn(blocked, token) for _ in range(count)]
    for co in children:
        co.shutdown()
    join(children)


@ending("never started")
def _(count: int, token: Token) -> None:
    children = [coro.new(blocked, token) for _ in range(count)]
    for co in children[::2]:
        co.shutdown()


@ending("raise_exception")
def _(count: int, token: Token) -> None:
    children = spawned(count, blocked, token)
    for co in children:
        co.raise_exception(Boom(token))
    join(children)


@ending("one instance raised in all")
def _(count: int, token: Token) -> None:
    boom = Boom(token)
    children = spawned(count, blocked, token)
    for co in children:
        co.raise_exception(boom)
    join(children)


# -- by a timeout ----------------------------------------------------------------------------------------------------


@ending("with_timeout")
def _(count: int, token: Token) -> None:
    def body(token: Token) -> None:
        with raises(coro.TimeoutError):
            coro.with_timeout(0.001, blocked, token)

    join(spawned(count, body, token))


@ending("with timeout()")
def _(count: int, token: Token) -> None:
    def body(token: Token) -> None:
        with coro.timeout(0.001):
            coro.suspend()

    join(spawned(count, body, token))


@ending("timeouts that are over in time")
def _(count: int, token: Token) -> None:
    def body(token: Token) -> None:
        coro.with_timeout(600, coro.sleep_relative, 0.001)
        with coro.timeout(600):
            coro.yield_slice()

    join(spawned(count, body, token))


@ending("shutdown under timeouts")
def _(count: int, token: Token) -> None:
    def body(token: Token) -> None:
        with coro.timeout(600):
            coro.with_timeout(300, blocked, token)

    children = spawned(count, body, token)
    coro.sleep_relative(0.001)  # now they are armed
    for co in children:
        co.shutdown()
    join(children)


# -- by the end of the loop ------------------------------------------------------------------------------------------


def loop_to_its_end(expected: int) -> None:
    """Run the event loop until somebody ends it with this code."""
    code = None
    try:
        coro.event_loop()
    except SystemExit as exc:
        code = exc.code
    assert code == expected, code


@ending("set_exit while blocked", ends_loop=True)
def _(count: int, token: Token) -> None:
    unwound = 0

    def body(token: Token) -> None:
        nonlocal unwound
        try:
            coro.suspend()
        finally:
            coro.yield_slice()
            unwound += 1

    def leave() -> None:
        coro.yield_slice()
        coro.set_exit(3)

    for _ in range(count):
        coro.spawn(body, token)
    coro.spawn(leave)
    loop_to_its_end(3)
    assert unwound == count, unwound


@ending("set_exit while it sleeps under a timeout", ends_loop=True)
def _(count: int, token: Token) -> None:
    def body(token: Token) -> None:
        coro.with_timeout(600, coro.sleep_relative, 300)

    def leave() -> None:
        coro.sleep_relative(0.001)
        coro.set_exit(3)

    for _ in range(count):
        coro.spawn(body, token)
    coro.spawn(leave)
    loop_to_its_end(3)


@ending("SystemExit", ends_loop=True)
def _(count: int, token: Token) -> None:
    def body(token: Token) -> None:
        coro.yield_slice()
        sys.exit(4)

    for _ in range(count):
        coro.spawn(body, token)
    loop_to_its_end(4)


@ending("end of run()", ends_loop=True)
def _(count: int, token: Token) -> None:
    def main(token: Token) -> None:
        spawned(count, blocked, token)

    coro.run(main, token)


# -- together --------------------------------------------------------------------------------------------------------


@ending("in_parallel")
def _(count: int, token: Token) -> None:
    assert len(coro.in_parallel([(id, (token,))] * count)) == count


@ending("in_parallel that fails")
def _(count: int, token: Token) -> None:
    with raises(coro.InParallelError):
        coro.in_parallel([(fail, (token,))] * count)


@ending("in_parallel that is interrupted")
def _(count: int, token: Token) -> None:
    with raises(coro.TimeoutError):
        coro.with_timeout(0.001, coro.in_parallel, [(blocked, (token,))] * count)


@ending("in a group")
def _(count: int, token: Token) -> None:
    with coro.group() as children:
        for _ in range(count):
            children.spawn(id, token)


@ending("in a group that fails")
def _(count: int, token: Token) -> None:
    with raises(ExceptionGroup), coro.group() as children:
        for _ in range(count - 1):
            children.spawn(blocked, token)
        children.spawn(fail, token)


@ending("in a pool that fails")
def _(count: int, token: Token) -> None:
    with raises(Boom), coro.Pool(count) as pool:
        for _ in range(count):
            pool.spawn(blocked, token)
        coro.yield_slice()
        raise Boom


# -- with data of its own --------------------------------------------------------------------------------------------

variable: ContextVar[Any] = ContextVar("variable")


@ending("with ThreadLocal data")
def _(count: int, token: Token) -> None:
    local = coro.ThreadLocal()

    def body(token: Token) -> None:
        local.token = token
        local.co = coro.current()
        coro.yield_slice()
        assert local.token is token

    join(spawned(count, body, token))


@ending("with a context variable")
def _(count: int, token: Token) -> None:
    def body(token: Token) -> None:
        variable.set(token)
        coro.yield_slice()
        assert variable.get() is token

    join(spawned(count, body, token))


# -- while it waits for something ------------------------------------------------------------------------------------


@ending("its socket is closed", at_once=False)
def _(count: int, token: Token) -> None:
    def body(sock: coro.sock, token: Token) -> None:
        with raises(coro.ClosedError):
            sock.recv(1)

    pairs = [coro.socketpair() for _ in range(count)]
    children = [coro.spawn(body, ours, token) for ours, _ in pairs]
    coro.yield_slice()
    for pair in pairs:
        for end in pair:
            end.close()
    join(children)


@ending("its peer closes", at_once=False)
def _(count: int, token: Token) -> None:
    def body(sock: coro.sock, token: Token) -> None:
        with sock:
            assert sock.recv(1) == b""

    pairs = [coro.socketpair() for _ in range(count)]
    children = [coro.spawn(body, ours, token) for ours, _ in pairs]
    coro.yield_slice()
    for _, theirs in pairs:
        theirs.close()
    join(children)


@ending("its pipe is closed", at_once=False)
def _(count: int, token: Token) -> None:
    def body(fd: int, token: Token) -> None:
        with raises(coro.ClosedError):
            coro.wait_for_read(fd)

    with ExitStack() as ends:
        children = []
        for _ in range(count):
            reader, writer = os.pipe()
            ends.callback(os.close, writer)
            ends.callback(os.close, reader)
            ends.callback(coro.notify_of_close, reader)
            children.append(coro.spawn(body, reader, token))
        coro.yield_slice()
    join(children)


@ending("shutdown while it waits for a pipe", at_once=False)
def _(count: int, token: Token) -> None:
    def body(fd: int, token: Token) -> None:
        coro.wait_for_read(fd)

    with ExitStack() as ends:
        children = []
        for _ in range(count):
            reader, writer = os.pipe()
            ends.callback(os.close, writer)
            ends.callback(os.close, reader)
            children.append(coro.spawn(body, reader, token))
        coro.yield_slice()
        for co in children:
            co.shutdown()
        join(children)


@ending("in Event.wait")
def _(count: int, token: Token) -> None:
    event = coro.Event()
    children = spawned(count, lambda token: event.wait(), token)
    event.set()
    join(children)


@ending("in Queue.get")
def _(count: int, token: Token) -> None:
    queue: coro.Queue[Token] = coro.Queue()
    children = spawned(count, lambda token: queue.get(), token)
    for _ in range(count):
        queue.put(token)
    join(children)


@ending("shutdown in Queue.get")
def _(count: int, token: Token) -> None:
    queue: coro.Queue[Token] = coro.Queue()
    children = spawned(count, lambda token: queue.get(), token)
    for co in children:
        co.shutdown()
    join(children)


@ending("in a semaphore")
def _(count: int, token: Token) -> None:
    units = coro.semaphore(0)
    children = spawned(count, lambda token: units.acquire(), token)
    units.release(count)
    join(children)


@ending("shutdown in a semaphore")
def _(count: int, token: Token) -> None:
    units = coro.semaphore(0)
    children = spawned(count, lambda token: units.acquire(), token)
    for co in children:
        co.shutdown()
    join(children)


@ending("in a mutex")
def _(count: int, token: Token) -> None:
    lock = coro.mutex()

    def body(token: Token) -> None:
        with lock:
            pass

    with lock:
        children = spawned(count, body, token)
    join(children)


@ending("waits for a thread", at_once=False)
def _(count: int, token: Token) -> None:
    join(spawned(count, coro.to_thread, id, token))


@ending("called through a portal")
def _(count: int, token: Token) -> None:
    with coro.Portal() as portal:
        futures = [portal.call(id, token) for _ in range(count)]
        while not futures[-1].done():
            coro.yield_slice()


# -- counting --------------------------------------------------------------------------------------------------------

TABLES: Final = "live unstarted newborn yielded fds events inbox at_end told timer_map".split()


def census(token: Token) -> dict[str, int]:
    """Count what there is of everything that must not grow."""
    kernel = this_kernel()
    gc.collect()
    found = {name: len(getattr(kernel, name)) for name in TABLES}
    found["heap"] = max(0, len(kernel.timers) - HEAP_GARBAGE - 2 * len(kernel.timer_map))
    found["unarmed"] = len(kernel.begun())
    found["externals"] = kernel.externals
    found["threads"] = threading.active_count()
    found["references"] = sys.getrefcount(token)
    try:
        found["descriptors"] = len(os.listdir("/dev/fd"))
    except OSError:  # Windows does not tell
        found["descriptors"] = 0
    objects = gc.get_objects()
    for name, kind in (("coroutines", coro.coro), ("exceptions", BaseException)):
        found[name] = sum(isinstance(obj, kind) for obj in objects)
    found["timeouts"] = sum(type(obj) is list and len(obj) == 4 and isinstance(obj[0], coro.coro) for obj in objects)
    found["greenlets"] = sum(isinstance(obj, greenlet) for obj in objects) - len(kernel.idle)
    return found


def resident() -> int:
    """Return how many bytes of memory the process has; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


class Finding(NamedTuple):
    """What was seen of one ending."""

    seconds: float
    left: dict[str, int]
    blocks: int  # of Python's allocator, more than before
    memory: int  # bytes, more than before
    garbage: int  # coroutines of a batch that only the garbage collector frees

    def faults(self, count: int) -> str:
        """Say what is wrong, nothing if all is well."""
        wrong = [f"{number} {name}" for name, number in self.left.items()]
        if self.blocks > NOISE * count:
            wrong.append(f"{self.blocks} blocks")
        if self.memory > SETTLING + 16 * count:
            wrong.append(f"{self.memory // 1024} KB")
        return ", ".join(wrong)


def examine(end: Ending, count: int, progress: Callable[[int], None] = lambda done: None) -> Finding:
    """Let *count* coroutines end in batches, and see what is left of them."""
    return measure(end, count, progress) if end.ends_loop else coro.run(measure, end, count, progress)


def measure(end: Ending, count: int, progress: Callable[[int], None]) -> Finding:
    token = Token()
    end.run(BATCH, token)  # fills the caches
    garbage = uncounted(end, token)
    before = census(token)
    blocks, memory = sys.getallocatedblocks(), resident()
    begin = time.monotonic()
    for done in range(0, count, BATCH):
        progress(done)
        end.run(min(BATCH, count - done), token)
    seconds = time.monotonic() - begin

    def difference() -> dict[str, int]:
        after = census(token)
        return {name: after[name] - before[name] for name in after if after[name] > before[name]}

    left = patiently(end, difference)
    return Finding(seconds, left, sys.getallocatedblocks() - blocks, resident() - memory, garbage)


def uncounted(end: Ending, token: Token) -> int:
    """Return how many coroutines of a batch stay when there is no garbage collection: parts of a ring."""

    def count() -> int:
        return sum(isinstance(obj, coro.coro) for obj in gc.get_objects())

    gc.collect()
    before = count()
    gc.disable()
    try:
        end.run(BATCH, token)
        return patiently(end, lambda: max(0, count() - before))
    finally:
        gc.enable()


def patiently(end: Ending, look: Callable[[], T]) -> T:
    """Return what *look* finds in the end: nothing, as soon as other threads have let go."""
    deadline = time.monotonic() + PATIENCE
    while True:
        pause(end)
        found = look()
        if not found or time.monotonic() > deadline:
            return found


def pause(end: Ending) -> None:
    """Let the loop idle: then the hub gives up spare greenlets."""
    (time.sleep if end.ends_loop else coro.sleep_relative)(0.002)


def times_at_once(end: Ending, count: int) -> tuple[float, float]:
    """Let a tenth of *count* coroutines end at the same time, and all of *count*.  Returns the seconds for each.

    The best of several, by turns: a single one has been seen to take five times as long as its neighbours.
    """
    times = [(time_at_once(end, count // 10), time_at_once(end, count)) for _ in range(RUNS)]
    return min(few for few, _ in times), min(many for _, many in times)


def time_at_once(end: Ending, count: int) -> float:
    """Let *count* coroutines end at the same time.  Returns the seconds of this thread for each."""

    def run() -> float:
        begin = time.thread_time()
        end.run(count, Token())
        return time.thread_time() - begin

    gc.collect()
    return (run() if end.ends_loop else coro.run(run)) / count


def grows(few: float, many: float) -> bool:
    """Return whether the time for each is that of something quadratic, when *many* are ten times as many as *few*."""
    return many > few * WORST_GROWTH


# -- the program -----------------------------------------------------------------------------------------------------


@contextmanager
def silent() -> Iterator[None]:
    """Coroutines that fail, and loops that end, say nothing; and 100,000 get the time that they need to unwind."""
    notifier = coro.set_exception_notifier(lambda: None)
    factor = coro.set_latency_warning(300)  # a minute
    grace = coro.set_exit_grace(600)
    coro.set_print_exit_string(False)
    try:
        yield
    finally:
        coro.set_exit_grace(grace)
        coro.set_latency_warning(factor)
        coro.set_exception_notifier(notifier)
        coro.set_print_exit_string(True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="coroutines for each ending (default: 100,000)")
    parser.add_argument("--poller", help="its name; by default the one that coro chooses")
    parser.add_argument("--only", default="", help="those endings whose name contains this")
    options = parser.parse_args()
    if options.count < 10 * BATCH:
        parser.error(f"--count must be at least {10 * BATCH}")

    os.environ["CORO_POLLER"] = name = open_poller(options.poller)[0]
    chosen = [end for end in ENDINGS.values() if options.only in end.name]
    wrong = 0
    with silent():
        print(f"Python {sys.version.split()[0]}, {name}: {options.count} coroutines for each ending, {BATCH} at a time")
        print(f"{'ending':42}{'us each':>8}{'blocks':>8}{'KB':>7}{'by gc':>7}  left")
        for end in chosen:

            def progress(done: int, end: Ending = end) -> None:
                if sys.stdout.isatty() and done % 5000 == 0:
                    print(f"\r{end.name:42}{done:8}", end="\r", flush=True)

            found = examine(end, options.count, progress)
            faults = found.faults(options.count)
            wrong += bool(faults)
            print(
                f"{end.name:42}{found.seconds / options.count * 1e6:8.1f}{found.blocks:8}{found.memory // 1024:7}"
                f"{found.garbage:7}  {faults or 'nothing'}",
                flush=True,
            )
        print(f"\n{'all at once: us each, of':42}{options.count // 10:8}{options.count:8}")
        for end in chosen:
            if end.at_once:
                few, many = times_at_once(end, options.count)
                wrong += grows(few, many)
                print(f"{end.name:42}{few * 1e6:8.1f}{many * 1e6:8.1f}{'  GROWS' * grows(few, many)}", flush=True)
    print("All is well." if not wrong else f"{wrong} faults.")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
