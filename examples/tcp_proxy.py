"""A TCP proxy: what comes in at one address goes out to another, and the answers come back.

    python tcp_proxy.py 127.0.0.1:8080 127.0.0.1:7007

Two coroutines for each connection, one for each direction.  When one side has finished sending, the other side is told
so and may go on; when one side fails, or ^C ends the proxy, the other side's connection is reset: what was cut off must
not look complete.
"""

from __future__ import annotations

import argparse
import struct
import sys

from program import Address, address, positive, serve

import coro
from coro.servers import StreamServer

LINGER = struct.Struct("hh" if sys.platform == "win32" else "ii")  # struct linger: on or off, seconds
RESET = LINGER.pack(1, 0)  # close() sends a RST
REGULAR = LINGER.pack(0, 0)


def pump(source: coro.sock, sink: coro.sock) -> None:
    """Copy one direction to its end."""
    while data := source.recv(65536):
        sink.send(data)
    sink.shutdown(coro.SHUT.WR)  # a half-close: the other direction goes on


def session(client: coro.sock, target: Address) -> None:
    """Serve one connection: pump from the client to the target, and let a second coroutine pump back."""
    try:
        server = coro.create_connection(target, timeout=30)
    except OSError as error:
        print(f"cannot connect to {target[0]}:{target[1]}: {error}", flush=True)
        return
    with server:
        try:
            for conn in (client, server):
                conn.setsockopt(coro.SOL.SOCKET, coro.SO.LINGER, RESET)
            with coro.group() as directions:  # it ends when both have ended; if one fails, the other one is shut down
                directions.spawn(pump, server, client)
                pump(client, server)
            for conn in (client, server):
                conn.setsockopt(coro.SOL.SOCKET, coro.SO.LINGER, REGULAR)
        except* OSError:
            pass  # one side has failed; the other one learns it by the reset


def main() -> None:
    parser = argparse.ArgumentParser(description="Pass TCP connections on.")
    parser.add_argument("listen", metavar="LISTEN", type=address, help="HOST:PORT to listen on; port 0: any")
    parser.add_argument("target", metavar="TARGET", type=address, help="HOST:PORT to connect to")
    parser.add_argument("--limit", metavar="N", type=positive, default=1000, help="connections at once (default: 1000)")
    args = parser.parse_args()
    serve(StreamServer(args.listen, lambda client, _: session(client, args.target), limit=args.limit, name="proxy"))


if __name__ == "__main__":
    main()
