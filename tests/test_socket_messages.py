"""Messages and what comes beside them: recvmsg, sendmsg and their relatives, and the rest of a socket's surface."""

from __future__ import annotations

import array
import contextlib
import errno
import os
import socket
import subprocess
import sys

import pytest

import coro
from coro.connect import create_server, socketpair, tcp_sock, udp_sock
from coro.kernel import this_kernel
from coro.sockets import AF, SOCK, fd_sock, file_sock, sock
from coro.transfers import MOST_BUFFERS

from .helpers import linux, parked

posix = pytest.mark.skipif(not hasattr(socket.socket, "sendmsg"), reason="this platform has no sendmsg(2)")


def rights(*fds):
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]


def received(ancdata):
    """The descriptors in what came beside a message."""
    fds = array.array("i")
    for level, kind, data in ancdata:
        assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
        fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return list(fds)


ROOM = socket.CMSG_SPACE(16) if hasattr(socket, "CMSG_SPACE") else 0

# -- passing descriptors ---------------------------------------------------------------------------------------------


@posix
@pytest.mark.parametrize("kind", ["STREAM", "DGRAM", pytest.param("SEQPACKET", marks=linux)])
def test_a_descriptor_is_passed_beside_the_data(loop, kind):
    """sendmsg and recvmsg over AF_UNIX; recvmsg waits; what arrives is the same open file."""

    def main():
        a, b = socketpair(AF.UNIX, getattr(SOCK, kind))
        r, w = os.pipe()
        with a, b, os.fdopen(r), os.fdopen(w):
            waiting = parked(a.recvmsg, 100, ROOM)
            assert b.sendmsg([b"he", b"re"], rights(w)) == 4
            data, ancdata, flags, address = waiting.result()
            assert data == b"here"
            assert flags & ~socket.MSG_EOR in (0, getattr(socket, "MSG_CMSG_CLOEXEC", 0))
            assert not address
            (got,) = received(ancdata)
            assert os.write(got, b"x") == 1
            os.close(got)
            assert os.read(r, 10) == b"x"

    loop(main)


@posix
def test_recvmsg_into_fills_several_buffers(loop):
    """One after the other, with descriptors beside them."""

    def main():
        a, b = socketpair()
        with a, b:
            first, second = bytearray(3), bytearray(5)
            waiting = parked(a.recvmsg_into, [first, memoryview(second)[1:]], ROOM)
            b.sendmsg([b"abcdef"], rights(b.fd, a.fd))
            count, ancdata, _, _ = waiting.result()
            assert (count, first, second) == (6, b"abc", b"\0def\0")
            fds = received(ancdata)
            assert len(fds) == 2
            for fd in fds:
                os.close(fd)

    loop(main)


@posix
def test_the_functions_of_the_standard_library_work_with_these_methods(loop):
    """socket.send_fds and socket.recv_fds."""

    def main():
        a, b = socketpair()
        with a, b:
            waiting = parked(socket.recv_fds, a, 100, 2)
            assert socket.send_fds(b, [b"x"], [a.fd, b.fd]) == 1
            data, fds, _, _ = waiting.result()
            assert (data, len(fds)) == (b"x", 2)
            for fd in fds:
                os.close(fd)

    loop(main)


@posix
def test_a_read_that_descriptors_cut_short_leaves_nothing_behind(loop):
    """A stream ends a read where descriptors came; the data behind them are there for the next recv."""

    def main():
        a, b = socketpair()
        with a, b:
            for _ in range(2):
                waiting = parked(a.recvmsg, 100, ROOM)
                b.sendmsg([b"one"], rights(b.fd))
                b.sendmsg([b"two"], rights(b.fd))
                b.send(b"three")
                data, ancdata, _, _ = waiting.result()
                fds = received(ancdata)
                while len(data) < len(b"onetwothree"):
                    with coro.timeout(5):
                        data += a.recv(100)  # drops the descriptors, and must not take the short read for the end
                for fd in fds:
                    os.close(fd)
                assert data == b"onetwothree"

    loop(main)


@posix
def test_what_finds_no_room_is_dropped_and_said(loop):
    """MSG_CTRUNC, and no descriptor is left behind."""

    def main():
        a, b = socketpair()
        with a, b:
            b.sendmsg([b"x"], rights(b.fd))
            data, ancdata, flags, _ = a.recvmsg(10)
            assert (data, ancdata) == (b"x", [])
            assert flags & socket.MSG_CTRUNC

    loop(main)


@posix
def test_sendmsg_sends_all_on_a_stream(loop):
    """More than fits at once, in more buffers than the system takes at once, and the descriptor once only."""

    def main():
        a, b = socketpair()
        with a, b:
            pieces = [bytes([number % 251]) * 700 for number in range(MOST_BUFFERS + 200)]
            writer = parked(b.sendmsg, iter(pieces), rights(b.fd))
            data, ancdata, _, _ = a.recvmsg(1000, ROOM)
            for fd in received(ancdata):
                os.close(fd)
            assert len(ancdata) == 1
            data += a.recv_exact(sum(map(len, pieces)) - len(data))
            assert data == b"".join(pieces)
            assert writer.result() == len(data)

    loop(main)


@posix
def test_a_message_of_too_many_buffers_is_refused_by_the_system(loop):
    """EMSGSIZE for a datagram, which must not be cut in two; a stream reads into as many as it takes."""

    def main():
        a, b = socketpair(AF.UNIX, SOCK.DGRAM)
        with a, b:
            for call in (
                lambda: b.sendmsg([b"x"] * (MOST_BUFFERS + 1)),
                lambda: (b.send(b"x"), a.recvmsg_into([bytearray(1)] * (MOST_BUFFERS + 1))),
            ):
                with pytest.raises(OSError, match=os.strerror(errno.EMSGSIZE)) as caught:
                    call()
                assert caught.value.errno == errno.EMSGSIZE
            assert a.recv(5) == b"x"
        a, b = socketpair()
        with a, b:
            b.send(b"y" * 2000)
            buffers = [bytearray(1) for _ in range(MOST_BUFFERS + 1)]
            assert a.recvmsg_into(buffers)[0] == MOST_BUFFERS
            assert a.recv_exact(2000 - MOST_BUFFERS)

    loop(main)


# -- datagrams -------------------------------------------------------------------------------------------------------


def test_recvfrom_into_puts_a_datagram_into_a_buffer(loop):
    """It returns the size and the sender; what is beyond nbytes is lost with its datagram."""

    def main():
        with udp_sock() as a, udp_sock() as b:
            for s in (a, b):
                s.bind(("127.0.0.1", 0))
            buffer = bytearray(b"........")
            waiting = parked(a.recvfrom_into, buffer)
            b.sendto(b"abc", a.getsockname())
            assert waiting.result() == (3, b.getsockname())
            assert buffer == b"abc....."
            b.sendto(b"defg", a.getsockname())
            if sys.platform != "win32":
                assert a.recvfrom_into(memoryview(buffer)[4:], 2) == (2, b.getsockname())
                assert buffer == b"abc.de.."
            for wrong in (-1, 9):
                with pytest.raises(ValueError, match="into a buffer of 8"):
                    a.recvfrom_into(buffer, wrong)

    loop(main)


@posix
def test_messages_have_addresses_which_may_be_names(loop):
    """sendmsg to a name, recvmsg and recvmsg_into with the sender."""

    def main():
        with udp_sock() as a, udp_sock() as b:
            for s in (a, b):
                s.bind(("127.0.0.1", 0))
            port = a.getsockname()[1]
            assert b.sendmsg([b"a", b"b"], address=("localhost", port)) == 2
            assert a.recvmsg(10)[::3] == (b"ab", b.getsockname())
            assert b.sendmsg([b"c"], (), 0, ("127.0.0.1", port)) == 1
            buffer = bytearray(10)
            assert a.recvmsg_into([buffer])[::3] == (1, b.getsockname())
            b.sendmsg([b"long"], address=a.getsockname())
            data, _, flags, _ = a.recvmsg(2)
            assert data == b"lo"
            assert flags & socket.MSG_TRUNC

    loop(main)


@posix
def test_sendmsg_waits_for_room(loop):
    """A full datagram socket blocks it, and it goes on when one is taken out."""

    def main():
        a, b = socketpair(AF.UNIX, SOCK.DGRAM)
        with a, b:
            sent = 0
            with contextlib.suppress(BlockingIOError):
                while True:
                    b._socket.send(b"x" * 1000)
                    sent += 1
            writer = parked(b.sendmsg, [b"last"])
            for _ in range(sent):
                a.recv(1000)
            assert writer.result() == 4
            assert a.recv(10) == b"last"

    loop(main)


# -- one reader, one writer, bad input -------------------------------------------------------------------------------


@posix
def test_a_second_reader_or_writer_is_refused(loop):
    """SimultaneousError that names the first, which goes on."""

    def main():
        a, b = socketpair()
        with a, b:
            reader = parked(a.recv, 10)
            for call in (
                lambda: a.recvmsg(1),
                lambda: a.recvmsg_into([bytearray(1)]),
                lambda: a.recvfrom_into(bytearray(1)),
            ):
                with pytest.raises(coro.SimultaneousError) as caught:
                    call()
                assert caught.value.other is reader
            b.send(b"x")
            assert reader.result() == b"x"
            with contextlib.suppress(BlockingIOError):
                while True:
                    a._socket.send(b"x" * 65536)
            writer = parked(a.send, b"x")
            with pytest.raises(coro.SimultaneousError) as caught:
                a.sendmsg([b"y"])
            assert caught.value.other is writer
            writer.shutdown()

    loop(main)


BLOCKED = {
    "recvmsg": lambda s: s.recvmsg(1),
    "recvmsg_into": lambda s: s.recvmsg_into([bytearray(1)]),
    "recvfrom_into": lambda s: s.recvfrom_into(bytearray(1)),
}


@posix
@pytest.mark.parametrize("call", BLOCKED.values(), ids=BLOCKED)
def test_a_timeout_or_a_close_ends_the_wait(loop, call):
    """TimeoutError, and the socket is usable; ClosedError."""

    def main():
        a, b = socketpair()
        with a, b:
            with pytest.raises(coro.TimeoutError):
                coro.with_timeout(0.002, call, a)
            b.send(b"xy")
            call(a)
            assert a.recv(5) == b"y"
            waiting = parked(call, a)
            a.close()
            with pytest.raises(coro.ClosedError):
                waiting.result()

    loop(main)


@posix
def test_bad_input_is_refused_at_once(loop):
    """ValueError for a negative size, TypeError for text and for what is no buffer; nothing is sent."""

    def main():
        a, b = socketpair()
        with a, b:
            for call in (lambda: a.recvmsg(-1), lambda: a.recvmsg(1, -1), lambda: a.recvmsg_into([bytearray(1)], -1)):
                with pytest.raises(ValueError, match="-1 bytes"):
                    call()
            for call in (
                lambda: b.sendmsg(["text"]),
                lambda: b.sendmsg(None),
                lambda: b.sendmsg([b"x"], [(1, 2)]),
                lambda: b.sendmsg([b"x"], 5),
                lambda: b.writev(["text"]),
                lambda: a.recvmsg_into(bytearray(1)),
                lambda: a.recvmsg_into([b"constant"]),
                lambda: a.recvfrom_into(b"constant"),
                lambda: a.recvfrom_into("text"),
            ):
                with coro.timeout(5), pytest.raises((TypeError, BufferError)):
                    call()
            b.send(b"z")
            assert a.recv(10) == b"z"
        r, w = os.pipe()
        with fd_sock(r) as r, fd_sock(w) as w:
            for call in (
                lambda: r.recvmsg(1),
                lambda: r.recvmsg_into([bytearray(1)]),
                lambda: r.recvfrom_into(bytearray(1)),
                lambda: w.sendmsg([b"x"]),
                lambda: w.send(b"x", socket.MSG_OOB),
                lambda: r.recv(1, socket.MSG_PEEK),
            ):
                with pytest.raises(OSError, match="is no socket") as caught:
                    call()
                assert caught.value.errno == errno.ENOTSOCK

    loop(main)


# -- the rest of the surface -----------------------------------------------------------------------------------------


def test_the_names_of_the_standard_library_for_the_attributes():
    """family, type and proto are domain, stype and protocol."""
    with tcp_sock() as s, socket.socket() as std:
        assert (s.family, s.type, s.proto) == (s.domain, s.stype, s.protocol) == (std.family, std.type, std.proto)


def test_what_a_socket_of_the_standard_library_has(loop):
    """All of it but timeouts, which are coro.timeout, and what is for Windows and for one subsystem of Linux only."""
    left_out = {"gettimeout", "settimeout", "timeout", "getblocking", "setblocking", "connect_ex", "sendmsg_afalg"}
    left_out |= {"ioctl", "share"}
    public = {name for name in dir(socket.socket) if not name.startswith("_")}

    assert public - set(dir(sock)) <= left_out


@posix
def test_inheritable_descriptors_reach_programs(loop):
    """Only those that set_inheritable has made so, sockets and pipes alike."""
    script = "import os, sys; [os.fstat(int(fd)) for fd in sys.argv[1:]]"

    def run(*fds):
        return coro.to_thread(
            subprocess.run, [sys.executable, "-Sc", script, *map(str, fds)], close_fds=False, stderr=subprocess.DEVNULL
        ).returncode

    def main():
        r, w = os.pipe()
        with tcp_sock() as s, fd_sock(r) as r, fd_sock(w) as w:
            assert not s.get_inheritable()
            assert not w.get_inheritable()
            for each in (s, w):
                each.set_inheritable(True)
                assert each.get_inheritable()
            assert run(s.fd, w.fd) == 0
            assert run(r.fd) != 0
            s.set_inheritable(False)
            assert run(s.fd) != 0

    loop(main)


def test_detach_gives_the_descriptor_up(loop):
    """It stays open and does not block; the object is closed, and coro has forgotten the number."""

    def main():
        a, b = socketpair()
        with b:
            b.send(b"xy")
            assert a.recv(1) == b"x"
            fd = a.fd
            assert a.detach() == fd
            assert (a.fd, a.detach()) == (-1, -1)
            assert fd not in this_kernel().fds
            with pytest.raises(coro.ClosedError):
                a.recv(1)
            a.close()
            with sock(fd=fd) as again:
                assert again.recv(5) == b"y"
                waiting = parked(again.recv, 5)
                b.send(b"z")
                assert waiting.result() == b"z"

    loop(main)


def test_detach_wakes_those_who_wait(loop):
    """ClosedError that says who did it."""

    def main():
        with create_server(("127.0.0.1", 0)) as listener:
            waiting = parked(listener.accept)
            fd = listener.detach()
            with pytest.raises(coro.ClosedError) as caught:
                waiting.result()
            assert caught.value.closed_by is coro.current()
        socket.socket(fileno=fd).close()

    loop(main)


@posix
def test_detach_leaves_what_was_wrapped_open(loop):
    """A pipe's number, and a file, whose owner goes on with it."""

    def main():
        r, w = os.pipe()
        with os.fdopen(r, "rb", 0) as reader:
            assert file_sock(reader).detach() == r
            assert fd_sock(w).detach() == w
            os.close(w)
            os.set_blocking(r, True)
            assert reader.read() == b""

    loop(main)
