"""fork() in a coroutine: what the child keeps of the loop, and that the parent does not notice."""

from __future__ import annotations

import gc
import os
import time
from contextlib import suppress

import pytest
from greenlet import getcurrent, greenlet

import coro
from coro.kernel import READ, this_kernel

from .helpers import Boom, forked, forking, script

pytestmark = forking


# -- the caller and the others ---------------------------------------------------------------------------------------


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


def test_os_fork_forgets_the_others_though_nothing_else_of_processes_is_used(poller):
    """What `coro.fork` does is in a module that is imported by its first use."""
    lines = script(
        poller,
        """
        import coro, os

        def main():
            other = coro.spawn(coro.suspend)
            coro.yield_slice()
            pid = os.fork()
            print("child" if pid == 0 else "parent", len(coro.all_threads), flush=True)
            if pid:
                os.waitpid(pid, 0)
                other.shutdown()

        coro.run(main)
        """,
    )

    assert lines == ["child 1", "parent 2"]


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
                assert co.started is (co is other)
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
                return exc.args[0][1]

        def outer():
            with coro.timeout(0.1) as limit:
                assert nested() == limit._ours[1]
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
            pytest.skip(f"{poller} is told anew for each wait what to watch, so there is no registration to carry over")
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
    resource = pytest.importorskip("resource", reason="this platform has no module resource to limit descriptors with")

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
