"""Timeouts: with_timeout and timeout in a coroutine (A9), and outside the loop with SIGALRM (A10)."""

from __future__ import annotations

import builtins
import math
import signal
import socket
import threading
import time
import warnings

import pytest

import coro
from coro.kernel import this_kernel


class Boom(Exception):
    pass


def with_block(delta, function, *args, **kwargs):
    with coro.timeout(delta):
        return function(*args, **kwargs)


@pytest.fixture(params=[coro.with_timeout, with_block], ids=["with_timeout", "timeout"])
def limited(request):
    """Both spellings of a timeout: (delta, function, *args) in each."""
    return request.param


def busy(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


# -- in a coroutine --------------------------------------------------------------------------------------------------


def test_a_call_that_is_in_time_returns_its_result(loop, limited):
    """At once, in the calling coroutine, with positional and keyword arguments."""

    def body(*args, **kwargs):
        return coro.current(), args, kwargs

    def main():
        me = coro.current()
        assert limited(10, body) == (me, (), {})
        assert limited(10, body, 1) == (me, (1,), {})
        assert limited(10, body, 1, 2, a=3) == (me, (1, 2), {"a": 3})
        assert limited(math.inf, body, 1) == (me, (1,), {})
        assert coro.with_timeout(10, body, delta=1, function=2) == (me, (), {"delta": 1, "function": 2})

    loop(main)


def test_a_call_that_blocks_too_long_raises_timeout_error(loop, limited):
    """coro.TimeoutError, which is also the builtin one and Interrupted, never early, and says how long it was."""

    def main():
        begin = time.monotonic()
        with pytest.raises(coro.TimeoutError, match=r"0\.01 s") as caught:
            limited(0.01, coro.suspend)
        assert time.monotonic() - begin >= 0.01
        assert isinstance(caught.value, builtins.TimeoutError)
        assert isinstance(caught.value, Exception)
        assert isinstance(caught.value, coro.Interrupted)
        assert caught.value.seconds == 0.01
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__

    loop(main)


@pytest.mark.parametrize("delta", [0, 0.0, -1, -0.5, -math.inf])
@pytest.mark.parametrize(
    "block",
    [
        coro.yield_slice,
        lambda: coro.sleep_relative(0),
        lambda: coro.sleep_relative(5),
        lambda: coro.sleep_absolute(0),
        coro.suspend,
    ],
    ids=["yield", "sleep 0", "sleep", "sleep_absolute", "suspend"],
)
def test_zero_or_less_is_over_at_the_first_blocking_call(loop, limited, delta, block):
    """The function starts; what it does without blocking counts; its first block raises."""
    ran = []

    def body():
        ran.append(1)
        block()
        ran.append(2)

    def main():
        assert limited(delta, int) == 0
        with pytest.raises(coro.TimeoutError):
            limited(delta, body)

    loop(main)

    assert [1] == ran


def test_infinity_is_never(loop, limited):
    """No timer is set, and the call takes as long as it takes."""

    def main():
        limited(math.inf, coro.sleep_relative, 0.005)
        assert not this_kernel().timers

    loop(main)


@pytest.mark.parametrize(
    ("delta", "error"), [(None, TypeError), ("1", TypeError), (math.nan, ValueError), (object(), TypeError)]
)
def test_what_is_no_length_of_time_is_refused_before_the_call(loop, limited, delta, error):
    """TypeError or ValueError at once; the function is not called; no timer is left."""

    def main():
        with pytest.raises(error):
            limited(delta, pytest.fail, "was called")

    loop(main)


def test_a_non_callable_leaves_no_timer(loop):
    """TypeError, and the next block is not disturbed."""

    def main():
        with pytest.raises(TypeError):
            coro.with_timeout(0.001, None)
        coro.sleep_relative(0.005)

    loop(main)


def test_one_that_is_late_without_blocking_is_not_disturbed(loop, limited):
    """A result that comes after the deadline is a result; the next block comes to no harm."""

    def main():
        limited(0.002, busy, 0.01)
        coro.sleep_relative(0.002)
        coro.yield_slice()

    loop(main)


def test_one_that_is_late_and_then_blocks_times_out_there(loop, limited):
    """CPU-bound past the deadline, then blocked: TimeoutError at that first block."""
    ran = []

    def body():
        busy(0.01)
        ran.append("computed")
        coro.sleep_relative(1)

    def main():
        with pytest.raises(coro.TimeoutError):
            limited(0.002, body)

    loop(main)

    assert ["computed"] == ran


def test_an_inner_timeout_does_not_touch_the_outer_one(loop, limited):
    """The inner frame raises, the outer one goes on and still expires in its own time."""

    def inner():
        with pytest.raises(coro.TimeoutError) as caught:
            limited(0.002, coro.sleep_relative, 10)
        assert caught.value.seconds == 0.002
        coro.sleep_relative(10)

    def main():
        with pytest.raises(coro.TimeoutError) as caught:
            limited(0.01, inner)
        assert caught.value.seconds == 0.01

    loop(main)


def test_an_outer_timeout_is_not_seen_by_inner_handlers(loop, limited):
    """`except TimeoutError` and `except Exception` of inner frames are skipped; finally blocks run."""
    ran = []

    def inner():
        try:
            limited(10, coro.sleep_relative, 10)
        except Exception as exc:
            ran.append(exc)
        except coro.Interrupted as exc:
            ran.append(type(exc))
            raise
        finally:
            ran.append("finally")

    def main():
        with pytest.raises(coro.TimeoutError) as caught:
            limited(0.002, inner)
        assert caught.value.seconds == 0.002

    loop(main)

    assert [coro.Interrupted, "finally"] == ran


@pytest.mark.parametrize("delta", [0, 0.003])
def test_with_equal_deadlines_the_outer_timeout_wins(loop, limited, delta):
    """So that the frame which knows more decides."""
    seen = []

    def inner():
        try:
            limited(delta, coro.sleep_relative, 1)
        except coro.TimeoutError:
            seen.append("inner")
            raise

    def main():
        with pytest.raises(coro.TimeoutError):
            limited(delta, inner)

    loop(main)

    assert [] == seen


def test_a_wake_up_that_came_first_is_delivered_first(loop, limited):
    """Woken before the deadline but run after it: the value is returned; a second wait then times out."""

    def body():
        first = coro.suspend()
        if first == "block again":
            coro.suspend()
        return first

    def main():
        me = coro.current()

        def waker(value):
            me.schedule(value)
            busy(0.01)  # the deadline passes while it is ready

        coro.spawn(waker, "value")
        assert limited(0.005, body) == "value"
        coro.spawn(waker, "block again")
        with pytest.raises(coro.TimeoutError):
            limited(0.005, body)

    loop(main)


def test_D_10_one_that_is_always_ready_is_timed_out_all_the_same(loop, limited):
    """A coroutine woken by I/O in every pass loses its timeout no more than once."""
    a, b = socket.socketpair()

    def body():
        while True:
            coro.wait_for_read(a)  # always ready: nobody reads

    def main():
        begin = time.monotonic()
        with pytest.raises(coro.TimeoutError):
            limited(0.01, body)
        assert time.monotonic() - begin < 1

    with a, b:
        b.send(b"x")
        loop(main)


def test_D_10_also_when_others_wake_it_all_the_time(loop, limited):
    """The same with schedule() from a coroutine that never sleeps."""

    def body():
        while True:
            coro.suspend()

    def main():
        me = coro.current()

        def waker():
            while True:
                if not me.scheduled:
                    me.schedule()
                coro.yield_slice()

        co = coro.spawn(waker)
        with pytest.raises(coro.TimeoutError):
            limited(0.01, body)
        co.shutdown()

    loop(main)


def test_a_loop_of_yields_is_timed_out(loop, limited):
    """It blocks at each yield, if only for a moment."""

    def body():
        while True:
            coro.yield_slice()

    def main():
        with pytest.raises(coro.TimeoutError):
            limited(0.005, body)

    loop(main)


@pytest.mark.parametrize("hide", [BaseException, coro.Interrupted])
def test_D_11_a_swallowed_timeout_is_said_aloud(loop, limited, hide):
    """The function's value is returned and the timeout is used up, but a RuntimeWarning names the coroutine."""

    def body():
        try:
            coro.sleep_relative(10)
        except hide:
            return "swallowed"

    def main():
        me = coro.current().set_name("sinner")
        with pytest.warns(RuntimeWarning, match="sinner.*has swallowed its timeout"):
            assert limited(0.002, body) == "swallowed"
        coro.sleep_relative(0.005)
        assert me is coro.current()

    loop(main)


def test_other_exceptions_pass_through_and_leave_no_timer(loop, limited):
    """Those of the function, those raised in the coroutine, and a TimeoutError that the function makes itself."""

    def fail(exc):
        raise exc

    def main():
        me = coro.current()
        for exc in (Boom(), coro.Shutdown(), coro.Interrupted("mine"), coro.TimeoutError("zz"), TimeoutError("zz")):
            with pytest.raises(type(exc)) as caught:
                limited(0.002, fail, exc)
            assert caught.value is exc
        boom = Boom()
        coro.spawn(me.raise_exception, boom)
        with pytest.raises(Boom) as caught:
            limited(10, coro.suspend)
        assert caught.value is boom
        coro.sleep_relative(0.005)

    loop(main)


def test_a_shutdown_that_is_pending_is_not_replaced_by_a_timeout(loop, limited):
    """Shut down and expired in the same pass: the shutdown is delivered."""
    seen = []

    def body():
        try:
            limited(0.002, coro.suspend)
        except BaseException as exc:
            seen.append(type(exc))
            raise

    def main():
        co = coro.spawn(body)
        coro.yield_slice()
        co.shutdown()
        busy(0.005)
        co.join()

    loop(main)

    assert [coro.Shutdown] == seen


def test_a_timeout_that_expires_as_its_block_is_left_harms_nobody(loop, limited):
    """Two timeouts expire in one poll; the one whose frame is left is removed unseen."""

    def main():
        with pytest.raises(coro.TimeoutError) as caught:
            limited(0.002, lambda: limited(0.0021, busy_then_sleep))
        assert caught.value.seconds == 0.002
        for _ in range(3):
            coro.sleep_relative(0.001)

    def busy_then_sleep():
        busy(0.01)
        coro.sleep_relative(1)

    loop(main)


def test_no_garbage_grows_from_timeouts_that_never_expire(loop, limited):
    """Neither heap nor dict nor list grows over 20,000 calls, blocking or not, nested or not."""

    def main():
        kernel = this_kernel()
        sleeper = coro.spawn(coro.sleep_relative, 3600)
        for _ in range(5000):
            limited(30, int)
            limited(30, coro.yield_slice)
            limited(30, limited, 30, coro.yield_slice)
        others = [coro.spawn(limited, 30 + number, coro.sleep_relative, 0.02) for number in range(500)]
        coro.sleep_relative(0.005)
        for _ in range(5000):
            limited(60, coro.yield_slice)
        assert len(kernel.timers) < 2500
        assert len(kernel.begun()) < 200
        for co in others:
            co.join()
        assert len(kernel.timer_map) == 1
        sleeper.shutdown()

    loop(main)


def test_many_with_the_same_deadline(loop):
    """10,000 sleepers until the same tick are set, fired in order and cancelled in linear time."""
    ran = []

    def body(number, when):
        coro.sleep_absolute(when)
        ran.append(number)

    def main():
        when = coro.get_now() + 300_000_000
        children = [coro.spawn(body, number, when) for number in range(10_000)]
        coro.yield_slice()
        for co in children[::2]:
            co.shutdown()
        for co in children:
            co.join()

    loop(main)

    assert list(range(1, 10_000, 2)) == ran


def test_one_timeout_object_serves_one_block_at_a_time(loop):
    """Entering it twice at once is an error; using it again afterwards is not."""

    def main():
        limit = coro.timeout(10)
        with limit, pytest.raises(RuntimeError, match="in use already"), limit:
            pass
        with limit:
            coro.yield_slice()

    loop(main)


# -- outside the loop ------------------------------------------------------------------------------------------------

sigalrm = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this platform has no setitimer(2)")


@sigalrm
@pytest.mark.parametrize("delta", [0.01, 0, -1])
def test_D_31_outside_the_loop_it_interrupts_blocking_calls(limited, delta):
    """With SIGALRM; floats, 0 and negative numbers like in the loop; handler and timer are restored."""
    before = signal.getsignal(signal.SIGALRM)
    begin = time.monotonic()

    with pytest.raises(coro.TimeoutError) as caught:
        limited(delta, time.sleep, 5)

    assert max(delta, 0) <= time.monotonic() - begin < 2
    assert caught.value.seconds == delta
    assert signal.getsignal(signal.SIGALRM) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


@sigalrm
def test_D_31_outside_the_loop_a_call_that_is_in_time_returns(limited):
    """Its result, also under an infinite timeout, and keyword arguments are passed on."""
    assert limited(5, dict, a=1) == {"a": 1}
    assert limited(math.inf, int, "7") == 7
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


@sigalrm
def test_D_31_outside_the_loop_they_nest(limited):
    """Inner first, outer first, and an outer one that must survive the inner one's end."""
    with pytest.raises(coro.TimeoutError) as caught:
        limited(5, limited, 0.01, time.sleep, 5)
    assert caught.value.seconds == 0.01

    with pytest.raises(coro.TimeoutError) as caught:
        limited(0.01, limited, 5, time.sleep, 5)
    assert caught.value.seconds == 0.01

    def inner_then_sleep():
        limited(2, int)
        time.sleep(5)

    with pytest.raises(coro.TimeoutError) as caught:
        limited(0.05, inner_then_sleep)
    assert caught.value.seconds == 0.05


@sigalrm
def test_D_31_outside_the_loop_except_exception_does_not_swallow_it(limited):
    """What travels through inner frames is an Interrupted."""

    def careless():
        try:
            time.sleep(5)
        except Exception:
            return "swallowed"

    with pytest.raises(coro.TimeoutError):
        limited(0.01, careless)


@sigalrm
def test_D_31_the_alarm_of_the_program_is_kept(limited):
    """An alarm that the program has set goes off in its time, during or after ours, with its own handler."""
    rung = []
    old = signal.signal(signal.SIGALRM, lambda signum, frame: rung.append(time.monotonic()))
    try:
        begin = time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(coro.TimeoutError):
            limited(0.01, time.sleep, 5)
        assert not rung
        while not rung:
            time.sleep(0.005)
        assert rung[0] - begin >= 0.05

        rung.clear()
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
        begin = time.monotonic()
        with pytest.raises(coro.TimeoutError):
            limited(0.1, time.sleep, 5)
        assert time.monotonic() - begin >= 0.1
        assert len(rung) >= 2
        rung.clear()
        time.sleep(0.05)
        assert rung
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


def test_outside_the_loop_in_another_thread_it_is_a_clear_error(limited):
    """SIGALRM reaches the main thread only."""
    errors = []

    def body():
        try:
            limited(1, int)
        except RuntimeError as exc:
            errors.append(str(exc))

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()

    assert "main thread only" in errors[0]


def test_D_32_an_early_imported_name_works_before_inside_and_after_the_loop(loop):
    """Module functions look where they are when they are called; time.time is left alone."""
    from coro import sleep_relative, with_timeout

    original = time.time

    def main():
        assert time.time is original
        other = coro.spawn(sleep_relative, 0.005)
        begin = time.monotonic()
        with pytest.raises(coro.TimeoutError):
            with_timeout(0.01, sleep_relative, 1)
        assert time.monotonic() - begin < 0.5
        assert other.dead  # the sleep did not block the process

    for _ in range(2):
        begin = time.monotonic()
        sleep_relative(0.01)
        assert time.monotonic() - begin >= 0.01
        if hasattr(signal, "setitimer"):
            with pytest.raises(coro.TimeoutError):
                with_timeout(0.01, time.sleep, 1)
        loop(main)
    with warnings.catch_warnings():
        assert time.time is original


def test_an_expired_timeout_leaves_no_garbage(loop, limited):
    """Neither the interrupt nor the error refers to itself by the frames that it passed."""
    import gc
    import weakref

    def expire():
        try:
            limited(0, coro.suspend)
        except coro.TimeoutError as exc:
            return weakref.ref(exc), weakref.ref(exc.__context__)

    def main():
        gc.collect()
        gc.disable()
        try:
            refs = expire()
            assert [ref() for ref in refs] == [None, None]
        finally:
            gc.enable()

    loop(main)


@pytest.mark.parametrize("seconds", [None, "1", math.nan])
def test_what_is_no_time_is_refused_with_one_error(loop, seconds):
    """Not with one after another, of which the first is about a comparison."""

    def main():
        with pytest.raises((TypeError, ValueError), match="a timeout") as caught:
            coro.with_timeout(seconds, int)
        assert caught.value.__context__ is None or caught.value.__suppress_context__

    loop(main)
