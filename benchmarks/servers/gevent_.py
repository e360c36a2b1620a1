"""Echo servers with gevent."""

from __future__ import annotations

from typing import Any

from gevent import socket, ssl
from gevent.server import StreamServer

from . import BACKLOG, CHUNK, announce, tls_context


def echo(conn: Any, address: object) -> None:  # the server closes the connection afterwards
    while data := conn.recv(CHUNK):
        conn.sendall(data)


def tcp(**options: Any) -> None:
    server = StreamServer(("127.0.0.1", 0), echo, backlog=BACKLOG, **options)
    server.start()
    announce(server.address)
    server.serve_forever()


def tls() -> None:
    tcp(ssl_context=tls_context(ssl))


def udp() -> None:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    announce(sock.getsockname())
    while True:
        data, address = sock.recvfrom(CHUNK)
        sock.sendto(data, address)
