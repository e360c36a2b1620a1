"""TLS: what a connection does once there is one, with coro at both ends: streams, its end, interruptions, files."""

from __future__ import annotations

import contextlib
import errno
import gc
import hashlib
import socket
import ssl

import greenlet
import pytest

import coro
from coro import tls as tls_module
from coro.sockets import SHUT, SO, SOL, sock
from coro.tls import create_tls_connection, wrap_tls

from .helpers import fails, parked, read_all, reset, some_bytes, tcp_pair
from .tls_fixtures import (  # noqa: F401  fixtures
    ca_fixture,
    client_context_fixture,
    connection_fixture,
    files_fixture,
    server_context_fixture,
    version_fixture,
)


def fill(tls):
    """Send, and be interrupted when nothing more fits."""
    with contextlib.suppress(coro.TimeoutError):
        coro.with_timeout(0.02, tls.send, bytes(8_000_000))


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
