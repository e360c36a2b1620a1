"""fork() and what is outside the loop: signals, the main program, other threads, and those who fork unasked."""

from __future__ import annotations

import multiprocessing
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

from .helpers import forked, forking, script

pytestmark = forking


# -- signals ---------------------------------------------------------------------------------------------------------


def test_a_child_that_does_not_go_on_with_the_loop_takes_no_signals_for_it(loop):
    """SIGTERM ends it, SIGINT interrupts it, and the parent does not hear of either."""

    def main():
        for signum, status in ((signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, 3 << 8)):
            reader, writer = os.pipe()
            pid = coro.fork()
            if pid == 0:
                try:
                    os.write(writer, b"x")
                    time.sleep(20)
                except KeyboardInterrupt:
                    os._exit(3)
                finally:
                    os._exit(1)
            coro.wait_for_read(reader)
            os.kill(pid, signum)
            assert coro.waitpid(pid) == (pid, status)
            os.close(reader)
            os.close(writer)

    loop(main)


def test_signals_of_the_child_write_nothing_to_the_waker_of_its_parent(loop):
    """No wakeup descriptor at first, then one of its own."""

    def main():
        parents = this_kernel().wake_write.fileno()

        def in_child():
            assert signal.set_wakeup_fd(-1) == -1
            assert this_kernel().wake_write is None
            coro.sleep_relative(0.001)
            fd = signal.set_wakeup_fd(-1)
            return fd == this_kernel().wake_write.fileno()

        assert forked(in_child)
        assert this_kernel().wake_write.fileno() == parents

    loop(main)


def test_a_child_that_goes_on_with_the_loop_takes_signals(poller):
    """As its parent does: SIGTERM unwinds its coroutines and makes run() raise SystemExit(143)."""
    lines = script(
        poller,
        """
        import coro, os, signal

        def main():
            reader, writer = os.pipe()
            pid = coro.fork()
            if pid == 0:
                try:
                    coro.sleep_relative(0.001)  # now the loop goes on
                    os.write(writer, b"x")
                    coro.sleep_relative(20)
                finally:
                    print("child unwound")
            coro.wait_for_read(reader)
            os.kill(pid, signal.SIGTERM)
            print("parent", os.waitstatus_to_exitcode(coro.waitpid(pid)[1]))

        coro.run(main)
        """,
    )

    assert lines == ["child unwound", "parent 143"]


def test_registered_handlers_serve_the_child_once_it_goes_on(loop):
    """Not before: until then its signals do what the program has set.  Notes of the parent are not inherited."""

    def main():
        seen = []
        coro.register_signal_handler(signal.SIGUSR1, lambda signum: seen.append(os.getpid()))
        try:
            os.kill(os.getpid(), signal.SIGUSR1)  # noted, not yet served

            def in_child():
                assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
                coro.sleep_relative(0.001)
                assert seen == []
                os.kill(os.getpid(), signal.SIGUSR1)
                coro.sleep_relative(0.01)
                coro.register_signal_handler(signal.SIGUSR2, seen.append)
                os.kill(os.getpid(), signal.SIGUSR2)
                coro.sleep_relative(0.01)
                return seen == [os.getpid(), signal.SIGUSR2]

            assert forked(in_child)
            coro.sleep_relative(0.01)
            assert seen == [os.getpid()]
        finally:
            coro.unregister_signal_handler(signal.SIGUSR1)

    loop(main)


def test_a_signal_handler_that_forks_while_the_loop_idles(poller):
    """In the child no coroutine is left; if the handler returns there, the loop finds that nothing is to be done."""
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore::DeprecationWarning",
            "-c",
            textwrap.dedent(
                """
                import coro, os, signal, threading

                def handler(signum, frame):
                    global pid
                    pid = os.fork()
                    if pid == 0 and leave:
                        os._exit(7)

                def main():
                    global leave
                    for leave in (True, False):
                        threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGUSR1)).start()
                        try:
                            coro.sleep_relative(0.1)
                        finally:
                            print("woken", os.getpid() == parent, flush=True)
                        print(os.waitstatus_to_exitcode(coro.waitpid(pid)[1]), flush=True)

                parent = os.getpid()
                signal.signal(signal.SIGUSR1, handler)
                try:
                    coro.run(main)
                except coro.DeadlockError:
                    os._exit(8)
                """
            ),
        ],
        env={**os.environ, "CORO_POLLER": poller, "PYTHONUNBUFFERED": ""},
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert done.stdout.split("\n")[:-1] == ["woken True", "7", "woken True", "8"], done.stderr


# -- outside a coroutine ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fork", [coro.fork, os.fork] if hasattr(os, "fork") else [])
def test_in_the_main_program_before_the_loop_nothing_is_inherited(poller, failures, fork):
    """What was spawned before runs in the parent and not in the child, which can run loops of its own."""
    ran = []
    co = coro.spawn(ran.append, 1)
    unstarted = coro.new(ran.append, 2)

    def in_child():
        assert not coro.all_threads
        assert co.dead
        assert unstarted.dead
        assert coro.run(lambda: coro.spawn(lambda: coro.sleep_relative(0.001) or 7).result()) == 7
        return ran

    assert forked(in_child, fork) == []
    assert not co.dead
    coro.run(co.join)
    assert ran == [1]


def test_after_the_loop(loop):
    """A program that has run a loop forks; both run another one."""
    loop(coro.sleep_relative, 0.001)

    assert forked(lambda: coro.run(lambda: coro.current().dead)) is False
    loop(coro.sleep_relative, 0.001)


def test_in_another_thread_the_kernels_of_all_others_are_dropped(loop):
    """The main thread's loop does not exist in the child: no coroutine, signal or descriptor of it."""
    before = signal.getsignal(signal.SIGTERM)
    assert before is signal.SIG_DFL

    def main():
        other = coro.spawn(coro.sleep_relative, 0.01)
        coro.yield_slice()
        kernel = this_kernel()
        fds = [kernel.wake_read.fileno(), kernel.wake_write.fileno()]

        def in_child():
            assert threading.current_thread() is threading.main_thread()
            assert not coro.all_threads
            assert coro.current().id == -1
            assert other.dead
            assert signal.getsignal(signal.SIGTERM) is before
            assert signal.set_wakeup_fd(-1) == -1
            for fd in fds:
                with pytest.raises(OSError, match="Bad file descriptor"):
                    os.fstat(fd)
            return coro.run(lambda: (coro.sleep_relative(0.03), 7)[1])

        answers = []
        thread = threading.Thread(target=lambda: answers.append(forked(in_child)))
        thread.start()
        while thread.is_alive():
            coro.sleep_relative(0.001)
        assert answers == [7]
        assert not coro.current().dead
        other.join()

    loop(main)


def test_in_a_loop_of_another_thread_that_loop_goes_on_alone(loop):
    """Its caller survives, in what is the main thread of the child, and signals wake it there."""

    def main():
        coro.spawn(coro.sleep_relative, 0.01)

        def second():
            coro.spawn(coro.suspend)
            coro.yield_slice()
            me = coro.current()

            def in_child():
                assert dict(coro.all_threads) == {me.id: me}
                signal.signal(signal.SIGUSR1, lambda *args: me.schedule("woken"))
                coro.sleep_relative(0.001)
                threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGUSR1)).start()
                return coro.with_timeout(10, coro.suspend)

            return forked(in_child)

        answers = []
        thread = threading.Thread(target=lambda: answers.append(coro.run(second)))
        thread.start()
        while thread.is_alive():
            coro.sleep_relative(0.001)
        assert answers == ["woken"]

    loop(main)


# -- those who fork without being asked ------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"preexec_fn": os.getpid}, {"close_fds": False}])
def test_subprocesses_do_no_harm_to_a_running_loop(loop, options):
    """They run, inherit nothing, and what the loop waits for still comes."""
    reader, writer = os.pipe()
    command = ["sh", "-c", "echo hello; ls /dev/fd | wc -l"]
    expected = subprocess.check_output(command, **options)

    def main():
        waiter = coro.spawn(coro.wait_for_read, reader)
        ticker = coro.spawn(coro.sleep_relative, 0.02)
        coro.yield_slice()
        with subprocess.Popen(command, stdout=subprocess.PIPE, **options) as process:
            coro.wait_for_read(process.stdout)
            assert process.stdout.read() == expected  # no descriptor more than without the loop
        ticker.join()
        os.write(writer, b"x")
        waiter.join()

    loop(main)
    os.close(reader)
    os.close(writer)


def work(connection, number):
    """In the child of multiprocessing: answer, having slept in the loop that it has inherited alone."""
    coro.sleep_relative(0.002)
    connection.send((number * 2, len(coro.all_threads)))
    connection.close()


def test_multiprocessing_works_in_a_running_loop(loop):
    """Its start method "fork" forks in the calling coroutine."""
    context = multiprocessing.get_context("fork")

    def main():
        coro.spawn(coro.sleep_relative, 0.02)
        coro.yield_slice()
        for number in range(3):
            ours, theirs = context.Pipe()
            process = context.Process(target=work, args=(theirs, number))
            process.start()
            theirs.close()
            coro.wait_for_read(ours)
            assert ours.recv() == (number * 2, 1)
            coro.wait_for_read(process.sentinel)
            process.join()
            assert process.exitcode == 0
            process.close()
            ours.close()

    loop(main)


def test_a_child_of_multiprocessing_can_be_terminated(loop):
    """As soon as there is one: no signal is lost between the fork and the moment when the child has given them back."""
    context = multiprocessing.get_context("fork")

    def main():
        for _ in range(10):
            process = context.Process(target=time.sleep, args=(20,))
            process.start()
            process.terminate()
            coro.wait_for_read(process.sentinel)
            process.join()
            assert process.exitcode == -signal.SIGTERM
            process.close()

    loop(main)
