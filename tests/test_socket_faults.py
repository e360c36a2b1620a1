"""What the network, the system and careless callers do to a socket: resets, slow peers, no room, signals.

The faults are real ones: a reset is sent by SO_LINGER with 0 seconds, a limit is one of setrlimit(2).
"""

from __future__ import annotations

import contextlib
import errno
import io
import itertools
import os
import signal
import socket
import subprocess
import sys

import pytest

import coro
from coro.connect import create_connection, create_server, socketpair, tcp_sock, udp_sock, unix_sock
from coro.kernel import this_kernel
from coro.sockets import AF, SHUT, SO, SOCK, SOL, fd_sock, get_live_sockets, sock

from .helpers import fill, parked, reset

FOR_EVER = 20  # seconds: only a test that fails waits so long
posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such pipes, signals or limits")
linux = pytest.mark.skipif(sys.platform != "linux", reason="what the system does here is known of Linux only")
RESET = (
    ConnectionResetError,
    ConnectionAbortedError,
    BrokenPipeError,
)  # which one depends on the moment


@contextlib.contextmanager
def connection():
    """Two ends of a TCP connection, and nothing may take for ever in the block."""
    with create_server(("127.0.0.1", 0)) as listener:
        client = create_connection(listener.getsockname())
        server, _ = listener.accept()
    with client, server, coro.timeout(FOR_EVER):
        yield client, server


def clean():
    """Nothing waits for a descriptor, but for those that this coroutine knows of."""
    kernel = this_kernel()
    assert all(entry.reader is None and entry.writer is None for entry in kernel.fds.values())


# -- resets ----------------------------------------------------------------------------------------------------------

READS = {
    "recv": lambda s: s.recv(10),
    "recv much": lambda s: s.recv(2**31),
    "recv with flags": lambda s: s.recv(10, socket.MSG_PEEK),
    "recv_into": lambda s: s.recv_into(bytearray(10)),
    "recvfrom": lambda s: s.recvfrom(10),
    "recvfrom_into": lambda s: s.recvfrom_into(bytearray(10)),
    "recv_exact": lambda s: s.recv_exact(10),
    "readv": lambda s: s.readv([5, 5]),
    "makefile": lambda s: read_line(s),
}
if hasattr(socket.socket, "recvmsg"):
    READS["recvmsg"] = lambda s: s.recvmsg(10)
    READS["recvmsg_into"] = lambda s: s.recvmsg_into([bytearray(10)])


def read_line(s):
    with s.makefile("rb") as file:
        return file.readline()


@pytest.mark.parametrize("read", READS.values(), ids=READS)
@pytest.mark.parametrize("when", ["before", "meanwhile", "in the middle"])
def test_a_reset_is_raised_by_every_read(loop, read, when):
    """Whether it waits already or not, and also where a part has come; after it the stream is at its end."""

    def main():
        with connection() as (client, server):
            if when == "before":
                reset(server)
                server = client  # nothing more to close
                client.wait_for_read()
                with pytest.raises(RESET):
                    read(client)
            else:
                child = parked(read, client)
                if when == "in the middle" and read in (READS["recv_exact"], READS["readv"], READS["makefile"]):
                    server.send(b"abc")
                    coro.yield_slice()
                    assert not child.dead
                reset(server)
                with pytest.raises(RESET):
                    child.result()
            assert client.recv(10) == b""
            with pytest.raises(RESET):
                client.send(b"x")
            clean()

    loop(main)


WRITES = {
    "send": lambda s: s.send(b"x" * 2**24),
    "sendall": lambda s: s.sendall(memoryview(b"x" * 2**24)),
    "writev": lambda s: s.writev([b"x" * 2**20] * 16),
    "sendfile": lambda s: s.sendfile(io.BytesIO(b"x" * 2**24)),
    "makefile": lambda s: write_all(s),
}
if hasattr(socket.socket, "sendmsg"):
    WRITES["sendmsg"] = lambda s: s.sendmsg([b"x" * 2**20] * 16)


def write_all(s):
    file = s.makefile("wb")
    try:
        file.write(b"x" * 2**24)  # more than its buffer holds
    finally:
        file.raw.close()  # a flush would go on where this was interrupted


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_reset_is_raised_by_every_write(loop, write, when):
    """At the beginning and in the midst of what does not fit at once; the reader's side learns of it too."""

    def main():
        with connection() as (client, server):
            if when == "before":
                reset(server)
                client.wait_for_read()
                with pytest.raises(RESET):
                    write(client)
            else:
                child = parked(write, client)
                server.recv_exact(1000)
                reset(server)
                with pytest.raises(RESET):
                    child.result()
            with contextlib.suppress(ConnectionResetError):
                assert client.recv(10) == b""
            clean()

    loop(main)


def test_a_reset_wakes_both_directions(loop):
    """The reader and the writer that wait both go on."""

    def main():
        with connection() as (client, server):
            fill(client)
            outcomes = []

            def attempt(call, *args):
                try:
                    outcomes.append(call(*args))
                except RESET:
                    outcomes.append("reset")

            children = [parked(attempt, client.recv, 10), parked(attempt, client.send, b"x")]
            reset(server)
            for co in children:
                co.join()
            assert set(outcomes) <= {b"", "reset"}  # whoever comes first takes the error away from the other
            assert outcomes != [b"", b""]
            clean()

    loop(main)


def test_a_reset_in_the_backlog_does_not_end_the_server(loop):
    """accept leaves it out or returns a socket whose use tells; the next client is served."""

    def main():
        with create_server(("127.0.0.1", 0)) as listener, coro.timeout(FOR_EVER):
            reset(create_connection(listener.getsockname()))
            client = create_connection(listener.getsockname())
            with client:
                served = []
                while not served:
                    server, address = listener.accept()
                    with server:
                        if address == client.getsockname():
                            served.append(server.send(b"x"))
                        else:
                            with pytest.raises(RESET):
                                server.recv(10)
                assert client.recv(5) == b"x"
            for _ in range(3):
                reset(create_connection(listener.getsockname()))
            client = create_connection(listener.getsockname())
            with client:
                peers = []
                while client.getsockname() not in peers:
                    for server, address in listener.accept_many():
                        peers.append(address)
                        server.close()

    loop(main)


@linux
def test_a_connect_that_is_reset_raises(loop):
    """A listener that goes away while the connection waits in its backlog resets it: nothing hangs."""

    def main():
        with create_server(("127.0.0.1", 0)) as listener, tcp_sock() as client, coro.timeout(FOR_EVER):
            address = listener.getsockname()
            client.connect(address)
            listener.close()
            with pytest.raises(RESET):
                client.recv(10)
            with tcp_sock() as late, pytest.raises(ConnectionRefusedError):
                late.connect(address)

    loop(main)


# -- half-closed peers -----------------------------------------------------------------------------------------------


def test_a_half_closed_connection_works_in_the_other_direction(loop):
    """After the peer's SHUT_WR there is an end to read, and it may be written to for as long as one likes."""

    def main():
        with connection() as (client, server):
            reader = parked(client.recv, 10)
            server.shutdown(SHUT.WR)
            assert reader.result() == b""
            for number in range(20):
                client.send(b"%d" % (number % 10))
                assert server.recv_exact(1) == b"%d" % (number % 10)
                assert client.recv(10) == b""
            data = os.urandom(2**20)
            writer = coro.spawn(client.send, data)
            assert server.recv_exact(len(data)) == data
            assert writer.result() == len(data)

    loop(main)


def test_ones_own_half_close_is_met_by_ones_own_calls(loop):
    """A write after SHUT_WR is EPIPE; a reader that waits sees the end at SHUT_RD."""

    def main():
        with connection() as (client, server):
            client.shutdown(SHUT.WR)
            with pytest.raises(BrokenPipeError):
                client.send(b"x")
            assert server.recv(5) == b""
            server.send(b"still")
            assert client.recv(10) == b"still"
            reader = parked(client.recv, 10)
            client.shutdown(SHUT.RD)
            assert reader.result() == b""

    loop(main)


def test_a_peer_that_closes_in_the_midst_of_a_message(loop):
    """recv_exact has an EOFError with what there was; readv has the pieces."""

    def main():
        with connection() as (client, server):
            child = parked(client.recv_exact, 10)
            server.send(b"abc")
            server.shutdown(SHUT.WR)
            with pytest.raises(EOFError) as caught:
                child.result()
            assert caught.value.args == (b"abc",)
            assert client.readv([1, 2]) == ()

    loop(main)


# -- slow peers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("read", [READS["recv_exact"], READS["readv"], READS["makefile"]], ids=["exact", "v", "line"])
def test_a_byte_now_and_then_does_not_postpone_a_timeout(loop, read):
    """The deadline is that of the whole call; the connection can be used after it."""

    def main():
        with connection() as (client, server):

            def drip():
                for _ in range(8):
                    server.send(b"x")
                    coro.sleep_relative(0.02)

            child = coro.spawn(drip)
            with pytest.raises(coro.TimeoutError):
                coro.with_timeout(0.05, read, client)
            assert not child.dead
            child.shutdown()
            child.join()
            server.send(b"END")
            while b"END" not in client.recv(100):
                pass
            clean()

    loop(main)


@pytest.mark.parametrize("call", [*READS.values(), sock.wait_for_read], ids=[*READS, "wait_for_read"])
def test_a_peer_that_says_nothing_at_all_is_timed_out(loop, call):
    """Every read, and what comes later is there for the next one."""

    def main():
        with connection() as (client, server):
            with pytest.raises(coro.TimeoutError):
                coro.with_timeout(0.002, call, client)
            server.send(b"late")
            assert client.recv_exact(4) == b"late"
            clean()

    loop(main)


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_peer_that_reads_nothing_is_timed_out(loop, write):
    """Every write; the reader then finds what has gone."""

    def main():
        with connection() as (client, server):
            with pytest.raises(coro.TimeoutError):
                coro.with_timeout(0.02, write, client)
            clean()
            assert server.recv(10) == b"x" * 10

    loop(main)


def test_a_listener_whom_nobody_calls_is_timed_out(loop):
    """accept, accept_many; a client that comes later is accepted."""

    def main():
        with create_server(("127.0.0.1", 0)) as listener:
            for call in (listener.accept, listener.accept_many):
                with pytest.raises(coro.TimeoutError):
                    coro.with_timeout(0.002, call)
            with create_connection(listener.getsockname()), listener.accept()[0]:
                clean()

    loop(main)


# -- no room ---------------------------------------------------------------------------------------------------------


def test_tiny_buffers_lose_nothing(loop):
    """The smallest that the system gives, both ways at once."""

    def main():
        data = os.urandom(300_000)
        with create_server(("127.0.0.1", 0)) as listener, tcp_sock() as client, coro.timeout(FOR_EVER):
            for s in (listener, client):
                s.setsockopt(SOL.SOCKET, SO.SNDBUF, 1)
                s.setsockopt(SOL.SOCKET, SO.RCVBUF, 4096)
            client.connect(listener.getsockname())
            with listener.accept()[0] as server:
                writers = [coro.spawn(s.send, data) for s in (client, server)]
                readers = [coro.spawn(s.recv_exact, len(data)) for s in (client, server)]
                assert [co.result() for co in readers] == [data, data]
                assert [co.result() for co in writers] == [len(data)] * 2

    loop(main)


@posix
def test_a_datagram_that_is_too_long_is_an_error_of_the_system(loop):
    """EMSGSIZE, at once; the socket goes on."""

    def main():
        a, b = socketpair(AF.UNIX, SOCK.DGRAM)
        with a, b, udp_sock() as u:
            a.setsockopt(SOL.SOCKET, SO.SNDBUF, 4096)
            for call in (lambda: a.send(b"x" * 10**6), lambda: u.sendto(b"x" * 70_000, ("127.0.0.1", 9))):
                with pytest.raises(OSError, match=os.strerror(errno.EMSGSIZE)):
                    call()
            a.send(b"y")
            assert b.recv(10) == b"y"

    loop(main)


@linux
def test_enobufs_is_an_oserror(loop):
    """One multicast group too many; the socket goes on."""

    def main():
        with udp_sock() as s:
            s.bind(("127.0.0.1", 0))

            def join():
                for number in range(1, 250):
                    group = socket.inet_aton(f"239.1.1.{number}") + socket.inet_aton("127.0.0.1")
                    s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
                pytest.skip(
                    "this system lets a socket join 249 multicast groups, so the error for too many cannot be had"
                )

            with pytest.raises(OSError, match=os.strerror(errno.ENOBUFS)) as caught:
                join()
            assert caught.value.errno == errno.ENOBUFS
            s.sendto(b"x", s.getsockname())
            assert s.recv(5) == b"x"

    loop(main)


def run_script(poller, script):
    """Run *script* in an interpreter of its own and return what it prints."""
    head = "import coro, errno, os, resource, socket, sys\nfrom coro.connect import *\nfrom coro.sockets import *\n"
    head += "coro.set_latency_warning(0)\n"  # it writes to stderr when the machine is busy
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", head + script],
        env={**os.environ, "CORO_POLLER": poller},
        capture_output=True,
        text=True,
        timeout=2 * FOR_EVER,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@posix
def test_without_a_free_descriptor_everything_raises_emfile_and_leaks_nothing(poller):
    """Whatever makes a descriptor; once there is room again, all of it works."""
    script = """
def main():
    live = get_live_sockets()
    listener = create_server(("127.0.0.1", 0))
    address = listener.getsockname()
    a, b = socketpair()
    client = socket.create_connection(address)  # waits in the backlog
    tcp_sock().close()
    listener.wait_for_read()
    calls = {
        "sock": tcp_sock, "udp_sock": udp_sock, "make_socket": lambda: make_socket(AF.INET, SOCK.STREAM),
        "socketpair": socketpair, "create_server": lambda: create_server(("127.0.0.1", 0)),
        "create_connection": lambda: create_connection(address), "dup": a.dup, "makefile": a.makefile,
        "accept": listener.accept, "accept_many": listener.accept_many, "has_ipv6": has_ipv6,
    }
    taken = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    try:
        while True:
            taken.append(os.dup(0))
    except OSError:
        pass
    for free in (0, 1):  # one is enough for all but a pair
        if free:
            os.close(taken.pop())
        for name, call in calls.items():
            if free and name != "socketpair":
                continue
            for _ in range(5):
                try:
                    print(name, call())
                except OSError as exc:
                    assert exc.errno == errno.EMFILE, (name, exc)
                    assert isinstance(exc, coro.oserrors.EMFILE), (name, exc)
    b.send(b"x")  # those that are open work
    assert a.recv(1) == b"x"
    assert get_live_sockets() == live + 3
    for fd in taken:
        os.close(fd)
    del calls["has_ipv6"]
    def close(made):
        for each in made if isinstance(made, (list, tuple)) else [made]:
            close(each) if isinstance(each, (list, tuple)) else getattr(each, "close", int)()
    for name, call in calls.items():
        if name == "accept_many":
            close(create_connection(address))
        close(call())
    client.close()
    for s in (a, b, listener):
        s.close()
coro.run(main)
print("done")
"""
    assert run_script(poller, script) == "done\n"


@linux
def test_a_size_that_is_asked_for_is_not_allocated(poller):
    """2 GiB and more, where the process may not have that much; and less than that is MemoryError and no harm."""
    script = """
def main():
    a, b = socketpair()
    u, v = socketpair(AF.UNIX, SOCK.DGRAM)
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**27, used + 2**27))
    for size in (2**31, 2**40, 2**70):
        for read in (a.recv, lambda n: a.recv(n, socket.MSG_DONTWAIT), lambda n: a.recvfrom(n)[0],
                     lambda n: a.recvmsg(n)[0], lambda n: a.recvmsg(10, n)[0]):
            b.send(b"x")
            assert read(size) == b"x"
        for message in (b"y", b"z" * 100_000):
            v.send(message)
            assert u.recv(size) == message
        b.send(b"part")
        try:
            coro.with_timeout(0.002, a.recv_exact, size)
        except coro.TimeoutError:
            pass
        w = coro.spawn(lambda: a.recv_exact(4 * size))
        coro.yield_slice()
        w.shutdown()
        w.join()
    b.send(b"kept")
    blocks = []
    try:
        while True:
            blocks.append(bytearray(2**23))
    except MemoryError:
        blocks.pop()  # the rest of the program needs a little
    try:
        print(a.recv(2**24))
    except MemoryError:
        blocks.clear()
    print(blocks, a.recv(10))
    for s in (a, b, u, v):
        s.close()
coro.run(main)
"""
    assert run_script(poller, script) == "[] b'kept'\n"


# -- signals ---------------------------------------------------------------------------------------------------------


@posix
def test_signals_disturb_no_input_or_output(loop):
    """Each call of the system may be interrupted (siginterrupt): all data come, in order, and the handler runs."""
    rings = itertools.count()

    def echo(s):
        while True:
            data = s.recv(1000)
            if not data:
                return
            s.send(data)

    def talk(number):
        with connection() as (client, server):
            child = coro.spawn(echo, server)
            message = bytes([number]) * 30_000
            writer = coro.spawn(client.send, message)
            answer = client.recv_exact(len(message))
            writer.join()
            client.shutdown(SHUT.WR)
            child.join()
            return answer == message

    def pipe(number):
        r, w = os.pipe()
        with fd_sock(r) as r, fd_sock(w) as w:
            message = bytes([number]) * 300_000
            writer = coro.spawn(w.send, message)
            answer = r.recv_exact(len(message))
            writer.join()
            return answer == message

    def main():
        with coro.timeout(3 * FOR_EVER):
            while next(rings) < 20:
                children = [coro.spawn(talk, number) for number in range(10)]
                children += [coro.spawn(pipe, number) for number in range(5)]
                assert all(co.result() for co in children)
                coro.sleep_relative(0.002)

    old = signal.signal(signal.SIGALRM, lambda *args: next(rings))
    signal.siginterrupt(signal.SIGALRM, True)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        loop(main)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


# -- pipes -----------------------------------------------------------------------------------------------------------


@posix
def test_a_full_pipe_whose_reader_dies_is_epipe(loop):
    """In the writer that waits and in the next one; SIGPIPE is ignored, and the process lives."""

    def main():
        r, w = os.pipe()
        with fd_sock(w) as w:
            with contextlib.suppress(BlockingIOError):
                while True:
                    os.write(w.fd, b"x" * 4096)
            writer = parked(w.send, b"x" * 100)
            os.close(r)
            with pytest.raises(BrokenPipeError):
                coro.with_timeout(FOR_EVER, writer.result)
            for call in (lambda: w.send(b"x"), lambda: w.writev([b"x", b"y"])):
                with pytest.raises(BrokenPipeError):
                    call()

    loop(main)


@posix
def test_a_pipe_whose_reader_is_a_process_that_is_killed(loop):
    """The same across processes."""

    def main():
        r, w = os.pipe()
        with fd_sock(w) as w:
            child = subprocess.Popen(["sleep", "60"], stdin=r)
            os.close(r)
            writer = parked(w.send, b"x" * 10**6)
            child.kill()
            with pytest.raises(BrokenPipeError):
                coro.with_timeout(FOR_EVER, writer.result)
            coro.to_thread(child.wait)

    loop(main)


# -- bad input -------------------------------------------------------------------------------------------------------


@posix
def test_an_address_of_the_wrong_kind_is_refused_at_once(loop, tmp_path):
    """A path for an Internet socket, a tuple for one of AF_UNIX, another family: TypeError or ValueError."""

    def main():
        path = str(tmp_path / "socket")
        with tcp_sock() as s, udp_sock() as u, unix_sock() as x:
            for call in (s.connect, s.bind, lambda address: u.sendto(b"x", address), create_connection, create_server):
                with pytest.raises(TypeError, match="tuple"):
                    call(path)
            for call in (x.connect, x.bind):
                with pytest.raises(TypeError):
                    call(("127.0.0.1", 80))
            with pytest.raises(ValueError, match="another family"):
                u.sendto(b"x", ("::1", 9))
            with pytest.raises(ValueError, match="family"):
                create_server(("127.0.0.1", 0), family=AF.UNIX)
            assert s.getsockname() == ("0.0.0.0", 0)
            assert not os.path.exists(path)

    loop(main)


def test_sizes_and_buffers_that_cannot_be_are_refused_at_once(loop):
    """Negative sizes are ValueErrors, constants and text TypeErrors, also where nothing has come yet."""

    def main():
        a, b = socketpair()
        with a, b, coro.timeout(FOR_EVER):
            for call in (
                lambda: a.recv(-1),
                lambda: a.recv(-(2**70)),
                lambda: a.recv(-1, socket.MSG_PEEK),
                lambda: a.recvfrom(-1),
                lambda: a.recv_exact(-1),
                lambda: a.readv([1, -1]),
                lambda: a.recv_into(bytearray(1), -1),
                lambda: a.recvfrom_into(bytearray(1), 2),
                lambda: a.accept_many(-1),
                lambda: a.sendfile(io.BytesIO(b"x"), -1),
            ):
                with pytest.raises(ValueError, match=r"cannot|can only"):
                    call()
            for call in (
                lambda: a.recv(None),
                lambda: a.recv("1"),
                lambda: a.recv_into(b"constant"),
                lambda: a.recv_into("text"),
                lambda: a.send("text"),
                lambda: a.send(None),
                lambda: a.writev(5),
                lambda: a.readv(5),
            ):
                with pytest.raises(TypeError):
                    call()
            clean()

    loop(main)


def test_failures_of_making_leave_nothing(loop):
    """Kinds, families and descriptors that do not exist; create_server and create_connection close what they made."""

    def main():
        live = get_live_sockets()
        taken = create_server(("127.0.0.1", 0))
        with taken:
            for call in (
                lambda: sock(12345),
                lambda: sock(AF.INET, 12345),
                lambda: sock(AF.INET, SOCK.STREAM, 12345),
                lambda: sock(fd=10**6),
                lambda: socketpair(12345),
                lambda: create_server(taken.getsockname()),
                lambda: create_server(("192.0.2.1", 0)),
                lambda: create_connection(taken.getsockname(), source_address=("192.0.2.1", 0)),
                lambda: create_connection(taken.getsockname(), source_address=taken.getsockname()),
            ):
                with pytest.raises(OSError, match=r"^\[(Errno|WinError)"):
                    call()
                assert get_live_sockets() == live + 1
            for call in (lambda: sock("inet"), lambda: sock(fd="1"), lambda: sock(fd=None), lambda: fd_sock(1.5)):
                with pytest.raises(TypeError):
                    call()
            for fd in (-2, taken._entry):
                with pytest.raises((TypeError, ValueError)):
                    fd_sock(fd)
            assert get_live_sockets() == live + 1

    loop(main)
