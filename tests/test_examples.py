"""The programs in examples/, run as their reader does: real processes that talk to each other and to the tests."""

from __future__ import annotations

import hashlib
import os
import random
import re
import select
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from .example_processes import (
    EXAMPLES,
    Address,
    accepted,
    command,
    complaints,
    dial,
    receive_all,
    reset,
    run,
    running,
    text,
)
from .helpers import free_port

PROGRAMS = [
    "seed.py",
    "echo_server.py",
    "client_swarm.py",
    "tcp_proxy.py",
    "chat_server.py",
    "kv_server.py",
    "crawler.py",
]
SERVERS = ["echo_server.py", "tcp_proxy.py", "chat_server.py", "kv_server.py"]


@pytest.fixture
def echo_server(poller: str) -> Iterator[Address]:
    with running("echo_server.py", "127.0.0.1:0") as (_, address):
        yield address


@pytest.fixture
def target() -> Iterator[socket.socket]:
    """A listening socket of the test, for the proxy to connect to."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        yield listener


@contextmanager
def proxy_to(address: Address, *options: str) -> Iterator[Address]:
    with running("tcp_proxy.py", "127.0.0.1:0", text(address), *options) as (_, proxy):
        yield proxy


@pytest.mark.parametrize("program", PROGRAMS)
def test_each_program_explains_itself(program: str) -> None:
    """``--help`` works, and README.md names the program."""
    done = run(program, "--help")

    assert done.returncode == 0
    assert done.stdout.startswith(f"usage: {program}")
    assert f"({program})" in (EXAMPLES / "README.md").read_text(encoding="utf-8")


def test_the_seed_ends_by_itself(poller: str) -> None:
    """Its workers sleep at the same time, not one after the other."""
    done = run("seed.py", "--workers", "50")

    assert done.returncode == 0, done.stderr
    found = re.fullmatch(r"50 workers have slept ([\d.]+) s in ([\d.]+) s\n", done.stdout)
    assert found
    assert float(found[2]) < float(found[1])


# -- echo server and swarm -------------------------------------------------------------------------------------------


def test_the_swarm_and_the_echo_server(echo_server: Address) -> None:
    """A hundred clients at once get back what they sent; the last one ends the program with status 0."""
    done = run("client_swarm.py", text(echo_server), "--requests", "3")

    assert done.stdout == "100 of 100 clients got back what they sent\n"
    assert done.returncode == 0


def test_the_swarm_through_the_proxy(echo_server: Address) -> None:
    """Three programs in a row, with fewer places in the proxy than there are clients."""
    with proxy_to(echo_server, "--limit", "10") as proxy:
        done = run("client_swarm.py", text(proxy), "--clients", "50", "--requests", "3", "--size", "30000")

    assert done.stdout == "50 of 50 clients got back what they sent\n"
    assert done.returncode == 0


def test_the_echo_server_survives_a_client_that_resets(echo_server: Address) -> None:
    """The others are served as before."""
    with dial(echo_server) as other:
        rude = dial(echo_server)
        rude.sendall(b"x" * 100_000)
        reset(rude)
        other.sendall(b"hello")
        other.shutdown(socket.SHUT_WR)

        assert receive_all(other) == b"hello"


def test_the_swarm_fails_where_nobody_listens(poller: str) -> None:
    """Each client says why, and the status is 1."""
    done = run("client_swarm.py", f"127.0.0.1:{free_port()}", "--clients", "3")

    assert done.returncode == 1
    assert len(re.findall(r"client \d: .*refused", done.stdout)) == 3
    assert done.stdout.endswith("0 of 3 clients got back what they sent\n")


def test_the_swarm_notices_a_wrong_reply(poller: str, target: socket.socket) -> None:
    """A client that gets back something else than it sent has failed."""

    def serve() -> None:
        for answer in (lambda data: data, lambda data: bytes(len(data))):
            with accepted(target) as conn:
                while data := conn.recv(1):
                    conn.sendall(answer(data))

    thread = threading.Thread(target=serve)
    thread.start()
    done = run("client_swarm.py", text(target.getsockname()), "--clients", "2", "--requests", "1")
    thread.join()

    assert done.returncode == 1
    assert "the reply differs from what was sent" in done.stdout
    assert done.stdout.endswith("1 of 2 clients got back what they sent\n")


@pytest.mark.parametrize("program", SERVERS)
def test_a_port_that_is_in_use(program: str, target: socket.socket) -> None:
    """Said in one line that names the address; status 1."""
    address = text(target.getsockname())
    done = run(program, address, *([address] if program == "tcp_proxy.py" else []))

    assert done.returncode == 1
    assert re.fullmatch(rf"cannot listen on {address}: .*in use.*\n", done.stderr)


@pytest.mark.parametrize("address", ["7007", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:65536"])
def test_what_is_no_address(address: str) -> None:
    """A usage error."""
    done = run("echo_server.py", address)

    assert done.returncode == 2
    assert "is not HOST:PORT with a port up to 65535" in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="only POSIX has the signals that end a program here")
@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_server_ends_when_its_connections_have_ended(poller: str, signum: signal.Signals, status: int) -> None:
    """The first signal lets those that are connected finish, and refuses others; a second one does not wait."""
    for impatient in (False, True):
        with subprocess.Popen(
            command("echo_server.py", "127.0.0.1:0"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            address = "127.0.0.1", int(process.stdout.readline().rpartition(":")[2])
            with dial(address) as sock:
                sock.sendall(b"before")
                assert sock.recv(6, socket.MSG_WAITALL) == b"before"
                process.send_signal(signum)
                while True:
                    try:
                        dial(address).close()
                    except ConnectionResetError:
                        continue
                    except ConnectionRefusedError:
                        break
                sock.sendall(b"after")
                assert sock.recv(5, socket.MSG_WAITALL) == b"after"
                if impatient:
                    process.send_signal(signum)
                    assert sock.recv(1) == b""
            _, err = process.communicate(timeout=20)

        assert process.returncode == (status if impatient else 0)
        assert complaints(err) == ""


# -- proxy -----------------------------------------------------------------------------------------------------------


def test_a_mebibyte_through_the_proxy_is_the_same(echo_server: Address) -> None:
    """There and back through proxy and echo server, with equal hashes."""
    data = random.Random(1).randbytes(1 << 20)
    with proxy_to(echo_server) as proxy, dial(proxy) as sock:

        def send() -> None:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=send)
        thread.start()
        back = receive_all(sock)
        thread.join()

    assert hashlib.sha256(back).digest() == hashlib.sha256(data).digest()


def test_a_half_close_is_passed_on_in_both_directions(poller: str, target: socket.socket) -> None:
    """The one who has said all can still listen to a long answer, be it the client or the target."""
    answer = random.Random(2).randbytes(300_000)
    with proxy_to(target.getsockname()) as proxy:
        for client_first in (True, False):
            with dial(proxy) as client, accepted(target) as server:
                first, second = (client, server) if client_first else (server, client)
                first.sendall(b"question")
                first.shutdown(socket.SHUT_WR)
                assert receive_all(second) == b"question"

                def reply(sock: socket.socket = second) -> None:
                    sock.sendall(answer)
                    sock.shutdown(socket.SHUT_WR)

                thread = threading.Thread(target=reply)
                thread.start()
                assert receive_all(first) == answer
                thread.join()


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="only Linux shows the descriptors of a process")
def test_the_proxy_closes_both_sides_at_the_end(poller: str, target: socket.socket) -> None:
    """Whichever way connections end, the proxy holds two descriptors for the next one, and none for those before."""
    counts = []
    with running("tcp_proxy.py", "127.0.0.1:0", text(target.getsockname()), "--limit", "1") as (process, proxy):
        for end in (socket.socket.close, reset):
            for who in (0, 1):
                sides = [dial(proxy), accepted(target)]  # with a limit of 1 the one before is over by then
                with sides[0], sides[1]:
                    counts.append(len(os.listdir(f"/proc/{process.pid}/fd")))
                    end(sides[who])
                    try:
                        assert sides[1 - who].recv(1) == b""
                    except ConnectionResetError:
                        assert end is reset

    assert counts == counts[:1] * 4


def test_a_reset_is_passed_on(poller: str, target: socket.socket) -> None:
    """What was cut off must not look complete, whichever side has failed."""
    with proxy_to(target.getsockname()) as proxy:
        for client_fails in (True, False):
            client = dial(proxy)
            server = accepted(target)
            failing, other = (client, server) if client_fails else (server, client)
            failing.sendall(b"only the beg")
            assert other.recv(100) == b"only the beg"
            reset(failing)
            with other, pytest.raises(ConnectionResetError):
                other.recv(1)


def test_a_connection_that_is_refused_behind_the_proxy(poller: str) -> None:
    """The client's connection is closed, the proxy says why and goes on, and its place is free again."""
    port = free_port()
    with running("tcp_proxy.py", "127.0.0.1:0", f"127.0.0.1:{port}", "--limit", "1") as (process, proxy):
        assert process.stdout is not None
        for _ in range(2):
            with dial(proxy) as sock:
                assert sock.recv(1) == b""
            assert re.match(rf"cannot connect to 127.0.0.1:{port}: .*refused", process.stdout.readline())
        with socket.create_server(("127.0.0.1", port)) as listener, dial(proxy) as client:
            listener.settimeout(20)
            with accepted(listener) as server:
                server.sendall(b"here")
                assert client.recv(4) == b"here"


def test_the_limit_of_the_proxy(poller: str, target: socket.socket) -> None:
    """One connection too many waits until another has ended."""
    with proxy_to(target.getsockname(), "--limit", "2") as proxy:
        clients = [dial(proxy) for _ in range(3)]
        servers = [accepted(target) for _ in range(2)]
        assert select.select([target], [], [], 0.05)[0] == []

        clients[0].close()
        servers[0].close()
        servers.append(accepted(target))

        for sock in clients + servers:
            sock.close()
