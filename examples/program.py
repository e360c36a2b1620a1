"""What the servers in this directory share: arguments such as HOST:PORT, and the life of a server from start to ^C."""

from __future__ import annotations

import argparse
import signal
import sys

import coro
from coro.servers import StreamServer

Address = tuple[str, int]


def address(text: str) -> Address:
    """Read HOST:PORT from a command line; without a host it is all of this machine's addresses."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT with a port up to 65535")
    return host.strip("[]"), int(port)


def positive(text: str) -> int:
    """Read a whole number of at least 1 from a command line."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is less than 1")
    return value


def serve(server: StreamServer) -> None:
    """Serve until ^C or SIGTERM; then the handlers have a few seconds to end.  A second ^C does not wait for them."""
    host, port = server.address[:2]
    try:
        server.start()
    except OSError as error:
        sys.exit(f"cannot listen on {host}:{port}: {error}")
    for signum in (signal.SIGINT, signal.SIGTERM):
        coro.register_signal_handler(signum, lambda signum: server.stop(), once_only=True)
    coro.spawn(print, "listening on {}:{}".format(*server.address), flush=True)  # once the loop takes the signals
    try:
        coro.run(server.serve_forever)
    except KeyboardInterrupt:
        sys.exit(130)  # what a shell calls the status of a program that ^C has ended
