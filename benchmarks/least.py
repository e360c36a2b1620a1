"""The least that coroutines on greenlet can be: what `benchmarks.floors` builds up, step by step.

Each class and function here does what the one before it does, and one thing more.  Nothing of coro is used.
"""

from __future__ import annotations

import gc
import itertools
import select
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from heapq import heappush
from typing import Any, cast

from greenlet import getcurrent, greenlet

from .programs import FOREVER, resident


def timed(function: Callable[[], object], times: int) -> float:
    """Return the seconds that *function* takes for each of so many operations."""
    begin = time.perf_counter()
    function()
    return (time.perf_counter() - begin) / times


# -- coroutines ------------------------------------------------------------------------------------------------------


class Coroutine:
    """Where it parks, whether it is on its way, and what is to be raised in it."""

    __slots__ = ("pending", "resume", "scheduled")

    def __init__(self, resume: Callable[[], object]) -> None:
        self.resume = resume
        self.scheduled = False
        self.pending: BaseException | None = None


class Worker(greenlet):
    """A greenlet that knows what each thread must have one of."""

    __slots__ = ("scheduler",)

    scheduler: Scheduler


worker = cast("Callable[[], Worker]", getcurrent)


class Scheduler:
    """A queue of those that are ready: whoever parks calls the next one."""

    __slots__ = ("begun", "body", "budget", "current", "ready", "yielded")

    def __init__(self) -> None:
        self.ready: deque[Callable[[], Any]] = deque()
        self.yielded: deque[Callable[[], Any]] = deque()
        self.current: Coroutine | None = None
        self.begun = 0  # and not yet through
        self.body: object = None  # the function that was looked at last
        self.budget = 128

    def spawn(self, function: Callable[[], object]) -> Coroutine:
        """Make a coroutine.  Its stack begins where all others begin, so each switch exchanges one for another."""
        main = getcurrent()

        def body() -> None:
            main.switch()
            self.current = co
            co.scheduled = False
            function()
            self.begun -= 1

        new = Worker(body)
        new.scheduler = self
        co = Coroutine(new.switch)
        new.switch()
        self.begun += 1
        co.scheduled = True
        self.ready.append(co.resume)
        return co

    def run(self) -> None:
        """Run all, in the greenlet that has made them."""
        while self.begun:
            (self.ready.popleft() if self.ready else self.next_pass())()

    def ask(self) -> None:
        self.budget = 128
        select.select([], [], [], 0)

    def poll(self) -> Any:
        """An entry of the queue: ask the system, and go on."""
        self.ask()
        return (self.ready.popleft() if self.ready else self.next_pass())()

    def next_pass(self) -> Callable[[], Any]:
        """Nothing is ready: let in those that have yielded, and ask the system every 128 switches."""
        batch = self.yielded
        self.budget -= len(batch)
        if self.budget <= 0:
            self.ask()
        self.ready, self.yielded = batch, self.ready
        return batch.popleft()


def give_way() -> None:
    scheduler = worker().scheduler
    me = scheduler.current
    assert me is not None
    scheduler.ready.append(me.resume)
    me.scheduled = True
    scheduler.ready.popleft()()
    scheduler.current = me
    me.scheduled = False
    if me.pending is not None:
        raise me.pending


def give_way_fairly() -> None:  # the same but for its queue, which as a parameter would cost
    scheduler = worker().scheduler
    me = scheduler.current
    assert me is not None
    ready, yielded = scheduler.ready, scheduler.yielded
    if ready:
        me.scheduled = True
        yielded.append(me.resume)
        ready.popleft()()
    elif (budget := scheduler.budget - len(yielded) - 1) <= 0:
        me.scheduled = True
        yielded.append(me.resume)
        scheduler.next_pass()()
    else:  # the end of a pass, in which nobody has to be asked
        scheduler.budget = budget
        if not yielded:
            return
        me.scheduled = True
        yielded.append(me.resume)
        scheduler.ready, scheduler.yielded = yielded, ready
        yielded.popleft()()
    scheduler.current = me
    me.scheduled = False
    if me.pending is not None:
        raise me.pending


def yield_in_turn(times: int, scheduler: Scheduler, yields: Callable[[], None], width: int = 2) -> float:
    through: list[int] = []

    def body(number: int) -> None:
        for _ in range(times // width):
            yields()
        through.append(number)

    for number in range(width):
        scheduler.spawn(partial(body, number))
    spent = timed(scheduler.run, times)
    assert through == [*range(width)], "the first to begin is the first to be through"
    return spent


def switch_in_any_thread(times: int) -> float:
    return yield_in_turn(times, Scheduler(), give_way)


def switch_fairly(times: int) -> float:
    return yield_in_turn(times, Scheduler(), give_way_fairly)


def wide_switch_in_any_thread(times: int) -> float:
    return yield_in_turn(times, Scheduler(), give_way, min(times // 2, 1000))


def wide_switch_fairly(times: int) -> float:
    return yield_in_turn(times, Scheduler(), give_way_fairly, min(times // 2, 1000))


# -- what waits for each other ---------------------------------------------------------------------------------------


class Semaphore:
    """Units are handed over to those that wait, in the order in which they came.

    Others may have yielded meanwhile, and hand-overs must not keep the system from being asked.
    """

    __slots__ = ("units", "waiting")

    def __init__(self, units: int) -> None:
        self.units = units
        self.waiting: deque[tuple[Coroutine, Scheduler]] = deque()

    def acquire(self) -> None:
        if self.units:
            self.units -= 1
            return
        scheduler = worker().scheduler
        me = scheduler.current
        assert me is not None
        self.waiting.append((me, scheduler))
        ready = scheduler.ready
        (ready.popleft() if ready else scheduler.next_pass())()
        scheduler.current = me
        me.scheduled = False
        if me.pending is not None:
            raise me.pending

    def release(self) -> None:
        if self.waiting:
            heir, scheduler = self.waiting.popleft()
            if not heir.scheduled:
                scheduler.ready.append(heir.resume)
                heir.scheduled = True
                scheduler.budget = budget = scheduler.budget - 1
                if not budget:
                    scheduler.ready.append(scheduler.poll)
        else:
            self.units += 1


class Event:
    """Wakes all that wait."""

    __slots__ = ("waiting",)

    def __init__(self) -> None:
        self.waiting: deque[tuple[Coroutine, Scheduler]] = deque()

    def wait(self) -> None:
        scheduler = worker().scheduler
        me = scheduler.current
        assert me is not None
        self.waiting.append((me, scheduler))
        scheduler.ready.popleft()()
        scheduler.current = me
        me.scheduled = False
        if me.pending is not None:
            raise me.pending

    def set(self) -> None:
        for waiter, scheduler in self.waiting:
            if not waiter.scheduled:
                scheduler.ready.append(waiter.resume)
                waiter.scheduled = True
        self.waiting.clear()


Spawn = Callable[[Callable[[], None]], object]


def hand_over(times: int, spawn: Spawn, run: Callable[[], object], make: Callable[[int], Any]) -> float:
    """Two coroutines hand the turn to each other, through two semaphores."""
    first, second, order = make(1), make(0), bytearray()

    def body(me: int, mine: Any, other: Any) -> None:
        for _ in range(times // 2):
            mine.acquire()
            order.append(me)
            other.release()

    spawn(lambda: body(0, first, second))
    spawn(lambda: body(1, second, first))
    spent = timed(run, times)
    assert order == b"\0\1" * (times // 2), "the turns were not taken in turn"
    return spent


def compete(
    times: int,
    spawn: Spawn,
    run: Callable[[], object],
    enter: Callable[[], object],
    leave: Callable[[], object],
    give_way: Callable[[], object],
) -> float:
    """Ten coroutines compete for a mutex, whose owner gives way before it unlocks."""
    inside = through = 0

    def body() -> None:
        nonlocal inside, through
        for _ in range(times // 10):
            enter()
            inside += 1
            give_way()
            assert inside == 1, "two own the mutex"
            inside -= 1
            leave()
        through += 1

    for _ in range(10):
        spawn(body)
    spent = timed(run, times)
    assert through == 10
    return spent


def wake_up(
    times: int, spawn: Spawn, run: Callable[[], object], make: Callable[[], Any], give_way: Callable[[], object]
) -> float:
    """A thousand coroutines wait for one event after the other.  The time is from setting one until all have run."""
    width = min(times // 2, 1000)
    events = [make() for _ in range(times // width)]
    woken, spent = bytearray(), 0.0

    def body() -> None:
        for event in events:
            woken.append(0)
            event.wait()

    def main() -> None:
        nonlocal spent
        while len(woken) < width:
            give_way()
        for number, event in enumerate(events[:-1], 2):
            begin = time.perf_counter()
            event.set()
            while len(woken) < width * number:
                give_way()
            spent += time.perf_counter() - begin
        events[-1].set()

    for _ in range(width):
        spawn(body)
    spawn(main)
    run()
    assert len(woken) == width * len(events)
    return spent / (width * (len(events) - 1))


def semaphore_of_any_thread(times: int) -> float:
    scheduler = Scheduler()
    return hand_over(times, scheduler.spawn, scheduler.run, Semaphore)


def mutex_of_any_thread(times: int) -> float:
    scheduler = Scheduler()
    lock = Semaphore(1)
    return compete(times, scheduler.spawn, scheduler.run, lock.acquire, lock.release, give_way_fairly)


def event_of_any_thread(times: int) -> float:
    scheduler = Scheduler()
    return wake_up(times, scheduler.spawn, scheduler.run, Event, give_way)


# -- memory ----------------------------------------------------------------------------------------------------------


class Known:
    """What a coroutine object must hold at least: what to call, with what, where it parks, and what came of it."""

    __slots__ = ("args", "context", "dead", "fun", "id", "joiners", "kwargs", "name", "resume", "value", "where")

    id: int


def make(fun: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object] | None) -> Known:
    co = Known()
    co.fun = fun
    co.args = args
    co.kwargs = kwargs
    co.dead = False
    co.context = co.joiners = co.name = co.resume = co.value = None
    return co


def bytes_of_each(count: int, park: Callable[[], object]) -> float:
    """Return what each of so many occupies that *park* makes."""
    gc.collect()
    before = resident()
    kept = [park() for _ in range(count)]
    gc.collect()
    return (resident() - before) / len(kept)


def memory_of_greenlet(count: int) -> float:
    main = getcurrent()

    def sleep(seconds: float) -> None:
        main.switch()

    def body() -> None:
        sleep(FOREVER)

    def park() -> greenlet:
        new = greenlet(body)
        new.switch()
        return new

    return bytes_of_each(count, park)


def memory_of_known(count: int, timers: bool = False) -> float:
    main = getcurrent()
    living: dict[int, Known] = {}
    deadlines: list[float] = []
    sleeping: dict[float, Known] = {}
    next_id = itertools.count(1).__next__
    scheduler = Scheduler()

    def sleep(seconds: float) -> None:
        me = worker().scheduler.current
        if timers:
            when = time.monotonic() + seconds
            heappush(deadlines, when)
            sleeping[when] = cast("Known", me)
        main.switch()

    def body() -> None:
        sleep(FOREVER)

    def run() -> None:
        co = cast("Known", scheduler.current)
        co.value = co.fun(*co.args) if co.args else co.fun()  # f(*args) recurses in C on 3.11

    def park() -> Known:
        co = make(body, (), None)
        co.id = number = next_id()
        living[number] = co
        new = Worker(run)
        new.scheduler = scheduler
        scheduler.current = cast("Any", co)
        co.resume = cast("Any", new.switch)
        new.switch()
        return co

    return bytes_of_each(count, park)


def memory_of_sleeper(count: int) -> float:
    return memory_of_known(count, timers=True)


def sleeping(count: int, spawn: Callable[..., Any], sleep: Callable[[float], object]) -> float:
    """The same for a library, whose coroutines begin when this one sleeps."""
    begun = bytearray()

    def body() -> None:
        begun.append(0)
        sleep(FOREVER)

    gc.collect()
    before = resident()
    kept = [spawn(body) for _ in range(count)]
    while len(begun) < count:
        sleep(0.001)
    gc.collect()
    return (resident() - before) / len(kept)
