"""The server of `greenlet_` with what each library must add to it, one thing after the other: the floors of an echo.

Nothing of coro is used, and everything is as short as it can be.  Still left out are timeouts, other threads, a
descriptor that is closed while somebody waits for it, exceptions in the midst of a switch, and all that is no echo.
"""

from __future__ import annotations

import select
import socket
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from greenlet import getcurrent, greenlet

from . import BACKLOG, CHUNK, announce

EDGE = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
HANGUP = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
SELFISHNESS = 4

Report = Callable[[int], object]  # told what epoll says of a descriptor


class Loop:
    """Whoever parks calls the next that is ready, among them the poll."""

    __slots__ = ("current", "entry", "epoll", "ready", "reports")

    def __init__(self) -> None:
        self.entry = self.poll
        self.ready: deque[Callable[[], Any]] = deque([self.entry])
        self.reports: dict[int, Report] = {}
        self.epoll = select.epoll()
        self.current: Any = None

    def poll(self) -> Any:
        ready, reports = self.ready, self.reports
        for fd, mask in self.epoll.poll(0 if ready else None):
            reports[fd](mask)
        ready.append(self.entry)
        return ready.popleft()()

    def serve(self, connect: Callable[[Loop, socket.socket], Any], kind: Callable[..., Any] = greenlet) -> None:
        """Accept, in the greenlet of the main program; each connection has one of its own."""

        def echo(std: socket.socket) -> None:
            connection = connect(self, std)
            while data := connection.recv(CHUNK):
                connection.send(data)
            std.close()

        main = getcurrent().switch
        with socket.create_server(("127.0.0.1", 0), backlog=BACKLOG) as listener:
            listener.setblocking(False)
            announce(listener.getsockname())
            self.reports[listener.fileno()] = lambda mask: self.ready.append(main)
            self.epoll.register(listener.fileno(), EDGE)
            while True:
                self.ready.popleft()()
                while True:
                    try:
                        std, _ = listener.accept()
                    except BlockingIOError:
                        break
                    std.setblocking(False)
                    self.ready.append(main)
                    kind(echo).switch(std)


class WithMethods:
    """A socket object with two methods."""

    __slots__ = ("loop", "std")

    def __init__(self, loop: Loop, std: socket.socket) -> None:
        self.loop = loop
        self.std = std
        resume = getcurrent().switch
        loop.reports[std.fileno()] = lambda mask: loop.ready.append(resume)
        loop.epoll.register(std.fileno(), select.EPOLLIN | select.EPOLLET)  # it does not ask what was reported

    def recv(self, size: int) -> bytes:
        self.loop.ready.popleft()()
        return self.std.recv(size)

    def send(self, data: bytes) -> int:
        return self.std.send(data)


class Remembered:
    """What is known of a descriptor: what epoll has said, and who waits."""

    __slots__ = ("hung_up", "loop", "readable", "reader", "writable", "writer")

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.reader: Any = None
        self.writer: Any = None
        self.readable = self.hung_up = False
        self.writable = True

    def report(self, mask: int) -> None:
        self.readable = self.writable = True
        if mask & HANGUP:
            self.hung_up = True
        if self.reader is not None:
            self.loop.ready.append(self.reader)
        if self.writer is not None:
            self.loop.ready.append(self.writer)


class WithMemory:
    """It does not ask for what is not there, however the data come, and has one reader and one writer at a time."""

    __slots__ = ("entry", "loop", "std")

    def __init__(self, loop: Loop, std: socket.socket) -> None:
        self.loop = loop
        self.std = std
        self.entry = Remembered(loop)
        loop.reports[std.fileno()] = self.entry.report
        loop.epoll.register(std.fileno(), EDGE)

    def recv(self, size: int) -> bytes:
        entry = self.entry
        if entry.reader is not None:
            raise RuntimeError("another one reads")
        while True:
            if not entry.readable:
                entry.reader = getcurrent().switch
                try:
                    while not entry.readable:
                        self.loop.ready.popleft()()
                finally:
                    entry.reader = None
            try:
                data = self.std.recv(size)
            except BlockingIOError:
                entry.readable = False
            else:
                if len(data) < size and not entry.hung_up:
                    entry.readable = False
                return data

    def send(self, data: bytes) -> int:
        if self.entry.writer is not None:
            raise RuntimeError("another one writes")
        if self.entry.writable:
            sent = self.std.send(data)
            if sent == len(data):
                return sent
        raise NotImplementedError("the rest")


class Coroutine:
    """Who waits: how to resume it, whether it is on its way, what to raise in it, how often it may go on."""

    __slots__ = ("allowance", "dead", "pending", "resume", "scheduled", "selfishness")

    def __init__(self) -> None:
        self.resume = getcurrent().switch
        self.scheduled = self.dead = False
        self.pending: BaseException | None = None
        self.allowance = self.selfishness = SELFISHNESS


class Worker(greenlet):
    """A greenlet that knows its loop: each thread may have one."""

    __slots__ = ("loop",)

    loop: Loop


worker = cast("Callable[[], Worker]", getcurrent)


class Shared(Remembered):
    """Whoever waits may be on its way already."""

    __slots__ = ()

    def report(self, mask: int) -> None:
        self.readable = self.writable = True
        if mask & HANGUP:
            self.hung_up = True
        for co in (self.reader, self.writer):
            if co is not None and not (co.scheduled or co.dead):
                self.loop.ready.append(co.resume)
                co.scheduled = True


class ForCoroutines:
    """It works in any thread, can be interrupted, and lets others run when there is always something to read."""

    __slots__ = ("entry", "std")

    def __init__(self, loop: Loop, std: socket.socket) -> None:
        self.std = std
        self.entry = Shared(loop)
        worker().loop = loop
        loop.current = Coroutine()
        loop.reports[std.fileno()] = self.entry.report
        loop.epoll.register(std.fileno(), EDGE)

    def recv(self, size: int) -> bytes:
        loop = worker().loop
        co = loop.current
        entry = self.entry
        if entry.reader is not None:
            raise RuntimeError("another one reads")
        if entry.readable:
            if not co.allowance:
                co.allowance = co.selfishness
                loop.ready.append(co.resume)
                loop.ready.popleft()()
                loop.current = co
            co.allowance -= 1
        while True:
            if not entry.readable:
                entry.reader = co
                try:
                    while not entry.readable:
                        loop.ready.popleft()()
                        loop.current = co
                        co.scheduled = False
                        if co.pending is not None:
                            raise co.pending
                finally:
                    entry.reader = None
                co.allowance = co.selfishness
            try:
                data = self.std.recv(size)
            except BlockingIOError:
                entry.readable = False
            else:
                if len(data) < size and not entry.hung_up:
                    entry.readable = False
                return data

    def send(self, data: bytes) -> int:
        co = worker().loop.current
        entry = self.entry
        if entry.writer is not None:
            raise RuntimeError("another one writes")
        if entry.writable and co.allowance:
            co.allowance -= 1
            sent = self.std.send(data)
            if sent == len(data):
                return sent
        raise NotImplementedError("the rest")


def methods() -> None:
    Loop().serve(WithMethods)


def memory() -> None:
    Loop().serve(WithMemory)


def coroutines() -> None:
    Loop().serve(ForCoroutines, Worker)
