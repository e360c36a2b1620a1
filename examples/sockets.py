"""Blocking calls on plain sockets, for the programs in this directory.  Stands on `coro.wait_for_read` and its twin.

Each call lets other coroutines run until it can be done.  All but `listen` need a running event loop.
"""

from __future__ import annotations

import argparse
import errno
import os
import socket
from contextlib import ExitStack, suppress

import coro

Address = tuple[str, int]
SCARCE = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)  # errors of accept that pass


def address(text: str) -> Address:
    """Read HOST:PORT from a command line; without a host it is all of this machine's addresses."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT with a port up to 65535")
    return host.strip("[]"), int(port)


def positive(text: str) -> int:
    """Read a whole number of at least 1 from a command line."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is less than 1")
    return value


def listen(where: Address) -> socket.socket:
    """Return a listening socket.  Ends the program if there is none to be had: the port is in use, for example."""
    family = socket.AF_INET6 if ":" in where[0] else socket.AF_INET
    try:
        listener = socket.create_server(where, family=family, backlog=1024)
    except OSError as error:
        raise SystemExit(f"cannot listen on {where[0]}:{where[1]}: {error}") from None
    listener.setblocking(False)
    return listener


def accept(listener: socket.socket) -> socket.socket:
    """Return the next connection to *listener*, even if that takes until there are resources for it."""
    while True:
        coro.wait_for_read(listener)
        try:
            sock, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            continue  # the client has changed its mind
        except OSError as error:
            if error.errno not in SCARCE:
                raise
            print(f"cannot accept: {error}", flush=True)
            coro.sleep_relative(0.5)  # the connections that are open go on, and end
        else:
            sock.setblocking(False)
            return sock


def connect(where: Address) -> socket.socket:
    """Return a connection.  Give a number rather than a name: to look up a name blocks all coroutines."""
    with ExitStack() as stack:
        sock = stack.enter_context(socket.socket(socket.AF_INET6 if ":" in where[0] else socket.AF_INET))
        sock.setblocking(False)
        error = sock.connect_ex(where)
        if error in (errno.EINPROGRESS, errno.EWOULDBLOCK):
            coro.wait_for_write(sock)
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, os.strerror(error))
        stack.pop_all()  # nothing has failed: it stays open
    return sock


def recv_some(sock: socket.socket, size: int = 65536) -> bytes:
    """Return what has arrived, at most *size* bytes; nothing at the end of the stream."""
    while True:
        coro.wait_for_read(sock)
        with suppress(BlockingIOError):
            return sock.recv(size)


def recv_exact(sock: socket.socket, size: int) -> bytes:
    """Return the next *size* bytes; ConnectionError if the stream ends before."""
    data = bytearray()
    while len(data) < size:
        some = recv_some(sock, size - len(data))
        if not some:
            raise ConnectionError(f"the stream ended after {len(data)} of {size} bytes")
        data += some
    return bytes(data)


def send_all(sock: socket.socket, data: bytes) -> None:
    """Send all of *data*."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[sock.send(rest) :]
        except BlockingIOError:
            coro.wait_for_write(sock)
