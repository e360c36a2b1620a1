"""A TCP proxy: what comes in at one address goes out to another, and the answers come back.

    python tcp_proxy.py 127.0.0.1:8080 127.0.0.1:7007

Two coroutines for each connection, one for each direction.  When one side has finished sending, the other side is told
so and may go on; when one side fails, the connection to the other side is reset.  ^C ends it.
"""

from __future__ import annotations

import argparse
import socket
import struct
import sys
from contextlib import suppress

from sockets import accept, address, connect, listen, positive, recv_some, send_all

import coro

RESET = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)  # struct linger: on, for 0 seconds

sessions: set[coro.coro] = set()


def pump(source: socket.socket, sink: socket.socket, other_way: coro.coro) -> None:
    """Copy one direction to its end."""
    try:
        while data := recv_some(source):
            send_all(sink, data)
        sink.shutdown(socket.SHUT_WR)  # a half-close: the other direction goes on
    except OSError:
        for sock in (source, sink):  # whoever is still there must not take this end for a regular one
            with suppress(OSError):  # some systems refuse it for the side that has failed
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        other_way.shutdown()  # does nothing if it has ended


def session(client: socket.socket, target: tuple[str, int], acceptor: coro.coro) -> None:
    """Serve one connection: pump from the client to the target, and let a second coroutine pump back."""
    try:
        with client, connect(target) as server:
            back = coro.spawn(pump, server, client, coro.current())
            try:
                pump(client, server, back)
                back.join()
            finally:
                back.shutdown()
                back.join()  # before the sockets are closed that it uses
    except OSError as error:
        print(f"cannot connect to {target[0]}:{target[1]}: {error}", flush=True)
    finally:
        sessions.discard(coro.current())
        if not acceptor.dead and not acceptor.scheduled:
            acceptor.schedule()  # there is room; if it waits for something else, it goes on waiting


def serve(listener: socket.socket, target: tuple[str, int], limit: int) -> None:
    """Take connections for ever, but leave them in the queue of the system while there are too many."""
    with listener:
        while True:
            while len(sessions) >= limit:
                coro.suspend()
            client = accept(listener)
            sessions.add(coro.spawn(session, client, target, coro.current()))


def main() -> None:
    parser = argparse.ArgumentParser(description="Pass TCP connections on.")
    parser.add_argument("listen", metavar="LISTEN", type=address, help="HOST:PORT to listen on; port 0: any")
    parser.add_argument("target", metavar="TARGET", type=address, help="HOST:PORT to connect to, the host by number")
    parser.add_argument("--limit", metavar="N", type=positive, default=100, help="connections at once (default: 100)")
    args = parser.parse_args()
    listener = listen(args.listen)
    host, port = listener.getsockname()[:2]
    print(f"listening on {host}:{port}", flush=True)
    coro.spawn(serve, listener, args.target, args.limit)
    coro.event_loop()


if __name__ == "__main__":
    main()
