"""Shows what the time of an operation consists of, step by step: ``python -m benchmarks.floors``.

Each step does what the one before it does, and one thing more; the last steps are coro itself and gevent.  So the
difference between two lines is the price of one thing, and no library of this kind written in Python can be below the
lines without which it would not work.  Nothing of coro is used before the step that bears its name.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from . import echo, least, native, tables
from .least import Known, Spawn, make, timed
from .stats import quartiles, ratios

NOT_A_BODY = 0x20 | 0x80 | 0x200  # flags of functions whose call makes a generator, or a coroutine of asyncio
REPEATS = 5  # of which the best counts

Step = Callable[[int], float]  # does something so many times; returns the seconds that one took, or its bytes


# -- a switch between two that are runnable --------------------------------------------------------------------------


def in_a_ring(times: int, give_way: Callable[[Any, Any], Callable[[], object]]) -> float:
    """Two greenlets, each of which calls what *give_way* makes for it and for the other one."""
    from greenlet import getcurrent, greenlet

    main = getcurrent()
    switches: list[Any] = []
    through: list[int] = []

    def body(number: int) -> None:
        main.switch()  # both stacks begin at the same place, so each switch exchanges them
        call = give_way(switches[number], switches[1 - number])
        for _ in range(times // 2):
            call()
        through.append(number)

    switches += [greenlet(lambda: body(0)).switch, greenlet(lambda: body(1)).switch]
    for begin in switches:
        begin()
    spent = timed(switches[0], times)
    assert through == [0], "the first to begin is the first to be through"
    return spent


def switch_only(times: int) -> float:
    return in_a_ring(times, lambda mine, other: other)


def switch_in_function(times: int) -> float:
    def make(mine: Any, other: Any) -> Callable[[], object]:
        def give_way() -> None:
            other()

        return give_way

    return in_a_ring(times, make)


def switch_by_queue(times: int) -> float:
    ready: deque[Any] = deque()

    def make(mine: Any, other: Any) -> Callable[[], object]:
        if not ready:
            ready.append(other)  # which begins after this one has parked

        def give_way() -> None:
            ready.append(mine)
            ready.popleft()()

        return give_way

    return in_a_ring(times, make)


# -- coro and gevent, by the same programs ---------------------------------------------------------------------------

Program = Callable[[int, Callable[..., object], Callable[[], object]], float]  # times, spawn, wait for all


def in_coro(program: Program, times: int) -> float:
    import coro

    return float(coro.run(lambda: joined(program, times, coro.spawn)))


def in_gevent(program: Program, times: int) -> float:
    import gevent

    return float(gevent.spawn(lambda: joined(program, times, gevent.spawn)).get())


def joined(program: Program, times: int, spawn: Callable[..., Any]) -> float:
    tasks: list[Any] = []

    def join() -> None:
        for task in tasks:
            task.join()
        tasks.clear()

    return program(times, lambda function: tasks.append(spawn(function)), join)


def yielding(
    times: int, spawn: Spawn, run: Callable[[], object], give_way: Callable[[], None], width: int = 2
) -> float:
    def body() -> None:
        for _ in range(times // width):
            give_way()

    for _ in range(width):
        spawn(body)
    give_way()  # they begin, which is another cell
    return timed(run, times)


def switch_of_coro(times: int) -> float:
    import coro

    return in_coro(partial(yielding, give_way=coro.yield_slice), times)


def switch_of_gevent(times: int) -> float:
    import gevent

    return in_gevent(partial(yielding, give_way=gevent.sleep), times)


def wide_switch_of_coro(times: int) -> float:
    import coro

    return in_coro(partial(yielding, give_way=coro.yield_slice, width=min(times // 2, 1000)), times)


def wide_switch_of_gevent(times: int) -> float:
    import gevent

    return in_gevent(partial(yielding, give_way=gevent.sleep, width=min(times // 2, 1000)), times)


def semaphore_of_coro(times: int) -> float:
    import coro

    return in_coro(partial(least.hand_over, make=coro.semaphore), times)


def semaphore_of_gevent(times: int) -> float:
    from gevent.lock import Semaphore

    return in_gevent(partial(least.hand_over, make=Semaphore), times)


def mutex_of_coro(times: int) -> float:
    import coro

    mutex = coro.mutex()
    with_it = partial(least.compete, enter=mutex.__enter__, leave=mutex.__exit__, give_way=coro.yield_slice)
    return in_coro(with_it, times)


def mutex_of_gevent(times: int) -> float:
    import gevent
    from gevent.lock import Semaphore

    lock = Semaphore(1)
    return in_gevent(partial(least.compete, enter=lock.acquire, leave=lock.release, give_way=gevent.sleep), times)


def event_of_coro(times: int) -> float:
    import coro

    return in_coro(partial(least.wake_up, make=coro.Event, give_way=coro.yield_slice), times)


def event_of_gevent(times: int) -> float:
    import gevent
    from gevent.event import Event

    return in_gevent(partial(least.wake_up, make=Event, give_way=gevent.sleep), times)


def memory_of_coro(count: int) -> float:
    import coro

    return float(coro.run(least.sleeping, count, coro.spawn, coro.sleep_relative))


def memory_of_gevent(count: int) -> float:
    import gevent

    return float(gevent.spawn(least.sleeping, count, gevent.spawn, gevent.sleep).get())


# -- a trivial call under a timeout ----------------------------------------------------------------------------------


def nothing() -> None:
    pass


def calls(with_timeout: Callable[..., object], times: int) -> float:
    def body() -> None:
        for _ in range(times):
            with_timeout(30, nothing)

    return timed(body, times)


def timeout_call_only(times: int) -> float:
    def with_timeout(delta: float, function: Callable[..., object], /, *args: Any, **kwargs: Any) -> object:
        return function()

    return calls(with_timeout, times)


def timeout_and_clock(times: int) -> float:
    monotonic = time.monotonic

    def with_timeout(delta: float, function: Callable[..., object], /, *args: Any, **kwargs: Any) -> object:
        monotonic()
        return function()

    return calls(with_timeout, times)


def timeout_noted(times: int) -> float:
    monotonic, noted = time.monotonic, None

    def with_timeout(delta: float, function: Callable[..., object], /, *args: Any, **kwargs: Any) -> object:
        nonlocal noted
        noted = ours = [None, monotonic() + delta, noted]
        try:
            return function(*args, **kwargs) if args or kwargs else function()
        finally:
            if noted is ours:
                noted = ours[2]

    return calls(with_timeout, times)


def timeout_in_any_thread(times: int) -> float:
    from greenlet import getcurrent, greenlet

    class Worker(greenlet):
        __slots__ = ("noted",)

    monotonic = time.monotonic

    def with_timeout(delta: float, function: Callable[..., object], /, *args: Any, **kwargs: Any) -> object:
        worker = getcurrent()
        worker.noted = ours = [worker, monotonic() + delta, worker.noted]
        try:
            return function(*args, **kwargs) if args or kwargs else function()
        finally:
            if worker.noted is ours:
                worker.noted = ours[2]

    worker = Worker(lambda: calls(with_timeout, times))
    worker.noted = None
    return float(worker.switch())


def timeout_of_coro(times: int) -> float:
    import coro

    return float(coro.run(calls, coro.with_timeout, times))


def timeout_of_gevent(times: int) -> float:
    import gevent

    return float(gevent.spawn(calls, gevent.with_timeout, times).get())


# -- spawn and finish, a hundred at a time -----------------------------------------------------------------------------


def in_batches(times: int, spawn: Callable[..., object], run: Callable[[], object]) -> float:
    """Time *spawn*, and *run*, which runs what it has made."""
    done: list[None] = []

    def body() -> None:
        done.append(None)

    def main() -> None:
        for _ in range(times // 100):
            for _ in range(100):
                spawn(body)
            run()

    spent = timed(main, times)
    assert len(done) == times // 100 * 100
    return spent


def spawn_call_only(times: int) -> float:
    newborn: deque[Callable[[], object]] = deque()

    def spawn(fun: Callable[..., object], /, *args: Any, **kwargs: Any) -> None:
        newborn.append(fun)

    def run() -> None:
        while newborn:
            newborn.popleft()()

    return in_batches(times, spawn, run)


def run_plain(newborn: deque[Known], living: dict[int, Known] | None = None) -> None:
    while newborn:
        co = newborn.popleft()
        co.value = co.fun()
        co.dead = True
        if living is not None:
            del living[co.id]
        co.fun = co.args = co.kwargs = co.resume = co.context = None


def spawn_object(times: int) -> float:
    newborn: deque[Known] = deque()

    def spawn(fun: Callable[..., object], /, *args: Any, **kwargs: Any) -> Known:
        newborn.append(co := make(fun, args, kwargs))
        return co

    return in_batches(times, spawn, lambda: run_plain(newborn))


def spawn_known(times: int, where: bool = False) -> float:
    newborn: deque[Known] = deque()
    living: dict[int, Known] = {}
    next_id = itertools.count(1).__next__

    def spawn(fun: Callable[..., object], /, *args: Any, **kwargs: Any) -> Known:
        co = make(fun, args, kwargs)
        co.id = number = next_id()
        if where:
            frame = sys._getframe(1)
            co.where = frame.f_code, frame.f_lasti
        living[number] = co
        newborn.append(co)
        return co

    return in_batches(times, spawn, lambda: run_plain(newborn, living))


def spawn_known_where(times: int) -> float:
    return spawn_known(times, True)


def spawn_in_greenlet(times: int, complete: bool = False) -> float:
    """The spawner is a greenlet, and so is the one that runs what it makes, one after the other."""
    scheduler = least.Scheduler()
    ready = scheduler.ready
    newborn: deque[Known] = deque()
    living: dict[int, Known] = {}
    next_id = itertools.count(1).__next__

    made: list[Known] = []
    counted = itertools.repeat(None)

    def spawn(fun: Callable[..., object], /, *args: Any, **kwargs: Any) -> Known:
        me = least.worker()
        if complete and fun is not me.scheduler.body:
            if fun.__code__.co_flags & NOT_A_BODY:
                raise TypeError("calling it would run nothing")
            me.scheduler.body = fun
        context = me.gr_context
        co = make(fun, args, kwargs)
        co.context = context if context is None else context.copy()
        co.id = number = next_id()
        frame = sys._getframe(1)
        co.where = frame.f_code, frame.f_lasti
        living[number] = co
        newborn.append(co)
        me.scheduler.ready.append(begin)
        if complete:
            made.append(co)
        return co

    def work() -> None:
        me = least.worker()
        entry: Callable[[], object] = begin
        while True:
            if entry is begin:
                co = newborn.popleft()
                me.scheduler.current = co
                me.gr_context = co.context
                try:
                    co.value = co.fun(*co.args) if co.args else co.fun()
                except BaseException as exc:
                    co.value = exc
                if complete:
                    next(counted)
                    if co.name is None:
                        co.name = co.fun.__qualname__
                    if co.joiners is not None:
                        ready.extend(co.joiners)
                co.dead = True
                del living[co.id]
                co.fun = co.args = co.kwargs = co.resume = co.context = None
                entry = ready.popleft()
            else:
                entry()
                entry = begin  # which has resumed this greenlet

    def join(co: Known) -> None:
        if not co.dead:
            raise RuntimeError("all have ended when this is called")

    def run() -> None:
        ready.append(spawner.switch)
        ready.popleft()()
        for co in made:
            join(co)
        made.clear()

    spent: list[float] = []
    spawner = least.Worker(lambda: spent.append(in_batches(times, spawn, run)))
    begin = least.Worker(work).switch
    for each in (spawner, begin.__self__):  # type: ignore[attr-defined]
        each.scheduler = scheduler
    spawner.switch()
    return spent[0]


def spawn_complete(times: int) -> float:
    return spawn_in_greenlet(times, True)


def spawn_of_coro(times: int) -> float:
    return in_coro(in_batches, times)


def spawn_of_gevent(times: int) -> float:
    return in_gevent(in_batches, times)


# -- an item through a queue that is neither full nor empty ------------------------------------------------------------


def items(times: int, put: Callable[[int], object], get: Callable[[], int]) -> float:
    """Put fifty items in and take them out, again and again."""
    total = 0

    def main() -> None:
        nonlocal total
        for _ in range(times // 50):
            for number in range(50):
                put(number)
            for _ in range(50):
                total += get()

    spent = timed(main, times)
    assert total == times // 50 * sum(range(50))
    return spent


def queue_deque_only(times: int) -> float:
    held: deque[int] = deque()
    return items(times, held.append, held.popleft)


class Buffer:
    """A queue that never has to wait."""

    __slots__ = ("held",)

    def __init__(self) -> None:
        self.held: deque[int] = deque()

    def put(self, item: int) -> None:
        self.held.append(item)

    def get(self) -> int:
        return self.held.popleft()


class LimitedBuffer(Buffer):
    """One that looks whether it would have to."""

    __slots__ = ("getters", "limit", "putters")

    def __init__(self) -> None:
        super().__init__()
        self.getters: deque[object] = deque()
        self.putters: deque[object] = deque()
        self.limit = 100

    def put(self, item: int, block: bool = True, timeout: float | None = None) -> None:
        if len(self.held) < self.limit and not self.getters:
            self.held.append(item)

    def get(self, block: bool = True, timeout: float | None = None) -> int:
        if self.held and not self.putters:
            return self.held.popleft()
        raise LookupError("nothing in it")


def queue_method(times: int) -> float:
    queue = Buffer()
    return items(times, queue.put, queue.get)


def queue_limited(times: int) -> float:
    queue = LimitedBuffer()
    return items(times, queue.put, queue.get)


def queue_of_coro(times: int) -> float:
    import coro

    queue: coro.Queue[int] = coro.Queue(100)
    return items(times, queue.put, queue.get)


def queue_of_gevent(times: int) -> float:
    import gevent.queue

    queue = gevent.queue.Queue(100)
    return items(times, queue.put, queue.get)


# -- an echo ---------------------------------------------------------------------------------------------------------


def echo_by(entrant: str, kind: str = "tcp") -> Step:
    """The CPU time that a server spends on a request, with 100 connections; a second of them for 100,000 *times*."""

    def step(times: int) -> float:
        with echo.serving(entrant, kind) as (port, pid):
            run = echo.ask("tcp", port, pid, connections=100, size=64, seconds=max(0.1, times / 100_000))
        return float(run["server"] / run["requests"])

    return step


OPERATIONS: dict[str, dict[str, tuple[str, Step]]] = {
    "A switch between two coroutines that are runnable": {
        "switch-only": ("greenlet.switch, nothing else", switch_only),
        "switch-function": ("called from a Python function", switch_in_function),
        "switch-queue": ("a deque says who is next", switch_by_queue),
        "switch-thread": ("found by thread; may be interrupted, is never scheduled twice", least.switch_in_any_thread),
        "switch-fair": (
            "behind all that the others make ready, and the system is asked every 128 switches",
            least.switch_fairly,
        ),
        "switch-coro": ("coro.yield_slice", switch_of_coro),
        "switch-gevent": ("gevent.sleep(0)", switch_of_gevent),
    },
    "A switch between 1,000 coroutines that are runnable": {
        "wide-thread": (
            "found by thread; may be interrupted, is never scheduled twice",
            least.wide_switch_in_any_thread,
        ),
        "wide-fair": (
            "behind all that the others make ready, and the system is asked every 128 switches",
            least.wide_switch_fairly,
        ),
        "wide-coro": ("coro.yield_slice", wide_switch_of_coro),
        "wide-gevent": ("gevent.sleep(0)", wide_switch_of_gevent),
    },
    "A trivial call under a timeout": {
        "timeout-call": ("a function that calls a function", timeout_call_only),
        "timeout-clock": ("and reads the clock", timeout_and_clock),
        "timeout-noted": ("and notes the deadline, and forgets it in any case", timeout_noted),
        "timeout-thread": ("found by thread", timeout_in_any_thread),
        "timeout-coro": ("coro.with_timeout", timeout_of_coro),
        "timeout-gevent": ("gevent.with_timeout", timeout_of_gevent),
    },
    "Spawn and finish, in batches of 100": {
        "spawn-call": ("a function is queued and called", spawn_call_only),
        "spawn-object": ("as an object with ten fields", spawn_object),
        "spawn-known": ("which has a number and is found by it", spawn_known),
        "spawn-where": ("and knows where it was made", spawn_known_where),
        "spawn-greenlet": ("and runs in a greenlet, with context variables of its own", spawn_in_greenlet),
        "spawn-complete": (
            "keeps its name, is counted and joined, and is refused if its call would run nothing",
            spawn_complete,
        ),
        "spawn-coro": ("coro.spawn, and join", spawn_of_coro),
        "spawn-gevent": ("gevent.spawn, and join", spawn_of_gevent),
    },
    "A hand-over through a semaphore": {
        "semaphore-fair": (
            "by such a switch; the system is asked every 128 switches, yielders wait behind the others",
            least.semaphore_of_any_thread,
        ),
        "semaphore-coro": ("coro.semaphore", semaphore_of_coro),
        "semaphore-gevent": ("gevent.lock.Semaphore, which is compiled", semaphore_of_gevent),
    },
    "Lock a mutex, yield, unlock it; 10 compete": {
        "mutex-fair": (
            "by such a switch, in turn; the system is asked every 128 switches, yielders wait behind the others",
            least.mutex_of_any_thread,
        ),
        "mutex-coro": ("coro.mutex, which knows its owner", mutex_of_coro),
        "mutex-gevent": ("gevent.lock.Semaphore(1), which is compiled, and not handed over in turn", mutex_of_gevent),
    },
    "An event that wakes 1,000, each": {
        "event-thread": ("by such a switch", least.event_of_any_thread),
        "event-coro": ("coro.Event", event_of_coro),
        "event-gevent": ("gevent.event.Event, which is compiled", event_of_gevent),
    },
    "An item through a queue that is neither full nor empty": {
        "queue-deque": ("deque.append and deque.popleft", queue_deque_only),
        "queue-method": ("in a method each", queue_method),
        "queue-limited": ("which look whether they would have to wait", queue_limited),
        "queue-coro": ("coro.Queue", queue_of_coro),
        "queue-gevent": ("gevent.queue.Queue, which is compiled", queue_of_gevent),
    },
    "An echo of 64 bytes, 100 connections; CPU time of the server": {
        "echo-greenlet": ("greenlet and epoll", echo_by("greenlet")),
        "echo-methods": ("by two methods of a socket object", echo_by("ladder", "methods")),
        "echo-memory": (
            "which remembers what epoll has said, and has one reader and one writer at a time",
            echo_by("ladder", "memory"),
        ),
        "echo-coroutines": (
            "found by thread; may be interrupted, is never scheduled twice, and lets others run now and then",
            echo_by("ladder", "coroutines"),
        ),
        "echo-coro": ("coro.sock", echo_by("coro")),
        "echo-gevent": ("gevent.socket", echo_by("gevent")),
    },
    "Memory of a coroutine that sleeps, of 10,000": {
        "memory-greenlet": ("a greenlet, parked in a function that is called by another", least.memory_of_greenlet),
        "memory-known": ("as an object with ten fields, which has a number and is found by it", least.memory_of_known),
        "memory-timer": ("until a deadline", least.memory_of_sleeper),
        "memory-coro": ("coro.sleep_relative", memory_of_coro),
        "memory-gevent": ("gevent.sleep", memory_of_gevent),
    },
}
STEPS = {name: step for steps in OPERATIONS.values() for name, (_, step) in steps.items()}


def is_memory(name: str) -> bool:
    return name.startswith("memory-")


def table(title: str, times: dict[str, list[float]]) -> str:
    """The steps of one operation in Markdown, with what each takes of gevent's time."""
    steps = OPERATIONS[title]
    *_, gevent = steps
    unit = "bytes" if is_memory(gevent) else "s"
    lines = [f"| {title} | {'memory' if unit == 'bytes' else 'time'} | of gevent's |", "|---|---|---|"]
    for name, (what, _) in steps.items():
        lines.append(
            f"| {what} | {tables.amount(quartiles(times[name]).median, unit)} "
            f"| {tables.scatter(quartiles(ratios(times[name], times[gevent])))} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.floors", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=7, help="how many (default: 7)")
    parser.add_argument("--times", type=int, default=100_000, help="operations in each measurement (default: 100000)")
    parser.add_argument("--step", choices=STEPS, help="run one step in this process, and print its seconds, or bytes")
    args = parser.parse_args()
    if args.step:
        if is_memory(args.step):  # only what is new takes memory anew
            print(STEPS[args.step](min(args.times, 10_000)), flush=True)
        else:
            print(min(STEPS[args.step](args.times) for _ in range(REPEATS)), flush=True)
        os._exit(0)  # the greenlets of a ring are parked for ever
    times: dict[str, list[float]] = {name: [] for name in STEPS}
    names = list(STEPS)
    with native.compiled() as environment:
        for number in range(args.rounds):
            print(f"\rround {number + 1} of {args.rounds}", end="", file=sys.stderr, flush=True)
            for name in names[number % len(names) :] + names[: number % len(names)]:
                command = [sys.executable, "-m", "benchmarks.floors", "--times", str(args.times), "--step", name]
                done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})
                if done.returncode:
                    sys.exit(f"\n{name} failed: {done.stderr.strip()}")
                times[name].append(float(done.stdout))
    print(file=sys.stderr)
    print(f"CPython {sys.version.split()[0]}; medians of {args.rounds} interleaved rounds.\n")
    print("\n\n".join(table(title, times) for title in OPERATIONS))


if __name__ == "__main__":
    main()
