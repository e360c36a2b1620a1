"""The loop: event_loop, run, set_exit and how they end; signals; deadlock; blocking outside a coroutine; threads."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

import coro
from coro.kernel import this_kernel


class Boom(Exception):
    pass


@pytest.fixture(autouse=True)
def no_exit_string():
    coro.set_print_exit_string(False)
    yield
    coro.set_print_exit_string(True)


@pytest.fixture
def exit_code(poller, failures):
    """Runs event_loop() and returns the code that it ends with."""

    def run(**kwargs):
        with pytest.raises(SystemExit) as caught:
            coro.event_loop(**kwargs)
        return caught.value.code

    return run


def script(poller, text, *args, **kwargs):
    """Run a program in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text), *args],
        env={**os.environ, "CORO_POLLER": poller},
        capture_output=True,
        text=True,
        timeout=30,
        **kwargs,
    )


# -- set_exit --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 9, None, True, "a text"])
def test_D_03_the_exit_code_is_delivered_from_a_coroutine(exit_code, code):
    """Whatever was given to set_exit comes out in SystemExit, unchanged."""
    coro.spawn(coro.set_exit, code)

    assert exit_code() is code


def test_D_03_the_exit_code_is_delivered_when_set_before_the_loop(exit_code):
    """Those that are ready run, then SystemExit(code)."""
    ran = []
    coro.spawn(ran.append, 1)
    coro.set_exit(9)

    assert exit_code() == 9
    assert [1] == ran


def test_D_03_the_exit_code_is_delivered_from_a_signal_handler(exit_code):
    """Also one of the program's own, while the loop idles."""
    old = signal.signal(signal.SIGUSR1, lambda *args: coro.set_exit(9))
    try:
        coro.spawn(coro.suspend)
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        assert exit_code() == 9
    finally:
        signal.signal(signal.SIGUSR1, old)


def test_D_03_the_loop_can_be_run_again(exit_code):
    """Four rounds, each with its own coroutines and its own code; the last call of set_exit wins."""
    ran = []

    def body(number):
        coro.sleep_relative(0.002)
        ran.append(number)
        coro.set_exit("overruled")
        coro.set_exit(number)

    for number in range(4):
        coro.spawn(body, number)
        assert exit_code() == number

    assert [0, 1, 2, 3] == ran


def test_D_04_the_ready_run_and_the_rest_is_unwound(exit_code):
    """Ready ones run on, transitively; sleepers, yielders and the blocked get Shutdown, and their joiners wake."""
    ran = []

    def ready(depth):
        ran.append(depth)
        if depth:
            coro.spawn(ready, depth - 1)

    def blocked(block):
        try:
            block()
            ran.append("not reached")
        finally:
            ran.append("finally")

    def main():
        left = [
            coro.spawn(blocked, block)
            for block in (coro.suspend, lambda: coro.sleep_relative(0), lambda: coro.sleep_relative(100))
        ]
        left.append(coro.spawn(blocked, left[0].join))
        coro.sleep_relative(0.001)
        left.append(coro.spawn(blocked, coro.yield_slice))
        coro.spawn(ready, 2)
        coro.set_exit(1)
        ran.append("caller goes on")

    coro.spawn(main)

    assert exit_code() == 1
    assert ["caller goes on"] == [item for item in ran if item == "caller goes on"]
    assert [2, 1, 0] == [item for item in ran if isinstance(item, int)]
    assert "not reached" not in ran or ran.count("not reached") == 1  # the joiner may see the end of its target
    assert ran.count("finally") >= 4


def test_on_exit_finally_blocks_may_block(exit_code):
    """They sleep, wait for descriptors and for each other, and the loop serves them."""
    ran = []
    a, b = os.pipe()

    def writer():
        try:
            coro.suspend()
        finally:
            coro.sleep_relative(0.01)
            os.write(b, b"x")
            ran.append("written")

    def reader():
        try:
            coro.suspend()
        finally:
            coro.wait_for_read(a)
            ran.append("read")

    coro.spawn(writer)
    coro.spawn(reader)
    coro.spawn(coro.set_exit)
    try:
        assert exit_code() == 0
    finally:
        os.close(a)
        os.close(b)

    assert ["written", "read"] == ran


def test_coroutines_spawned_during_the_exit_are_ended_too(exit_code):
    """A finally block that spawns something that never ends does not hold the exit up."""
    ran = []

    def late():
        try:
            coro.suspend()
        finally:
            ran.append("late")

    def body():
        try:
            coro.suspend()
        finally:
            coro.spawn(late)

    coro.spawn(body)
    coro.spawn(coro.set_exit)
    begin = time.monotonic()

    assert exit_code() == 0
    assert time.monotonic() - begin < 2
    assert ["late"] == ran


def test_those_that_refuse_to_end_are_named_and_abandoned(poller):
    """The grace time bounds the exit; stderr names the coroutine."""
    done = script(
        poller,
        """
        import coro
        def stubborn():
            while True:
                try:
                    coro.sleep_relative(100)
                except BaseException:
                    pass
        coro.set_exit_grace(0.2)
        coro.spawn(stubborn, thread_name="mule")
        def main():
            coro.yield_slice()
            coro.set_exit(3)
        coro.spawn(main)
        coro.event_loop()
        """,
    )

    assert done.returncode == 3
    assert "name='mule'" in done.stderr
    assert "did not end within 0.2 s" in done.stderr


def test_D_07_those_that_keep_waking_each_other_do_not_hold_up_the_exit(exit_code):
    """They get their Shutdown after a bounded number of switches."""
    pair = []

    def ping(me):
        while True:
            coro.suspend()
            pair[1 - me].schedule()

    def main():
        pair.extend([coro.spawn(ping, 0), coro.spawn(ping, 1)])
        coro.yield_slice()
        pair[0].schedule()
        coro.set_exit(5)

    coro.spawn(main)
    begin = time.monotonic()

    assert exit_code() == 5
    assert time.monotonic() - begin < 3


def test_system_exit_in_a_coroutine_ends_the_loop(exit_code):
    """sys.exit() does what people expect; the others are unwound first."""
    ran = []

    def other():
        try:
            coro.suspend()
        finally:
            ran.append("unwound")

    coro.spawn(other)
    coro.spawn(sys.exit, 7)

    assert exit_code() == 7
    assert ["unwound"] == ran


def test_keyboard_interrupt_in_a_coroutine_comes_out_of_the_loop(poller, failures):
    """After the others have been unwound."""
    ran = []

    def interrupted():
        raise KeyboardInterrupt

    def other():
        try:
            coro.suspend()
        finally:
            ran.append("unwound")

    coro.spawn(other)
    coro.spawn(interrupted)
    with pytest.raises(KeyboardInterrupt):
        coro.event_loop()

    assert ["unwound"] == ran


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_loop_with_status_0(poller, signum):
    """SIGTERM and SIGINT: finally blocks run, the exit string is printed, the status is 0."""
    done = script(
        poller,
        """
        import coro, os, sys, threading
        def body():
            try:
                coro.suspend()
            finally:
                coro.sleep_relative(0.01)
                print("finally")
        coro.spawn(body)
        coro.spawn(threading.Timer(0.2, os.kill, (os.getpid(), int(sys.argv[1]))).start)
        coro.event_loop()
        """,
        str(int(signum)),
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout == "finally\n"
    assert done.stderr.endswith(" Exiting...\n")
    assert "-1:\t" in done.stderr


def test_a_signal_reaches_coroutines_that_never_idle(poller):
    """SIGINT while two coroutines yield all the time."""
    done = script(
        poller,
        """
        import coro, os, signal, threading
        def busy():
            while True:
                coro.yield_slice()
        coro.spawn(busy)
        coro.spawn(busy)
        coro.spawn(threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start)
        coro.event_loop()
        """,
    )

    assert done.returncode == 0, done.stderr


def test_a_second_interrupt_ends_a_coroutine_that_does_not_give_way(poller):
    """The first ^C waits for it; the second one is raised in it."""
    done = script(
        poller,
        """
        import coro, os, signal, threading, time
        def hog():
            for delay in (0.1, 0.4):
                threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT)).start()
            while True:
                time.sleep(0.01)
        coro.set_print_exit_string(False)
        coro.spawn(hog)
        try:
            coro.event_loop()
        except KeyboardInterrupt:
            print("interrupted")
        """,
    )

    assert done.stdout == "interrupted\n", done.stderr


def test_two_interrupts_while_the_loop_starts_keep_what_is_ready_from_running(poller):
    """Looking for a poller can take a while: who presses ^C twice meanwhile must not have to wait for a long run."""
    done = script(
        poller,
        """
        import coro, os, signal
        from coro.discovery import open_poller
        name, opened = open_poller(None)
        class Slow(type(opened)):
            def __init__(self):
                super().__init__()
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGINT)
        opened.close()
        def hog():
            while True:
                pass
        coro.set_print_exit_string(False)
        coro.spawn(hog)
        try:
            coro.event_loop(poller=Slow)
        except SystemExit as exc:
            print("ended", exc.code)
        """,
    )

    assert done.stdout == "ended 0\n", done.stderr


def test_handlers_of_the_program_and_the_wakeup_fd_are_left_alone(loop):
    """A handler that the program has set stays; what the loop installs is taken back."""
    mine = lambda *args: None  # noqa: E731
    old = signal.signal(signal.SIGTERM, mine)
    try:

        def main():
            assert signal.getsignal(signal.SIGTERM) is mine
            assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler

        loop(main)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        fd = signal.set_wakeup_fd(-1)
        assert fd == -1
    finally:
        signal.signal(signal.SIGTERM, old)


def test_install_signal_handlers_false_leaves_signals_alone(loop, monkeypatch):
    """A KeyboardInterrupt from Python's own handler then comes out of the loop, and no coroutine sees it."""
    monkeypatch.setattr(coro, "install_signal_handlers", False)
    seen = []

    def other():
        try:
            coro.suspend()
        except BaseException as exc:
            seen.append(type(exc))
            raise

    def main():
        coro.spawn(other)
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        coro.sleep_relative(10)

    with pytest.raises(KeyboardInterrupt):
        loop(main)

    assert [coro.Shutdown] == seen


# -- event_loop ------------------------------------------------------------------------------------------------------


def test_the_exit_string(poller, failures, capfd):
    """D-05: "Exiting..." is printed on the real stderr unless that is switched off."""
    for value, expected in ((True, 1), (None, 0), (0, 0), ("x", 1)):
        coro.set_print_exit_string(value)
        coro.spawn(coro.set_exit)
        with pytest.raises(SystemExit):
            coro.event_loop()
        assert capfd.readouterr().err.count("Exiting...") == expected


@pytest.mark.parametrize(
    ("timeout", "error"),
    [(None, TypeError), ("30", TypeError), (0, ValueError), (-1, ValueError), (float("nan"), ValueError)],
)
def test_D_61_a_wrong_timeout_is_refused_at_once(timeout, error):
    """TypeError or ValueError before the loop runs."""
    with pytest.raises(error):
        coro.event_loop(timeout)


@pytest.mark.parametrize("timeout", [30, 30.0, 0.01, float("inf")])
def test_D_61_the_timeout_is_a_number_of_seconds(exit_code, timeout):
    """Fractions too, without a busy loop."""

    def body():
        cpu = time.process_time()
        coro.sleep_relative(0.1)
        assert time.process_time() - cpu < 0.09
        coro.set_exit(1)

    coro.spawn(body)

    assert exit_code(timeout=timeout) == 1


def test_D_06_a_nested_loop_is_an_error(loop):
    """RuntimeError from event_loop and from run, and nobody comes to harm."""

    def main():
        for nested in (coro.event_loop, lambda: coro.run(int)):
            with pytest.raises(RuntimeError, match="running already"):
                nested()
        assert coro.spawn(int).result() == 0

    loop(main)


def test_coro_is_running(loop):
    """True in the loop, False before and after it."""
    assert not coro.coro_is_running()
    assert loop(coro.coro_is_running)
    assert not coro.coro_is_running()


def test_an_idle_loop_says_once_that_nothing_is_left_to_do(poller):
    """And then waits for signals, with the blocked coroutines listed."""
    done = script(
        poller,
        """
        import coro, os, signal, threading
        def stuck():
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
            coro.suspend()
        coro.spawn(stuck)
        coro.event_loop(0.05)
        """,
    )

    assert done.returncode == 0
    assert done.stderr.count("Deadlock") == 1
    assert "name='stuck'" in done.stderr


# -- run -------------------------------------------------------------------------------------------------------------


def test_run_returns_or_raises_what_the_function_does(loop, failures):
    """With arguments, a value, an exception, SystemExit; the notifier is not told of what the caller sees."""

    def fail(exc):
        coro.yield_slice()
        raise exc

    assert loop(lambda *args: args, 1, 2) == (1, 2)
    for exc in (Boom(), SystemExit(3), KeyboardInterrupt(), coro.TimeoutError()):
        with pytest.raises(type(exc)) as caught:
            loop(fail, exc)
        assert caught.value is exc


def test_run_shuts_down_what_the_function_leaves_behind(loop):
    """Before it returns, and with finally blocks run."""
    ran = []

    def left():
        try:
            coro.suspend()
        finally:
            ran.append("unwound")

    def main():
        coro.spawn(left)
        coro.yield_slice()
        return "value"

    assert loop(main) == "value"
    assert ["unwound"] == ran


def test_run_with_set_exit_raises_system_exit(loop):
    """Called by anybody, while the main function is blocked."""

    def main():
        coro.spawn(coro.set_exit, 4)
        coro.suspend()

    with pytest.raises(SystemExit) as caught:
        loop(main)
    assert caught.value.code == 4


def test_run_of_a_main_that_is_shut_down(loop):
    """DeadCoroutine: there is no result."""

    def main():
        coro.spawn(coro.current().shutdown)
        coro.suspend()

    with pytest.raises(coro.DeadCoroutine):
        loop(main)


@pytest.mark.parametrize("junk", [None, 5])
def test_run_refuses_what_cannot_run(junk):
    """TypeError, and nothing is left behind."""
    with pytest.raises(TypeError):
        coro.run(junk)


def test_run_raises_deadlock_error(loop):
    """When nothing can ever happen again: the text lists who is blocked, where, on what, and where it was made."""

    def helper():
        coro.suspend()

    def main():
        co = coro.spawn(helper, thread_name="helper")
        co.join()

    with pytest.raises(coro.DeadlockError, match=r"(?s)main.*helper|helper.*main") as caught:
        loop(main)
    assert "helper|" in str(caught.value)
    (line,) = [line for line in str(caught.value).splitlines() if "name='helper'" in line and "the end of" not in line]
    assert f"made at [tests/test_loop.py main|{main.__code__.co_firstlineno + 1}]" in line


def test_a_coroutine_knows_where_it_was_made(loop):
    """`made_at` tells file, function and line of the call of `spawn` or `new`, also of one that spans lines."""

    def main():
        first = coro.spawn(int)
        second = coro.new(
            int,
            "5",
        )
        line = main.__code__.co_firstlineno
        assert coro.made_at(first) == f"tests/test_loop.py main|{line + 1}"
        assert coro.made_at(second) in [f"tests/test_loop.py main|{line + n}" for n in (2, 3, 4, 5)]

    loop(main)


@pytest.mark.parametrize(
    ("signum", "status", "text"), [(signal.SIGINT, -signal.SIGINT, "KeyboardInterrupt"), (signal.SIGTERM, 143, "")]
)
def test_run_and_signals(poller, signum, status, text):
    """KeyboardInterrupt for SIGINT, SystemExit(143) for SIGTERM; the main function is unwound; no exit string."""
    done = script(
        poller,
        """
        import coro, os, sys, threading
        def main():
            try:
                coro.suspend() if sys.argv[2:] else coro.sleep_relative(10)
            except BaseException as exc:
                print(type(exc).__name__)
                raise
        coro.spawn(threading.Timer(0.2, os.kill, (os.getpid(), int(sys.argv[1]))).start)
        coro.run(main)
        """,
        str(int(signum)),
    )

    assert done.returncode == status
    assert done.stdout == "Shutdown\n"
    assert text in done.stderr
    assert "Exiting" not in done.stderr


# -- outside a coroutine ---------------------------------------------------------------------------------------------

BLOCKING = {
    "suspend": coro.suspend,
    "yield_slice": coro.yield_slice,
    "sleep_absolute": lambda: coro.sleep_absolute(0),
    "wait_for_read": lambda: coro.wait_for_read(0),
    "wait_for_write": lambda: coro.wait_for_write(1),
    "join": lambda: coro.new(int).join(),
    "result": lambda: coro.new(int).result(),
}


@pytest.mark.parametrize("block", BLOCKING.values(), ids=BLOCKING)
def test_D_06_blocking_in_the_main_program_raises_yield_from_main(loop, block):
    """Before the loop, and after it, and never a crash."""
    for _ in range(2):
        with pytest.raises(coro.YieldFromMain, match="outside a coroutine"):
            block()
        loop(int)


@pytest.mark.parametrize("block", [*BLOCKING.values(), lambda: coro.sleep_relative(1)], ids=[*BLOCKING, "sleep"])
def test_blocking_in_a_signal_handler_while_the_loop_idles_raises_yield_from_main(loop, block):
    """And the current coroutine is the main object there (D-05)."""
    seen = []

    def handler(signum, frame):
        seen.append(coro.current().id)
        try:
            block()
        except coro.YieldFromMain:
            seen.append("refused")

    old = signal.signal(signal.SIGUSR1, handler)
    try:
        threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        loop(coro.sleep_relative, 0.1)
    finally:
        signal.signal(signal.SIGUSR1, old)

    assert [-1, "refused"] == seen


def test_a_signal_handler_that_raises_while_the_loop_idles_is_reported(loop, capfd):
    """One line on stderr; the loop and everybody else go on."""

    def handler(signum, frame):
        raise Boom("in the handler")

    old = signal.signal(signal.SIGUSR1, handler)
    try:
        threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        loop(coro.sleep_relative, 0.1)
    finally:
        signal.signal(signal.SIGUSR1, old)

    assert "Boom: in the handler" in capfd.readouterr().err


# -- failures of coroutines ------------------------------------------------------------------------------------------


def test_the_notifier_runs_in_the_dying_coroutine_and_may_block(loop):
    """current() is the coroutine, it is still alive and registered, and sys.exception() is what ended it."""
    seen = []

    def notifier():
        co = coro.current()
        coro.yield_slice()
        seen.append((co.name, co.dead, co.id in coro.all_threads, str(sys.exception())))

    def fail():
        raise Boom("why")

    old = coro.set_exception_notifier(notifier)
    try:
        loop(lambda: coro.spawn(fail, thread_name="victim").join())
    finally:
        assert coro.set_exception_notifier(old) is notifier

    assert [("victim", False, True, "why")] == seen


@pytest.mark.parametrize("exc", [coro.Interrupted("x"), coro.TimeoutError(), coro.WakeUp(), GeneratorExit(), Boom()])
def test_the_notifier_is_told_of_everything_but_shutdown(loop, failures, exc):
    """Also of what derives from BaseException."""

    def fail():
        raise exc

    def main():
        coro.spawn(fail).join()
        co = coro.spawn(coro.suspend)
        coro.yield_slice()
        co.shutdown()
        co.join()

    loop(main)

    assert failures.pop() is exc


def test_D_57_the_default_notifier_prints_a_traceback(loop, capfd):
    """With the coroutine, on the real stderr; None restores it; a notifier that fails falls back to it."""

    def fail():
        raise Boom("the reason")

    def broken():
        raise ValueError("broken notifier")

    def main():
        coro.spawn(fail, thread_name="victim").join()

    old = coro.set_exception_notifier(None)
    try:
        loop(main)
        text = capfd.readouterr().err
        assert "(victim) has failed: Boom('the reason')" in text
        assert "in fail" in text
        coro.set_exception_notifier(broken)
        loop(main)
        text = capfd.readouterr().err
        assert "broken notifier" in text
        assert "the reason" in text
        assert coro.set_exception_notifier(None) is broken
        with pytest.raises(TypeError):
            coro.set_exception_notifier(5)
    finally:
        coro.set_exception_notifier(old)


# -- threads ---------------------------------------------------------------------------------------------------------


def test_loops_in_several_threads_do_not_disturb_each_other(poller, failures):
    """Three threads run loops of their own at once, each with its own timers, yields and coroutines."""
    results = {}

    def main(number):
        ran = []

        def child(delay):
            for _ in range(20):
                coro.sleep_relative(delay)
                coro.yield_slice()
            ran.append(delay)

        children = [coro.spawn(child, delay / 10_000) for delay in (3, 2, 1)]
        for co in children:
            co.join()
        return number, sorted(ran), threading.get_ident()

    def thread(number):
        results[number] = coro.run(main, number)

    threads = [threading.Thread(target=thread, args=(number,)) for number in range(3)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()

    assert sorted(results) == [0, 1, 2]
    assert len({ident for _, _, ident in results.values()}) == 3
    assert all(ran == [0.0001, 0.0002, 0.0003] for _, ran, _ in results.values())


def test_touching_a_coroutine_of_another_thread_is_an_error_that_names_both(loop):
    """schedule, raise_exception, shutdown, start and join from a foreign thread: RuntimeError, nothing happens."""
    errors = []

    def main():
        target, fresh = coro.spawn(coro.suspend), coro.new(int)
        coro.yield_slice()

        def intruder():
            for touch in (
                target.schedule,
                target.shutdown,
                lambda: target.raise_exception(Boom),
                fresh.start,
                target.join,
            ):
                try:
                    touch()
                except RuntimeError as exc:
                    errors.append(str(exc))

        thread = threading.Thread(target=intruder, name="intruder")
        thread.start()
        thread.join()
        assert not target.scheduled
        assert not fresh.scheduled
        target.shutdown()

    loop(main)

    assert len(errors) == 5
    assert all(("intruder" in text and "suspend" in text) or "int" in text for text in errors)


def test_the_kernel_of_a_thread_goes_with_it(poller, failures):
    """Twenty threads with a loop each leave no kernel behind."""
    import gc

    from coro.coroutine import all_threads

    this_kernel()
    gc.collect()
    before = set(all_threads.kernels)

    for _ in range(20):
        one = threading.Thread(target=coro.run, args=[coro.yield_slice])
        one.start()
        one.join()
    gc.collect()

    assert set(all_threads.kernels) <= before


async def asynchronous():
    pass


def generator():
    yield


@pytest.mark.parametrize("body", [asynchronous, generator])
def test_run_refuses_what_would_run_nothing(body):
    """As `spawn` does: an async function and a generator function only make an object when they are called."""
    with pytest.raises(TypeError, match="runs nothing"):
        coro.run(body)


def test_a_grace_time_that_is_set_in_the_loop_counts(loop, capfd):
    """It is looked at when the loop ends."""

    def stubborn():
        while True:
            with contextlib.suppress(coro.Shutdown):
                coro.suspend()

    def main():
        coro.set_exit_grace(0.01)
        coro.spawn(stubborn)
        coro.yield_slice()

    old = coro.set_exit_grace(60)
    try:
        loop(main)
    finally:
        coro.set_exit_grace(old)
    assert "did not end within 0.01 s" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("signum", "text"), [(signal.SIGINT, "KeyboardInterrupt()"), (signal.SIGTERM, "SystemExit(143)")]
)
def test_a_signal_that_comes_as_the_loop_ends_ends_this_run_and_not_the_next(poller, signum, text):
    """It is raised by `run`, whose handler took it; a later `run` knows nothing of it."""
    done = script(
        poller,
        """
        import coro, os, sys
        from coro import running as module
        close, ended = module.close_kernel, []
        def close_late(kernel):
            close(kernel)
            if not kernel.running and kernel.current is None and running and not ended:
                ended.append(1)
                os.kill(os.getpid(), int(sys.argv[1]))
        running = []
        module.close_kernel = close_late
        coro.spawn(running.append, 1)
        for _ in range(2):
            try:
                print(coro.run(int))
            except BaseException as exc:
                print(repr(exc))
        """,
        str(int(signum)),
    )

    assert done.stdout == f"{text}\n0\n", done.stderr


def test_a_run_that_cannot_begin_leaves_nothing_behind(loop, monkeypatch):
    """Such as one that gets no thread to watch latency: the next one runs its own function only."""
    ran = []
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", lambda self: exec("raise RuntimeError('no thread')"))
        with pytest.raises(RuntimeError, match="no thread"):
            loop(ran.append, 1)
    loop(ran.append, 2)
    assert ran == [2]
