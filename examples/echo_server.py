"""An echo server: one coroutine takes the connections, one more serves each of them.

    python echo_server.py 127.0.0.1:7007
    python client_swarm.py 127.0.0.1:7007

^C ends it.
"""

from __future__ import annotations

import argparse
import socket

from sockets import accept, address, listen, recv_some, send_all

import coro


def session(sock: socket.socket, number: int) -> None:
    """Send back what comes until the client has nothing more to say."""
    with sock:  # closed on every way out, the shutdown at the end of the loop included
        try:
            total = 0
            while data := recv_some(sock):
                send_all(sock, data)
                total += len(data)
            print(f"connection {number}: {total:,} bytes", flush=True)
        except OSError as error:
            print(f"connection {number}: {error}", flush=True)


def serve(listener: socket.socket) -> None:
    """Take connections for ever."""
    number = 0
    with listener:
        while True:
            sock = accept(listener)
            number += 1
            coro.spawn(session, sock, number)


def main() -> None:
    parser = argparse.ArgumentParser(description="Send back whatever comes, on any number of connections.")
    parser.add_argument(
        "listen",
        metavar="HOST:PORT",
        type=address,
        nargs="?",
        default=("127.0.0.1", 7007),
        help="where to listen (default: 127.0.0.1:7007; with port 0 the system chooses)",
    )
    args = parser.parse_args()
    listener = listen(args.listen)
    host, port = listener.getsockname()[:2]
    print(f"listening on {host}:{port}", flush=True)
    coro.spawn(serve, listener)
    coro.event_loop()


if __name__ == "__main__":
    main()
