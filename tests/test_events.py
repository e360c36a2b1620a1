"""What coroutines wait for together: `condition_variable`, `Event` and `Barrier` (B2, C2, D-09, D-55)."""

from __future__ import annotations

import time

import pytest

import coro
from coro.sync import Barrier, Event, condition_variable

from .helpers import Boom, settle

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
