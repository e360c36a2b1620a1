"""Coroutines and threads: Portal, the way into a loop, and to_thread, the way out."""

from __future__ import annotations

import concurrent.futures
import contextlib
import contextvars
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import CancelledError, Future

import pytest
from greenlet import greenlet

import coro
from coro.kernel import this_kernel
from coro.threads import Portal, set_thread_limit, to_thread

FOR_EVER = 10  # seconds: what takes that long has failed


class Boom(Exception):
    pass


def fail(exc):
    raise exc


def fail_anew():
    raise Boom


def yields(number):
    for _ in range(number):
        coro.yield_slice()


def let_calls_run(number=3):
    """Return after all that has been asked of the portals of this loop, and a few yields more."""
    to_thread(int)
    yields(number)


@pytest.fixture
def thread_limit():
    """Sets the number of threads for one test."""
    yield set_thread_limit
    set_thread_limit(None)


# -- portal.call -----------------------------------------------------------------------------------------------------


def test_a_call_from_another_thread_gives_the_result(loop):
    """It runs in a coroutine of its own, named after the function, in the thread of the loop."""

    def inside(*args, **kwargs):
        coro.yield_slice()
        return coro.current(), threading.current_thread(), args, kwargs

    def main():
        with Portal() as portal:
            future = to_thread(portal.call, inside, 1, 2, portal=3, thread_name=4)
            co, thread, args, kwargs = to_thread(future.result, FOR_EVER)
        assert co is not coro.current()
        assert co.name == inside.__qualname__
        assert thread is threading.current_thread()
        assert (args, kwargs) == ((1, 2), {"portal": 3, "thread_name": 4})

    loop(main)


def test_a_call_wakes_an_idle_loop_at_once(loop):
    """Although its poll would last 30 seconds."""
    calls = []

    def outside(portal, me):
        for _ in range(20):
            calls.append(portal.call(int, "5").result(FOR_EVER))
        portal.schedule(me)

    def main():
        with Portal() as portal:
            threading.Thread(target=outside, args=(portal, coro.current())).start()
            coro.suspend()

    begin = time.monotonic()
    loop(main)

    assert calls == [5] * 20
    assert time.monotonic() - begin < FOR_EVER / 2


def test_what_the_function_raises_is_raised_by_the_future(loop):
    """And the notifier is not told as well."""

    def main():
        with Portal() as portal:
            future = portal.call(fail, Boom("zz"))
            let_calls_run()
            with pytest.raises(Boom, match="zz"):
                future.result(0)
            future = portal.call(fail, coro.Interrupted("mine"))
            let_calls_run()
            assert isinstance(future.exception(0), coro.Interrupted)

    loop(main)


def test_calls_of_one_thread_begin_in_their_order(loop):
    """First come, first served; a schedule keeps its place among them."""
    order = []

    def outside(portal, co):
        for number in range(100):
            portal.call(order.append, number)
        portal.schedule(co, 100)
        portal.call(order.append, 101).result(FOR_EVER)

    def main():
        with Portal() as portal:
            co = coro.spawn(lambda: order.append(coro.suspend()))
            coro.yield_slice()
            to_thread(outside, portal, co)

    loop(main)

    assert order == list(range(102))


def test_many_threads_at_once(loop):
    """No call is lost, none is made twice."""
    made = []

    def outside(portal, number):
        futures = [portal.call(made.append, (number, n)) for n in range(100)]
        concurrent.futures.wait(futures, FOR_EVER)

    def main():
        with Portal() as portal:
            callers = [coro.spawn(to_thread, outside, portal, number) for number in range(4)]
            for co in callers:
                co.result()

    loop(main)

    assert sorted(made) == [(number, n) for number in range(4) for n in range(100)]


def test_a_call_begins_with_the_context_of_the_caller(loop):
    """A copy: what the coroutine sets does not come back."""
    var = contextvars.ContextVar("var", default="nobody's")

    def inside():
        old = var.get()
        var.set("inside")
        coro.yield_slice()
        return old, var.get()

    def outside(portal):
        var.set("the thread's")
        assert portal.call(inside).result(FOR_EVER) == ("the thread's", "inside")
        assert var.get() == "the thread's"

    def main():
        with Portal() as portal:
            to_thread(outside, portal)
        assert var.get() == "nobody's"

    loop(main)


def test_cancelling_the_future_shuts_the_coroutine_down(loop):
    """At once, with its finally blocks; who waits for the future is told when that is over."""
    seen = []

    def inside():
        seen.append("begun")
        try:
            coro.suspend()
        except BaseException as exc:
            yields(2)
            seen.append(type(exc))
            raise

    def outside(future):
        assert future.cancel()
        assert future.cancel()
        assert concurrent.futures.wait([future], FOR_EVER).done
        with pytest.raises(CancelledError):
            future.result(0)
        return list(seen)

    def main():
        with Portal() as portal:
            future = portal.call(inside)
            while not seen:
                coro.yield_slice()
            assert to_thread(outside, future) == ["begun", coro.Shutdown]

    loop(main)


@pytest.mark.parametrize("steps", [0, 1])
def test_a_call_cancelled_before_it_began_is_never_made(loop, steps):
    """Be it in the inbox or already a coroutine."""

    def main():
        with Portal() as portal:
            future = portal.call(pytest.fail, "was called")
            if steps:  # as _woken would, but before the coroutine has had its turn
                this_kernel().inbox.popleft()()
                assert coro.get_live_coros() == 2
            assert future.cancel()
            assert to_thread(concurrent.futures.wait, [future], FOR_EVER).done
            coro.yield_slice()

    loop(main)


def test_a_coroutine_that_is_shut_down_cancels_its_future(loop):
    """Whoever has done it, while it runs or before it has begun."""

    def main():
        with Portal() as portal:
            for begin in (True, False):
                future = portal.call(coro.suspend)
                this_kernel().inbox.popleft()()
                if begin:
                    coro.yield_slice()
                (co,) = (co for co in coro.all_threads.values() if co is not coro.current())
                assert co.started is begin
                co.shutdown()
                assert to_thread(concurrent.futures.wait, [future], FOR_EVER).done
                assert future.cancelled()

    loop(main)


def test_a_failure_after_the_cancellation_is_told_to_the_notifier(loop, failures):
    """Nobody else can learn of it."""

    def inside():
        try:
            coro.suspend()
        finally:
            raise Boom

    def main():
        with Portal() as portal:
            future = portal.call(inside)
            let_calls_run()
            future.cancel()
            let_calls_run()

    loop(main)

    assert [type(exc) for exc in failures] == [Boom]
    failures.clear()


def test_a_future_that_has_its_result_cannot_be_cancelled(loop):
    """As with every executor."""

    def main():
        with Portal() as portal:
            future = portal.call(int)
            assert to_thread(future.result, FOR_EVER) == 0
            assert not future.cancel()

    loop(main)


def test_sys_exit_ends_the_loop_and_is_in_the_future(loop):
    """As in any coroutine."""
    futures = []

    def main():
        futures.append(Portal().call(sys.exit, 3))
        coro.suspend()

    with pytest.raises(SystemExit) as caught:
        loop(main)

    assert caught.value.code == 3
    assert isinstance(futures[0].exception(0), SystemExit)


@pytest.mark.parametrize("wrong", [None, 5, "zz"])
def test_what_cannot_be_called_is_refused_in_the_caller(loop, wrong):
    """TypeError at once."""

    def main():
        with Portal() as portal, pytest.raises(TypeError, match="needs a function"):
            portal.call(wrong)

    loop(main)


def test_exceptions_are_not_kept_alive(loop):
    """No cycle holds them once the future is gone."""

    def main():
        gc.disable()
        try:
            with Portal() as portal:
                future = portal.call(fail_anew)
                let_calls_run()
                ref = weakref.ref(future.exception(0))
                del future
                let_calls_run()
                assert ref() is None
        finally:
            gc.enable()

    loop(main)


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="this platform has no SIGUSR1")
def test_a_signal_handler_may_use_it(loop):
    """Even one that interrupts a call of the same thread."""
    made = []

    def main():
        with Portal() as portal:
            old = signal.signal(signal.SIGUSR1, lambda *_: portal.call(made.append, coro.current()))
            try:
                for _ in range(100):
                    signal.raise_signal(signal.SIGUSR1)
                    portal.call(int)
                while len(made) < 100:
                    coro.yield_slice()
            finally:
                signal.signal(signal.SIGUSR1, old)

    loop(main)


# -- portal.schedule -------------------------------------------------------------------------------------------------


def test_schedule_ends_a_suspend_with_the_value(loop):
    """From another thread, at once; and starts a coroutine made by new."""

    def main():
        with Portal() as portal:
            threading.Thread(target=portal.schedule, args=(coro.current(), "value")).start()
            assert coro.suspend() == "value"
            co = coro.new(lambda: "started")
            to_thread(portal.schedule, co)
            assert co.result() == "started"

    loop(main)


def test_schedule_of_one_that_is_ready_or_ended_meanwhile_does_nothing(loop):
    """Neither to the coroutine nor to the loop."""

    def main():
        with Portal() as portal:
            co = coro.spawn(yields, 3)
            portal.schedule(co)
            portal.schedule(co)
            co.join()
            co = coro.spawn(coro.suspend)
            coro.yield_slice()
            portal.schedule(co, 1)
            portal.schedule(co, 2)
            assert co.result() == 1
            with pytest.raises(coro.DeadCoroutine):
                portal.schedule(co)

    loop(main)


def test_schedule_refuses_what_is_not_of_its_loop(loop):
    """TypeError for what is no coroutine, ValueError for one of another thread, and for the main program."""
    foreign = []
    thread = threading.Thread(target=lambda: foreign.append(coro.new(int)))
    thread.start()
    thread.join()

    def main():
        with Portal() as portal:
            with pytest.raises(TypeError, match="only schedule a coroutine"):
                portal.schedule(None)
            with pytest.raises(ValueError, match="another thread"):
                portal.schedule(foreign[0])
            with pytest.raises(ValueError, match="another thread"):
                portal.schedule(to_thread(coro.current))

    loop(main)


# -- the end of a portal ---------------------------------------------------------------------------------------------


def test_a_portal_needs_a_running_loop(loop):
    """RuntimeError before, after, and in a thread of its own."""
    with pytest.raises(RuntimeError, match="running event loop"):
        Portal()

    def main():
        with pytest.raises(RuntimeError, match="running event loop"):
            to_thread(Portal)

    loop(main)
    with pytest.raises(RuntimeError, match="running event loop"):
        Portal()


@pytest.mark.parametrize("closer", ["the loop", "another thread", "a call"])
def test_a_closed_portal_cancels_what_is_pending_and_lets_nobody_in(loop, closer):
    """Running calls are shut down, others never begin; RuntimeError for newcomers; closing again is nothing."""
    ran = []

    def inside():
        try:
            coro.suspend()
        finally:
            ran.append("finally")

    def main():
        portal = Portal()
        assert "open" in repr(portal)
        running = portal.call(inside)
        let_calls_run()
        late = portal.call(coro.suspend)
        if closer == "the loop":
            portal.close()
        elif closer == "another thread":
            to_thread(portal.close)
        else:
            to_thread(portal.call(portal.close).result, FOR_EVER)
        assert to_thread(concurrent.futures.wait, [running, late], FOR_EVER).not_done == set()
        assert running.cancelled()
        assert late.cancelled()
        me = coro.current()
        for attempt in (lambda: portal.call(int), lambda: portal.schedule(me)):
            with pytest.raises(RuntimeError, match="closed"):
                attempt()
            with pytest.raises(RuntimeError, match="closed"):
                to_thread(attempt)
        portal.close()
        to_thread(portal.close)
        let_calls_run()
        assert ran == ["finally"]
        assert "closed" in repr(portal)
        assert this_kernel().externals == 0

    loop(main)


def test_the_end_of_the_loop_closes_it(loop):
    """Calls that are running or waiting are cancelled; from then on, while the others unwind, it is a RuntimeError."""
    portals, futures, seen = [], [], []

    def inside(portal):
        try:
            coro.suspend()
        except BaseException as exc:
            seen.append(type(exc))
            coro.yield_slice()
            with pytest.raises(RuntimeError, match="loop has ended"):
                portal.call(int)
            seen.append("refused")
            raise

    def main():
        portal = Portal()
        portals.append(portal)
        futures.append(portal.call(inside, portal))
        let_calls_run()
        futures.append(portal.call(pytest.fail, "was called"))

    loop(main)

    assert seen == [coro.Shutdown, "refused"]
    assert len(futures) == 2
    assert [future.cancelled() for future in futures] == [True] * 2
    assert concurrent.futures.wait(futures, 0).not_done == set()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="loop has ended"):
            portals[0].call(int)
        with pytest.raises(RuntimeError, match="loop has ended"):
            portals[0].schedule(coro.current())
        portals[0].close()
        loop(yields, 2)
    assert this_kernel().externals == 0


def test_a_coroutine_that_refuses_to_end_does_not_hold_its_future(loop, capfd):
    """It is abandoned by the loop, and the future is cancelled."""
    futures = []

    def stubborn():
        while True:
            with contextlib.suppress(coro.Shutdown):
                coro.sleep_relative(60)

    def main():
        futures.append(Portal().call(stubborn))
        let_calls_run()

    old = coro.set_exit_grace(0.01)
    try:
        loop(main)
    finally:
        coro.set_exit_grace(old)

    assert futures[0].cancelled()
    assert concurrent.futures.wait(futures, 0).done
    assert "is abandoned" in capfd.readouterr().err


def test_calls_that_arrive_while_the_loop_ends_never_hang(loop):
    """Each is a RuntimeError, or a future that is done when the loop has ended; the next loop is not harmed."""
    outcomes = []

    def outside(portal, begun):
        futures = []
        try:
            while True:
                futures.append(portal.call(coro.suspend))
                futures.append(portal.call(coro.yield_slice))
                futures[-1].result(FOR_EVER)
                begun.set()
        except (RuntimeError, CancelledError):
            outcomes.append(len(concurrent.futures.wait(futures, FOR_EVER).not_done))

    def main(threads):
        portal = Portal()
        for _ in range(3):
            begun = threading.Event()
            thread = threading.Thread(target=outside, args=(portal, begun))
            threads.append(thread)
            thread.start()
            to_thread(begun.wait)

    for _ in range(5):
        threads = []
        loop(main, threads)
        for thread in threads:
            thread.join(FOR_EVER)

    assert outcomes == [0] * 15


@pytest.mark.parametrize("late", ["_check_open", "_send"])
def test_a_call_that_the_end_of_the_loop_overtakes_never_hangs(loop, late):
    """Held up between any two of its steps until the loop has ended, it is refused or cancelled."""
    arrived, ended = threading.Event(), threading.Event()
    outcome = []

    class Slow(Portal):
        def _check_open(self):
            super()._check_open()
            hold_up("_check_open")

        def _send(self, entry):
            hold_up("_send")
            super()._send(entry)

    def hold_up(here):
        if here == late:
            arrived.set()
            ended.wait(FOR_EVER)

    def outside(portal):
        try:
            future = portal.call(pytest.fail, "was called")
        except RuntimeError:
            outcome.append("refused")
        else:
            outcome.append("done" if concurrent.futures.wait([future], 0).done else "hangs")

    def main():
        thread = threading.Thread(target=outside, args=(Slow(),))
        thread.start()
        to_thread(arrived.wait)
        return thread

    thread = loop(main)
    ended.set()
    thread.join(FOR_EVER)
    loop(yields, 2)

    assert outcome == [{"_check_open": "refused", "_send": "done"}[late]]


def test_threads_that_keep_calling_starve_nobody(loop):
    """Timers and other coroutines go on, though there is always one more call."""

    def main():
        with Portal() as portal:
            calls = 0

            def again():
                nonlocal calls
                calls += 1
                this_kernel().inbox.append(again)  # what a thread that is faster than the loop amounts to
                portal._kernel.wake_up()

            again()
            coro.sleep_relative(0.005)
            assert calls > 1
            this_kernel().inbox.clear()

    loop(main)


def test_one_who_comes_too_late_does_not_deafen_the_next_loop(loop):
    """A wake-up between two loops is forgotten, and the next loop hears its own callers at once."""
    this_kernel().wake_up()

    test_a_call_wakes_an_idle_loop_at_once(loop)


def test_an_open_portal_is_no_deadlock_and_a_closed_one_is(loop):
    """As long as somebody may come in, the loop waits."""

    def main(close):
        portal = Portal()
        threading.Timer(0.02, portal.close if close else portal.schedule, [] if close else [coro.current()]).start()
        coro.suspend()

    loop(main, False)
    with pytest.raises(coro.DeadlockError):
        loop(main, True)


# -- to_thread -------------------------------------------------------------------------------------------------------


def test_to_thread_returns_what_the_function_returns(loop):
    """Called in another thread, which is no coroutine, with all its arguments."""

    def blocking(*args, **kwargs):
        return threading.current_thread(), coro.current().id, args, kwargs

    def main():
        thread, number, args, kwargs = to_thread(blocking, 1, 2, fn=3, self=4)
        assert thread is not threading.current_thread()
        assert number == -1
        assert (args, kwargs) == ((1, 2), {"fn": 3, "self": 4})

    loop(main)


@pytest.mark.parametrize("exc", [Boom("zz"), KeyError(1), StopIteration(), coro.TimeoutError("zz"), GeneratorExit()])
def test_to_thread_raises_what_the_function_raises(loop, exc):
    """The same object, with the frames of the thread in its traceback."""

    def main():
        with pytest.raises(type(exc)) as caught:
            to_thread(fail, exc)
        assert caught.value is exc
        assert "fail" in [entry.name for entry in caught.traceback]

    loop(main)


def test_other_coroutines_run_while_one_waits_for_a_thread(loop):
    """The thread waits for what another coroutine does."""
    gate = threading.Event()

    def main():
        other = coro.spawn(lambda: (yields(3), gate.set()))
        assert to_thread(gate.wait, FOR_EVER)
        assert other.dead

    loop(main)


def test_waiting_for_a_thread_is_no_deadlock(loop):
    """Though no timer, descriptor or coroutine is left."""

    def main():
        to_thread(time.sleep, 0.02)
        assert this_kernel().externals == 0
        with pytest.raises(Boom):
            to_thread(fail, Boom())
        assert this_kernel().externals == 0

    loop(main)


def test_context_variables_are_carried_over(loop):
    """A copy of the caller's; what the thread sets does not come back."""
    var = contextvars.ContextVar("var")

    def blocking():
        old = var.get()
        var.set("thread")
        return old

    def main():
        var.set("coroutine")
        assert to_thread(blocking) == "coroutine"
        assert var.get() == "coroutine"

    loop(main)


@pytest.mark.parametrize("interruption", ["timeout", "shutdown"])
def test_the_wait_can_be_interrupted(loop, interruption):
    """The coroutine goes on at once; the call goes on in its thread, and what comes of it is dropped."""
    begun, gate, ended = threading.Event(), threading.Event(), threading.Event()

    def blocking():
        begun.set()
        gate.wait(FOR_EVER)
        ended.set()
        raise Boom

    def main():
        if interruption == "timeout":
            with pytest.raises(coro.TimeoutError):
                coro.with_timeout(0.01, to_thread, blocking)
        else:
            co = coro.spawn(to_thread, blocking)
            yields(2)
            begun.wait(FOR_EVER)
            co.shutdown()
            co.join()
        assert not ended.is_set()
        assert this_kernel().externals == 0
        gate.set()
        assert to_thread(ended.wait, FOR_EVER)
        yields(2)

    loop(main)


def test_a_thread_that_ends_late_wakes_nobody(loop):
    """The coroutine that has stopped waiting suspends for something else."""
    gate = threading.Event()
    me = []

    def waiter():
        with pytest.raises(coro.TimeoutError):
            coro.with_timeout(0.005, to_thread, gate.wait, FOR_EVER)
        me.append(coro.current())
        return coro.suspend()

    def main():
        co = coro.spawn(waiter)
        while not me:
            coro.sleep_relative(0.001)
        gate.set()
        to_thread(time.sleep, 0.02)
        assert not co.dead
        co.schedule("right")
        assert co.result() == "right"

    loop(main)


def test_a_stray_wake_up_does_not_end_the_wait(loop):
    """D-08: schedule is only a hint."""
    gate = threading.Event()

    def main():
        co = coro.spawn(to_thread, gate.wait, FOR_EVER)
        yields(2)
        for _ in range(3):
            co.schedule("stray")
            yields(2)
        assert not co.dead
        gate.set()
        assert co.result() is True

    loop(main)


def test_the_limit_holds_for_all_calls_together(loop, thread_limit):
    """Three threads for nine calls: three at a time, and each call is made."""
    thread_limit(3)
    lock, barrier = threading.Lock(), threading.Barrier(3)
    now, most = 0, 0

    def blocking(number):
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        barrier.wait(FOR_EVER)
        with lock:
            now -= 1
        return number

    def main():
        children = [coro.spawn(to_thread, blocking, number) for number in range(9)]
        assert [co.result() for co in children] == list(range(9))

    loop(main)

    assert most == 3


def test_an_interrupted_call_that_has_not_begun_is_never_made(loop, thread_limit):
    """It leaves the queue."""
    thread_limit(1)
    gate, begun, made = threading.Event(), threading.Event(), []

    def blocking():
        begun.set()
        gate.wait(FOR_EVER)

    def main():
        first = coro.spawn(to_thread, blocking)
        coro.yield_slice()
        begun.wait(FOR_EVER)
        with pytest.raises(coro.TimeoutError):
            coro.with_timeout(0.005, to_thread, made.append, "never")
        gate.set()
        first.result()
        to_thread(made.append, "after")

    loop(main)

    assert made == ["after"]


def test_the_limit_may_change_while_calls_are_under_way(loop, thread_limit):
    """These are not disturbed; set_thread_limit returns the old limit."""
    gate = threading.Event()

    def main():
        assert thread_limit(1) is None
        first, second = (coro.spawn(to_thread, gate.wait, FOR_EVER) for _ in range(2))
        coro.yield_slice()
        assert thread_limit(2) == 1
        assert to_thread(int, "7") == 7
        gate.set()
        assert first.result()
        assert second.result()
        assert thread_limit(None) == 2

    loop(main)


@pytest.mark.parametrize(("wrong", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)])
def test_a_limit_is_a_number_from_1_up(wrong, error):
    """Anything else is refused, and the limit stays."""
    with pytest.raises(error, match="thread"):
        set_thread_limit(wrong)
    assert set_thread_limit(None) is None


def test_loops_of_several_threads_share_the_pool(poller, failures):
    """Each gets its own results."""
    results = []

    def main(number):
        children = [coro.spawn(to_thread, pow, number, n) for n in range(20)]
        return [co.result() for co in children]

    threads = [threading.Thread(target=lambda n=n: results.append((n, coro.run(main, n)))) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(results) == [(n, [n**m for m in range(20)]) for n in range(3)]


def test_to_thread_works_in_a_foreign_greenlet(loop):
    """One that a library has made on top of a coroutine."""

    def main():
        assert greenlet(to_thread).switch(int, "5") == 5

    loop(main)


def test_from_main_it_is_yield_from_main_and_nothing_is_called():
    """As for every verb that blocks."""
    with pytest.raises(coro.YieldFromMain):
        to_thread(pytest.fail, "was called")


@pytest.mark.parametrize("wrong", [None, 5])
def test_to_thread_refuses_what_cannot_be_called(loop, wrong):
    """TypeError at once."""

    def main():
        with pytest.raises(TypeError, match="needs a function"):
            to_thread(wrong)

    loop(main)


def test_neither_results_nor_exceptions_are_kept_alive(loop):
    """By the threads, the pool or a cycle."""

    def main():
        gc.disable()
        try:
            refs = [weakref.ref(to_thread(Future))]
            try:
                to_thread(fail_anew)
            except Boom as exc:
                refs.append(weakref.ref(exc))
            begin = time.monotonic()
            while any(ref() for ref in refs) and time.monotonic() - begin < FOR_EVER:
                coro.sleep_relative(0.001)  # the thread may still be about to let go
            assert [ref() for ref in refs] == [None, None]
        finally:
            gc.enable()

    loop(main)


def run_script(poller, script):
    """Run *script* in an interpreter of its own and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", f"import coro, os, sys, threading\nfrom coro.threads import *\n{script}"],
        env={**os.environ, "CORO_POLLER": poller},
        capture_output=True,
        text=True,
        timeout=2 * FOR_EVER,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_idle_threads_do_not_hold_up_the_exit(poller):
    """The process ends at once, also with a portal that nobody has closed."""
    script = """
def main():
    Portal()
    print(to_thread(int, "5"))
coro.run(main)
"""
    assert run_script(poller, script) == "5\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork(2)")
def test_D_43_a_forked_child_has_threads_of_its_own(poller):
    """A new pool, though the parent's threads are not there and its lock may be held; both exit."""
    script = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # threads and fork: that is what we test
from coro import threads
print(coro.run(to_thread, int, "5"), flush=True)
threads._pool._lock.acquire()
pid = os.fork()
if not pid:
    print(coro.run(to_thread, int, "6"), flush=True)
    sys.exit(0)
threads._pool._lock.release()
assert os.waitpid(pid, 0)[1] == 0
print(coro.run(to_thread, int, "7"))
"""
    assert run_script(poller, script) == "5\n6\n7\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork(2)")
def test_D_43_in_a_forked_child_the_portals_of_the_parent_are_closed(poller):
    """Their threads are not there; the child may open one of its own."""
    script = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
def main():
    with Portal() as portal:
        to_thread(portal.schedule, coro.spawn(coro.suspend))
        pid = coro.fork()
        if not pid:
            try:
                portal.call(int)
            except RuntimeError:
                with Portal() as own:
                    print(to_thread(own.call(int, "6").result), flush=True)
            return 0
        status = coro.waitpid(pid)
        print(to_thread(portal.call(int, "7").result), status)
coro.run(main)
"""
    assert run_script(poller, script).startswith("6\n7 ")
