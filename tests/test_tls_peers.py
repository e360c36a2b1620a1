"""TLS: who may talk to whom: handshakes, certificates, `create_tls_connection`, other implementations.

These are the blocking ssl of the standard library in a thread, and the openssl program where there is one.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import shutil
import socket
import ssl
import subprocess
import threading

import pytest

import coro
from coro import tls as tls_module
from coro.sockets import sock
from coro.tls import create_tls_connection, tls_sock, wrap_tls

from .helpers import fails, parked, read_all, reset, some_bytes, tcp_pair
from .tls_fixtures import (  # noqa: F401  fixtures
    ca_fixture,
    client_context_fixture,
    connection_fixture,
    files_fixture,
    server_context_fixture,
    version_fixture,
)

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


# -- the standard library --------------------------------------------------------------------------------------------


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


# -- the openssl program ---------------------------------------------------------------------------------------------


OPENSSL = shutil.which("openssl")


openssl = pytest.mark.skipif(
    OPENSSL is None or "OpenSSL 3" not in subprocess.run([OPENSSL, "version"], capture_output=True, text=True).stdout,
    reason="the openssl program, version 3, is not installed: it is the other end of this test",
)


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
