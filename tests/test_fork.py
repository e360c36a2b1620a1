"""fork(): what a forked child keeps of coro, and that its parent does not notice."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
import traceback
from contextlib import suppress

import pytest
from greenlet import getcurrent, greenlet

import coro
from coro.kernel import READ, this_kernel

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork(2)"),
    # from Python 3.12 on os.fork() says so whenever there is a second thread, which some tests are about
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


class Boom(Exception):
    pass


def forked(body, fork=coro.fork, block=False):
    """Fork, call *body* in the child, and return in the parent what it returns there.  In a coroutine or outside.

    With *block* the whole parent waits, so that nothing can interrupt it.
    """
    reader, writer = os.pipe()
    pid = fork()
    if pid == 0:
        signal.alarm(20)  # a child that hangs dies
        try:
            try:
                answer = True, body()
            except BaseException:
                answer = False, traceback.format_exc()
            os.write(writer, pickle.dumps(answer))
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        if this_kernel().current is not None and not block:
            coro.wait_for_read(reader)
            assert coro.waitpid(pid) == (pid, 0)
        else:
            assert os.waitpid(pid, 0) == (pid, 0)
        worked, answer = pickle.load(pipe)
    assert worked, answer
    return answer


def script(poller, text):
    """Run a program in a process of its own, and return what it printed, sorted by line.

    Buffered, whatever the environment says, so that lines of the two processes do not mix.
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(text)],
        env={**os.environ, "CORO_POLLER": poller, "PYTHONUNBUFFERED": ""},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stderr == ""
    return sorted(done.stdout.split("\n"))[1:]


# -- in a coroutine --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fork", [coro.fork, os.fork] if hasattr(os, "fork") else [])
def test_D_43_in_the_child_the_caller_goes_on_as_the_only_coroutine(loop, fork):
    """There it is alone, it can block in every way, and it can make new coroutines."""

    def main():
        me = coro.current()
        others = [coro.spawn(coro.sleep_relative, 10), coro.spawn(coro.suspend)]
        coro.yield_slice()
        others.append(coro.spawn(coro.suspend))
        others.append(coro.new(coro.suspend))
        before = dict(coro.all_threads)
        assert len(before) == 5

        def in_child():
            assert dict(coro.all_threads) == {me.id: me}
            assert coro.get_live_coros() == 1
            assert coro.current() is me
            assert coro.coro_is_running()
            begin = time.monotonic()
            coro.sleep_relative(0.01)
            assert time.monotonic() - begin >= 0.01
            coro.yield_slice()
            reader, writer = os.pipe()
            coro.spawn(os.write, writer, b"x")
            coro.wait_for_read(reader)
            with pytest.raises(coro.TimeoutError):
                coro.with_timeout(0.005, coro.suspend)
            assert coro.spawn(lambda: 7).result() == 7
            pid = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 3"], os.environ)
            return coro.waitpid(pid)[1]

        assert forked(in_child, fork) == 3 << 8
        assert dict(coro.all_threads) == before
        assert not any(co.dead for co in before.values())
        for co in others:
            co.shutdown()

    loop(main)


def test_D_43_no_inherited_coroutine_runs_in_the_child(loop):
    """None that is ready, newborn, has yielded, whose time has come, whose descriptor is ready, or that joins."""
    reader, writer = os.pipe()
    data, data_writer = os.pipe()
    parent = os.getpid()

    def body(block):
        try:
            block()
        finally:
            if os.getpid() != parent:
                os.write(writer, b"x")

    def timed_out():
        with pytest.raises(coro.TimeoutError):
            coro.with_timeout(0.01, coro.suspend)

    def main():
        me = coro.current()
        blocks = [
            lambda: coro.sleep_relative(0.01),
            lambda: coro.wait_for_read(data),
            timed_out,
            me.join,
            coro.suspend,
        ]
        others = [coro.spawn(body, block) for block in blocks]
        coro.yield_slice()
        others[-1].schedule()
        others.append(coro.spawn(body, coro.yield_slice))
        others.append(coro.spawn(body, coro.yield_slice))
        coro.sleep_relative(0)
        others.append(coro.spawn(body, int))
        os.write(data_writer, b"x")

        def in_child():
            coro.sleep_relative(0.03)
            gc.collect()
            with pytest.raises(coro.TimeoutError):
                coro.with_timeout(0.01, coro.wait_for_read, reader)
            return [co.dead for co in others]

        assert forked(in_child) == [True] * len(others)
        for co in others:
            co.shutdown()

    try:
        loop(main)
    finally:
        for fd in (reader, writer, data, data_writer):
            os.close(fd)


def test_D_43_no_finally_block_of_another_runs_in_the_child_even_at_its_end(poller):
    """Not when the child leaves the loop and exits like any program; the caller's own blocks do run."""
    lines = script(
        poller,
        """
        import coro, gc, os

        def body(block):
            try:
                block()
            finally:
                print(role, "unwound", flush=True)

        def main():
            global role
            for block in (coro.suspend, lambda: coro.sleep_relative(9), coro.yield_slice):
                coro.spawn(body, block)
            coro.yield_slice()
            kept = coro.spawn(body, coro.suspend)
            coro.sleep_relative(0)
            try:
                if coro.fork() == 0:
                    role = "child"
                    coro.sleep_relative(0.001)
                    del kept
                    gc.collect()
                else:
                    coro.sleep_relative(0.001)
            finally:
                print(role, "main")

        role = "parent"
        coro.run(main)
        print(role, "after")
        """,
    )

    assert [line for line in lines if line.startswith("child")] == ["child after", "child main"]
    assert [line for line in lines if "parent" in line] == ["parent after", "parent main"] + ["parent unwound"] * 4


def test_in_the_child_the_others_are_dead(loop):
    """join returns, result, schedule, start and raise_exception say so, shutdown does nothing."""

    def main():
        other = coro.spawn(coro.suspend)
        coro.yield_slice()
        unstarted = coro.new(coro.suspend)

        def in_child():
            for co in (other, unstarted):
                assert co.dead
                assert not co.scheduled
                co.join()
                co.shutdown()
                with pytest.raises(coro.DeadCoroutine, match="belongs to the parent process"):
                    co.result()
                with pytest.raises(coro.DeadCoroutine):
                    co.schedule()
                with pytest.raises(coro.DeadCoroutine):
                    co.raise_exception(Boom)
                with pytest.raises(KeyError):
                    coro.get_thread_by_id(co.id)
                assert coro.where(co) == "dead"
            with pytest.raises(coro.DeadCoroutine):
                unstarted.start()

        forked(in_child)
        other.shutdown()

    loop(main)


def test_D_43_the_parents_waiters_go_on(loop):
    """What the parent waits for is not taken from it, though the child waits for the same descriptors, closes them and
    forgets them; nor do the child's events wake anybody in the parent."""
    pipes = [os.pipe() for _ in range(3)]
    woken = []

    def waiter(fd):
        coro.wait_for_read(fd)
        woken.append((os.getpid(), os.read(fd, 10)))

    def main():
        waiters = [coro.spawn(waiter, reader) for reader, _ in pipes]
        coro.yield_slice()

        def in_child():
            (one, _), (two, _), (three, _) = pipes
            with pytest.raises(coro.TimeoutError):
                coro.with_timeout(0.005, coro.wait_for_read, one)
            this_kernel().poller.unregister(one)
            coro.notify_of_close(two)
            os.close(two)
            coro.spawn(coro.wait_for_read, three)
            coro.sleep_relative(0.005)

        forked(in_child)
        assert not woken
        for _, writer in pipes:
            os.write(writer, b"data")
        for co in waiters:
            co.join()
        assert woken == [(os.getpid(), b"data")] * 3

    try:
        loop(main)
    finally:
        for pipe in pipes:
            for fd in pipe:
                os.close(fd)


def test_the_child_waits_for_the_same_descriptor_with_its_own_poller(loop):
    """An inherited pipe is ready in both processes, and each is told by its own poller."""
    reader, writer = os.pipe()

    def main():
        co = coro.spawn(coro.wait_for_read, reader)
        coro.yield_slice()

        def in_child():
            os.write(writer, b"x")
            coro.wait_for_read(reader)

        forked(in_child)
        co.join()

    loop(main)
    os.close(reader)
    os.close(writer)


def open_files():
    """What this process has open: by number, what it is.  Sockets and pipes have a number of their own in the text."""
    files = {}
    for fd in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # that of the listing
            files[int(fd)] = os.readlink(f"/proc/self/fd/{fd}")
    return files


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="only Linux lists the open files of a process")
def test_no_descriptor_of_the_loop_is_shared_with_the_child(loop, poller):
    """Poller, waker and process descriptors of the parent are closed in the child, which later opens its own."""
    before = set(open_files())

    def main():
        stdin, hold = os.pipe()
        pid = os.posix_spawn("/bin/cat", ["cat"], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, stdin, 0)])
        waiter = coro.spawn(coro.waitpid, pid)
        coro.yield_slice()
        ours = {fd: name for fd, name in open_files().items() if fd not in before and fd not in (stdin, hold)}
        assert len(ours) == (4 if poller == "epoll" else 3)  # the poller, two ends of the waker, the process

        def in_child():
            files = open_files()
            assert not [name for fd, name in files.items() if ours.get(fd) == name]
            inherited = set(files)
            coro.sleep_relative(0.001)
            files = open_files()
            assert len(set(files) - inherited) == (3 if poller == "epoll" else 2)
            assert not {name for name in files.values() if "socket" in name} & set(ours.values())

        forked(in_child)
        assert {fd: name for fd, name in open_files().items() if fd in ours} == ours
        os.close(hold)
        os.close(stdin)
        assert waiter.result() == (pid, 0)

    loop(main)


def test_the_timeouts_of_the_caller_hold_in_the_child(loop, failures):
    """Those around the fork, both new and old ones, expire there too; the timers of others are gone."""

    def main():
        coro.spawn(coro.sleep_relative, 3600)

        def nested():
            coro.sleep_relative(0.001)  # the outer timeout is in the heap by now
            with coro.timeout(10):
                return forked(in_child, block=True)  # its time runs out with that of the child

        def in_child():
            kernel = this_kernel()
            coro.sleep_relative(0.001)
            assert len(kernel.timer_map) == 2
            try:
                coro.suspend()
            except coro.Interrupted as exc:
                return exc.args[0].when

        def outer():
            with coro.timeout(0.1) as limit:
                assert nested() == limit._ours.when
                coro.suspend()

        with pytest.raises(coro.TimeoutError):
            outer()

    loop(main)


def test_a_timeout_of_the_caller_is_raised_by_its_owner_in_the_child(poller):
    """The whole stack of the caller lives on there."""
    lines = script(
        poller,
        """
        import coro, os

        def body():
            if coro.fork() == 0:
                coro.suspend()

        def main():
            try:
                coro.with_timeout(0.01, body)
                print("in time")
            except coro.TimeoutError as exc:
                print("timed out after", exc.seconds)

        coro.run(main)
        """,
    )

    assert lines == ["in time", "timed out after 0.01"]


def test_a_child_can_fork_again(loop):
    """Before its loop has gone on and after that; each generation is alone in turn."""

    def main():
        me = coro.current()
        coro.spawn(coro.sleep_relative, 0.5)

        def grandchild():
            coro.sleep_relative(0.001)
            return list(coro.all_threads)

        def child():
            at_once = forked(grandchild)
            other = coro.spawn(coro.sleep_relative, 0.5)
            coro.sleep_relative(0.001)
            later = forked(grandchild)
            assert not other.dead
            return at_once, later

        assert forked(child) == ([me.id], [me.id])

    loop(main)


def test_descriptors_of_coro_are_registered_with_the_new_poller(loop, poller):
    """What is registered once for its life, such as a socket, is known to the child's poller and to the parent's."""
    reader, writer = os.pipe()

    def main():
        kernel = this_kernel()
        if not kernel.poller.edge:
            pytest.skip("nothing is registered for good with this poller")
        entry = kernel.own(reader, READ)
        coro.sleep_relative(0)

        def in_child():
            assert entry.readable  # nobody knows, so whoever reads tries
            entry.readable = False
            coro.sleep_relative(0.001)
            assert not entry.readable
            os.write(writer, b"x")
            coro.sleep_relative(0.001)
            assert entry.readable

        assert not entry.readable
        forked(in_child)
        coro.sleep_relative(0.001)
        assert entry.readable
        kernel.poller.unregister(reader)
        del kernel.fds[reader]

    try:
        loop(main)
    finally:
        os.close(reader)
        os.close(writer)


def test_blocking_from_a_foreign_greenlet_works_in_the_child(loop):
    """One that a library has made on top of the coroutine forks, and blocks in the child."""

    def main():
        def body():
            def in_child():
                assert getcurrent() is not coro.current()._greenlet
                coro.sleep_relative(0.001)
                return coro.current().id

            return forked(in_child)

        assert greenlet(body).switch() == coro.current().id

    loop(main)


def test_a_failure_in_the_child_is_reported_there_though_the_parent_collects_it(loop):
    """Whoever waited in result() is in the parent."""

    def body():
        def in_child():
            return coro.current()._collected

        return forked(in_child)

    assert loop(lambda: coro.spawn(body).result()) == 0


def test_when_the_main_function_stays_behind_run_says_so(poller):
    """A coroutine forks and returns in the child: nothing is left there, and run() has no result."""
    lines = script(
        poller,
        """
        import coro, os

        def body():
            global role
            pid = coro.fork()
            if pid == 0:
                role = "child"
            else:
                coro.waitpid(pid)

        role = "parent"
        try:
            coro.run(lambda: coro.spawn(body).result())
            print(role, "returns")
        except coro.DeadlockError as exc:
            print(role, exc)
        """,
    )

    assert lines[0].startswith("child Nothing is left to do")
    assert lines[1:] == ["parent returns"]


def test_set_exit_and_sys_exit_end_the_loop_of_the_child(poller):
    """With their own code; the parent's loop goes on."""
    lines = script(
        poller,
        """
        import coro, os, sys

        def main():
            for leave in (lambda: coro.set_exit(3), lambda: sys.exit(4)):
                if (pid := coro.fork()) == 0:
                    leave()
                    coro.suspend()
                print(os.waitstatus_to_exitcode(coro.waitpid(pid)[1]), flush=True)  # else the next child has it too
            coro.set_exit(5)

        coro.set_print_exit_string(False)
        coro.spawn(main)
        try:
            coro.event_loop()
        except SystemExit as exc:
            print("code", exc.code)
            raise
        """,
    )

    assert lines == ["3", "4", "code 3", "code 4", "code 5"]


def test_without_fork_a_clear_error(monkeypatch):
    """RuntimeError that says what to use."""
    monkeypatch.delattr(os, "fork")

    with pytest.raises(RuntimeError, match="use subprocess"):
        coro.fork()


# -- portals ---------------------------------------------------------------------------------------------------------


def test_D_43_a_portal_of_the_parent_leads_nowhere_in_the_child(loop):
    """Its use is a RuntimeError that says why, its close touches nothing of the parent's calls; a new one works."""

    def main():
        with coro.Portal() as portal:
            pending = portal.call(coro.suspend)  # not begun
            assert this_kernel().externals == 1

            def in_child():
                assert this_kernel().externals == 0
                assert "of the parent process" in repr(portal)
                for use in (lambda: portal.call(int), lambda: portal.schedule(coro.current())):
                    with pytest.raises(RuntimeError, match="in a forked child: make a portal here"):
                        use()
                for _ in range(2):
                    portal.close()
                assert not pending.cancelled()
                with pytest.raises(RuntimeError, match="it was closed"):
                    portal.call(int)
                assert this_kernel().externals == 0
                with coro.Portal() as own:
                    assert this_kernel().externals == 1
                    assert coro.to_thread(own.call(int, "7").result, 10) == 7
                return this_kernel().externals

            assert forked(in_child) == 0
            assert "open" in repr(portal)
            assert coro.to_thread(portal.call(int, "8").result, 10) == 8
            assert this_kernel().externals == 1
        assert pending.cancelled()

    loop(main)


def test_D_43_a_portal_of_the_parent_leads_nowhere_in_another_thread_of_the_child(loop):
    """Nor does the one of a loop in another thread, which does not exist there."""

    def main():
        with coro.Portal() as portal:

            def in_child():
                with pytest.raises(RuntimeError, match="in a forked child: make a portal here"):
                    portal.call(int)
                portal.close()
                with pytest.raises(RuntimeError, match="it was closed"):
                    portal.call(int)

            assert coro.to_thread(forked, in_child, os.fork) is None

    loop(main)


def test_D_43_a_portal_of_the_parent_does_not_hide_a_deadlock_of_the_child(poller):
    """In the parent somebody may come in by it at any time, in the child nobody can."""
    lines = script(
        poller,
        """
        import coro

        def main():
            with coro.Portal():
                pid = coro.fork()
                if pid == 0:
                    coro.suspend()
                coro.waitpid(pid)

        try:
            coro.run(main)
            print("parent returns")
        except coro.DeadlockError as exc:
            print("child", str(exc).partition(":")[0])
        """,
    )

    assert lines == ["child Deadlock", "parent returns"]


# -- the poller of the child -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["name", "class", "factory", "instance", "by default"])
def test_the_child_has_a_poller_of_the_same_kind(poller, failures, how, monkeypatch):
    """However it was chosen; another object of the same class, opened when the child first blocks."""
    from coro.discovery import find_pollers

    (info,) = (found.info for found in find_pollers() if found.name == poller)

    class Own(info.poller):
        pass

    argument = {"name": poller, "class": Own, "factory": lambda: Own(), "instance": Own(), "by default": None}[how]
    expected = info.poller if how in ("name", "by default") else Own
    if how != "by default":
        monkeypatch.delenv("CORO_POLLER")
    answers = []

    def main():
        old = this_kernel().poller
        assert type(old) is expected

        def in_child():
            assert type(this_kernel().poller) is not expected
            coro.sleep_relative(0.001)
            assert this_kernel().poller is not old
            return type(this_kernel().poller) is expected

        answers.append(forked(in_child))
        assert this_kernel().poller is old
        coro.set_exit()

    coro.set_print_exit_string(False)
    coro.spawn(main)
    with pytest.raises(SystemExit):
        coro.event_loop(poller=argument)
    coro.set_print_exit_string(True)

    assert answers == [True]


def test_a_poller_that_cannot_be_opened_in_the_child_is_an_error_there(loop):
    """Whoever blocks gets it, and may try again once there are descriptors."""
    resource = pytest.importorskip("resource")

    def main():
        def in_child():
            reader, writer = os.pipe()
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
            with pytest.raises((OSError, coro.NoPollerError)):
                coro.wait_for_read(reader)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            os.write(writer, b"x")
            coro.wait_for_read(reader)

        forked(in_child)

    loop(main)


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
