"""Queues: the bounded Queue, Shrapnel's fifo and event_queue (B2, C2, D-08, D-09, D-40)."""

from __future__ import annotations

import gc
import queue
import random
import sys
import weakref
from collections import deque

import greenlet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import coro
from coro.queues import Queue, QueueClosed, event_queue, fifo

from .helpers import Boom, settle

# -- Queue -----------------------------------------------------------------------------------------------------------


def test_a_queue_hands_things_over_in_order(loop):
    """First in, first out, through a bounded queue, to one getter and to several, each thing exactly once."""
    got = []

    def getter(q):
        for thing in q:
            got.append(thing)

    def main():
        for maxsize in (0, 1, 3, 1000):
            for getters in (1, 3):
                got.clear()
                q = Queue(maxsize)
                children = [coro.spawn(getter, q) for _ in range(getters)]
                for thing in range(100):
                    q.put(thing)
                q.close()
                for co in children:
                    co.join()
                assert (got if getters == 1 else sorted(got)) == list(range(100))

    loop(main)


def test_putters_wait_while_a_queue_is_full(loop):
    """No more than maxsize things are in it; those that wait put theirs in the order in which they came."""
    order = []

    def putter(q, thing):
        q.put(thing)
        order.append(thing)

    def main():
        q = Queue(2)
        for thing in range(5):
            coro.spawn(putter, q, thing)
        settle()
        assert order == [0, 1]
        assert len(q) == q.qsize() == 2
        assert q.full()
        assert q.get() == 0
        settle()
        assert order == [0, 1, 2]
        assert [q.get() for _ in range(2)] == [1, 2]
        assert q.empty()
        settle()
        assert order == [0, 1, 2, 3, 4]
        assert [q.get() for _ in range(2)] == [3, 4]
        assert not q.full()

    loop(main)


def test_getters_wait_while_a_queue_is_empty_and_are_served_in_order(loop):
    """What is put goes to the first that waits there and then: a newcomer cannot snatch it."""
    got = []

    def getter(q, name):
        got.append((name, q.get()))

    def main():
        q = Queue()
        for name in "ab":
            coro.spawn(getter, q, name)
        settle()
        q.put(1)
        assert len(q) == 0
        with pytest.raises(queue.Empty):
            q.get_nowait()
        q.put(2)
        q.put(3)
        assert q.get() == 3
        settle()

    loop(main)

    assert got == [("a", 1), ("b", 2)]


def test_a_place_that_becomes_free_belongs_to_the_first_putter(loop):
    """A newcomer cannot snatch that either."""

    def main():
        q = Queue(1)
        q.put(1)
        co = coro.spawn(q.put, 2)
        settle()
        assert q.get() == 1
        assert q.full()
        with pytest.raises(queue.Full):
            q.put_nowait(3)
        settle()
        assert co.dead
        assert q.get() == 2

    loop(main)


def test_a_promised_place_that_is_not_needed_goes_to_the_next_putter(loop):
    """Two putters wait, one place becomes free, a getter comes: the first thing passes straight on."""

    def main():
        q = Queue(1)
        q.put(0)
        putters = [coro.spawn(q.put, 1), coro.spawn(q.put, 2)]
        settle()
        assert q.get() == 0
        getter = coro.spawn(q.get)
        assert q.get() == 1
        settle()
        assert all(co.dead for co in putters)
        assert getter.result() == 2
        assert not q.full()

    loop(main)


def test_the_nowait_forms_raise_the_exceptions_of_the_standard_library(loop):
    """queue.Full and queue.Empty, with put_nowait, get_nowait, block=False, and when a timeout is over."""

    def main():
        q = Queue(1)
        for call in (q.get_nowait, lambda: q.get(False), lambda: q.get(timeout=0.001), lambda: q.get(True, 0)):
            with pytest.raises(queue.Empty):
                call()
        q.put(1, timeout=10)
        for call in (
            lambda: q.put_nowait(2),
            lambda: q.put(2, False),
            lambda: q.put(2, timeout=0.001),
            lambda: q.put(2, True, 0),
        ):
            with pytest.raises(queue.Full):
                call()
        assert q.get(timeout=10) == 1
        assert q.empty()
        with pytest.raises(coro.TimeoutError):
            coro.with_timeout(0.001, q.get, timeout=10)
        with pytest.raises(TypeError):
            q.get(timeout="1")
        coro.spawn(q.put, 5)
        assert q.get(timeout=10) == 5
        assert not q._getters
        assert not q._putters

    loop(main)


def test_wrong_sizes_are_refused():
    """TypeError and ValueError at once."""
    for bad in ("1", 1.0, None, True):
        with pytest.raises(TypeError, match="the size of a queue is an int"):
            Queue(bad)
    with pytest.raises(ValueError, match="0 or more, not -1"):
        Queue(-1)


def test_a_queue_works_in_the_main_program_while_nobody_waits(loop):
    """Filled before the loop and emptied after it; waiting is YieldFromMain, with or without a timeout."""
    q = Queue(2)
    q.put(1)
    q.put_nowait(2)
    for args in ((3,), (3, True, 0.001)):
        with pytest.raises(coro.YieldFromMain):
            q.put(*args)
    assert loop(q.get) == 1
    assert q.get_nowait() == 2
    for args in ((), (True, 0.001)):
        with pytest.raises(coro.YieldFromMain):
            q.get(*args)
    assert not q._getters
    assert not q._putters


def test_a_closed_queue_is_drained_and_then_raises(loop):
    """What is in it can still be taken; putters, waiting ones too, get QueueClosed at once; iteration ends."""

    def waiting_putter(q):
        with pytest.raises(QueueClosed):
            q.put(3)

    def main():
        q = Queue(2)
        q.put(1)
        q.put(2)
        co = coro.spawn(waiting_putter, q)
        settle()
        assert not q.closed
        q.close()
        q.close()
        assert q.closed
        assert not q.full()
        for put in (q.put, q.put_nowait):
            with pytest.raises(QueueClosed, match="closed"):
                put(4)
        assert q.get() == 1
        assert list(q) == [2]
        for get in (q.get, q.get_nowait, lambda: q.get(timeout=1)):
            with pytest.raises(QueueClosed):
                get()
        co.join()
        if sys.version_info >= (3, 13):
            assert issubclass(QueueClosed, queue.ShutDown)

    loop(main)


def test_closing_an_empty_queue_wakes_all_getters(loop):
    """Each gets QueueClosed, and those that iterate end in peace."""
    ended = []

    def getter(q):
        with pytest.raises(QueueClosed):
            q.get()
        ended.append("get")

    def iterator(q):
        assert list(q) == []
        ended.append("for")

    def main():
        q = Queue()
        children = [coro.spawn(getter, q), coro.spawn(iterator, q), coro.spawn(getter, q)]
        settle()
        q.close()
        for co in children:
            co.join()

    loop(main)

    assert ended == ["get", "for", "get"]


def test_a_place_promised_to_a_putter_before_the_close_is_void(loop):
    """It raises, and its thing is not in the queue."""

    def putter(q):
        with pytest.raises(QueueClosed):
            q.put(2)

    def main():
        q = Queue(1)
        q.put(1)
        co = coro.spawn(putter, q)
        settle()
        assert q.get() == 1
        q.close()
        co.join()
        assert list(q) == []

    loop(main)


def test_what_a_getter_was_given_before_the_close_it_gets(loop):
    """Even though it runs after the close; if it is interrupted instead, the thing is back in the queue."""

    def main():
        for interrupt in (False, True):
            q = Queue()
            co = coro.spawn(q.get)
            other = coro.spawn(list, q)
            settle()
            q.put("thing")
            q.close()
            if interrupt:
                co.shutdown()
                assert other.result() == []
                settle()
                assert q.get() == "thing"
            else:
                assert co.result() == "thing"
                assert other.result() == []

    loop(main)


@pytest.mark.parametrize("others", [0, 2])
def test_D_09_a_thing_given_to_a_getter_that_is_interrupted_is_not_lost(loop, others):
    """It goes to the next getter, or back to the front of the queue, before what was put later."""
    got = []

    def getter(q, name):
        got.append((name, q.get()))

    def main():
        q = Queue(1)
        victim = coro.spawn(getter, q, "victim")
        children = [coro.spawn(getter, q, name) for name in range(others)]
        settle()
        q.put("first")
        victim.shutdown()
        q.put("second")
        settle()
        if others:
            q.put("third")
            assert q.get() == "third"
            for co in children:
                co.join()
            assert sorted(got) == [(0, "second"), (1, "first")]
        else:
            assert q.full()
            assert [q.get(), q.get()] == ["first", "second"]
            assert not q.full()
            q.put("room again")

    loop(main)


def test_an_interrupted_put_puts_nothing_and_passes_its_place_on(loop):
    """Whether it was waiting or had been promised the place."""

    def main():
        q = Queue(1)
        q.put(0)
        victims = [coro.spawn(q.put, number) for number in (1, 2)]
        last = coro.spawn(q.put, 3)
        settle()
        victims[1].shutdown()
        settle()
        assert q.get() == 0
        victims[0].shutdown()
        settle()
        assert last.dead
        assert q.get() == 3
        assert q.empty()
        assert not q.full()
        q.put(4)
        assert q.full()

    loop(main)


def test_D_08_a_stray_wake_up_ends_neither_put_nor_get(loop):
    """schedule() from outside makes them look and wait on; the value given there is not the thing."""

    def main():
        q = Queue(1)
        getter = coro.spawn(q.get)
        settle()
        getter.schedule("stray")
        settle()
        assert not getter.dead
        getter.schedule("stray")
        q.put("thing")
        assert getter.result() == "thing"
        q.put(1)
        putter = coro.spawn(q.put, 2)
        settle()
        putter.schedule("stray")
        settle()
        assert not putter.dead
        assert len(q) == 1
        assert [q.get(), q.get()] == [1, 2]

    loop(main)


def test_D_40_a_stray_wake_up_leaves_no_second_entry(loop):
    """A getter that was stirred waits once: one thing wakes one getter, and nobody is woken for a thing it has had."""
    got = []

    def getter(f, name):
        got.append((name, f.pop()))
        got.append((name, coro.suspend()))

    def main():
        f = fifo()
        children = [coro.spawn(getter, f, name) for name in "ab"]
        settle()
        for _ in range(3):
            children[0].schedule()
            settle()
        assert len(f._getters) == 2
        f.push(1)
        f.push(2)
        f.push(3)
        settle()
        assert got == [("a", 1), ("b", 2)]
        assert f.pop() == 3
        for co in children:
            co.shutdown()

    loop(main)


def test_a_foreign_greenlet_on_top_of_a_coroutine_can_put_and_get(loop):
    """What is resumed is the greenlet that waited."""

    def main():
        q = Queue(1)

        def consumer():
            bridge = greenlet.greenlet(lambda: [q.get() for _ in range(3)])
            return bridge.switch()

        def producer():
            bridge = greenlet.greenlet(lambda: [q.put(number) for number in range(3)])
            bridge.switch()

        first = coro.spawn(consumer)
        coro.spawn(producer)
        assert first.result() == [0, 1, 2]
        coro.spawn(producer)
        settle()
        assert coro.spawn(consumer).result() == [0, 1, 2]

    loop(main)


def test_its_repr_says_what_is_in_it_and_who_waits(loop):
    """Also whether it is bounded or closed."""

    def putter(q):
        with pytest.raises(QueueClosed):
            q.put(2)

    def main():
        q = Queue(1)
        assert repr(q) == "<Queue 0 of 1, 0 waiting>"
        q.put(1)
        co = coro.spawn(putter, q, thread_name="putter")
        settle()
        assert repr(q) == f"<Queue 1 of 1, 1 waiting: #{co.id} 'putter'>"
        q.close()
        assert repr(q) == "<Queue 1 of 1 closed, 0 waiting>"
        f = fifo()
        co = coro.spawn(f.pop, thread_name="getter")
        settle()
        assert repr(f) == f"<fifo 0, 1 waiting: #{co.id} 'getter'>"
        f.push(1)
        assert repr(event_queue()) == "<event_queue empty>"

    loop(main)


def test_a_queue_is_freed_without_the_collector(loop):
    """With what is in it, and with used waiters."""

    def main():
        q = Queue(1)
        co = coro.spawn(q.get)
        settle()
        q.put(1)
        co.join()
        q.put(Boom())
        ref = weakref.ref(q)
        gc.disable()
        try:
            del q, co
            settle()
            assert ref() is None
        finally:
            gc.enable()

    loop(main)


# -- fifo ------------------------------------------------------------------------------------------------------------


def test_fifo_has_shrapnels_names(loop):
    """push, push_front, pop, pop_all, top, len and an iteration that takes nothing out."""

    def main():
        f = fifo()
        with pytest.raises(IndexError):
            f.top()
        for thing in (1, 2):
            f.push(thing)
        f.push_front(0)
        assert len(f) == 3
        assert f.top() == 0
        assert list(f) == [0, 1, 2]
        assert len(f) == 3
        assert f.pop() == 0
        assert f.pop_all() == [1, 2]
        assert len(f) == 0
        co = coro.spawn(f.pop_all)
        settle()
        assert not co.dead
        f.push("a")
        f.push("b")
        f.push_front("c")
        assert co.result() == ["a", "c", "b"]
        first, second = coro.spawn(f.pop), coro.spawn(f.pop)
        settle()
        f.push_front(1)
        f.push_front(2)
        assert (first.result(), second.result()) == (1, 2)

    loop(main)


def test_fifo_works_in_the_main_program_while_nobody_waits(loop):
    """push before the loop, pop in it; popping nothing there is YieldFromMain."""
    f = fifo()
    f.push(1)
    assert f.pop() == 1
    for pop in (f.pop, f.pop_all):
        with pytest.raises(coro.YieldFromMain):
            pop()
    f.push(2)
    assert loop(f.pop_all) == [2]


def test_D_09_a_thing_pushed_for_an_interrupted_popper_wakes_the_other(loop):
    """Shrapnel left the other popper asleep with a thing in the fifo."""

    def main():
        f = fifo()
        victim, other = coro.spawn(f.pop), coro.spawn(f.pop)
        settle()
        f.push("thing")
        victim.shutdown()
        assert other.result(1) == "thing"

    loop(main)


# -- event_queue -----------------------------------------------------------------------------------------------------


def test_event_queue_orders_by_time_and_is_stable():
    """The cases of Shrapnel's test: equal times in the order of insertion; len; IndexError when empty."""
    e = event_queue()
    pairs = [(3, "3"), (2, "21"), (1, "1"), (2, "22")]
    for time, value in pairs:
        e.insert(time, value)
    assert len(e) == 4
    for value in ("1", "21", "22", "3"):
        assert e.top() == value
        assert e.pop() == value
    for call in (e.top, e.pop, lambda: e.remove(1, "1")):
        with pytest.raises(IndexError):
            call()
    for time, value in pairs:
        e.insert(time, value)
    with pytest.raises(IndexError):
        e.remove(1, "2")
    with pytest.raises(IndexError):
        e.remove(10, "2")
    assert len(e) == 4
    for time, value in pairs:
        e.remove(time, value)
    assert len(e) == 0


def test_event_queue_removes_by_identity():
    """An equal object is another one; of the same object put in twice, the one that would come first goes."""
    one, other = [1], [1]
    e = event_queue()
    e.insert(5, one)
    with pytest.raises(IndexError):
        e.remove(5, other)
    e.insert(5, other)
    e.insert(5, one)
    e.remove(5, one)
    assert e.pop() is other
    assert e.pop() is one


def test_event_queue_refuses_what_is_no_time():
    """TypeError and ValueError, and nothing is put in."""
    e = event_queue()
    for bad in ("1", None):
        with pytest.raises(TypeError, match="is a number"):
            e.insert(bad, "x")
    with pytest.raises(ValueError, match="NaN"):
        e.insert(float("nan"), "x")
    assert len(e) == 0
    e.insert(2**64 - 1, "late")
    e.insert(0, "early")
    e.insert(1.5, "between")
    assert "'early' at 0" in repr(e)
    assert [e.pop() for _ in range(3)] == ["early", "between", "late"]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=40))
def test_event_queue_against_a_sorted_list(steps):
    """Any sequence of insertions and removals gives what a stable sort of the rest gives."""
    e = event_queue()
    model = []
    for number, (time, remove) in enumerate(steps):
        if remove and model:
            at = number % len(model)
            e.remove(*model.pop(at))
        else:
            thing = [number]
            e.insert(time, thing)
            model.append((time, thing))
    expected = [thing for _, thing in sorted(model, key=lambda pair: pair[0])]
    assert [e.pop() for _ in range(len(e))] == expected


# -- under random interruption ---------------------------------------------------------------------------------------

steps = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "get", "get", "put_nowait", "get_nowait", "shut", "stray", "run", "run"]),
        st.integers(0, 30),
    ),
    max_size=60,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 3), steps)
def test_any_interleaving_conserves_things_and_keeps_nobody_waiting_in_vain(loop, maxsize, steps):
    """Putters and getters come, are shut down and stirred in any order: a thing that was put is got once or is still
    there; a put that raised has put nothing; and never does a getter wait beside a thing, or a putter beside room."""
    put, got = [], []

    def putter(q, thing):
        q.put(thing)
        put.append(thing)

    def getter(q):
        got.append(q.get())

    def main():
        q = Queue(maxsize)
        children = []
        for number, (what, choice) in enumerate(steps):
            if what == "put":
                children.append(coro.spawn(putter, q, number))
            elif what == "get":
                children.append(coro.spawn(getter, q))
            elif what == "put_nowait":
                try:
                    q.put_nowait(number)
                    put.append(number)
                except queue.Full:
                    assert maxsize
            elif what == "get_nowait":
                try:
                    got.append(q.get_nowait())
                except queue.Empty:
                    assert len(q) == 0
            elif what == "run":
                settle()
                waiting = [co for co in children if not co.dead]
                assert not (q._items and q._getters)
                if maxsize:
                    assert not (q._putters and len(q) < maxsize)
                else:
                    assert not q._putters
                assert len(waiting) == len(q._getters) + len(q._putters)
            elif children:
                co = children[choice % len(children)]
                if what == "shut":
                    co.shutdown()
                elif co.started and not co.scheduled and not co.dead:
                    co.schedule("stray")
        settle()
        left = []
        while q._items or q._putters:
            left.append(q.get())
            settle()
        assert sorted(got + left) == sorted(put)
        assert len(set(put)) == len(put)
        for co in children:
            co.shutdown()
        settle()
        assert not q._getters
        assert not q._putters
        for thing in range(maxsize):
            q.put_nowait(thing)
        assert maxsize == 0 or q.full()

    loop(main)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 3), st.lists(st.sampled_from(["put", "get", "run"]), max_size=60))
def test_without_interruption_a_queue_is_fair_and_in_order(loop, maxsize, steps):
    """Things come out in the order in which the putters came, and go to the getters in the order of their coming."""
    got = []

    def getter(q, name):
        got.append((name, q.get()))

    def main():
        q = Queue(maxsize)
        children = deque()
        puts = gets = 0
        for what in steps:
            if what == "put":
                children.append(coro.spawn(q.put, puts))
                puts += 1
            elif what == "get":
                children.append(coro.spawn(getter, q, gets))
                gets += 1
            else:
                settle()
        settle()
        assert sorted(got) == [(number, number) for number in range(min(puts, gets))]
        for co in children:
            co.shutdown()

    loop(main)


@pytest.mark.parametrize("seed", range(3))
def test_producers_and_consumers_under_random_interruption(loop, seed):
    """Many of each, shut down at random and replaced, with timeouts: each thing that was put is got exactly once."""
    chance = random.Random(seed)
    put, got = [], []
    numbers = iter(range(10**9))

    def producer(q):
        while True:
            thing = next(numbers)
            try:
                q.put(thing, timeout=0 if chance.random() < 0.2 else None)
            except queue.Full:
                continue
            put.append(thing)

    def consumer(q):
        while True:
            try:
                got.append(q.get(timeout=0 if chance.random() < 0.2 else None))
            except queue.Empty:
                continue
            if chance.random() < 0.3:
                settle()

    def main():
        q = Queue(2)
        bodies = [producer, consumer] * 4
        children = [coro.spawn(body, q) for body in bodies]
        for _ in range(100):
            settle()
            index = chance.randrange(len(children))
            children[index].shutdown()
            children[index] = coro.spawn(bodies[index], q)
        for co in children:
            co.shutdown()
        settle()
        q.close()
        got.extend(q)
        assert len(put) > 200
        assert sorted(got) == put == sorted(put) or sorted(got) == sorted(put)

    loop(main)
