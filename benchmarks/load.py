"""The load generator for TLS, and for systems without a C compiler or epoll.  Speaks the same language as load.c:

    load.py tcp|udp|accept|tls PORT CONNECTIONS SIZE SECONDS REQUESTS IDLE PID

It is slower than the servers that it asks, so what counts of its figures is the CPU time of the server.
"""

from __future__ import annotations

import json
import random
import selectors
import socket
import ssl
import sys
import time
from collections.abc import Iterator
from contextlib import suppress

AT_ONCE = 200  # connections being opened
AGAIN = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


def cpu_time(pid: int) -> float | None:
    """The seconds of CPU time that another process has used.  None where the system does not tell by this clock."""
    if not sys.platform.startswith("linux"):
        return None
    return time.clock_gettime((~pid << 3) | 2)  # what clock_getcpuclockid() of the C library makes of it


class Connection:
    """One connection, with at most one request in flight."""

    def __init__(self, load: Load, idle: bool) -> None:
        self.load = load
        self.idle = idle
        self.answers = 0
        self.open()

    def open(self) -> None:
        self.since = time.perf_counter()
        self.connected = False
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if self.load.kind == "udp" else socket.SOCK_STREAM)
        self.sock.setblocking(False)
        with suppress(BlockingIOError):
            self.sock.connect(("127.0.0.1", self.load.port))
        if self.load.context:
            self.sock = self.load.context.wrap_socket(self.sock, do_handshake_on_connect=False)
        self.steps = self.talk()
        self.load.selector.register(self.sock, selectors.EVENT_WRITE, self)

    def proceed(self) -> None:
        """The socket can be read, or is connected."""
        if not self.connected:
            self.connected = True
            error = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                raise OSError(error, "cannot connect")
            self.load.selector.modify(self.sock, selectors.EVENT_READ, self)
        next(self.steps)

    def begin(self) -> None:
        """All others are open: ask again and again from now on."""
        if self.load.kind == "accept":
            self.open()
        elif not self.idle:
            next(self.steps)

    def talk(self) -> Iterator[None]:
        """The conversation; gives way whenever it has to wait."""
        size = self.load.size
        while self.load.context:
            try:
                self.sock.do_handshake()  # type: ignore[attr-defined]
                break
            except AGAIN:
                yield
        while True:
            self.load.in_flight += 1
            if self.load.kind != "accept":
                self.since = time.perf_counter()
            request = self.load.dice.randbytes(size)
            rest = memoryview(request)
            while rest:
                try:
                    rest = rest[self.sock.send(rest) :]
                except AGAIN:  # rare: the whole answer to the last request has been read
                    self.load.selector.modify(self.sock, selectors.EVENT_READ | selectors.EVENT_WRITE, self)
                    yield
                    self.load.selector.modify(self.sock, selectors.EVENT_READ, self)
            answer = b""
            while len(answer) < size:
                try:
                    data = self.sock.recv(size - len(answer) + 1)
                except AGAIN:
                    yield
                    continue
                answer += data
                if not data:
                    raise ConnectionError("the server has closed a connection")
            if answer != request:
                raise ValueError("the server has given a wrong answer")
            if self.load.kind == "accept":
                self.sock.shutdown(socket.SHUT_WR)
                yield
                if self.sock.recv(1):
                    raise ValueError("the server has given a wrong answer")
                self.load.selector.unregister(self.sock)
                self.sock.close()
                self.answered()
                if self.load.started:
                    self.open()
                yield
            self.answered()
            while self.idle or not self.load.started:
                yield

    def answered(self) -> None:
        self.answers += 1
        self.load.answers += 1
        self.load.in_flight -= 1
        self.load.answered_once += self.answers == 1
        if self.load.latency is not None:
            self.load.latency.append(time.perf_counter() - self.since)


class Load:
    """All connections."""

    def __init__(self, kind: str, port: int, connections: int, size: int, idle: int) -> None:
        self.kind, self.port, self.size = kind, port, size
        self.total, self.idle = connections + idle, idle
        self.dice = random.Random(1)
        self.selector = selectors.DefaultSelector()
        self.opened: list[Connection] = []
        self.answers = self.answered_once = self.in_flight = 0
        self.started = False
        self.latency: list[float] | None = None
        self.context: ssl.SSLContext | None = None
        if kind == "tls":
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self.context.check_hostname = False
            self.context.verify_mode = ssl.CERT_NONE

    def turn(self) -> None:
        """One round: open what may be opened, then handle what has happened."""
        while len(self.opened) < self.total and len(self.opened) - self.answered_once < AT_ONCE:
            self.opened.append(Connection(self, idle=len(self.opened) < self.idle))
        events = self.selector.select(20)
        if not events:
            raise TimeoutError("the server has not answered for 20 seconds")
        for key, _ in events:
            key.data.proceed()


def main(arguments: list[str]) -> None:
    kind, *rest, pid = arguments
    port, connections, size, seconds, requests, idle = (float(word) for word in rest)
    load = Load(kind, int(port), int(connections), int(size), int(idle))
    while load.answered_once < load.total:  # a server that is kept busy accepts few, so each asks once only
        load.turn()
    load.started = True
    for connection in load.opened:
        connection.begin()
    begin = time.perf_counter()
    while not requests and time.perf_counter() - begin < seconds / 5:  # to warm up
        load.turn()
    load.latency = []
    before, own, theirs, begin = load.answers, time.process_time(), cpu_time(int(pid)), time.perf_counter()
    while load.answers - before < requests if requests else time.perf_counter() - begin < seconds:
        load.turn()
    spent, own, after = time.perf_counter() - begin, time.process_time() - own, cpu_time(int(pid))
    sample = sorted(load.latency)
    load.started = False
    while load.in_flight:  # the server shall see connections that end, not ones that break
        load.turn()
    result = {
        "requests": load.answers - before,
        "seconds": spent,
        "load": own,
        "server": None if after is None or theirs is None else after - theirs,
        "latency": [sample[int(part * (len(sample) - 1))] for part in (0.5, 0.9, 0.99, 0.999)] if sample else [],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1:])
