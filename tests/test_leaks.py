"""Nothing is left of coroutines, however they end, and the price of an end does not depend on their number.

The same with 100,000 for each ending: ``python tests/leaks.py``.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from functools import partial

import pytest

import coro

from . import leaks
from .leaks import BATCH, ENDINGS, Ending, examine, grows, silent, times_at_once

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no descriptors to count")

COUNT = 2000
RINGS = {"exception that refers to its coroutine"}  # which the program itself has made


@pytest.fixture(autouse=True)
def _silent():
    with silent():
        yield


@pytest.mark.parametrize("name", ENDINGS)
def test_nothing_is_left_of_two_thousand(poller, monkeypatch, name):
    """No object, reference, timer, waiter, descriptor, thread or memory; and no ring that only gc could free."""
    if name in RINGS:
        monkeypatch.setattr(leaks, "PATIENCE", 0.0)

    found = examine(ENDINGS[name], COUNT)

    assert found.faults(COUNT) == ""
    assert (found.garbage > 0) == (name in RINGS)


@pytest.mark.parametrize("name", [end.name for end in ENDINGS.values() if end.at_once])
def test_the_end_of_many_at_once_is_linear(name):
    """Ten times as many take less than five times as long each; if something were quadratic it would be ten times."""
    few, many = times_at_once(ENDINGS[name], 2000)

    assert not grows(few, many), f"{few * 1e6:.1f} us each for 200, {many * 1e6:.1f} us each for 2000"


def test_a_coroutine_that_ran_for_long_is_not_kept_by_the_latency_warnings(loop):
    """The worker that ran it stays parked in the code that would report it."""

    def main():
        co = weakref.ref(coro.spawn(time.sleep, 0.1))
        coro.yield_slice()
        assert co() is None

    gc.disable()
    try:
        loop(main)
    finally:
        gc.enable()


def test_thousands_that_were_cancelled_before_their_start_fill_nobodys_stack(loop):
    """Whoever parks next passes them all by (see Kernel._start)."""

    def main():
        for co in [coro.spawn(int) for _ in range(2 * sys.getrecursionlimit())]:
            co.shutdown()
        coro.yield_slice()

    loop(main)


# -- the search itself -----------------------------------------------------------------------------------------------


def leaves_coroutines(kept, count, token):
    kept.append(coro.spawn(coro.sleep_relative, 600))


def leaves_the_token(kept, count, token):
    kept.append(token)


def leaves_descriptors(kept, count, token):
    kept.append(os.open(os.devnull, os.O_RDONLY))


def leaves_threads(kept, count, token):
    kept.append(threading.Thread(target=kept[0].wait))
    kept[-1].start()


def leaves_memory(kept, count, token):
    kept.append([str(number) for number in range(count, 2 * count)])


@pytest.mark.parametrize(
    ("run", "names"),
    [
        (leaves_coroutines, ["live", "timer_map", "coroutines", "greenlets"]),
        (leaves_the_token, ["references"]),
        (leaves_descriptors, ["descriptors"]),
        (leaves_threads, ["threads"]),
        (leaves_memory, ["blocks"]),
    ],
)
def test_what_is_left_is_found(monkeypatch, run, names):
    """One thing that each batch leaves is seen, and named."""
    monkeypatch.setattr(leaks, "PATIENCE", 0.0)
    kept = [threading.Event()]

    try:
        faults = examine(Ending("", partial(run, kept), False, True), 10 * BATCH).faults(10 * BATCH)
    finally:
        kept[0].set()
        for thing in kept:
            if isinstance(thing, threading.Thread):
                thing.join()
            elif isinstance(thing, int):
                os.close(thing)

    for name in names:
        assert name in faults, faults


def test_what_is_quadratic_is_found():
    """Each one that ends looks at all the others."""

    def run(count, token):
        children = [coro.spawn(int) for _ in range(count)]
        for _ in children:
            sum(not co.dead for co in children)
        coro.yield_slice()

    end = Ending("", run, False, True)

    assert grows(*times_at_once(end, 2000))


def test_the_program_prints_a_table(poller):
    """A line for each ending, and status 0 when nothing is left."""
    done = subprocess.run(
        [sys.executable, leaks.__file__, "--count", "1000", "--poller", poller, "--only", "in_parallel that fails"],
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert f"{poller}: 1000 coroutines" in done.stdout
    assert done.stdout.count("in_parallel that fails") == 2
    assert done.stdout.endswith("All is well.\n")
