"""Files and sockets: files made from a socket, files sent through one, and pipes and files that are used like one."""

from __future__ import annotations

import errno
import gc
import io
import os
import socket
from functools import partial

import pytest

import coro
from coro.connect import socketpair
from coro.kernel import this_kernel
from coro.sockets import AF, SHUT, SO, SOCK, SOL, coro_fd, fd_sock, file_sock, get_live_sockets, sock

from .helpers import fails, fill, linux, parked, posix
from .socket_fixtures import connection_fixture, family_fixture, listen_fixture  # noqa: F401  fixtures

# -- makefile --------------------------------------------------------------------------------------------------------


def read_to_end(s):
    return b"".join(iter(lambda: s.recv(65536), b""))


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


# -- sendfile --------------------------------------------------------------------------------------------------------


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


# -- pipes, files and sockets that are wrapped -----------------------------------------------------------------------


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
