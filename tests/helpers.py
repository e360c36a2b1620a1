"""What several files of the suite have in common: coroutines that block or fail, sockets that are full or reset, forks.

Fixtures are in conftest.py, `socket_fixtures` and `tls_fixtures`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import textwrap
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

import pytest

import coro
from coro.kernel import this_kernel
from coro.sockets import SO, SOL, sock

# -- where a test can run --------------------------------------------------------------------------------------------


def can_bind_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


posix = pytest.mark.skipif(
    sys.platform == "win32", reason="Windows has neither pipes to wait for nor AF_UNIX in Python"
)
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has the feature that is tested here")
ipv6 = pytest.mark.skipif(not can_bind_ipv6(), reason="this machine has no IPv6: nothing can be bound to ::1")
forking = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork(2)"),
    # from Python 3.12 on os.fork() says so whenever there is a second thread, which some tests are about
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


# -- coroutines ------------------------------------------------------------------------------------------------------


class Boom(Exception):
    pass


class Bang(Exception):
    pass


def fail(exc: type[BaseException] = Boom) -> NoReturn:
    raise exc


def fails(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Exception:
    """Return what fn raises."""
    try:
        fn(*args, **kwargs)
    except Exception as exc:
        return exc
    return pytest.fail("nothing was raised")


def settle() -> None:
    """Let all that is ready run, and whatever that makes ready."""
    coro.yield_slice()


def parked(fn: Callable[..., Any], *args: Any) -> coro.coro:
    """A coroutine that has called fn and is blocked in it."""
    co = coro.spawn(fn, *args)
    coro.yield_slice()
    assert co.started
    assert not co.dead
    return co


def forever(log: list[tuple[str, type[BaseException]]], name: str = "child") -> None:
    """Wait until something is raised here, and say what it was."""
    try:
        coro.suspend()
    except BaseException as exc:
        log.append((name, type(exc)))
        raise


# -- sockets ---------------------------------------------------------------------------------------------------------


def fill(s: Any) -> int:
    """Send until nothing more fits, and return how much that was."""
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            sent += s._socket.send(b"x" * 65536)
    return sent


def drain(s: sock, size: int) -> None:
    while size:
        size -= len(s.recv(min(size, 65536)))


def reset(s: sock) -> None:
    """Close *s* so that its peer gets a RST."""
    s.setsockopt(SOL.SOCKET, SO.LINGER, struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0))
    s.close()


class CountedIO:
    """Takes the place of what a socket reads from and writes to, and counts the calls."""

    def __init__(self, io: Any) -> None:
        self.recv = Counted(io.recv)
        self.send = Counted(io.send)


class Counted:
    """Counts the calls of a function and those that failed with EAGAIN."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn
        self.calls = self.failures = 0

    def __call__(self, *args: Any) -> Any:
        self.calls += 1
        try:
            return self.fn(*args)
        except BlockingIOError:
            self.failures += 1
            raise


def tcp_pair() -> tuple[sock, sock]:
    """Two sockets that are connected by TCP."""
    with coro.create_server(("127.0.0.1", 0)) as listener:
        child = coro.spawn(listener.accept)
        client = coro.create_connection(listener.getsockname())
        return client, child.result()[0]


def read_all(tls: coro.tls_sock) -> bytes:
    """What comes before the end of the stream."""
    parts = []
    while data := tls.recv(100_000):
        parts.append(data)
    return b"".join(parts)


def some_bytes(size: int, seed: bytes = b"") -> bytes:
    block = hashlib.sha512(seed).digest() * 1021  # coprime with the size of a record
    return (block * (size // len(block) + 1))[:size]


# -- processes -------------------------------------------------------------------------------------------------------


def forked(body: Callable[[], Any], fork: Callable[[], int] = coro.fork, block: bool = False) -> Any:
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


def script(poller: str, text: str) -> list[str]:
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


def free_port() -> int:
    """A port where nobody listens, and that nobody gets by chance: below those that systems hand out by themselves."""
    for port in range(20_000 + os.getpid() % 10_000, 32_000):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise RuntimeError("all ports that were tried are taken")
