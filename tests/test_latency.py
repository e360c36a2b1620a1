"""Latency warnings: a coroutine that keeps the CPU for too long is named on stderr."""

from __future__ import annotations

import re
import time

import pytest

import coro


def compute(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


LINE = re.compile(r"High Latency: \((\d\.\d{3})s\) for (<coro #\d+ name='(\w+)'.*>)\n")


@pytest.mark.parametrize("hog", [compute, time.sleep], ids=["compute", "sleep"])
@pytest.mark.parametrize("then", [int, coro.yield_slice, coro.suspend], ids=["end", "yield", "suspend"])
def test_D_36_a_long_run_is_reported_with_the_coroutine_that_made_it(loop, capfd, hog, then):
    """Also when the coroutine ends in that run, and none of those that ran beside it is blamed."""

    def body():
        hog(0.35)
        then()

    def main():
        others = [coro.spawn(coro.sleep_relative, 0.01, thread_name="innocent") for _ in range(5)]
        co = coro.spawn(body, thread_name="hog")
        others += [coro.spawn(coro.yield_slice, thread_name="innocent") for _ in range(5)]
        for other in others:
            other.join()
        co.shutdown()

    loop(main)

    (seconds, _, name), *more = LINE.findall(capfd.readouterr().err)
    assert name == "hog"
    assert 0.3 <= float(seconds) < 3
    assert not more


def test_short_runs_and_long_waits_are_not_reported(loop, capfd):
    """Sleeping, waiting and idling cost nobody anything."""

    def body():
        for _ in range(20):
            compute(0.01)
            coro.sleep_relative(0.005)

    def main():
        children = [coro.spawn(body) for _ in range(3)]
        coro.sleep_relative(0.4)
        for co in children:
            co.join()

    loop(main)

    assert "High Latency" not in capfd.readouterr().err


def test_the_factor_sets_the_threshold(loop, capfd):
    """In units of 0.2 s; 0 switches the warnings off; the old factor is returned."""
    assert coro.set_latency_warning(300) == 1
    try:
        loop(compute, 0.3)
        assert coro.set_latency_warning(0) == 300
        loop(compute, 0.3)
        assert capfd.readouterr().err == ""
    finally:
        assert coro.set_latency_warning(1) == 0


@pytest.mark.parametrize(
    ("junk", "error"), [(-1, ValueError), (301, ValueError), (None, TypeError), (1.5, TypeError), ("1", TypeError)]
)
def test_a_wrong_factor_is_refused(junk, error):
    """And the old one stays."""
    with pytest.raises(error):
        coro.set_latency_warning(junk)
    assert coro.set_latency_warning(1) == 1
