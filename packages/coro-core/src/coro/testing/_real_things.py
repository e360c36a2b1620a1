"""What the conformance kit needs of the real world: looks at a poller, sockets, descriptors, signals and processes.

Stands on pytest (to skip) and the contract.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, Final

import pytest

from coro.poller import ERROR, HANGUP, READ, READ_HANGUP, WRITE, Poller

KNOWN: Final = READ | WRITE | ERROR | HANGUP | READ_HANGUP
MOMENT: Final = 0.01  # seconds for which a descriptor that must stay silent is watched
CROWD: Final = 1100  # descriptors: more than the 1,024 of an fd_set, and than the 1,023 of one epoll.poll

# --------------------------------------------------------------------------------------------------- looks at a poller


def events(poller: Poller, timeout: float | None) -> list[tuple[int, int]]:
    """Return the events of one wait, having checked that each has the form that the contract asks for."""
    found = list(poller.wait(timeout))
    for event in found:
        fd, mask = event
        assert mask & KNOWN, f"event {event} wakes nobody: it has none of the bits of the contract"
        assert not mask & ~KNOWN, f"event {event} of descriptor {fd} has bits that the contract does not know"
    return found


def reports(poller: Poller, fd: int) -> list[int]:
    """Return what is reported of *fd* within a moment, one mask for each time."""
    found: list[int] = []
    end = time.monotonic() + MOMENT
    while (left := end - time.monotonic()) > 0:
        found += [mask for number, mask in events(poller, left) if number == fd]
    return found


def duration(poller: Poller, timeout: float) -> float:
    """Return for how long a wait with nothing to report lasted."""
    begin = time.monotonic()
    found = events(poller, timeout)
    end = time.monotonic()
    assert found == []
    return end - begin


@contextmanager
def process_fd(poller: Poller, pid: int) -> Iterator[int]:
    """Ask for the descriptor of a process and close it; skip the test where the platform has no such thing."""
    try:
        fd = poller.process_fd(pid)
    except ProcessLookupError:
        raise
    except (NotImplementedError, OSError) as error:
        pytest.skip(f"no descriptors of processes here: {error}")
    with closing_fd(fd):
        yield fd


@contextmanager
def closing_fd(fd: int) -> Iterator[int]:
    """Close the descriptor afterwards."""
    try:
        yield fd
    finally:
        os.close(fd)


# --------------------------------------------------------------------------------------------- sockets and descriptors


def fill(sock: socket.socket) -> None:
    """Send until the socket is not writable."""
    pause = 0 if sock.family == getattr(socket, "AF_UNIX", None) else MOMENT  # TCP goes on moving data to the peer
    while select.select([], [sock], [], pause)[1]:
        with suppress(BlockingIOError):
            while sock.send(bytes(65536)):
                pass


def drain(sock: socket.socket) -> None:
    """Receive until nothing is left."""
    with suppress(BlockingIOError):
        while sock.recv(1 << 20):
            pass


def wait_until_readable(sock: socket.socket) -> None:
    """Wait until what was sent has arrived, which takes a moment where a pair of sockets is made of TCP."""
    assert select.select([sock], [], [], 10)[0]


@contextmanager
def crowd(pairs: Callable[[], tuple[socket.socket, socket.socket]]) -> Iterator[list[socket.socket]]:
    """Give `CROWD` connected sockets, or as many as the system allows."""
    sockets: list[socket.socket] = []
    with room_for(CROWD + 200):
        with suppress(OSError):
            while len(sockets) < CROWD:
                sockets += pairs()
        yield sockets


@contextmanager
def room_for(descriptors: int) -> Iterator[None]:
    """Raise the soft limit of descriptors meanwhile, as far as that is necessary and allowed."""
    try:
        import resource
    except ImportError:  # Windows, which has no such limit
        yield
        return
    limits = soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = descriptors if hard == resource.RLIM_INFINITY else min(descriptors, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@contextmanager
def renumbered(file: socket.socket | IO[bytes], fd: int) -> Iterator[None]:
    """Let the free number *fd* mean *file* meanwhile, as if it had just been opened."""
    if sys.platform == "win32":
        pytest.skip("on Windows the number of a socket cannot be chosen")
    with closing_fd(os.dup2(file.fileno(), fd, inheritable=False)):
        yield


def open_descriptors() -> set[int]:
    """Return the descriptors that are open; new ones get the lowest free numbers, so it is enough to look at those."""
    found = set()
    for fd in range(1024):
        with suppress(OSError):
            os.fstat(fd)
            found.add(fd)
    return found


# ------------------------------------------------------------------------------------- threads, signals and processes


@contextmanager
def later(action: Callable[[], object]) -> Iterator[None]:
    """Call *action* in another thread in a moment, while the block runs; the thread has ended when the block has."""
    timer = threading.Timer(MOMENT, action)
    timer.start()
    try:
        yield
    finally:
        timer.join()


def signal_main_thread() -> None:
    """Interrupt the main thread, where the poller waits, with ``SIGUSR1``."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)


@contextmanager
def handling(handler: Callable[..., object]) -> Iterator[None]:
    """Let *handler* handle ``SIGUSR1`` meanwhile."""
    previous = signal.signal(signal.SIGUSR1, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, previous)


@contextmanager
def forked(work: Callable[[], object]) -> Iterator[int]:
    """Run *work* in a forked child whose pid is given; whatever happens, the child is gone afterwards."""
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # of Python 3.12 and newer, if a plugin of pytest has threads
        pid = os.fork()
    if not pid:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(code)
    try:
        yield pid
    finally:
        with suppress(ChildProcessError):  # reaped already; then its number may belong to somebody else
            if os.waitpid(pid, os.WNOHANG)[0] == 0:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def exit_code(pid: int) -> int:
    """Wait for the child *pid* and return its exit code."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def wait_until_zombie(pid: int) -> None:
    """Wait until the child *pid* has ended, without reaping it."""
    if hasattr(os, "waitid"):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    else:
        time.sleep(5 * MOMENT)  # macOS before Python 3.13: nothing tells it
