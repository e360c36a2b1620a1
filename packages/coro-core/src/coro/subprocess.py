"""Child processes: the standard library's `subprocess`, whose calls block the calling coroutine instead of the thread.

Stands on that module, which starts the child, on `coro.waitpid`, and on `coro.files`, whose `Stream` the pipes are.

The child is started in place.  That takes the thread about half a millisecond; another thread would not help, since the
interpreter stands still while the system copies the process.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from subprocess import DEVNULL, PIPE, STDOUT, CalledProcessError, CompletedProcess, SubprocessError, TimeoutExpired
from types import TracebackType
from typing import Any, cast

from .exceptions import Interrupted, TimeoutError
from .files import Stream, cooperative
from .groups import group
from .kernel import calling
from .locks import mutex
from .oserrors import mapped
from .processes import reap, waitpid
from .timeouts import check_seconds, with_timeout
from .verbs import descriptor_number

__all__ = [
    "DEVNULL",
    "PIPE",
    "STDOUT",
    "CalledProcessError",
    "CompletedProcess",
    "Popen",
    "SubprocessError",
    "TimeoutExpired",
    "call",
    "check_call",
    "check_output",
    "getoutput",
    "getstatusoutput",
    "run",
]


class Popen(subprocess.Popen[Any]):
    """A child process, like that of the standard library: with the same arguments, attributes, methods and exceptions.

    Args:
        args, bufsize, executable, stdin, stdout, stderr: as there, and so are all that follow.  A descriptor that is
            given to the child as its stdin, stdout or stderr is made blocking, since hardly a program can do with
            another one.  The parent shares that setting, so it should close its own: `coro.sock` objects are of no more
            use here.

    Attributes:
        stdin, stdout, stderr: with PIPE, a `coro.files.Stream` of bytes, or of text if that is asked for; else None.
        args, pid, returncode: as there.

    What differs: the calls that wait block the calling coroutine only, and as many coroutines as want to may wait for
    the end of a child.  A ``with`` block that is left by an interrupt, such as a timeout or a shutdown, or whose wait
    at the end is interrupted, kills the child, since waiting for it would defeat the interrupt.

    The handler of SIGCHLD is left alone.  If the program ignores SIGCHLD, or waits for any child by itself, the return
    code is taken for 0 when it cannot be had, as in the standard library.

    A Popen is for the coroutines of one thread.  It can be made in a coroutine only: `YieldFromMain` elsewhere;
    RuntimeError on Windows, whose pipes no poller can watch.
    """

    @mapped()
    def __init__(
        self,
        args: Any,
        bufsize: int = -1,
        executable: Any = None,
        stdin: Any = None,
        stdout: Any = None,
        stderr: Any = None,
        *more: Any,
        **kwargs: Any,
    ) -> None:
        calling()
        if sys.platform == "win32":
            raise RuntimeError("coro.subprocess needs POSIX: here use coro.to_thread(subprocess.run, ...)")
        self._ending = mutex()  # who has it waits for the end
        self._communicating = False
        self._outputs: tuple[list[bytes], list[bytes]] = [], []  # of stdout and stderr, read by communicate
        self._results: tuple[Any, Any] | None = None  # what it has returned
        given = [lent_descriptor(file) for file in (stdin, stdout, stderr)]
        changed = [fd for fd in given if fd is not None and not os.get_blocking(fd)]
        try:
            for fd in changed:
                os.set_blocking(fd, True)
            super().__init__(args, bufsize, executable, stdin, stdout, stderr, *more, **kwargs)
        except BaseException:
            for fd in changed:
                os.set_blocking(fd, False)
            raise
        for name in ("stdin", "stdout", "stderr"):
            file = getattr(self, name)
            if file is not None:
                setattr(self, name, cooperative(file, True, buffering=bufsize))

    # -- its end -----------------------------------------------------------------------------------------------------

    def poll(self) -> int | None:
        """Return the return code if the child has ended, else None.  Does not block, and may be called anywhere."""
        if self.returncode is None:
            try:
                found = reap(self.pid)
            except ChildProcessError:
                self.returncode = 0
            else:
                if found is not None:
                    self.returncode = os.waitstatus_to_exitcode(found[1])
        return cast("int | None", self.returncode)

    def wait(self, timeout: float | None = None) -> int:
        """Block until the child has ended, and return its return code: -N if signal N has killed it.

        Args:
            timeout: seconds to wait at most; None for no limit.

        Raises `TimeoutExpired` when the time is over; the child is left alone.
        """
        self._within(timeout, self._wait_for_end)
        return self.returncode

    def _wait_for_end(self) -> None:
        if self.poll() is not None:
            return
        with self._ending:
            if self.poll() is None:
                try:
                    status = waitpid(self.pid)[1]
                except ChildProcessError:
                    self.poll()  # somebody else has called it meanwhile, or waitpid(2)
                else:
                    self.returncode = os.waitstatus_to_exitcode(status)

    def _within(self, timeout: float | None, function: Callable[[], None]) -> None:
        """Call *function*, which is to take no longer than *timeout*."""
        if timeout is None:
            function()
            return
        check_seconds(timeout)
        calling()
        try:
            with_timeout(timeout, function)
        except TimeoutError as exc:
            if exc.seconds is None:  # not ours: somebody has raised it in this coroutine
                raise
            output, errors = (b"".join(parts) or None for parts in self._outputs)
            raise TimeoutExpired(self.args, timeout, output, errors) from None

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            try:
                if exc is not None and is_interrupt(exc):
                    self._give_up()
                for stream in (self.stdout, self.stderr, self.stdin):
                    if stream is not None:
                        stream.close()
            except BaseException as another:
                if is_interrupt(another):
                    self._give_up()
                raise
            finally:
                self.wait()
        except BaseException as another:
            if is_interrupt(another):
                self._give_up()
                self.wait()
            raise

    def _give_up(self) -> None:
        """Kill the child, and forget what it was still to be sent."""
        self.kill()
        if isinstance(self.stdin, Stream):
            self.stdin._unsent.clear()

    # -- talking to it -----------------------------------------------------------------------------------------------

    def communicate(self, input: Any = None, timeout: float | None = None) -> tuple[Any, Any]:  # noqa: A002
        """Send *input* to the child and close its stdin, read its stdout and stderr to their ends, wait for its own.

        Args:
            input: bytes, or a str if the pipes are of text; None for nothing.
            timeout: seconds for all of this at most; None for no limit.

        Returns a pair of what came from stdout and stderr, with None for what is no pipe.  That the child does not read
        all of its input is no error.

        Raises `TimeoutExpired` when the time is over, with the bytes that have come so far.  Whether it is that or
        another interrupt, the child is left alone, and nothing is lost: `communicate` can be called again, without
        *input*.  ValueError for an *input* in a later call, TypeError for one of the wrong type.
        """
        calling()
        if timeout is not None:
            check_seconds(timeout)
        if self._communicating and input:
            raise ValueError("the input for a child is given to the first call of communicate() only")
        if input and self.stdin is not None:
            stdin = cast("Stream", self.stdin)
            stdin._check(stdin.writable(), "write to")
            stdin._unsent += stdin._encode(input)
        self._communicating = True
        self._within(timeout, self._exchange)
        assert self._results is not None
        return self._results

    def _exchange(self) -> None:
        if self._results is not None:
            return
        streams = cast("tuple[Stream | None, ...]", (self.stdout, self.stderr))
        jobs: list[tuple[Callable[..., None], *tuple[Any, ...]]] = []
        for stream, parts in zip(streams, self._outputs, strict=True):
            if stream is not None and not stream.closed:
                jobs.append((drain, stream, parts))
        if self.stdin is not None and not self.stdin.closed:
            jobs.append((self._feed,))
        if len(jobs) == 1:
            function, *args = jobs[0]
            function(*args)
        elif jobs:
            try:
                with group() as helpers:
                    for job in jobs:
                        helpers.spawn(*job)
            except BaseExceptionGroup as failures:
                raise failures.exceptions[0] from None
        self._wait_for_end()
        output, errors = (
            None if stream is None else stream._rest(b"".join(parts))
            for stream, parts in zip(streams, self._outputs, strict=True)
        )
        self._results = output, errors

    def _feed(self) -> None:
        """Send the child what it is to get, and let it see the end of that."""
        stdin = cast("Stream", self.stdin)
        try:
            stdin.flush()
        except BrokenPipeError:  # it does not want to know
            stdin._unsent.clear()
        stdin.close()


def drain(stream: Stream, parts: list[bytes]) -> None:
    """Read *stream* to its end, and close it."""
    while data := stream._receive_bytes():
        parts.append(data)
    stream.close()


def is_interrupt(exc: BaseException) -> bool:
    """Whether *exc* is to end a coroutine, or something in it, soon: not after a child has ended by itself."""
    return isinstance(exc, Interrupted) or not isinstance(exc, Exception)


def lent_descriptor(file: Any) -> int | None:
    """Return the descriptor that a child is given in this way, None if that is none of the program's."""
    if isinstance(file, int):
        return file if file >= 0 else None
    return None if file is None else descriptor_number(file)


# -- all in one ------------------------------------------------------------------------------------------------------


def run(
    *popenargs: Any,
    input: Any = None,  # noqa: A002
    capture_output: bool = False,
    timeout: float | None = None,
    check: bool = False,
    **kwargs: Any,
) -> CompletedProcess[Any]:
    """Run a command to its end, and return a `CompletedProcess`, as `subprocess.run` does.

    Args:
        popenargs, kwargs: what `Popen` takes.
        input: what to send to its stdin, which then is a pipe.
        capture_output: whether to collect its stdout and stderr.
        timeout: seconds it may take; None for no limit.
        check: whether another return code than 0 is an error.

    Raises `CalledProcessError` for such an error, `TimeoutExpired` when the time is over, ValueError for arguments that
    contradict each other.  A child whose time is over, or whose caller is interrupted, is killed and waited for.
    """
    calling()
    if timeout is not None:
        check_seconds(timeout)
    if input is not None:
        if kwargs.get("stdin") is not None:
            raise ValueError("give either stdin or input: the input goes by a pipe")
        kwargs["stdin"] = PIPE
    if capture_output:
        if kwargs.get("stdout") is not None or kwargs.get("stderr") is not None:
            raise ValueError("give either capture_output or stdout and stderr: what is captured comes by pipes")
        kwargs["stdout"] = kwargs["stderr"] = PIPE
    with Popen(*popenargs, **kwargs) as process:
        try:
            output, errors = process.communicate(input, timeout)
        except BaseException:
            process._give_up()
            raise
    completed = CompletedProcess(process.args, process.returncode, output, errors)
    if check:
        completed.check_returncode()
    return completed


def call(*popenargs: Any, timeout: float | None = None, **kwargs: Any) -> int:
    """Run a command to its end and return its return code.

    The child is killed when the *timeout*, in seconds, is over (`TimeoutExpired`), or the wait is interrupted.
    """
    if timeout is not None:
        check_seconds(timeout)
    with Popen(*popenargs, **kwargs) as process:
        try:
            return process.wait(timeout)
        except BaseException:
            process._give_up()
            raise


def check_call(*popenargs: Any, timeout: float | None = None, **kwargs: Any) -> int:
    """Like `call`, but raise `CalledProcessError` unless the return code is 0."""
    code = call(*popenargs, timeout=timeout, **kwargs)
    if code:
        raise CalledProcessError(code, kwargs.get("args") or popenargs[0])
    return 0


def check_output(*popenargs: Any, timeout: float | None = None, **kwargs: Any) -> Any:
    """Run a command to its end and return what it has written to its stdout.  The rest is as of `run` with ``check``.

    ValueError if *kwargs* has ``stdout`` or ``check``.
    """
    for name in ("stdout", "check"):
        if name in kwargs:
            raise ValueError(f"check_output() sets {name} itself")
    if "input" in kwargs and kwargs["input"] is None:  # as of `subprocess.check_output`: nothing, not the parent's
        text = any(kwargs.get(name) for name in ("text", "universal_newlines", "encoding", "errors"))
        kwargs["input"] = "" if text else b""
    return run(*popenargs, stdout=PIPE, timeout=timeout, check=True, **kwargs).stdout


def getstatusoutput(cmd: Any, *, encoding: str | None = None, errors: str | None = None) -> tuple[int, str]:
    """Run *cmd* in a shell.  Returns its return code and, as text without the last newline, stdout and stderr."""
    done = run(cmd, shell=True, text=True, stdout=PIPE, stderr=STDOUT, encoding=encoding, errors=errors)
    return done.returncode, done.stdout.removesuffix("\n")


def getoutput(cmd: Any, *, encoding: str | None = None, errors: str | None = None) -> str:
    """Run *cmd* in a shell.  Returns its stdout and stderr as text without the last newline."""
    return getstatusoutput(cmd, encoding=encoding, errors=errors)[1]
