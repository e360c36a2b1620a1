"""The programs in examples/ against real peers: chat clients, redis-cli, redis-benchmark, nginx, http.server.

What needs a program that is not installed is skipped, with the name of that program.
"""

from __future__ import annotations

import functools
import http.server
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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

posix = pytest.mark.skipif(os.name != "posix", reason="only POSIX has the signals and Unix sockets used here")
TUTORIAL = EXAMPLES / "tutorial"


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        shutil.which(program) is None, reason=f"{program} is not installed: it is the real peer of this test"
    )


# -- chat ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def chat(poller: str) -> Iterator[tuple[subprocess.Popen[str], Address]]:
    with running("chat_server.py", "127.0.0.1:0", "--queue", "5") as started:
        yield started


class Guest:
    """Somebody who chats."""

    def __init__(self, address: Address, nick: str, receive_buffer: int = 0) -> None:
        self.sock = socket.socket()
        self.sock.settimeout(20)
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.connect(address)
        self.lines = self.sock.makefile("r", encoding="utf-8")
        assert self.hear() == "Your nick name?"
        self.say(nick)

    def say(self, line: str) -> None:
        self.sock.sendall(f"{line}\n".encode())

    def hear(self) -> str:
        return self.lines.readline().rstrip("\n")

    def close(self) -> None:
        self.lines.close()
        self.sock.close()

    def __enter__(self) -> Guest:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()


def test_what_one_says_all_others_hear(chat: tuple[subprocess.Popen[str], Address]) -> None:
    """With the nick name in front; who comes and who goes is told too."""
    _, address = chat
    with Guest(address, "anne") as anne:
        anne.say("/names")
        assert anne.hear() == "* anne"
        with Guest(address, "bob") as bob:
            assert anne.hear() == "* bob is here"
            bob.say("Grüße")
            assert anne.hear() == "bob: Grüße"
            anne.say("hello")
            assert bob.hear() == "anne: hello"
            bob.say("/names")
            assert bob.hear() == "* anne, bob"
            bob.say("/quit")
            assert bob.hear() == ""
        assert anne.hear() == "* bob has gone"


def test_nobody_takes_the_name_of_another(chat: tuple[subprocess.Popen[str], Address]) -> None:
    """Nor one that is no name."""
    _, address = chat
    with Guest(address, "anne") as anne:
        anne.say("/names")
        assert anne.hear() == "* anne"
        with Guest(address, "anne") as other:
            assert other.hear().startswith("It must be one word, and nobody else's.")
            other.say("* anne has gone")
            assert other.hear().startswith("It must be one word, and nobody else's.")
            other.say("anna")
            assert anne.hear() == "* anna is here"


def test_a_slow_reader_is_dropped_and_holds_up_nobody(chat: tuple[subprocess.Popen[str], Address]) -> None:
    """Once its queue is full; the others hear all that is said, and that it has gone."""
    process, address = chat
    assert process.stdout is not None
    with Guest(address, "talker") as talker, Guest(address, "listener") as listener:
        assert talker.hear() == "* listener is here"
        with Guest(address, "sleeper", 4096):
            assert talker.hear() == listener.hear() == "* sleeper is here"
            said = 0
            gone = False
            while not gone:
                talker.say(f"{said} {'x' * 900}")
                heard = listener.hear()
                if heard == "* sleeper has gone":
                    gone = True
                    heard = listener.hear()
                assert heard.startswith(f"talker: {said} x")
                said += 1
            assert talker.hear() == "* sleeper has gone"
            assert process.stdout.readline() == "sleeper does not read, and is dropped\n"


def test_a_guest_that_resets_has_gone(chat: tuple[subprocess.Popen[str], Address]) -> None:
    """The others go on; the server says what has happened."""
    process, address = chat
    assert process.stdout is not None
    with Guest(address, "anne") as anne:
        rude = Guest(address, "rude")
        assert anne.hear() == "* rude is here"
        rude.lines.close()
        reset(rude.sock)
        assert anne.hear() == "* rude has gone"
        assert "reset" in process.stdout.readline()


# -- key-value server ------------------------------------------------------------------------------------------------


@pytest.fixture
def store(poller: str) -> Iterator[Address]:
    with running("kv_server.py", "127.0.0.1:0") as (_, address):
        yield address


def ask(sock: socket.socket, request: bytes, size: int) -> bytes:
    sock.sendall(request)
    reply = b""
    while len(reply) < size:
        some = sock.recv(size - len(reply))
        assert some, reply
        reply += some
    return reply


def test_the_store_takes_arrays_and_plain_lines(store: Address) -> None:
    """Both do the same; values may hold any byte; commands may come in one piece or byte by byte."""
    with dial(store) as sock:
        assert ask(sock, b"*3\r\n$3\r\nset\r\n$1\r\nk\r\n$4\r\na\r\n\0\r\n", 5) == b"+OK\r\n"
        assert ask(sock, b"GET k\n", 10) == b"$4\r\na\r\n\0\r\n"
        assert ask(sock, b"get nothing\r\n\r\nPING\r\nexists k k no\r\n", 16) == b"$-1\r\n+PONG\r\n:2\r\n"
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"*2\r\n$4\r\nincr\r\n$1\r\nn\r\n":
            sock.sendall(bytes([byte]))
        assert ask(sock, b"incr n\n", 8) == b":1\r\n:2\r\n"
        assert ask(sock, b"keys *\n", 18) == b"*2\r\n$1\r\nk\r\n$1\r\nn\r\n"
        assert ask(sock, b"del k n x\ndbsize\nquit\n", 13) == b":2\r\n:0\r\n+OK\r\n"
        assert sock.recv(1) == b""


def test_what_the_store_does_not_understand(store: Address) -> None:
    """A wrong command is an error, and the next one is served; after what is no protocol the connection is closed."""
    with dial(store) as sock:
        sock.sendall(b"frobnicate\nset only\nset k v\nincr k\n")
        lines = sock.makefile("rb")
        with lines:
            assert [lines.readline()[:12] for _ in range(4)] == [
                b"-ERR unknown",
                b"-ERR unknown",
                b"+OK\r\n",
                b"-ERR value i",
            ]
            sock.sendall(b"*1\r\n$99999999999\r\n")
            assert lines.readline().startswith(b"-ERR expected '$' and a number up to")
            assert lines.read() == b""


@needs("redis-cli")
def test_redis_cli_talks_to_the_store(store: Address) -> None:
    """One command after the other, and from a script on its stdin."""

    def cli(*words: str, script: str | None = None) -> str:
        return subprocess.run(
            ["redis-cli", "-p", str(store[1]), *words],
            input=script,
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        ).stdout

    assert cli("set", "name", "a value") == "OK\n"
    assert cli("get", "name") == "a value\n"
    assert cli(script="incr n\nincr n\nkeys *\n") == "1\n2\nn\nname\n"
    assert cli("frobnicate").startswith("ERR unknown command")


@needs("redis-benchmark")
def test_redis_benchmark_against_the_store(store: Address) -> None:
    """Fifty clients with pipelines of eight commands; each reply must be there."""
    done = subprocess.run(
        ["redis-benchmark", "-p", str(store[1]), *"-c 50 -n 4000 -P 8 -t set,get,incr -q".split()],
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr
    for name in ("SET", "GET", "INCR"):
        assert re.search(rf"{name}: [\d.]+ requests per second", done.stdout)


# -- crawler ---------------------------------------------------------------------------------------------------------


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def site(folder: Path, pages: dict[str, str], handler: type[Quiet] = Quiet) -> Iterator[str]:
    """Serve *pages* with the standard library's server, in a thread; gives the address of the site."""
    for name, content in pages.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    serve = functools.partial(handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


PAGES = {
    "index.html": '<a href="a.html">a</a> <a href="/sub/">b</a> <a href="#here">c</a> <a href="http://x.invalid/">d</a>',
    "a.html": '<a href="index.html">up</a> <img src="picture.png"> <a href="gone.html">x</a>',
    "sub/index.html": '<a href="../a.html">a</a> <a href="deep/deep.html?x=1#y">deep</a> <a href="mailto:n@x.invalid">',
    "sub/deep/deep.html": "<p>the end",
    "picture.png": "no picture",
}


def test_the_crawler_finds_all_pages_and_the_broken_link(poller: str, tmp_path: Path) -> None:
    """Each page of the site once, nothing of other sites; the broken link with the page it is on; status 1."""
    with site(tmp_path, PAGES) as url:
        done = run("crawler.py", url)

    assert complaints(done.stderr) == ""
    broken, summary = done.stdout.splitlines()
    assert broken == f"{url}gone.html: status 404 (linked from {url}a.html)"
    size = sum(len(page) for page in PAGES.values()) + len(PAGES["index.html"])  # that has two addresses
    assert re.match(r"7 pages, 1 broken, [\d,]+ bytes, ", summary), summary
    assert int(summary.split()[4].replace(",", "")) > size
    assert done.returncode == 1


def test_the_crawler_fetches_pages_at_the_same_time(poller: str, tmp_path: Path) -> None:
    """With a hundred pages of which each takes a while it needs a fraction of the sum; nothing is broken: status 0."""
    pages = {f"{number}.html": "<p>page" for number in range(40)}
    pages["index.html"] = "".join(f'<a href="{name}">' for name in list(pages))
    most = now = 0
    lock = threading.Lock()

    class Slow(Quiet):
        def do_GET(self) -> None:
            nonlocal most, now
            with lock:
                now += 1
                most = max(most, now)
            time.sleep(0.02)
            with lock:
                now -= 1
            super().do_GET()

    with site(tmp_path, pages, Slow) as url:
        done = run("crawler.py", url, "--workers", "10")

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("41 pages, 0 broken, ")
    assert 2 <= most <= 10


def test_the_crawler_stops_at_the_most(poller: str, tmp_path: Path) -> None:
    """With --most there are no more pages than that."""
    with site(tmp_path, PAGES) as url:
        done = run("crawler.py", url, "--most", "2")

    assert done.stdout.startswith("2 pages, 0 broken, ")


@pytest.mark.parametrize("answer", [b"", b"220 smtp ready\r\n", b"HTTP/1.0 200 OK\r\nContent-Length: 10\r\n\r\nshort"])
def test_the_crawler_does_not_trust_the_server(poller: str, answer: bytes) -> None:
    """What is no HTTP, or comes in part, is a broken page."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)

        def serve() -> None:
            with accepted(listener) as sock:
                sock.recv(1000)
                sock.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        done = run("crawler.py", f"http://{text(listener.getsockname())}")
        thread.join()

    assert done.returncode == 1
    assert re.match(r"http://\S+: (the answer is not HTTP|5 bytes came instead of 10)\n1 pages, 1 broken", done.stdout)


def test_the_crawler_gives_up_on_a_silent_server(poller: str) -> None:
    """After --timeout seconds."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://{text(listener.getsockname())}/"
        done = run("crawler.py", url, "--timeout", "0.05")

    assert done.stdout.startswith(f"{url}: timed out after 0.05 s\n1 pages, 1 broken")
    assert done.returncode == 1


@posix
def test_the_crawler_ends_with_130_after_ctrl_c(poller: str) -> None:
    """In the middle of its work, without a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        url = f"http://{text(listener.getsockname())}/"
        process = subprocess.Popen(command("crawler.py", url), stderr=subprocess.PIPE, text=True)
        with process, accepted(listener):
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=20)

    assert process.returncode == 130
    assert complaints(err) == ""


@pytest.mark.parametrize("url", ["127.0.0.1", "ftp://127.0.0.1/", "http:///path"])
def test_what_is_no_address_of_a_page(url: str) -> None:
    """A usage error."""
    done = run("crawler.py", url)

    assert done.returncode == 2
    assert "does not begin with http:// and a host" in done.stderr


# -- nginx and Redis behind the proxy --------------------------------------------------------------------------------


NGINX = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 100; }}
http {{
    access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    default_type text/html;
    server {{ listen 127.0.0.1:{port}; root {folder}/site; }}
}}
"""


@contextmanager
def daemon(arguments: list[str], port: int) -> Iterator[Address]:
    """Run a server of somebody else for the length of a block, from when it listens."""
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(2000):
                try:
                    dial(("127.0.0.1", port)).close()
                    break
                except ConnectionRefusedError:
                    assert process.poll() is None, "it has ended at once"
                    time.sleep(0.01)
            yield "127.0.0.1", port
        finally:
            process.terminate()
            process.wait(20)


@contextmanager
def proxy_to(target: Address) -> Iterator[Address]:
    with running("tcp_proxy.py", "127.0.0.1:0", text(target)) as (_, address):
        yield address


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[Address]:
    port = free_port()
    config = tmp_path / "nginx.conf"
    config.write_text(NGINX.format(folder=tmp_path, port=port))
    for name, content in PAGES.items():
        path = tmp_path / "site" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (tmp_path / "site" / "large").write_bytes(bytes(range(256)) * 4096)
    with daemon(["nginx", "-p", str(tmp_path), "-c", str(config), "-e", str(tmp_path / "error.log")], port) as address:
        yield address


@needs("nginx")
def test_the_proxy_in_front_of_nginx(poller: str, nginx: Address) -> None:
    """A large file comes whole, several requests go over one connection, and the crawler crawls through the proxy."""
    request = "GET {} HTTP/1.1\r\nHost: test\r\nConnection: {}\r\n\r\n"
    with proxy_to(nginx) as proxy:
        with dial(proxy) as sock:
            sock.sendall(request.format("/a.html", "keep-alive").encode())
            sock.sendall(request.format("/large", "close").encode())
            answer = receive_all(sock)
        assert answer.count(b"HTTP/1.1 200 OK") == 2
        assert answer.endswith(b"\r\n\r\n" + bytes(range(256)) * 4096)
        done = run("crawler.py", f"http://{text(proxy)}/")

    assert "gone.html: status 404" in done.stdout
    assert "7 pages, 1 broken" in done.stdout


@needs("redis-server")
@needs("redis-benchmark")
def test_the_proxy_in_front_of_redis(poller: str, tmp_path: Path) -> None:
    """The benchmark of Redis, with fifty connections, gets all its replies through the proxy."""
    port = free_port()
    arguments = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    with daemon(arguments, port) as redis, proxy_to(redis) as proxy:
        done = subprocess.run(
            ["redis-benchmark", "-p", str(proxy[1]), *"-c 50 -n 2000 -t set,get -q".split()],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        with dial(proxy) as sock:
            assert ask(sock, b"EXISTS key:__rand_int__\r\n", 4) == b":1\r\n"


# -- the tutorial ----------------------------------------------------------------------------------------------------


@contextmanager
def program(name: str, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a program of the tutorial that goes on until SIGTERM; gives the first line that it prints."""
    with subprocess.Popen(
        [sys.executable, "-u", "-W", "error", str(TUTORIAL / name), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            yield process, (process.stderr if name == "backdoor.py" else process.stdout).readline()
        finally:
            process.terminate()
            try:
                _, err = process.communicate(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
    if os.name == "posix":
        assert process.returncode == 0
        assert err.endswith("Exiting...\n")
    assert "Traceback" not in err


def port_of(line: str) -> str:
    return line.rpartition(" ")[2].strip()


def test_the_clients_of_the_tutorial_and_its_server(poller: str) -> None:
    """A hundred clients for ten places; the last one ends the program with status 0."""
    with program("echo.py", "0") as (_, line):
        done = run("tutorial/clients.py", port_of(line))

    assert done.stdout == "all clients have ended\n"
    assert done.returncode == 0, done.stderr


def test_the_clients_of_the_tutorial_through_its_proxy(poller: str) -> None:
    """Two coroutines for each connection, and the sockets closed by whoever ends first."""
    with program("echo.py", "0") as (_, server), program("proxy.py", "0", port_of(server)) as (process, proxy):
        done = run("tutorial/clients.py", port_of(proxy))
        assert process.stdout is not None
        counts = [process.stdout.readline() for _ in range(200)]

    assert done.stdout == "all clients have ended\n"
    assert counts == ["50000 bytes\n"] * 200


def test_the_worms_of_the_tutorial(poller: str) -> None:
    """Each worm is drawn at each of its steps, and the last one stops the writer."""
    done = run("tutorial/worms.py", "20")

    assert done.returncode == 0, done.stderr
    assert "21 coroutines" in done.stdout
    assert done.stdout.endswith("1600 drawings, 1 coroutine left\n")


@posix
def test_the_back_door_of_the_tutorial(poller: str, tmp_path: Path) -> None:
    """The program goes on while somebody looks into it."""
    path = str(tmp_path / "door")
    with program("backdoor.py", path) as (_, line), socket.socket(socket.AF_UNIX) as sock:
        assert "listening on" in line
        sock.settimeout(20)
        sock.connect(path)
        with sock.makefile("rw") as prompt:
            prompt.write("ticks > 0, 6 * 7\n")
            prompt.flush()
            heard = ""
            while "(True, 42)" not in heard:
                heard += prompt.read(1)


def test_every_program_of_the_tutorial_is_in_the_readme() -> None:
    """And has a test here."""
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    here = Path(__file__).read_text(encoding="utf-8")
    for path in TUTORIAL.glob("*.py"):
        assert f"(tutorial/{path.name})" in readme
        assert f'{path.name}"' in here
