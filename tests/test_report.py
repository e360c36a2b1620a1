"""What coro says of coroutines: what each waits for, and how that shows in the text of a deadlock."""

from __future__ import annotations

import re
import socket

import pytest

import coro


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
