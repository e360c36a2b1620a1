"""How sockets get connected: connect, the addresses it takes, accept, create_connection and create_server."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import socket
import threading

import pytest

import coro
from coro import connect, names
from coro.connect import create_connection, create_server, tcp6_sock, tcp_sock, udp6_sock, udp_sock, unix_sock
from coro.kernel import this_kernel
from coro.sockets import AF, SO, SOCK, SOL, get_live_sockets, sock

from .helpers import ipv6, linux, parked, posix
from .socket_fixtures import connection_fixture, family_fixture, listen_fixture  # noqa: F401  fixtures

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


# -- addresses -------------------------------------------------------------------------------------------------------


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


# -- connections that come and go ------------------------------------------------------------------------------------


def test_descriptors_are_not_leaked(loop, connection):
    """Connections that come and go, are refused or time out, leave the table of the loop as it was."""

    def main():
        for _ in range(5):
            with connection() as (a, b):
                a.send(b"x")
                b.recv(10)
        assert this_kernel().fds == {}

    loop(main)


@pytest.mark.parametrize(
    ("address", "error", "words"),
    [
        (("127.0.0.1", 65536), OverflowError, "a port is 0-65535, not 65536"),
        (("", -1), OverflowError, "a port is 0-65535, not -1"),
        (("127.0.0.1", "http"), TypeError, "the port of an address is a number, not 'http'"),
    ],
    ids=["too high", "negative", "a name"],
)
def test_a_server_whose_port_is_refused_leaves_no_socket_open(loop, recwarn, address, error, words):
    """The error comes before there is a socket; a warning of one that was forgotten would come from the collection."""

    def main():
        with pytest.raises(error, match=words):
            create_server(address)
        gc.collect()

    loop(main)
    assert [str(warning.message) for warning in recwarn] == []
