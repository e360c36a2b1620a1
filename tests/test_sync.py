"""Synchronization: semaphores, mutex, rw_lock, condition variables, events, barriers (B2, C2, D-38 to D-41, D-66)."""

from __future__ import annotations

import gc
import random
import time
import weakref

import greenlet
import pytest

import coro
from coro.kernel import this_kernel
from coro.locks import mutex, rw_lock
from coro.sync import Barrier, Event, condition_variable, inverted_semaphore, semaphore


class Boom(Exception):
    pass


def settle():
    """Let all that is ready run, and whatever that makes ready."""
    coro.yield_slice()


class Waitable:
    """One primitive, taken so that the next to want it has to wait; how to wait, and how to let one waiter go on."""

    def __init__(self, name, wait, wake, waiters):
        self.name, self.wait, self.wake, self.waiters = name, wait, wake, waiters


def waitables():
    """Each primitive, made and taken by the running coroutine."""
    s = semaphore(0)
    yield Waitable("semaphore", s.acquire, s.release, lambda: len(s._waiting))

    i = inverted_semaphore(1)
    yield Waitable("inverted_semaphore", i.block_till_zero, i.release, lambda: len(i._waiting))

    m = mutex()
    m.lock()
    yield Waitable("mutex", m.lock, m.unlock, lambda: len(m))

    w = rw_lock()
    w.read_lock()
    yield Waitable("rw_lock, writers behind a reader", w.write_lock, w.read_unlock, lambda: len(w._waiting))

    r = rw_lock()
    r.write_lock()
    yield Waitable("rw_lock, readers behind a writer", r.read_lock, r.write_unlock, lambda: len(r._waiting))

    ww = rw_lock()
    ww.write_lock()
    yield Waitable("rw_lock, writers behind a writer", ww.write_lock, ww.write_unlock, lambda: len(ww._waiting))

    c1 = condition_variable()
    yield Waitable("condition_variable wake_one", c1.wait, c1.wake_one, lambda: len(c1))

    ca = condition_variable()
    yield Waitable("condition_variable wake_all", ca.wait, ca.wake_all, lambda: len(ca))

    e = Event()
    yield Waitable("event", e.wait, e.set, lambda: len(e._waiting))

    b = Barrier(2)
    yield Waitable("barrier", b.wait, b.wait, lambda: b.n_waiting)


NAMES = [waitable.name for waitable in coro.run(lambda: list(waitables()))]


@pytest.fixture(params=range(len(NAMES)), ids=[name.replace(" ", "-") for name in NAMES])
def make(request):
    """Makes one of the primitives, in the coroutine that calls it."""
    return lambda: list(waitables())[request.param]


# -- what all of them promise ----------------------------------------------------------------------------------------


def test_interrupted_waiters_do_not_hinder_the_survivor(loop, make):
    """Five victims and a survivor wait, the victims are shut down, one is let go on: it is the survivor (B2)."""
    resumed = []

    def body(thing, number):
        thing.wait()
        resumed.append(number)

    def main():
        thing = make()
        victims = [coro.spawn(body, thing, number) for number in range(5)]
        coro.spawn(body, thing, "survivor")
        if thing.name == "barrier":
            for co in victims:
                co.shutdown()
        settle()
        if thing.name != "barrier":
            assert thing.waiters() == 6
        for co in victims:
            co.shutdown()
        thing.wake()
        settle()
        assert resumed == ["survivor"]
        assert thing.waiters() == 0

    loop(main)


def test_what_a_woken_victim_was_given_passes_to_the_survivor(loop, make):
    """The same with the victims shut down after the wake-up, before they could run (B2, D-09)."""
    resumed = []

    def body(thing, number):
        thing.wait()
        resumed.append(number)

    def main():
        thing = make()
        victims = [coro.spawn(body, thing, number) for number in range(1 if thing.name == "barrier" else 5)]
        if thing.name != "barrier":
            coro.spawn(body, thing, "survivor")
        settle()
        thing.wake()
        for co in victims:
            co.shutdown()
        settle()
        assert resumed == ([] if thing.name == "barrier" else ["survivor"])
        assert thing.waiters() == 0

    loop(main)


def test_D_08_a_stray_wake_up_does_not_end_a_wait(loop, make):
    """schedule() from outside makes a waiter look, find nothing, and wait on in its place."""
    resumed = []

    def body(thing):
        resumed.append(thing.wait())

    def main():
        thing = make()
        stirred = coro.spawn(body, thing)
        settle()
        for _ in range(3):
            stirred.schedule("stray")
            settle()
            assert resumed == []
            assert thing.waiters() == 1
        thing.wake()
        settle()
        assert len(resumed) == 1
        assert resumed[0] != "stray"

    loop(main)


def test_D_08_a_stray_wake_up_and_the_real_one_together_count_once(loop, make):
    """Scheduled by a stranger and then woken, all before it runs: it goes on once and is not woken again later."""
    log = []

    def body(thing):
        thing.wait()
        log.append("served")
        log.append(coro.suspend())

    def main():
        thing = make()
        co = coro.spawn(body, thing)
        settle()
        co.schedule("stray")
        thing.wake()
        settle()
        assert log == ["served"]
        settle()
        assert log == ["served"]
        co.schedule("mine")
        settle()
        assert log == ["served", "mine"]

    loop(main)


def test_every_wait_can_stand_under_a_timeout(loop, make):
    """TimeoutError at the frame that owns it, and the waiter has left the queue."""

    def main():
        thing = make()

        def body():
            with pytest.raises(coro.TimeoutError):
                coro.with_timeout(0.001, thing.wait)
            with pytest.raises(coro.TimeoutError):
                coro.with_timeout(0, thing.wait)
            assert thing.waiters() == 0

        coro.spawn(body).result()

    loop(main)


def test_a_foreign_greenlet_on_top_of_a_coroutine_can_wait(loop, make):
    """What is resumed is the greenlet that waited."""
    log = []

    def main():
        thing = make()

        def body():
            def inside():
                thing.wait()
                log.append(greenlet.getcurrent() is bridge)
                return "back"

            bridge = greenlet.greenlet(inside)
            log.append(bridge.switch())

        co = coro.spawn(body)
        settle()
        assert log == []
        thing.wake()
        co.join()

    loop(main)

    assert log == [True, "back"]


def test_waiting_outside_a_coroutine_is_refused(loop, make):
    """YieldFromMain in code that the scheduler calls, and nobody stays in the queue."""
    errors = []

    def main():
        thing = make()
        me = coro.current()

        def outside():
            try:
                thing.wait()
            except BaseException as exc:
                errors.append(type(exc))
            kernel.externals -= 1
            me.schedule()

        kernel = this_kernel()
        kernel.externals += 1
        kernel.inbox.append(outside)
        kernel.wake_up()
        coro.suspend()
        assert thing.waiters() == 0

    loop(main)

    assert errors == [coro.YieldFromMain]


def test_its_repr_names_the_state_and_the_first_waiters(loop, make):
    """So that a stuck program can be understood; at most ten are named."""

    def main():
        thing = make()
        primitive = thing.wait.__self__
        assert "0 waiting>" in repr(primitive)
        if thing.name == "barrier":
            primitive.parties = 20
        children = [coro.spawn(thing.wait, thread_name=f"child {number}") for number in range(12)]
        settle()
        text = repr(primitive)
        assert text.startswith(f"<{type(primitive).__name__} ")
        assert f"12 waiting: #{children[0].id} 'child 0', #" in text
        assert "'child 9', ...>" in text
        assert "child 10" not in text
        for co in children:
            co.shutdown()

    loop(main)


def test_it_can_be_weakly_referenced_and_is_freed_without_the_collector(loop, make):
    """No primitive refers to itself, used or not."""

    def main():
        thing = make()
        co = coro.spawn(thing.wait)
        settle()
        thing.wake()
        co.join()
        ref = weakref.ref(thing.wait.__self__)
        gc.disable()
        try:
            del thing, co
            settle()
            assert ref() is None
        finally:
            gc.enable()

    loop(main)


def test_waiters_that_leave_in_any_order_leave_nothing(loop, make):
    """Interrupted from the front, the back and the middle, again and again: nothing stays behind."""

    def main():
        thing = make()
        if thing.name == "barrier":
            thing.wait.__self__.parties = 100
        chance = random.Random(1)
        stays = coro.spawn(thing.wait)
        for _ in range(5):
            children = [coro.spawn(thing.wait) for _ in range(20)]
            settle()
            chance.shuffle(children)
            for co in children:
                co.shutdown()
                settle()
            assert thing.waiters() == 1
        stays.shutdown()
        settle()
        assert thing.waiters() == 0

    loop(main)


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
    coro.kernel.abandoned.clear()


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


# -- mutex -----------------------------------------------------------------------------------------------------------


def test_the_owner_of_a_mutex_may_lock_it_again(loop):
    """lock() False (no wait) twice, unlock() False twice, locked until the second one (B2, multiple_lock)."""

    def main():
        m = mutex()
        assert not m.locked()
        assert not m.has_lock()
        assert repr(m) == "<mutex unlocked, 0 waiting>"
        assert m.lock() is False
        assert m.lock() is False
        assert m.locked()
        assert m.has_lock()
        assert m.unlock() is False
        assert m.locked()
        assert m.unlock() is False
        assert not m.locked()
        assert not m.has_lock()

    loop(main)


def test_a_mutex_has_one_owner(loop):
    """trylock says True = failed, try_lock says False; lock() True = waited; unlock() True = handed over (B2)."""
    log = []

    def other(m):
        log.append((m.trylock(), m.try_lock()))
        log.append(m.lock())
        log.append(m.has_lock())
        log.append((m.trylock(), m.try_lock()))
        for _ in range(3):
            log.append(m.unlock())

    def main():
        m = mutex()
        assert m.trylock() is False
        assert m.unlock() is False
        assert m.try_lock() is True
        co = coro.spawn(other, m)
        assert m.has_lock()
        assert not m.has_lock(co)
        settle()
        assert len(m) == 1
        assert m.unlock() is True
        assert m.has_lock(co)
        assert not m.has_lock()
        assert len(m) == 0
        assert not m.try_lock()
        co.join()
        assert not m.locked()

    loop(main)

    assert log == [(True, False), True, True, (False, True), False, False, False]


def test_lock_says_whether_it_had_to_wait(loop):
    """Held by another that yields: True, and the caller owns it then; nobody else waits (B2, unlock_resume)."""

    def other(m):
        with m:
            settle()

    def main():
        m = mutex()
        coro.spawn(other, m)
        settle()
        assert m.lock() is True
        assert m.has_lock()
        assert m.unlock() is False

    loop(main)


def test_a_mutex_is_handed_over_in_the_order_of_arrival(loop):
    """unlock() makes the first waiter the owner there and then; who unlocks and locks again stands behind all."""
    order = []

    def body(m, name):
        for _ in range(3):
            with m:
                order.append(name)
                settle()

    def main():
        m = mutex()
        for name in "abc":
            coro.spawn(body, m, name)

    loop(lambda: (main(), [co.join() for co in list(coro.all_threads.values()) if co is not coro.current()]))

    assert "".join(order) == "abcabcabc"


def test_unlocking_a_mutex_of_another_is_refused(loop):
    """LockError that names the culprit and the owner; likewise a free one; nothing is changed."""

    def stranger(m):
        with pytest.raises(coro.LockError, match=r"'stranger' .*cannot unlock <mutex owner=<coro .*'owner'"):
            m.unlock()

    def main():
        coro.current().set_name("owner")
        m = mutex()
        with pytest.raises(coro.LockError, match=r"'owner' .*cannot unlock <mutex unlocked"):
            m.unlock()
        m.lock()
        coro.spawn(stranger, m, thread_name="stranger").join()
        assert m.has_lock()
        m.unlock()

    loop(main)


def test_a_mutex_works_in_the_main_program_while_nobody_waits(loop):
    """The main program can own one; a coroutine must then wait, and the main program cannot wait for a coroutine."""
    m = mutex()
    assert m.lock() is False
    assert m.has_lock()
    with m:
        assert m.locked()

    def main():
        assert not m.try_lock()
        with pytest.raises(coro.LockError):
            m.unlock()
        with pytest.raises(coro.TimeoutError):
            coro.with_timeout(0.001, m.lock)

    loop(main)
    assert m.unlock() is False
    assert not m.locked()
    with pytest.raises(coro.LockError, match="main/scheduler"):
        m.unlock()


@pytest.mark.parametrize("waiters", [1, 3])
@pytest.mark.parametrize("end", ["returns", "fails", "is shut down"])
def test_D_41_a_mutex_whose_owner_has_ended_raises_in_its_waiters(loop, failures, end, waiters):
    """LockError in those that wait and in all that come later; it stays locked."""
    errors = []

    def owner(m):
        m.lock()
        settle()
        if end == "fails":
            raise Boom
        if end == "is shut down":
            coro.suspend()

    def body(m):
        try:
            m.lock()
        except coro.LockError as exc:
            errors.append((coro.current().name, str(exc)))

    def main():
        m = mutex()
        co = coro.spawn(owner, m)
        children = [coro.spawn(body, m, thread_name=f"waiter {number}") for number in range(waiters)]
        settle()
        settle()
        co.shutdown()
        for child in children:
            child.join(1)
        assert [name for name, _ in errors] == [f"waiter {number}" for number in range(waiters)]
        assert "its owner has ended without unlocking" in errors[0][1]
        assert "waiter 0" in errors[0][1]
        assert m.locked()
        for late in (m.lock, m.try_lock, m.trylock):
            with pytest.raises(coro.LockError, match="has ended"):
                late()
        assert len(m) == 0

    loop(main)
    if end == "fails":
        assert isinstance(failures.pop(), Boom)


def test_D_41_the_end_of_a_later_owner_is_seen_too(loop):
    """It was handed over twice, to one that unlocks and to one that dies with it; the last waiter is told."""
    seen = []

    def body(m, unlock):
        m.lock()
        settle()
        if unlock:
            m.unlock()

    def last(m):
        with pytest.raises(coro.LockError):
            m.lock()
        seen.append("told")

    def main():
        m = mutex()
        coro.spawn(body, m, True)
        coro.spawn(body, m, True)
        coro.spawn(body, m, False)
        coro.spawn(last, m).join(1)

    loop(main)

    assert seen == ["told"]


def test_D_41_an_owner_keeps_no_trace_of_mutexes_that_it_has_given_up(loop):
    """Contended and unlocked, or contended by somebody who gave up waiting: no callback stays with the old owner."""

    def main():
        me = coro.current()
        for _ in range(3):
            m = mutex()
            with m:
                co = coro.spawn(m.lock)
                settle()
                assert me._joiners
                co.shutdown()
                settle()
                assert not me._joiners
            with m:
                coro.spawn(lambda m=m: m.lock() and m.unlock())
                settle()
                assert me._joiners
            assert not me._joiners
            settle()

    loop(main)


def test_a_waiter_that_owns_the_mutex_already_and_is_interrupted_hands_it_on(loop):
    """Ownership goes from victim to victim; when nobody is left who wants it, the mutex is free."""

    def main():
        m = mutex()
        m.lock()
        victims = [coro.spawn(m.lock) for _ in range(3)]
        settle()
        assert m.unlock() is True
        for co in victims:
            co.shutdown()
        settle()
        assert not m.locked()
        m.lock()
        victim = coro.spawn(m.lock)
        settle()
        victim.shutdown()
        assert m.unlock() is False  # nobody is left to hand it to
        assert not m.locked()

    loop(main)


# -- rw_lock ---------------------------------------------------------------------------------------------------------


def test_readers_share_and_writers_do_not(loop):
    """Two read at once; a writer waits for both; what comes after a waiting writer waits behind it."""
    log = []

    def reader(lock, name):
        with lock.reader:
            log.append(f"+{name}")
            coro.suspend()
            log.append(f"-{name}")

    def writer(lock, name):
        with lock.writer:
            log.append(f"+{name}")
            coro.suspend()
            log.append(f"-{name}")

    def main():
        lock = rw_lock()
        children = [
            coro.spawn(reader if name.startswith("r") else writer, lock, name)
            for name in ("r1", "r2", "w1", "r3", "r4", "w2", "r5")
        ]
        for number in (0, 1, 2, 4, 3, 5, 6):
            settle()
            children[number].schedule()
        settle()

    loop(main)

    assert " ".join(log) == "+r1 +r2 -r1 -r2 +w1 -w1 +r3 +r4 -r4 -r3 +w2 -w2 +r5 -r5"


def test_try_read_lock_and_try_write_lock_say_true_when_not_obtained(loop):
    """Shrapnel's inverted answers; the *_nowait names say True when the lock was obtained (D-66)."""
    log = []

    def other(lock):
        log.append((lock.try_read_lock(), lock.try_write_lock(), lock.read_lock_nowait(), lock.write_lock_nowait()))
        while log[-1][2] and not lock.try_read_lock():
            for _ in range(3):
                lock.read_unlock()
            break

    def main():
        lock = rw_lock()
        assert lock.try_write_lock() is False
        coro.spawn(other, lock).join()
        lock.write_unlock()
        assert lock.read_lock_nowait() is True
        coro.spawn(other, lock).join()
        lock.read_unlock()
        assert lock.write_lock_nowait() is True
        lock.write_unlock()

    loop(main)

    assert log[0] == (True, True, False, False)
    assert log[1] == (False, True, True, False)


def test_locks_can_be_taken_again_by_those_who_hold_them(loop):
    """The writer writes and reads again; a reader reads again even though a writer waits; True only after a wait."""

    def main():
        lock = rw_lock()
        assert lock.write_lock() is False
        assert lock.write_lock() is False
        assert lock.read_lock() is False
        assert lock.write_lock() is False  # D-39: write inside read inside write
        for _ in range(3):
            lock.write_unlock()
        writer = coro.spawn(lock.write_lock)  # waits: the writer that was still reads
        settle()
        assert lock.read_lock() is False
        lock.read_unlock()
        assert not writer.dead
        lock.read_unlock()
        settle()
        assert writer.dead

    loop(main)


def test_D_39_a_reader_that_wants_to_write_is_told(loop):
    """It would wait for itself: LockError at once, and it still reads."""

    def main():
        lock = rw_lock()
        lock.read_lock()
        with pytest.raises(coro.LockError, match="would wait for itself"):
            lock.write_lock()
        assert lock.try_write_lock() is True
        lock.read_unlock()
        lock.write_lock()
        lock.write_unlock()

    loop(main)


@pytest.mark.parametrize("how", ["shutdown", "timeout"])
def test_D_39_readers_behind_a_writer_that_gives_up_go_on(loop, how):
    """A reader holds it, a writer waits, readers wait behind: the writer is interrupted, the readers read."""
    read = []

    def reader(lock):
        lock.read_lock()
        read.append(lock)
        lock.read_unlock()

    def writer(lock):
        with pytest.raises(coro.TimeoutError):
            coro.with_timeout(0.001, lock.write_lock)

    def main():
        lock = rw_lock()
        lock.read_lock()
        co = coro.spawn(writer if how == "timeout" else lock.write_lock, *([lock] if how == "timeout" else []))
        readers = [coro.spawn(reader, lock) for _ in range(3)]
        settle()
        assert read == []
        if how == "shutdown":
            co.shutdown()
        for child in readers:
            child.join(1)
        assert len(read) == 3

    loop(main)


def test_unlocking_what_one_does_not_hold_is_refused(loop):
    """LockError with the name of the coroutine, for strangers and for the wrong kind of unlock."""

    def stranger(lock):
        for unlock in (lock.read_unlock, lock.write_unlock):
            with pytest.raises(coro.LockError, match=r"'stranger'.* does not hold it for"):
                unlock()

    def main():
        lock = rw_lock()
        coro.spawn(stranger, lock, thread_name="stranger").join()
        lock.read_lock()
        coro.spawn(stranger, lock, thread_name="stranger").join()
        with pytest.raises(coro.LockError, match="for writing"):
            lock.write_unlock()
        lock.read_unlock()
        lock.write_lock()
        coro.spawn(stranger, lock, thread_name="stranger").join()
        with pytest.raises(coro.LockError, match="for reading"):
            lock.read_unlock()
        lock.write_unlock()

    loop(main)


@pytest.mark.parametrize("hold", ["read", "write"])
def test_D_41_an_rw_lock_whose_holder_has_ended_raises_in_its_waiters(loop, hold):
    """LockError in those that wait for the dead one, at once and later; readers share with a dead reader."""
    texts = []
    log = []

    def owner(lock):
        lock.read_lock() if hold == "read" else lock.write_lock()
        settle()

    def body(lock, kind):
        try:
            lock.read_lock() if kind == "read" else lock.write_lock()
            log.append(kind)
            lock.read_unlock()
        except coro.LockError as exc:
            texts.append(str(exc))
            log.append(f"no {kind}")

    def main():
        lock = rw_lock()
        coro.spawn(owner, lock)
        children = [coro.spawn(body, lock, kind) for kind in ("write", "read", "write", "read")]
        for co in children:
            co.join(1)
        with pytest.raises(coro.LockError):
            lock.write_lock()
        assert not lock._waiting

    loop(main)

    assert all("has ended without unlocking" in text for text in texts)
    assert sorted(log) == (["no write"] * 2 + ["read"] * 2 if hold == "read" else ["no read"] * 2 + ["no write"] * 2)


@pytest.mark.parametrize("give_up", [False, True])
def test_D_41_the_end_of_a_later_holder_of_an_rw_lock_is_seen_too(loop, give_up):
    """It got the lock from another; the last waiter is told, or has given up, and then no trace is left."""
    told = []

    def dies(lock):
        lock.write_lock()
        settle()
        settle()
        assert bool(coro.current()._joiners) is not give_up

    def last(lock):
        try:
            lock.write_lock()
        except coro.LockError as exc:
            told.append(exc)

    def main():
        lock = rw_lock()
        lock.read_lock()
        coro.spawn(dies, lock)
        waiter = coro.spawn(last, lock)
        settle()
        lock.read_unlock()
        assert not coro.current()._joiners
        settle()
        if give_up:
            waiter.shutdown()
        waiter.join(1)
        assert len(told) == (not give_up)

    loop(main)


def test_rw_lock_works_in_the_main_program_while_nobody_waits():
    """Reading, writing, both as blocks."""
    lock = rw_lock()
    with lock.writer, lock.reader:
        assert "writer=<main_stub" in repr(lock)
    with lock.reader, lock.reader:
        assert "readers=[#-1 'main/scheduler']" in repr(lock)
    with pytest.raises(Boom), lock.writer:
        raise Boom
    assert lock.try_write_lock() is False


# -- condition_variable ----------------------------------------------------------------------------------------------


def test_condition_variable_wakes_one_some_and_all(loop):
    """wait() returns what the waker gave, () by default; the counts say how many there were; no memory of wakes."""
    log = []

    def body(cv, name):
        log.append((name, cv.wait()))

    def main():
        cv = condition_variable()
        assert cv.wake_one() is False
        assert cv.wake_n(3) == 0
        assert cv.wake_all() is None
        for name in range(7):
            coro.spawn(body, cv, name)
        settle()
        assert log == []
        assert len(cv) == 7
        assert cv.wake_one("x") is True
        assert cv.wake_n(2, None) == 2
        assert cv.wake_n(0) == 0
        assert cv.wake_one() is True
        assert len(cv) == 3
        assert cv.wake_n(1) == 1
        cv.wake_all([5])
        assert len(cv) == 0
        assert cv.wake_n(9) == 0
        settle()

    loop(main)

    assert log == [(0, "x"), (1, None), (2, None), (3, ()), (4, ()), (5, [5]), (6, [5])]


@pytest.mark.parametrize("wake", ["wake_one", "wake_n"])
def test_D_09_a_wake_up_meant_for_one_that_is_interrupted_wakes_the_next(loop, wake):
    """With the same value."""
    log = []

    def body(cv, name):
        log.append((name, cv.wait()))

    def main():
        cv = condition_variable()
        children = [coro.spawn(body, cv, name) for name in "abc"]
        settle()
        assert (cv.wake_one("x") if wake == "wake_one" else cv.wake_n(1, "x")) == 1
        children[0].shutdown()
        settle()
        assert log == [("b", "x")]
        cv.wake_all("y")
        coro.spawn(body, cv, "later")
        children[2].shutdown()  # goes behind the new one, which then waits already
        settle()
        assert log == [("b", "x")]  # meant for all that waited then, so nobody else gets it
        assert cv.wake_one("z")
        settle()

    loop(main)

    assert log == [("b", "x"), ("later", "z")]


@pytest.mark.parametrize("exc", [Boom, Boom("text", 7)], ids=["class", "instance"])
def test_D_55_raise_all_raises_an_own_exception_in_each_waiter(loop, exc):
    """No two get the same object, so no traceback is shared; attributes are kept; the original stays clean."""
    caught = []

    def body(cv):
        try:
            cv.wait()
        except Boom as got:
            caught.append(got)

    def main():
        if isinstance(exc, Boom):
            exc.note = "kept"
        cv = condition_variable()
        for _ in range(3):
            coro.spawn(body, cv)
        settle()
        cv.raise_all(exc)
        assert len(cv) == 0
        settle()

    loop(main)

    assert len({id(got) for got in caught}) == 3
    assert len({id(got.__traceback__) for got in caught}) == 3
    if isinstance(exc, Boom):
        assert all(got.args == ("text", 7) and got.note == "kept" and got is not exc for got in caught)
        assert exc.__traceback__ is None


def test_raise_all_refuses_what_cannot_be_raised_or_copied(loop):
    """TypeError before anything is raised: the waiters go on waiting.  A pending shutdown is left alone."""

    class Stubborn(Exception):
        def __init__(self, a, b):
            super().__init__(a)

    class Same(Exception):
        def __copy__(self):
            return self

    def main():
        cv = condition_variable()
        children = [coro.spawn(cv.wait) for _ in range(2)]
        settle()
        for bad in ("text", int, None, Stubborn(1, 2), Same()):
            with pytest.raises(TypeError):
                cv.raise_all(bad)
        assert len(cv) == 2
        settle()
        assert not any(co.dead for co in children)
        for co in children:
            co.shutdown()
        cv.raise_all(Boom)
        settle()
        assert all(co.dead for co in children)

    loop(main)


def test_wait_timeout_is_deprecated(loop):
    """It still works."""

    def main():
        with pytest.warns(DeprecationWarning, match="use with_timeout"), pytest.raises(coro.TimeoutError):
            condition_variable().wait_timeout(0.001)

    loop(main)


# -- Event -----------------------------------------------------------------------------------------------------------


def test_an_event_holds_all_until_it_is_set(loop):
    """In the order of their arrival; then nobody waits until it is cleared."""
    log = []

    def body(event, name):
        assert event.wait() is True
        log.append(name)

    def main():
        event = Event()
        assert not event.is_set()
        for name in range(4):
            coro.spawn(body, event, name)
        settle()
        assert log == []
        event.set()
        event.set()
        assert event.is_set()
        assert event.wait() is True
        assert event.wait(0) is True
        settle()
        assert log == [0, 1, 2, 3]
        event.clear()
        assert not event.is_set()
        co = coro.spawn(event.wait)
        settle()
        assert not co.dead
        event.set()
        settle()
        assert co.dead

    loop(main)


def test_an_event_that_is_set_and_cleared_at_once_lets_go_all_that_waited(loop):
    """Set is an announcement to those that wait, as with threads; those that come later wait."""
    log = []

    def body(event, name):
        event.wait()
        log.append(name)

    def main():
        event = Event()
        coro.spawn(body, event, "before")
        settle()
        event.set()
        event.clear()
        late = coro.spawn(body, event, "after")
        settle()
        assert log == ["before"]
        late.shutdown()

    loop(main)


def test_waiting_for_an_event_with_a_timeout(loop):
    """False when the time is over, True when it was set; an outer timeout is not mistaken for it; bad ones refused."""

    def main():
        event = Event()
        begin = time.monotonic()
        assert event.wait(0.005) is False
        assert time.monotonic() - begin >= 0.005
        assert event.wait(0) is False
        with pytest.raises(coro.TimeoutError):
            coro.with_timeout(0.001, event.wait, 10)
        coro.spawn(event.set)
        assert event.wait(10) is True
        event.clear()
        with pytest.raises(TypeError):
            event.wait("1")
        with pytest.raises(ValueError, match="NaN"):
            event.wait(float("nan"))

    loop(main)


def test_an_event_in_the_main_program():
    """set, clear, is_set, and wait as long as it is set; else YieldFromMain, with and without a timeout."""
    event = Event()
    for args in ((), (0.001,)):
        with pytest.raises(coro.YieldFromMain):
            event.wait(*args)
    event.set()
    assert event.wait() is True
    assert repr(event) == "<Event set, 0 waiting>"
    event.clear()
    assert repr(event) == "<Event unset, 0 waiting>"


# -- Barrier ---------------------------------------------------------------------------------------------------------


def test_a_barrier_lets_go_all_together_and_again(loop):
    """Nobody before the last has come; each gets the number of its arrival; then it starts anew."""
    log = []

    def body(barrier, name):
        for turn in range(2):
            log.append((turn, "came", name))
            number = barrier.wait()
            log.append((turn, "went", number))

    def main():
        barrier = Barrier(3)
        for name in range(2):
            coro.spawn(body, barrier, name)
        settle()
        assert barrier.n_waiting == 2
        assert len(log) == 2
        body(barrier, 2)

    loop(main)

    for turn in range(2):
        mine = [(what, who) for when, what, who in log if when == turn]
        assert [what for what, _ in mine] == ["came"] * 3 + ["went"] * 3
        assert sorted(who for what, who in mine if what == "went") == [0, 1, 2]


def test_whoever_is_interrupted_at_a_barrier_does_not_count(loop):
    """Whether it has run since or not: the others wait for the full number."""

    def main():
        barrier = Barrier(3)
        gone, stays = coro.spawn(barrier.wait), coro.spawn(barrier.wait)
        settle()
        gone.shutdown()
        pending = coro.spawn(barrier.wait)
        settle()
        assert barrier.n_waiting == 2
        last = coro.spawn(barrier.wait)
        pending.shutdown()  # goes behind the last one, which thus comes while it is still there
        settle()
        assert not stays.dead
        assert barrier.n_waiting == 2
        assert barrier.wait() == 2
        settle()
        assert stays.dead
        assert last.dead

    loop(main)


def test_a_barrier_of_one_never_waits():
    """Not even in the main program."""
    assert Barrier(1).wait() == 0


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


@pytest.mark.parametrize("seed", range(4))
def test_a_mutex_has_never_two_owners_and_is_never_lost(loop, seed):
    """Random shutdowns, timeouts and stray wake-ups: one owner at a time, and it is free in the end."""
    chance = random.Random(seed)
    inside = []
    count = [0]

    def body(m):
        while True:
            try:
                if chance.random() < 0.3:
                    coro.with_timeout(0, m.lock)
                else:
                    m.lock()
            except coro.TimeoutError:
                continue
            try:
                inside.append(coro.current())
                count[0] += 1
                assert len(inside) == 1
                if chance.random() < 0.5:
                    settle()
                assert m.has_lock()
            finally:
                inside.pop()
                m.unlock()
            settle()

    def main():
        m = mutex()
        children = [coro.spawn(body, m) for _ in range(6)]
        for _ in range(150):
            settle()
            index = chance.randrange(len(children))
            if chance.random() < 0.3:
                children[index].shutdown()
                children[index] = coro.spawn(body, m)
            elif children[index].started and not children[index].scheduled and not children[index].dead:
                children[index].schedule()
        for co in children:
            co.shutdown()
        settle()
        assert count[0] > 100
        assert not m.locked()
        assert len(m) == 0
        assert not coro.current()._joiners

    loop(main)


@pytest.mark.parametrize("seed", range(4))
def test_an_rw_lock_never_mixes_readers_and_a_writer(loop, seed):
    """Random interruption: one writer alone, or readers; nobody waits for a lock that is free."""
    chance = random.Random(seed)
    readers = []
    writers = []
    count = [0]

    def body(lock):
        while True:
            reading = chance.random() < 0.6
            take, give, here = (
                (lock.read_lock, lock.read_unlock, readers)
                if reading
                else (lock.write_lock, lock.write_unlock, writers)
            )
            try:
                if chance.random() < 0.3:
                    coro.with_timeout(0, take)
                else:
                    take()
            except coro.TimeoutError:
                continue
            here.append(1)
            count[0] += 1
            try:
                assert len(writers) + bool(readers) <= 1
                for _ in range(chance.randint(0, 2)):
                    settle()
            finally:
                here.pop()
                give()
            settle()

    def main():
        lock = rw_lock()
        children = [coro.spawn(body, lock) for _ in range(8)]
        for _ in range(150):
            settle()
            index = chance.randrange(len(children))
            if chance.random() < 0.3:
                children[index].shutdown()
                children[index] = coro.spawn(body, lock)
        for co in children:
            co.shutdown()
        settle()
        assert count[0] > 100
        assert lock.write_lock_nowait()
        lock.write_unlock()
        assert not coro.current()._joiners

    loop(main)


# -- other threads ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "wait", "wake"),
    [
        (coro.Event, "wait", "set"),
        (lambda: coro.semaphore(0), "acquire", "release"),
        (lambda: coro.inverted_semaphore(1), "block_till_zero", "release"),
        (coro.condition_variable, "wait", "wake_all"),
        (coro.Queue, "get", "close"),
        (coro.Queue, "get", lambda queue: queue.put(1)),
    ],
    ids=["Event", "semaphore", "inverted_semaphore", "condition_variable", "Queue.close", "Queue.put"],
)
def test_to_wake_somebody_from_another_thread_is_an_error(loop, make, wake, wait):
    """The loop sleeps in its poll and would not notice: RuntimeError there, and nothing has changed here."""

    def main():
        primitive = make()
        waiter = coro.spawn(getattr(primitive, wait))
        coro.yield_slice()
        call = getattr(primitive, wake) if isinstance(wake, str) else lambda: wake(primitive)
        kernel = this_kernel()

        def call_while_it_polls():
            while kernel.current is not None:
                time.sleep(0.0005)
            call()

        with pytest.raises(RuntimeError, match="only a Portal reaches into the loop of another thread"):
            coro.to_thread(call_while_it_polls)
        assert not waiter.dead
        assert not waiter.scheduled
        call()
        if wait == "get" and isinstance(wake, str):
            with pytest.raises(coro.QueueClosed):
                waiter.result()
        else:
            waiter.join()

    loop(main)


def test_D_41_a_holder_that_lets_go_of_half_and_ends_is_noticed(loop):
    """A writer that also reads, ends reading and then itself: whoever waits gets `LockError`."""

    def main():
        lock = coro.rw_lock()

        def holder():
            lock.write_lock()
            lock.read_lock()
            coro.yield_slice()
            lock.read_unlock()

        coro.spawn(holder)
        coro.yield_slice()
        waiter = coro.spawn(lock.write_lock)
        with pytest.raises(coro.LockError):
            waiter.result(10)

    loop(main)
