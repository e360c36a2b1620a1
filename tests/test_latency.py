"""Latency warnings: a coroutine that keeps the CPU for too long is named on stderr."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import textwrap
import time

import pytest

import coro
from coro.kernel import this_kernel


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


PROGRAM = """
import threading, time
import coro

coro.latency.BUSY = 0.1  # take the loop for busy even where this process gets a tenth of a processor only,
coro.latency.STAY = -1  # and do not have the thread stay because it has stalled

def is_watched():
    return any(thread.name == "coro latency" for thread in threading.enumerate())

def keep_busy(until, seconds):
    "Switch between two coroutines until a condition holds."
    end = time.monotonic() + seconds
    spinning, found = True, False

    def spin():
        while spinning:
            coro.yield_slice()

    other = coro.spawn(spin)
    while not found and time.monotonic() < end:
        coro.yield_slice()
        found = until()
    spinning = False
    other.join()
    return found

def compute(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass

"""


def alone(poller, text):
    """Run a program in a process where no other test has left a thread; return what it says on stderr."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + textwrap.dedent(text)],
        env={**os.environ, "CORO_POLLER": poller},
        stderr=subprocess.PIPE,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_no_thread_is_there_while_a_loop_is_busy_and_holds_nobody_up(poller):
    """It would take the process out of the fast ways that malloc and the system have for a single thread."""
    alone(
        poller,
        """
        def main():
            assert is_watched()
            assert keep_busy(lambda: not is_watched(), 20)
            for _ in range(100):  # not busy any more
                coro.sleep_relative(0.05)
                if is_watched():
                    return
            raise AssertionError("the thread has not come back")

        coro.run(main)
        assert not is_watched()
        """,
    )


def test_the_thread_stays_as_long_as_there_are_others(poller):
    """Then it would save nothing to go without it."""
    alone(
        poller,
        """
        gone = threading.Event()
        threading.Thread(target=gone.wait).start()
        try:
            assert not coro.run(keep_busy, lambda: not is_watched(), 1)
        finally:
            gone.set()
        """,
    )


def test_a_long_run_in_a_loop_that_was_not_watched_is_reported_and_the_next_one_with_its_name(poller):
    said = alone(
        poller,
        """
        def hold_up_unwatched():  # at once: another poll might find that the loop is busy no more
            if is_watched():
                return False
            coro.latency.STAY = 60
            compute(0.35)
            return True

        def main():
            assert keep_busy(hold_up_unwatched, 20)
            coro.sleep_relative(0.1)
            coro.spawn(compute, 0.35, thread_name="second").join()
            assert not keep_busy(lambda: not is_watched(), 0.6)

        coro.run(main)
        """,
    )

    unknown = re.search(r"High Latency: \((\d\.\d{3})s\) between two polls of a loop that was not watched", said)
    assert unknown is not None, said
    assert 0.3 <= float(unknown[1]) < 3
    assert re.search(r"High Latency: \(\d\.\d{3}s\) for <coro #\d+ name='second'", said), said


def test_nobody_is_blamed_because_the_thread_itself_was_kept_waiting(loop, capfd):
    """A loop that gives up the GIL for moments only can starve a thread; then it looks late at whoever runs."""

    def main():
        (one,) = coro.latency._watcher.watches
        for _ in range(50):
            coro.sleep_relative(0.001)
            with coro.latency._watcher.lock:
                one.look(time.monotonic() - 1)
            assert one.suspect is not None

    coro.set_latency_warning(4)  # 0.8 s: this process may stall for some tenths
    try:
        loop(main)
    finally:
        coro.set_latency_warning(1)

    assert "High Latency" not in capfd.readouterr().err


def test_a_loop_that_cannot_begin_in_another_one_leaves_it_watched(loop):
    def main():
        before = this_kernel().on_review
        with pytest.raises(RuntimeError):
            loop(int)
        assert this_kernel().on_review is before is not None
        assert this_kernel().next_review < math.inf
        assert coro.latency._watcher.watches

    loop(main)
    assert this_kernel().on_review is None


def test_no_repr_is_made_of_a_coroutine_that_is_not_reported(loop):
    """It may be as long as the arguments of a partial function are."""

    made = []

    class Body:
        def __repr__(self):
            made.append(self)
            return "body"

        def __call__(self):
            for _ in range(5):
                compute(0.06)  # a look each, and too short to be reported
                coro.yield_slice()

    coro.set_latency_warning(10)
    try:
        loop(lambda: coro.spawn(Body()).join())
    finally:
        coro.set_latency_warning(1)
    assert len(made) == 1  # its name, when it has ended
