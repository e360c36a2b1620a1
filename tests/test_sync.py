"""Synchronization: what all primitives promise, whichever it is that a coroutine waits for (B2, C2, D-08).

What each of them is for is in test_semaphores.py, test_locks.py and test_events.py.
"""

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

from .helpers import settle


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
