"""The floor of Python: an echo server on greenlet and epoll that can do nothing else.

Coroutines switch to each other as they do in coro, each descriptor is registered once, and nothing is read before epoll
has said that there is something.  There are no timeouts, no exceptions from outside, no other threads, no checks and no
fairness.  What coro takes beyond this is the price of being a library.
"""

from __future__ import annotations

import select
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

from greenlet import getcurrent, greenlet

from . import BACKLOG, CHUNK, announce

EDGE = select.EPOLLIN | select.EPOLLET


def tcp() -> None:
    """Accept, in the greenlet of the main program; each connection has one of its own."""
    ready: deque[Callable[[], Any]] = deque()
    readers: dict[int, Callable[[], Any]] = {}
    epoll = select.epoll()

    def poll() -> Any:
        """Switch to the first that is ready, or that epoll says is."""
        for fd, _ in epoll.poll(0 if ready else None):
            ready.append(readers[fd])
        ready.append(poll)
        return ready.popleft()()

    def echo(conn: socket.socket) -> None:
        recv, send = conn.recv, conn.send
        readers[conn.fileno()] = getcurrent().switch
        epoll.register(conn.fileno(), EDGE)
        while True:
            ready.popleft()()
            data = recv(CHUNK)
            if not data:
                conn.close()
                return  # to the main program, which then finds nothing to accept
            send(data)

    main = getcurrent().switch
    ready.append(poll)
    with socket.create_server(("127.0.0.1", 0), backlog=BACKLOG) as listener:
        listener.setblocking(False)
        announce(listener.getsockname())
        readers[listener.fileno()] = main
        epoll.register(listener.fileno(), EDGE)
        while True:
            ready.popleft()()
            while True:
                try:
                    conn, _ = listener.accept()
                except BlockingIOError:
                    break
                conn.setblocking(False)
                ready.append(main)
                greenlet(echo).switch(conn)
