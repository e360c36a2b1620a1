"""TLS: `wrap_tls`, `create_tls_connection` and `tls_sock`, against themselves and against other implementations.

The certificates are made by trustme.  The other implementations are the blocking ssl of the standard library in a
thread, and the openssl program where there is one.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import gc
import hashlib
import shutil
import socket
import ssl
import struct
import subprocess
import threading

import greenlet
import pytest

import coro
from coro import tls as tls_module
from coro.sockets import SHUT, SO, SOL, sock
from coro.tls import create_tls_connection, tls_sock, wrap_tls

trustme = pytest.importorskip("trustme")

OPENSSL = shutil.which("openssl")
openssl = pytest.mark.skipif(
    OPENSSL is None or "OpenSSL 3" not in subprocess.run([OPENSSL, "version"], capture_output=True, text=True).stdout,
    reason="needs the openssl program, version 3",
)


@pytest.fixture(scope="session")
def ca():
    return trustme.CA()


@pytest.fixture(scope="session")
def server_context(ca):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    return context


@pytest.fixture(scope="session")
def files(ca, tmp_path_factory):
    """The paths of the certificate of the authority and of the certificate and key of the server."""
    folder = tmp_path_factory.mktemp("certificates")
    issued = ca.issue_cert("localhost", "127.0.0.1")
    ca.cert_pem.write_to_path(folder / "ca.pem")
    issued.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    return folder / "ca.pem", folder / "server.pem"


@pytest.fixture
def client_context(ca):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ca.configure_trust(context)
    return context


@pytest.fixture(params=["TLSv1_2", "TLSv1_3"])
def version(request, client_context):
    """Each version of the protocol, set in the context of the client."""
    chosen = ssl.TLSVersion[request.param]
    client_context.minimum_version = client_context.maximum_version = chosen
    return request.param.replace("_", ".")


def tcp_pair():
    """Two sockets that are connected by TCP."""
    with coro.create_server(("127.0.0.1", 0)) as listener:
        child = coro.spawn(listener.accept)
        client = coro.create_connection(listener.getsockname())
        return client, child.result()[0]


@pytest.fixture
def connection(client_context, server_context):
    """Makes both ends of a TLS connection, which are closed at the end of the block.

    Over TCP, or over a pair of sockets with small buffers.
    """

    @contextlib.contextmanager
    def make(small=False, client_context=client_context, server_context=server_context, **kwargs):
        a, b = coro.socketpair() if small else tcp_pair()
        if small:
            for end in (a, b):
                end.setsockopt(SOL.SOCKET, SO.SNDBUF, 4096)
                end.setsockopt(SOL.SOCKET, SO.RCVBUF, 4096)
        accepting = coro.spawn(wrap_tls, b, server_context, server_side=True)
        client = wrap_tls(a, client_context, server_hostname="localhost", **kwargs)
        with client, accepting.result() as server:
            yield client, server

    return make


def parked(fn, *args):
    """A coroutine that has called fn and is blocked in it."""
    co = coro.spawn(fn, *args)
    coro.yield_slice()
    assert co.started
    assert not co.dead
    return co


def fails(fn, *args, **kwargs):
    """Return what fn raises."""
    try:
        fn(*args, **kwargs)
    except Exception as exc:
        return exc
    return pytest.fail("nothing was raised")


def reset(s):
    """Close with a RST."""
    s.setsockopt(SOL.SOCKET, SO.LINGER, struct.pack("ii", 1, 0))
    s.close()


def read_all(tls):
    """What comes before the end of the stream."""
    parts = []
    while data := tls.recv(100_000):
        parts.append(data)
    return b"".join(parts)


def fill(tls):
    """Send, and be interrupted when nothing more fits."""
    with contextlib.suppress(coro.TimeoutError):
        coro.with_timeout(0.02, tls.send, bytes(8_000_000))


def some_bytes(size, seed=b""):
    block = hashlib.sha512(seed).digest() * 1021  # coprime with the size of a record
    return (block * (size // len(block) + 1))[:size]


# -- streams ---------------------------------------------------------------------------------------------------------


def test_what_is_sent_is_received_and_the_end_is_empty(loop, connection, version):
    """With both versions, both ways; send returns the length; after a close the other end reads b"", every time."""

    def main():
        with connection() as (a, b):
            assert a.send(b"hello") == 5
            assert b.recv(100) == b"hello"
            assert b.sendall(bytearray(b"world!")) == 6
            assert a.recv(2) == b"wo"
            assert a.pending() == 4
            assert a.read(100) == b"rld!"
            assert b.write(memoryview(b"abc")) == 3
            assert a.recv_exact(3) == b"abc"
            a.close()
            assert b.recv(100) == b""
            assert b.recv(100) == b""
            assert b.recv_into(bytearray(5)) == 0

    loop(main)


def test_a_connection_tells_what_it_is(loop, connection, client_context, server_context, version):
    """Version, cipher, certificate, names, contexts and addresses are those of ssl and of the socket."""

    def main():
        with connection() as (a, b):
            assert a.version() == b.version() == version
            assert a.cipher() == b.cipher()
            assert a.cipher()[1] == version
            assert ("DNS", "localhost") in a.getpeercert()["subjectAltName"]
            assert ssl.DER_cert_to_PEM_cert(a.getpeercert(True)).startswith("-----BEGIN")
            assert b.getpeercert() is None
            assert a.server_hostname == "localhost"
            assert (a.server_side, b.server_side) == (False, True)
            assert a.context is client_context
            assert b.context is server_context
            assert a.getpeername() == b.getsockname()
            assert a.selected_alpn_protocol() is None
            assert a.ssl_object.get_channel_binding() == b.ssl_object.get_channel_binding()
            assert a.fileno() >= 0
            assert repr(a).startswith(f"<tls_sock fd={a.fileno()}/{a.fileno()} {version} server_hostname='localhost' ")
            a.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            assert a.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert len(a.getsockopt(SOL.SOCKET, SO.LINGER, 8)) == 8

    loop(main)


def test_reading_into_buffers_and_in_pieces(loop, connection):
    """recv_into fills a part of any writable buffer, recv_exact and readv wait for all, writev joins."""

    def main():
        with connection() as (a, b):
            buffer = bytearray(10)
            assert a.writev([b"abc", bytearray(b"def"), b"", memoryview(b"gh")]) == 8
            assert b.recv_into(buffer, 4) == 4
            assert b.recv_into(memoryview(buffer)[4:]) == 4
            assert buffer == b"abcdefgh\0\0"
            child = parked(b.recv_exact, 50_000)
            a.send(some_bytes(20_000))
            a.send(some_bytes(50_000)[20_000:])
            assert child.result() == some_bytes(50_000)
            a.send(b"12345")
            assert b.readv([1, 0, 3]) == (b"1", b"", b"234")
            a.close()
            assert b.readv([3, 3]) == (b"5",)
            assert isinstance(fails(b.recv_exact, 1), EOFError)

    loop(main)


def test_sizes_of_nothing(loop, connection):
    """No bytes can be asked for and sent at any time; negative and too large sizes and text are refused at once."""

    def main():
        with connection() as (a, b):
            assert a.send(b"") == 0
            assert b.recv(0) == b""
            assert b.recv_into(bytearray()) == 0
            assert isinstance(fails(b.recv, -1), ValueError)
            assert isinstance(fails(b.recv_exact, -1), ValueError)
            assert isinstance(fails(b.recv_into, bytearray(3), 4), ValueError)
            assert isinstance(fails(b.recv_into, bytearray(3), -1), ValueError)
            assert isinstance(fails(b.recv_into, b"read only"), TypeError)
            assert isinstance(fails(a.send, "text"), TypeError)
            a.send(b"still whole")
            assert b.recv(100) == b"still whole"

    loop(main)


def test_outside_a_coroutine_nothing_is_read_or_written(loop, client_context, server_context):
    """YieldFromMain, also if there is something to read already; a close works."""

    def main():
        a, b = tcp_pair()
        accepting = coro.spawn(wrap_tls, b, server_context, server_side=True)
        client = wrap_tls(a, client_context, server_hostname="localhost")
        accepting.result().send(b"data")
        client.recv(1)
        return client, accepting.result()

    a, b = loop(main)
    with a, b:
        assert a.pending() == 3
        for blocking in (lambda: a.recv(1), lambda: a.send(b"x"), lambda: a.shutdown(SHUT.WR)):
            assert isinstance(fails(blocking), coro.YieldFromMain)
    with coro.tcp_sock() as plain:
        assert isinstance(fails(wrap_tls, plain, client_context, server_hostname="x"), coro.YieldFromMain)
        assert plain.fd >= 0
    assert isinstance(fails(create_tls_connection, ("127.0.0.1", 1)), coro.YieldFromMain)


@pytest.mark.parametrize("small", [False, True])
def test_both_directions_carry_megabytes_at_the_same_time(loop, connection, version, small):
    """Two readers and two writers on one connection, also with small buffers; what arrives has the same hash."""
    size = 400_000 if small else 3_000_000

    def main():
        with connection(small=small) as (a, b):
            there, back = some_bytes(size, b"there"), some_bytes(size, b"back")
            writers = [coro.spawn(a.send, there), coro.spawn(b.send, back)]
            readers = [coro.spawn(b.recv_exact, size), coro.spawn(a.recv_exact, size)]
            assert [co.result() for co in writers] == [size, size]
            for co, sent in zip(readers, (there, back), strict=True):
                assert hashlib.sha256(co.result()).digest() == hashlib.sha256(sent).digest()

    loop(main)


def test_a_blocked_writer_does_not_stop_the_reader(loop, connection):
    """While one coroutine waits for room to write in, another one reads what comes."""

    def main():
        with connection(small=True) as (a, b):
            writer = parked(a.send, bytes(1_000_000))
            for _ in range(3):
                reader = coro.spawn(a.recv_exact, 20_000)
                b.send(b"x" * 20_000)
                assert reader.result() == b"x" * 20_000
            assert not writer.dead
            assert b.recv_exact(1_000_000) == bytes(1_000_000)
            assert writer.result() == 1_000_000

    loop(main)


def test_a_second_reader_and_a_second_writer_are_refused(loop, connection):
    """SimultaneousError names both; the first ones are not disturbed."""

    def main():
        with connection(small=True) as (a, b):
            reader = parked(a.recv, 10)
            writer = parked(a.send, bytes(1_000_000))
            for call, other, verb in (
                (lambda: a.recv(1), reader, "read"),
                (lambda: a.recv_into(bytearray(1)), reader, "read"),
                (lambda: a.send(b"x"), writer, "write"),
                (lambda: a.shutdown(SHUT.WR), writer, "write"),
            ):
                exc = fails(call)
                assert isinstance(exc, coro.SimultaneousError)
                assert (exc.co, exc.other, exc.event) == (coro.current(), other, (a.fileno(), verb))
            b.send(b"reply")
            assert reader.result() == b"reply"
            assert b.recv_exact(1_000_000) == bytes(1_000_000)
            assert writer.result() == 1_000_000

    loop(main)


def test_a_greenlet_on_top_of_a_coroutine_can_read_and_write(loop, connection):
    """What blocks is the greenlet that called, as with sockets."""

    def main():
        with connection(small=True) as (a, b):
            echo = coro.spawn(lambda: b.send(b.recv_exact(1_000_000)))

            def inner():
                co = coro.spawn(a.send, bytes(1_000_000))
                assert a.recv_exact(1_000_000) == bytes(1_000_000)
                return co.result()

            assert greenlet.greenlet(inner).switch() == 1_000_000
            assert echo.result() == 1_000_000

    loop(main)


def test_a_reader_that_never_has_to_wait_lets_others_run(loop, connection):
    """Data that come as fast as they are read do not hold up the other coroutines."""

    def main():
        with connection() as (a, b):
            turns = 0

            def count():
                nonlocal turns
                while True:
                    turns += 1
                    coro.yield_slice()

            counter = coro.spawn(count)
            writer = coro.spawn(a.send, bytes(3_000_000))
            assert b.recv_exact(3_000_000) == bytes(3_000_000)
            writer.join()
            assert turns > 3
            counter.shutdown()

    loop(main)


# -- the end ---------------------------------------------------------------------------------------------------------


def test_a_truncated_stream_is_an_error(loop, connection, version):
    """A connection that ends without close_notify: first all the data, then SSLEOFError, again and again."""

    def main():
        with connection() as (a, b):
            a.send(b"part")
            a._sock.shutdown(SHUT.WR)
            assert b.recv(2) == b"pa"
            assert b.recv(100) == b"rt"
            for read in (lambda: b.recv(100), lambda: b.recv_into(bytearray(5)), lambda: b.recv_exact(5), b.unwrap):
                exc = fails(read)
                assert isinstance(exc, ssl.SSLEOFError)
                assert "close_notify" in str(exc)
            assert isinstance(fails(b.send, b"x"), OSError)

    loop(main)


def test_a_reset_connection_is_an_error(loop, connection):
    """ConnectionResetError for the reader that waits and for the writer that waits."""

    def main():
        with connection() as (a, b):
            reader = parked(fails, a.recv, 10)
            writer = parked(fails, a.send, bytes(30_000_000))
            reset(b._sock)
            errors = [reader.result(), writer.result()]
            assert any(isinstance(exc, ConnectionResetError) for exc in errors)
            assert all(isinstance(exc, OSError) for exc in errors)

    loop(main)


def test_a_reader_learns_of_a_reset(loop, connection):
    """A reader that waits alone gets ConnectionResetError."""

    def main():
        with connection() as (a, b):
            reader = parked(fails, a.recv, 10)
            reset(b._sock)
            assert isinstance(reader.result(), ConnectionResetError)

    loop(main)


def test_close_sends_close_notify_though_the_buffers_are_full(loop, connection):
    """It waits for room; the other end reads all the data and then b""."""

    def main():
        with connection(small=True) as (a, b):
            size = 0
            while a._push():
                size += a.ssl_object.write(bytes(5000))
            closer = parked(a.close)
            assert read_all(b) == bytes(size)
            closer.join()
            assert a.fileno() == -1

    loop(main)


def test_close_does_not_wait_for_ever(loop, connection, monkeypatch):
    """The other end does not read: after its time close gives up, and closes."""
    monkeypatch.setattr(tls_module, "CLOSE_TIMEOUT", 0.02)

    def main():
        with connection(small=True) as (a, _):
            while a._push():
                a.ssl_object.write(bytes(5000))
            coro.with_timeout(20, a.close)
            assert a.fileno() == -1

    loop(main)


def test_an_interrupted_close_closes(loop, connection):
    """A timeout or a shutdown while it waits leaves no descriptor."""

    def main():
        with connection(small=True) as (a, b):
            for end in (a, b):
                while end._push():
                    end.ssl_object.write(bytes(5000))
            assert isinstance(fails(coro.with_timeout, 0.01, a.close), coro.TimeoutError)
            assert a.fileno() == -1
            closing = coro.spawn(b.close)
            closing.shutdown()
            closing.join()

    loop(main)


def test_close_after_an_interrupted_write_sends_no_close_notify(loop, connection):
    """A part of what was to be sent must not look like the whole: the other end gets SSLEOFError."""

    def main():
        with connection(small=True) as (a, b):
            fill(a)
            reader = coro.spawn(fails, read_all, b)
            a.close()
            assert isinstance(reader.result(), ssl.SSLEOFError)

    loop(main)


def test_close_under_those_that_wait_raises_closed_error_in_them(loop, connection):
    """Reader and writer alike; the other end is told of no clean end."""

    def main():
        with connection(small=True) as (a, b):
            reader = parked(fails, a.recv, 10)
            writer = parked(fails, a.send, bytes(1_000_000))
            a.close()
            assert isinstance(reader.result(), coro.ClosedError)
            assert isinstance(writer.result(), coro.ClosedError)
            assert isinstance(fails(read_all, b), ssl.SSLEOFError)

    loop(main)


def test_a_closed_connection_says_so(loop, connection):
    """ClosedError that names who closed it, also if there was something left to read; close can be called again."""

    def main():
        with connection() as (a, b):
            b.send(b"data")
            a.recv(1)
            a.close()
            a.close()
            for use in (
                lambda: a.recv(1),
                lambda: a.recv(0),
                lambda: a.recv_into(bytearray(1)),
                lambda: a.send(b""),
                lambda: a.shutdown(SHUT.WR),
                a.unwrap,
                a.makefile,
            ):
                exc = fails(use)
                assert isinstance(exc, coro.ClosedError)
                assert exc.errno == errno.EBADF
                assert repr(coro.current()) in str(exc)

    loop(main)


def test_whoever_only_writes_and_closes_is_read_to_the_end(loop, connection, version):
    """What a server sends after the handshake, tickets, and nobody reads must not turn the close into a reset."""

    def main():
        with connection() as (a, b):
            a.send(b"x" * 30_000)
            a.close()
            assert read_all(b) == b"x" * 30_000

    loop(main)


def test_shutdown_ends_one_direction(loop, connection, version):
    """The other end reads b"" and answers; what had come before the shutdown and what comes after is read.  Sending is
    over: BrokenPipeError."""

    def main():
        with connection() as (a, b):
            b.send(b"early")
            assert a.recv(1) == b"e"
            b.send(b" bird")
            a.shutdown(SHUT.WR)
            a.shutdown(SHUT.WR)
            assert a.pending() == 4
            assert a.recv(2) == b"ar"
            buffer = bytearray(5)
            assert a.recv_into(buffer) == 2
            assert buffer == b"ly\0\0\0"
            assert a.recv(100) == b" bird"
            assert isinstance(fails(a.send, b"x"), BrokenPipeError)
            assert b.recv(100) == b""
            b.send(b"answer")
            assert a.recv(100) == b"answer"
            b.shutdown(SHUT.RDWR)
            assert a.recv(100) == b""
            assert a.recv(100) == b""
            assert isinstance(fails(a.shutdown, SHUT.RD), ValueError)

    loop(main)


def test_shutdown_of_one_direction_leaves_the_reader_that_waits(loop, connection):
    """A coroutine that waits for data goes on doing so."""

    def main():
        with connection() as (a, b):
            reader = parked(a.recv, 100)
            a.shutdown(SHUT.WR)
            assert b.recv(1) == b""
            b.send(b"answer")
            assert reader.result() == b"answer"

    loop(main)


def test_unwrap_gives_the_socket_back(loop, connection, version):
    """Both ends unwrap, what had not been read is thrown away, and the sockets go on without TLS."""

    def main():
        with connection() as (a, b):
            a.send(b"unread")
            coro.yield_slice()
            other = coro.spawn(b.unwrap)
            plain = a.unwrap()
            assert isinstance(plain, sock)
            assert isinstance(fails(a.recv, 1), coro.ClosedError)
            a.close()
            with plain, other.result() as end:
                plain.send(b"in the clear")
                assert end.recv(100) == b"in the clear"

    loop(main)


def test_unwrap_waits_for_the_other_end_under_a_timeout(loop, connection):
    """For ever without one; interrupted, the connection can still be read."""

    def main():
        with connection() as (a, b):
            assert isinstance(fails(coro.with_timeout, 0.01, a.unwrap), coro.TimeoutError)
            b.send(b"late")
            assert a.recv(100) == b"late"
            assert b.recv(1) == b""
            b.close()
            a.unwrap().close()

    loop(main)


def test_unwrap_refuses_what_came_too_early(loop, connection):
    """Plain bytes that arrived together with the close_notify are not lost silently."""

    def main():
        with connection() as (a, b):
            b._say_goodbye()
            b._out.write(b"plain")
            b._push()
            exc = fails(a.unwrap)
            assert isinstance(exc, ssl.SSLError)
            assert "5 bytes" in str(exc)
            a.close()
            assert a.fileno() == -1

    loop(main)


# -- interruptions ---------------------------------------------------------------------------------------------------


def test_an_interrupted_read_leaves_the_connection_as_it_was(loop, connection):
    """After a timeout and after a shutdown of the reader others read on."""

    def main():
        with connection() as (a, b):
            assert isinstance(fails(coro.with_timeout, 0.01, a.recv, 10), coro.TimeoutError)
            reader = parked(a.recv, 10)
            reader.shutdown()
            reader.join()
            b.send(b"data")
            assert a.recv(10) == b"data"

    loop(main)


def test_an_interrupted_write_leaves_whole_records(loop, connection, version):
    """What had been encrypted leaves first with the next write, so the other end reads a part of the one and all of the
    other, and no error."""

    def main():
        with connection(small=True) as (a, b):
            fill(a)
            fill(a)
            writer = coro.spawn(a.send, b"x" * 100)
            received = b""
            while not received.endswith(b"x" * 100):
                received += b.recv(100_000)
            assert received == bytes(len(received) - 100) + b"x" * 100
            assert writer.result() == 100

    loop(main)


def test_interrupted_writes_do_not_pile_up(loop, connection):
    """However often a write fails for lack of room, no more is kept than one write has encrypted."""

    def main():
        with connection(small=True) as (a, _):
            for _ in range(5):
                with contextlib.suppress(coro.TimeoutError):
                    coro.with_timeout(0.002, a.send, bytes(1_000_000))
            assert len(a._unsent) + a._out.pending < 100_000

    loop(main)


# -- handshakes ------------------------------------------------------------------------------------------------------


def test_a_handshake_with_a_silent_peer_ends_with_its_timeout(loop, client_context, server_context):
    """TimeoutError on either side, and the socket is closed."""

    def main():
        a, b = coro.socketpair()
        with a, b:
            exc = fails(wrap_tls, a, client_context, server_hostname="localhost", timeout=0.01)
            assert isinstance(exc, coro.TimeoutError)
            assert a.fd == -1
        a, b = coro.socketpair()
        with a, b:
            exc = fails(wrap_tls, b, server_context, server_side=True, timeout=0.01)
            assert isinstance(exc, coro.TimeoutError)
            assert b.fd == -1

    loop(main)


def test_a_handshake_can_be_interrupted(loop, server_context):
    """A shutdown closes the socket and leaves nothing."""

    def main():
        a, b = coro.socketpair()
        with a, b:
            server = parked(wrap_tls, b, server_context)
            server.shutdown()
            server.join()
            assert b.fd == -1
            assert a.recv(1) == b""

    def wrap_tls(plain, context):
        return tls_module.wrap_tls(plain, context, server_side=True, timeout=None)

    loop(main)


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\x00\xff garbage \x80" * 20])
def test_a_server_refuses_what_is_not_tls(loop, server_context, said):
    """SSLError that names the connection and the coroutine; the socket is closed."""

    def main():
        a, b = tcp_pair()
        with a, b:
            a.send(said)
            exc = fails(wrap_tls, b, server_context, server_side=True)
            assert isinstance(exc, ssl.SSLError)
            assert f"fd={b.orig_fd}" in exc.__notes__[-1]
            assert repr(coro.current()) in exc.__notes__[-1]
            assert b.fd == -1

    loop(main)


def test_a_client_refuses_what_is_not_tls(loop, client_context):
    """SSLError, after which the other end has got a hello and then the end."""

    def main():
        a, b = tcp_pair()
        with a, b:
            b.send(b"220 mail.example.com ESMTP\r\n")
            exc = fails(wrap_tls, a, client_context, server_hostname="localhost")
            assert isinstance(exc, ssl.SSLError)
            assert a.fd == -1
            assert read_all(b)[0] == 22  # the hello of the client

    loop(main)


def test_a_peer_that_goes_away_in_the_handshake(loop, client_context, server_context):
    """SSLEOFError for a closed connection, ConnectionResetError for a reset one."""

    def main():
        for leave, error in ((sock.close, ssl.SSLEOFError), (reset, ConnectionResetError)):
            a, b = tcp_pair()
            leave(b)
            assert isinstance(fails(wrap_tls, a, client_context, server_hostname="localhost"), OSError)
            assert a.fd == -1
            a, b = tcp_pair()
            accepting = parked(fails, lambda b=b: wrap_tls(b, server_context, server_side=True))
            leave(a)
            exc = accepting.result()
            assert isinstance(exc, error)
            assert b.fd == -1

    loop(main)


def refused(loop, client_context, server_context, hostname="localhost"):
    """Let a client shake hands that does not like the server, and return what both ends raise."""

    def main():
        a, b = tcp_pair()
        server = coro.spawn(fails, lambda: wrap_tls(b, server_context, server_side=True))
        exc = fails(wrap_tls, a, client_context, server_hostname=hostname)
        assert (a.fd, b.fd) == (-1, -1) if server.result() else None
        return exc, server.result()

    return loop(main)


def test_a_certificate_for_another_name_is_refused(loop, client_context, server_context, version):
    """SSLCertVerificationError for the client; the alert tells the server."""
    exc, other = refused(loop, client_context, server_context, "example.com")
    assert isinstance(exc, ssl.SSLCertVerificationError)
    assert "example.com" in str(exc)
    assert isinstance(other, ssl.SSLError)
    assert "ALERT" in str(other)


def test_a_certificate_of_an_unknown_authority_is_refused(loop, server_context):
    """The context that verifies knows no authority."""
    exc, other = refused(loop, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), server_context)
    assert isinstance(exc, ssl.SSLCertVerificationError)
    assert "UNKNOWN_CA" in str(other)


def test_an_expired_certificate_is_refused(loop, ca, client_context):
    """SSLCertVerificationError says that it has expired."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    begin = datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC)
    issued = ca.issue_cert("localhost", not_before=begin, not_after=begin + datetime.timedelta(days=1))
    issued.configure_cert(context)
    exc, other = refused(loop, client_context, context)
    assert isinstance(exc, ssl.SSLCertVerificationError)
    assert "expired" in exc.verify_message
    assert "EXPIRED" in str(other)


def test_alpn_chooses_a_protocol(loop, ca, connection, client_context):
    """The first of the server's protocols that the client offers; both ends know it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(context)
    context.set_alpn_protocols(["h2", "http/1.1"])
    client_context.set_alpn_protocols(["http/1.1", "echo"])

    def main():
        with connection(server_context=context) as (a, b):
            assert a.selected_alpn_protocol() == b.selected_alpn_protocol() == "http/1.1"

    loop(main)


@pytest.fixture
def demanding_context(ca):
    """The context of a server that wants certificates of its clients."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(context)
    ca.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def test_a_certificate_of_the_client(loop, ca, connection, client_context, demanding_context, version):
    """A server that wants one gets it."""
    ca.issue_cert("bob@example.com").configure_cert(client_context)

    def main():
        with connection(server_context=demanding_context) as (a, b):
            assert ("email", "bob@example.com") in b.getpeercert()["subjectAltName"]
            a.send(b"hello")
            assert b.recv(10) == b"hello"

    loop(main)


def test_a_client_without_a_certificate_is_refused(loop, client_context, demanding_context, version):
    """The server raises SSLError; so does the client, with TLS 1.3 only when it reads."""

    def client(plain):
        with wrap_tls(plain, client_context, server_hostname="localhost") as tls:
            assert tls.version() == "TLSv1.3"
            tls.recv(1)

    def main():
        a, b = tcp_pair()
        connecting = coro.spawn(fails, client, a)
        assert isinstance(fails(wrap_tls, b, demanding_context, server_side=True), ssl.SSLError)
        assert b.fd == -1
        exc = connecting.result()
        assert isinstance(exc, ssl.SSLError)
        assert "ALERT" in str(exc)
        assert a.fd == -1

    loop(main)


def test_a_session_is_taken_up_again(loop, connection, version):
    """The second connection is made with the session of the first."""

    def main():
        with connection() as (a, b):
            b.send(b"x")
            assert a.recv(1) == b"x"
            assert a.session_reused is False
            session = a.session
        with connection(session=session) as (a, _):
            assert a.session_reused is True

    loop(main)


def test_wrong_arguments_leave_the_socket_as_it_was(loop, client_context, server_context):
    """Each is an error at once, after which the socket is open and still works without TLS."""

    def main():
        a, b = coro.socketpair()
        with a, b:
            for error, kwargs in (
                (TypeError, {"context": None}),
                (TypeError, {"context": client_context, "server_hostname": 5}),
                (TypeError, {"context": client_context, "server_hostname": "x", "timeout": "1"}),
                (ValueError, {"context": client_context, "server_hostname": "x", "timeout": float("nan")}),
                (ValueError, {"context": client_context}),
                (ValueError, {"context": client_context, "server_hostname": ""}),
                (ValueError, {"context": server_context, "server_side": True, "server_hostname": "x"}),
                (ssl.SSLError, {"context": client_context, "server_side": True}),
                (ssl.SSLError, {"context": server_context}),
            ):
                exc = fails(wrap_tls, a, **kwargs)
                assert isinstance(exc, error), (kwargs, exc)
                assert a.fd >= 0
            a.send(b"works")
            assert b.recv(10) == b"works"
        with coro.udp_sock() as udp:
            assert isinstance(fails(wrap_tls, udp, server_context, server_side=True), ValueError)
        for other in (None, 5, "socket"):
            assert isinstance(fails(wrap_tls, other, server_context, server_side=True), TypeError)
        with socket.socket() as std:
            assert isinstance(fails(wrap_tls, std, server_context, server_side=True), TypeError)
        a.close()
        assert isinstance(fails(wrap_tls, a, server_context, server_side=True), coro.ClosedError)

    loop(main)


# -- create_tls_connection -------------------------------------------------------------------------------------------


@contextlib.contextmanager
def echo_server(context):
    """The address of a server that sends back what it gets."""

    def serve(listener):
        while True:
            plain, _ = listener.accept()
            coro.spawn(talk, plain)

    def talk(plain):
        try:
            with wrap_tls(plain, context, server_side=True) as tls:
                while data := tls.recv(1000):
                    tls.send(data)
        except OSError:
            pass

    with coro.create_server(("127.0.0.1", 0)) as listener:
        server = coro.spawn(serve, listener)
        try:
            yield listener.getsockname()
        finally:
            server.shutdown()
            server.join()


def test_a_connection_is_made_by_address(loop, client_context, server_context):
    """The host of the address is the name that the certificate must have, unless another one is given."""

    def main():
        with echo_server(server_context) as address:
            with create_tls_connection(address, client_context, timeout=60) as tls:
                assert tls.server_hostname == "127.0.0.1"
                tls.send(b"hello")
                assert tls.recv(10) == b"hello"
            with create_tls_connection(address, client_context, server_hostname="localhost") as tls:
                assert isinstance(tls, tls_sock)
                assert tls.server_hostname == "localhost"
            exc = fails(create_tls_connection, address, client_context, server_hostname="example.com")
            assert isinstance(exc, ssl.SSLCertVerificationError)

    loop(main)


def test_connections_are_verified_unless_the_program_says_otherwise(loop, files, server_context, monkeypatch):
    """Without a context the authorities of the system count: ours is refused until it is one of them."""

    def main():
        with echo_server(server_context) as address:
            tls_module.default_context.cache_clear()
            assert isinstance(fails(create_tls_connection, address), ssl.SSLCertVerificationError)
            monkeypatch.setenv("SSL_CERT_FILE", str(files[0]))
            tls_module.default_context.cache_clear()
            try:
                with create_tls_connection(address) as tls:
                    tls.send(b"hello")
                    assert tls.recv(10) == b"hello"
            finally:
                tls_module.default_context.cache_clear()

    loop(main)


def test_a_connection_to_a_silent_server_ends_with_its_timeout(loop, client_context):
    """Connect and handshake together; nothing is left open."""

    def main():
        with coro.create_server(("127.0.0.1", 0)) as listener:
            exc = fails(create_tls_connection, listener.getsockname(), client_context, timeout=0.02)
            assert isinstance(exc, coro.TimeoutError)

    loop(main)


def test_wrong_arguments_are_found_before_anything_is_connected(loop, client_context, server_context):
    """The listener sees no connection."""

    def main():
        with coro.create_server(("127.0.0.1", 0)) as listener:
            address = listener.getsockname()
            for error, args, kwargs in (
                (TypeError, (address, "context"), {}),
                (TypeError, ("localhost", client_context), {}),
                (TypeError, (address, client_context), {"timeout": "1"}),
                (ValueError, (address, client_context), {"server_hostname": ""}),
                (ssl.SSLError, (address, server_context), {}),
            ):
                exc = fails(create_tls_connection, *args, **kwargs)
                assert isinstance(exc, error), exc
            assert isinstance(fails(coro.with_timeout, 0, listener.accept), coro.TimeoutError)

    loop(main)


# -- files -----------------------------------------------------------------------------------------------------------


def test_a_file_reads_and_writes_lines(loop, connection):
    """Text and bytes, buffered and not; the connection ends when it and its files are closed."""

    def main():
        with connection() as (a, b):
            with a.makefile("rw", encoding="utf-8", newline="\n") as text, b.makefile("rwb") as octets:
                text.write("grüße\n")
                text.flush()
                assert octets.readline() == "grüße\n".encode()
                octets.write(b"one\ntwo\n")
                octets.flush()
                a.close()
                assert isinstance(fails(a.recv, 1), coro.ClosedError)
                assert text.readline() == "one\n"
                assert text.readline() == "two\n"
                assert a.fileno() >= 0
            assert a.fileno() == -1
            assert b.recv(10) == b""
            with b.makefile("wb", 0) as raw:
                assert raw.fileno() == b.fileno()
                assert isinstance(fails(raw.read, 1), OSError)
            assert b.fileno() >= 0

    loop(main)


def test_a_file_that_is_lost_does_not_keep_the_connection_open(loop, connection):
    """It is closed by the garbage collector; a wrong mode opens nothing."""

    def main():
        with connection() as (a, b):
            file = a.makefile("rb")
            assert isinstance(fails(a.makefile, "a"), ValueError)
            assert isinstance(fails(a.makefile, "r", 0), ValueError)
            a.close()
            assert a.fileno() >= 0
            del file
            gc.collect()
            assert a.fileno() == -1
            assert b.recv(1) == b""

    loop(main)


# -- what the other end may do ---------------------------------------------------------------------------------------


def test_a_forged_record_is_an_error_and_the_other_end_is_told(loop, connection):
    """SSLError that names the connection; the alert goes out."""

    def main():
        with connection() as (a, b):
            a._sock.send(b"\x17\x03\x03\x00\x20" + bytes(32))
            exc = fails(b.recv, 10)
            assert isinstance(exc, ssl.SSLError)
            assert repr(b) in exc.__notes__[-1]
            assert "ALERT" in str(fails(a.recv, 10))

    loop(main)


def in_thread(fn, *args):
    """Run fn in a thread and return how to get its result."""
    done = []
    thread = threading.Thread(target=lambda: done.append(fn(*args)), daemon=True)
    thread.start()

    def result():
        while thread.is_alive():
            coro.sleep_relative(0.001)
        return done.pop()

    return result


def blocking_peer(tls, size):
    """Read *size* bytes, send their hash and the data back, and end as TLS does.  Blocks the thread."""
    with tls:
        parts = []
        while size:
            parts.append(tls.recv(min(size, 65536)))
            size -= len(parts[-1])
        data = b"".join(parts)
        tls.sendall(hashlib.sha256(data).digest())
        tls.sendall(data)
        tls.unwrap().close()
        return len(data)


SIZE = 1_000_000


def talk_to_blocking_peer(tls):
    data = some_bytes(SIZE)
    writer = coro.spawn(tls.send, data)
    assert tls.recv_exact(32) == hashlib.sha256(data).digest()
    assert tls.recv_exact(SIZE) == data
    assert writer.result() == SIZE
    tls.unwrap().close()


def test_a_client_talks_to_the_standard_library(loop, client_context, server_context, version):
    """A blocking server in a thread: megabytes both ways, and an orderly end."""

    def accept(listener):
        std, _ = listener.accept()
        return blocking_peer(server_context.wrap_socket(std, server_side=True), SIZE)

    def main():
        with socket.create_server(("127.0.0.1", 0)) as listener:
            peer = in_thread(accept, listener)
            tls = create_tls_connection(listener.getsockname(), client_context, server_hostname="localhost")
            assert tls.version() == version
            talk_to_blocking_peer(tls)
            assert peer() == SIZE

    loop(main)


def test_a_server_talks_to_the_standard_library(loop, client_context, server_context, version):
    """A blocking client in a thread."""

    def connect(address):
        std = socket.create_connection(address)
        return blocking_peer(client_context.wrap_socket(std, server_hostname="localhost"), SIZE)

    def main():
        with coro.create_server(("127.0.0.1", 0)) as listener:
            peer = in_thread(connect, listener.getsockname())
            tls = wrap_tls(listener.accept()[0], server_context, server_side=True)
            assert tls.version() == version
            talk_to_blocking_peer(tls)
            assert peer() == SIZE

    loop(main)


class OpenSSL:
    """The openssl program with these arguments, talked to through pipes."""

    def __init__(self, *args):
        self.process = subprocess.Popen(
            [OPENSSL, *map(str, args)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self.output = coro.file_sock(self.process.stdout)
        self.heard = b""

    def say(self, text):
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def wait_for(self, text):
        """Return the line that has *text* in it."""
        while not (text in self.heard and b"\n" in self.heard.partition(text)[2]):
            data = self.output.recv(10_000)
            assert data, self.heard
            self.heard += data
        before, _, after = self.heard.partition(text)
        rest, _, self.heard = after.partition(b"\n")
        return before.rpartition(b"\n")[2] + text + rest

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.output.close()


@openssl
def test_the_other_end_may_change_its_keys(loop, server_context, files):
    """A KeyUpdate of TLS 1.3 that asks for one of ours: data go on in both directions."""

    def main():
        with coro.create_server(("127.0.0.1", 0)) as listener:
            host, port = listener.getsockname()
            args = "-connect", f"{host}:{port}", "-CAfile", files[0], "-servername", "localhost", "-tls1_3"
            with (
                OpenSSL("s_client", *args) as peer,
                wrap_tls(listener.accept()[0], server_context, server_side=True) as tls,
            ):
                for turn in (b"first\n", b"second\n"):
                    peer.say(b"K\n")
                    peer.wait_for(b"KEYUPDATE")
                    peer.say(turn)
                    assert tls.recv(100) == turn
                    tls.send(b"reply to " + turn)
                    peer.wait_for(b"reply to " + turn[:-1])

    loop(main)


@openssl
@pytest.mark.parametrize("writing", [False, True])
@pytest.mark.parametrize("full", [False, True])
def test_the_other_end_may_renegotiate(loop, client_context, files, full, writing):
    """With TLS 1.2: the answer is sent when there is room for it, while the reader goes on.  A writer in the middle of
    it waits for what the reader brings in."""

    def forward(source, target):
        while data := source.recv(10_000):
            target.send(data)

    def main():
        a, b = coro.socketpair()
        with a, b, OpenSSL("s_server", "-accept", "127.0.0.1:0", "-cert", files[1], "-tls1_2") as peer:
            port = int(peer.wait_for(b"ACCEPT").rpartition(b":")[2])
            with coro.create_connection(("127.0.0.1", port)) as far:
                towards, back = coro.spawn(forward, b, far), coro.spawn(forward, far, b)
                with wrap_tls(a, client_context, server_hostname="localhost") as tls:
                    reader = parked(tls.recv, 100)
                    towards.shutdown()
                    towards.join()
                    junk = 0
                    with contextlib.suppress(BlockingIOError):
                        while full:
                            junk += a._socket.send(bytes(10_000))
                    fed = tls._fed
                    peer.say(b"r\n")
                    while tls._fed == fed:
                        coro.sleep_relative(0.001)
                    coro.yield_slice()
                    peer.say(b"in the meantime\n")
                    assert reader.result() == b"in the meantime\n"
                    reader = parked(tls.recv, 100)
                    if writing:
                        writer = parked(tls.send, b"written in between\n")
                    b.recv_exact(junk)
                    answer = b.recv(10_000)
                    assert answer[0] == 22  # a message of the handshake
                    far.send(answer)
                    towards = coro.spawn(forward, b, far)
                    if writing:
                        peer.wait_for(b"written in between")
                        assert writer.result() == 19
                    peer.say(b"afterwards\n")
                    assert reader.result() == b"afterwards\n"
                for co in (towards, back):
                    co.shutdown()
                    co.join()

    loop(main)


@pytest.mark.parametrize("mode", ["wb", "rwb", "w", "rw"])
def test_an_interrupted_flush_of_a_file_sends_nothing_twice(loop, connection, mode):
    """What was encrypted before the interruption is not sent again, and the next flush sends the rest."""
    data = bytes(range(65, 91)) * 40_000

    def main():
        with connection(small=True) as (client, server):
            with client.makefile(mode, 2_000_000) as file:
                file.write(data if "b" in mode else data.decode())
                flusher = parked(file.flush)
                begin = server.recv(100)  # a part has been sent
                flusher.shutdown()
                flusher.join()
                reader = coro.spawn(read_all, server)
                file.flush()
            client.shutdown(SHUT.WR)
            assert begin + reader.result() == data

    loop(main)
