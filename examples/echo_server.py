"""An echo server: one coroutine for each connection.

    python echo_server.py 127.0.0.1:7007
    python client_swarm.py 127.0.0.1:7007

^C ends it.
"""

from __future__ import annotations

import argparse

from program import Address, address, serve

import coro
from coro.servers import StreamServer


def session(conn: coro.sock, client: Address) -> None:
    """Send back what comes until the client has nothing more to say."""
    total = 0
    try:
        while data := conn.recv(65536):
            conn.send(data)
            total += len(data)
        print(f"{client[0]}:{client[1]}: {total:,} bytes", flush=True)
    except OSError as error:
        print(f"{client[0]}:{client[1]}: {error}", flush=True)


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
    serve(StreamServer(parser.parse_args().listen, session))


if __name__ == "__main__":
    main()
