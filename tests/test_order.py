"""The ordering guarantees O1 to O10 and O12: who runs before whom."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time

import pytest

import coro
import coro.kernel
from coro.kernel import this_kernel


def test_O1_ready_coroutines_run_in_the_order_in_which_they_became_ready(loop):
    """Five spawned coroutines run 0, 1, 2, 3, 4; so do five that were suspended and are scheduled in another order."""
    ran = []

    def child(number):
        ran.append(number)
        coro.suspend()
        ran.append(number)

    def main():
        children = [coro.spawn(child, number) for number in range(5)]
        coro.yield_slice()
        for number in (3, 1, 4, 0, 2):
            children[number].schedule()
        for co in children:
            co.join()

    loop(main)

    assert [0, 1, 2, 3, 4, 3, 1, 4, 0, 2] == ran


def test_O2_a_child_runs_after_all_that_is_ready_and_in_the_same_pass(loop):
    """A child comes behind those that were ready when it was spawned, and before a timer that expires meanwhile."""
    ran = []

    def parent():
        coro.spawn(ran.append, "child")
        ran.append("parent")
        time.sleep(0.005)  # the timer below expires now

    def sleeper():
        coro.sleep_relative(0.002)
        ran.append("timer")

    def main():
        co = coro.spawn(sleeper)
        coro.yield_slice()
        coro.spawn(parent)
        coro.spawn(ran.append, "other")
        co.join()

    loop(main)

    assert ["parent", "other", "child", "timer"] == ran


def test_O3_io_comes_before_timers_in_one_pass(loop):
    """Of what one pass wakes, I/O runs first, then the timers by deadline, then those that yielded."""
    ran = []
    a, b = socket.socketpair()

    def reader():
        coro.wait_for_read(a)
        ran.append("io")

    def sleeper(delta):
        coro.sleep_relative(delta)
        ran.append(delta)

    def main():
        coro.spawn(sleeper, 0.010)
        coro.spawn(sleeper, 0.005)
        coro.spawn(reader)
        coro.yield_slice()
        b.send(b"x")
        time.sleep(0.02)
        coro.spawn(ran.append, "spawned")
        coro.yield_slice()
        ran.append("yielded")

    with a, b:
        loop(main)

    assert ["spawned", "io", 0.005, 0.010, "yielded"] == ran


def test_O4_expired_timers_fire_by_deadline_then_by_insertion(loop):
    """Late timers keep the order of their deadlines; six with the same tick wake in the order in which they began."""
    ran = []

    def absolute(number, when):
        coro.sleep_absolute(when)
        ran.append(number)

    def main():
        when = coro.get_now() + coro.ticks_per_sec // 200
        later = [coro.spawn(absolute, "late", when + 1000)]
        same = [coro.spawn(absolute, number, when) for number in range(6)]
        first = [coro.spawn(absolute, "first", when - 1000)]
        coro.yield_slice()
        time.sleep(0.01)
        for co in later + same + first:
            co.join()

    loop(main)

    assert ["first", 0, 1, 2, 3, 4, 5, "late"] == ran


def test_O5_io_wakes_in_the_order_of_the_system(loop, poller):
    """Writes to 3, 1, 4, 0, 2 wake the readers in that order, where the system knows it: on epoll and kqueue."""
    if poller not in ("epoll", "kqueue"):
        pytest.skip(f"{poller} cannot know in which order descriptors became ready")
    ran = []
    pairs = [socket.socketpair() for _ in range(5)]

    def reader(number):
        coro.wait_for_read(pairs[number][0])
        ran.append(number)

    def main():
        children = [coro.spawn(reader, number) for number in range(5)]
        coro.yield_slice()
        for number in (3, 1, 4, 0, 2):
            pairs[number][1].send(b"x")
        for co in children:
            co.join()

    try:
        loop(main)
    finally:
        for pair in pairs:
            for end in pair:
                end.close()

    assert [3, 1, 4, 0, 2] == ran


def test_O6_yield_slice_comes_back_behind_all_that_is_ready_transitively(loop):
    """Whatever the ready ones make ready, and what these make ready, runs before a yielder comes back."""
    ran = []

    def chain(depth):
        ran.append(depth)
        if depth:
            coro.spawn(chain, depth - 1)

    def main():
        coro.spawn(chain, 4)
        coro.yield_slice()
        ran.append("back")

    loop(main)

    assert [4, 3, 2, 1, 0, "back"] == ran


@pytest.mark.parametrize("wait", [coro.yield_slice, lambda: coro.sleep_relative(0), lambda: coro.sleep_absolute(0)])
def test_O6_write_then_yield_runs_the_reader_first(loop, wait):
    """A reader blocked on a pipe has run when its writer comes back from a yield or a sleep of nothing."""
    ran = []
    a, b = socket.socketpair()

    def reader():
        for _ in range(100):
            coro.wait_for_read(a)
            ran.append(a.recv(10))

    def main():
        co = coro.spawn(reader)
        coro.yield_slice()
        for number in range(100):
            b.send(b"%d" % number)
            wait()
            assert ran[-1] == b"%d" % number
        co.join()

    with a, b:
        loop(main)


def test_O7_two_that_yield_alternate(loop):
    """Two coroutines that only yield run a, b, a, b."""
    ran = []

    def child(name):
        for _ in range(200):
            ran.append(name)
            coro.yield_slice()

    def main():
        children = [coro.spawn(child, name) for name in "ab"]
        for co in children:
            co.join()

    loop(main)

    assert ["a", "b"] * 200 == ran


def test_O8_one_interrupted_while_ready_goes_to_the_end(loop):
    """Ready 0, 1, 2, 3; an exception raised in 0 makes that 1, 2, 3, 0."""
    ran = []

    def child(number):
        try:
            coro.suspend()
        except coro.WakeUp:
            ran.append("woken up")
        ran.append(number)

    def main():
        children = [coro.spawn(child, number) for number in range(4)]
        coro.yield_slice()
        for co in children:
            co.schedule()
        children[0].raise_exception(coro.WakeUp)
        for co in children:
            co.join()

    loop(main)

    assert [1, 2, 3, "woken up", 0] == ran


def test_O8_also_among_those_that_yield(loop):
    """Yielders 0, 1, 2; an exception raised in 0 makes that 1, 2, 0, and its void place in the queue wakes nobody."""
    ran = []

    def child(number):
        try:
            coro.yield_slice()
        except coro.WakeUp:
            ran.append("woken up")
            coro.sleep_relative(0.001)
        ran.append(number)

    def main():
        children = [coro.spawn(child, number) for number in range(3)]
        coro.spawn(lambda: children[0].raise_exception(coro.WakeUp))
        for co in children:
            co.join()

    loop(main)

    assert [1, 2, "woken up", 0] == ran


def test_O9_waiters_are_woken_in_the_order_in_which_they_began_to_wait(loop):
    """Five that join one coroutine come back in the order of their joins."""
    ran = []

    def joiner(target, number):
        target.join()
        ran.append(number)

    def main():
        target = coro.spawn(coro.suspend)
        children = [coro.spawn(joiner, target, number) for number in (3, 1, 4, 0, 2)]
        coro.yield_slice()
        target.schedule()
        for co in children:
            co.join()

    loop(main)

    assert [3, 1, 4, 0, 2] == ran


def test_O10_a_timer_made_in_a_pass_does_not_fire_in_it(loop):
    """A sleep whose time is over at once comes back behind everything that was ready."""
    ran = []

    def sleeper():
        coro.sleep_relative(1e-9)
        ran.append("timer")

    def main():
        co = coro.spawn(sleeper)
        for number in range(3):
            coro.spawn(ran.append, number)
        co.join()

    loop(main)

    assert [0, 1, 2, "timer"] == ran


def test_O12_the_current_exception_is_that_of_the_coroutine(loop):
    """`sys.exception()` and a bare ``raise`` are not disturbed by what other coroutines handle meanwhile."""
    seen = []

    def child(number):
        try:
            raise ValueError(number)
        except ValueError:
            coro.yield_slice()
            seen.append(sys.exception().args[0])
            with pytest.raises(ValueError, match=str(number)):
                raise
        assert sys.exception() is None

    def main():
        children = [coro.spawn(child, number) for number in range(3)]
        for co in children:
            co.join()

    loop(main)

    assert [0, 1, 2] == seen


def test_D_07_those_that_keep_waking_each_other_starve_nobody(loop):
    """Two coroutines that schedule each other for ever delay neither a timer, nor I/O, nor a yielder."""
    a, b = os.pipe()
    pair = []

    def ping(me):
        while True:
            coro.suspend()
            pair[1 - me].schedule()

    def main():
        pair.extend([coro.spawn(ping, 0), coro.spawn(ping, 1)])
        coro.yield_slice()
        pair[0].schedule()
        begin = time.monotonic()
        coro.sleep_relative(0.005)
        coro.yield_slice()
        os.write(b, b"x")
        coro.wait_for_read(a)
        assert time.monotonic() - begin < 1
        assert any(co.scheduled for co in pair)

    try:
        loop(main)
    finally:
        os.close(a)
        os.close(b)


class Going:
    """Whether a chain of hand-overs is to go on: until somebody ends it, but not for ever."""

    def __init__(self) -> None:
        self.left = 200_000
        self.over = False

    def __call__(self) -> bool:
        self.left -= 1
        return not self.over and self.left > 0


def by_semaphores(going):
    def turn(mine, other):
        while going():
            mine.acquire()
            other.release()

    a, b = coro.semaphore(1), coro.semaphore(0)
    coro.spawn(turn, a, b)
    coro.spawn(turn, b, a)


def by_a_mutex(going):
    def turn():
        while going():
            with mutex:
                pass

    mutex = coro.mutex()
    mutex.lock()
    coro.spawn(turn)
    coro.spawn(turn)
    coro.yield_slice()  # both wait, so each unlock hands it over
    mutex.unlock()


def by_events(going):
    def turn(mine, other):
        while going():
            mine.wait()
            mine.clear()
            other.set()

    a, b = coro.Event(), coro.Event()
    coro.spawn(turn, a, b)
    coro.spawn(turn, b, a)
    a.set()


def by_queues(going):
    def turn(mine, other):
        while going():
            other.put(mine.get())

    a, b = coro.Queue(1), coro.Queue(1)
    coro.spawn(turn, a, b)
    coro.spawn(turn, b, a)
    a.put(None)


def by_one_full_queue(going):
    def puts():
        while going():
            queue.put(None)

    def gets():
        while True:
            queue.get()

    queue = coro.Queue(1)
    coro.spawn(puts)
    coro.spawn(gets)


def by_conditions(going):
    def turn(mine, other):
        while going():
            mine.wait()
            other.wake_one()

    a, b = coro.condition_variable(), coro.condition_variable()
    coro.spawn(turn, a, b)
    coro.spawn(turn, b, a)
    coro.yield_slice()
    a.wake_one()


def by_exceptions(going):
    def turn(me):
        while going():
            with contextlib.suppress(coro.WakeUp):
                coro.suspend()
            if going():
                pair[1 - me].raise_exception(coro.WakeUp)

    pair = [coro.spawn(turn, 0), coro.spawn(turn, 1)]
    coro.yield_slice()
    pair[0].raise_exception(coro.WakeUp)


def by_births(going):
    def one():
        if going():
            coro.spawn(one)

    coro.spawn(one)


def by_two_lines_of_births(going):
    by_births(going)
    by_births(going)


def by_births_of_those_that_stay(going):
    def one():
        if going():
            coro.spawn(one)
            coro.suspend()

    coro.spawn(one)


def by_starts(going):
    def one():
        if going():
            coro.new(one).start()

    coro.spawn(one)


def by_ends(going):
    def main():
        while going():
            coro.spawn(int).join()

    coro.spawn(main)


CHAINS = {name: chain for name, chain in globals().items() if name.startswith("by_")}


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
def test_D_07_no_chain_of_hand_overs_keeps_the_system_from_being_asked(loop, chain):
    """Whoever waits for a descriptor, then for a time, is served while others keep making each other ready."""
    a, b = os.pipe()
    going = Going()

    def main():
        before = set(coro.all_threads.values())
        chain(going)
        os.write(b, b"x")
        coro.wait_for_read(a)
        coro.sleep_relative(0.0001)
        going.over = True
        for co in set(coro.all_threads.values()) - before:
            co.shutdown()

    try:
        loop(main)
    finally:
        os.close(a)
        os.close(b)
    assert going.left > 0


def test_D_07_those_that_begin_one_after_the_other_delay_nobody_for_long(loop):
    """Once each link of a chain of births takes longer than the system may wait, it is asked after each."""
    begun = []
    woken = []

    def link():
        begun.append(None)
        until = time.monotonic() + 0.001
        while time.monotonic() < until:
            pass
        if len(woken) < 20:
            coro.spawn(link)

    def main():
        coro.spawn(link)
        while len(woken) < 20:
            coro.sleep_relative(0.0005)
            woken.append(len(begun))

    loop(main)
    assert woken[-1] - woken[-2] <= 3
    assert woken[-2] - woken[-3] <= 3


def test_O6_a_yielder_never_comes_back_in_the_midst_of_a_short_pass(loop, monkeypatch):
    """Those that hand over to each other a hundred times have all run before it does, in the thousandth pass too."""
    monkeypatch.setattr(coro.kernel, "SWITCHES_PER_PASS", 300)
    state = {"inside": False, "passes": 0, "early": 0}

    def turn(mine, other):
        for _ in range(50):
            mine.acquire()
            other.release()

    def starter():
        while state["passes"] < 1000:
            a, b = coro.semaphore(1), coro.semaphore(0)
            turns = [coro.spawn(turn, a, b), coro.spawn(turn, b, a)]
            state["inside"] = True
            for co in turns:
                co.join()
            state["inside"] = False
            state["passes"] += 1
            coro.yield_slice()

    def main():
        coro.spawn(starter)
        while state["passes"] < 1000:
            coro.yield_slice()
            state["early"] += state["inside"]

    loop(main)
    assert state["early"] == 0


@pytest.mark.parametrize(("waits", "few"), [(False, True), (True, False)], ids=["nobody waits", "somebody waits"])
def test_short_passes_share_a_poll_unless_somebody_waits_for_a_descriptor(loop, waits, few):
    """A socket that nobody waits for costs those that yield nothing: of 1,280 passes one in 128 asks the system."""
    polls = []

    def main():
        a, b = coro.socketpair()
        with a, b:
            b.send(b"1")
            assert a.recv(1) == b"1"
            reader = coro.spawn(a.recv, 1) if waits else None
            poller = this_kernel().poller
            wait = poller.wait
            poller.wait = lambda timeout: polls.append(timeout) or wait(timeout)
            for _ in range(1280):
                coro.yield_slice()
            if reader is not None:
                reader.shutdown()
                reader.join()

    loop(main)
    assert len(polls) >= 10
    assert (len(polls) < 640) is few
