"""What one end of a socket sends the other receives: streams, the sizes and buffers of reads and writes, datagrams."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from functools import partial

import pytest

import coro
from coro.connect import create_server, socketpair, tcp_sock, udp6_sock, udp_sock
from coro.kernel import this_kernel
from coro.sockets import AF, SHUT, SO, SOCK, SOL, sock

from .helpers import Counted, CountedIO, fails, fill, ipv6, linux, parked, posix, reset
from .socket_fixtures import connection_fixture, family_fixture, listen_fixture  # noqa: F401  fixtures

# -- streams ---------------------------------------------------------------------------------------------------------


def echo(s):
    while data := s.recv(1000):
        s.send(data)


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
        a._io, b._io = ends = CountedIO(a._io), CountedIO(b._io)
        poller = this_kernel().poller
        register, arm = Counted(poller.register), Counted(poller.arm)
        if poller.edge:
            poller.register, poller.arm = register, arm
        for i in range(100):
            a.send(b"%d" % i)
            assert a.recv(1000) == b"%d" % i
        for end in ends:
            assert [(c.calls, c.failures) for c in (end.recv, end.send)] == [(100, 0)] * 2
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
                a._io = counted = CountedIO(a._io)
                for i in range(10):
                    a.send(b"%d" % i)
                    assert a.recv(10) == b"%d" % i
                assert counted.recv.failures <= 1
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


@posix
def test_flags_for_what_is_no_socket_are_refused_at_once(loop):
    """Not after a wait until the pipe has room."""

    def main():
        reader, writer = os.pipe()
        with sock(fd=writer) as s:
            with pytest.raises(coro.TimeoutError):
                coro.with_timeout(0.005, s.send, b"x" * 1_000_000)
            with pytest.raises(OSError, match="is no socket") as caught:
                coro.with_timeout(5, s.send, b"x", socket.MSG_DONTWAIT)
        assert caught.value.errno == errno.ENOTSOCK
        os.close(reader)

    loop(main)
