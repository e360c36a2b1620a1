"""Defects of Shrapnel that no other file tests.  The others are named ``test_D_<number>_...`` where they belong."""

from __future__ import annotations

import builtins
import inspect
import io
import os
import shutil
import socket
import subprocess
import sys
import threading

import pytest

import coro
from coro import files
from coro.kernel import this_kernel
from coro.poller import HANGUP, READ, Poller


class Boom(Exception):
    pass


def test_D_05_the_main_program_is_known_before_during_and_after_the_loop(loop, capfd):
    """print_stderr works in it, with the number -1, whatever has run before."""
    for _ in range(2):
        coro.print_stderr("from main")
        assert coro.current().id == -1
        loop(coro.yield_slice)

    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("-1:\t") and line.endswith(" from main") for line in lines)


def test_D_09_a_wake_up_that_was_meant_for_an_interrupted_coroutine_is_not_lost(loop):
    """A reader is woken and shut down in one pass: the next one to wait finds the data."""
    a, b = socket.socketpair()

    def main():
        first = coro.spawn(coro.wait_for_read, a)
        coro.yield_slice()
        b.send(b"x")
        victim = coro.spawn(first.shutdown)  # runs in the pass in which the poll wakes the reader
        coro.yield_slice()
        victim.join()
        coro.with_timeout(5, coro.wait_for_read, a)

    with a, b:
        loop(main)


def test_D_17_coroutines_of_one_batch_may_shut_each_other_down(loop):
    """Two readers are woken by one poll, and each ends the other: the loop goes on."""
    pairs = [socket.socketpair() for _ in range(2)]
    readers = []
    ran = []

    def reader(number):
        coro.wait_for_read(pairs[number][0])
        ran.append(number)
        readers[1 - number].shutdown()

    def main():
        readers.extend(coro.spawn(reader, number) for number in range(2))
        coro.yield_slice()
        for _, end in pairs:
            end.send(b"x")
        coro.yield_slice()
        coro.yield_slice()
        assert all(co.dead for co in readers)

    try:
        loop(main)
    finally:
        for pair in pairs:
            for end in pair:
                end.close()

    assert len(ran) >= 1


def test_D_19_a_new_socket_interrupts_nobody(loop):
    """Whoever waited for a number before is not kicked out by a new descriptor that gets it."""

    def main():
        a, b = socket.socketpair()
        co = coro.spawn(coro.wait_for_read, a)
        coro.yield_slice()
        number = a.fileno()
        co.shutdown()
        coro.yield_slice()
        a.close()
        sleeper = coro.spawn(coro.sleep_relative, 0.005)
        c, d = socket.socketpair()
        assert number in (c.fileno(), d.fileno())
        sleeper.result()
        for sock in (b, c, d):
            sock.close()

    loop(main)


def test_D_20_an_event_with_several_bits_wakes_all_whom_it_concerns(failures):
    """A hangup that comes together with data wakes the reader and the writer."""

    class Combined(Poller):
        edge = False

        def __init__(self):
            self.armed = {}

        def arm(self, fd, mask):
            self.armed[fd] = mask

        def unregister(self, fd):
            self.armed.pop(fd, None)

        def wait(self, timeout):
            events = [(fd, READ | HANGUP) for fd in self.armed if fd == a.fileno()]
            self.armed.clear()
            return events

        def close(self):
            pass

    a, b = socket.socketpair()

    def main():
        children = [coro.spawn(coro.wait_for_read, a), coro.spawn(coro.wait_for_write, a)]
        for co in children:
            assert co.result() is None
        coro.set_exit()

    coro.set_print_exit_string(False)
    try:
        coro.spawn(main)
        with a, b, pytest.raises(SystemExit):
            coro.event_loop(poller=Combined())
    finally:
        coro.set_print_exit_string(True)


def test_D_21_the_interface_does_not_depend_on_the_backend():
    """One way to wait for a descriptor, with the same parameters everywhere; no table of the poller is exposed."""
    assert list(inspect.signature(coro.wait_for_read).parameters) == ["fd"]
    assert list(inspect.signature(coro.wait_for_write).parameters) == ["fd"]
    for name in ("event_map", "set_handler", "wait_for", "event_queue_map"):
        assert not hasattr(coro, name)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no /dev/fd to look at")
def test_D_30_what_a_loop_opens_is_closed_on_exec(loop):
    """The poller's descriptors and the waker's are not inherited by programs that are started meanwhile."""
    before = set(os.listdir("/dev/fd"))

    def main():
        opened = {int(fd) for fd in set(os.listdir("/dev/fd")) - before}
        checked = 0
        for fd in opened:
            try:
                assert not os.get_inheritable(fd)
                checked += 1
            except OSError:
                pass  # the one that listed them
        assert checked >= 1

    loop(main)


class Slow(io.FileIO):
    """A file on a disk that takes its time: each read says that it has begun, and waits to be let through."""

    def __init__(self, path):
        super().__init__(path)
        self.begun = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)

    def read(self, size=-1):
        self.begun.release()
        assert self.gate.acquire(timeout=10)
        return super().read(size)


@pytest.fixture
def records(tmp_path):
    """The path of a file that holds the numbers from 0, five bytes each."""
    path = tmp_path / "records"
    path.write_bytes(b"".join(b"%04d\n" % number for number in range(3000)))
    return path


def test_D_51_operations_on_one_file_at_once_get_their_own_results(loop, records):
    """The second does not take the place of the first; one that is interrupted leaves neither waiter nor thread."""

    def main():
        slow = Slow(records)
        with files.BinaryFile(slow) as file:
            first, second, third, fourth = (coro.spawn(file.read, 5) for _ in range(4))
            assert coro.to_thread(slow.begun.acquire, timeout=10)
            third.shutdown()  # it waits for its turn
            slow.gate.release()
            assert first.result() == b"0000\n"
            assert coro.to_thread(slow.begun.acquire, timeout=10)
            second.shutdown()  # it is under way
            second.join()
            slow.gate.release(2)
            assert fourth.result() == b"0001\n"
            slow.gate.release()
            assert file.read(5) == b"0002\n"
            slow.gate.release(10)
        assert this_kernel().externals == 0

    loop(main)


def test_D_51_operations_that_end_in_another_order_get_their_own_results(loop, records):
    """Two files that are one on the disk: the second operation ends before the first, then a third one does."""

    def main():
        slow = Slow(records)
        with files.BinaryFile(slow) as one, files.open(records, "rb") as other:
            first = coro.spawn(one.read, 5)
            assert coro.to_thread(slow.begun.acquire, timeout=10)
            other.seek(50)
            assert coro.spawn(other.read, 5).result() == b"0010\n"
            assert coro.spawn(other.read, 5).result() == b"0011\n"
            assert not first.dead
            slow.gate.release(10)
            assert first.result() == b"0000\n"

    loop(main)


def test_D_51_there_may_be_any_number_of_operations_at_once(loop, records):
    """Three thousand on one file, of which a thousand are interrupted: the others get the records in their order."""

    def main():
        slow = Slow(records)
        with files.BinaryFile(slow) as file:
            first = coro.spawn(file.read, 5)
            assert coro.to_thread(slow.begun.acquire, timeout=10)
            readers = [coro.spawn(file.read, 5) for _ in range(3000)]
            coro.yield_slice()
            for co in readers[::3]:
                co.shutdown()
            coro.yield_slice()
            slow.gate.release(3000)
            results = [co.result() for number, co in enumerate(readers) if number % 3]
            assert first.result() == b"0000\n"
            assert results == [b"%04d\n" % number for number in range(1, 2001)]
            assert file.read(5) == b"2001\n"
        assert this_kernel().externals == 0

    loop(main)


FAILING_TESTS = """
import coro

def fail():
    assert False

def test_main(loop):
    loop(fail)

def test_child(loop):
    loop(lambda: (coro.spawn(fail), coro.yield_slice()))

def test_joined_child(loop):
    loop(lambda: coro.spawn(fail).join())

def test_without_failure(loop):
    loop(lambda: coro.spawn(int).join())
"""


def test_D_54_a_test_cannot_pass_when_a_coroutine_has_failed(tmp_path):
    """Neither the main coroutine nor any other, whoever waits for it: the fixtures of this suite see to that."""
    shutil.copy(os.path.join(os.path.dirname(__file__), "conftest.py"), tmp_path)
    tests = tmp_path / "test_it.py"
    tests.write_text(FAILING_TESTS)

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, tests],
        env={**os.environ, "CORO_POLLER": "select", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )

    lines = done.stdout.splitlines()
    assert done.returncode == 1
    for name, outcome in (("main", "FAILED"), ("child", "ERROR"), ("joined_child", "ERROR")):
        assert any(line.startswith(f"{outcome} test_it.py::test_{name}[select]") for line in lines), done.stdout
    assert "coroutines have failed: [AssertionError" in done.stdout
    assert "test_without_failure" not in done.stdout


def test_D_55_one_exception_raised_in_many_coroutines_does_not_grow(loop):
    """Each sees a traceback of its own length."""
    depths = []
    boom = Boom()

    def body():
        try:
            coro.suspend()
        except Boom as exc:
            depth, tb = 0, exc.__traceback__
            while tb is not None:
                depth, tb = depth + 1, tb.tb_next
            depths.append(depth)

    def main():
        children = [coro.spawn(body) for _ in range(50)]
        coro.yield_slice()
        for co in children:
            co.raise_exception(boom)
        for co in children:
            co.join()

    loop(main)

    assert len(depths) == 50
    assert len(set(depths)) == 1


@pytest.mark.parametrize(("error", "hidden"), [(OSError, True), (ValueError, True), (KeyboardInterrupt, False)])
def test_D_58_a_broken_stderr_is_ignored_and_nothing_else(monkeypatch, error, hidden):
    """print_stderr swallows what a closed stream raises, not a KeyboardInterrupt."""

    class Broken(io.StringIO):
        def write(self, text):
            raise error

    monkeypatch.setattr(sys, "__stderr__", Broken())

    if hidden:
        coro.print_stderr("x")
        coro.write_stderr("x")
    else:
        with pytest.raises(error):
            coro.print_stderr("x")


def test_D_60_a_star_import_hides_no_builtin_and_leaks_nothing():
    """Only public names of coro, none of which a program expects to be something else."""
    names = {}
    exec("from coro import *", names)
    del names["__builtins__"]

    assert not set(names) & set(dir(builtins))
    assert not any(inspect.ismodule(value) for value in names.values())
    assert names["spawn"] is coro.spawn
    assert names["coro"] is coro.coro
    assert issubclass(coro.TimeoutError, builtins.TimeoutError)


def test_D_23_the_error_names_the_coroutine(loop):
    """args[0] of every ScheduleError is the coroutine; the text says what is the matter with it."""

    def main():
        co = coro.spawn(int)
        with pytest.raises(coro.ScheduleError, match="is ready to run already") as caught:
            co.schedule()
        assert caught.value.args[0] is co
        co.join()
        with pytest.raises(coro.DeadCoroutine, match="has ended") as caught:
            co.schedule()
        assert caught.value.args[0] is co
        assert this_kernel().current is coro.current()

    loop(main)
