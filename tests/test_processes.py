"""Waiting for the end of a child: waitpid, over the descriptor of the poller and over a thread where there is none."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import time
from contextlib import suppress

import pytest

import coro
from coro import processes
from coro.discovery import find_pollers
from coro.kernel import this_kernel

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no waitpid(2)")


class Boom(Exception):
    pass


@pytest.fixture(params=["descriptor", "thread", "thread without waitid"])
def watch(request, poller, monkeypatch):
    """How the end of a process is noticed: by a descriptor of the poller, or by a thread where it has none.

    The third is what macOS was before Python 3.13: there waitpid(2) is the only way to wait, and takes the status.
    """
    if request.param != "descriptor":
        (found,) = (found for found in find_pollers() if found.name == poller)

        def process_fd(self, pid):
            raise NotImplementedError("this platform has no such descriptor")

        monkeypatch.setattr(found.info.poller, "process_fd", process_fd)
    if request.param == "thread without waitid":
        monkeypatch.delattr(os, "waitid", raising=False)
    yield request.param
    for thread in watchers():
        thread.join(10)
    assert not watchers()
    processes._watchers.clear()  # the status of a child that nobody has asked for
    assert not processes._waiters
    assert not processes._descriptors
    assert this_kernel().externals == 0


def watchers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("coro waits for process")]


class Child:
    """A shell that runs a script; most of them begin with ``read x``, which goes on when `release` is called."""

    def __init__(self, script):
        reader, self.writer = os.pipe()
        try:
            self.pid = os.posix_spawn(
                "/bin/sh", ["sh", "-c", script], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, reader, 0)]
            )
        finally:
            os.close(reader)

    def release(self):
        os.close(self.writer)
        self.writer = -1

    def become_zombie(self):
        self.release()
        if hasattr(os, "waitid"):
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        else:
            time.sleep(0.1)


@pytest.fixture
def child():
    """Makes children, and sees to it that none is left."""
    made = []

    def make(script="read x; exit 3"):
        made.append(Child(script))
        return made[-1]

    yield make
    for one in made:
        if one.writer >= 0:
            os.close(one.writer)
        with suppress(OSError):
            os.kill(one.pid, signal.SIGKILL)
            os.waitpid(one.pid, 0)


def raised(function, *args):
    """Run a function and return what it raises."""
    try:
        value = function(*args)
    except BaseException as exc:
        return exc
    return pytest.fail(f"returned {value!r}")


@pytest.mark.parametrize(
    ("script", "status"),
    [("exit 0", 0), ("exit 3", 3 << 8), ("exit 255", 255 << 8), ("kill -9 $$", 9), ("kill -15 $$", 15)],
)
def test_D_01_any_status_is_returned_raw_as_soon_as_the_child_ends(loop, watch, child, script, status):
    """Exit status 0, others and signals alike; milliseconds after the end, not seconds; other coroutines run on."""
    one = child(f"read x; {script}")
    ticks = []

    def ticker():
        while True:
            ticks.append(1)
            coro.sleep_relative(0.001)

    def main():
        co = coro.spawn(ticker)
        waiter = coro.spawn(coro.waitpid, one.pid)
        coro.sleep_relative(0.005)
        assert not waiter.dead
        assert len(ticks) > 1
        begin = time.monotonic()
        one.release()
        assert waiter.result() == (one.pid, status)
        assert time.monotonic() - begin < 1
        co.shutdown()

    loop(main)


def test_D_02_a_child_that_has_ended_before_is_returned_at_once(loop, watch, child):
    """A zombie's status, without leaving a thread or a descriptor."""
    one = child()
    one.become_zombie()

    def main():
        assert coro.waitpid(one.pid) == (one.pid, 3 << 8)
        assert not watchers()

    loop(main)


def test_D_02_a_child_that_is_ending_is_never_missed(loop, watch, child):
    """Whatever comes first, the end or the wait: fifty children that end by themselves."""

    def main():
        for number in range(50):
            one = child(f"exit {number}")
            assert coro.waitpid(one.pid) == (one.pid, number << 8)

    loop(main)


def test_D_01_a_stranger_is_a_child_process_error_at_once(loop, watch, child):
    """A process that is no child, this process, one that was waited for already: ECHILD, with the id in the text."""
    one = child()
    one.become_zombie()
    os.waitpid(one.pid, 0)

    def main():
        for pid in (os.getppid(), os.getpid(), one.pid, 2**31 - 1):
            exc = raised(coro.waitpid, pid)
            assert isinstance(exc, ChildProcessError)
            assert exc.errno == errno.ECHILD
            assert str(pid) in str(exc)

    loop(main)


@pytest.mark.parametrize(
    ("pid", "error"),
    [
        (0, ValueError),
        (-1, ValueError),
        (-(10**30), ValueError),
        (10**30, ValueError),
        (None, TypeError),
        ("1", TypeError),
        (1.0, TypeError),
        (True, TypeError),
    ],
)
def test_what_is_no_process_id_is_refused(loop, pid, error):
    """0 and less would mean any child or a group: ValueError.  What is no int: TypeError."""

    def main():
        with pytest.raises(error):
            coro.waitpid(pid)

    loop(main)


def test_D_01_a_second_waiter_is_refused_and_the_first_goes_on(loop, watch, child):
    """SimultaneousError names both and the process."""
    one = child()

    def main():
        first = coro.spawn(coro.waitpid, one.pid)
        coro.yield_slice()
        exc = raised(coro.waitpid, one.pid)
        assert isinstance(exc, coro.SimultaneousError)
        assert (exc.co, exc.other, exc.event) == (coro.current(), first, ("process", one.pid))
        one.release()
        assert first.result() == (one.pid, 3 << 8)

    loop(main)


def test_D_01_a_second_waiter_in_another_thread_is_refused(loop, watch, child):
    """The status of a process can be had once only, whichever loop asks for it."""
    one = child()

    def main():
        first = coro.spawn(coro.waitpid, one.pid)
        coro.yield_slice()
        errors = []
        thread = threading.Thread(target=lambda: errors.append(raised(coro.run, coro.waitpid, one.pid)))
        thread.start()
        thread.join()
        assert isinstance(errors[0], coro.SimultaneousError)
        assert errors[0].other is first
        one.release()
        assert first.result() == (one.pid, 3 << 8)

    loop(main)


def test_a_loop_in_another_thread_can_wait_for_children(poller, watch, child):
    """It needs no signal, hence not the main thread."""
    one = child()
    results = []
    thread = threading.Thread(target=lambda: results.append(coro.run(coro.waitpid, one.pid)))
    thread.start()
    one.release()
    thread.join()

    assert [(one.pid, 3 << 8)] == results


def test_an_interrupted_wait_loses_nothing(loop, watch, child):
    """A timeout, a shutdown and any exception end it; the next one gets the status, though the child ended between."""
    one = child()

    def main():
        with pytest.raises(coro.TimeoutError):
            coro.with_timeout(0.005, coro.waitpid, one.pid)
        for exc in (coro.Shutdown, OSError("mine"), coro.TimeoutError("mine")):
            co = coro.spawn(lambda exc=exc: raised(coro.waitpid, one.pid))
            coro.yield_slice()
            co.raise_exception(exc)
            assert co.result() is exc or isinstance(co.result(), coro.Shutdown)
        assert len(watchers()) == (watch != "descriptor")  # however often it is interrupted
        one.release()
        for thread in watchers():
            thread.join(10)
        assert coro.waitpid(one.pid) == (one.pid, 3 << 8)

    loop(main)


def test_a_wait_that_is_taken_up_again_before_the_end_gets_the_status(loop, watch, child):
    """By another coroutine, while the thread of the first wait, if there is one, is still there."""
    one = child()

    def main():
        with pytest.raises(coro.TimeoutError):
            coro.with_timeout(0.005, coro.waitpid, one.pid)
        second = coro.spawn(coro.waitpid, one.pid)
        coro.yield_slice()
        assert not second.dead
        one.release()
        assert second.result() == (one.pid, 3 << 8)

    loop(main)


def test_an_interrupted_waiter_is_not_disturbed_by_the_end_of_the_child(loop, watch, child):
    """It sleeps as long as it wants to: the news that come too late wake nobody."""
    one = child()

    def main():
        with pytest.raises(coro.TimeoutError):
            coro.with_timeout(0.005, coro.waitpid, one.pid)
        one.release()
        begin = time.monotonic()
        coro.sleep_relative(0.03)
        assert time.monotonic() - begin >= 0.03
        coro.waitpid(one.pid)

    loop(main)


def test_news_that_are_overtaken_by_an_interruption_wake_nobody(loop, watch, child):
    """The child has ended and its thread has said so, but before that is read the waiter is interrupted, and sleeps."""
    one = child()

    def body():
        with pytest.raises(Boom):
            coro.waitpid(one.pid)
        begin = time.monotonic()
        coro.sleep_relative(0.03)
        return time.monotonic() - begin

    def main():
        co = coro.spawn(body)
        coro.yield_slice()
        one.release()
        for thread in watchers():
            thread.join(10)
        co.raise_exception(Boom)
        assert co.result() >= 0.03
        coro.waitpid(one.pid)

    loop(main)


def test_a_stray_wake_up_does_not_end_the_wait(loop, watch, child):
    """schedule() is only a hint (D-08)."""
    one = child()

    def main():
        co = coro.spawn(coro.waitpid, one.pid)
        for _ in range(5):
            coro.yield_slice()
            co.schedule("stray")
        coro.sleep_relative(0.005)
        assert not co.dead
        one.release()
        assert co.result() == (one.pid, 3 << 8)

    loop(main)


def test_a_status_that_somebody_else_takes_is_a_child_process_error(loop, watch, child):
    """os.waitpid in the program, while a coroutine waits."""
    if watch == "thread without waitid":
        pytest.skip("without waitid(2) the thread of coro takes the status itself, so nobody can come before it")
    one = child()

    def main():
        co = coro.spawn(lambda: raised(coro.waitpid, one.pid))
        coro.yield_slice()
        one.release()
        assert os.waitpid(one.pid, 0) == (one.pid, 3 << 8)  # blocks the loop, so that nobody comes before it
        assert isinstance(co.result(), ChildProcessError)

    loop(main)


def test_a_status_that_nobody_asked_for_is_not_given_for_a_later_child(loop, watch, child):
    """Where a thread has to keep the status, the id may come again for another process."""
    if watch != "thread without waitid":
        pytest.skip("only a thread that takes the status, for want of waitid(2), keeps one that nobody has asked for")
    one, two = child("read x; exit 1"), child("read x; exit 2")

    def main():
        with pytest.raises(coro.TimeoutError):
            coro.with_timeout(0.005, coro.waitpid, one.pid)
        one.release()
        for thread in watchers():
            thread.join(10)
        processes._watchers[two.pid] = processes._watchers.pop(one.pid)  # as if the id had come again
        co = coro.spawn(coro.waitpid, two.pid)
        coro.yield_slice()
        assert not co.dead
        two.release()
        assert co.result() == (two.pid, 2 << 8)

    loop(main)


def test_a_status_that_a_thread_is_about_to_hand_over_is_waited_for(loop, child):
    """It has taken the status from the system, but not yet said so: that is no reason to call the child a stranger."""
    one = child()
    one.become_zombie()
    watcher = processes.Watcher.__new__(processes.Watcher)  # a thread that has just returned from waitpid(2)
    watcher.pid, watcher.waiter, watcher.found, watcher.done = one.pid, None, None, False
    processes._watchers[one.pid] = watcher

    def main():
        found = os.waitpid(one.pid, 0)
        co = coro.spawn(coro.waitpid, one.pid)
        coro.yield_slice()
        assert not co.dead
        watcher.found, watcher.done = found, True
        watcher.tell(watcher.waiter)
        assert co.result() == (one.pid, 3 << 8)

    loop(main)

    assert not processes._watchers


def test_many_children_at_once(loop, watch, child):
    """Each waiter gets the status of its own child."""
    count = 20

    def main():
        children = [child(f"read x; exit {number}") for number in range(count)]
        waiters = [coro.spawn(coro.waitpid, one.pid) for one in children]
        coro.yield_slice()
        for one in reversed(children):
            one.release()
        assert [co.result() for co in waiters] == [(one.pid, n << 8) for n, one in enumerate(children)]

    loop(main)


def test_two_hundred_children_that_end_at_the_same_moment(loop, watch, poller):
    """All have ended before the loop hears of the first: each waiter gets its own status, in less than a second."""
    count = 200
    reader, writer = os.pipe()  # one for all: its end is that of them all
    actions = [(os.POSIX_SPAWN_DUP2, reader, 0)]
    children = [
        os.posix_spawn("/bin/sh", ["sh", "-c", f"read x; exit {number}"], os.environ, file_actions=actions)
        for number in range(count)
    ]
    os.close(reader)

    def main():
        waiters = [coro.spawn(coro.waitpid, pid) for pid in children]
        coro.yield_slice()
        assert len(watchers()) == (0 if watch == "descriptor" else count)
        os.close(writer)
        if watch == "descriptor":
            for pid in children:
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        else:
            for thread in watchers():
                thread.join()
        begin = time.thread_time()  # not what other processes take of the machine
        assert [co.result() for co in waiters] == [(pid, number << 8) for number, pid in enumerate(children)]
        assert time.thread_time() - begin < 1
        assert not watchers()
        assert not processes._descriptors
        assert not processes._waiters

    loop(main)


def test_a_program_that_only_waits_for_a_child_is_not_deadlocked(loop, watch, child):
    """Nothing else is left to do, and still run() waits."""
    one = child("sleep 0.05; exit 7")

    assert loop(coro.waitpid, one.pid) == (one.pid, 7 << 8)


def test_the_end_of_the_loop_leaves_the_child_to_the_next_loop(loop, watch, child):
    """A waiter that is left behind is shut down; the next loop gets the status."""
    one = child()

    def main():
        coro.spawn(coro.waitpid, one.pid)
        coro.yield_slice()

    loop(main)
    one.release()

    assert loop(coro.waitpid, one.pid) == (one.pid, 3 << 8)


def test_a_dead_waiter_stands_in_nobodys_way(loop, child, capfd, monkeypatch):
    """One that refused to end was abandoned with its loop, and can no longer be the one that waits."""
    one = child()
    dead = coro.new(int)
    dead.shutdown()
    monkeypatch.setitem(processes._waiters, one.pid, dead)
    one.release()

    assert loop(coro.waitpid, one.pid) == (one.pid, 3 << 8)


def test_outside_a_coroutine_it_raises_yield_from_main(child):
    """Also for a child that has ended, whose status is left to whoever asks properly."""
    one = child()
    one.become_zombie()

    with pytest.raises(coro.YieldFromMain):
        coro.waitpid(one.pid)

    assert os.waitpid(one.pid, 0) == (one.pid, 3 << 8)


def test_without_a_free_descriptor_a_thread_waits(loop, child):
    """EMFILE from pidfd_open(2), or a number that select cannot watch, is no error of the program."""
    resource = pytest.importorskip("resource", reason="this platform has no module resource to limit descriptors with")
    one = child()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    def main():
        with open(os.devnull) as lowest:
            number = lowest.fileno()
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))
        try:
            co = coro.spawn(coro.waitpid, one.pid)
            coro.yield_slice()
            assert len(watchers()) == 1
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        one.release()
        assert co.result() == (one.pid, 3 << 8)

    loop(main)


@pytest.mark.parametrize("waitid", [True, False])
def test_a_process_that_a_thread_waits_for_is_left_to_it(loop, child, monkeypatch, waitid):
    """Though a descriptor could be had by now: without waitid(2) the thread takes the status, and the id is free."""
    resource = pytest.importorskip("resource", reason="this platform has no module resource to limit descriptors with")
    if not waitid:
        monkeypatch.delattr(os, "waitid", raising=False)
    one = child()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    def main():
        with open(os.devnull) as lowest:
            number = lowest.fileno()
        first = coro.spawn(coro.waitpid, one.pid)
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))
        try:
            coro.yield_slice()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        first.shutdown()
        first.join()
        assert len(watchers()) == 1
        second = coro.spawn(coro.waitpid, one.pid)
        coro.yield_slice()
        assert len(watchers()) == 1
        assert not processes._descriptors
        one.release()
        assert second.result() == (one.pid, 3 << 8)
        for thread in watchers():
            thread.join()
        assert not processes._watchers

    loop(main)


def test_a_descriptor_that_the_poller_refuses_is_replaced_by_a_thread(loop, poller, child):
    """select(2) refuses numbers from FD_SETSIZE up; the others accept them, and wait without a thread."""
    resource = pytest.importorskip("resource", reason="this platform has no module resource to limit descriptors with")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 1200:
        pytest.skip(f"select refuses numbers from 1,024 up; this process may have no more than {hard} descriptors")
    one = child()

    def main():
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1200), hard))
        taken = []
        try:
            while not taken or taken[-1] < 1100:
                taken.append(os.open(os.devnull, os.O_RDONLY))
            co = coro.spawn(coro.waitpid, one.pid)
            coro.yield_slice()
            assert len(watchers()) == (poller == "select")
            one.release()
            assert co.result() == (one.pid, 3 << 8)
        finally:
            for fd in taken:
                os.close(fd)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    loop(main)
