"""Sockets: the class `sock` itself, what makes one (C1, B3), and the loops, threads and greenlets that may use it.

Everything in this file and in those named test_socket_* runs over real sockets: IPv4, IPv6 and Unix where the machine
has them.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import socket
import struct
import threading
from functools import partial

import greenlet
import pytest

import coro
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
from coro.kernel import this_kernel
from coro.sockets import AF, PF, SHUT, SO, SOCK, SOL, get_live_sockets, sock

from .helpers import drain, fails, fill, parked, posix

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
