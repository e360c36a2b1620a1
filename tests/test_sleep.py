"""Sleeping: sleep_relative, sleep_absolute, and what ends a sleep early."""

from __future__ import annotations

import math
import time

import pytest

import coro


class Boom(Exception):
    pass


@pytest.mark.parametrize("delta", [0.0001, 0.0009, 0.002, 0.0105])
def test_a_sleep_is_never_shorter(loop, delta):
    """On the clock that the program sees, sleep after sleep, while others sleep too."""

    def body():
        for _ in range(20):
            begin = time.monotonic()
            coro.sleep_relative(delta)
            assert time.monotonic() - begin >= delta
            begin = coro.get_now()
            coro.sleep_absolute(begin + int(delta * 1e9))
            assert coro.get_now() >= begin + int(delta * 1e9)

    loop(lambda: [co.result() for co in [coro.spawn(body) for _ in range(5)]])


def test_D_15_a_sleep_does_not_spin(loop):
    """Sleeps below a millisecond cost next to no CPU time."""

    def main():
        begin, cpu = time.monotonic(), time.process_time()
        while time.monotonic() - begin < 0.2:
            coro.sleep_relative(0.0009)
        assert time.process_time() - cpu < 0.15

    loop(main)


@pytest.mark.parametrize("delta", [0, -1, -math.inf, 0.0])
def test_zero_or_less_is_a_yield(loop, delta):
    """D-35: a negative sleep is one of nothing."""
    ran = []

    def main():
        coro.spawn(ran.append, 1)
        coro.sleep_relative(delta)
        assert [1] == ran

    loop(main)


@pytest.mark.parametrize("sleep", [coro.sleep_relative, coro.sleep_absolute])
@pytest.mark.parametrize(
    ("junk", "error"), [(None, TypeError), ("1", TypeError), ([], TypeError), (math.nan, ValueError)]
)
def test_D_35_what_is_no_number_is_refused(loop, sleep, junk, error):
    """In the loop and outside it: TypeError or ValueError, and nothing is left behind."""

    def main():
        with pytest.raises(error):
            sleep(junk)

    loop(main)
    if sleep is coro.sleep_relative:
        with pytest.raises(error):
            sleep(junk)


@pytest.mark.parametrize("forever", [lambda: coro.sleep_relative(math.inf), lambda: coro.sleep_absolute(math.inf)])
def test_D_35_infinity_is_for_ever(loop, forever):
    """It sleeps until somebody ends it."""

    def main():
        co = coro.spawn(forever)
        coro.sleep_relative(0.005)
        assert not co.dead
        co.schedule()
        co.join()

    loop(main)


def test_very_long_sleeps_are_no_error(loop):
    """A thousand years neither overflow nor wake at once."""

    def main():
        co = coro.spawn(coro.sleep_relative, 1000 * 365 * 86400.0)
        other = coro.spawn(coro.sleep_absolute, 10**30)
        coro.sleep_relative(0.005)
        assert not co.dead
        assert not other.dead
        co.shutdown()
        other.shutdown()

    loop(main)


def test_schedule_ends_a_sleep_early_and_removes_its_timer(loop):
    """The sleeper goes on at once, and the timer does not end its next wait."""
    ran = []

    def body():
        coro.sleep_relative(0.01)
        ran.append("woken")
        ran.append(coro.suspend())

    def main():
        co = coro.spawn(body)
        coro.yield_slice()
        co.schedule("dropped")
        coro.yield_slice()
        assert ["woken"] == ran
        coro.sleep_relative(0.03)
        assert ["woken"] == ran
        co.schedule("value")
        co.join()

    loop(main)

    assert ["woken", "value"] == ran


def test_an_exception_ends_a_sleep_and_removes_its_timer(loop):
    """Delivered within one yield of whoever raised it."""
    ran = []

    def body():
        try:
            coro.sleep_relative(0.01)
        except Boom:
            ran.append("boom")
        coro.suspend()

    def main():
        co = coro.spawn(body)
        coro.yield_slice()
        co.raise_exception(Boom)
        coro.yield_slice()
        assert ["boom"] == ran
        coro.sleep_relative(0.02)
        assert not co.dead
        co.schedule()
        co.join()

    loop(main)


def test_a_tick_is_a_nanosecond():
    """get_now() counts nanoseconds of the monotonic clock."""
    before = time.monotonic_ns()
    now = coro.get_now()
    after = time.monotonic_ns()

    assert before <= now <= after
    assert coro.ticks_per_sec == 10**9
    assert coro.ticks_per_usec == 1000
