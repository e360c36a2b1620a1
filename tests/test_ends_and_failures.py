"""What holds when something ends or fails in the midst: TLS, names, signals, pools, what threads report."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import coro
from coro import names, signal_handler, threads
from coro import tls as tls_module
from coro.kernel import this_kernel
from coro.names import get_resolver, set_resolver
from coro.sockets import SHUT

from .helpers import fail, fails, ipv6, parked, posix, read_all, settle
from .tls_fixtures import (  # noqa: F401
    ca_fixture,
    client_context_fixture,
    connection_fixture,
    server_context_fixture,
    version_fixture,
)

FOR_EVER = 20  # seconds: only a test that fails waits so long


def bottom(level=0):
    """Return how many frames of this kind the stack has room for."""
    try:
        return bottom(level + 1)
    except RecursionError:
        return level


def dig(levels):
    return dig(levels - 1) if levels else coro.sleep_relative(0.004)


def digger(room):
    """Sleep, and poll, in a stack that is full but for *room* frames."""
    with contextlib.suppress(RecursionError):
        dig(bottom() - room)


@contextlib.contextmanager
def no_garbage() -> Iterator[None]:
    """After the block the collector finds nothing: all was freed at once."""
    gc.collect()
    gc.disable()
    try:
        yield
        assert gc.collect() == 0
    finally:
        gc.enable()


@pytest.fixture
def resolver() -> Iterator[Callable[[Any], Any]]:
    """Sets a resolver for this test."""
    old = get_resolver()
    yield set_resolver
    set_resolver(old)


# -- TLS -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["the connection", "the file"])
def test_what_was_written_to_a_file_arrives_whatever_is_closed_first(loop, connection, monkeypatch, first):
    """To close a file waits until all that was written has left, however long the other end takes to read it."""
    monkeypatch.setattr(tls_module, "CLOSE_TIMEOUT", 0.0)

    def main():
        with connection(small=True) as (a, b):
            file = a.makefile("wb")

            def write():
                file.write(bytes(60_000))
                if first == "the connection":
                    a.close()
                file.close()
                gone.append(True)

            gone: list[bool] = []
            writing = parked(write)
            coro.sleep_relative(0.005)
            assert not gone
            received = 0
            while received < 60_000:
                received += len(b.recv(1000))
            writing.join()

    loop(main)


def test_after_a_fatal_alert_reading_never_ends_as_if_all_had_come(loop, connection, version):
    """Whoever reads again after an error gets an error again, not the end of the stream."""

    def main():
        with connection() as (a, b):
            a._sock.send(b"\x17\x03\x03\x00\x20" + bytes(32))  # a forged record
            assert isinstance(fails(b.recv, 10), OSError)
            assert isinstance(fails(b.recv, 10), OSError)
            for _ in range(3):
                assert isinstance(fails(a.recv, 10), OSError)

    loop(main)


def test_the_end_of_the_stream_can_be_read_again_and_again(loop, connection, version):
    """After close_notify each recv is empty at once, though the socket below is still open."""

    def main():
        with connection() as (a, b):
            a.send(b"last")
            a.shutdown(SHUT.WR)
            assert b.recv(2) == b"la"
            assert read_all(b) == b"st"
            with coro.timeout(FOR_EVER):
                assert b.recv(10) == b""
                assert b.recv_into(bytearray(10)) == 0

    loop(main)


def test_a_buffer_that_is_read_only_is_refused_before_anything_is_taken(loop, connection):
    """What shutdown() has decrypted is still there after the TypeError."""

    def main():
        with connection() as (a, b):
            a.send(b"hello")
            b._feed(b._fed)
            b.shutdown(SHUT.WR)
            assert isinstance(fails(b.recv_into, b"read only"), TypeError)
            assert b.recv(10) == b"hello"

    loop(main)


@pytest.mark.parametrize("bufsize", [0, 100])
def test_a_file_that_is_closed_neither_reads_nor_writes(loop, connection, bufsize):
    """It raises ValueError as any file does, also where the connection goes on."""

    def main():
        with connection() as (a, b):
            for end in (a._sock, a):
                for mode, call in (("rb", lambda file: file.read(1)), ("wb", lambda file: file.write(b"x"))):
                    file = end.makefile(mode, bufsize)
                    file.close()
                    assert isinstance(fails(call, file), ValueError)
            a.send(b"still in use")
            assert b.recv(100) == b"still in use"

    loop(main)


# -- names and connecting --------------------------------------------------------------------------------------------

HANGING = """
import os, threading
import coro
from coro import names

def hang(*args):
    begun.set()
    threading.Event().wait()

begun = threading.Event()
names.system_getaddrinfo = hang

def main():
    co = coro.spawn(coro.getaddrinfo, "hangs.example", 80)
    coro.to_thread(begun.wait)

coro.run(main)
print("over")
"""


def test_a_look_up_that_hangs_does_not_hold_up_the_exit(poller):
    """The process ends while a thread of the resolver is still at work."""
    done = subprocess.run([sys.executable, "-c", HANGING], capture_output=True, text=True, timeout=FOR_EVER)
    assert (done.returncode, done.stdout, done.stderr) == (0, "over\n", "")


def test_a_daemon_pool_reuses_its_threads(loop, poller):
    """One call after the other is made by one thread, calls at the same time by as many as the limit allows."""
    name = f"threads of the test over {poller}"  # they stay
    pool = threads.DaemonPool(name, 2)

    def call(*args):
        future = pool.submit(*args)
        threads.block_until_done(future)
        return future.result()

    def main():
        assert {call(threading.get_ident) for _ in range(5)} == {call(threading.get_ident)}
        gate = threading.Event()
        meet = threading.Barrier(2)
        futures = [pool.submit(lambda: (meet.wait(FOR_EVER), gate.wait(FOR_EVER))) for _ in range(2)]
        late = pool.submit(threading.get_ident)
        assert sum(thread.name == name for thread in threading.enumerate()) == 2
        assert not late.done()
        gate.set()
        threads.block_until_done(late)
        assert all(future.result() for future in futures)

    loop(main)


def test_a_daemon_pool_that_gets_no_thread_says_so_and_keeps_nothing(loop, monkeypatch):
    """Without any thread the call is refused and is never made; with one it waits for that."""
    pool = threads.DaemonPool("threads of another test", 2)
    made = []

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    def main():
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(RuntimeError):
                pool.submit(made.append, 1)
        threads.block_until_done(pool.submit(made.append, 2))
        gate = threading.Event()
        pool.submit(gate.wait, FOR_EVER)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            future = pool.submit(made.append, 3)
        gate.set()
        threads.block_until_done(future)
        assert made == [2, 3]

    loop(main)


def test_a_failed_look_up_leaves_no_garbage(loop, monkeypatch):
    """The error of a look-up is freed with its last holder."""

    def unknown(*args):
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(names, "system_getaddrinfo", unknown)

    def main():
        fails(coro.getaddrinfo, "unknown.example", 80)
        with no_garbage():
            fails(coro.getaddrinfo, "unknown.example", 80)

    loop(main)


class Both:
    def resolve_ipv4(self, name):
        return "127.0.0.1"

    def resolve_ipv6(self, name):
        return "::1"


@ipv6
@pytest.mark.parametrize("refused", [False, True])
def test_attempts_that_fail_leave_no_garbage(loop, resolver, refused):
    """The errors of the addresses that were tried are freed with the error that names them, or at once."""
    resolver(Both())

    def main():
        with coro.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            if refused:
                listener.close()

            def connect():
                with contextlib.suppress(OSError):
                    coro.create_connection(("both.example", port)).close()

            connect()
            settle()
            with no_garbage():
                connect()
                settle()

    loop(main)


def test_a_resolver_that_finds_nothing_is_a_gaierror(loop, resolver):
    """An empty list from its getaddrinfo is an unknown name to all who asked for an address."""

    class Empty(Both):
        def getaddrinfo(self, *args):
            return []

    resolver(Empty())

    def main():
        with coro.tcp_sock() as s:
            for call in (coro.getaddrinfo, lambda *address: coro.create_connection(address)):
                assert isinstance(fails(call, "empty.example", 80), socket.gaierror)
            assert isinstance(fails(s.connect, ("empty.example", 80)), socket.gaierror)

    loop(main)


def test_an_ipv4_address_with_a_scope_is_a_name(loop, monkeypatch):
    """There is no such address, so the C library would look it up while the whole loop waits: a thread does."""
    asked = []
    real = names.system_getaddrinfo

    def system(host, *args):
        asked.append((host, threading.current_thread() is threading.main_thread()))
        return real("127.0.0.1", *args)

    monkeypatch.setattr(names, "system_getaddrinfo", system)

    def main():
        with coro.create_server(("127.0.0.1", 0)) as listener, coro.tcp_sock() as s:
            s.connect(("127.0.0.1%scope", listener.getsockname()[1]))

    loop(main)
    assert asked == [("127.0.0.1%scope", False)]


# -- signals ---------------------------------------------------------------------------------------------------------


@posix
def test_a_loop_that_could_not_begin_leaves_nothing_to_wait_for(poller, failures):
    """What was registered for it does not hide a deadlock of the next loop."""
    signal_handler.register(signal.SIGUSR1, lambda signum: None)
    try:
        with pytest.raises(coro.NoPollerError):
            coro.event_loop(poller="there is none")
        assert this_kernel().externals == 0
    finally:
        signal_handler.unregister(signal.SIGUSR1)
        this_kernel().externals = 0
    with pytest.raises(coro.DeadlockError):
        coro.run(coro.suspend)


class Arrived(deque[int]):
    """Remembers the signals that have reached coro."""

    def __init__(self):
        self.count = 0

    def append(self, signum):
        super().append(signum)
        self.count += 1


@posix
@pytest.mark.parametrize("once_only", [False, True])
def test_a_signal_that_meets_a_full_stack_is_served_all_the_same(loop, monkeypatch, once_only):
    """Whoever polls may have filled its stack: then the signal is served from another one, and once."""
    arrived = Arrived()
    monkeypatch.setattr(signal_handler, "_arrived", arrived)
    served = []

    def main():
        for room in range(5, 30):
            signal_handler.register(signal.SIGUSR1, served.append, once_only)
            co = coro.spawn(digger, room)
            killer = threading.Timer(0.001, os.kill, (os.getpid(), signal.SIGUSR1))
            killer.start()
            co.join()
            killer.join()
            with coro.timeout(FOR_EVER):
                while len(served) < arrived.count:
                    coro.sleep_relative(0.001)
            signal_handler.unregister(signal.SIGUSR1)
        assert len(served) == arrived.count >= 20

    loop(main)


# -- groups ----------------------------------------------------------------------------------------------------------


def test_a_failure_in_a_pool_leaves_no_garbage(loop):
    """What map and imap_unordered raise is freed with its last holder."""

    def calls():
        for call in (
            lambda: coro.Pool(2).map(fail, [ValueError]),
            lambda: list(coro.Pool(2).imap_unordered(fail, [ValueError])),
        ):
            fails(call)

    def main():
        calls()
        with no_garbage():
            calls()

    loop(main)


# -- threads -----------------------------------------------------------------------------------------------------------


def test_a_thread_that_reports_to_a_full_stack_is_heard_all_the_same(loop):
    """Whoever polls may have filled its stack: then what a thread has left for the loop is done in another one."""

    def main():
        for room in range(5, 30):
            gate = threading.Event()
            asking = coro.spawn(coro.to_thread, gate.wait, FOR_EVER)
            digging = coro.spawn(digger, room)
            opener = threading.Timer(0.001, gate.set)
            opener.start()
            with coro.timeout(FOR_EVER):
                asking.join()
            digging.join()
            opener.join()

    loop(main)
