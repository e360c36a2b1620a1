"""`coro.servers`: StreamServer, over real sockets of IPv4, IPv6 and Unix, and in a process without descriptors."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest

import coro
from coro.servers import StreamServer
from coro.sockets import AF, SHUT, sock
from coro.tls import create_tls_connection

posix = pytest.mark.skipif(sys.platform == "win32", reason="what POSIX has: Unix sockets, limits, signals, fork")
linux = pytest.mark.skipif(sys.platform != "linux", reason="a feature of Linux")


def can_bind_ipv6():
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


ipv6 = pytest.mark.skipif(not can_bind_ipv6(), reason="this machine has no IPv6")


@pytest.fixture(params=["ipv4", pytest.param("ipv6", marks=ipv6), pytest.param("unix", marks=posix)])
def address(request, tmp_path):
    """An address of each family to listen on."""
    return {"ipv4": ("127.0.0.1", 0), "ipv6": ("::1", 0), "unix": str(tmp_path / "socket")}[request.param]


HERE = ("127.0.0.1", 0)


def dial(server):
    """A connection to *server*."""
    if isinstance(server.address, tuple):
        return coro.create_connection(server.address[:2], timeout=20)
    new = sock(AF.UNIX)
    try:
        new.connect(server.address)
    except OSError:
        new.close()
        raise
    return new


def echo(conn, address):
    while data := conn.recv(1000):
        conn.send(data)


def ask(conn, question=b"hello"):
    """Whether what is sent comes back."""
    conn.send(question)
    return conn.recv_exact(len(question)) == question


def refuses(server):
    """Whether nobody listens there any more."""
    try:
        dial(server).close()
    except (ConnectionRefusedError, FileNotFoundError):
        return True
    except ConnectionResetError:  # it was in the backlog just then
        return False
    return False


def is_closed(conn):
    """Whether the other end has closed *conn*, in whatever way."""
    try:
        return conn.recv(1) == b""
    except ConnectionResetError:
        return True


def until(true):
    """Let the others run until something is true."""
    with coro.timeout(20):
        while not true():
            coro.sleep_relative(0.001)


class Held:
    """A handler that goes on until it is let go, and notes what happens to it."""

    def __init__(self):
        self.event = coro.Event()
        self.begun = self.ended = self.shut_down = 0

    def __call__(self, conn, address):
        self.begun += 1
        try:
            self.event.wait()
            conn.send(b"done")
        except coro.Shutdown:
            self.shut_down += 1
            raise
        finally:
            self.ended += 1


# -- serving ---------------------------------------------------------------------------------------------------------


def test_each_connection_has_a_coroutine_of_its_own(loop, address):
    """They are served at the same time, over each family; the server counts them and can name them."""

    def main():
        with StreamServer(address, echo) as server, dial(server) as a, dial(server) as b:
            assert ask(b)
            assert ask(a)
            assert server.accepted == len(server.connections) == 2
            if isinstance(address, tuple):
                assert {a.getsockname(), b.getsockname()} == set(server.connections.values())
            assert all(co.name == "echo" for co in server.connections)
            a.close()
            until(lambda: len(server.connections) == 1)
            assert ask(b)
            assert server.accepted == 2

    loop(main)


def test_the_handler_gets_the_connection_and_the_address_of_its_other_end(loop):
    """As accept gives them."""
    seen = []

    def main():
        with StreamServer(HERE, lambda *args: seen.append(args)) as server, dial(server) as conn:
            assert is_closed(conn)
            assert seen[0][1] == conn.getsockname()

    loop(main)
    assert type(seen[0][0]) is sock


def test_the_address_has_the_real_port_once_the_server_listens(loop):
    """Before it is what was given; start() needs no running loop."""
    server = StreamServer(HERE, echo)
    assert server.address == HERE
    server.start()
    host, port = server.address

    def main():
        with dial(server) as conn:
            assert ask(conn)
        server.stop()

    assert host == "127.0.0.1"
    assert port > 0
    loop(main)


@pytest.mark.parametrize("kind", ["coro", "standard library"])
def test_a_socket_that_listens_already_is_taken_over(loop, kind):
    """Be it of coro or of the standard library; it is closed with the server."""

    def main():
        listener = coro.create_server(HERE) if kind == "coro" else socket.create_server(HERE)
        with StreamServer(listener, echo) as server:
            assert server.address == listener.getsockname() if kind == "coro" else server.address
            with dial(server) as conn:
                assert ask(conn)
        assert listener.fileno() == -1 or kind != "coro"
        assert refuses(server)

    loop(main)


def test_a_name_is_resolved(loop):
    """The host may be a name; the family is that of its first address."""

    def main():
        with StreamServer(("localhost", 0), echo) as server, dial(server) as conn:
            assert server.address[0] in ("127.0.0.1", "::1")
            assert ask(conn)

    loop(main)


def test_the_empty_host_is_every_ipv4_address(loop):
    """As everywhere."""

    def main():
        with StreamServer(("", 0), echo) as server:
            assert server.address[0] == "0.0.0.0"
            with coro.create_connection(("127.0.0.1", server.address[1])) as conn:
                assert ask(conn)

    loop(main)


def test_the_connection_is_closed_when_the_handler_returns(loop):
    """Though the handler does not do it."""
    kept = []

    def main():
        with StreamServer(HERE, lambda conn, address: kept.append(conn)) as server, dial(server) as conn:
            assert is_closed(conn)
            until(lambda: not server.connections)
            assert kept[0].fd == -1

    loop(main)


def test_a_handler_that_fails_is_reported_and_harms_nobody(loop, failures):
    """The notifier gets the exception, that connection is closed, the others and the server go on."""

    def handler(conn, address):
        if conn.recv(1) == b"!":
            raise ValueError("no exclamations")
        echo(conn, address)

    def main():
        with StreamServer(HERE, handler) as server, dial(server) as good, dial(server) as bad:
            good.send(b".")
            assert ask(good)
            bad.send(b"!")
            assert is_closed(bad)
            assert ask(good)
            with dial(server) as another:
                another.send(b".")
                assert ask(another)

    loop(main)
    assert [str(exc) for exc in failures] == ["no exclamations"]
    failures.clear()


def test_a_failure_says_which_connection_it_was(loop, capfd):
    """A note of the exception, which the default notifier prints, names the other end and the server."""

    def handler(conn, address):
        raise ValueError("boom")

    def main():
        old = coro.set_exception_notifier(None)
        try:
            with StreamServer(HERE, handler, name="chat") as server, dial(server) as conn:
                assert is_closed(conn)
                return conn.getsockname(), server.address
        finally:
            coro.set_exception_notifier(old)

    peer, own = loop(main)
    assert f"ValueError: boom\nconnection from {peer!r} to 'chat' at {own!r}\n" in capfd.readouterr().err


def test_the_name_of_a_server_is_that_of_its_coroutines(loop):
    """Chosen, or the handler's; the coroutine that accepts says what it does."""

    def main():
        with StreamServer(HERE, echo, name="echo of port 7") as server, dial(server) as conn:
            assert ask(conn)
            names = {co.name for co in coro.all_threads.values()}
            assert {"echo of port 7", "echo of port 7 (accept)"} <= names
            assert "'echo of port 7'" in repr(server)
            assert "serving, 1 connection" in repr(server)

    loop(main)
    assert StreamServer(HERE, functools.partial(echo), name=None).name.startswith("functools.partial(")


# -- the limit -------------------------------------------------------------------------------------------------------


def test_beyond_the_limit_connections_wait_in_the_backlog(loop):
    """They are accepted one by one as others end; meanwhile the acceptor waits for a place, not for a descriptor."""
    held = Held()

    def main():
        with StreamServer(HERE, held, limit=2) as server:
            conns = [dial(server) for _ in range(4)]
            until(lambda: held.begun == 2)
            coro.yield_slice()
            acceptor = next(co for co in coro.all_threads.values() if co.name.endswith("(accept)"))
            assert "semaphore avail=0" in coro.waits_for(acceptor)
            assert server.accepted == 2
            next(iter(server.connections)).shutdown()
            until(lambda: held.begun == 3)
            assert len(server.connections) == 2
            held.event.set()
            for conn in conns[1:]:
                assert conn.recv_exact(4) == b"done"
            for conn in conns:
                conn.close()

    loop(main)
    assert held.begun == 4


def test_a_server_at_its_limit_can_be_stopped(loop):
    """Who waits in the backlog is refused."""
    held = Held()

    def main():
        with StreamServer(HERE, held, limit=1) as server:
            with dial(server) as first, dial(server) as second:
                until(lambda: held.begun)
                server.stop(0)
                assert is_closed(first)
                assert is_closed(second)
            assert server.accepted == 1

    loop(main)


# -- stopping --------------------------------------------------------------------------------------------------------


def test_stop_lets_the_handlers_end(loop, address):
    """Nobody can connect any more at once, those that run finish their work, and stop returns when they have."""
    held = Held()

    def main():
        server = StreamServer(address, held)
        server.start()
        with dial(server) as conn:
            until(lambda: held.begun)
            stopper = coro.spawn(server.stop, 20)
            until(lambda: refuses(server))
            assert server.stopping
            assert not stopper.dead
            held.event.set()
            assert conn.recv_exact(4) == b"done"
            stopper.result()
            assert held.ended == 1
            assert is_closed(conn)
            assert server.connections == {}

    loop(main)
    assert held.shut_down == 0


def test_who_does_not_end_within_the_grace_time_is_shut_down(loop):
    """Its finally blocks have run when stop returns, however long they take; they are not disturbed again."""
    log = []

    def handler(conn, address):
        try:
            coro.sleep_relative(60)
        finally:
            log.append("shut down")
            coro.sleep_relative(0.05)
            log.append("unwound")

    def main():
        server = StreamServer(HERE, handler)
        server.start()
        with dial(server):
            until(lambda: server.connections)
            coro.yield_slice()
            coro.spawn(server.stop, 0.01)
            coro.spawn(server.stop, 0.02)
            server.stop(0.03)
            assert log == ["shut down", "unwound"]

    loop(main)


def test_the_shortest_grace_time_counts(loop):
    """The second ^C of an impatient user ends what the first one waits for."""
    held = Held()

    def main():
        server = StreamServer(HERE, held)
        server.start()
        with dial(server):
            until(lambda: held.begun)
            patient = coro.spawn(server.stop, 1000)
            coro.yield_slice()
            server.stop(0)
            patient.result(timeout=20)

    loop(main)
    assert (held.ended, held.shut_down) == (1, 1)


def test_stop_twice_and_after_the_end(loop):
    """The second call finds nothing to do; also after the loop has ended."""
    server = StreamServer(HERE, echo)

    def main():
        server.start()
        server.stop()
        server.stop()

    loop(main)
    server.stop()


def test_stop_from_a_handler(loop):
    """It returns to the handler, which goes on; the others are given the time, and those that take longer are ended."""
    held = Held()
    said = []

    def handler(conn, address):
        if len(server.connections) < 2:
            held(conn, address)
        else:
            server.stop(0.05)
            said.append(len(server.connections))
            conn.send(b"stopped")

    server = StreamServer(HERE, handler)

    def main():
        server.start()
        with dial(server) as first:
            until(lambda: held.begun)
            with dial(server) as second:
                assert second.recv_exact(7) == b"stopped"
                server.serve_forever()
                assert is_closed(first)

    loop(main)
    assert said == [2]
    assert held.shut_down == 1


def test_two_handlers_that_stop_the_server(loop):
    """Neither waits for the other."""
    held = coro.Event()

    def handler(conn, address):
        held.wait()
        server.stop()
        conn.send(b"bye")

    server = StreamServer(HERE, handler)

    def main():
        server.start()
        with dial(server) as first, dial(server) as second:
            until(lambda: len(server.connections) == 2)
            held.set()
            assert first.recv_exact(3) == second.recv_exact(3) == b"bye"
            server.serve_forever()

    loop(main)


@posix
def test_stop_from_a_signal(loop):
    """A handler of coro may wait for the end of the server."""
    held = Held()

    def main():
        server = StreamServer(HERE, held)
        coro.register_signal_handler(signal.SIGUSR1, lambda signum: server.stop(20), once_only=True)
        coro.spawn(lambda: (until(lambda: server.stopping), held.event.set()))
        server.start()
        with dial(server) as conn:
            until(lambda: held.begun)
            os.kill(os.getpid(), signal.SIGUSR1)
            server.serve_forever()
            assert conn.recv_exact(4) == b"done"

    loop(main)
    assert held.shut_down == 0


def test_a_stop_that_is_interrupted_goes_on_by_itself(loop):
    """The caller is free at once; the handlers are shut down when their time has come."""
    held = Held()

    def main():
        server = StreamServer(HERE, held)
        server.start()
        with dial(server) as conn:
            until(lambda: held.begun)
            with pytest.raises(coro.TimeoutError):
                coro.with_timeout(0, server.stop, 0.05)
            assert held.ended == 0
            assert refuses(server)
            assert is_closed(conn)

    loop(main)
    assert held.shut_down == 1


def test_stop_before_the_first_run(loop):
    """A server that was started and stopped in one breath has accepted nobody."""

    def main():
        server = StreamServer(HERE, echo)
        server.start()
        server.stop()
        assert refuses(server)

    outside = StreamServer(HERE, echo)
    outside.start()
    outside.stop()
    loop(main)


def test_a_connection_that_is_accepted_but_not_begun_is_closed_too(loop):
    """Its coroutine is cancelled before its first run: there is no finally block that could do it."""
    begun = []

    def main():
        server = StreamServer(HERE, lambda conn, address: begun.append(conn))
        server.start()
        with dial(server) as conn:
            while not server.accepted:
                if any(co.name.endswith("(accept)") for co in coro.all_threads.values()):
                    coro.sleep_relative(0)
            for co in server.connections:
                co.shutdown()
            server.stop(0)
            assert is_closed(conn)

    loop(main)


def test_stop_before_start_and_start_after_stop(loop):
    """A server serves once: what it was given is closed, and it says that it was stopped."""
    listener = coro.create_server(HERE)
    server = StreamServer(listener, echo)
    server.stop()
    assert listener.fd == -1
    with pytest.raises(RuntimeError, match=r"'echo'.* was stopped already: make another one"):
        server.start()

    def main():
        with StreamServer(HERE, echo) as running, pytest.raises(RuntimeError, match="was started already"):
            running.start()

    loop(main)


def test_a_block_that_fails_shuts_the_handlers_down(loop):
    """At once, and before the exception goes on; at the end of a block that has not failed they have time."""
    held = Held()
    graces = []

    class Noted(StreamServer):
        def stop(self, *grace):
            graces.append(grace)
            super().stop(*grace)

    def main():
        with contextlib.suppress(KeyError), Noted(HERE, held) as server:
            conn = dial(server)
            until(lambda: held.begun)
            raise KeyError
        assert held.shut_down == held.ended == 1
        conn.close()
        with Noted(HERE, held):
            pass

    loop(main)
    assert graces == [(0,), (5.0,)]


def test_serve_forever_starts_and_ends_with_stop(loop):
    """It returns when the last handler has ended."""
    held = Held()
    server = StreamServer(HERE, held)

    def main():
        forever = coro.spawn(server.serve_forever)
        until(lambda: server.address[1])
        with dial(server):
            until(lambda: held.begun)
            coro.spawn(server.stop, 20)
            until(lambda: server.stopping)
            coro.yield_slice()
            assert not forever.dead
            held.event.set()
            forever.result()
            assert held.ended == 1

    loop(main)


def test_serve_forever_under_a_timeout(loop):
    """The handlers have ended before the timeout goes on."""
    held = Held()
    server = StreamServer(HERE, held)

    def client():
        until(lambda: server.address[1])
        with dial(server) as conn:
            return is_closed(conn)

    def main():
        co = coro.spawn(client)
        with pytest.raises(coro.TimeoutError):
            coro.with_timeout(0.1, server.serve_forever)
        assert held.begun == held.ended
        assert co.result()
        assert refuses(server)

    loop(main)


def test_the_end_of_the_loop_ends_a_server(loop, address):
    """Without a stop: listener, connections and the file of the socket are gone."""
    server = StreamServer(address, echo)
    conns = []

    def main():
        server.start()
        conns.append(dial(server))
        assert ask(conns[0])
        conns.append(dial(server))  # accepted by nobody

    loop(main)
    for conn in conns:
        conn.close()
    assert server.connections == {}
    assert isinstance(address, tuple) or not os.path.exists(address)


def test_a_handler_can_say_goodbye_at_the_end_of_the_loop(loop):
    """Its finally block is not disturbed by the stop of the server, which the end of the loop has set off too."""
    log = []

    def handler(conn, address):
        try:
            coro.sleep_relative(60)
        finally:
            coro.sleep_relative(0.02)
            log.append("goodbye")

    def main():
        server = StreamServer(HERE, handler)
        coro.spawn(server.serve_forever)
        until(lambda: server.address[1])
        with dial(server):
            until(lambda: server.connections)
            coro.yield_slice()

    loop(main)
    assert log == ["goodbye"]


@posix
def test_stop_in_a_forked_child(loop, tmp_path):
    """The child lets go of what it has inherited, and the parent serves on."""
    path = str(tmp_path / "socket")

    def main():
        with StreamServer(path, echo) as server, dial(server) as conn:
            assert ask(conn)
            pid = coro.fork()
            if not pid:
                status = 1
                try:
                    server.stop()
                    status = 2 * bool(server.connections)
                finally:
                    os._exit(status)
            assert coro.waitpid(pid) == (pid, 0)
            assert ask(conn)
            with dial(server) as another:
                assert ask(another)

    loop(main)


# -- trouble ---------------------------------------------------------------------------------------------------------


class Troubled(sock):
    """A listening socket whose accept first fails as it is told."""

    def __init__(self, *errors):
        super().__init__()
        self.bind(HERE)
        self.listen()
        self.errors = list(errors)
        self.calls = 0

    def accept(self):
        self.calls += 1
        if self.errors:
            number = self.errors.pop(0)
            raise OSError(number, os.strerror(number))
        return super().accept()


@pytest.mark.parametrize("name", ["ECONNABORTED", "EPROTO", "EPERM", "ENETDOWN"])
def test_what_has_happened_to_one_connection_does_not_end_the_server(loop, capfd, name):
    """The next one is served at once, and nothing is said."""

    def main():
        with StreamServer(Troubled(*[getattr(errno, name)] * 3), echo) as server, dial(server) as conn:
            assert ask(conn)

    loop(main)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "EIO"])
def test_without_resources_it_tries_again_until_it_can(loop, capfd, name):
    """It says so once, pauses in between, and serves when there is something to serve with."""

    def main():
        listener = Troubled(*[getattr(errno, name)] * 3)
        with StreamServer(listener, echo) as server, dial(server) as conn:
            assert ask(conn)
            assert listener.calls >= 4

    loop(main)
    told = capfd.readouterr().err
    assert len(re.findall("cannot accept: .*It tries again until it can", told)) == 1
    assert os.strerror(getattr(errno, name)) in told


def test_it_does_not_spin_without_resources(loop, capfd):
    """The pauses grow: few attempts in a tenth of a second."""

    def main():
        listener = Troubled(*[errno.EMFILE] * 10_000)
        with StreamServer(listener, echo):
            coro.sleep_relative(0.1)
            assert 1 < listener.calls < 10

    loop(main)
    assert "cannot accept" in capfd.readouterr().err


def test_stop_during_the_pause(loop, capfd):
    """It does not wait for the end of the pause."""

    def main():
        listener = Troubled(*[errno.EMFILE] * 10_000)
        server = StreamServer(listener, echo)
        server.start()
        until(lambda: server._pausing)
        calls = listener.calls
        server.stop()
        assert listener.calls == calls
        assert listener.fd == -1

    loop(main)
    assert "cannot accept" in capfd.readouterr().err


def test_a_listener_that_is_of_no_use_any_more_ends_serve_forever(loop):
    """With its error; whoever waits in serve_forever gets it, and the notifier does not get it as well."""

    def main():
        server = StreamServer(Troubled(errno.EINVAL), echo)
        with pytest.raises(OSError, match="Invalid argument"):
            server.serve_forever()
        server.stop()

    loop(main)


def test_a_listener_that_somebody_has_closed_is_reported(loop, failures):
    """To the notifier, when nobody is in serve_forever."""

    def main():
        listener = coro.create_server(HERE)
        with StreamServer(listener, echo):
            coro.yield_slice()
            listener.close()
            coro.yield_slice()

    loop(main)
    assert [type(exc) for exc in failures] == [coro.ClosedError]
    failures.clear()


STARVING = """
import os, resource
from contextlib import suppress
import coro
from coro.servers import StreamServer

def handler(conn, address):
    with suppress(OSError):
        conn.send(b"+")
        while conn.recv(100):
            pass

def commands():
    stdin = coro.fd_sock(os.dup(0))
    with stdin:
        while command := stdin.recv(1):
            if command == b"s":
                server.stop(0)
                return
            print(server.accepted, "pausing" if server._pausing else "waiting", flush=True)

server = StreamServer(("127.0.0.1", 0), handler)
server.start()
coro.spawn(commands)

def main():
    coro.yield_slice()
    with open("/dev/null"):  # what Python and the poller need from now on is open
        pass
    room = len(os.listdir("/dev/fd")) + 2  # without the one that has listed them: three connections
    resource.setrlimit(resource.RLIMIT_NOFILE, (room, room))
    print(server.address[1], flush=True)
    server.serve_forever()

coro.run(main)
"""


@posix
@pytest.mark.parametrize("end", ["free", "stop"])
def test_out_of_descriptors(poller, end):
    """With no descriptor left the server says so once, waits, and serves the next as soon as one has ended."""
    with (
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", STARVING],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
        contextlib.ExitStack() as stack,
    ):
        stack.callback(process.kill)  # if something fails here, nobody waits for it
        port = int(process.stdout.readline())
        conns = [stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20)) for _ in range(8)]

        def state():
            process.stdin.write("?")
            process.stdin.flush()
            accepted, doing = process.stdout.readline().split()
            return int(accepted), doing

        while state()[1] != "pausing":
            time.sleep(0.005)
        room = state()[0]
        assert 0 < room < 8
        for conn in conns[:room]:
            assert conn.recv(1) == b"+"
        if end == "free":
            for conn in conns:
                conn.close()
            while state()[0] != 8:
                time.sleep(0.005)
        process.stdin.write("s")
        process.stdin.flush()
        _, err = process.communicate(timeout=20)

    assert process.returncode == 0, err
    assert err.count("cannot accept") == err.count("Too many open files") == 1, err
    assert [line for line in err.splitlines() if "High Latency" not in line and "cannot accept" not in line] == []


def test_the_end_of_a_connection_ends_the_pause(loop, capfd, monkeypatch):
    """What it has freed is used at once, and not when a long pause is over."""
    monkeypatch.setattr("coro.servers.FIRST_PAUSE", 1000.0)
    monkeypatch.setattr("coro.servers.LONGEST_PAUSE", 1000.0)

    def main():
        listener = Troubled()
        with StreamServer(listener, echo) as server, dial(server) as first:
            assert ask(first)
            listener.errors.append(errno.EMFILE)
            with dial(server) as nobody:  # accepted by the call that waits already
                assert ask(nobody)
            until(lambda: server._pausing or not listener.errors)
            with dial(server) as second:
                first.close()
                with coro.timeout(20):
                    assert ask(second)

    loop(main)
    capfd.readouterr()


# -- many connections ------------------------------------------------------------------------------------------------


@posix
def test_a_thousand_connections_at_once(poller):
    """Held and served, between two processes: every message comes back.  select(2) cannot, and that is said.

    With ten thousand it is benchmarks/ten_thousand.py without options.
    """
    program = Path(__file__).parent.parent / "benchmarks" / "ten_thousand.py"
    done = subprocess.run(
        [sys.executable, "-W", "error", str(program), "--connections", "1000", "--rounds", "2"],
        capture_output=True,
        text=True,
        timeout=100,
    )

    if poller == "select":
        assert done.returncode == 1
        assert "select(2) takes no descriptor beyond FD_SETSIZE: use another poller" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    fewer = re.search(r"([\d,]+) connections instead of 1,000", done.stderr)
    connections = int(fewer[1].replace(",", "")) if fewer else 1000
    assert f"connections  {connections:,} at once" in done.stdout
    assert f"replies      {2 * connections:,} in" in done.stdout
    assert "Traceback" not in done.stderr


# -- Unix sockets ----------------------------------------------------------------------------------------------------


@posix
def test_the_file_of_a_unix_socket_goes_with_the_server(loop, tmp_path, monkeypatch):
    """Also when the path was relative, and the directory is another one by then."""
    monkeypatch.chdir(tmp_path)

    def main():
        with StreamServer("here", echo) as server:
            assert os.path.exists("here")
            with dial(server) as conn:
                assert ask(conn)
            os.mkdir("there")
            os.chdir("there")

    loop(main)
    assert os.listdir(tmp_path) == ["there"]


@posix
@pytest.mark.parametrize("kind", [str, os.fsencode], ids=["str", "bytes"])
def test_a_path_that_is_left_over_is_taken_over(loop, tmp_path, kind):
    """A server that was killed leaves its file, and the next one starts all the same."""
    path = kind(str(tmp_path / "socket"))
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(path)
        gone.listen()

    def main():
        with StreamServer(path, echo) as server, dial(server) as conn:
            assert ask(conn)

    loop(main)
    assert not os.path.exists(path)


@posix
def test_a_path_that_is_in_use_is_left_alone(loop, tmp_path):
    """Of a server that listens, and of a file that is no socket; the error names the path, nothing is left open."""
    path = str(tmp_path / "socket")
    precious = tmp_path / "precious"
    precious.write_text("data")

    def main():
        with StreamServer(path, echo) as server:
            for taken in (path, str(precious)):
                another = StreamServer(taken, echo)
                with pytest.raises(OSError, match=re.escape(taken)) as caught:
                    another.start()
                assert caught.value.errno == errno.EADDRINUSE
            with dial(server) as conn:
                assert ask(conn)

    loop(main)
    assert precious.read_text() == "data"


@posix
def test_the_file_of_a_successor_is_left_alone(loop, tmp_path):
    """A server that was replaced does not remove what has taken its place."""
    path = str(tmp_path / "socket")

    def main():
        old = StreamServer(path, echo)
        old.start()
        os.unlink(path)
        with StreamServer(path, echo) as new:
            old.stop()
            with dial(new) as conn:
                assert ask(conn)

    loop(main)


@linux
def test_an_abstract_name(loop):
    """There is no file to remove."""
    name = f"\0coro test {os.getpid()}"

    def main():
        with StreamServer(name, echo) as server, sock(AF.UNIX) as conn:
            assert server.address == os.fsencode(name)
            conn.connect(server.address)
            assert ask(conn)

    loop(main)


# -- TLS -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def contexts():
    """Contexts for a server and for clients that trust it."""
    trustme = pytest.importorskip("trustme", reason="needs the package trustme, which makes certificates")
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


def test_tls(loop, contexts):
    """The handler reads and writes what the client has encrypted, and the end of the stream is an orderly one."""
    server_context, client_context = contexts

    def main():
        with StreamServer(HERE, echo, tls=server_context) as server:
            with create_tls_connection(server.address, client_context) as conn:
                assert ask(conn)
                conn.shutdown(SHUT.WR)
                assert conn.recv(1) == b""
            until(lambda: not server.connections)

    loop(main)


def test_a_silent_peer_holds_up_nobody(loop, contexts, failures):
    """Handshakes are made side by side; the one that does not begin is given up in time, and reported."""
    server_context, client_context = contexts

    def main():
        with StreamServer(HERE, echo, tls=server_context, handshake_timeout=0.2) as server, dial(server) as silent:
            until(lambda: server.connections)
            with create_tls_connection(server.address, client_context) as conn:
                assert ask(conn)
            assert is_closed(silent)

    loop(main)
    assert [type(exc) for exc in failures] == [coro.TimeoutError]
    failures.clear()


def test_a_handshake_that_fails(loop, contexts, failures):
    """What is no TLS is reported and closed; the next client is served."""
    server_context, client_context = contexts

    def main():
        with StreamServer(HERE, echo, tls=server_context) as server:
            with dial(server) as plain:
                plain.send(b"GET / HTTP/1.0\r\n\r\n")
                while plain.recv(100):
                    pass
            with create_tls_connection(server.address, client_context) as conn:
                assert ask(conn)

    loop(main)
    assert [isinstance(exc, ssl.SSLError) for exc in failures] == [True]
    failures.clear()


def test_stop_with_tls(loop, contexts):
    """In the midst of a handshake, and of a conversation."""
    server_context, client_context = contexts

    def main():
        server = StreamServer(HERE, echo, tls=server_context)
        server.start()
        with dial(server) as silent, create_tls_connection(server.address, client_context) as conn:
            assert ask(conn)
            server.stop(0)
            assert is_closed(silent)
            assert is_closed(conn)

    loop(main)


# -- bad input -------------------------------------------------------------------------------------------------------


def generator(conn, address):
    yield


@pytest.mark.parametrize(
    ("error", "match", "args", "options"),
    [
        (TypeError, "needs a function", (HERE, None), {}),
        (TypeError, "generator function", (HERE, generator), {}),
        (TypeError, "name of a coroutine", (HERE, echo), {"name": 5}),
        (TypeError, "limit of connections is an int", (HERE, echo), {"limit": 1.5}),
        (ValueError, "limit of connections must be 1 or more", (HERE, echo), {"limit": 0}),
        (ValueError, "backlog must be 1 or more", (HERE, echo), {"backlog": 0}),
        (TypeError, r"needs an ssl\.SSLContext", (HERE, echo), {"tls": "yes"}),
        (ValueError, "is for clients", (HERE, echo), {"tls": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)}),
        (TypeError, "number of seconds", (HERE, echo), {"handshake_timeout": None}),
        (TypeError, "a host and a port, on a path", (8080, echo), {}),
        (TypeError, "tuple of a host and a port", (("127.0.0.1",), echo), {}),
        (TypeError, "a host is a str", ((5, 5), echo), {}),
        (TypeError, "a port is an int", (("127.0.0.1", "http"), echo), {}),
        (ValueError, "a port must be 0 or more", (("127.0.0.1", -1), echo), {}),
        (OverflowError, "0-65535", (("127.0.0.1", 65536), echo), {}),
        (ValueError, "cannot be empty", ("", echo), {}),
    ],
)
def test_bad_input_is_refused_at_once(error, match, args, options):
    """Before anything is made."""
    if args[0] == "" and sys.platform == "win32":
        match = "no Unix sockets"
    with pytest.raises(error, match=match):
        StreamServer(*args, **options)


def test_a_socket_that_does_not_listen_is_refused():
    """It stays the caller's."""
    with sock() as mine, pytest.raises(ValueError, match=r"does not listen: bind it and call its listen\(\) first"):
        StreamServer(mine, echo)
    with socket.socket() as mine, pytest.raises(ValueError, match="does not listen"):
        StreamServer(mine, echo)


def test_an_address_that_cannot_be_had(loop):
    """start() says which; the loop needs no clearing up."""

    def main():
        with StreamServer(HERE, echo) as server:
            another = StreamServer(server.address, echo)
            with pytest.raises(OSError, match="in use"):
                another.start()
            another.stop()

    loop(main)


def test_a_grace_time_that_is_none():
    """Refused before anything is stopped."""
    server = StreamServer(HERE, echo)
    with pytest.raises(TypeError, match="number of seconds"):
        server.stop(None)
    assert not server.stopping


def test_stop_from_another_thread_is_refused(loop):
    """With the way to do it; the server goes on."""
    errors = []

    def stop(server):
        try:
            server.stop()
        except RuntimeError as exc:
            errors.append(exc)

    def main():
        with StreamServer(HERE, echo) as server:
            coro.to_thread(stop, server)
            assert not server.stopping
            with dial(server) as conn:
                assert ask(conn)

    loop(main)
    assert "Portal" in str(errors[0])


def test_an_address_in_one_string_is_refused():
    """It would be taken for the path of a Unix socket."""
    with pytest.raises(ValueError, match="give a host and a port as a tuple"):
        StreamServer("127.0.0.1:8080", print)
