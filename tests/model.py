"""A model of the scheduler: the rules of coro in their plainest form, and random programs that compare the two.

Stands on the public verbs of coro, and on the clock and the poller, which its kernel lets one replace.

A `Program` is a list of scripts, each the body of a coroutine.  `Interpreter` runs them, and knows nothing of either
side: it calls the verbs of coro, or those of `Model`, which has the same names.  The verbs of the model are generators;
where coro switches to another coroutine, the model yields.  Each step leaves a line in a log, and the logs of both
must be equal: the order of events, their time, results, exceptions, and in the end the state of each coroutine.

Time is virtual.  The clock counts ticks of 1/512 s, which floats hold exactly, and moves only where a script says
"busy" or where the poller is asked to wait.  The poller is a real one with real sockets, asked without waiting, and
reports by descriptor, upwards or downwards as the program says.

How many switches may pass between two polls, and before yielders are let in, is no promise of order but a bound.  It
is followed exactly, in `Model.count`, `Model.end_pass` and `Model.turn` only, and programs choose small bounds to reach
them.  Two things follow the kernel where no rule decides: a timeout takes its place among equal deadlines at the first
poll after it began, and those that have yielded when the loop ends are not run to their end.  Not modelled: threads,
signals, fork, coroutines that refuse to end, descriptors that coro owns, the order in which a poller reports.

Programs come from `random.Random` and not from hypothesis, which needs four times as long to make one as it takes to
run it.  `shrink` does what is then missing.
"""

from __future__ import annotations

import io
import math
import random
import socket
import sys
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from inspect import isgenerator
from itertools import chain, repeat, zip_longest
from types import TracebackType
from typing import Any

import pytest
from greenlet import greenlet

import coro
import coro.kernel
import coro.latency
import coro.loop
import coro.running
import coro.timeouts
import coro.verbs
from coro.kernel import this_kernel
from coro.poller import Poller

Op = tuple[Any, ...]
Script = tuple[Op, ...]
Steps = Generator[None, Any, Any]

TICKS = 512  # in a second
MOST = 10  # coroutines of one program
MOST_WAITS = 5000  # of one program; far more than any needs
PAIRS = 2  # of connected sockets: the ends 0 and 1, 2 and 3
FULL = 2
STUCK = "stuck"  # the exit code when nothing can happen any more
GRACE = 5 * TICKS

LOST_PLACE = "a hint costs a joiner its place"
LATE_YIELDER = "an interrupted yielder waits for the next pass"
UNTOLD_WAITER = "a waiter that was given a hint does not learn of a close"
EARLIER_THAN_NOW = "a negative timeout is over before those of 0 that began earlier"
INNER_FIRST = "a timeout of 0 is over before an outer one with the same deadline"
LATE_DEADLOCK = "timers that were cancelled delay the detection of a deadlock"
TOLD_TWICE = "a coroutine that is shut down as the loop ends has its cleanup shut down too"
LATE_BIRTH = "after a repair, a newborn begins in the place of one behind it that was cancelled"

#: Where the kernel is known to break a rule: programs that meet one of these are left out until it is mended.
KNOWN_DEFECTS: set[str] = set()


class Boom(Exception):
    """What programs raise."""


class Break(KeyboardInterrupt):
    """What programs raise for a ^C."""


# -- programs --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Program:
    """Scripts, each of which is spawned once at the start, and the settings of the kernel that runs them."""

    scripts: tuple[Script, ...]
    switches_per_poll: int = 64
    switches_per_pass: int = 10_000
    downwards: bool = False


CLASSES: dict[str, type[BaseException]] = {
    "Boom": Boom,
    "WakeUp": coro.WakeUp,
    "Shutdown": coro.Shutdown,
    "Interrupted": coro.Interrupted,
    "TimeoutError": coro.TimeoutError,
    "SystemExit": SystemExit,
    "Break": Break,
    "Exception": Exception,
    "BaseException": BaseException,
}

REFS = range(6)
ENDS = range(2 * PAIRS)

# Simple operations by kind.
SIMPLE: dict[str, list[Op]] = {
    "give way": [("yield_slice",), *(("sleep", n) for n in (0, 1, 2, 3)), *(("sleep_until", n) for n in (-1, 0, 1, 2))],
    "suspend": [("suspend",)],
    "time": [("busy", ticks) for ticks in (1, 2, 3)],
    "make": [(verb, ref) for verb in ("spawn", "new") for ref in REFS],
    "wake": [("schedule", ref, ref * 11) for ref in REFS],
    "start": [("start", ref) for ref in REFS],
    "look": [("look", ref) for ref in REFS],
    "shut down": [("shutdown", ref) for ref in REFS],
    "throw": [
        ("throw", ref, kind, force, cancel)
        for kind in ("Boom", "WakeUp", "Interrupted", "Shutdown")
        for force, cancel in ((True, False), (False, False), (True, True))
        for ref in REFS
    ],
    "join": [(verb, ref, limit) for verb in ("join", "result") for limit in (None, 0, 1, 3) for ref in REFS],
    "wait": [(verb, end) for verb in ("wait_read", "wait_write") for end in ENDS],
    "transfer": [(verb, end) for verb in ("send", "receive", "fill", "close") for end in ENDS],
    "fail": [("fail", kind) for kind in ("Boom", "Shutdown", "Interrupted", "TimeoutError")],
    "rare": [("exit", 3), ("fail", "SystemExit"), ("fail", "Break"), ("sleep", math.inf)],
}
# Those that may stand in a finally block: what they wait for comes even while the loop ends.
SURE = [op for kind in SIMPLE if kind not in ("suspend", "join", "wait", "rare") for op in SIMPLE[kind]]
WITH_A_BODY = ["times", "catch", "finally", "limit", "limit_call", "foreign"]


def generate(seed: str) -> Program:
    """Make the program that belongs to a seed.  Each has only some kinds of operations, so that they meet."""
    rng = random.Random(seed)
    kinds = [SIMPLE[kind] for kind in rng.sample(list(SIMPLE), rng.randint(2, len(SIMPLE)))]
    bodies = rng.sample(WITH_A_BODY, rng.randint(0, len(WITH_A_BODY)))

    def block(most: int, depth: int) -> Script:
        return tuple(operation(depth) for _ in range(rng.randint(1, most)))

    def operation(depth: int) -> Op:
        if not depth or not bodies or rng.random() < 0.7:
            return rng.choice(rng.choice(kinds))
        name = rng.choice(bodies)
        body = block(4, depth - 1)
        match name:
            case "times":
                return name, rng.choice([2, 3]), body
            case "catch":
                return name, rng.choice(["Exception", "BaseException", "Interrupted", "TimeoutError"]), body
            case "finally":
                return name, body, tuple(rng.choice(SURE) for _ in range(rng.randint(1, 2)))
            case "foreign":
                return name, body
        return name, rng.choice([0, 1, 2, 4, -1, math.inf]), body

    return Program(
        scripts=tuple(block(6, 2) for _ in range(rng.randint(1, 5))),
        switches_per_poll=rng.choice([64, 64, 1, 3, 8]),
        switches_per_pass=rng.choice([10_000, 10_000, 1, 5]),
        downwards=rng.random() < 0.5,
    )


def shrink(program: Program, fails: Callable[[Program], object]) -> Program:
    """Make a program that fails smaller, as long as it still fails."""
    shrunk = True
    while shrunk:
        candidates = chain(
            (replace(program, **{field.name: field.default}) for field in fields(Program)[1:]),
            (replace(program, scripts=scripts) for scripts in simpler(program.scripts) if scripts),
        )
        shrunk = False
        for candidate in candidates:
            if candidate != program and fails(candidate):
                program, shrunk = candidate, True
                break
    return program


def simpler(things: Script) -> Iterator[Script]:
    """Leave one out, put its body in its place, or make it simpler itself.  For bodies and for lists of scripts."""
    for number, thing in enumerate(things):
        before, after = things[:number], things[number + 1 :]
        yield before + after
        if isinstance(thing[0] if thing else None, str):  # an operation
            for at, arg in enumerate(thing):
                if isinstance(arg, tuple):
                    yield before + arg + after
                    others: Iterable[Any] = simpler(arg)
                else:
                    others = {0, arg - 1} if type(arg) is int and arg > 0 else ()
                for other in others:
                    yield (*before, (*thing[:at], other, *thing[at + 1 :]), *after)
        else:
            yield from ((*before, other, *after) for other in simpler(thing))


class Interpreter:
    """Runs the scripts of a program on the verbs of *api*, which is coro or the model of it."""

    api: Any
    tick: float  # the unit of the api's relative times
    tick_now: int  # the unit of its absolute times

    def __init__(self, program: Program, known: set[str]) -> None:
        self.program = program
        self.known = known
        self.log: list[tuple[Any, ...]] = []
        self.cos: list[Any] = []
        self.coming = [0 for _ in ENDS]  # for each end, what is on its way to it: 0, 1 or FULL

    # What the two sides do differently.

    def now(self) -> int:
        """The virtual time in ticks."""
        raise NotImplementedError

    def inner(self, me: int, body: Script) -> Any:
        """Run *body* below the frames that there are."""
        raise NotImplementedError

    def foreign(self, me: int, body: Script) -> Any:
        """Run *body* in a greenlet of its own."""
        raise NotImplementedError

    def exiting(self) -> bool:
        """Whether the loop is about to end."""
        raise NotImplementedError

    def end(self, number: int) -> Any:
        """What the api takes for the descriptor of an end."""
        raise NotImplementedError

    # The log.

    def note(self, *what: Any) -> None:
        self.log.append((self.now(), *what))

    def number(self, co: Any) -> int:
        return next((number for number, other in enumerate(self.cos) if other is co), -1)

    def said(self, exc: BaseException | None) -> tuple[Any, ...]:
        """An exception in a form that both sides have in common."""
        name = next(c.__name__ for c in type(exc).__mro__ if c.__module__ != "coro.coroutine")
        match exc:
            case coro.ScheduleError():
                return name, self.number(exc.args[0])
            case coro.SimultaneousError():
                ends = [self.end(number) for number in ENDS]
                return name, self.number(exc.co), self.number(exc.other), ends.index(exc.event[0]), exc.event[1]
            case coro.ClosedError():
                return name, self.number(exc.closed_by)
            case coro.TimeoutError():
                return name, exc.seconds and exc.seconds / self.tick
            case coro.Interrupted():
                return name, len(exc.args)
        return name, *getattr(exc, "args", ())

    # The program.

    def begin(self) -> None:
        for number, _ in enumerate(self.program.scripts):
            self.spawn(number)

    def script(self, me: int, script: Script) -> Steps:
        """The life of one coroutine."""
        self.note(me, "begins")
        try:
            yield from self.block(me, script)
        except BaseException as exc:
            self.note(me, "fails", self.said(exc))
            raise
        self.note(me, "ends")
        return me

    def block(self, me: int, ops: Script) -> Steps:
        for op in ops:
            match op:
                case "times", count, body:
                    for _ in range(count):
                        yield from self.block(me, body)
                case "catch", kind, body:
                    try:
                        yield from self.block(me, body)
                    except CLASSES[kind] as exc:
                        if self.exiting():
                            raise  # one that refuses to end would have to be abandoned
                        self.note(me, "catches", self.said(exc))
                case "finally", body, last:
                    try:
                        yield from self.block(me, body)
                    finally:
                        self.note(me, "finally")
                        yield from self.block(me, last)
                case "limit", ticks, body:
                    with self.api.timeout(ticks * self.tick):
                        yield from self.block(me, body)
                case "limit_call", ticks, body:
                    yield from steps(self.api.with_timeout(ticks * self.tick, self.inner, me, body))
                case "foreign", body:
                    yield from steps(self.foreign(me, body))
                case verb, *args:
                    yield from self.do(me, verb, args)

    def do(self, me: int, verb: str, args: list[Any]) -> Steps:
        try:
            result = yield from steps(getattr(self, verb)(*args))
        except (coro.ScheduleError, coro.SimultaneousError) as exc:
            self.note(me, verb, *args, self.said(exc))  # refused: nothing has happened
        except BaseException as exc:
            self.note(me, verb, *args, self.said(exc))
            raise
        else:
            self.note(me, verb, *args, result)

    # The simple operations.

    def at(self, ref: int) -> Any:
        return self.cos[ref % len(self.cos)]

    def make(self, ref: int, how: Callable[..., Any]) -> str | None:
        if len(self.cos) == MOST:
            return "enough"
        script = self.program.scripts[ref % len(self.program.scripts)]
        self.cos.append(how(self.body, len(self.cos), script))
        return None

    def body(self, me: int, script: Script) -> Any:
        raise NotImplementedError

    def spawn(self, ref: int) -> str | None:
        return self.make(ref, self.api.spawn)

    def new(self, ref: int) -> str | None:
        return self.make(ref, self.api.new)

    def start(self, ref: int) -> Any:
        return self.at(ref).start()

    def schedule(self, ref: int, value: Any) -> Any:
        return self.at(ref).schedule(value)

    def throw(self, ref: int, kind: str, force: bool, cancel: bool) -> Any:
        exc = CLASSES[kind]() if force else CLASSES[kind]  # an instance or a class
        return self.at(ref).raise_exception(exc, force=force, cancel_start=cancel)

    def shutdown(self, ref: int) -> Any:
        return self.at(ref).shutdown()

    def join(self, ref: int, ticks: int | None) -> Any:
        return self.at(ref).join(None if ticks is None else ticks * self.tick)

    def result(self, ref: int, ticks: int | None) -> Any:
        return self.at(ref).result(None if ticks is None else ticks * self.tick)

    def look(self, ref: int) -> tuple[bool, bool, bool, bool]:
        co = self.at(ref)
        return co.dead, co.started, co.scheduled, self.api.all_threads.get(co.id) is co

    def fail(self, kind: str) -> None:
        raise CLASSES[kind](*[7] * (kind == "SystemExit"))

    def exit(self, code: int) -> Any:
        return self.api.set_exit(code)

    def yield_slice(self) -> Any:
        return self.api.yield_slice()

    def suspend(self) -> Any:
        return self.api.suspend()

    def sleep(self, ticks: float) -> Any:
        return self.api.sleep_relative(ticks * self.tick)

    def sleep_until(self, ticks: int) -> Any:
        return self.api.sleep_absolute((self.now() + ticks) * self.tick_now)

    def wait_read(self, end: int) -> Any:
        return self.api.wait_for_read(self.end(end))

    def wait_write(self, end: int) -> Any:
        return self.api.wait_for_write(self.end(end))

    def close(self, end: int) -> Any:
        return self.api.notify_of_close(self.end(end))

    def send(self, end: int) -> None:
        if self.coming[end ^ 1] == 0:
            self.move(end, 1)

    def fill(self, end: int) -> None:
        if self.coming[end ^ 1] != FULL:
            self.move(end, FULL)

    def receive(self, end: int) -> None:
        self.coming[end] = 0

    def move(self, end: int, amount: int) -> None:
        self.coming[end ^ 1] = amount


def steps(made: Any) -> Steps:
    """Go through what a verb of the model has returned; that of a verb of coro is its result."""
    if isgenerator(made):
        return (yield from made)
    return made


# -- the model -------------------------------------------------------------------------------------------------------


class Place:
    """A place in a queue.  Void (``co`` is None) once its coroutine has left it."""

    def __init__(self, co: ModelCoro | None, value: Any) -> None:
        self.co = co
        self.value = value


ASK = Place(None, None)  # where the system is asked although somebody is ready


class ModelCoro:
    """A coroutine of the model."""

    def __init__(self, model: Model, fun: Callable[..., Steps], args: tuple[Any, ...]) -> None:
        self.model = model
        self.fun = fun
        self.args = args
        self.dead = self.started = False
        self.place: Place | None = None
        self.yields = False  # its place is that of a yielder, which is no wake-up
        self.pending: BaseException | type[BaseException] | None = None
        self.joiners: dict[ModelCoro, None] = {}
        self.collectors = 0
        self.error: BaseException | None = None

    @property
    def id(self) -> int:
        return id(self)

    @property
    def scheduled(self) -> bool:
        return self.place is not None

    def start(self) -> None:
        if self.dead:
            raise coro.DeadCoroutine(self)
        if self.started or self.scheduled:
            raise coro.ScheduleError(self)
        self.model.launch(self)

    def schedule(self, value: Any) -> None:
        if self.dead:
            raise coro.DeadCoroutine(self)
        if self.scheduled or self.model.current is self:
            raise coro.ScheduleError(self)
        if self.started:
            self.model.wake(self, value)
        else:
            self.model.launch(self)

    def raise_exception(
        self, exc: BaseException | type[BaseException], force: bool = True, cancel_start: bool = False
    ) -> None:
        if self.dead:
            raise coro.DeadCoroutine(self)
        if not self.started:
            if not cancel_start:
                raise coro.NotStartedError(self)
            self.model.bury(self)
        elif self.model.current is self or (self.scheduled and not force):
            raise coro.ScheduleError(self)
        else:
            self.model.interrupt(self, exc)

    def shutdown(self) -> None:
        if self.model.current is self:
            raise coro.Shutdown
        if not self.dead:
            self.raise_exception(coro.Shutdown, cancel_start=True)

    def join(self, ticks: float | None = None) -> Steps:
        me = self.model.running()
        if self.dead:
            return
        if self is me:
            raise coro.ScheduleError(self)
        if ticks is not None:
            with self.model.timeout(ticks):
                yield from self.join()
            return
        self.joiners[me] = None
        try:
            while not self.dead:
                yield
                if not self.dead and len(self.joiners) > 1:
                    self.model.met.add(LOST_PLACE)
        finally:
            self.joiners.pop(me, None)

    def result(self, ticks: float | None = None) -> Steps:
        self.collectors += 1
        try:
            yield from self.join(ticks)
        finally:
            self.collectors -= 1
        if not self.started or isinstance(self.error, coro.Shutdown):
            raise coro.DeadCoroutine(self)
        if self.error is not None:
            raise self.error
        return self.value


class ModelTimeout:
    """``with model.timeout(ticks):``"""

    def __init__(self, model: Model, ticks: float) -> None:
        self.model = model
        self.ticks = ticks

    def __enter__(self) -> None:
        model = self.model
        self.co = model.running()
        self.when = model.now + max(self.ticks, 0)
        if self.ticks < 0:
            model.met.add(EARLIER_THAN_NOW)
        self.interrupt: coro.Interrupted | None = None
        self.postponed = False
        if self.ticks <= 0:
            model.count(model.budget)
            if any(other.when == self.when for other in model.unarmed):
                model.met.add(INNER_FIRST)
        model.unarmed.append(self)

    def __exit__(self, kind: Any, exc: BaseException | None, traceback: TracebackType | None) -> None:
        if self in self.model.unarmed:
            self.model.unarmed.remove(self)
        self.model.cancel_timer(self)
        if self.interrupt is None:
            return
        if exc is self.interrupt:
            error = coro.TimeoutError()
            error.seconds = self.ticks
            raise error from None
        if exc is None and self.interrupt.__traceback__ is not None:  # raised, and not seen again
            self.model.warn()


class Model:
    """The rules.  Its verbs are named like those of coro; those that block are generators."""

    def __init__(
        self, program: Program, coming: list[int], warn: Callable[[], None], notify: Callable[..., None]
    ) -> None:
        self.program = program
        self.coming = coming
        self.warn = warn
        self.notify = notify
        self.now = 0
        self.current: ModelCoro | None = None
        self.ready: deque[Place] = deque()
        self.yielded: deque[Place] = deque()
        self.timers: list[tuple[float, int, ModelCoro | ModelTimeout]] = []
        self.serial = 0
        self.unarmed: list[ModelTimeout] = []
        self.waiters: dict[tuple[int, str], ModelCoro] = {}
        self.waiting = 0
        self.live: dict[ModelCoro, None] = {}
        self.unstarted: dict[ModelCoro, None] = {}
        self.told: set[ModelCoro] = set()
        self.exiting = self.stop = self.deadlock = False
        self.deadline = math.inf
        self.exit_code: Any = 0
        self.failure: BaseException | None = None
        self.budget = self.limit = self.passes = self.births = program.switches_per_poll
        self.in_pass = 0
        self.polled = 0
        self.met: set[str] = set()

    @property
    def all_threads(self) -> dict[int, ModelCoro]:
        return {co.id: co for co in (*self.live, *self.unstarted)}

    def running(self) -> ModelCoro:
        assert self.current is not None
        return self.current

    # Making, waking, ending.

    def spawn(self, fun: Callable[..., Steps], *args: Any) -> ModelCoro:
        co = ModelCoro(self, fun, args)
        self.launch(co)
        return co

    def new(self, fun: Callable[..., Steps], *args: Any) -> ModelCoro:
        co = ModelCoro(self, fun, args)
        self.unstarted[co] = None
        return co

    def launch(self, co: ModelCoro) -> None:
        self.unstarted.pop(co, None)
        self.live[co] = None
        co.place = Place(co, None)
        self.ready.append(co.place)

    def wake(self, co: ModelCoro, value: Any = None) -> None:
        """At the tail of the queue, unless it is ready already."""
        if not co.dead and co.place is None:
            co.place = Place(co, value)
            self.ready.append(co.place)
            self.count(1)

    def interrupt(self, co: ModelCoro, exc: BaseException | type[BaseException]) -> None:
        """The last exception wins, over earlier ones and over a wake-up, and goes to the tail of the queue."""
        old = co.pending
        if old is coro.Shutdown:
            self.told.discard(co)
        elif isinstance(old, coro.Interrupted) and old.args and isinstance(old.args[0], ModelTimeout):
            old.args[0].interrupt = None  # what was to time out still has
            old.args[0].postponed = True
            self.unarmed.append(old.args[0])
        co.pending = exc
        queue = self.ready
        if co.place is not None:
            if co.place in self.yielded:
                queue = self.yielded
            elif co.yields:
                self.met.add(LATE_YIELDER)
            co.place.co = None
        co.place = Place(co, None)
        queue.append(co.place)
        if queue is self.ready:
            self.count(1)

    def step(self, place: Place) -> None:
        """Run a coroutine from one wait to the next."""
        co = place.co
        if co is None:
            return
        co.place = None
        co.yields = False
        self.current = co
        try:
            if not co.started:
                if not self.births:
                    self.births = self.limit
                    self.count(self.budget)
                self.births -= 1
                co.started = True
                co.steps = co.fun(*co.args)
                co.steps.send(None)
            elif co.pending is not None:
                exc, co.pending = co.pending, None
                co.steps.throw(exc)
            else:
                co.steps.send(place.value)
        except StopIteration as stop:
            co.value = stop.value
            self.bury(co)
        except BaseException as exc:
            co.error = exc
            if isinstance(exc, SystemExit):
                self.set_exit(exc.code)
            elif isinstance(exc, KeyboardInterrupt):
                self.failure = self.failure or exc
                self.exiting = True
            elif not isinstance(exc, coro.Shutdown) and not co.collectors:
                self.notify(exc)
            self.bury(co)
        self.current = None

    def bury(self, co: ModelCoro) -> None:
        """It has ended or was cancelled: its joiners are woken in order."""
        co.dead = True
        if co.place is not None:
            co.place.co = co.place = None
        self.live.pop(co, None)
        self.unstarted.pop(co, None)
        for joiner in co.joiners:
            self.wake(joiner)

    # The verbs.

    def yield_slice(self) -> Steps:
        co = self.running()
        co.yields = True
        co.place = Place(co, None)
        self.yielded.append(co.place)
        yield

    def suspend(self) -> Steps:
        return (yield)

    def sleep_relative(self, ticks: float) -> Steps:
        return self.yield_slice() if ticks <= 0 else self.sleep_till(self.now + ticks)

    def sleep_absolute(self, when: int) -> Steps:
        return self.yield_slice() if when <= self.now else self.sleep_till(when + 0.5)  # behind those that are exact

    def sleep_till(self, when: float) -> Steps:
        co = self.running()
        self.add_timer(when, co)
        try:
            yield
        finally:
            self.cancel_timer(co)

    def timeout(self, ticks: float) -> ModelTimeout:
        return ModelTimeout(self, ticks)

    def with_timeout(self, ticks: float, function: Callable[..., Steps], *args: Any) -> Steps:
        with self.timeout(ticks):
            return (yield from function(*args))

    def wait_for_read(self, end: int) -> Steps:
        return self.wait_for(end, "read")

    def wait_for_write(self, end: int) -> Steps:
        return self.wait_for(end, "write")

    def wait_for(self, end: int, direction: str) -> Steps:
        me = self.running()
        event = end, direction
        other = self.waiters.get(event)
        if other is not None and other.pending is None:  # one that is about to leave is in nobody's way
            raise coro.SimultaneousError(me, other, event)
        self.waiters[event] = me
        self.waiting += 1
        try:
            while self.waiters.get(event) is me:
                yield
        finally:
            self.waiting -= 1
            if self.waiters.get(event) is me:
                del self.waiters[event]

    def notify_of_close(self, end: int) -> None:
        for direction in ("read", "write"):
            co = self.waiters.pop((end, direction), None)
            if co is None or co.pending is not None:
                continue
            if co.scheduled:
                self.met.add(UNTOLD_WAITER)
            self.interrupt(co, coro.ClosedError("closed", self.running()))

    def set_exit(self, code: Any) -> None:
        self.exit_code = code
        self.exiting = True

    # Timers.

    def add_timer(self, when: float, target: ModelCoro | ModelTimeout) -> None:
        self.serial += 1
        self.timers.append((when, self.serial, target))

    def cancel_timer(self, target: ModelCoro | ModelTimeout) -> None:
        self.timers = [timer for timer in self.timers if timer[2] is not target]

    def fire(self) -> None:
        """Those that are due, by deadline, then in the order in which they were set."""
        due = sorted(timer for timer in self.timers if timer[0] <= self.now)
        self.timers = [timer for timer in self.timers if timer[0] > self.now]
        for when, _, target in due:
            if isinstance(target, ModelCoro):
                self.wake(target)
            elif not self.expire(target):
                self.add_timer(when, target)

    def expire(self, timeout: ModelTimeout) -> bool:
        """Deliver a timeout, or postpone it because something else is on its way: a wake-up only once."""
        co = timeout.co
        if co.pending is not None or (co.scheduled and not co.yields and not timeout.postponed):
            timeout.postponed = True
            return False
        self.wake(co)
        co.pending = timeout.interrupt = coro.Interrupted(timeout)
        return True

    # The loop.

    def event_loop(self) -> None:
        self.dispatch()
        self.deadline = self.now + GRACE
        self.tell()
        self.dispatch()
        assert not self.live, "a program must not contain coroutines that refuse to end"
        if self.failure is not None:
            raise self.failure
        raise SystemExit(self.exit_code)

    def dispatch(self) -> None:
        self.stop = False
        while True:
            if not self.ready:
                self.end_pass()
            elif (place := self.ready.popleft()) is ASK:
                self.ask()
            else:
                self.step(place)
            if self.stop:
                return

    def tell(self) -> bool:
        """Shut down all that have not been told yet, in the order in which they were made ready first."""
        fresh = [co for co in self.live if co not in self.told]
        for co in fresh:
            co.shutdown()  # in the place of one that is on its way already, which counts as one
            self.told.add(co)
        return bool(fresh)

    def count(self, switches: int) -> None:
        """So many have been made ready: after a number of them the system is asked, behind them."""
        before = self.budget
        self.budget -= switches
        if before > 0 >= self.budget:
            self.ready.append(ASK)

    def end_pass(self) -> None:
        """Nothing is ready any more."""
        self.budget -= len(self.yielded)
        if self.budget > 0 and self.yielded and not self.waiting and not self.exiting:
            self.ready, self.yielded = self.yielded, self.ready
            self.in_pass = 0
        else:
            self.ask()

    def ask(self) -> None:
        self.turn()
        self.budget = self.limit
        if self.stop:
            self.ready.appendleft(ASK)  # another begins with it

    def turn(self) -> None:
        """Descriptors, then timers, then those that yielded."""
        if self.now - self.polled > TICKS * 0.0005:
            self.passes >>= 1
        elif self.passes < self.program.switches_per_poll:
            self.passes += self.passes + 1
        self.in_pass = self.in_pass + self.limit - self.budget if self.ready else 0
        held_back = bool(self.ready) and self.in_pass < self.program.switches_per_pass
        self.limit = max(1, min(self.passes, self.program.switches_per_poll))
        self.budget = 0  # whom it wakes is not counted
        unwinding = self.deadline != math.inf
        if self.exiting and not unwinding:
            self.stop = not self.ready
            return
        while True:
            if unwinding and (not self.live or self.now >= self.deadline):
                self.stop = True
                return
            for timeout in self.unarmed:
                if timeout.when != math.inf:
                    self.add_timer(timeout.when, timeout)
            self.unarmed.clear()
            idle = not self.ready and not self.yielded
            if idle and unwinding and self.tell():
                continue
            if idle and not self.timers and not self.waiting:
                if unwinding:
                    self.deadline = self.now
                    continue
                self.deadlock = True
            if not self.poll() and idle:
                self.wait()
            self.fire()
            if self.yielded and not held_back:
                self.ready.extend(self.yielded)
                self.yielded.clear()
                self.in_pass = 0
            if self.ready or (self.exiting and not unwinding):
                self.polled = self.now
                return

    def poll(self) -> bool:
        """Wake those whose descriptor is ready.  Returns whether there were any."""
        found = False
        for end in reversed(ENDS) if self.program.downwards else ENDS:
            for direction, holds in (("read", self.coming[end] > 0), ("write", self.coming[end ^ 1] < FULL)):
                if holds and (end, direction) in self.waiters:
                    self.wake(self.waiters.pop((end, direction)))
                    found = True
        return found

    def wait(self) -> None:
        """Let time pass until something is due."""
        due = min((when for when, _, _ in self.timers), default=math.inf)
        if min(due, self.deadline) == math.inf:
            self.set_exit(STUCK)
        else:
            self.now = max(self.now, math.ceil(min(due, self.deadline)))


class ModelRun(Interpreter):
    """A program on the model."""

    tick = tick_now = 1

    def __init__(self, program: Program, known: set[str]) -> None:
        super().__init__(program, known)
        self.api = Model(program, self.coming, self.warn, self.notify)

    def now(self) -> int:
        return self.api.now  # type: ignore[no-any-return]

    def warn(self) -> None:
        self.note(self.number(self.api.current), "warned")

    def notify(self, exc: BaseException) -> None:
        self.note(self.number(self.api.current), "reported", self.said(exc))

    def body(self, me: int, script: Script) -> Steps:
        return self.script(me, script)

    def inner(self, me: int, body: Script) -> Steps:
        return self.block(me, body)

    foreign = inner

    def exiting(self) -> bool:
        return self.api.exiting  # type: ignore[no-any-return]

    def end(self, number: int) -> int:
        return number

    def busy(self, ticks: int) -> None:
        self.api.now += ticks

    def run(self) -> None:
        self.begin()
        try:
            self.api.event_loop()
        except BaseException as exc:
            self.note("loop", self.said(exc), self.api.deadlock or LATE_DEADLOCK in self.known)
        for ref in range(len(self.cos)):
            self.note("finally", self.look(ref))


# -- the real thing --------------------------------------------------------------------------------------------------


class VirtualPoller(Poller):
    """A real poller that lets virtual time pass where it would wait."""

    edge = False

    def __init__(self, run: RealRun, poller: Poller) -> None:
        self.run = run
        self.poller = poller
        self.waits = 0
        self.arm = poller.arm  # type: ignore[method-assign]
        self.unregister = poller.unregister  # type: ignore[method-assign]
        self.close = poller.close  # type: ignore[method-assign]

    def arm(self, fd: int, mask: int) -> None:
        raise NotImplementedError  # the instance has that of the real one

    def unregister(self, fd: int) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def wait(self, timeout: float | None) -> Iterable[tuple[int, int]]:
        assert timeout is not None
        self.waits += 1
        if self.waits > MOST_WAITS:
            raise AssertionError("the kernel goes round in circles")
        events = sorted(self.poller.wait(0), reverse=self.run.program.downwards)
        if not events and timeout > 0:
            if min(this_kernel().timer_map, default=math.inf) == math.inf:
                coro.set_exit(STUCK)
            else:
                self.run.ticks += math.ceil(timeout * TICKS)
        return events


class RealRun(Interpreter):
    """A program on coro itself."""

    api = coro
    tick = 1 / TICKS
    tick_now = 10**9 // TICKS  # without a rest

    def __init__(self, program: Program, poller: Callable[[], Poller], known: set[str]) -> None:
        super().__init__(program, known)
        self.poller = VirtualPoller(self, poller())
        self.ticks = 0
        self.ends: list[socket.socket] = []
        for _ in range(PAIRS):
            self.ends += socket.socketpair()
        for end in self.ends:
            end.setblocking(False)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)

    def now(self) -> int:
        return self.ticks

    def notify(self) -> None:
        self.note(self.number(coro.current()), "reported", self.said(sys.exception()))

    def warn(self, *args: Any, **kwargs: Any) -> None:
        self.note(self.number(coro.current()), "warned")

    def body(self, me: int, script: Script) -> Any:
        return go(self.script(me, script))

    def inner(self, me: int, body: Script) -> Any:
        return go(self.block(me, body))

    def foreign(self, me: int, body: Script) -> Any:
        return greenlet(self.inner).switch(me, body)

    def exiting(self) -> bool:
        return this_kernel().exiting

    def end(self, number: int) -> int:
        return self.ends[number].fileno()

    def busy(self, ticks: int) -> None:
        self.ticks += ticks

    def move(self, end: int, amount: int) -> None:
        super().move(end, amount)
        try:
            self.ends[end].send(b"x" * (1 if amount == 1 else 1 << 20))
            while amount == FULL:
                self.ends[end].send(b"x")
        except BlockingIOError:
            assert amount == FULL

    def receive(self, end: int) -> None:
        super().receive(end)
        try:
            while self.ends[end].recv(1 << 20):
                pass
        except BlockingIOError:
            pass

    def run(self) -> None:
        kernel = this_kernel()
        kernel.budget = kernel.limit = kernel.passes = self.program.switches_per_poll
        kernel.births = repeat(None, self.program.switches_per_poll)
        kernel.in_pass = 0
        stderr = io.StringIO()
        notifier = coro.set_exception_notifier(self.notify)
        try:
            with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
                patch.setattr(coro.kernel, "SWITCHES_PER_POLL", self.program.switches_per_poll)
                patch.setattr(coro.kernel, "SWITCHES_PER_PASS", self.program.switches_per_pass)
                for module in (coro.kernel, coro.running, coro.verbs, coro.timeouts):
                    patch.setattr(module, "monotonic", lambda: self.ticks / TICKS)
                patch.setattr(coro.verbs, "get_now", lambda: self.ticks * self.tick_now)
                patch.setattr(coro.loop, "_print_exit_string", False)
                patch.setattr(coro, "install_signal_handlers", False)
                patch.setattr(coro.latency, "_factor", 0)
                patch.setattr(sys, "__stderr__", stderr)
                warnings.simplefilter("always")
                warnings.showwarning = self.warn
                self.begin()
                try:
                    coro.event_loop(poller=self.poller)
                except BaseException as exc:
                    if type(exc) is KeyboardInterrupt:
                        raise  # not one of the program
                    said = "waits for signals" in stderr.getvalue()
                    self.note("loop", self.said(exc), said or LATE_DEADLOCK in self.known)
        finally:
            coro.set_exception_notifier(notifier)
            for end in self.ends:
                end.close()
        for ref in range(len(self.cos)):
            self.note("finally", self.look(ref))
        assert stderr.getvalue().count("\n") <= stderr.getvalue().count("waits for signals") * (len(self.cos) + 2), (
            stderr.getvalue()
        )
        for rest in (
            kernel.ready,
            kernel.live,
            kernel.fds,
            kernel.timers,
            kernel.timer_map,
            kernel.unarmed,
            kernel.yielded,
            kernel.idle,
        ):
            assert not rest
        for co in self.cos:
            assert co._joiners is None
            assert co._pending is None
        assert not kernel.stale


def go(made: Steps) -> Any:
    """Run a script to its end: on coro its verbs block, and the generators never yield."""
    while True:
        try:
            next(made)
        except StopIteration as stop:
            return stop.value


def check(program: Program, poller: Callable[[], Poller], known: set[str] = KNOWN_DEFECTS) -> int:
    """Run *program* on the model and on coro, and raise AssertionError if they differ.

    Returns the number of steps; 0 for a program that meets a *known* defect.
    """
    model = ModelRun(program, known)
    model.run()
    if model.api.met & known:
        return 0
    real = RealRun(program, poller, known)
    try:
        real.run()
        for number, (expected, found) in enumerate(zip_longest(model.log, real.log)):
            if expected != found:
                before = "".join(f"    {line}\n" for line in model.log[max(0, number - 15) : number])
                raise AssertionError(f"after\n{before}the model says\n    {expected}\nand coro\n    {found}")
    except BaseException:
        coro.kernel._thread.kernel = None  # whatever state it is in, the next program shall have a new one
        raise
    return len(model.log)


def failure(program: Program, poller: Callable[[], Poller], known: set[str] = KNOWN_DEFECTS) -> Exception | None:
    """Return how *program* fails, if it does."""
    try:
        check(program, poller, known)
    except Exception as exc:
        return exc
    return None


def search(
    seeds: Iterable[str], poller: Callable[[], Poller], known: set[str] = KNOWN_DEFECTS
) -> Iterator[tuple[int, str]]:
    """Run the programs of *seeds*, and yield for each the number of its steps, and in the end what went wrong."""
    for seed in seeds:
        program = generate(seed)
        try:
            yield check(program, poller, known), ""
        except Exception:
            program = shrink(program, lambda program: failure(program, poller, known))
            yield 0, f"seed {seed!r}, shrunk:\n{program}\n{failure(program, poller, known)}"
            return
