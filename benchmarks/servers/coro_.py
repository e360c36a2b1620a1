"""Echo servers with coro."""

from __future__ import annotations

import coro

from . import BACKLOG, CHUNK, announce, tls_context


def echo(conn: coro.sock) -> None:
    with conn:
        while data := conn.recv(CHUNK):
            conn.sendall(data)


def tcp() -> None:
    def main() -> None:
        listener = coro.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        announce(listener.getsockname())
        while True:
            conn, _ = listener.accept()
            coro.spawn(echo, conn)

    coro.run(main)


def udp() -> None:
    def main() -> None:
        sock = coro.udp_sock()
        sock.bind(("127.0.0.1", 0))
        announce(sock.getsockname())
        while True:
            data, address = sock.recvfrom(CHUNK)
            sock.sendto(data, address)

    coro.run(main)


def tls() -> None:
    from coro.tls import wrap_tls

    context = tls_context()

    def secured(conn: coro.sock) -> None:
        with wrap_tls(conn, context, server_side=True) as secure:
            while data := secure.recv(CHUNK):
                secure.sendall(data)

    def main() -> None:
        listener = coro.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        announce(listener.getsockname())
        while True:
            conn, _ = listener.accept()
            coro.spawn(secured, conn)

    coro.run(main)
