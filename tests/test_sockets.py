"""Sockets: the class sock and what makes one (spec C1, B3), with the defects of Part D that concern sockets.

Everything runs over real sockets: IPv4, IPv6 and Unix where the machine has them.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import io
import itertools
import os
import socket
import struct
import sys
import threading
import warnings
from functools import partial

import greenlet
import pytest

import coro
from coro import connect, names
from coro.connect import (
    create_connection,
    create_server,
    has_ipv6,
    make_socket,
    socketpair,
    tcp6_sock,
    tcp_sock,
    udp6_sock,
    udp_sock,
    unix_sock,
)
from coro.coroutine import set_selfishness
from coro.kernel import this_kernel
from coro.sockets import (
    AF,
    PF,
    SHUT,
    SO,
    SOCK,
    SOL,
    coro_fd,
    fd_sock,
    file_sock,
    get_live_sockets,
    sock,
)

posix = pytest.mark.skipif(
    sys.platform == "win32", reason="Windows has neither pipes to wait for nor AF_UNIX in Python"
)
linux = pytest.mark.skipif(sys.platform != "linux", reason="a feature of Linux")


def can_bind_ipv6():
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


ipv6 = pytest.mark.skipif(not can_bind_ipv6(), reason="this machine has no IPv6")


@pytest.fixture(
    params=["ipv4", pytest.param("ipv6", marks=ipv6), pytest.param("unix", marks=posix)],
)
def family(request):
    return request.param


@pytest.fixture
def listen(family, tmp_path):
    """Makes a listening socket of the family at hand."""

    paths = (str(tmp_path / f"socket {number}") for number in itertools.count())

    def make(backlog=16):
        new = sock({"ipv4": AF.INET, "ipv6": AF.INET6, "unix": AF.LOCAL}[family])
        new.bind({"ipv4": ("127.0.0.1", 0), "ipv6": ("::1", 0), "unix": next(paths)}[family])
        new.listen(backlog)
        return new

    return make


@pytest.fixture
def connection(listen):
    """Makes two connected sockets of the family at hand, which are closed at the end of the block."""

    @contextlib.contextmanager
    def make():
        with listen() as listener:
            child = coro.spawn(listener.accept)
            client = sock(listener.domain)
            client.connect(listener.getsockname())
            server, _ = child.result()
        with client, server:
            yield client, server

    return make


def fill(s):
    """Send until nothing more fits, and return how much that was."""
    sent = 0
    try:
        while True:
            sent += s._socket.send(b"x" * 65536)
    except BlockingIOError:
        return sent


def drain(s, size):
    while size:
        size -= len(s.recv(min(size, 65536)))


def parked(fn, *args):
    """A coroutine that has called fn and is blocked in it."""
    co = coro.spawn(fn, *args)
    coro.yield_slice()
    assert co.started
    assert not co.dead
    return co


def read_to_end(s):
    return b"".join(iter(lambda: s.recv(65536), b""))


def fails(fn, *args):
    """Return what fn raises."""
    try:
        fn(*args)
    except Exception as exc:
        return exc
    return pytest.fail("nothing was raised")


def reset(s):
    """Close with a RST."""
    s.setsockopt(SOL.SOCKET, SO.LINGER, struct.pack("ii", 1, 0))
    s.close()


def echo(s):
    while data := s.recv(1000):
        s.send(data)


class Counted:
    """Counts the calls of a function and those that failed with EAGAIN."""

    def __init__(self, fn):
        self.fn = fn
        self.calls = self.failures = 0

    def __call__(self, *args):
        self.calls += 1
        try:
            return self.fn(*args)
        except BlockingIOError:
            self.failures += 1
            raise


# -- streams ---------------------------------------------------------------------------------------------------------


def test_what_is_sent_is_received_and_the_end_is_empty(loop, connection):
    """Both ways; send returns the length; after shutdown(WR) the other end reads b"" and can still answer."""

    def main():
        with connection() as (a, b):
            assert a.send(b"hello") == 5
            assert b.recv(100) == b"hello"
            assert b.send(bytearray(b"world!")) == 6
            assert a.recv(2) == b"wo"
            assert a.recv(100) == b"rld!"
            a.shutdown(SHUT.WR)
            assert b.recv(100) == b""
            assert b.recv(100) == b""
            assert b.send(b"late") == 4
            assert a.recv(100) == b"late"

    loop(main)


def test_addresses_are_those_of_the_standard_library(loop, listen, family):
    """The accepted socket's own address is the client's peer; accept returns the client's address."""

    def main():
        with listen() as listener:
            child = coro.spawn(listener.accept)
            with sock(listener.domain) as client:
                client.connect(listener.getsockname())
                server, address = child.result()
                with server:
                    assert server.getsockname() == client.getpeername() == listener.getsockname()
                    assert address == client.getsockname() == server.getpeername()
                    assert type(address) is type(client._socket.getsockname())
                    assert len(address) == {"ipv4": 2, "ipv6": 4, "unix": 0}[family]
                    assert (server.domain, server.stype) == (listener.domain, SOCK.STREAM)

    loop(main)


def test_data_and_the_end_that_arrive_together_are_both_seen(loop, connection):
    """The end comes with the last data as one event and is not said again."""

    def main():
        for size in (5, 100):  # a full and a short read
            with connection() as (a, b):
                reader = parked(b.recv, size)
                a.send(b"hello")
                a.close()
                assert reader.result() == b"hello"
                assert coro.with_timeout(5, b.recv, 100) == b""

    loop(main)


def test_an_end_that_comes_after_a_short_read_is_seen(loop, connection):
    """A second event, for a reader that waits again."""

    def main():
        with connection() as (a, b):
            a.send(b"hello")
            assert b.recv(100) == b"hello"
            reader = parked(b.recv, 100)
            a.close()
            assert reader.result(5) == b""

    loop(main)


@pytest.mark.parametrize("family", ["ipv4", pytest.param("ipv6", marks=ipv6)])
def test_a_reset_is_raised_in_the_waiting_reader_and_writer(loop, connection):
    """ConnectionResetError for the one, that or BrokenPipeError for the other."""

    def main():
        with connection() as (a, b):
            reader = parked(fails, b.recv, 100)
            reset(a)
            assert isinstance(reader.result(5), ConnectionResetError)
        with connection() as (a, b):
            fill(b)
            writer = parked(fails, b.send, b"x" * 10_000_000)
            reset(a)
            assert isinstance(writer.result(5), (ConnectionResetError, BrokenPipeError))

    loop(main)


def test_big_transfers_both_ways_at_once_are_complete(loop, connection):
    """Four coroutines, one reader and one writer on each end, more data than any buffer holds."""
    size = 1_500_000

    def pattern(salt):
        return bytes((i * 7 + (i >> 8) + salt) & 0xFF for i in range(4096)) * (size // 4096)

    def read_all(s):
        parts = []
        while part := s.recv(50_000):
            parts.append(part)
        return b"".join(parts)

    def write_all(s, data):
        assert s.sendall(data) == len(data)
        s.shutdown(SHUT.WR)

    def main():
        with connection() as (a, b):
            one, two = pattern(1), pattern(2)
            readers = [coro.spawn(read_all, a), coro.spawn(read_all, b)]
            writers = [coro.spawn(write_all, a, one), coro.spawn(write_all, b, memoryview(two))]
            for co in writers:
                co.result()
            assert readers[0].result() == two
            assert readers[1].result() == one

    loop(main)


def test_a_view_of_wider_items_is_sent_by_its_bytes(loop):
    """Also when the system takes just as many bytes as the view has items."""
    a, b = socketpair()
    with a, b:
        taken = a._socket.send(bytes(8_000_000))
    a, b = socketpair()

    def main():
        with a, b:
            data = memoryview(os.urandom(8 * taken)).cast("Q")
            assert len(data) == taken
            child = coro.spawn(b.recv_exact, data.nbytes)
            assert a.send(data) == data.nbytes
            assert child.result() == data.tobytes()

    loop(main)


def test_steady_request_and_response_makes_no_call_in_vain(loop):
    """One recv and one send for each request, none that fails; the descriptor is registered once, if at all."""
    a, b = socketpair()

    def main():
        child = parked(echo, b)
        a.send(b"warm up")
        a.recv(1000)
        counted = [Counted(s._recv) for s in (a, b)] + [Counted(s._send) for s in (a, b)]
        a._recv, b._recv, a._send, b._send = counted
        poller = this_kernel().poller
        register, arm = Counted(poller.register), Counted(poller.arm)
        if poller.edge:
            poller.register, poller.arm = register, arm
        for i in range(100):
            a.send(b"%d" % i)
            assert a.recv(1000) == b"%d" % i
        assert [(c.calls, c.failures) for c in counted] == [(100, 0)] * 4
        assert (register.calls, arm.calls) == (0, 0)
        a.close()
        child.join()
        b.close()

    loop(main)


@posix
def test_urgent_data_does_not_hide_what_comes_behind_it(loop):
    """A read ends at the urgent byte; the rest is read without anything more having to arrive."""

    def main():
        with create_server(("127.0.0.1", 0)) as listener, tcp_sock() as a:
            a.connect(listener.getsockname())
            b, _ = listener.accept()
            with b:
                for _ in range(2):
                    reader = parked(b.recv_exact, 6)
                    a.send(b"abc")
                    a.send(b"!", socket.MSG_OOB)
                    a.send(b"def")
                    assert reader.result(5) == b"abcdef"

    loop(main)


@linux
def test_a_hangup_that_was_not_final_is_forgotten(loop):
    """Linux reports one for a socket that is not connected yet; later on no call fails because of it."""

    def main():
        with create_server(("127.0.0.1", 0)) as listener, tcp_sock() as a:
            coro.with_timeout(5, a.wait_for_write)
            a.connect(listener.getsockname())
            with listener.accept()[0] as b:
                child = coro.spawn(echo, b)
                a._recv = counted = Counted(a._recv)
                for i in range(10):
                    a.send(b"%d" % i)
                    assert a.recv(10) == b"%d" % i
                assert counted.failures <= 1
                child.shutdown()
                child.join()

    loop(main)


@posix
def test_all_that_holds_before_the_first_wait_is_reported(loop):
    """Data, the end and room that were there before the descriptor was known to the poller."""
    for sent in (b"data", b""):
        a, b = socketpair()
        with a, b:
            a._socket.send(sent)
            a._socket.shutdown(socket.SHUT_WR)

            def main(b=b, sent=sent):
                coro.with_timeout(5, b.wait_for_write)
                coro.with_timeout(5, b.wait_for_read)
                assert b.recv(10) == sent

            loop(main)


# -- sizes and buffers -----------------------------------------------------------------------------------------------


def test_D_63_negative_sizes_are_value_errors(loop):
    """At once, whether there is data or not; so is what does not fit into a buffer; nothing is lost."""
    a, b = socketpair()

    def main():
        with a, b:
            for _ in range(2):
                for read in (b.recv, b.read, b.recvfrom, b.recv_exact, partial(b.recv, flags=socket.MSG_PEEK)):
                    with pytest.raises(ValueError, match="-1"):
                        read(-1)
                for sizes in ([-1], [5, -1], [-1, 5]):
                    with pytest.raises(ValueError, match="-1"):
                        b.readv(sizes)
                for size in (-1, 5):
                    with pytest.raises(ValueError, match="buffer of 4"):
                        b.recv_into(bytearray(4), size)
                with pytest.raises(ValueError, match="-1"):
                    b.accept_many(-1)
                a.send(b"data")
            assert b.recv(100) == b"datadata"[:4] + b"data"

    loop(main)


def test_a_read_of_nothing_returns_nothing_at_once(loop):
    """Also from a stream that has no data."""
    a, b = socketpair()

    def main():
        with a, b:
            assert b.recv(0) == b.recv_exact(0) == b""
            assert b.recv_into(bytearray()) == 0
            assert b.readv([]) == ()
            assert b.readv([0, 0]) == (b"", b"")
            assert a.send(b"") == 0
            assert a.writev([]) == a.writev([b"", b""]) == 0

    loop(main)


def test_only_bytes_can_be_sent(loop):
    """TypeError for a str or None, and nothing has gone out."""
    a, b = socketpair()

    def main():
        with a, b:
            for wrong in ("text", None, 5):
                for send in (a.send, a.sendall, a.write, lambda data: a.writev([b"x", data])):
                    with pytest.raises(TypeError):
                        send(wrong)
            a.send(b"end")
            assert b.recv(100) == b"end"

    loop(main)


def test_recv_into_fills_a_buffer(loop, connection):
    """As much as there is and fits, or as was asked for; 0 at the end."""

    def main():
        with connection() as (a, b):
            a.send(b"0123456789")
            buffer = bytearray(4)
            assert (b.recv_into(buffer), buffer) == (4, b"0123")
            assert (b.recv_into(buffer, 2), buffer) == (2, b"4523")
            large = bytearray(100)
            assert b.recv_into(memoryview(large)[10:]) == 4
            assert large[10:14] == b"6789"
            reader = parked(b.recv_into, large)
            a.send(b"x")
            assert reader.result(5) == 1
            a.shutdown(SHUT.WR)
            assert b.recv_into(large) == 0
            with pytest.raises((TypeError, BufferError, ValueError)):
                b.recv_into(b"read only")

    loop(main)


def test_a_peek_leaves_the_data_and_the_readiness(loop):
    """Flags are passed on; what was left behind is read without an event."""
    a, b = socketpair()

    def main():
        with a, b:
            a.send(b"data")
            assert b.recv(100, socket.MSG_PEEK) == b"data"
            assert b.recv_into(bytearray(100), 0, socket.MSG_PEEK) == 4
            assert coro.with_timeout(5, b.recv, 100) == b"data"

    loop(main)


def test_recv_exact_waits_for_all_of_it(loop):
    """However it arrives; EOFError has what there was when the stream ends before."""
    a, b = socketpair()

    def main():
        with a, b:
            reader = parked(b.recv_exact, 6)
            for part in (b"ab", b"c", b"defgh"):
                a.send(part)
                coro.yield_slice()
            assert reader.result() == b"abcdef"
            a.close()
            with pytest.raises(EOFError) as caught:
                b.recv_exact(6)
            assert caught.value.args == (b"gh",)
            with pytest.raises(EOFError) as caught:
                b.recv_exact(1)
            assert caught.value.args == (b"",)

    loop(main)


READV = [
    ((5, 19, 3, 8), (5, 19, 3, 8), (5, 19, 3, 8)),
    ((5, 19, 3, 8), (24, 3, 8), (24, 3, 8)),
    ((5, 19, 3, 8), (2, 3, 19, 3, 8), (2, 3, 19, 3, 8)),
    ((5, 5), (1,) * 10, (1,) * 10),
    ((1,) * 10, (5, 5), (5, 5)),
    ((10,), (5,), (5,)),
    ((5,), (10,), (5,)),
    ((), (5,), ()),
    ((), (), ()),
    ((5, 9), (5, 10), (5, 9)),
    ((5, 9), (5, 5, 3, 7), (5, 5, 3, 1)),
    ((5, 5), (5, 5, 10), (5, 5)),
    ((5,), (0, 5, 0, 1), (0, 5, 0)),
    ((524288,), (524288,), (524288,)),
]


@pytest.mark.parametrize("gaps", [False, True], ids=["at once", "with gaps"])
@pytest.mark.parametrize("selfishness", [1024, 1])
def test_D_59_readv_returns_the_sizes_asked_for(loop, family, connection, selfishness, gaps):
    """In whatever pieces they come; at the end the complete ones and the beginning of the next."""

    def write(a, sizes, data):
        begin = 0
        for size in sizes:
            a.send(data[begin : begin + size])
            begin += size
            if gaps:
                coro.yield_slice()
        a.shutdown(SHUT.WR)

    def main():
        coro.current().set_max_selfish_acts(selfishness)
        for sent, asked, expected in READV:
            data = os.urandom(sum(sent))
            with connection() as (a, b):
                child = coro.spawn(write, a, sent, data)
                pieces = b.readv(iter(asked))
                assert tuple(map(len, pieces)) == expected
                assert b"".join(pieces) == data[: sum(expected)]
                child.join()

    loop(main)


def test_D_59_more_buffers_than_the_system_takes_at_once(loop):
    """readv and writev of 5000 pieces, and of more than fits into the buffers."""
    a, b = socketpair()
    pieces = [b"%d," % i for i in range(5000)]
    blocks = [b"", os.urandom(524288), bytearray(b"abc"), memoryview(os.urandom(300_000)), b""]

    def main():
        with a, b:
            for data in (pieces, iter(pieces), blocks):
                data = list(data)
                reader = coro.spawn(b.readv, [len(piece) for piece in data])
                assert a.writev(data) == sum(map(len, data))
                assert [bytes(piece) for piece in data] == list(reader.result())

    loop(main)


@pytest.mark.parametrize("selfishness", [1024, 1])
def test_writev_sends_all_through_small_buffers(loop, connection, selfishness):
    """The return value is the total, and the bytes arrive in order."""
    data = os.urandom(524288)

    def main():
        coro.current().set_max_selfish_acts(selfishness)
        for size, block in ((1, b""), (32768, data)):
            with connection() as (a, b):
                a.setsockopt(SOL.SOCKET, SO.SNDBUF, size)
                b.setsockopt(SOL.SOCKET, SO.RCVBUF, size)
                child = coro.spawn(b.recv_exact, 23 + len(block))
                assert a.writev([b"12345", b"123", b"1234567", b"12345678"]) == 23
                assert a.writev((block,)) == len(block)
                assert child.result() == b"12345123123456712345678" + block

    loop(main)


# -- datagrams -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "host"), [(udp_sock, "127.0.0.1"), pytest.param(udp6_sock, "::1", marks=ipv6)], ids=["ipv4", "ipv6"]
)
def test_datagrams_keep_their_boundaries(loop, make, host):
    """recvfrom waits, says where each came from, and returns a short one without losing the next."""

    def main():
        with make() as a, make() as b:
            a.bind((host, 0))
            b.bind((host, 0))
            reader = parked(b.recvfrom, 1000)
            for data in (b"one", b"", b"three"):
                assert a.sendto(data, b.getsockname()) == len(data)
            assert reader.result() == (b"one", a.getsockname())
            assert b.recvfrom(1000) == (b"", a.getsockname())
            assert coro.with_timeout(5, b.recv, 1000) == b"three"
            b.connect(a.getsockname())
            b.send(b"connected")
            assert a.recvfrom(3) == (b"con", b.getsockname())

    loop(main)


@posix
def test_a_datagram_waits_for_room(loop):
    """One that does not fit goes out whole when the reader has made room."""
    a, b = socketpair(AF.LOCAL, SOCK.DGRAM)

    def main():
        with a, b:
            count = 0
            with contextlib.suppress(BlockingIOError):
                while True:
                    a._socket.send(b"full")
                    count += 1
            writer = parked(a.send, b"last")
            assert [b.recv(10) for _ in range(count)] == [b"full"] * count
            assert writer.result(5) == 4
            assert b.recv(10) == b"last"

    loop(main)


# -- connecting ------------------------------------------------------------------------------------------------------


def refused_address(family, tmp_path):
    """An address that nobody listens on."""
    if family == "unix":
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(str(tmp_path / "gone"))
        return str(tmp_path / "gone")
    with socket.create_server(
        ("127.0.0.1" if family == "ipv4" else "::1", 0),
        family=socket.AF_INET if family == "ipv4" else socket.AF_INET6,
    ) as s:
        return s.getsockname()


def test_D_13_a_refused_connect_is_raised_by_connect(loop, family, tmp_path):
    """Not by the first send; the error says which address."""

    def main():
        address = refused_address(family, tmp_path)
        for verb in ("connect", "connect_addr"):
            with sock({"ipv4": AF.INET, "ipv6": AF.INET6, "unix": AF.LOCAL}[family]) as s:
                with pytest.raises(ConnectionRefusedError) as caught:
                    getattr(s, verb)(address)
                assert str(address[1] if family != "unix" else address) in str(caught.value)

    loop(main)


@linux
def test_a_connect_waits_while_the_backlog_is_full(loop, listen):
    """It is done when the server accepts, and can be timed out before."""

    def main():
        with listen(0) as listener, contextlib.ExitStack() as stack:
            address = listener.getsockname()
            while True:
                s = stack.enter_context(sock(listener.domain))
                try:
                    coro.with_timeout(0.01, s.connect, address)
                except coro.TimeoutError:
                    break
            assert not s._entry.writer
            last = stack.enter_context(sock(listener.domain))
            child = parked(last.connect, address)
            if listener.domain == AF.UNIX:
                while not child.dead:
                    stack.enter_context(listener.accept()[0])
                    coro.sleep_relative(0.002)
                child.result()
            child.shutdown()
            child.join()

    loop(main)


def test_addresses_that_cannot_be_are_refused_at_once(loop):
    """TypeError for what has no host, OverflowError for a port, ValueError for names and families that do not fit."""

    def main():
        with tcp_sock() as s:
            for do in (s.connect, s.connect_addr, s.bind):
                for wrong in ((123, 80), "127.0.0.1", None, ("127.0.0.1",), (), (None, 80)):
                    with pytest.raises(TypeError):
                        do(wrong)
                for port in (65536, -1):
                    with pytest.raises(OverflowError, match="0-65535"):
                        do(("127.0.0.1", port))
                with pytest.raises(TypeError):
                    do(("127.0.0.1", "http"))
                with pytest.raises(ValueError, match="another family"):
                    do(("::1", 80))
            with pytest.raises(ValueError, match="no address"):
                s.connect_addr(("123", 80), False)
            with pytest.raises(ValueError, match="no address"):
                s.connect_addr(("localhost", 80))
            with pytest.raises(ValueError, match=r"null|NUL"):
                s.bind(("127.0.0.1\0", 80))
            s.domain = AF.UNSPEC
            with pytest.raises(ValueError, match="without a family"):
                s.bind(("", 0))
            assert s.getsockname() == ("0.0.0.0", 0)

    loop(main)


@ipv6
def test_an_ipv4_address_is_refused_by_an_ipv6_socket():
    """ValueError, and the socket is not bound."""
    with tcp6_sock() as s:
        for text in ("127.0.0.1", "0.0.0.0"):
            with pytest.raises(ValueError, match="another family"):
                s.bind((text, 0))
        assert s.getsockname()[:2] == ("::", 0)


@ipv6
def test_the_empty_host_is_any_address():
    """In both families."""
    with tcp_sock() as a, tcp6_sock() as b:
        a.bind(("", 0))
        b.bind(("", 0))  # not the port of the first: that may be taken in this family
        assert (a.getsockname()[0], b.getsockname()[0]) == ("0.0.0.0", "::")
        assert (a.domain, b.domain) == (AF.INET, AF.INET6)


@ipv6
def test_D_62_ipv6_addresses_have_flow_and_scope(loop):
    """They are the tuples of the standard library in both directions."""

    def main():
        with tcp6_sock() as listener, tcp6_sock() as client:
            listener.bind(("::1", 0, 0, 0))
            listener.listen(1)
            client.connect(listener.getsockname())
            server, address = listener.accept()
            server.close()
            assert address == client.getsockname() == ("::1", address[1], 0, 0)
        scope = next((number for number, name in socket.if_nameindex() if name != "lo"), 7)
        with udp6_sock() as s, contextlib.suppress(OSError):  # not every machine has a link-local address
            s.connect(("fe80::1", 9, 0, scope))
            assert s.getpeername()[3] == scope

    loop(main)


@linux
def test_D_62_abstract_names_keep_their_nuls(loop):
    """A NUL begins an abstract name and may be in it; in a path it is a ValueError, not a shorter path."""
    name = b"\0coro-%d\0tail" % os.getpid()

    def main():
        with unix_sock() as listener, unix_sock() as client, unix_sock() as other:
            listener.bind(name)
            assert listener.getsockname() == name
            listener.listen(1)
            client.connect(name)
            listener.accept()[0].close()
            with pytest.raises(ConnectionRefusedError):
                other.connect(name[: name.rindex(b"\0")])
            for path in ("/tmp/a\0b", b"/tmp/a\0b"):
                for do in (other.bind, other.connect):
                    with pytest.raises(ValueError, match="NUL"):
                        do(path)
            with pytest.raises(OSError, match="too long"):
                other.bind("/tmp/" + 200 * "x")

    loop(main)


def test_D_62_names_are_resolved_by_bind_connect_and_sendto(loop):
    """In a thread, while the loop goes on; before the loop too, for bind."""
    listener = tcp_sock()
    listener.bind(("localhost", 0))
    assert listener.getsockname()[0] == "127.0.0.1"

    def main():
        listener.listen(1)
        port = listener.getsockname()[1]
        with listener, tcp_sock() as s, udp_sock() as u, udp_sock() as v:
            s.connect(("localhost", port))
            listener.accept()[0].close()
            v.bind(("localhost", 0))
            u.sendto(b"x", (b"localhost", v.getsockname()[1]))
            assert v.recv(10) == b"x"
            with pytest.raises(socket.gaierror):
                u.sendto(b"x", ("no such host.invalid", 9))

    loop(main)


def test_literal_addresses_never_leave_the_thread(loop, monkeypatch):
    """Only a name is looked up, and that in another thread."""
    asked = []
    real = names.system_getaddrinfo

    def getaddrinfo(host, *args):
        asked.append((host, threading.current_thread() is threading.main_thread()))
        return real(host, *args)

    monkeypatch.setattr(names, "system_getaddrinfo", getaddrinfo)

    def main():
        with create_server(("127.0.0.1", 0)) as listener:
            create_connection(listener.getsockname()).close()
            assert asked == [("127.0.0.1", True)]  # not a query: AI_NUMERICHOST
            create_connection(("localhost", listener.getsockname()[1])).close()
            assert asked[1:] == [("localhost", False)]

    loop(main)


def test_D_64_the_address_is_reused_only_where_that_is_asked_for():
    """bind leaves SO_REUSEADDR alone; set_reuse_addr sets it."""
    with tcp_sock() as s:
        s.bind(("127.0.0.1", 0))
        assert s.getsockopt(SOL.SOCKET, SO.REUSEADDR) == 0
    with tcp_sock() as s:
        s.set_reuse_addr()
        assert s.getsockopt(SOL.SOCKET, SO.REUSEADDR) != 0


# -- accepting -------------------------------------------------------------------------------------------------------


def greeted(address, domain):
    with sock(domain) as s:
        s.connect(address)
        return s.recv_exact(8)


def test_D_29_accept_many_returns_all_that_wait(loop, listen):
    """It waits for the first, takes up to max, and all with 0; each client gets its greeting."""

    def main():
        with listen() as listener:
            address = listener.getsockname()
            acceptor = parked(listener.accept_many, 5)
            clients = [coro.spawn(greeted, address, listener.domain) for _ in range(3)]
            accepted = acceptor.result()
            while len(accepted) < 3:
                accepted += listener.accept_many(3 - len(accepted))
            for s, _ in accepted:
                with s:
                    s.send(b"welcome!")
            assert [co.result() for co in clients] == [b"welcome!"] * 3

    loop(main)


def test_D_29_accept_many_takes_a_backlog_without_waiting(loop, listen):
    """With connections ready it returns at once, no more than max, and the rest with 0."""

    def main():
        with listen() as listener, contextlib.ExitStack() as stack:
            address = listener.getsockname()
            for _ in range(5):
                client = stack.enter_context(sock(listener.domain))
                client.connect(address)
            listener.wait_for_read()
            others = []
            coro.spawn(others.append, "ran")
            first = listener.accept_many(2)
            rest = listener.accept_many()
            assert others == []
            assert (len(first), len(rest)) == (2, 3)
            for s, peer in first + rest:
                assert s.getpeername() == peer
                s.close()

    loop(main)


@linux
def test_D_29_an_accepted_socket_has_the_type_of_its_listener(loop, tmp_path):
    """SEQPACKET stays SEQPACKET."""

    def main():
        with sock(AF.UNIX, SOCK.SEQPACKET) as listener, sock(AF.UNIX, SOCK.SEQPACKET) as client:
            listener.bind(str(tmp_path / "s"))
            listener.listen(1)
            client.connect(str(tmp_path / "s"))
            server, _ = listener.accept()
            with server:
                assert server.stype == SOCK.SEQPACKET
                client.send(b"one")
                client.send(b"two")
                assert [server.recv(100), server.recv(100)] == [b"one", b"two"]

    loop(main)


@contextlib.contextmanager
def descriptors_left(count):
    """Let the process open only so many more descriptors."""
    import resource

    taken = []
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = os.dup(0)
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 32, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        for fd in taken[-count:] if count else ():
            os.close(fd)
            taken.remove(fd)
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in [*taken, highest]:
            os.close(fd)


@posix
def test_accept_without_a_free_descriptor_raises_emfile_and_loses_nothing(loop, listen):
    """OSError (EMFILE), again and again, while others run; with room again the connection is accepted."""

    def main():
        with listen() as listener, sock(listener.domain) as client:
            client.connect(listener.getsockname())
            coro.with_timeout(5, listener.wait_for_read)
            ran = []

            def other():
                while True:
                    ran.append(1)
                    coro.yield_slice()

            child = coro.spawn(other)
            with descriptors_left(0):
                for _ in range(20):
                    with pytest.raises(OSError, match="open files") as caught:
                        listener.accept()
                    assert caught.value.errno == errno.EMFILE
                assert len(ran) >= 4
            child.shutdown()
            with listener.accept()[0] as server:
                server.send(b"x")
                assert client.recv(1) == b"x"

    loop(main)


@posix
def test_D_29_accept_many_keeps_what_it_has_got_when_an_error_comes(loop, listen):
    """EMFILE after the second: the two are returned, the error comes with the next call."""

    def main():
        with listen() as listener, contextlib.ExitStack() as stack:
            for _ in range(4):
                stack.enter_context(sock(listener.domain)).connect(listener.getsockname())
            coro.with_timeout(5, listener.wait_for_read)
            with descriptors_left(2):
                accepted = listener.accept_many()
                assert len(accepted) == 2
                with pytest.raises(OSError, match="open files"):
                    listener.accept_many()
            accepted += listener.accept_many()
            assert len(accepted) == 4
            for s, _ in accepted:
                s.close()

    loop(main)


# -- one reader, one writer ------------------------------------------------------------------------------------------


def test_a_second_reader_or_writer_is_refused_with_both_named(loop):
    """SimultaneousError in the second, whatever it calls; the first goes on; afterwards the place is free."""
    a, b = socketpair()

    def main():
        with a, b:
            first = parked(b.recv, 10)
            reads = [
                lambda: b.recv(1),
                lambda: b.recv_into(bytearray(1)),
                lambda: b.recvfrom(1),
                lambda: b.recv_exact(1),
                lambda: b.readv([1]),
                lambda: b.recv(1, socket.MSG_PEEK),
                b.accept,
                b.wait_for_read,
            ]
            for read in reads:
                with pytest.raises(coro.SimultaneousError) as caught:
                    read()
                assert (caught.value.co, caught.value.other) == (coro.current(), first)
                assert caught.value.event == (b.fd, "read")
            a.send(b"x")
            assert first.result() == b"x"
            a.send(b"y")
            assert b.recv(10) == b"y"

            size = fill(b)
            writer = parked(b.send, b"z")
            for write in (lambda: b.send(b"1"), lambda: b.writev([b"1"]), b.wait_for_write):
                with pytest.raises(coro.SimultaneousError) as caught:
                    write()
                assert (caught.value.co, caught.value.other) == (coro.current(), writer)
                assert caught.value.event == (b.fd, "write")
            drain(a, size)
            assert writer.result(5) == 1
            assert a.recv(10) == b"z"

    loop(main)


def test_nobody_gets_between_one_that_was_woken_and_its_data(loop):
    """What has come is for the one that waits, also when another coroutine runs before it and finds the data there."""
    (a, b), (c, d) = socketpair(), socketpair()

    def thief():
        d.recv(10)
        return fails(b.recv, 10)

    def main():
        with a, b, c, d:
            thieving, reading = parked(thief), parked(b.recv_exact, 8)
            c.send(b"go")
            a.send(b"data")
            assert type(thieving.result(5)) is coro.SimultaneousError
            a.send(b"more")
            assert reading.result(5) == b"datamore"

    loop(main)


def test_nobody_gets_between_the_parts_of_one_read(loop):
    """Not even where the reader lets others run because it has had its share."""
    a, b = socketpair(AF.LOCAL, SOCK.DGRAM)
    seen = []

    def body():
        assert coro.current().set_max_selfish_acts(1) == 4
        assert coro.current().set_max_selfish_acts(1) == 1
        for part in (b"ab", b"cd", b"ef", b"gh"):
            a.send(part)
        b.wait_for_read()
        coro.spawn(lambda: seen.append(fails(b.recv, 10)))
        return b.recv_exact(8)

    def main():
        with a, b:
            assert coro.spawn(body).result(5) == b"abcdefgh"
            assert [type(exc) for exc in seen] == [coro.SimultaneousError]

    loop(main)


def test_nobody_gets_between_one_that_was_woken_and_what_it_writes(loop):
    """Also when another coroutine runs before it and finds room there."""
    (a, b), (c, d) = socketpair(), socketpair()
    message = b"m" * 2_000_000

    def thief():
        d.recv(10)
        return fails(b.send, b"stolen")

    def main():
        with a, b, c, d:
            size = fill(b)
            thieving, writing = parked(thief), parked(b.send, message)
            c._socket.send(b"go")
            taken = len(a._socket.recv(size))
            assert type(thieving.result(5)) is coro.SimultaneousError
            assert a.recv_exact(size - taken + len(message)).endswith(message)
            assert writing.result(5) == len(message)

    loop(main)


@pytest.mark.parametrize("selfishness", [1, 4])
def test_no_other_write_gets_into_the_middle_of_one(loop, selfishness):
    """Two writers of long messages: one is refused or waits its turn, no message is torn."""
    a, b = socketpair()

    def writer(byte, refused):
        coro.current().set_max_selfish_acts(selfishness)
        for _ in range(20):
            try:
                a.send(byte * 300_000)
            except coro.SimultaneousError:
                refused.append(byte)
                coro.yield_slice()

    def main():
        refused = []
        with a, b:
            writers = [coro.spawn(writer, byte, refused) for byte in (b"a", b"b")]

            def close():
                for co in writers:
                    co.join()
                a.shutdown(SHUT.WR)

            coro.spawn(close)
            count = 0
            while block := b.readv([300_000]):
                assert len(set(block[0])) == 1
                assert len(block[0]) == 300_000
                count += 1
            assert count + len(refused) == 40
            assert refused

    loop(main)


def test_one_that_gives_way_is_not_in_the_way_of_the_other_direction(loop):
    """Its coroutine still has its turn, so a second writer is refused, but a reader may begin to wait."""

    def main():
        a, b = socketpair()
        with a, b:

            def write():
                for _ in range(50):  # more than its share at a time
                    a.send(b"x")

            def intrude():
                with pytest.raises(coro.SimultaneousError) as caught:
                    a.send(b"y")
                assert caught.value.other is writer

            writer = coro.spawn(write)
            reader = coro.spawn(a.recv, 10)  # the first wait of this socket
            intruder = coro.spawn(intrude)
            intruder.result(5)
            b.send(b"hello")
            assert reader.result(5) == b"hello"
            writer.result(5)
            assert b.recv_exact(50) == b"x" * 50
            a.send(b"z")  # and nobody is left as a writer
            assert b.recv(10) == b"z"

    loop(main)


def test_one_that_gives_way_while_it_reads_is_not_in_the_way_of_a_writer(loop):
    """The same the other way round."""

    def main():
        a, b = socketpair()
        with b, sock(fd=a.detach()) as c:  # one that is known to nobody yet
            b.send(b"x" * 50)
            reader = coro.spawn(lambda: b"".join(c.recv(1) for _ in range(50)))
            room = fill(c)
            writer = coro.spawn(c.send, b"y")
            drained = coro.spawn(b.recv_exact, room + 1)
            assert reader.result(5) == b"x" * 50
            assert drained.result(5).endswith(b"y")
            assert writer.result(5) == 1

    loop(main)


def test_the_number_of_an_owned_descriptor_is_refused_by_the_plain_waits(loop):
    """ValueError that says what to use instead; the waiter of the socket is not disturbed."""
    a, b = socketpair()

    def main():
        with a, b:
            reader = parked(b.recv, 10)
            for wait in (coro.wait_for_read, coro.wait_for_write):
                with pytest.raises(ValueError, match="belongs to a coro socket"):
                    wait(b.fileno())
            a.send(b"x")
            assert reader.result() == b"x"

    loop(main)


def test_wait_for_read_and_wait_for_write_ask_the_system(loop, connection):
    """They wait until it holds, whatever was remembered, and do not take what they wait for."""

    def main():
        with connection() as (a, b):
            waiter = parked(b.wait_for_read)
            a.send(b"xy")
            waiter.result(5)
            b.wait_for_read()
            assert b.recv(1) == b"x"
            coro.with_timeout(5, b.wait_for_read)
            assert b.recv(1) == b"y"  # a full read: it is remembered as readable, but it is not
            with pytest.raises(coro.TimeoutError):
                coro.with_timeout(0.005, b.wait_for_read)
            coro.with_timeout(5, b.wait_for_write)
            size = fill(b)
            waiter = parked(b.wait_for_write)
            coro.sleep_relative(0.002)
            assert not waiter.dead
            drain(a, size)
            waiter.result(5)
            a.close()
            coro.with_timeout(5, b.wait_for_read)

    loop(main)


def test_a_stray_wake_up_ends_no_wait(loop, connection):
    """schedule() is only a hint to a reader, a writer, an accepter (D-08)."""

    def main():
        with connection() as (a, b):
            fill(b)
            reader, writer = parked(b.recv, 10), parked(b.send, b"x")
            for co in (reader, writer):
                for _ in range(3):
                    co.schedule("stray")
                    coro.yield_slice()
                assert not co.dead
            a.send(b"data")
            assert reader.result(5) == b"data"
            writer.shutdown()
            writer.join()
        with tcp_sock() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(1)
            accepter = parked(listener.accept)
            accepter.schedule("stray")
            coro.yield_slice()
            assert not accepter.dead
            with tcp_sock() as client:
                client.connect(listener.getsockname())
                accepter.result(5)[0].close()

    loop(main)


# -- selfishness -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("allowance", [1, 4, 7])
def test_busy_readers_take_turns(loop, allowance):
    """After so many operations that need not wait the others run: A A A A B B B B A ... with 4."""
    pairs = [socketpair() for _ in range(2)]
    order = []

    def reader(name, b):
        coro.current().set_max_selfish_acts(allowance)
        for _ in range(3 * allowance):
            b.recv(1)
            order.append(name)

    def main():
        for a, b in pairs:
            a.send(b"x" * 100)
            b.wait_for_read()
        for co in [coro.spawn(reader, name, b) for name, (_, b) in zip("AB", pairs, strict=True)]:
            co.join()
        for s in sum(pairs, ()):
            s.close()

    loop(main)

    assert "".join(order) == ("A" * allowance + "B" * allowance) * 3


def test_one_that_is_always_ready_starves_neither_timers_nor_timeouts(loop):
    """A writer into a buffer that never fills and a reader of it; a timeout ends it in time."""
    a, b = socketpair()

    def busy():
        while True:
            a.send(b"x")
            b.recv(1)

    def main():
        with a, b:
            sleeper = coro.spawn(coro.sleep_relative, 0.002)
            with pytest.raises(coro.TimeoutError):
                coro.with_timeout(0.02, busy)
            assert sleeper.dead

    loop(main)


def test_D_42_an_allowance_that_cannot_be_is_refused(loop):
    """ValueError for less than 1 or more than 32768, TypeError for no number; the old one stays."""

    def main():
        me = coro.current()
        for setter in (set_selfishness, me.set_max_selfish_acts):
            for wrong in (0, -1, 32769):
                with pytest.raises(ValueError, match="from 1 to 32768"):
                    setter(wrong)
            for wrong in (None, 1.5, "4", True):
                with pytest.raises(TypeError):
                    setter(wrong)
        assert me._selfishness == 4
        try:
            assert set_selfishness(32768) is None
            child = coro.spawn(int)
            assert (child._selfishness, me._selfishness) == (32768, 4)
        finally:
            set_selfishness(4)

    loop(main)


# -- closing ---------------------------------------------------------------------------------------------------------


def read_blocked(stack):
    a, b = socketpair()
    stack.enter_context(a)
    return b, lambda: b.recv(10)


def read_into_blocked(stack):
    a, b = socketpair()
    stack.enter_context(a)
    return b, lambda: b.recv_into(bytearray(10))


def write_blocked(stack):
    a, b = socketpair()
    stack.enter_context(a)
    fill(b)
    return b, lambda: b.send(b"x")


def writev_blocked(stack):
    a, b = socketpair()
    stack.enter_context(a)
    fill(b)
    return b, lambda: b.writev([b"x", b"y"])


def accept_blocked(stack):
    listener = create_server(("127.0.0.1", 0))
    return listener, listener.accept


def wait_blocked(stack):
    a, b = socketpair()
    stack.enter_context(a)
    return b, b.wait_for_read


BLOCKED = [read_blocked, read_into_blocked, write_blocked, writev_blocked, accept_blocked, wait_blocked]


@pytest.mark.parametrize("blocked", BLOCKED)
def test_close_wakes_whoever_waits_and_says_who_did_it(loop, blocked):
    """ClosedError (EBADF) that names the coroutine that closed and the one that waited."""

    def main():
        with contextlib.ExitStack() as stack:
            s, call = blocked(stack)
            waiter = parked(fails, call)
            closer = coro.spawn(s.close, thread_name="the closer")
            error = waiter.result(5)
            assert type(error) is coro.ClosedError
            assert error.errno == errno.EBADF
            assert error.closed_by is closer
            assert "the closer" in str(error)
            assert repr(waiter)[:10] in str(error)
            assert not this_kernel().waiting

    loop(main)


def test_close_wakes_the_waiters_of_both_directions(loop):
    """A reader and a writer of one socket."""
    a, b = socketpair()

    def main():
        fill(b)
        waiters = [parked(fails, b.recv, 10), parked(fails, b.send, b"x")]
        b.close()
        assert [type(co.result(5)) for co in waiters] == [coro.ClosedError] * 2
        a.close()

    loop(main)


@pytest.mark.parametrize("blocked", BLOCKED)
@pytest.mark.parametrize("submitted", [True, False], ids=["blocked", "about to block"])
@pytest.mark.parametrize("order", [("shutdown", "close"), ("close", "shutdown")], ids=" then ".join)
def test_shutting_a_coroutine_down_and_closing_its_socket(loop, blocked, submitted, order):
    """In both orders, blocked already or about to: it ends with Shutdown or ClosedError, and all is well."""
    seen = []

    def body(call):
        try:
            call()
        except (coro.Shutdown, coro.ClosedError) as exc:
            seen.append(type(exc))
            raise

    def main():
        with contextlib.ExitStack() as stack:
            s, call = blocked(stack)
            co = coro.spawn(lambda: fails(body, call))
            if submitted:
                coro.yield_slice()
            for step in order:
                (co.shutdown if step == "shutdown" else s.close)()
            co.join()
            assert seen == ([coro.Shutdown] if submitted else [])

    loop(main)


def two_in_one_batch(first, second):
    """Run both, blocked in reads of their own, woken by one poll in an order that the poller decides."""
    (a, b), (c, d) = socketpair(), socketpair()
    with a, c, b, d:
        one, two = parked(first, b, d), parked(second, d)
        a.send(b"go")
        c.send(b"data")
        coro.yield_slice()
        one.join()
        two.join()
        return two


@pytest.mark.parametrize("swapped", [False, True])
def test_a_close_in_the_batch_that_brought_data_is_seen_by_the_reader(loop, swapped):
    """Made ready by data and closed before it ran: ClosedError, not the data of a closed socket."""
    outcomes = []

    def closer(mine, other):
        mine.recv(10)
        closed = not outcomes
        other.close()
        outcomes.append(closed)

    def reader(mine):
        try:
            outcomes.append(mine.recv(10))
        except coro.ClosedError as exc:
            outcomes.append(exc)

    def main():
        numbers = [os.dup(0) for _ in range(swapped)]  # another order of numbers
        two_in_one_batch(closer, reader)
        for number in numbers:
            os.close(number)

    loop(main)

    if outcomes[0] is True:
        assert type(outcomes[1]) is coro.ClosedError
    else:
        assert outcomes == [b"data", False]


def test_a_wake_up_that_was_replaced_by_an_exception_loses_no_data(loop):
    """A reader that is shut down in the batch that brought data: the next reader gets it."""
    seen = []

    def killer(mine, other):
        mine.recv(10)
        victim = other._entry.reader
        if victim is not None:
            assert victim.scheduled or not other._entry.readable
            victim.shutdown()

    def reader(mine):
        try:
            seen.append(mine.recv(10))
        except coro.Shutdown:
            coro.spawn(next_reader, mine.dup(), mine._entry.readable)
            raise

    def next_reader(mine, readable):
        with mine:
            seen.append(coro.with_timeout(5, mine.recv, 10))

    def main():
        two_in_one_batch(killer, reader)
        coro.yield_slice()
        coro.sleep_relative(0.002)

    loop(main)

    assert seen == [b"data"]


def test_close_is_idempotent_and_a_with_block_closes(loop):
    """A second close does nothing, also when the number is in use again by then."""

    def main():
        a, b = socketpair()
        with a as same:
            assert same is a
        assert a.fd == a.fileno() == -1
        number = a.orig_fd
        c, d = socketpair()
        assert number in (c.fd, d.fd)
        a.close()
        a.close()
        c.send(b"x")
        assert d.recv(1) == b"x"
        for s in (b, c, d):
            s.close()

    loop(main)


OPERATIONS = {
    "recv": lambda s: s.recv(1),
    "recv 0": lambda s: s.recv(0),
    "recv with flags": lambda s: s.recv(1, socket.MSG_PEEK),
    "read": lambda s: s.read(1),
    "recv_into": lambda s: s.recv_into(bytearray(1)),
    "recv much": lambda s: s.recv(2**31),
    "recvfrom": lambda s: s.recvfrom(1),
    "recvfrom_into": lambda s: s.recvfrom_into(bytearray(1)),
    "recvmsg": lambda s: s.recvmsg(1),
    "recvmsg_into": lambda s: s.recvmsg_into([bytearray(1)]),
    "recv_exact": lambda s: s.recv_exact(1),
    "readv": lambda s: s.readv([1]),
    "send": lambda s: s.send(b"x"),
    "send a view": lambda s: s.send(memoryview(b"x")),
    "write": lambda s: s.write(b"x"),
    "sendall": lambda s: s.sendall(b"x"),
    "writev": lambda s: s.writev([b"x"]),
    "sendmsg": lambda s: s.sendmsg([b"x"]),
    "send with flags": lambda s: s.send(b"x", socket.MSG_DONTROUTE),
    "sendto": lambda s: s.sendto(b"x", ("127.0.0.1", 9)),
    "sendfile": lambda s: s.sendfile(io.BytesIO(b"x")),
    "accept": lambda s: s.accept(),
    "accept_many": lambda s: s.accept_many(),
    "connect": lambda s: s.connect(("127.0.0.1", 9)),
    "connect_addr": lambda s: s.connect_addr(("127.0.0.1", 9)),
    "bind": lambda s: s.bind(("127.0.0.1", 0)),
    "listen": lambda s: s.listen(1),
    "shutdown": lambda s: s.shutdown(SHUT.RDWR),
    "getsockopt": lambda s: s.getsockopt(SOL.SOCKET, SO.TYPE),
    "setsockopt": lambda s: s.setsockopt(SOL.SOCKET, SO.KEEPALIVE, 1),
    "set_reuse_addr": lambda s: s.set_reuse_addr(),
    "getsockname": lambda s: s.getsockname(),
    "getpeername": lambda s: s.getpeername(),
    "wait_for_read": lambda s: s.wait_for_read(),
    "wait_for_write": lambda s: s.wait_for_write(),
    "get_inheritable": lambda s: s.get_inheritable(),
    "set_inheritable": lambda s: s.set_inheritable(True),
    "dup": lambda s: s.dup(),
    "makefile": lambda s: s.makefile(),
}


@pytest.mark.parametrize("used", [False, True], ids=["never used", "used"])
@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_every_use_of_a_closed_socket_is_a_closed_error(loop, operation, used):
    """At once, with EBADF, saying who closed it."""

    def main():
        if used:
            with create_server(("127.0.0.1", 0)) as listener, tcp_sock() as s:
                s.connect(listener.getsockname())
                listener.accept()[0].close()
                s.recv(10)
        else:
            s = tcp_sock()
            s.close()
        with pytest.raises(coro.ClosedError, match="was closed by") as caught:
            operation(s)
        assert caught.value.errno == errno.EBADF
        assert caught.value.closed_by is coro.current()
        assert not this_kernel().fds.get(s.orig_fd)

    loop(main)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_D_19_an_unclosed_socket_that_is_lost_is_closed_with_a_warning(loop):
    """ResourceWarning that shows the socket; the peer sees the end; waiters for the number are told."""

    def main():
        a, b = socketpair()
        with a:
            waiter = parked(fails, coro.wait_for_read, b.fileno())
            text = repr(b)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                del b
                gc.collect()
            assert [w.category for w in caught] == [ResourceWarning]
            assert str(caught[0].message) == f"unclosed {text}"
            assert a.recv(10) == b""
            assert type(waiter.result(5)) is coro.ClosedError

    loop(main)


@posix
def test_D_19_making_a_socket_interrupts_nobody(loop):
    """Who waits for a number that was closed behind coro's back is left alone; the socket refuses to wait beside it."""

    def main():
        a, b = socket.socketpair()
        waiter = parked(coro.wait_for_read, a)
        number = a.fileno()
        a.close()
        made = [udp_sock()]
        while made[-1].fd != number:
            made.append(udp_sock())
        assert not waiter.scheduled
        assert waiter._pending is None
        with pytest.raises(coro.SimultaneousError) as caught:
            made[-1].recv(10)
        assert caught.value.other is waiter
        waiter.shutdown()
        waiter.join()
        with pytest.raises(coro.TimeoutError):
            coro.with_timeout(0.002, made[-1].recv, 10)
        for s in [*made, b]:
            s.close()

    loop(main)


@posix
def test_D_18_events_of_a_closed_socket_never_reach_the_next_user_of_its_number(loop):
    """A duplicate keeps the old file alive; what happens to it wakes nobody who waits for the number's new owner."""

    def main():
        a, b = socketpair()
        parked_reader = parked(fails, b.recv, 10)  # registers b
        number = b.fd
        keeper = os.dup(number)
        b.close()
        parked_reader.join()
        c, d = socketpair()
        new, peer = (c, d) if c.fd == number else (d, c)
        assert new.fd == number
        new._recv = counted = Counted(new._recv)
        reader = parked(new.recv, 10)
        a.send(b"for the old one")
        coro.sleep_relative(0.002)
        assert counted.calls == 0
        assert not new._entry.readable
        peer.send(b"for the new one")
        assert reader.result(5) == b"for the ne"
        os.close(keeper)
        for s in (a, c, d):
            s.close()

    loop(main)


def test_D_18_numbers_that_are_used_again_at_once_get_the_right_data(loop):
    """Sockets are closed and made in the midst of traffic; each reader gets what was sent to it."""

    def main():
        for i in range(50):
            a, b = socketpair()
            reader = parked(b.recv, 10)
            a.send(b"%d" % i)
            if i % 3:
                assert reader.result() == b"%d" % i
            else:
                coro.yield_slice()
                b.close()
                reader.join()
            a.close()
            b.close()

    loop(main)


def test_D_27_a_failed_constructor_closes_nothing():
    """OSError, descriptor 0 is still what it was, and no socket is counted."""
    live = get_live_sockets()
    before = os.fstat(0)

    for wrong in ({"domain": 9999}, {"stype": 9999}, {"protocol": 9999}):
        with pytest.raises(OSError, match=r"."):
            sock(**wrong)
    with pytest.raises(TypeError):
        sock("inet")
    with pytest.raises((TypeError, ValueError)):
        sock(fd=-2)
    gc.collect()

    assert os.path.samestat(os.fstat(0), before)
    assert get_live_sockets() == live


def test_D_28_errors_of_getpeername_and_getsockname_are_raised():
    """ENOTCONN for an unconnected one."""
    with tcp_sock() as s:
        with pytest.raises(OSError, match="not connected") as caught:
            s.getpeername()
        assert caught.value.errno == errno.ENOTCONN
    for ask in (s.getpeername, s.getsockname):
        with pytest.raises(coro.ClosedError):
            ask()


@posix
def test_D_30_no_descriptor_is_inherited_by_a_program_that_is_executed(loop):
    """New ones, accepted ones, pairs, duplicates and files are close-on-exec."""

    def main():
        with create_server(("127.0.0.1", 0)) as listener, tcp_sock() as client:
            client.connect(listener.getsockname())
            server, _ = listener.accept()
            a, b = socketpair()
            with server, a, b, client.dup() as double, client.makefile("rb") as file:
                for s in (listener, client, server, a, b, double, file):
                    assert not os.get_inheritable(s.fileno())

    loop(main)


@pytest.mark.parametrize("blocked", BLOCKED)
def test_a_timeout_leaves_no_waiter(loop, blocked):
    """The socket can be waited for again at once, by anybody, and nobody counts as waiting."""

    def main():
        with contextlib.ExitStack() as stack:
            s, call = blocked(stack)
            for _ in range(2):
                with pytest.raises(coro.TimeoutError):
                    coro.with_timeout(0.002, call)
                assert not this_kernel().waiting
                assert s._entry.reader is s._entry.writer is None
            other = parked(fails, call)
            s.close()
            assert type(other.result(5)) is coro.ClosedError

    loop(main)


def test_data_that_comes_after_a_timeout_is_there_for_the_next_read(loop):
    """Nothing is lost by an interrupted wait."""
    a, b = socketpair()

    def main():
        with a, b:
            for _ in range(2):
                with pytest.raises(coro.TimeoutError):
                    coro.with_timeout(0.002, b.recv, 10)
                a.send(b"one")
                assert coro.with_timeout(5, b.recv, 10) == b"one"

    loop(main)


# -- where it is used ------------------------------------------------------------------------------------------------


def test_outside_a_coroutine_nothing_blocks(poller):
    """YieldFromMain before and after the loop, and nothing has been begun."""
    a, b = socketpair()
    with a, b, tcp_sock() as s:
        for _ in range(2):
            for call in (
                lambda: b.recv(1),
                lambda: b.recv_into(bytearray(1)),
                lambda: a.send(b"x"),
                lambda: a.writev([b"x"]),
                lambda: s.connect(("127.0.0.1", 9)),
                s.accept,
                b.wait_for_read,
            ):
                with pytest.raises(coro.YieldFromMain):
                    call()
            coro.run(int)
        with pytest.raises(BlockingIOError):
            b._socket.recv(1)


def test_a_foreign_greenlet_may_use_a_socket(loop):
    """All calls work in a greenlet that a library has made on top of a coroutine."""
    a, b = socketpair()

    def body():
        assert b.recv(10) == b"ping"
        size = fill(b)
        coro.spawn(drain, a, size)
        assert b.send(b"pong") == 4
        assert b.recv_exact(4) == b"more"
        with create_server(("127.0.0.1", 0)) as listener:
            coro.spawn(lambda: create_connection(listener.getsockname()).close())
            with listener.accept()[0] as s:
                assert s.recv(10) == b""
        return "done"

    def main():
        with a, b:

            def peer():
                a.send(b"ping")
                while a.recv(4) != b"pong":
                    pass
                a.send(b"more")

            def run():
                return greenlet.greenlet(body).switch()

            co = parked(run)
            a.send(b"ping")
            coro.yield_slice()
            coro.sleep_relative(0.002)
            a.send(b"more")
            assert co.result(5) == "done"

    loop(main)


def test_a_socket_serves_several_loops(loop):
    """One after the other in this thread; each registers it anew and finds what has come meanwhile."""
    a, b = socketpair()

    def main(number):
        assert b.recv(10) == b"%d" % number
        with pytest.raises(coro.TimeoutError):
            coro.with_timeout(0.002, b.recv, 10)
        fill(b)
        with pytest.raises(coro.TimeoutError):
            coro.with_timeout(0.002, b.send, b"x")

    with a, b:
        for number in range(3):
            a._socket.send(b"%d" % number)
            loop(main, number)
            with contextlib.suppress(BlockingIOError):
                while a._socket.recv(65536):
                    pass


def test_a_socket_serves_the_loop_of_another_thread(loop):
    """After a loop here, in a loop there, and here again."""
    a, b = socketpair()
    failures = []

    def main():
        with pytest.raises(coro.TimeoutError):
            coro.with_timeout(0.002, b.recv, 10)
        a.send(b"x")
        reader = coro.spawn(b.recv, 10)
        assert reader.result() == b"x"

    def thread():
        try:
            coro.run(main)
        except BaseException as exc:
            failures.append(exc)

    with a, b:
        loop(main)
        other = threading.Thread(target=thread)
        other.start()
        other.join()
        loop(main)

    assert failures == []


@posix
def test_a_socket_that_has_moved_to_another_loop_leaves_nothing_in_the_first(loop):
    """Its number may then stand for something else there, for which coroutines can wait."""

    def use(s, peer, text):
        reader = parked(s.recv, 10)
        peer.send(text)
        assert reader.result(5) == text

    def elsewhere(a, b):
        def main():
            use(a, b, b"second")
            a.close()

        coro.run(main)

    def main():
        a, b = socketpair()
        reader, writer = os.pipe()
        with b:
            use(a, b, b"first")
            number = a.fd
            coro.to_thread(elsewhere, a, b)
            with coro.timeout(5):
                while number in this_kernel().fds:  # it hears of that by the next poll
                    coro.sleep_relative(0.001)
            os.dup2(reader, number)
            try:
                os.write(writer, b"x")
                coro.wait_for_read(number)
                assert os.read(number, 10) == b"x"
            finally:
                for fd in (reader, writer, number):
                    os.close(fd)

    loop(main)


def test_two_loops_at_once_are_refused(loop):
    """While a coroutine of one thread waits, another thread may neither read nor write; a close there is told here."""
    a, b = socketpair()
    seen = []

    def elsewhere():
        fill(b)
        seen.append(fails(b.recv, 10))
        seen.append(fails(b.send, b"x"))
        b.close()

    def main():
        reader = parked(fails, b.recv, 10)
        thread = threading.Thread(target=coro.run, args=(elsewhere,))
        thread.start()
        error = reader.result(10)
        thread.join()
        assert type(error) is coro.ClosedError
        assert [type(exc) for exc in seen] == [coro.SimultaneousError] * 2
        assert all(exc.other is reader for exc in seen)

    with a:
        loop(main)


def test_descriptors_are_not_leaked(loop, connection):
    """Connections that come and go, are refused or time out, leave the table of the loop as it was."""

    def main():
        for _ in range(5):
            with connection() as (a, b):
                a.send(b"x")
                b.recv(10)
        assert this_kernel().fds == {}

    loop(main)


# -- the object ------------------------------------------------------------------------------------------------------


def test_repr_and_attributes():
    """<sock fd=6/6 domain=2 type=1 at 0x...>, with -1 after the close."""
    s = tcp_sock()
    number = s.fd
    assert repr(s) == f"<sock fd={number}/{number} domain={int(AF.INET)} type={int(SOCK.STREAM)} at {id(s):#x}>"
    assert (s.orig_fd, s.domain, s.stype, s.fileno()) == (number, AF.INET, SOCK.STREAM, number)
    s.close()
    assert repr(s) == f"<sock fd=-1/{number} domain={int(AF.INET)} type={int(SOCK.STREAM)} at {id(s):#x}>"


def test_the_shorthands_make_what_they_say():
    """Family and kind; the constants are those of the standard library."""
    made = {
        tcp_sock: (socket.AF_INET, socket.SOCK_STREAM),
        udp_sock: (socket.AF_INET, socket.SOCK_DGRAM),
        partial(make_socket, PF.INET, SOCK.DGRAM): (socket.AF_INET, socket.SOCK_DGRAM),
        sock: (socket.AF_INET, socket.SOCK_STREAM),
    }
    if has_ipv6():
        made[tcp6_sock] = (socket.AF_INET6, socket.SOCK_STREAM)
        made[udp6_sock] = (socket.AF_INET6, socket.SOCK_DGRAM)
    if hasattr(socket, "AF_UNIX"):
        made[unix_sock] = (socket.AF_UNIX, socket.SOCK_STREAM)
        assert AF.LOCAL == AF.UNIX
    for make, expected in made.items():
        with make() as s:
            assert (s._socket.family, s._socket.type) == (s.domain, s.stype) == expected
    assert AF is PF
    assert (SHUT.RD, SHUT.WR, SHUT.RDWR) == (0, 1, 2)
    assert SOL.SOCKET == socket.SOL_SOCKET
    for name in (
        "DEBUG",
        "REUSEADDR",
        "KEEPALIVE",
        "LINGER",
        "BROADCAST",
        "OOBINLINE",
        "SNDBUF",
        "RCVBUF",
        "TYPE",
        "ERROR",
    ):
        assert getattr(SO, name) == getattr(socket, f"SO_{name}")


def test_options_are_ints_or_packed_bytes():
    """Both ways, as in the standard library."""
    with tcp_sock() as s:
        s.setsockopt(SOL.SOCKET, SO.KEEPALIVE, 1)
        assert s.getsockopt(SOL.SOCKET, SO.KEEPALIVE) != 0
        s.setsockopt(SOL.SOCKET, SO.LINGER, struct.pack("ii", 1, 7))
        assert struct.unpack("ii", s.getsockopt(SOL.SOCKET, SO.LINGER, 8)) == (1, 7)
        with pytest.raises(OSError, match=r"."):
            s.getsockopt(SOL.SOCKET, 99999)


def test_live_sockets_are_counted():
    """From the making of the object to its end, closed or not."""
    gc.collect()
    before = get_live_sockets()
    a, b = socketpair()
    assert get_live_sockets() == before + 2
    a.close()
    b.close()
    assert get_live_sockets() == before + 2
    del a, b
    gc.collect()
    assert get_live_sockets() == before


def test_a_duplicate_is_independent(loop):
    """It has its own descriptor and readiness; closing one leaves the other."""
    a, b = socketpair()

    def main():
        c = b.dup()
        assert (c.domain, c.stype) == (b.domain, b.stype)
        assert c.fd != b.fd
        reader = parked(c.recv, 10)
        other = parked(b.recv, 10)
        other.shutdown()
        b.close()
        a.send(b"x")
        assert reader.result(5) == b"x"
        c.close()
        assert a.recv(10) == b""
        a.close()

    loop(main)


def test_makefile_reads_lines_and_writes(loop):
    """Text and bytes, one direction or both; it has a descriptor of its own."""
    a, b = socketpair()

    def main():
        with a, b:
            with b.makefile("rw", encoding="utf-8", newline="\n") as file:
                reader = parked(file.readline)
                a.send("först\nsec".encode())
                assert reader.result(5) == "först\n"
                a.send(b"ond\nthird")
                assert file.readline() == "second\n"
                file.write("ånswer\n")
                file.flush()
                assert a.recv(100).decode() == "ånswer\n"
            with b.makefile("rb") as file:
                a.send(b"1\n2\n")
                a.shutdown(SHUT.WR)
                assert list(file) == [b"1\n", b"2\n"]  # what the first file had buffered is gone with it
                with pytest.raises(io.UnsupportedOperation):
                    file.write(b"x")
            with b.makefile("wb") as file:
                assert file.write(b"x" * 10) == 10
                with pytest.raises(io.UnsupportedOperation):
                    file.read(1)
            assert a.recv(100) == b"x" * 10
            with b.makefile("rwb", 0) as file:
                assert file.fileno() not in (-1, b.fileno())
                assert file.write(b"raw") == 3
                assert file.read(10) == b""
                assert (file.readable(), file.writable()) == (True, True)
            assert a.recv(100) == b"raw"
            for mode in ("", "x", "b", "a", "r+"):
                with pytest.raises(ValueError, match="mode"):
                    b.makefile(mode)
            with pytest.raises(ValueError, match="text needs a buffer"):
                b.makefile("r", 0)

    loop(main)


@pytest.mark.parametrize("mode", ["wb", "rwb", "w", "rw"])
def test_an_interrupted_flush_of_a_file_sends_nothing_twice(loop, mode):
    """What went before the interruption is not sent again, and the next flush sends the rest."""
    data = bytes(range(65, 91)) * 4000

    def main():
        a, b = socketpair()
        a.setsockopt(SOL.SOCKET, SO.SNDBUF, 4096)
        with a, b:
            with a.makefile(mode, 200_000) as file:
                file.write(data if "b" in mode else data.decode())
                flusher = parked(file.flush)
                begin = b.recv(100)  # a part has been sent
                flusher.shutdown()
                flusher.join()
                reader = coro.spawn(read_to_end, b)
                file.flush()
            a.shutdown(SHUT.WR)
            assert begin + reader.result() == data

    loop(main)


def test_what_was_written_before_an_interrupted_write_of_text_is_kept(loop):
    """Whatever a write returned for is sent by the next flush."""

    def main():
        a, b = socketpair()
        with a, b:
            room = fill(a)
            file = a.makefile("w", 8192)
            written = []

            def write():
                for letter in "abcdef":
                    file.write(letter * 5000)
                    written.append(letter * 5000)

            writer = parked(write)
            writer.shutdown()
            writer.join()
            assert written
            reader = coro.spawn(read_to_end, b)
            file.close()
            a.shutdown(SHUT.WR)
            assert reader.result()[room:].decode() == "".join(written)

    loop(main)


def test_a_file_without_a_buffer_writes_a_part(loop):
    """It waits for room, writes what goes at once and returns how much that was."""

    def main():
        a, b = socketpair()
        a.setsockopt(SOL.SOCKET, SO.SNDBUF, 4096)
        with a, b, a.makefile("wb", 0) as file:
            room = fill(a)
            writer = parked(file.write, b"y" * 100_000)
            b.recv_exact(room)
            sent = writer.result(5)
            assert 0 < sent < 100_000
            assert b.recv_exact(sent) == b"y" * sent

    loop(main)


@posix
def test_a_file_that_cannot_be_made_leaves_no_descriptor(loop):
    """An unknown encoding is an error, and the duplicate is closed before it is raised."""

    def main():
        a, b = socketpair()
        with a, b:
            before = os.dup(0)
            os.close(before)
            with pytest.raises(LookupError, match="nonsense") as caught:
                a.makefile("r", encoding="nonsense")
            after = os.dup(0)  # the lowest number that is free
            os.close(after)
            assert after == before, caught

    loop(main)


def test_the_file_outlives_the_socket(loop):
    """The peer sees the end when both are closed."""
    a, b = socketpair()

    def main():
        file = b.makefile("rwb")
        b.close()
        a.send(b"line\n")
        assert file.readline() == b"line\n"
        file.write(b"answer")
        file.close()
        assert a.recv_exact(6) == b"answer"
        assert a.recv(10) == b""
        a.close()

    loop(main)


# -- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["file", "bytesio"])
def test_sendfile_sends_and_leaves_the_position_behind_it(loop, connection, tmp_path, kind):
    """Whole or in part, through buffers that fill; 0 at the end of the file."""
    data = os.urandom(1_000_000)
    (tmp_path / "data").write_bytes(data)

    def main():
        with connection() as (a, b), open(tmp_path / "data", "rb") if kind == "file" else io.BytesIO(data) as file:
            reader = coro.spawn(b.recv_exact, len(data))
            assert a.sendfile(file) == len(data)
            assert file.tell() == len(data)
            assert reader.result() == data
            assert a.sendfile(file, 500, 20) == 20
            assert file.tell() == 520
            assert b.recv_exact(20) == data[500:520]
            assert a.sendfile(file, len(data) - 5) == 5
            assert b.recv_exact(5) == data[-5:]
            assert a.sendfile(file, len(data)) == 0
            for wrong in ({"offset": -1}, {"count": 0}, {"count": -5}):
                with pytest.raises(ValueError, match="cannot send"):
                    a.sendfile(file, **wrong)
            with open(tmp_path / "data", encoding="latin-1") as text, pytest.raises(ValueError, match="binary"):
                a.sendfile(text)

    loop(main)


@linux
def test_sendfile_sends_a_file_that_the_system_cannot_send_by_itself(loop):
    """Those of /proc are regular, but sendfile(2) refuses many of them: they are read and sent."""

    def main():
        a, b = socketpair()
        with a, b, open("/proc/self/limits", "rb") as file:
            data = file.read()
            assert a.sendfile(file) == len(data)
            assert b.recv_exact(len(data)) == data

    loop(main)


@posix
def test_D_14_a_hangup_alone_wakes_the_reader_and_the_writer_of_a_pipe(loop):
    """The reader of an empty pipe whose writer closes, and the writer of a full pipe whose reader closes."""

    def main():
        r, w = map(fd_sock, os.pipe())
        reader = parked(r.recv, 10)
        w.close()
        assert reader.result(5) == b""
        r.close()

        r, w = map(fd_sock, os.pipe())
        writer = parked(fails, w.send, b"x" * 1_000_000)
        r.close()
        assert isinstance(writer.result(5), BrokenPipeError)
        w.close()

    loop(main)


@posix
def test_a_pipe_is_used_like_a_socket(loop):
    """Both directions block, big data passes, readv and writev work; what only a socket can is ENOTSOCK."""
    data = os.urandom(500_000)

    def main():
        r, w = map(fd_sock, os.pipe())
        assert (r.domain, r.stype) == (AF.UNSPEC, 0)
        with r, w:
            reader = parked(r.recv_exact, len(data))
            assert w.send(data) == len(data)
            assert reader.result() == data
            assert w.writev([b"abc", b"de"]) == 5
            assert r.readv([2, 3]) == (b"ab", b"cde")
            buffer = bytearray(10)
            reader = parked(r.recv_into, buffer)
            w.send(b"xyz")
            assert (reader.result(5), buffer[:3]) == (3, b"xyz")
            for call in (r.getsockname, partial(r.recvfrom, 1), partial(r.shutdown, 0), r.accept):
                with pytest.raises(OSError, match="no socket") as caught:
                    call()
                assert caught.value.errno == errno.ENOTSOCK
            with r.dup() as double:
                w.send(b"!")
                assert double.recv(10) == b"!"

    loop(main)


@posix
def test_a_regular_file_is_always_ready_and_refused_by_the_waits(loop, tmp_path):
    """Reads and writes work; waiting for it is EPERM and leaves nothing behind."""
    path = tmp_path / "file"
    path.write_bytes(b"data")

    def main():
        with fd_sock(os.open(path, os.O_RDWR)) as s:
            assert s.recv(10) == b"data"
            assert s.send(b"more") == 4
            for wait in (s.wait_for_read, s.wait_for_write):
                with pytest.raises(PermissionError):
                    wait()
            assert this_kernel().fds == {}
            assert s.recv(10) == b""
        assert path.read_bytes() == b"datamore"

    loop(main)


@posix
def test_a_closed_descriptor_is_refused_and_leaves_nothing_behind(loop):
    """EBADF for a number that is not open, at the wrapping or at the wait."""

    def main():
        number = os.dup(0)
        os.close(number)
        live = get_live_sockets()
        with pytest.raises(OSError, match="Bad file") as caught:
            fd_sock(number)
        assert caught.value.errno == errno.EBADF
        assert get_live_sockets() == live
        a, b = socketpair()
        os.close(b.fd)
        with pytest.raises(OSError, match="Bad file"):
            b.recv(10)
        assert this_kernel().fds == {}
        b._socket.detach()
        b._socket = None
        with pytest.raises(OSError, match="Bad file"):
            b.close()
        a.close()

    loop(main)


def test_a_wrapped_socket_has_its_own_family_and_kind(loop):
    """sock(fd=...) takes over the descriptor."""

    def main():
        std = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with sock(fd=std.detach()) as s:
            assert (s.domain, s.stype) == (AF.INET, SOCK.DGRAM)
            s.bind(("127.0.0.1", 0))
            s.sendto(b"x", s.getsockname())
            assert s.recv(10) == b"x"

    loop(main)


@posix
def test_a_wrapped_file_is_closed_by_close_only(loop):
    """file_sock and coro_fd keep their object alive, close it once, and leave it open when they are lost."""
    assert coro_fd is file_sock

    def main():
        r, w = os.pipe()
        reader, writer = os.fdopen(r, "rb", 0), os.fdopen(w, "wb", 0)
        s, t = file_sock(reader), file_sock(writer)
        child = parked(s.recv, 10)
        t.send(b"x")
        assert child.result(5) == b"x"
        del s, child
        gc.collect()
        assert not reader.closed
        assert this_kernel().fds == {}
        t.close()
        assert writer.closed
        with file_sock(reader) as s:
            assert s.recv(10) == b""
        assert reader.closed

        a, b = socket.socketpair()
        with file_sock(a) as s:
            b.send(b"y")
            assert s.recv(10) == b"y"
            assert (s.domain, s.stype) == (a.family, a.type)
        assert a.fileno() == -1
        b.close()

    loop(main)


# -- create_connection and create_server -----------------------------------------------------------------------------


@pytest.fixture
def addresses(monkeypatch):
    """Sets what a name resolves to; the sockets are real."""

    def set_addresses(*found):
        answer = [
            (socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))
            for host, port in found
        ]
        monkeypatch.setattr(connect, "getaddrinfo", lambda *args: answer)

    monkeypatch.setattr(connect, "HEAD_START", 0.01)
    return set_addresses


@contextlib.contextmanager
def deaf(host="127.0.0.1"):
    """The address of a server whose backlog is full: connecting to it takes for ever."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server((host, 0), backlog=0))
        for _ in range(3):
            s = stack.enter_context(socket.socket())
            s.setblocking(False)
            s.connect_ex(listener.getsockname())
        yield listener.getsockname()


def test_create_connection_connects(loop):
    """By name and by number, with an address of its own."""

    def main():
        with create_server(("localhost", 0)) as listener:
            port = listener.getsockname()[1]
            for host in ("localhost", "127.0.0.1"):
                with create_connection((host, port), 5, ("127.0.0.1", 0)) as s:
                    accepted, address = listener.accept()
                    accepted.close()
                    assert s.getsockname() == address
                    assert s.recv(1) == b""

    loop(main)


def test_create_connection_raises_what_is_wrong(loop):
    """The error of the only address; of several one OSError, caused by the group of all; unknown names; timeouts."""

    def main():
        gone = refused_address("ipv4", None)
        with pytest.raises(ConnectionRefusedError):
            create_connection(gone)
        with pytest.raises(socket.gaierror):
            create_connection(("no such host.invalid", 9))
        for wrong in ((123, 80), None, "localhost"):
            with pytest.raises(TypeError):
                create_connection(wrong)

    loop(main)


def test_create_connection_groups_the_errors_of_several_addresses(loop, addresses):
    """The errno is theirs if it is the same for all."""
    gone = refused_address("ipv4", None)
    addresses(gone, ("127.0.0.2", gone[1]))

    def main():
        with pytest.raises(ConnectionRefusedError, match="none of the 2 addresses of 'name'") as caught:
            create_connection(("name", gone[1]))
        assert isinstance(caught.value.__cause__, ExceptionGroup)
        assert [type(exc) for exc in caught.value.__cause__.exceptions] == [ConnectionRefusedError] * 2

    loop(main)


@linux
def test_create_connection_does_not_wait_for_an_address_that_is_deaf(loop, addresses):
    """The next is begun after a while; the first connection wins, and the others are closed."""

    def main():
        with deaf() as silent, create_server(("127.0.0.3", 0)) as listener:
            addresses(silent, ("127.0.0.2", silent[1]), listener.getsockname())
            live = get_live_sockets()
            with create_connection(("name", 1), 5) as s:
                assert s.getpeername() == listener.getsockname()
                for _ in range(3):
                    coro.yield_slice()
                gc.collect()
                assert get_live_sockets() == live + 1
            listener.accept()[0].close()

    loop(main)


@linux
def test_create_connection_that_is_interrupted_closes_all(loop, addresses):
    """A timeout over attempts that take for ever."""

    def main():
        with deaf() as silent, deaf("127.0.0.2") as other:
            addresses(silent, other)
            live = get_live_sockets()
            with pytest.raises(coro.TimeoutError):
                create_connection(("name", 1), 0.03)
            for _ in range(3):
                coro.yield_slice()
            gc.collect()
            assert get_live_sockets() == live
            with pytest.raises(coro.TimeoutError):
                create_connection(silent, 0.005)

    loop(main)


@ipv6
def test_create_connection_takes_the_families_in_turn(loop, addresses, monkeypatch):
    """RFC 8305: 6 6 4 4 is tried as 6 4 6 4."""
    tried = []

    def connected(family, address, source):
        tried.append(address[1])
        raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")

    monkeypatch.setattr(connect, "connected", connected)
    addresses(("::1", 1), ("::1", 2), ("127.0.0.1", 3), ("127.0.0.1", 4))

    def main():
        with pytest.raises(ConnectionRefusedError):
            create_connection(("name", 1))

    loop(main)

    assert tried == [1, 3, 2, 4]
