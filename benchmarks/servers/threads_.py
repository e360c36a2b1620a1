"""Echo servers with a thread for each connection."""

from __future__ import annotations

import socket
import threading

from . import BACKLOG, CHUNK, announce, tls_context


def echo(conn: socket.socket) -> None:
    with conn:
        while data := conn.recv(CHUNK):
            conn.sendall(data)


def tcp() -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    announce(listener.getsockname())
    while True:
        conn, _ = listener.accept()
        threading.Thread(target=echo, args=(conn,), daemon=True).start()


def tls() -> None:
    context = tls_context()

    def secured(conn: socket.socket) -> None:
        echo(context.wrap_socket(conn, server_side=True))

    listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    announce(listener.getsockname())
    while True:
        conn, _ = listener.accept()
        threading.Thread(target=secured, args=(conn,), daemon=True).start()


def udp() -> None:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    announce(sock.getsockname())
    while True:
        data, address = sock.recvfrom(CHUNK)
        sock.sendto(data, address)
