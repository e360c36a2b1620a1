"""Semaphores: `semaphore` and `inverted_semaphore` (B2, C2, D-38, D-66)."""

from __future__ import annotations

import random

import pytest

import coro
from coro.sync import Barrier, condition_variable, inverted_semaphore, semaphore

from .helpers import Boom, settle

# -- semaphore -------------------------------------------------------------------------------------------------------


def test_a_semaphore_counts_units(loop):
    """acquire takes, release gives, avail and int() tell; `with` takes one; it may grow beyond its first value."""

    def main():
        s = semaphore(3)
        assert (s.avail, int(s)) == (3, 3)
        s.acquire(2)
        assert s.avail == 1
        with s:
            assert s.avail == 0
        with pytest.raises(Boom), s:
            raise Boom
        s.release(5)
        assert s.avail == 6
        s.acquire(0)
        s.release(0)
        assert s.avail == 6
        assert repr(s) == "<semaphore avail=6, 0 waiting>"

    loop(main)


def test_a_semaphore_works_in_the_main_program_while_nobody_waits():
    """acquire, release, try_acquire and `with`, before any loop."""
    s = semaphore(2)
    s.acquire()
    with s:
        assert not s.try_acquire()
    assert s.try_acquire()
    s.release(2)
    assert s.avail == 2
    with pytest.raises(coro.YieldFromMain):
        s.acquire(3)
    assert s.avail == 2


def test_D_66_wrong_counts_are_refused():
    """TypeError for what is no int, ValueError for negative numbers, and nothing is changed."""
    s = semaphore(1)
    i = inverted_semaphore(1)
    for bad in ("1", 1.0, None, True):
        for call in (semaphore, inverted_semaphore, Barrier, s.acquire, s.try_acquire, s.release, i.acquire, i.release):
            with pytest.raises(TypeError, match="is an int, not"):
                call(bad)
        with pytest.raises(TypeError, match="is an int, not"):
            condition_variable().wake_n(bad)
    for call in (semaphore, inverted_semaphore, Barrier, s.acquire, s.try_acquire, s.release, i.acquire, i.release):
        with pytest.raises(ValueError, match="or more, not -1"):
            call(-1)
    with pytest.raises(ValueError, match="1 or more, not 0"):
        Barrier(0)
    with pytest.raises(ValueError, match="0 or more, not -1"):
        condition_variable().wake_n(-1)
    assert (s.avail, i.value) == (1, 1)


def test_released_units_are_handed_over_at_once(loop):
    """They are gone when release() returns: a newcomer that runs before the waiter cannot snatch them."""
    order = []

    def body(s, name):
        s.acquire()
        order.append(name)

    def main():
        s = semaphore(0)
        coro.spawn(body, s, "waiter")
        settle()
        s.release()
        assert s.avail == 0
        assert not s.try_acquire()
        coro.spawn(s.release)
        body(s, "newcomer")

    loop(main)

    assert order == ["waiter", "newcomer"]


def test_a_semaphore_serves_in_the_order_of_arrival(loop):
    """A waiter for many holds up those behind it, even if there is enough for them; nobody is overtaken."""
    order = []

    def body(s, name, n):
        s.acquire(n)
        order.append(name)

    def main():
        s = semaphore(2)
        for name, n in (("three", 3), ("one", 1), ("two", 2)):
            coro.spawn(body, s, name, n)
        settle()
        assert not s.try_acquire()
        assert order == []
        s.release(1)
        settle()
        assert order == ["three"]
        s.release(3)
        settle()
        assert order == ["three", "one", "two"]
        assert s.avail == 0

    loop(main)


@pytest.mark.parametrize("interrupted", ["while it waits", "when it was chosen"])
def test_D_38_small_waiters_go_on_when_the_big_one_before_them_gives_up(loop, interrupted):
    """Two units are free, the first waiter wants four and is interrupted: the waiter for one gets one."""
    order = []

    def body(s, name, n):
        s.acquire(n)
        order.append(name)

    def main():
        s = semaphore(2)
        big = coro.spawn(body, s, "big", 4)
        coro.spawn(body, s, "small", 1)
        settle()
        if interrupted == "when it was chosen":
            s.release(2)
            assert s.avail == 0
        big.shutdown()
        settle()
        assert order == ["small"]
        assert s.avail == (1 if interrupted == "while it waits" else 3)

    loop(main)


def test_interrupted_waiters_leave_the_queue_late(loop):
    """Shrapnel's `_waiting`: they are still in it after their shutdown, and a release drops them (B2, buildup)."""
    resumed = []

    def body(s):
        s.acquire()
        resumed.append(s)

    def main():
        s = semaphore(1)
        s.acquire()
        children = [coro.spawn(body, s) for _ in range(5)]
        settle()
        assert len(s._waiting) == 5
        for co in children:
            co.shutdown()
        assert len(s._waiting) == 5
        s.release(1)
        assert len(s._waiting) == 0
        assert s.avail == 1
        settle()
        assert s.avail == 1
        assert resumed == []

    loop(main)


def test_a_waiter_of_a_loop_that_has_ended_is_given_nothing(poller):
    """A coroutine that refused to end was abandoned in the queue: the next loop's release passes over it."""
    s = semaphore(0)
    old = coro.set_exit_grace(0)

    def stubborn():
        while True:
            try:
                s.acquire()
            except coro.Shutdown:
                continue

    def first():
        coro.spawn(stubborn)
        settle()

    def second():
        co = coro.spawn(s.acquire)
        settle()
        s.release()
        co.join(1)

    try:
        coro.run(first)
    finally:
        coro.set_exit_grace(old)
    assert len(s._waiting) == 1
    coro.run(second)
    coro.running.abandoned.clear()


# -- inverted_semaphore ----------------------------------------------------------------------------------------------


def test_an_inverted_semaphore_wakes_all_at_zero(loop):
    """Not before; and whoever was woken returns even if the count has risen again."""
    order = []

    def body(i, name):
        i.block_till_zero()
        order.append((name, i.value))

    def main():
        i = inverted_semaphore()
        i.block_till_zero()
        i.acquire()
        i.acquire(2)
        assert (i.value, int(i)) == (3, 3)
        for name in "abc":
            coro.spawn(body, i, name)
        settle()
        i.release(2)
        settle()
        assert order == []
        i.release()
        i.acquire(7)
        settle()
        assert order == [("a", 7), ("b", 7), ("c", 7)]

    loop(main)


def test_an_inverted_semaphore_may_go_below_zero(loop):
    """A thing may end before it is counted; then block_till_zero waits, and an acquire ends the wait."""

    def main():
        i = inverted_semaphore()
        i.release(2)
        assert i.value == -2
        co = coro.spawn(i.block_till_zero)
        settle()
        assert not co.dead
        i.acquire(2)
        settle()
        assert co.dead
        i.acquire(1)
        co = coro.spawn(i.block_till_zero)
        settle()
        i.release(2)
        settle()
        assert not co.dead
        i.acquire()
        settle()
        assert co.dead

    loop(main)


# -- under random interruption ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_no_unit_is_lost_and_nobody_overtaken_under_random_interruption(loop, seed):
    """A semaphore, with shutdowns, timeouts and stray wake-ups: units are conserved, arrivals served in order."""
    chance = random.Random(seed)
    total = 5
    held = [0]
    arrivals = iter(range(10**9))
    waiting = {}

    def body(s):
        while True:
            n = chance.randint(1, total)
            me = coro.current()
            waiting[me] = (next(arrivals), n)
            try:
                if chance.random() < 0.3:
                    try:
                        coro.with_timeout(0, s.acquire, n)
                    except coro.TimeoutError:
                        continue
                else:
                    s.acquire(n)
                mine, _ = waiting.pop(me)
                held[0] += n
                assert held[0] + s.avail <= total
                # Whoever came before and is still here is on its way out or has its units already.
                boxes = {box[0] for box in s._waiting if box[0]._pending is None}
                assert not [co for co in boxes if waiting[co][0] < mine]
            finally:
                waiting.pop(me, None)
            try:
                for _ in range(chance.randint(0, 2)):
                    settle()
            finally:
                held[0] -= n
                s.release(n)

    def main():
        s = semaphore(total)
        children = [coro.spawn(body, s) for _ in range(8)]
        for _ in range(150):
            settle()
            index = chance.randrange(len(children))
            if chance.random() < 0.3:
                children[index].shutdown()
                children[index] = coro.spawn(body, s)
            else:
                co = children[index]
                if co.started and not co.scheduled and not co.dead:
                    co.schedule("stray")
        for co in children:
            co.shutdown()
        settle()
        assert s.avail == total
        assert not s._waiting

    loop(main)
