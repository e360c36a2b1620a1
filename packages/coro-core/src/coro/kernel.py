"""The kernel: ready queue, timers and descriptor table of one thread.  To add a feature, build it on this file.

Stands on greenlet, on `coro.coroutine` (the object that this file runs) and on `coro.poller` (what asks the system).
What a loop gets from the system when it begins, and how it ends, is in `coro.running`.

How control moves
-----------------
There is no hub on the way from one coroutine to the next.  ``ready`` is a deque of *entries*, callables without an
argument, and to park is ``ready.popleft()()``: the parking coroutine calls the next entry itself.  An entry is

* ``co._resume``, the bound ``switch`` of the greenlet that a coroutine parked in: C calls C, no Python frame between;
* ``kernel.start``, once for each newborn: gives the oldest of ``newborn`` a greenlet;
* ``kernel.poll``, to ask the system although somebody is ready.

When nothing is ready the parking coroutine asks the system by itself: `next_pass` returns the entry to call next.

Whoever is resumed says so (``kernel.current = co; co._scheduled = 0``) and then looks at ``co._pending``, the exception
that somebody wants raised in it.  That is all that happens on the way from park to resume; `Kernel.park` spells it out
once, and a few hot verbs spell it out again to save the frame (about 100 ns).

A KeyboardInterrupt of the program's own, a MemoryError or a full stack can come between any two of these steps.  It
goes to the coroutine that parks or was just resumed, and the next entry is ``repair``, which puts the queues right.

Greenlets are started by the hub only, the greenlet that called the loop: a greenlet's C stack begins where it was first
switched to, so a coroutine that started another would nest its stack in its own.  Finished greenlets are kept for the
next coroutine, because making one costs a mapped page: 10 us against 0.5 us.

Passes
------
A pass ends when nothing is ready any more (or after 10,000 switches).  Coroutines that yielded wait in ``yielded`` for
that moment, behind all that the pass makes ready, and behind all that the poll wakes if there is one.

The system is asked when nothing is ready and nobody has yielded; at the end of a pass if somebody waits for a
descriptor; and after 128 switches, or half a millisecond.  To count them, whoever makes another ready takes one from
``budget``, and puts ``poll`` into the queue when that is used up; so nothing is counted on the way from park to resume.
Those that begin are counted by ``births``, and whom the poll wakes is not counted.  To ask each time would double the
price of a hand-over between two coroutines, and a marker that goes round in the queue costs it a tenth to a fifth.

Timers
------
A heap of deadlines, plain floats of `time.monotonic`, and a dict from deadline to target: a sleeping coroutine, a
`Timeout`, or a dict of several where deadlines collide.  A cancelled one leaves the dict at once and the heap when it
is the last leaf, or when more than half of the heap is dead.  A `Timeout` enters the heap only at the first poll after
it began: most are over before, and then cost neither push nor cancel.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial
from heapq import heapify, heappop, heappush
from itertools import repeat
from math import inf
from operator import attrgetter
from time import monotonic as monotonic  # the one clock: seconds
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast

from greenlet import getcurrent, greenlet

from .coroutine import CANCELLED, READY, all_threads, coro, name_of
from .exceptions import Interrupted, Shutdown, SimultaneousError, YieldFromMain, clear_own_frames, timeout_of
from .repair import repair

if TYPE_CHECKING:
    import socket

    from .poller import Poller

__all__ = ["Descriptor", "Kernel", "Timeout", "Worker", "adopted", "calling", "this_kernel", "worker"]

# The bits of `coro.poller`, spelt out: importing that module imports pluggy, which costs more than all of coro.
READ: Final = 0x0001
WRITE: Final = 0x0004
WAKES_READER: Final = 0x201B  # READ | URGENT | ERROR | HANGUP | READ_HANGUP: an error must wake whoever waits (D-14)
WAKES_WRITER: Final = 0x001C  # WRITE | ERROR | HANGUP
BOTH: Final = 0x0005  # READ | WRITE: of a connection that can be read and whose buffer is not full
HUNG_UP: Final = 0x201A  # URGENT (a read stops there) | ERROR | HANGUP | READ_HANGUP: said once, so remembered

SWITCHES_PER_POLL: Final = 128  # measured: with 64 a switch takes 2 to 4 % more, with 256 2 % less
SECONDS_PER_POLL: Final = 0.0005
SWITCHES_PER_PASS: Final = 10_000  # how long those that keep waking each other may hold back the yielders (D-07)
DRAIN_POLLS: Final = 500  # how many times 128 switches those that keep waking each other may delay the exit
SPARE_WORKERS: Final = 1024  # greenlets kept while the loop idles, about 6 KB each
SECONDS_PER_WORKER: Final = 1e-5  # to make one anew: they are kept through a wait that is shorter than that would take
LONGEST_WAIT: Final = 86400.0  # seconds: epoll and poll count milliseconds in 32 bits
FEW_DESCRIPTORS: Final = 32  # measured: to look through 40 takes as long as a poll
NOBODY: Final = object()  # the body of nobody: None would be taken for one that is fit to be spawned
POLLER_FAILURES: Final = 10  # failed waits in a row after which a poller is given up

Entry = Callable[[], Any]

#: A deadline over a stretch of one coroutine: [the coroutine, or None once the stretch is over; the deadline; what was
#: raised, or True if it was postponed once, or None; in `Kernel.unarmed` the one that was noted before it, or None].
#: The exception that is raised names it, by ``args[0]``.
#: No class: with_timeout() is called for each request of a server, and making an object would cost a fifth of it.
Timeout = list[Any]


class Worker(greenlet):
    """A greenlet that runs coroutines, one after the other."""

    __slots__ = ("kernel",)

    kernel: Kernel


#: `greenlet.getcurrent`, typed for the only greenlets that have a kernel: an AttributeError means "not a worker".
worker = cast("Callable[[], Worker]", getcurrent)


class Descriptor:
    """What the kernel knows of a file descriptor: its waiters and, where coro owns it, its cached readiness."""

    __slots__ = ("edge", "fd", "hung_up", "kernel", "owned", "readable", "reader", "writable", "writer")

    def __init__(self, fd: int, owned: bool) -> None:
        self.fd = fd
        self.owned = owned  # by a socket of coro, which waits with the flags below, and closes it through coro only
        self.edge = False  # registered once with an edge-triggered poller, else armed for each wait
        self.kernel: Kernel | None = None  # the one whose poller it is registered with
        self.reader: coro | None = None
        self.writer: coro | None = None
        self.readable = False
        self.writable = False
        self.hung_up = False


reader_of = attrgetter("reader")
writer_of = attrgetter("writer")


class Kernel:
    """The scheduler of one thread."""

    # One string of names instead of a line for each: they are explained in __init__.
    __slots__ = tuple(
        (
            "__weakref__ at_end births body budget current deadline drain events exit_code exiting externals failure "
            "failures fds hub idle in_pass inbox limit live max_wait newborn next_review old_wakeup_fd on_deadlock "
            "on_review on_wake passes poll polled poller poller_name ready repair request running settled signals "
            "stale start stop thread timer_map timers told unarmed unstarted waited_for wake_read wake_write woken "
            "yielded"
        ).split()
    )

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.ready: deque[Entry] = deque()
        self.yielded: deque[Entry] = deque()
        self.newborn: deque[coro] = deque()
        self.idle: list[Callable[..., Any]] = []  # how to resume the spare workers; with None, they end
        self.live: dict[int, coro] = {}  # started or about to start: the kernel owns them until they end
        self.unstarted: weakref.WeakValueDictionary[int, coro] = weakref.WeakValueDictionary()
        self.stale: dict[coro, int] = {}  # entries in the queue that no longer count, met before the one that does
        self.body: Any = NOBODY  # the function that was found fit to be spawned last; forgotten at each poll
        self.current: coro | None = None  # None in the scheduler and in the main program
        self.settled: BaseException | None = None  # what `settle` is raising
        self.start: Entry = self._start  # one object each, so that an entry can be told by identity
        self.poll: Entry = self._poll
        self.repair: Callable[..., Any] = self._repair

        self.timers: list[float] = []
        self.timer_map: dict[float, Any] = {}
        self.unarmed: Timeout | None = None  # of those not in the heap yet, the one noted last, and so on

        self.fds: dict[int, Descriptor] = {}
        self.events: list[tuple[int, int]] = []  # of the last poll, those that have not been dealt with
        self.waited_for: Descriptor | None = None  # one that somebody waited for when that was last looked up
        self.externals = 0  # promises of other threads to come back: portals, calls in other threads
        self.at_end: set[Entry] = set()  # called when a run is to end: portals
        self.inbox: deque[Entry] = deque()  # the one thing that other threads may append to, followed by wake()
        self.on_wake: Entry | None = None  # called after each wake-up by a byte: signals

        self.hub: greenlet | None = None
        self.running = self.woken = False
        self.poller: Poller | None = None
        self.poller_name = ""
        self.request: Any = None  # what to open a poller of the same kind by, in a forked child
        self.wake_read: socket.socket | None = None
        self.wake_write: socket.socket | None = None
        self.old_wakeup_fd: int | None = None
        self.signals: tuple[Entry, Entry, Collection[int]] | None = None  # take them; give them back; those taken
        self.max_wait = 30.0
        self.budget = self.limit = self.passes = SWITCHES_PER_POLL
        self.births = repeat(None, SWITCHES_PER_POLL)  # how many coroutines may begin before the system is asked
        self.in_pass = 0  # switches of this pass before the last poll
        self.polled = 0.0

        self.exiting = False
        self.exit_code: Any = 0
        self.failure: BaseException | None = None  # what comes out of the loop
        self.stop = False  # the hub is to leave `running.dispatch`
        self.drain = DRAIN_POLLS
        self.deadline = inf  # of the unwinding, once that has begun
        self.told: set[int] = set()  # who has had its Shutdown
        self.failures = 0
        self.on_deadlock: Callable[[], None] | None = None
        self.next_review = inf  # from this time on the next poll calls on_review(its time, seconds since the last poll)
        self.on_review: Callable[[float, float], None] | None = None
        all_threads.kernels.add(self)

    # -- making coroutines -------------------------------------------------------------------------------------------

    def launch(self, co: coro) -> None:
        """Make a coroutine that `new` has made ready to run."""
        self.unstarted.pop(co._id, None)
        self.live[co._id] = co
        co._scheduled = READY
        self.newborn.append(co)
        self.ready.append(self.start)

    def _start(self) -> Any:
        """Give the oldest newborn a greenlet.  An entry; runs on the stack of whoever parks.

        The newborn is not passed on as an argument: it would stay alive as long as the caller is parked.
        """
        while self.newborn[0]._dead:  # cancelled meanwhile; a loop, because there may be thousands of them
            self.newborn.popleft()
            entry = self.next_entry()
            if entry is not self.start:
                return entry()
        if self.idle:
            return self.idle.pop()()
        return self.hub.switch(self.start)  # type: ignore[union-attr]

    @staticmethod  # a bound method would add 128 bytes to the C stack that each switch copies
    def _work() -> None:
        """Run coroutines, one after the other, beginning with the oldest newborn: the body of a worker."""
        me = worker()
        self = me.kernel
        resume = me.switch
        newborn = self.newborn
        co: Any = None
        while True:
            births = self.births
            for _ in births:  # counts them: to take each from the budget would cost a spawn a twentieth
                try:
                    try:
                        co = newborn.popleft()
                        co._resume = resume
                        co._scheduled = 0
                        me.gr_context = co._context
                        self.current = co
                        fun = co._fun
                        args = co._args
                        # Few arguments by hand: on 3.11 f(*args) recurses in C, and each switch copies that stack too.
                        if co._kwargs:
                            co._value = fun(*args, **co._kwargs)
                        elif not args:
                            co._value = fun()
                        elif len(args) == 1:
                            co._value = fun(args[0])
                        elif len(args) == 2:
                            co._value = fun(args[0], args[1])
                        else:
                            co._value = fun(*args)
                    except BaseException as exc:
                        if co is None:  # it came before that was taken: `repair` finds the newborn
                            raise
                        co._error = (exc, exc.__traceback__)
                        co._value = None  # what was sent to it
                        if not isinstance(exc, Shutdown):
                            self._failed(co, exc)
                        clear_own_frames(exc)
                    if co._name is None:
                        try:
                            co._name = co._fun.__qualname__
                        except AttributeError:
                            co._name = name_of(co._fun)
                    fun = args = None
                    co._dead = True
                    del self.live[co._id]
                    co._fun = co._args = co._kwargs = co._resume = co._context = co._local_key = None
                    if co._joiners is not None:
                        self.wake_joiners(co)
                except BaseException as exc:  # in the lines around the function
                    fun = args = None
                    self.ready.appendleft(self.repair)
                    if co is not None:
                        self.bury(co)
                    self._turn_failed(exc)
                self.current = co = None  # a parked worker must not keep the last coroutine alive
                entry = self.ready.popleft() if self.ready else self.next_pass()
                if entry is not self.start or newborn[0]._dead:
                    break
            else:
                if births is self.births:
                    self.births = repeat(None, self.limit)
                    self.count(self.budget)
                continue
            self.idle.append(resume)
            if entry() is None:  # nobody needs this worker any more
                return

    def _failed(self, co: coro, exc: BaseException) -> None:
        """An exception has left the function of *co*, which is still alive and current."""
        from .report import notify

        if isinstance(exc, (KeyboardInterrupt, MemoryError)):  # may have come at any bytecode, also in `wake`
            self.ready.appendleft(self.repair)
        if isinstance(exc, SystemExit):
            self.set_exit(exc.code)
        elif isinstance(exc, KeyboardInterrupt):
            self.fail(exc)
        elif not co._collected:
            notify(exc)

    def bury(self, co: coro) -> None:
        """Forget *co*, which was cancelled or is given up, and wake its joiners.  (`_work` spells this out.)"""
        co._value = CANCELLED if not co.started else None
        co._dead = True
        co._scheduled = 0
        self.live.pop(co._id, None)
        self.unstarted.pop(co._id, None)
        self.stale.pop(co, None)
        if co._name is None:
            co._name = co.name  # the last chance to ask the function
        co._fun = co._args = co._kwargs = co._resume = co._context = co._pending = co._local_key = None
        if co._joiners is not None:
            self.wake_joiners(co)

    def wake_joiners(self, co: coro) -> None:
        """Tell those that wait for the end of *co*, in the order in which they came (see `coro.coroutine.at_end`)."""
        joiners = co._joiners
        try:
            co._joiners = None
            if type(joiners) is not dict:
                joiners._owner_ended(co)
                return
            for joiner, ended in joiners.items():
                if ended is None:
                    self.wake(joiner)
                else:
                    ended(joiner, co)
        except BaseException:
            co._joiners = joiners  # once more, by `bury`
            raise

    # -- parking and waking ------------------------------------------------------------------------------------------

    def wake(self, co: coro) -> bool:
        """Make a parked coroutine ready, unless it is on its way already.  Returns whether it was not."""
        if co._scheduled != 0 or co._dead:  # it may be a queue that is empty: for a yielder that is just coming
            return False
        try:
            self.ready.append(co._resume)  # first: this can fail, on a full stack
            co._scheduled = READY
            self.count(1)
        except BaseException:
            self.ready.appendleft(self.repair)
            raise
        return True

    def count(self, switches: int) -> None:
        """So many have been made ready: after 128 of them the system is asked, behind them.  (Spelt out where hot.)"""
        before = self.budget
        after = before - switches
        if before > 0 >= after:
            self.ready.append(self.poll)  # first: one too many does no harm
        self.budget = after

    def park(self, co: coro) -> None:
        """Let others run until somebody wakes *co*, the current coroutine.

        Whoever calls this has queued *co* somewhere, removes it from there on every way out (``try: ... finally``), and
        looks whether what it waits for has come true: a wake-up is only a hint.
        """
        if getcurrent() is not co._resume.__self__:
            adopted(self.park, co)
            return
        try:
            (self.ready.popleft() if self.ready else self.next_pass())()
            self.current = co
            co._scheduled = 0
            if co._pending is not None:
                self.settle(co)
        except BaseException as exc:
            if exc is not self.settled:  # it came in the midst; no Python frame here: the stack may be full
                self.ready.appendleft(partial(self.repair, co))
                self.current = co
                co._scheduled = 0
            self.settled = None
            raise

    def _repair(self, interrupted: coro | None = None) -> Any:
        """Put the queues right.  An entry, the next one after an exception has come in the midst of a switch."""
        repair(self, interrupted)
        return self.next_entry()()

    def running_coroutine(self) -> coro:
        """Return the current coroutine; `YieldFromMain` in the main program, and while the scheduler itself runs."""
        co = self.current
        if co is None:
            outside()
        return co

    def check_thread(self, co: coro) -> None:
        """Refuse to touch *co* from a thread that is not its own."""
        if threading.get_ident() != self.thread:
            raise RuntimeError(
                f"{co!r} belongs to thread {self.thread}, this is {threading.current_thread()!r}: "
                "only a Portal reaches into the loop of another thread"
            )

    def use_up(self, co: coro) -> None:
        """Park *co*, in which something is pending, until the void entries before the one that counts are met."""
        while left := self.stale.pop(co, 0):
            if left > 1:
                self.stale[co] = left - 1
            co._scheduled = READY
            self.next_entry()()
            self.current = co
            co._scheduled = 0

    def settle(self, co: coro) -> None:
        """Raise what is pending in *co*, and note in `settled` that it was: not to be taken for one in the midst."""
        if co in self.stale:
            self.use_up(co)
        exc = co._pending
        co._pending = None
        try:
            self.settled = exc = exc() if isinstance(exc, type) else cast("BaseException", exc)
            raise exc.with_traceback(None)  # may be raised in many: its traceback must not pile up (D-55)
        finally:
            del exc  # it knows this frame by its traceback

    def interrupt(self, co: coro, exc: BaseException | type[BaseException]) -> None:
        """Raise *exc* in *co*, which has run and is not running now, in place of any wake-up that it was to get."""
        old = co._pending
        try:
            if old is Shutdown:
                self.told.discard(co._id)  # a loop that ends tells it again
            elif (timeout := timeout_of(old)) is not None:
                timeout[2:] = True, self.unarmed  # its time is over still: it expires again, at the next poll
                self.unarmed = timeout
            co._pending = exc
            if co._scheduled != 0:
                self.stale[co] = self.stale.get(co, 0) + 1  # its old entry stays in the queue, and is met first
            if co._scheduled is self.yielded:
                self.yielded.append(co._resume)
            else:
                self.ready.append(co._resume)
                co._scheduled = READY
                self.count(1)
        except BaseException:
            self.ready.appendleft(self.repair)
            raise

    # -- timers ------------------------------------------------------------------------------------------------------

    def add_timer(self, when: float, target: Any) -> None:
        """At *when* wake *target*, a parked coroutine, or deliver it, a `Timeout`."""
        timer_map = self.timer_map
        if when not in timer_map:
            timer_map[when] = target
            heappush(self.timers, when)
            return
        other = timer_map[when]
        if type(other) is dict:
            other[id(target)] = target
        elif other is not target:
            timer_map[when] = {id(other): other, id(target): target}

    def cancel_timer(self, when: float, target: Any) -> None:
        """Undo `add_timer`, if it has not come to pass."""
        timer_map = self.timer_map
        found = timer_map.get(when)
        if found is not target and (type(found) is not dict or found.pop(id(target), None) is None or found):
            return
        del timer_map[when]
        timers = self.timers
        dead = len(timers) - len(timer_map)
        if timers and timers[-1] == when:
            timers.pop()  # the last leaf of a heap may always go
        elif dead > 64 and dead > len(timer_map):
            timers[:] = timer_map
            heapify(timers)

    def begin_timeout(self, co: coro, seconds: float) -> Timeout:
        """Put the running coroutine *co* under a deadline from now on; the caller must `end_timeout`."""
        timeout = [co, monotonic() + max(0, seconds), None, None]
        timeout[3] = self.unarmed  # not in the line before: what makes the list may run the garbage collector
        self.unarmed = timeout
        if seconds <= 0:  # over already: to be noticed at the first park
            self.count(self.budget)
        return timeout

    def end_timeout(self, timeout: Timeout) -> None:
        """The stretch of code under *timeout* is over, in whatever way."""
        timeout[0] = timeout[2] = None  # an exception that its own traceback leads back to would be garbage for long
        if self.unarmed is timeout:
            self.unarmed = timeout[3]
            timeout[3] = None
        else:
            self.cancel_timer(timeout[1], timeout)

    def begun(self) -> list[Timeout]:
        """Return the timeouts that are not in the heap yet, the outer one first: of equal deadlines it wins."""
        found = []
        timeout = self.unarmed
        while timeout is not None:
            found.append(timeout)
            timeout = timeout[3]
        found.reverse()
        return found

    def _arm(self) -> None:
        while self.unarmed is not None:  # a signal handler may note one more meanwhile
            begun = self.begun()
            for timeout in begun:
                co, when, *_ = timeout
                if co is not None and when != inf:
                    self.add_timer(when, timeout)
            if self.unarmed is begun[-1]:
                self.unarmed = None
                for timeout in begun:
                    timeout[3] = None

    def _fire(self, now: float) -> None:
        """Wake and interrupt those whose time has come, by deadline, then in the order in which they were set."""
        timers = self.timers
        held: list[Timeout] = []
        while timers and timers[0] <= now:
            target = self.timer_map.get(timers[0])  # None: cancelled
            for item in target.values() if type(target) is dict else (target,):
                if type(item) is list:
                    if not self._expire(item):
                        held.append(item)
                elif item is not None:
                    self.wake(item)
            self.timer_map.pop(heappop(timers), None)  # last, like the events of a poll
        for timeout in held:
            self.add_timer(timeout[1], timeout)

    def _expire(self, timeout: Timeout) -> bool:
        """Deliver an expired timeout, or return False: its coroutine is to run first, what it waited for has come.

        It is postponed once only, else a coroutine that always finds something ready would never be timed out (D-10).
        """
        co, _, interrupt, _ = timeout
        if co is None or co._dead or (interrupt and co._pending is interrupt):
            return True
        if co._pending is not None or (co._scheduled == READY and interrupt is None):
            timeout[2] = True
            return False
        interrupt = Interrupted(timeout)
        self.wake(co)
        timeout[2] = co._pending = interrupt  # in this order: an Interrupted that nobody owns would pass through
        return True

    # -- descriptors -------------------------------------------------------------------------------------------------

    def own(self, fd: int, mask: int) -> Descriptor:
        """Take *fd*, of a socket that is about to wait for *mask*, into the table until its close or the loop's end."""
        other = self.fds.get(fd)
        waiter = None if other is None else other.reader or other.writer
        if other is not None and waiter is not None and waiter._pending is None:
            raise SimultaneousError(self.current, waiter, (fd, "read" if waiter is other.reader else "write"))
        entry = Descriptor(fd, owned=True)
        entry.edge = self.poller.edge  # type: ignore[union-attr]
        if entry.edge:
            self.poller.register(fd)  # type: ignore[union-attr]
        else:
            self.poller.arm(fd, mask)  # type: ignore[union-attr]
        self.fds[fd] = entry  # last: what failed has left nothing behind
        if entry.edge:
            entry.kernel = self
        return entry

    def arm(self, entry: Descriptor, mask: int) -> None:
        """Ask for one report of *entry* when it is ready for *mask*, or for whoever waits for it already."""
        if entry.reader is not None and not (entry.owned and entry.readable):
            mask |= READ
        if entry.writer is not None and not (entry.owned and entry.writable):
            mask |= WRITE
        if mask:
            self.poller.arm(entry.fd, mask)  # type: ignore[union-attr]

    def _report(self, fd: int, mask: int) -> None:
        """The poller says that *fd* is ready."""
        entry = self.fds.get(fd)
        if entry is None:
            if self.wake_read is not None and fd == self.wake_read.fileno():
                self._woken()
            else:  # nobody's: an interrupted wait, or a duplicate of a file that was closed (coro-epoll, fact 1)
                self.poller.unregister(fd)  # type: ignore[union-attr]
            return
        if mask & HUNG_UP:
            entry.hung_up = True
        if mask & WAKES_READER:
            entry.readable = True
            co = entry.reader
            if co is not None:
                if not (co._scheduled or co._dead):  # `wake`, spelt out: a frame less for each request
                    self.ready.append(co._resume)
                    co._scheduled = READY
                if not entry.owned:
                    entry.reader = None
        if mask & WAKES_WRITER:
            entry.writable = True
            co = entry.writer
            if co is not None:
                self.wake(co)
                if not entry.owned:
                    entry.writer = None
        if not entry.edge and (entry.reader is not None or entry.writer is not None):
            try:
                self.arm(entry, 0)  # the report has disarmed the other direction too
            except OSError:
                self._report(fd, READ | WRITE)  # let it try again, and meet the error itself

    # -- other threads and signals -----------------------------------------------------------------------------------

    def wake_up(self) -> None:
        """End the poll that is under way, or the next one.  For any thread and for signal handlers."""
        if not self.woken:
            self.woken = True
            wake_write = self.wake_write
            if wake_write is not None:
                with suppress(OSError):  # full: then it is awake already; closed: the loop has ended
                    wake_write.send(b"\0")

    def _woken(self) -> None:
        wake_read = self.wake_read
        assert wake_read is not None
        with suppress(OSError):  # until it is empty
            while wake_read.recv(4096):
                pass
        self.woken = False  # before the inbox is emptied: what comes later writes another byte
        self.poller.arm(wake_read.fileno(), READ)  # type: ignore[union-attr]
        inbox = self.inbox
        for _ in range(len(inbox)):  # not those that come meanwhile: threads that keep calling must starve nobody
            entry = inbox.popleft()
            try:
                entry()
            except (RecursionError, MemoryError):  # in a stack that is full: the hub tries again
                inbox.appendleft(entry)
                raise
        if self.on_wake is not None:
            self.on_wake()

    # -- the loop ----------------------------------------------------------------------------------------------------

    def next_entry(self) -> Entry:
        """Return what to call next.  (Spelt out where it is hot.)"""
        return self.ready.popleft() if self.ready else self.next_pass()

    def next_pass(self) -> Entry:
        """Nothing is ready any more: let those in that have yielded.  Returns the entry to call next.

        (`yield_slice` spells this out.)
        """
        waits = self.fds and self._must_ask()  # before the rest, because a signal handler may run in a call
        batch = self.yielded
        self.budget = budget = self.budget - len(batch)
        ready = self.ready
        if budget > 0 and batch and not (waits or ready or self.exiting):
            self.in_pass = 0
            self.yielded = ready
            self.ready = batch
            return batch.popleft()
        return self.ask()

    def nobody_else(self) -> bool:
        """Return whether one that yielded would go on at once, as `next_pass` finds; if so, count it as if it had.

        False after half a millisecond too: what it does between two of these is not known to be short, like a switch.
        """
        if self.ready or self.yielded:
            return False
        waits = self.fds and self._must_ask()  # before the rest, because a signal handler may run in a call
        late = monotonic() - self.polled > SECONDS_PER_POLL
        if waits or late or self.ready or self.yielded or self.budget <= 1 or self.exiting:
            return False
        self.budget -= 1
        self.in_pass = 0
        return True

    def _poll(self) -> Any:
        """Ask the system although somebody is ready.  An entry."""
        return self.ask()()

    def ask(self) -> Entry:
        """Look at the timers and ask the poller; return the entry to call next."""
        begin = monotonic()  # On a full stack this fails, while nothing has been touched yet.
        to_hub = True
        try:
            self.current = None
            to_hub = self._turn(begin)
        except (RecursionError, MemoryError) as exc:
            # In a stack that an innocent coroutine has filled: the hub tries again in its own.
            if getcurrent() is self.hub:
                to_hub = self._turn_failed(exc)
            self.ready.appendleft(self.repair)
        except BaseException as exc:
            to_hub = self._turn_failed(exc)
            self.ready.appendleft(self.repair)
        self.budget = self.limit
        if to_hub:
            self.ready.appendleft(self.poll)
            return self.hub.switch  # type: ignore[union-attr]
        return self.ready.popleft() if self.ready else self.poll

    def _turn(self, begin: float) -> bool:
        """Wake whom the poller and the timers name, and wait if there is nothing to do.  True: the hub is to go on."""
        ready = self.ready
        # Switches until the next turn: 128, or the whole next pass, halved while they take longer than they should.
        late = begin - self.polled
        if begin > self.next_review and self.on_review is not None:
            self.on_review(begin, late)
        if late > SECONDS_PER_POLL:
            self.passes >>= 1
        elif self.passes < SWITCHES_PER_POLL:
            self.passes += self.passes + 1
        self.in_pass = self.in_pass + self.limit - self.budget if ready else 0
        held_back = bool(ready) and self.in_pass < SWITCHES_PER_PASS
        self.limit = max(1, min(self.passes, SWITCHES_PER_POLL))
        self.budget = 0  # whom the poll wakes is not counted
        self.body = NOBODY
        unwinding = self.deadline != inf
        if self.exiting and not unwinding:  # let those run that are ready, but serve neither timers nor descriptors
            self.polled = begin
            self.drain -= 1
            self.stop = not ready or self.drain <= 0
            return self.stop
        now = begin
        while True:
            if unwinding and (not self.live or now >= self.deadline):
                self.stop = True
                return True
            if self.unarmed is not None:
                self._arm()
            timers = self.timers
            if ready or self.yielded:
                timeout = 0.0
            else:
                timeout = self.max_wait
                if self.timer_map:  # not the heap: it may hold what was cancelled
                    timeout = min(timeout, max(0.0, timers[0] - now))
                elif not self.externals and not self._somebody_waits():
                    if unwinding:
                        if not self.tell():
                            self.deadline = now  # nothing can end those that are left
                        continue
                    if self.on_deadlock is not None:
                        self.on_deadlock()
                        if self.exiting:
                            return False
                if unwinding:
                    if self.tell():
                        continue
                    timeout = min(timeout, max(0.0, self.deadline - now))
                spare = len(self.idle)
                if spare > SPARE_WORKERS and timeout > spare * SECONDS_PER_WORKER:
                    if getcurrent() is not self.hub:  # some are to end, which then return to the hub, so only there
                        return True
                    while len(self.idle) > SPARE_WORKERS:
                        self.idle.pop()(None)
            if not self.events:
                self.events = [*self.poller.wait(timeout)]  # type: ignore[union-attr]
            self._deal_with_events()
            self.failures = 0
            now = monotonic()
            if timers and timers[0] <= now:
                self._fire(now)
            if self.yielded and not held_back:
                ready.extend(self.yielded)
                self.yielded = deque()  # a new one: whoever yielded tells by it whether it has been released
                self.in_pass = 0
            if ready or (self.exiting and not unwinding):
                self.polled = now
                return False

    def _must_ask(self) -> bool:
        """Return whether a pass must end with a poll: if somebody waits, or to find out would cost about as much."""
        return len(self.fds) > FEW_DESCRIPTORS or self._somebody_waits()

    def _somebody_waits(self) -> bool:
        """Return whether a coroutine waits for a descriptor."""
        known = self.waited_for
        if known is None or (known.reader is None and known.writer is None) or self.fds.get(known.fd) is not known:
            entries = self.fds.values()  # looked through in C: no signal handler can change them meanwhile
            self.waited_for = known = next(filter(reader_of, entries), None) or next(filter(writer_of, entries), None)
        return known is not None

    def _deal_with_events(self) -> None:
        """Wake those that the poller has named."""
        find = self.fds.get
        wake = self.ready.append
        rest = iter(self.events)
        event = None
        try:
            for event in rest:
                fd, mask = event
                entry = find(fd)
                if mask != BOTH or entry is None or not entry.edge:
                    self._report(fd, mask)
                    continue
                # What epoll says of each request, spelt out: two frames less.
                entry.readable = entry.writable = True
                co = entry.reader
                if co is not None and not (co._scheduled or co._dead):
                    wake(co._resume)
                    co._scheduled = READY
                if entry.writer is not None:
                    self.wake(entry.writer)
        except BaseException:
            self.events = [*rest] if event is None else [event, *rest]  # for the hub, in case the stack is full
            raise
        self.events = []

    def _turn_failed(self, exc: BaseException) -> bool:
        """Something was raised in the scheduler, by the poller or by a signal handler."""
        if not isinstance(exc, Exception):
            self.fail(exc)
            return False
        from .report import print_stderr, traceback_string

        self.failures += 1
        print_stderr(f"the poller {self.poller_name!r} or a signal handler has failed: {traceback_string(exc)}")
        if self.failures >= POLLER_FAILURES:
            self.fail(exc)
            if (self.deadline != inf and not self.ready) or self.failures >= 10 * POLLER_FAILURES:
                self.stop = True  # not even the unwinding can go on
        return self.stop

    def fail(self, exc: BaseException) -> None:
        """End the loop; *exc* comes out of it."""
        if self.failure is None:
            self.failure = exc
        self.exiting = True

    def set_exit(self, exit_code: Any) -> None:
        """End the loop once those that are ready have run; `SystemExit` with *exit_code* comes out of it."""
        self.exit_code = exit_code
        self.exiting = True

    def tell(self) -> bool:
        """Raise `Shutdown` in all that have not had it.  Returns whether there were any."""
        fresh = [co for co in self.live.values() if co._id not in self.told]
        for co in fresh:
            co.shutdown()
            self.told.add(co._id)
        return bool(fresh)


class _ThreadState(threading.local):
    kernel: Kernel | None = None


_thread = _ThreadState()


def this_kernel() -> Kernel:
    """Return the kernel of this thread, making it if there is none yet."""
    kernel = _thread.kernel
    if kernel is None:
        kernel = _thread.kernel = Kernel()
    return kernel


def calling() -> tuple[Kernel, coro]:
    """Return the kernel and the coroutine that the caller runs in, be it in a greenlet of its own on top of it."""
    kernel: Kernel | None
    try:
        kernel = worker().kernel  # 8 to 23 % faster than to look into the thread's own variables
    except AttributeError:
        kernel = _thread.kernel
    if kernel is None or kernel.current is None:
        outside()
    return kernel, kernel.current


def outside() -> NoReturn:
    """Raise the error for whoever blocks outside a coroutine."""
    raise YieldFromMain(
        "blocking outside a coroutine: spawn a coroutine and let coro.event_loop() run it, or use coro.run(fn)"
    ) from None  # it is found out by an AttributeError


def adopted(verb: Callable[..., Any], *args: Any) -> Any:
    """Call *verb* for a greenlet that some library has made on top of a coroutine.

    What is resumed must be the greenlet that parked, so for this one call it takes the place of the coroutine's own.
    """
    kernel, co = calling()
    me = cast("Worker", getcurrent())
    own = co._resume
    co._resume = me.switch
    me.kernel = kernel
    try:
        return verb(*args)
    finally:
        co._resume = own
        del me.kernel
