"""What coro says of coroutines: what each waits for, and how that shows in the text of a deadlock."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading

import pytest

import coro

from .helpers import posix


def test_a_blocked_coroutine_says_what_it_waits_for(loop):
    """A descriptor and its direction, a time, the end of another, a lock, a queue, or somebody to schedule it."""
    a, b = socket.socketpair()

    def main():
        mutex, queue, event, semaphore = coro.mutex(), coro.Queue(), coro.Event(), coro.semaphore(0)
        mutex.lock()
        sleeper = coro.spawn(coro.sleep_relative, 60)
        cases = [
            (coro.spawn(coro.wait_for_read, a), rf"descriptor {a.fileno()} to become readable"),
            (sleeper, r"(60|59\.9\d*) s to pass"),
            (coro.spawn(sleeper.join), re.escape(f"the end of <coro #{sleeper.id} ")),
            (coro.spawn(mutex.lock), r"<mutex "),
            (coro.spawn(queue.get), r"<Queue "),
            (coro.spawn(event.wait), r"<Event "),
            (coro.spawn(semaphore.acquire), r"<semaphore "),
            (coro.spawn(coro.suspend), r"somebody to schedule it"),
            (coro.new(int), r"its start"),
        ]
        spawned = coro.spawn(int)
        assert coro.waits_for(spawned) == "its turn"
        assert coro.waits_for(coro.current()) == "nothing"
        coro.yield_slice()
        assert coro.waits_for(spawned) == "nothing"
        for co, expected in cases:
            assert re.match(expected, coro.waits_for(co)), (expected, coro.waits_for(co))
        mutex.unlock()

    with a, b:
        loop(main)


def test_those_that_sleep_until_the_same_tick_say_so(loop):
    """Colliding deadlines share one entry of the timers; each of the sleepers is found in it."""

    def main():
        tick = coro.get_now() + 60 * coro.ticks_per_sec
        sleepers = [coro.spawn(coro.sleep_absolute, tick) for _ in range(3)]
        coro.yield_slice()
        for co in sleepers:
            assert re.fullmatch(r"(60|59\.9\d*) s to pass", coro.waits_for(co))
            co.shutdown()

    loop(main)


def test_whoever_waits_for_a_mutex_is_not_taken_for_one_that_joins_its_owner(loop):
    """Both are told of the end of the owner."""

    def main():
        mutex = coro.mutex()

        def own():
            with mutex:
                coro.suspend()

        owner = coro.spawn(own)
        coro.yield_slice()
        waiter = coro.spawn(mutex.lock)
        coro.yield_slice()
        assert re.match("<mutex ", coro.waits_for(waiter))
        joiner = coro.spawn(owner.join)
        coro.yield_slice()
        assert re.match("<mutex ", coro.waits_for(waiter))
        assert coro.waits_for(joiner) == f"the end of {owner!r}"
        owner.schedule()

    loop(main)


def test_the_text_of_a_deadlock_says_what_each_one_waits_for(loop):
    """Two that wait for each other's locks, and the one that waits for both."""

    def take(first, second):
        first.lock()
        coro.yield_slice()
        try:
            second.lock()
        finally:
            first.unlock()

    def main():
        one, two = coro.mutex(), coro.mutex()
        coro.spawn(take, one, two, thread_name="left")
        coro.spawn(take, two, one, thread_name="right").join()

    with pytest.raises(coro.DeadlockError) as caught:
        loop(main)

    text = str(caught.value)
    assert re.search(r"'left' .* waits for <mutex .*'right'.* at \[.*take\|", text)
    assert re.search(r"'right' .* waits for <mutex .*'left'.* at \[.*take\|", text)
    assert re.search(r"main.* waits for the end of <coro #\d+ name='right'", text)


def test_where_a_coroutine_is_that_runs_nothing_but_coro(loop):
    """Such as ``spawn(event.wait)``: the function of coro that is blocked, not the scheduler beneath it."""

    def main():
        event, lock = coro.Event(), coro.mutex()
        lock.lock()
        cos = [coro.spawn(event.wait), coro.spawn(lock.lock), coro.spawn(coro.sleep_relative, 60)]
        coro.yield_slice()
        assert [coro.where(co).split()[1].partition("|")[0] for co in cos] == ["wait", "lock", "sleep_relative"]
        for co in cos:
            co.shutdown()

    loop(main)


def test_a_deadlock_of_coro_functions_names_them(loop):
    """Also the one on whose stack the loop polls when it finds out."""

    def main():
        coro.spawn(coro.Event().wait, thread_name="waiter").join()

    with pytest.raises(coro.DeadlockError) as caught:
        loop(main)
    (line,) = [
        line for line in str(caught.value).splitlines() if line.startswith("  <") and "name='waiter' " in line[:60]
    ]
    assert re.search(r" at \[coro/sync.py wait\|\d+\]$", line)


def test_two_that_want_the_same_are_told_so_in_words(loop):
    """The text of a `SimultaneousError` says who cannot wait for what, and who does already."""
    a, b = socket.socketpair()

    def main():
        first = coro.spawn(coro.wait_for_read, a, thread_name="first")
        coro.yield_slice()
        with pytest.raises(coro.SimultaneousError) as caught:
            coro.wait_for_read(a)
        assert re.search(rf"cannot wait for \({a.fileno()}, 'read'\): .* name='first' .* is waiting", str(caught.value))
        first.shutdown()

    with a, b:
        loop(main)


@posix
def test_a_deadlock_is_noticed_when_nobody_waits_for_a_descriptor_any_more(poller):
    """Not while one reads, then another, then one writes; the descriptors that are left count for nothing."""
    reached = []

    def main():
        a, b = coro.socketpair()
        c, d = coro.socketpair()
        read_end, write_end = os.pipe()
        os.set_blocking(write_end, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(write_end, b"x" * 4096)
        try:
            threading.Timer(0.03, os.write, (b.fileno(), b"1")).start()
            assert a.recv(1) == b"1"
            threading.Timer(0.03, os.write, (d.fileno(), b"2")).start()
            assert c.recv(1) == b"2"
            threading.Timer(0.03, os.read, (read_end, 1 << 20)).start()
            coro.wait_for_write(write_end)
            reached.append(True)
            coro.suspend()
        finally:
            os.close(read_end)
            os.close(write_end)
            for end in (a, b, c, d):
                end.close()

    with pytest.raises(coro.DeadlockError):
        coro.run(main)
    assert reached
