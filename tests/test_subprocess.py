"""Child processes: Popen with its pipes and its end, and the functions that run a command in one call."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import subprocess as standard
import sys
import threading

import pytest

import coro
from coro import files, processes
from coro.discovery import find_pollers
from coro.kernel import this_kernel

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="coro.subprocess needs POSIX")

if sys.platform != "win32":
    from coro import subprocess
    from coro.subprocess import DEVNULL, PIPE, STDOUT, CalledProcessError, Popen, TimeoutExpired

FOR_EVER = 30  # seconds: what takes that long has failed
SLEEPER = ["sleep", "1000"]


class Boom(Exception):
    pass


@pytest.fixture(autouse=True)
def no_child_left():
    """After each test there is no child of this process, neither running nor a zombie."""
    yield
    assert this_kernel().externals == 0
    assert not processes._waiters
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.fixture
def loop(loop):
    """A block that fails waits for its child: with this not for ever."""
    return lambda function, *args: loop(coro.with_timeout, FOR_EVER, function, *args)


def sh(script):
    return ["/bin/sh", "-c", script]


def raised(function, *args, **kwargs):
    """Run a function and return what it raises."""
    try:
        value = function(*args, **kwargs)
    except BaseException as exc:
        return exc
    return pytest.fail(f"returned {value!r}")


def is_gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


class Gate:
    """A pipe from which a child reads a line when it has come to some point: ``read x <{gate}``."""

    def __init__(self):
        self.reader, self.writer = os.pipe()

    def __str__(self):
        return f"/dev/fd/{self.reader}"  # a shell takes only numbers of one digit

    def write(self):
        os.write(self.writer, b"go\n")

    def open(self):
        """Let it through, and tell it that nothing else will come."""
        self.write()
        self.close()

    def close(self):
        if self.writer >= 0:
            os.close(self.writer)
            self.writer = -1


@pytest.fixture
def gate():
    made = Gate()
    yield made
    made.close()
    os.close(made.reader)


@contextlib.contextmanager
def child_that_tells_its_id(script="sleep 1000"):
    """Gives a command whose child tells its id before it does *script*, the descriptor for that, and how to read it."""
    reader, writer = os.pipe()
    with coro.fd_sock(reader) as source:
        try:
            yield sh(f"echo $$ >/dev/fd/{writer}; exec {script}"), writer, lambda: int(source.recv(100))
        finally:
            os.close(writer)


# -- communicate -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 100_000, 2_000_000])
def test_any_amount_goes_in_and_comes_out_on_both_sides(loop, size):
    """More than the pipes hold, in both directions at once, while the child writes to two of them."""
    data = os.urandom(1000) * (size // 1000) + b"x" * (size % 1000)

    def main():
        with Popen(sh("tee /dev/stderr"), stdin=PIPE, stdout=PIPE, stderr=PIPE) as process:
            assert process.communicate(data) == (data, data)
            assert process.returncode == 0
            assert process.stdin.closed
            assert process.stdout.closed
            assert process.stderr.closed
            assert process.communicate() == (data, data)

    loop(main)


def test_other_coroutines_run_while_a_child_does(loop):
    """The child waits for one of them to write."""
    reader, writer = os.pipe()

    def main():
        with coro.fd_sock(writer) as gate:
            co = coro.spawn(subprocess.run, ["cat"], stdin=reader, stdout=PIPE)
            coro.yield_slice()
            assert not co.dead
            gate.send(b"now")
            gate.close()
            assert co.result().stdout == b"now"
        os.close(reader)

    loop(main)


@pytest.mark.parametrize(
    "kwargs", [{"text": True}, {"universal_newlines": True}, {"encoding": "latin-1"}, {"errors": "replace"}]
)
def test_text_goes_in_and_comes_out_with_universal_newlines(loop, kwargs):
    """As with the standard library: by any of the four arguments, in the encoding that is given."""
    script = sh(r"cat; printf 'a\r\nb\rc\n' >&2")

    def main():
        with Popen(script, stdin=PIPE, stdout=PIPE, stderr=PIPE, **kwargs) as process:
            assert isinstance(process.stdout, io.TextIOBase)
            if "encoding" in kwargs:
                assert process.stdin.encoding == "latin-1"
            assert process.communicate("häh\n") == ("häh\n", "a\nb\nc\n")

    loop(main)


def test_what_was_read_and_written_before_is_counted_in(loop):
    """communicate flushes what is in the buffer of stdin, and returns what is left in those of stdout."""

    def main():
        for kwargs in ({}, {"text": True}, {"bufsize": 0}):
            text = "text" in kwargs
            with Popen(["cat"], stdin=PIPE, stdout=PIPE, **kwargs) as process:
                process.stdin.write("one\ntwo\n" if text else b"one\ntwo\n")
                process.stdin.flush()
                assert process.stdout.readline() == ("one\n" if text else b"one\n")
                process.stdin.write("three\n" if text else b"three\n")
                output, nothing = process.communicate("four\n" if text else b"four\n")
                assert output == ("two\nthree\nfour\n" if text else b"two\nthree\nfour\n")
                assert nothing is None

    loop(main)


def test_a_child_that_does_not_read_its_input_is_no_error(loop):
    """Whether it closes its stdin or ends: EPIPE is ignored, also by the end of the block."""

    def main():
        for script in ("exit 3", "exec 0<&-; echo out"):
            done = subprocess.run(sh(script), input=b"x" * 1_000_000, stdout=PIPE)
            assert (done.returncode, done.stdout) in ((3, b""), (0, b"out\n"))

    loop(main)


def test_communicate_times_out_with_what_has_come_and_can_be_called_again(loop, gate):
    """TimeoutExpired as in the standard library; the child is left alone, and nothing is lost or sent twice."""
    data = b"x" * 300_000

    def main():
        script = sh(f"echo begin; echo oops >&2; read x <{gate}; cat")
        with Popen(script, stdin=PIPE, stdout=PIPE, stderr=PIPE, pass_fds=[gate.reader]) as process:
            exc = raised(process.communicate, data, timeout=0.01)
            while not (exc.output and exc.stderr):  # None for what has not come
                assert isinstance(exc, TimeoutExpired)
                exc = raised(process.communicate, timeout=0.01)
            assert (exc.cmd, exc.timeout, exc.output, exc.stderr) == (script, 0.01, b"begin\n", b"oops\n")
            with pytest.raises(ValueError, match="input"):
                process.communicate(b"more")
            gate.open()
            assert process.communicate() == (b"begin\n" + data, b"oops\n")

    loop(main)


def test_an_interrupted_communicate_leaves_nothing_behind(loop, gate):
    """No coroutine, no waiter; the child lives, and the next call gets everything."""

    def main():
        script = sh(f"echo one; read x <{gate}; cat; echo two >&2")
        with Popen(script, stdin=PIPE, stdout=PIPE, stderr=PIPE, pass_fds=[gate.reader]) as process:
            co = coro.spawn(raised, process.communicate, b"in\n" * 100_000)
            coro.sleep_relative(0.005)
            co.raise_exception(Boom)
            assert isinstance(co.result(), Boom)
            assert list(coro.all_threads.values()) == [coro.current()]
            assert not this_kernel()._somebody_waits()
            assert process.poll() is None
            gate.open()
            assert process.communicate() == (b"one\n" + b"in\n" * 100_000, b"two\n")

    loop(main)


def test_an_outer_timeout_is_not_taken_for_that_of_communicate(loop):
    """It passes through as what it is, and so does a TimeoutError that somebody raises in the caller."""

    def main():
        with Popen(SLEEPER, stdout=PIPE) as process:
            with pytest.raises(coro.TimeoutError):
                coro.with_timeout(0.002, process.communicate, timeout=100)
            with pytest.raises(coro.TimeoutError):
                coro.with_timeout(0.002, process.wait, timeout=100)
            for function in (process.wait, process.communicate):
                mine = coro.TimeoutError("mine")
                co = coro.spawn(raised, function, timeout=100)
                coro.yield_slice()
                co.raise_exception(mine)
                assert co.result() is mine
            process.kill()

    loop(main)


def test_input_of_the_wrong_type_is_refused_before_anything_is_sent(loop):
    """Text for bytes and bytes for text: TypeError, and a proper call can follow."""

    def main():
        for text, wrong, right in ((False, "in", b"in"), (True, b"in", "in")):
            with Popen(["cat"], stdin=PIPE, stdout=PIPE, text=text) as process:
                with pytest.raises(TypeError):
                    process.communicate(wrong)
                assert process.communicate(right) == (right, None)

    loop(main)


def test_a_grandchild_that_keeps_the_pipe_does_not_hold_up_the_wait(loop, gate):
    """wait() returns when the child ends; communicate() and run() wait for the pipe, but not beyond their timeout."""
    script = sh(f"cat <{gate} & exit 7")

    def main():
        with Popen(script, stdout=PIPE, pass_fds=[gate.reader]) as process:
            assert process.wait() == 7
            with pytest.raises(TimeoutExpired):
                process.communicate(timeout=0.002)
            with pytest.raises(TimeoutExpired):
                subprocess.run(script, stdout=PIPE, pass_fds=[gate.reader], timeout=0.02)
            gate.close()
            assert process.communicate() == (b"", None)

    loop(main)


# -- the end of a child ----------------------------------------------------------------------------------------------


@pytest.fixture(params=["descriptor", "thread", "thread without waitid"])
def watch(request, poller, monkeypatch):
    """How the end of a process is noticed: see test_processes."""
    if request.param != "descriptor":
        (found,) = (found for found in find_pollers() if found.name == poller)

        def process_fd(self, pid):
            raise NotImplementedError("this platform has no such descriptor")

        monkeypatch.setattr(found.info.poller, "process_fd", process_fd)
    if request.param == "thread without waitid":
        monkeypatch.delattr(os, "waitid", raising=False)
    yield request.param
    for thread in threading.enumerate():
        if thread.name.startswith("coro waits for process"):
            thread.join(10)
    processes._watchers.clear()


@pytest.mark.parametrize(
    ("script", "code"), [("exit 0", 0), ("exit 255", 255), ("kill -9 $$", -9), ("kill -15 $$", -15)]
)
def test_the_return_code_is_that_of_the_standard_library(loop, watch, script, code):
    """The exit code, or minus the number of the signal; by wait and poll, now and later."""

    def main():
        with Popen(sh(script)) as process:
            assert process.wait() == code
            assert process.returncode == process.poll() == process.wait(0) == code

    loop(main)


def test_as_many_as_want_to_may_wait_for_a_child(loop, watch, gate):
    """One that is interrupted is in nobody's way; a stray wake-up ends no wait; all get the return code."""

    def main():
        with Popen(["cat"], stdin=gate.reader, stdout=DEVNULL) as process:
            waiters = [coro.spawn(raised if number in (0, 2) else (lambda f: f()), process.wait) for number in range(5)]
            coro.yield_slice()
            for co in waiters:
                co.schedule()
            coro.yield_slice()
            assert not any(co.dead for co in waiters)
            for number in (0, 2):
                waiters[number].raise_exception(Boom)
                assert isinstance(waiters[number].result(), Boom)
            assert process.poll() is None
            gate.open()
            assert [waiters[number].result() for number in (1, 3, 4)] == [0, 0, 0]

    loop(main)


def test_a_poll_while_somebody_waits_takes_nothing_from_him(loop, watch, gate):
    """Whoever sees the end first tells the others."""

    def main():
        with Popen(sh(f"read x <{gate}; exit 3"), pass_fds=[gate.reader]) as process:
            waiter = coro.spawn(process.wait)
            coro.yield_slice()
            gate.open()
            while process.poll() is None:  # without letting the waiter run
                threading.Event().wait(0.001)
            assert process.poll() == 3
            assert waiter.result() == 3

    loop(main)


def test_a_poll_after_an_interrupted_wait_gets_the_return_code(loop, watch, gate):
    """Also where a thread has taken the status from the system meanwhile."""

    def main():
        with Popen(sh(f"read x <{gate}; exit 3"), pass_fds=[gate.reader]) as process:
            with pytest.raises(TimeoutExpired, match="timed out after 0\\.002 seconds"):
                process.wait(0.002)
            gate.open()
            while process.poll() is None:
                coro.sleep_relative(0.001)
            assert process.returncode == 3

    loop(main)


@pytest.mark.parametrize("timeout", [0, -1, 0.0])
def test_a_wait_of_no_time_says_whether_it_has_ended(loop, gate, timeout):
    """TimeoutExpired while it runs, the return code afterwards."""

    def main():
        with Popen(["cat"], stdin=gate.reader, stdout=DEVNULL) as process:
            with pytest.raises(TimeoutExpired):
                process.wait(timeout)
            gate.open()
            process.wait()
            assert process.wait(timeout) == 0

    loop(main)


def test_signals_reach_the_child(loop):
    """send_signal, terminate and kill."""

    def main():
        for send, number in (
            (Popen.terminate, signal.SIGTERM),
            (Popen.kill, signal.SIGKILL),
            (lambda process: process.send_signal(signal.SIGUSR1), signal.SIGUSR1),
        ):
            with Popen(SLEEPER) as process:
                send(process)
                assert process.wait() == -number

    loop(main)


def test_a_process_id_is_not_signalled_once_the_child_has_ended(loop, monkeypatch):
    """It may belong to another process by then, whether it was waited for or is a zombie that poll() finds."""
    sent = []
    kill = os.kill

    def main():
        ended, zombie = Popen(["true"]), Popen(["true"])
        ended.wait()
        os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
        monkeypatch.setattr(os, "kill", lambda *args: sent.append(args) or kill(*args))
        for process in (ended, zombie):
            process.kill()
            process.terminate()
            process.send_signal(signal.SIGUSR1)
        assert (ended.returncode, zombie.returncode) == (0, 0)

    loop(main)

    assert sent == []


def test_a_status_that_somebody_else_has_taken_counts_as_0(loop, gate):
    """As in the standard library: os.waitpid in the program, or SIGCHLD ignored."""

    def main():
        with Popen(sh(f"read x <{gate}; exit 3"), pass_fds=[gate.reader]) as process:
            waiter = coro.spawn(process.wait)
            coro.yield_slice()
            gate.open()
            os.waitpid(process.pid, 0)  # blocks the loop, so that the waiter is not first
            assert waiter.result() == 0
        old = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        try:
            assert subprocess.run(sh("exit 3")).returncode == 0
        finally:
            signal.signal(signal.SIGCHLD, old)

    loop(main)


def test_the_programs_handler_of_sigchld_is_left_alone(loop):
    """It is called, and is still installed."""
    calls = []

    def handler(*args):
        calls.append(args)

    old = signal.signal(signal.SIGCHLD, handler)
    try:
        assert loop(subprocess.call, sh("exit 3")) == 3
        assert signal.getsignal(signal.SIGCHLD) is handler
        assert calls
    finally:
        signal.signal(signal.SIGCHLD, old)


def test_a_hundred_children_at_once(loop):
    """Each caller gets the output and the return code of its own."""

    def one(number):
        done = subprocess.run(sh(f"cat; exit {number}"), input=b"%d" % number, stdout=PIPE)
        return done.returncode, done.stdout

    def main():
        callers = [coro.spawn(one, number) for number in range(100)]
        assert [co.result() for co in callers] == [(number, b"%d" % number) for number in range(100)]

    loop(main)


# -- interrupts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["run", "call", "check_output"])
@pytest.mark.parametrize("error", [Boom, coro.Shutdown])
def test_a_command_whose_caller_is_interrupted_is_killed(loop, name, error):
    """By whatever exception; it has been waited for when the call is left."""

    def main():
        with child_that_tells_its_id() as (command, fd, read_id):
            co = coro.spawn(raised, getattr(subprocess, name), command, pass_fds=[fd])
            pid = read_id()
            assert not is_gone(pid)
            co.raise_exception(error)
            assert isinstance(co.result(), error)
            assert is_gone(pid)

    loop(main)


@pytest.mark.parametrize("name", ["run", "call", "check_output"])
@pytest.mark.parametrize("inner", [True, False])
def test_a_command_whose_time_is_over_is_killed(loop, name, inner):
    """By its own timeout, which is a TimeoutExpired, or by one around the call."""
    function = getattr(subprocess, name)

    def main():
        for timeout in (0.03, 0.3, 3, 30):
            with child_that_tells_its_id() as (command, fd, read_id):
                if inner:
                    exc = raised(function, command, pass_fds=[fd], timeout=timeout)
                    assert isinstance(exc, TimeoutExpired)
                    assert exc.timeout == timeout
                else:
                    exc = raised(coro.with_timeout, timeout, function, command, pass_fds=[fd])
                    assert isinstance(exc, coro.TimeoutError)
                with contextlib.suppress(coro.TimeoutError):  # it may have been killed before it could tell
                    assert is_gone(coro.with_timeout(0, read_id))
                    break

    loop(main)


def test_a_block_that_is_left_by_an_interrupt_kills_the_child(loop):
    """Else the end of the block would wait for a child that the interrupt was to give up; also its full pipe."""

    def wait():
        with Popen(SLEEPER) as process:
            pids.append(process.pid)
            process.wait()

    def end():
        with Popen(SLEEPER) as process:
            pids.append(process.pid)

    def write():
        with Popen(SLEEPER, stdin=PIPE) as process:
            pids.append(process.pid)
            process.stdin.write(b"x" * 1_000_000)

    def flush():
        with Popen(SLEEPER, stdin=PIPE, bufsize=1_000_000) as process:
            pids.append(process.pid)
            process.stdin.write(b"x" * 1_000_000)

    pids = []

    def main():
        for body in (wait, end, write, flush):
            with pytest.raises(coro.TimeoutError):
                coro.with_timeout(0.005, body)
            assert is_gone(pids[-1])
            co = coro.spawn(body)
            coro.yield_slice()
            co.shutdown()
            co.join()
            assert is_gone(pids[-1])

    loop(main)


def test_a_block_that_fails_waits_for_the_child(loop, gate):
    """An ordinary exception kills nobody, as in the standard library; a TimeoutExpired neither."""

    def main():
        for error in (Boom, TimeoutExpired("cmd", 1)):
            process = Popen(sh(f"read x <{gate}"), pass_fds=[gate.reader])
            co = coro.spawn(gate.write)
            with pytest.raises((Boom, TimeoutExpired)), process:
                raise error
            assert process.returncode == 0
            co.join()

    loop(main)


def test_the_end_of_the_loop_kills_those_whose_callers_are_shut_down(loop):
    """No child is left when run() has returned."""

    def main():
        for _ in range(3):
            coro.spawn(subprocess.run, SLEEPER)
        coro.yield_slice()

    loop(main)  # see no_child_left


# -- streams ---------------------------------------------------------------------------------------------------------


def test_the_pipes_are_streams_with_the_given_buffering(loop):
    """A conversation by lines: text that is line buffered, text and bytes that are flushed, bytes without a buffer."""

    def talk(flush, text, **kwargs):
        with Popen(["cat"], stdin=PIPE, stdout=PIPE, text=text, **kwargs) as process:
            assert isinstance(process.stdin, files.Stream)
            for number in range(3):
                line = f"line {number}\n" if text else b"line %d\n" % number
                process.stdin.write(line)
                if flush:
                    process.stdin.flush()
                assert process.stdout.readline() == line
            process.stdin.close()
            assert list(process.stdout) == []

    def main():
        talk(False, True, bufsize=1)
        talk(True, True)
        talk(False, True, bufsize=0)
        talk(True, False)
        talk(False, False, bufsize=0)
        talk(True, False, bufsize=4)

    loop(main)


def test_a_timeout_over_readline_loses_nothing(loop, gate):
    """Half a line that came before is returned with the rest of it."""

    def main():
        script = sh(f"printf he; read x <{gate}; echo llo")
        with Popen(script, stdout=PIPE, text=True, pass_fds=[gate.reader]) as process:
            assert process.stdout.read1(1) == "h"
            for _ in range(3):
                with pytest.raises(coro.TimeoutError):
                    coro.with_timeout(0.002, process.stdout.readline)
            gate.open()
            assert process.stdout.readline() == "ello\n"

    loop(main)


def test_the_end_of_the_block_releases_whoever_reads(loop, gate):
    """ClosedError in a coroutine that still reads a pipe when the block closes it; then the child is waited for."""

    def read(stdout):
        exc = raised(stdout.read)
        gate.open()
        return exc

    def main():
        with Popen(sh(f"read x <{gate}"), stdout=PIPE, pass_fds=[gate.reader]) as process:
            reader = coro.spawn(read, process.stdout)
            coro.yield_slice()
        assert isinstance(reader.result(), coro.ClosedError)
        assert process.returncode == 0

    loop(main)


def test_one_coroutine_may_write_to_a_child_while_another_reads(loop):
    """A megabyte through cat, by two coroutines."""
    data = os.urandom(1_000_000)

    def feed(stdin):
        with stdin:
            stdin.write(data)

    def main():
        with Popen(["cat"], stdin=PIPE, stdout=PIPE) as process:
            co = coro.spawn(feed, process.stdin)
            assert process.stdout.read() == data
            co.join()

    loop(main)


def test_a_child_gets_blocking_descriptors(loop):
    """The pipe of another child, and a socket of coro: they are made blocking, since programs cannot do otherwise."""

    def main():
        ours, its = coro.socketpair()
        with ours:
            with (
                Popen(["cat"], stdin=its, stdout=PIPE) as first,
                Popen(["cat"], stdin=first.stdout, stdout=PIPE) as second,
            ):
                assert os.get_blocking(its.fd)
                assert os.get_blocking(first.stdout.fileno())
                its.close()
                first.stdout.close()
                coro.sleep_relative(0.01)  # time for them to read from what is empty
                ours.send(b"through")
                ours.close()
                assert second.communicate() == (b"through", None)
            assert (first.returncode, second.returncode) == (0, 0)

    loop(main)


def test_a_command_that_cannot_be_started_changes_nothing(loop):
    """FileNotFoundError and the like; no descriptor is left, and one that was to be given is as it was."""

    def main():
        mine, other = coro.socketpair()
        with mine, other:
            with pytest.raises(FileNotFoundError):
                Popen(["/no/such/program"], stdin=mine, stdout=PIPE, stderr=PIPE)
            assert not os.get_blocking(mine.fd)
        with pytest.raises(PermissionError):
            Popen([os.path.dirname(__file__)], stdin=PIPE)
        with pytest.raises(TypeError):
            Popen(["true"], stdin="neither")
        with pytest.raises(OSError, match="Bad file descriptor") as info:
            Popen(["true"], stdin=10**6)
        assert info.value.errno == errno.EBADF

    loop(main)


# -- arguments -------------------------------------------------------------------------------------------------------


def test_all_arguments_keep_their_meaning(loop, tmp_path):
    """By position and by name: what the child gets is what the standard library would give it."""

    def main():
        done = subprocess.run(
            "pwd; echo $VAR; ps -o sid= -p $$ 2>/dev/null || true",
            shell=True,
            cwd=tmp_path,
            env={**os.environ, "VAR": "value"},
            start_new_session=True,
            stdout=PIPE,
            text=True,
        )
        assert done.stdout.split()[:2] == [str(tmp_path.resolve()), "value"]
        with Popen(["zero", "-c", "echo $0 >&2"], 0, "/bin/sh", None, DEVNULL, PIPE) as process:
            assert isinstance(process, standard.Popen)
            assert process.args == ["zero", "-c", "echo $0 >&2"]
            assert process.stdin is process.stdout is None
            assert process.communicate() == (None, b"zero\n")
        with open(tmp_path / "out", "wb") as file:
            assert subprocess.call(sh("echo out; echo err >&2"), stdout=file, stderr=STDOUT) == 0
        assert (tmp_path / "out").read_text() == "out\nerr\n"

    loop(main)


def test_the_names_are_those_of_the_standard_library():
    """Each of its names is there, and the exceptions are the same, so that either can be caught."""
    assert set(standard.__all__) <= set(subprocess.__all__)
    for name in ("CalledProcessError", "TimeoutExpired", "SubprocessError", "CompletedProcess", "PIPE"):
        assert getattr(subprocess, name) is getattr(standard, name)


def test_the_functions_return_and_raise_what_the_standard_library_does(loop):
    """run, call, check_call, check_output, getoutput, getstatusoutput, for a command that works and one that fails."""
    works, fails = sh("echo out; echo err >&2"), sh("echo out; echo err >&2; exit 3")

    def results(module):
        def outcome(name, *args, **kwargs):
            try:
                return getattr(module, name)(*args, **kwargs)
            except CalledProcessError as exc:
                return exc.returncode, exc.cmd, exc.output, exc.stderr

        for command in (works, fails):
            done = outcome("run", command, capture_output=True, text=True)
            yield done.args, done.returncode, done.stdout, done.stderr
            yield outcome("run", command, capture_output=True, check=True).__class__
            yield outcome("call", command, stdout=DEVNULL, stderr=DEVNULL)
            yield outcome("check_call", command, stdout=DEVNULL, stderr=DEVNULL)
            yield outcome("check_call", args=command, stdout=DEVNULL, stderr=DEVNULL)
            yield outcome("check_output", command, stderr=STDOUT)
            yield outcome("getoutput", command[2])
            yield outcome("getstatusoutput", command[2])
        yield outcome("check_output", ["cat"], input=None)
        yield outcome("check_output", ["cat"], input=None, text=True)
        yield outcome("check_output", ["cat"], input="x", encoding="utf-8")
        yield outcome("getoutput", "printf 'a\\n\\n'")

    def main():
        assert list(results(subprocess)) == list(results(standard))

    loop(main)


@pytest.mark.parametrize(
    ("kwargs", "error"),
    [
        ({"input": b"x", "stdin": -1}, ValueError),
        ({"capture_output": True, "stdout": -1}, ValueError),
        ({"capture_output": True, "stderr": -1}, ValueError),
        ({"timeout": "1"}, TypeError),
        ({"timeout": float("nan")}, ValueError),
        ({"no_such_argument": 1}, TypeError),
    ],
)
def test_arguments_that_make_no_sense_are_refused_before_anything_is_started(loop, tmp_path, kwargs, error):
    """ValueError or TypeError, and the command does not run."""
    path = tmp_path / "ran"

    def main():
        with pytest.raises(error):
            subprocess.run(["touch", str(path)], **kwargs)
        if "timeout" in kwargs:
            with pytest.raises(error):
                subprocess.call(["touch", str(path)], **kwargs)
        for name in ("stdout", "check"):
            with pytest.raises(ValueError, match=name):
                subprocess.check_output(["touch", str(path)], **{name: True})

    loop(main)

    assert not path.exists()


# -- where it can be used --------------------------------------------------------------------------------------------


def test_outside_a_coroutine_nothing_is_started(tmp_path):
    """YieldFromMain, for Popen too."""
    path = tmp_path / "ran"
    for function in (Popen, subprocess.run, subprocess.call, subprocess.check_output):
        with pytest.raises(coro.YieldFromMain):
            function(["touch", str(path)])

    assert not path.exists()


def test_a_child_may_outlive_the_loop(loop):
    """Outside it can be polled and signalled, and a later loop can wait for it; its return code is there for all."""
    process = loop(Popen, SLEEPER)
    with pytest.raises(coro.YieldFromMain):
        process.wait()
    assert process.poll() is None
    process.kill()

    assert loop(process.wait) == -9
    assert process.wait() == process.poll() == -9


def test_a_loop_in_another_thread_can_run_commands(poller):
    """It needs no signal, hence not the main thread."""
    results = []
    thread = threading.Thread(target=lambda: results.append(coro.run(subprocess.check_output, sh("echo out"))))
    thread.start()
    thread.join()

    assert results == [b"out\n"]


def test_a_lost_child_is_warned_of_and_waited_for_later(loop):
    """As in the standard library: a ResourceWarning names it, and the next Popen takes its status."""

    def main():
        held = [Popen(SLEEPER)]
        pid = held[0].pid
        with pytest.warns(ResourceWarning, match=f"subprocess {pid} is still running"):
            held.clear()
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        subprocess.run(["true"])
        with pytest.raises(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)

    loop(main)
