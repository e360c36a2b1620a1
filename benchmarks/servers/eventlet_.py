"""Echo servers with eventlet."""

from __future__ import annotations

from typing import Any

import eventlet
from eventlet.green import socket

from . import BACKLOG, CHUNK, announce, tls_context

MOST = 20_000  # connections at once: the default is 1,000


def echo(conn: Any, address: object) -> None:
    try:
        while data := conn.recv(CHUNK):
            conn.sendall(data)
    finally:
        conn.close()


def tcp() -> None:
    listener = eventlet.listen(("127.0.0.1", 0), backlog=BACKLOG)
    announce(listener.getsockname())
    eventlet.serve(listener, echo, concurrency=MOST)


def tls() -> None:
    from eventlet.green.ssl import GreenSSLSocket

    context = tls_context()
    listener = eventlet.listen(("127.0.0.1", 0), backlog=BACKLOG)
    announce(listener.getsockname())

    def secured(conn: Any, address: object) -> None:
        echo(GreenSSLSocket(conn, server_side=True, _context=context), address)

    eventlet.serve(listener, secured, concurrency=MOST)


def udp() -> None:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    announce(sock.getsockname())
    while True:
        data, address = sock.recvfrom(CHUNK)
        sock.sendto(data, address)
