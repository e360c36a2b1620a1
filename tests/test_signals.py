"""Signal handlers that run in coroutines: register_signal_handler and unregister_signal_handler."""

from __future__ import annotations

import contextvars
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

import coro
from coro import signal_handler
from coro.kernel import this_kernel

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals but ^C and ^BREAK")

USR1 = signal.SIGUSR1 if sys.platform != "win32" else None
USR2 = signal.SIGUSR2 if sys.platform != "win32" else None


class Boom(Exception):
    pass


@pytest.fixture(autouse=True)
def nothing_registered():
    """A registration outlives the loop, so each test has to undo its own; dispositions and mask are as they were."""
    before = [signal.getsignal(signum) for signum in signal.valid_signals()]
    yield
    left = list(signal_handler._registered)
    for signum in left:
        coro.unregister_signal_handler(signum)
    assert not signal_handler.taken
    assert not signal_handler._arrived
    assert [signal.getsignal(signum) for signum in signal.valid_signals()] == before
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()
    assert this_kernel().externals == 0
    assert this_kernel().on_wake is None
    assert not left


@pytest.fixture
def registered():
    """Registers like coro.register_signal_handler, and unregisters at the end."""
    signums = []

    def register(signum, handler, **kwargs):
        coro.register_signal_handler(signum, handler, **kwargs)
        signums.append(signum)

    yield register
    for signum in signums:
        coro.unregister_signal_handler(signum)


def send(signum):
    os.kill(os.getpid(), signum)


def script(poller, text):
    """Run a program in a process of its own.  Returns its exit status and what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text)],
        env={**os.environ, "CORO_POLLER": poller},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_the_names_of_shrapnel():
    """coro.signal_handler.register and coro.register_signal_handler are the same."""
    assert coro.register_signal_handler is coro.signal_handler.register
    assert coro.unregister_signal_handler is coro.signal_handler.unregister


@pytest.mark.parametrize("name", ["SIGUSR1", "SIGHUP", "SIGCHLD", "SIGTERM", "SIGINT", "SIGALRM", "SIGWINCH"])
def test_the_handler_gets_the_signal_number(loop, registered, name):
    """For any signal that can be caught, and for each time that it comes."""
    signum = getattr(signal, name)
    seen = []

    def main():
        me = coro.current()

        def handler(number):
            seen.append(number)
            me.schedule()

        registered(signum, handler)
        for _ in range(3):
            send(signum)
            coro.suspend()

    loop(main)

    assert [signum] * 3 == seen


def test_the_handler_runs_in_a_coroutine_of_its_own_and_may_block(loop, registered):
    """A new one for each signal, so that one which blocks does not keep the next from being served."""
    begun, ended = [], []

    def handler(signum):
        begun.append(coro.current())
        coro.sleep_relative(0.02)
        ended.append(coro.current())

    def main():
        registered(USR1, handler)
        for count in (1, 2):
            send(USR1)
            while len(begun) < count:
                coro.sleep_relative(0.001)
        assert begun[0] is not begun[1]
        assert coro.current() not in begun
        assert not ended
        begun[1].join()
        assert ended == begun

    loop(main)


def test_a_signal_ends_the_wait_of_an_idle_loop_at_once(loop, registered):
    """Though nothing else would have happened for a long time, and the loop is in the poller."""

    def main():
        me = coro.current()
        registered(USR1, lambda signum: me.schedule(time.monotonic()))
        timer = threading.Timer(0.02, send, (USR1,))
        timer.start()
        began = time.monotonic()
        assert coro.suspend() - began < 5
        timer.join()

    loop(main)


def test_a_signal_reaches_a_loop_that_never_idles(loop, registered):
    """Coroutines that are always ready do not keep the handler from running."""

    def main():
        seen = []
        registered(USR1, seen.append)
        send(USR1)
        turns = 0
        while not seen:
            coro.yield_slice()
            turns += 1
            assert turns < 100_000

    loop(main)


def test_D_22_a_handler_that_fails_is_reported_and_goes_on_listening(poller, failures, registered):
    """The failure goes to the exception notifier; the next signal is served."""
    boom = [Boom(1), Boom(2)]

    def main():
        def handler(signum):
            raise boom[len(failures)]

        registered(USR1, handler)
        for count in (1, 2):
            send(USR1)
            while len(failures) < count:
                coro.sleep_relative(0.001)

    coro.run(main)

    assert failures == boom
    failures.clear()


def test_D_22_a_second_registration_is_refused(loop, registered):
    """SimultaneousError names both and the signal, and the first handler stays; after unregister it is accepted."""
    seen = []

    def main():
        first = coro.spawn(registered, USR1, lambda signum: seen.append("first"))
        first.join()
        with pytest.raises(coro.SimultaneousError) as caught:
            coro.register_signal_handler(USR1, lambda signum: seen.append("second"))
        assert (caught.value.co, caught.value.other) == (coro.current(), first)
        assert caught.value.event == ("signal", USR1)
        send(USR1)
        coro.sleep_relative(0.01)
        assert seen == ["first"]
        assert coro.unregister_signal_handler(USR1)
        coro.register_signal_handler(USR1, lambda signum: seen.append("third"))
        send(USR1)
        coro.sleep_relative(0.01)
        assert seen == ["first", "third"]

    loop(main)


def test_D_22_once_only_is_honoured(loop):
    """The handler runs for the first signal, which gives the old disposition back and lets another one register."""
    seen, others = [], []
    old = signal.signal(USR1, lambda *args: others.append(1))

    def main():
        coro.register_signal_handler(USR1, seen.append, once_only=True)
        for _ in range(3):
            send(USR1)
            coro.sleep_relative(0.005)
        assert (seen, others) == ([USR1], [1, 1])
        assert not coro.unregister_signal_handler(USR1)

    try:
        loop(main)
    finally:
        signal.signal(USR1, old)


def test_D_22_unregister_restores_the_old_disposition(loop):
    """The program's own handler, the default, or to ignore; and says whether there was anything to undo."""
    for old in (lambda *args: None, signal.SIG_DFL, signal.SIG_IGN):
        before = signal.signal(USR1, old)

        def main(old=old):
            assert not coro.unregister_signal_handler(USR1)
            coro.register_signal_handler(USR1, print)
            assert signal.getsignal(USR1) is not old
            assert coro.unregister_signal_handler(USR1)
            assert signal.getsignal(USR1) is old
            assert not coro.unregister_signal_handler(USR1)

        try:
            loop(main)
        finally:
            signal.signal(USR1, before)


def test_a_handler_that_the_program_sets_meanwhile_is_kept(loop):
    """signal.signal after the registration: unregister and the end of the loop leave that alone."""
    mine = [lambda *args: None, lambda *args: None]
    before = signal.getsignal(USR1), signal.getsignal(USR2)

    def main():
        coro.register_signal_handler(USR1, print)
        coro.register_signal_handler(USR2, print)
        signal.signal(USR1, mine[0])
        signal.signal(USR2, mine[1])
        coro.unregister_signal_handler(USR1)
        assert signal.getsignal(USR1) is mine[0]

    try:
        loop(main)
        assert signal.getsignal(USR2) is mine[1]
    finally:
        coro.unregister_signal_handler(USR2)
        signal.signal(USR1, before[0])
        signal.signal(USR2, before[1])


def test_a_signal_that_was_unregistered_before_its_handler_ran_is_dropped(loop, capfd):
    """Nothing runs after unregister has returned."""

    def main():
        coro.register_signal_handler(USR1, lambda signum: pytest.fail("ran"))
        send(USR1)
        coro.unregister_signal_handler(USR1)
        coro.sleep_relative(0.005)

    loop(main)

    assert capfd.readouterr().err == ""


def test_a_signal_that_comes_too_late_for_a_loop_is_not_kept_for_the_next(loop, registered):
    """It came as the loop ended, and nothing runs for it later."""
    seen = []
    registered(USR1, seen.append)
    registered(USR2, seen.append)

    def main():
        send(USR2)
        coro.sleep_relative(0.005)

    loop(send, USR1)  # and the loop is over
    loop(main)

    assert seen == [USR2]


def test_a_program_that_has_a_wakeup_descriptor_of_its_own_loses_no_signal(loop, registered):
    """The byte then goes elsewhere, and the handler itself wakes the loop."""

    def main():
        me = coro.current()
        registered(USR1, lambda signum: me.schedule("served"))
        old = signal.set_wakeup_fd(-1)
        timer = threading.Timer(0.02, signal.pthread_kill, (threading.get_ident(), USR1))
        timer.start()
        try:
            assert coro.with_timeout(10, coro.suspend) == "served"
        finally:
            signal.set_wakeup_fd(old)
            timer.join()

    loop(main)


def test_D_22_a_registration_outlives_the_loop_and_adds_up_to_nothing(loop, registered):
    """Made before the loop, it holds in every loop: one run for each signal, and the old disposition in between."""
    seen, others = [], []
    old = signal.signal(USR1, lambda *args: others.append(1))

    def main():
        send(USR1)
        coro.sleep_relative(0.005)

    try:
        registered(USR1, seen.append)
        for count in (1, 2, 3):
            send(USR1)
            assert (len(seen), len(others)) == (count - 1, count)
            loop(main)
            assert (len(seen), len(others)) == (count, count)
    finally:
        signal.signal(USR1, old)


def test_a_burst_may_be_merged_but_a_run_follows_the_last_signal(loop, registered):
    """Whatever happened before the last signal is seen by some run of the handler."""

    def main():
        counted, seen = [], []
        registered(USR1, lambda signum: seen.append(len(counted)))
        for _ in range(20):
            for _ in range(10):
                counted.append(1)
                send(USR1)
            coro.yield_slice()
        coro.sleep_relative(0.005)
        assert seen[-1] == len(counted)
        assert 1 <= len(seen) <= len(counted)

    loop(main)


def test_several_signals_run_their_handlers_in_the_order_in_which_they_came(loop, registered):
    """Each has its own handler."""
    seen = []

    def main():
        for signum in (USR1, USR2):
            registered(signum, seen.append)
        send(USR2)
        send(USR1)
        coro.sleep_relative(0.005)

    loop(main)

    assert seen == [USR2, USR1]


@pytest.mark.parametrize("when", ["before the loop", "in the loop"])
def test_a_program_that_waits_for_signals_only_is_not_deadlocked(loop, when):
    """run() waits as long as something is registered, and no longer."""
    waiting = []

    def register():
        coro.register_signal_handler(USR1, lambda signum: waiting[0].schedule("served"), once_only=True)

    def main():
        waiting.append(coro.current())
        if when == "in the loop":
            register()
        timer = threading.Timer(0.02, send, (USR1,))
        timer.start()
        assert coro.suspend() == "served"
        timer.join()
        coro.suspend()

    if when == "before the loop":
        register()
    with pytest.raises(coro.DeadlockError):
        loop(main)

    assert not coro.unregister_signal_handler(USR1)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_it_replaces_what_the_loop_does_for_sigint_and_sigterm(poller, name):
    """The loop goes on; once it is unregistered the signal ends the loop again, with status 0."""
    status, output = script(
        poller,
        f"""
        import coro, os, signal

        def handler(signum):
            print("handled", signum == signal.{name})
            coro.unregister_signal_handler(signum)
            os.kill(os.getpid(), signum)

        coro.set_print_exit_string(False)
        coro.register_signal_handler(signal.{name}, handler)
        coro.spawn(lambda: os.kill(os.getpid(), signal.{name}))
        try:
            coro.spawn(coro.suspend)
            coro.event_loop()
        finally:
            print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
            print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
        """,
    )

    assert (status, output) == (0, "handled True\nTrue\nTrue\n")


def test_D_22_children_inherit_no_blocked_mask(loop, registered):
    """A child has nothing blocked, does by default what any program does, and SIGTERM and SIGINT end it."""
    code = (
        "import signal; print(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])), signal.getsignal(signal.SIGTERM))"
    )

    def main():
        for signum in (signal.SIGTERM, signal.SIGINT, USR1):
            registered(signum, print)
        for options in ({}, {"preexec_fn": int}):  # the second forks
            assert subprocess.check_output([sys.executable, "-c", code], text=True, **options) == "[] 0\n"
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()
        for signum in (signal.SIGTERM, signal.SIGINT):
            pid = os.posix_spawn("/bin/sh", ["sh", "-c", "kill -STOP $$; exit 0"], os.environ)
            os.waitpid(pid, os.WUNTRACED)
            os.kill(pid, signum)
            os.kill(pid, signal.SIGCONT)
            assert coro.waitpid(pid) == (pid, signum)

    loop(main)


def test_context_variables_are_those_of_whoever_registered(loop, registered):
    """Each run has a copy of its own."""
    variable = contextvars.ContextVar("variable", default="default")
    seen = []

    def handler(signum):
        seen.append(variable.get())
        variable.set("changed by the handler")

    def main():
        def register():
            variable.set("of the registrar")
            registered(USR1, handler)

        coro.spawn(register).join()
        for _ in range(2):
            send(USR1)
            coro.sleep_relative(0.005)

    loop(main)

    assert seen == ["of the registrar"] * 2


@pytest.mark.parametrize(
    ("signum", "handler", "error"),
    [
        (USR1, None, TypeError),
        (USR1, "x", TypeError),
        (None, print, TypeError),
        ("SIGUSR1", print, TypeError),
        (True, print, TypeError),
        (0, print, ValueError),
        (-1, print, ValueError),
        (10**30, print, ValueError),
        (9, print, ValueError),
        (int(signal.SIGSTOP) if sys.platform != "win32" else 0, print, ValueError),
    ],
)
def test_bad_arguments_are_refused_at_once(loop, signum, handler, error):
    """Before the loop and inside it; SIGKILL and SIGSTOP cannot be caught.  Nothing is left registered."""
    with pytest.raises(error):
        coro.register_signal_handler(signum, handler)

    def main():
        with pytest.raises(error):
            coro.register_signal_handler(signum, handler)

    loop(main)


def test_a_generator_function_is_no_handler():
    """Its call would run nothing."""

    def handler(signum):
        yield

    with pytest.raises(TypeError, match="runs nothing"):
        coro.register_signal_handler(USR1, handler)


def test_in_another_thread_it_is_a_clear_error(poller, failures):
    """Signals reach the main thread only, with or without a loop in the other one."""
    errors = []

    def body():
        for function in (
            lambda: coro.register_signal_handler(USR1, print),
            lambda: coro.unregister_signal_handler(USR1),
        ):
            for run in (coro.run, lambda call: call()):
                with pytest.raises(RuntimeError, match="main thread only") as caught:
                    run(function)
                errors.append(caught.value)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()

    assert len(errors) == 4


def test_a_loop_in_another_thread_leaves_the_registrations_alone(poller, failures, registered):
    """They belong to the loop of the main thread; the other one can run and end without touching them."""
    registered(USR1, print)
    old = signal.getsignal(USR1)
    thread = threading.Thread(target=lambda: coro.run(coro.sleep_relative, 0.001))
    thread.start()
    thread.join()

    assert signal.getsignal(USR1) is old
