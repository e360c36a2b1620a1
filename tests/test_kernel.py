"""The kernel from within: greenlets of other libraries, full stacks, broken pollers, leaks, what a switch costs."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import sys
import threading
import time
import weakref
from collections import deque

import greenlet
import pytest

import coro
from coro.kernel import SPARE_WORKERS, this_kernel
from coro.poller import Poller
from coro.repair import repair


class Boom(Exception):
    pass


# -- greenlets that other libraries make on top of a coroutine -------------------------------------------------------


def in_greenlet(function, *args):
    """Do what SQLAlchemy's bridge does: run *function* in a greenlet of its own, and wait for it."""
    return greenlet.greenlet(function).switch(*args)


@pytest.mark.parametrize(
    "block",
    [
        coro.yield_slice,
        lambda: coro.sleep_relative(0.002),
        lambda: coro.sleep_absolute(coro.get_now() + 2_000_000),
        lambda: coro.spawn(coro.sleep_relative, 0.002).join(),
        lambda: coro.with_timeout(5, coro.sleep_relative, 0.002),
    ],
    ids=["yield", "sleep", "sleep_absolute", "join", "with_timeout"],
)
def test_a_foreign_greenlet_may_block(loop, block):
    """What is resumed is the greenlet that parked; the coroutine's own goes on when that is done."""
    ran = []

    def inside(name):
        me = greenlet.getcurrent()
        for _ in range(3):
            block()
            assert greenlet.getcurrent() is me
            assert coro.current().name == name
            ran.append(name)
        return name

    def body(name):
        assert in_greenlet(inside, name) == name
        assert in_greenlet(in_greenlet, inside, name) == name
        block()

    def main():
        children = [coro.spawn(body, name, thread_name=name) for name in "ab"]
        for co in children:
            co.result()

    loop(main)

    assert ran.count("a") == ran.count("b") == 6
    assert ran[:2] == ["a", "b"]


def test_a_foreign_greenlet_waits_for_a_descriptor_and_is_interrupted(loop):
    """Its event wakes it; an exception raised in the coroutine comes out of it and reaches the coroutine."""
    a, b = socket.socketpair()
    ran = []

    def inside():
        coro.wait_for_read(a)
        ran.append("read")
        try:
            coro.suspend()
        finally:
            ran.append("finally")

    def body():
        with pytest.raises(Boom):
            in_greenlet(inside)
        with pytest.raises(coro.TimeoutError):
            coro.with_timeout(0.002, in_greenlet, coro.suspend)
        coro.yield_slice()
        ran.append("end")

    def main():
        co = coro.spawn(body)
        coro.yield_slice()
        b.send(b"x")
        coro.yield_slice()
        co.raise_exception(Boom)
        co.result()

    with a, b:
        loop(main)

    assert ["read", "finally", "end"] == ran


def test_a_foreign_greenlet_outside_a_coroutine_may_not_block(loop):
    """YieldFromMain, as for the main program."""
    for _ in range(2):
        for block in (coro.suspend, coro.yield_slice):
            with pytest.raises(coro.YieldFromMain):
                in_greenlet(block)
        loop(int)


# -- full stacks -----------------------------------------------------------------------------------------------------


def test_a_coroutine_with_a_full_stack_harms_nobody(loop):
    """RecursionError is raised in the coroutine that recurses, wherever that hits the scheduler; all others go on."""
    ran = []

    def recurse(depth):
        coro.yield_slice()
        return recurse(depth + 1)

    def body(block):
        try:
            recurse_then(block)
        except RecursionError:
            ran.append("recursion")

    def recurse_then(block):
        block()
        recurse_then(block)

    def bystander():
        for _ in range(50):
            coro.sleep_relative(0.0005)
        ran.append("bystander")

    def main():
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(400)
        try:
            children = [coro.spawn(bystander)]
            for block in (coro.yield_slice, lambda: coro.sleep_relative(0.0001), lambda: coro.spawn(int).join()):
                children.append(coro.spawn(body, block))
            for co in children:
                co.result()
        finally:
            sys.setrecursionlimit(limit)

    loop(main)

    assert ran.count("recursion") == 3
    assert ran.count("bystander") == 1


def test_starting_many_coroutines_from_coroutines_does_not_nest_stacks(loop):
    """Each of 5,000 coroutines spawns the next and parks: greenlets are started by the hub only."""
    parked = []

    def body(depth):
        if depth:
            parked.append(coro.spawn(body, depth - 1))
        coro.suspend()

    def main():
        parked.append(coro.spawn(body, 5000))
        coro.yield_slice()
        assert len(parked) == 5001
        for co in parked:
            co.schedule()
        for co in parked:
            co.join()

    loop(main)


# -- pollers that misbehave ------------------------------------------------------------------------------------------


class Delegate(Poller):
    """Passes everything on to a real poller, so that a test can spoil one thing."""

    edge = False

    def __init__(self):
        from coro_select import SelectPoller

        self.real = SelectPoller()

    def arm(self, fd, mask):
        self.real.arm(fd, mask)

    def unregister(self, fd):
        self.real.unregister(fd)

    def wait(self, timeout):
        return self.real.wait(timeout)

    def close(self):
        self.real.close()


@pytest.fixture
def run_with(failures):
    """Runs a function in an event loop with a given poller; returns what it returned."""
    coro.set_print_exit_string(False)

    def run(poller, function):
        results = []

        def main():
            try:
                results.append(function())
            finally:
                coro.set_exit()

        coro.spawn(main)
        with pytest.raises(SystemExit):
            coro.event_loop(poller=poller)
        return results[0] if results else None

    yield run
    coro.set_print_exit_string(True)


def test_events_of_nobody_are_ignored(run_with):
    """Unknown descriptors, repeated events, and hangups that nobody asked for wake nobody."""

    class Noisy(Delegate):
        def wait(self, timeout):
            return [(9999, 0xFFFF), *self.real.wait(min(timeout, 0.001)), (0, 0x10)]

    def function():
        co = coro.spawn(coro.suspend)
        coro.sleep_relative(0.01)
        assert not co.dead
        co.shutdown()
        return "done"

    assert run_with(Noisy(), function) == "done"


def test_the_events_may_be_any_iterable(run_with):
    """A generator does, as the contract says."""

    class Lazy(Delegate):
        def wait(self, timeout):
            yield from self.real.wait(timeout)

    a, b = socket.socketpair()

    def function():
        b.send(b"x")
        coro.wait_for_read(a)
        return a.recv(1)

    with a, b:
        assert run_with(Lazy(), function) == b"x"


def test_what_arm_raises_reaches_the_one_who_waits(run_with):
    """Of whatever type; nothing is left behind, and the others go on."""

    class Refusing(Delegate):
        def arm(self, fd, mask):
            if fd == a.fileno():
                raise Boom("not this one")
            super().arm(fd, mask)

    a, b = socket.socketpair()

    def function():
        with pytest.raises(Boom):
            coro.wait_for_read(a)
        assert not this_kernel().fds
        coro.wait_for_write(b)
        return "done"

    with a, b:
        assert run_with(Refusing(), function) == "done"


def test_a_wait_that_fails_now_and_then_is_reported_and_survived(run_with, capfd):
    """The poller is named on stderr; nobody is lost."""

    class Flaky(Delegate):
        calls = 0

        def wait(self, timeout):
            self.calls += 1
            if self.calls % 3 == 0:
                raise Boom("now and then")
            return super().wait(timeout)

    def function():
        for _ in range(20):
            coro.sleep_relative(0.0005)
        return "done"

    assert run_with(Flaky(), function) == "done"
    assert "Flaky" in capfd.readouterr().err


def test_a_poller_that_fails_for_good_ends_the_loop_with_its_error(failures, capfd):
    """After a bounded number of attempts; the coroutines are unwound first."""
    ran = []

    class Broken(Delegate):
        def wait(self, timeout):
            raise Boom("for good")

    def body():
        try:
            coro.sleep_relative(0.01)
        finally:
            ran.append("unwound")

    coro.spawn(body)
    with pytest.raises(Boom, match="for good"):
        coro.event_loop(poller=Broken())

    assert ["unwound"] == ran
    assert capfd.readouterr().err.count("for good") <= 25


@pytest.mark.parametrize("block", [coro.suspend, coro.yield_slice, lambda: coro.sleep_relative(1)])
def test_poller_code_may_not_block(run_with, capfd, block):
    """YieldFromMain in it, and the current coroutine is the main object there."""
    seen = []

    class Blocking(Delegate):
        def wait(self, timeout):
            if not seen:
                seen.append(coro.current().id)
                try:
                    block()
                except coro.YieldFromMain:
                    seen.append("refused")
            return super().wait(timeout)

    run_with(Blocking(), lambda: coro.sleep_relative(0.001))

    assert [-1, "refused"] == seen


# -- leaks -----------------------------------------------------------------------------------------------------------


def endings():
    """The ways in which a coroutine can end, each as a function that makes *count* of them end so."""

    def fail():
        raise Boom

    def each(make, end=lambda co: None):
        def run(count):
            children = [make() for _ in range(count)]
            coro.yield_slice()
            for co in children:
                end(co)
            for co in children:
                co.join()

        return run

    def timed_out():
        with pytest.raises(coro.TimeoutError):
            coro.with_timeout(0.001, coro.suspend)

    return {
        "return": each(lambda: coro.spawn(int)),
        "yield and return": each(lambda: coro.spawn(coro.yield_slice)),
        "exception": each(lambda: coro.spawn(fail)),
        "shutdown": each(lambda: coro.spawn(coro.suspend), lambda co: co.shutdown()),
        "shutdown while sleeping": each(lambda: coro.spawn(coro.sleep_relative, 60), lambda co: co.shutdown()),
        "cancelled": each(lambda: coro.new(int), lambda co: co.shutdown()),
        "timeout": each(lambda: coro.spawn(timed_out)),
    }


@pytest.mark.parametrize("ending", endings())
def test_nothing_is_left_of_ten_thousand_coroutines(loop, ending):
    """No greenlet beyond the spare ones, no timer, no coroutine, no reference, however they end."""
    run = endings()[ending]

    def objects():
        gc.collect()
        kinds = (coro.coro, greenlet.greenlet, BaseException)
        return sum(isinstance(obj, kinds) for obj in gc.get_objects())

    def main():
        old = coro.set_exception_notifier(lambda: None)
        try:
            run(100)
            kernel = this_kernel()
            before = objects()
            for _ in range(4):
                run(2500)
            coro.sleep_relative(0.1)  # about to idle, the hub ends what is too much
            assert len(kernel.idle) <= SPARE_WORKERS
            assert objects() - before <= len(kernel.idle) + 10
            assert len(kernel.live) == 1
            assert not kernel.fds
            assert len(kernel.timer_map) == 0
        finally:
            coro.set_exception_notifier(old)

    loop(main)


def test_greenlets_are_kept_through_a_short_wait_and_given_up_in_a_long_one(loop):
    """To make two thousand anew takes longer than a wait of a millisecond; before a long one the spare ones go."""

    def main():
        kernel = this_kernel()
        children = [coro.spawn(coro.yield_slice) for _ in range(2000)]
        for co in children:
            co.join()
        coro.sleep_relative(0.001)
        assert len(kernel.idle) == 2000
        coro.sleep_relative(0.1)
        assert len(kernel.idle) == SPARE_WORKERS

    loop(main)


def test_a_parked_worker_does_not_keep_the_last_coroutine_alive(loop):
    """Function, arguments, result and exception go when nobody holds the coroutine."""

    class Thing:
        pass

    def main():
        thing = Thing()
        seen = weakref.ref(thing)
        coro.spawn(lambda it: it, thing).join()
        co = weakref.ref(coro.spawn(lambda it: it, thing))
        del thing
        coro.yield_slice()
        gc.collect()
        assert co() is None
        assert seen() is None

    loop(main)


def test_nothing_is_left_when_the_loop_ends_in_the_middle(poller, failures):
    """Sleepers, waiters, yielders and timeouts that the exit finds: greenlets, timers, descriptors are all gone."""

    def main():
        a, b = socket.socketpair()
        with a, b:
            for block in (
                coro.suspend,
                lambda: coro.sleep_relative(60),
                lambda: coro.with_timeout(60, coro.suspend),
                lambda: coro.with_timeout(60, coro.wait_for_read, a),
            ):
                coro.spawn(block)
            coro.sleep_relative(0.002)
            coro.spawn(coro.yield_slice)

    def greenlets():
        gc.collect()
        return sum(isinstance(obj, greenlet.greenlet) for obj in gc.get_objects())

    coro.run(main)  # the first loop makes the greenlet that stands for the thread itself
    before, threads = greenlets(), threading.active_count()
    for _ in range(5):
        coro.run(main)

    assert greenlets() <= before
    assert threading.active_count() == threads


# -- what it costs ---------------------------------------------------------------------------------------------------


def test_short_passes_share_a_poll_and_long_waits_do_not_spin(run_with):
    """Two coroutines that yield 10,000 times poll at most once in 16 switches; asleep, they poll a few times."""

    class Counting(Delegate):
        calls = 0

        def wait(self, timeout):
            self.calls += 1
            return super().wait(timeout)

    poller = Counting()

    def yielder():
        for _ in range(5000):
            coro.yield_slice()

    def function():
        children = [coro.spawn(yielder) for _ in range(2)]
        for co in children:
            co.join()
        switching = poller.calls
        coro.sleep_relative(0.05)
        return switching, poller.calls - switching

    switching, sleeping = run_with(poller, function)

    assert switching < 10_000 / 16
    assert sleeping < 10


def test_a_yield_polls_while_somebody_waits_for_a_descriptor(run_with):
    """O6 has its price exactly then."""

    class Counting(Delegate):
        calls = 0

        def wait(self, timeout):
            self.calls += 1
            return super().wait(timeout)

    poller = Counting()
    a, b = socket.socketpair()

    def function():
        co = coro.spawn(coro.wait_for_read, a)
        coro.yield_slice()
        before = poller.calls
        for _ in range(100):
            coro.yield_slice()
        co.shutdown()
        return poller.calls - before

    with a, b:
        assert run_with(poller, function) >= 100


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this platform has no setitimer(2)")
def test_signals_that_arrive_all_the_time_disturb_nobody(loop):
    """A thousand signals a second, handled by Python, while coroutines sleep, yield and wait for descriptors."""
    rung = []
    old = signal.signal(signal.SIGALRM, lambda *args: rung.append(1))
    a, b = os.pipe()

    def sleeper():
        for _ in range(50):
            begin = time.monotonic()
            coro.sleep_relative(0.002)
            assert time.monotonic() - begin >= 0.002

    def writer():
        for _ in range(100):
            os.write(b, b"x")
            coro.sleep_relative(0.0005)

    def main():
        children = [coro.spawn(sleeper) for _ in range(5)] + [coro.spawn(writer)]
        for _ in range(100):
            coro.wait_for_read(a)
            os.read(a, 1)
        for co in children:
            co.result()

    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        loop(main)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
        os.close(a)
        os.close(b)

    assert rung


# -- what comes in the midst of a switch -----------------------------------------------------------------------------


def test_a_signal_handler_cannot_schedule_a_yielder_that_is_just_coming(loop):
    """It is taken out of its queue, which is empty then, and has not run yet: it is on its way still."""
    answers = []
    kernel = this_kernel()

    class Queue(deque):
        def popleft(self):
            entry = super().popleft()
            if yielder is not None and entry is yielder._resume and not answers:
                signal.raise_signal(signal.SIGUSR1)
            return entry

    def handler(*args):
        try:
            answers.append(yielder.schedule())
        except coro.ScheduleError as exc:
            answers.append(exc)

    def body():
        coro.yield_slice()
        coro.yield_slice()
        with pytest.raises(coro.TimeoutError):
            coro.with_timeout(0.005, coro.suspend)

    def main():
        nonlocal yielder
        kernel.ready, kernel.yielded = Queue(kernel.ready), Queue()
        yielder = coro.spawn(body)
        other = coro.spawn(coro.suspend)
        yielder.result()
        other.shutdown()

    yielder = None
    previous = signal.signal(signal.SIGUSR1, handler)
    try:
        loop(main)
    finally:
        signal.signal(signal.SIGUSR1, previous)
        kernel.ready, kernel.yielded = deque(), deque()
        yielder = None
    assert [type(answer) for answer in answers] == [coro.ScheduleError]


def test_a_hand_over_that_runs_out_of_memory_does_not_keep_the_system_from_being_asked(loop):
    """There was no room for the entry that asks: the next hand-over tries again."""
    kernel = this_kernel()
    failed = []
    over = False
    left = 200_000

    class Queue(deque):
        def append(self, entry):
            if entry is kernel.poll and not failed:
                failed.append(entry)
                raise MemoryError
            super().append(entry)

    def turn(mine, other):
        nonlocal left
        while not over and left > 0:
            left -= 1
            mine.acquire()
            with contextlib.suppress(MemoryError):
                other.release()

    def main():
        nonlocal over
        kernel.ready, kernel.yielded = Queue(kernel.ready), Queue()
        a, b = coro.semaphore(1), coro.semaphore(0)
        turns = [coro.spawn(turn, a, b), coro.spawn(turn, b, a)]
        coro.sleep_relative(0.0001)
        over = True
        for co in turns:
            co.shutdown()

    try:
        loop(main)
    finally:
        kernel.ready, kernel.yielded = deque(), deque()
    assert failed
    assert left > 0


def test_the_dead_leave_no_void_entries_behind(loop, monkeypatch, failures):
    """An exception is raised in a coroutine that is ready, and it runs out of memory as it is resumed, and dies."""
    kernel = this_kernel()
    settle = type(kernel).settle
    victims = []

    def fail(self, co):
        if co in victims:
            raise MemoryError
        settle(self, co)

    def main():
        for _ in range(3):
            co = coro.spawn(coro.suspend)
            coro.yield_slice()
            co.schedule()
            victims.append(co)
            co.raise_exception(coro.WakeUp)
            coro.yield_slice()
            coro.yield_slice()
            assert co.dead
        coro.sleep_relative(0.001)
        assert not kernel.stale

    monkeypatch.setattr(type(kernel), "settle", fail)
    loop(main)
    assert [type(exc) for exc in failures] == [MemoryError] * 3
    failures.clear()


def test_what_a_signal_handler_queues_at_the_end_of_a_pass_is_in_the_next_one(loop):
    """Not behind it: if that is the entry that asks the system, nobody else would put another one in."""
    kernel = this_kernel()

    class Queue(deque):
        def append(self, entry):
            super().append(entry)
            if len(self) == 2:  # the second one that yields, which ends the pass
                kernel.count(kernel.budget)  # as a handler does that makes many ready

    def main():
        other = coro.spawn(coro.yield_slice)
        kernel.yielded = Queue()
        coro.yield_slice()
        assert kernel.poll in kernel.ready
        assert kernel.poll not in kernel.yielded
        other.join()

    try:
        loop(main)
    finally:
        kernel.ready, kernel.yielded = deque(), deque()


def test_a_timeout_that_a_signal_handler_notes_while_others_enter_the_heap_is_not_lost(loop, monkeypatch):
    kernel = this_kernel()
    add_timer = type(kernel).add_timer
    noted = []

    def add(self, when, target):
        if len(noted) == 1:
            noted.append(self.begin_timeout(coro.current(), 60))
        add_timer(self, when, target)

    def main():
        noted.append(kernel.begin_timeout(coro.current(), 50))
        with monkeypatch.context() as patch:
            patch.setattr(type(kernel), "add_timer", add)
            kernel._arm()
        assert kernel.unarmed is None
        assert [kernel.timer_map[timeout[1]] is timeout for timeout in noted] == [True, True]
        for timeout in noted:
            kernel.end_timeout(timeout)

    loop(main)


def test_repair_leaves_no_timeout_both_in_the_heap_and_among_those_that_are_not(loop):
    """As it is when a signal handler has raised just then.  A fork would make a ring of it."""
    kernel = this_kernel()

    def main():
        timeouts = [kernel.begin_timeout(coro.current(), 50 + number) for number in range(4)]
        ended = kernel.begin_timeout(coro.current(), 60)
        last = kernel.begin_timeout(coro.current(), 70)
        kernel.end_timeout(ended)
        for timeout in timeouts[1:3]:
            kernel.add_timer(timeout[1], timeout)
        repair(kernel, None)
        assert kernel.begun() == [timeouts[0], timeouts[3], last]
        for timeout in (*timeouts, last):
            kernel.end_timeout(timeout)
        assert not kernel.timer_map

    loop(main)
