"""Servers: `StreamServer` accepts connections and gives each of them a coroutine.

Stands on `coro.sockets`, and on `coro.sync` for the count of what runs.  A connection belongs to its coroutine: when
that has ended, in whatever way, the connection is closed.  `at_end` does that, since a coroutine that is cancelled
before it began has no ``finally``.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Callable
from contextlib import suppress
from math import inf
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from .connect import create_server
from .coroutine import at_end, check_name, coro
from .exceptions import TimeoutError
from .kernel import monotonic
from .names import check_port, getaddrinfo, host_of, is_literal
from .report import print_stderr
from .sockets import AF, SO, SOCK, SOL, Address, sock, wrapped
from .sync import check_count, inverted_semaphore, semaphore
from .timeouts import check_seconds, with_timeout
from .verbs import check_body, current, sleep_relative, spawn

if TYPE_CHECKING:
    from ssl import SSLContext

__all__ = ["StreamServer"]

GRACE: Final = 5.0  # seconds
HANDSHAKE: Final = 30.0  # seconds
FIRST_PAUSE: Final = 0.01  # seconds, doubled with each failure in a row up to
LONGEST_PAUSE: Final = 1.0
QUIET: Final = 60.0  # seconds without trouble after which the next trouble is told again

LOST: Final = {errno.EBADF, errno.EINVAL, errno.ENOTSOCK}  # the listener itself is of no use any more
OF_ONE_CONNECTION: Final = {  # accept(2) hands on what has happened to a connection before it was taken
    getattr(errno, name)
    for name in (
        "ECONNABORTED ECONNRESET EPROTO EPERM ENETDOWN ENETUNREACH EHOSTDOWN EHOSTUNREACH ENONET ENOPROTOOPT "
        "EOPNOTSUPP ETIMEDOUT"
    ).split()
    if hasattr(errno, name)
}


class StreamServer:
    """Accepts connections and calls ``handler(conn, address)`` for each, in a coroutine of its own.

    ``with StreamServer(("127.0.0.1", 0), handler) as server:`` serves for the length of the block; at its end comes
    `stop`, with a grace time of 0 if something was raised.

    Args:
        address: where to listen: a host and a port, 0 for any port that is free; or a str or bytes, the path of a Unix
            socket.  The host is a number of IPv4 or IPv6, a name, or "" for all IPv4 addresses of the machine.  Or a
            stream socket that listens already, of coro or of the standard library: it belongs to the server from then.
        handler: what serves a connection.  *conn* is a `coro.sock`, with TLS what `wrap_tls` makes of it; *address* is
            that of the other end, as `accept` gives it.  When the handler has returned or failed, *conn* is closed.  A
            failure goes to the exception notifier, with a note that names the other end, and disturbs nobody else.
        limit: how many connections may be served at the same time, None for any number.  Those beyond it wait in the
            backlog of the system.
        backlog: how many connections the system lets wait; without meaning for a socket that listens already.
        name: the name of the coroutines that serve; None for that of the handler.
        tls: an `ssl.SSLContext` for servers, to speak TLS.  The handshake is made in the coroutine of the connection,
            so one that takes long holds up nobody; a failed one counts as a failure of the handler.
        handshake_timeout: seconds that a handshake may take.

    Attributes:
        address: where the server listens; the port is the real one after `start`.
        accepted: how many connections there have been.
        limit, name: as above.

    A path that is left over from a server that is gone is taken over; one on which somebody listens is not.  The file
    is removed at the end, unless another server has replaced it.

    TypeError or ValueError for a wrong argument, OverflowError for a port beyond 65535, before anything is made.
    """

    def __init__(
        self,
        address: Address | sock | socket.socket,
        handler: Callable[[Any, Address], object],
        *,
        limit: int | None = None,
        backlog: int = socket.SOMAXCONN,
        name: str | None = None,
        tls: SSLContext | None = None,
        handshake_timeout: float = HANDSHAKE,
    ) -> None:
        check_body(handler)
        check_name(name)
        if limit is not None:
            check_count(limit, "the limit of connections", 1)
        check_count(backlog, "a backlog", 1)
        check_seconds(handshake_timeout)
        if tls is not None:
            check_context(tls)
        self._listener: sock | None = None
        if isinstance(address, (sock, socket.socket)):
            check_listening(address)
            self._listener = address if isinstance(address, sock) else wrapped(address)
            address = self._listener.getsockname()
        else:
            check_address(address)
        self.address = address
        self.limit = limit
        self.name = name or getattr(handler, "__qualname__", None) or repr(handler)
        self.accepted = 0
        self._handler = handler
        self._backlog = backlog
        self._tls = tls
        self._handshake_timeout = handshake_timeout
        self._free = None if limit is None else semaphore(limit)
        self._connections: dict[coro, tuple[sock, Address]] = {}
        self._alive = inverted_semaphore()
        self._acceptor: coro | None = None
        self._file: tuple[str | bytes, tuple[int, int]] | None = None  # of a Unix socket: its path, device and inode
        self._stopping = False
        self._cut_off = False
        self._pausing = False  # for want of descriptors or memory
        self._troubled = -inf  # when that was last

    @property
    def connections(self) -> dict[coro, Address]:
        """The connections that are open: their coroutines, each with the address of the other end.  A copy."""
        return {co: address for co, (_, address) in self._connections.items()}

    @property
    def stopping(self) -> bool:
        """Whether `stop` has been called: a handler may look at it between two requests, and end."""
        return self._stopping

    # -- the life of a server ----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Listen, and begin to accept as soon as the loop runs.  May be called before the loop.

        Raises OSError if the address cannot be had, `socket.gaierror` for an unknown name, RuntimeError if the server
        was started or stopped before.
        """
        if self._acceptor is not None or self._stopping:
            raise RuntimeError(f"{self!r} was {'stopped' if self._stopping else 'started'} already: make another one")
        if self._listener is None:
            self._listener = self._listen()
        self.address = self._listener.getsockname()
        self._acceptor = spawn(self._accept, self._listener, thread_name=f"{self.name} (accept)")
        at_end(self._acceptor, self, type(self)._closed)

    def serve_forever(self) -> None:
        """Start, unless that is done, and wait until somebody has called `stop` and the last handler has ended.

        When this call is interrupted, by a timeout for example, the handlers are shut down and have ended before the
        interruption goes on.  Raises what `start` does, and the error of a listening socket that is of no use any more.
        """
        if self._acceptor is None:
            self.start()
        assert self._acceptor is not None
        self._acceptor._collected += 1
        try:
            self._acceptor.join()
            self._alive.block_till_zero()
        except BaseException:
            self.stop(0)
            raise
        finally:
            self._acceptor._collected -= 1
        if self._acceptor._error is not None and not self._stopping:
            self._acceptor.result()

    def stop(self, grace: float = GRACE) -> None:
        """Stop to accept, let the handlers end within *grace* seconds, shut down the rest, and wait for their end.

        Connections that nobody has accepted yet are refused.  May be called more than once, and by several coroutines
        at the same time: the shortest grace time counts.  A handler that calls it, and whoever is interrupted
        meanwhile, does not wait; the handlers are shut down all the same when the time has come.  TypeError or
        ValueError for what is no number of seconds.
        """
        check_seconds(grace)
        if self._acceptor is None:
            self._stopping = True
            if self._listener is not None:
                self._listener.close()
            return
        self._acceptor.shutdown()  # refused in another thread
        self._stopping = True
        for co in list(self._connections):
            if co.dead:  # this is a forked child: it runs in the parent
                self._ended(co)
        if self._connections:
            ending = spawn(self._end, grace, thread_name=f"{self.name} (stop)")
            if current() not in self._connections:
                ending.join()
        self._acceptor.join()
        assert self._listener is not None
        self._listener.close()  # in a forked child nobody else does

    def _end(self, grace: float) -> None:
        try:
            with_timeout(grace, self._alive.block_till_zero)
        except TimeoutError:
            self._cut()
            self._alive.block_till_zero()

    def _cut(self) -> None:
        """Shut down the handlers: once, since a second Shutdown would meet them in their finally blocks."""
        if not self._cut_off:
            self._cut_off = True
            for co in list(self._connections):
                co.shutdown()

    def __enter__(self) -> StreamServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop(GRACE if exc is None else 0)

    def __repr__(self) -> str:
        state = "stopping" if self._stopping else "serving" if self._acceptor else "not started"
        return f"<StreamServer {self.name!r} at {self.address!r} {state}, {len(self._connections)} connections>"

    # -- listening ---------------------------------------------------------------------------------------------------

    def _listen(self) -> sock:
        address = self.address
        if isinstance(address, (str, bytes)):
            return self._listen_at_path(address)
        host, port = host_of(address), address[1]
        family = AF.INET6 if is_literal(AF.INET6, host) else AF.INET
        if host and not is_literal(family, host):
            family, _, _, _, address = getaddrinfo(host, port, AF.UNSPEC, SOCK.STREAM)[0]
        return create_server(address, family=family, backlog=self._backlog)

    def _listen_at_path(self, path: str | bytes) -> sock:
        new = sock(AF.UNIX, SOCK.STREAM)
        try:
            try:
                new.bind(path)
            except OSError as exc:
                if exc.errno != errno.EADDRINUSE or not is_abandoned(path):
                    exc.filename = path
                    raise
                os.unlink(path)
                new.bind(path)
            if path[:1] not in ("\0", b"\0"):
                path = os.path.abspath(path)
                self._file = path, identity(path)
            new.listen(self._backlog)
        except BaseException:
            new.close()
            raise
        return new

    def _closed(self, acceptor: coro) -> None:
        """The acceptor has ended."""
        assert self._listener is not None
        self._listener.close()
        if self._file is not None:
            path, ours = self._file
            with suppress(OSError):  # gone, or not ours to remove
                if identity(path) == ours:
                    os.unlink(path)

    # -- accepting ---------------------------------------------------------------------------------------------------

    def _accept(self, listener: sock) -> None:
        """Give each connection a coroutine: the body of the acceptor."""
        while True:
            if self._free is not None:
                self._free.acquire()
            conn, address = self._next(listener)
            co = spawn(self._serve, conn, address, thread_name=self.name)
            self._connections[co] = conn, address
            self._alive.acquire()
            self.accepted += 1
            at_end(co, self, type(self)._ended)

    def _next(self, listener: sock) -> tuple[sock, Address]:
        """Return the next connection, even if it takes a while until there are resources for it."""
        pause = FIRST_PAUSE
        while True:
            try:
                return listener.accept()
            except OSError as exc:
                if exc.errno in LOST:
                    raise
                if exc.errno in OF_ONE_CONNECTION:
                    continue
                now = monotonic()
                if now - self._troubled > QUIET:
                    print_stderr(f"{self!r} cannot accept: {exc}.  It tries again until it can.")
                self._troubled = now
            self._pausing = True
            try:
                sleep_relative(pause)  # or until one of our own connections is closed
            finally:
                self._pausing = False
            pause = min(2 * pause, LONGEST_PAUSE)

    def _serve(self, conn: sock, address: Address) -> None:
        """Call the handler, with TLS after the handshake: the body of a coroutine that serves a connection."""
        try:
            if self._tls is None:
                self._handler(conn, address)
                return
            from .tls import wrap_tls

            with wrap_tls(conn, self._tls, server_side=True, timeout=self._handshake_timeout) as secure:
                self._handler(secure, address)
        except Exception as exc:
            exc.add_note(f"connection from {address!r} to {self.name!r} at {self.address!r}")
            raise

    def _ended(self, co: coro) -> None:
        """A handler has ended, or was cancelled before it began."""
        conn, _ = self._connections.pop(co)
        with suppress(OSError):
            conn.close()
        self._alive.release()
        if self._free is not None:
            self._free.release()
        if self._pausing and self._acceptor is not None:
            co._kernel.wake(self._acceptor)


# -- arguments -------------------------------------------------------------------------------------------------------


def check_address(address: Any) -> None:
    """Refuse what is no address to listen on."""
    if isinstance(address, (str, bytes)):
        if not hasattr(socket, "AF_UNIX"):
            raise ValueError(f"this platform has no Unix sockets to listen on {address!r}: give a host and a port")
        if not address:
            raise ValueError("the path of a Unix socket cannot be empty")
        text = os.fsdecode(address)
        if "/" not in text and text.rpartition(":")[2].isdigit():
            raise ValueError(f"{address!r} would be the path of a Unix socket: give a host and a port as a tuple")
        return
    if not isinstance(address, tuple):
        raise TypeError(
            f"a server listens on a host and a port, on a path, or with a socket that listens already: not {address!r}"
        )
    host_of(address)
    check_count(address[1], "a port")
    check_port(address[1])


def check_listening(listener: sock | socket.socket) -> None:
    """Refuse a socket that does not listen."""
    if not listener.getsockopt(SOL.SOCKET, SO.ACCEPTCONN):
        raise ValueError(f"{listener!r} does not listen: bind it and call its listen() first")


def check_context(context: Any) -> None:
    """Refuse what TLS cannot be served with."""
    import ssl

    if not isinstance(context, ssl.SSLContext):
        raise TypeError(f"TLS needs an ssl.SSLContext, not {context!r}")
    if context.protocol == ssl.PROTOCOL_TLS_CLIENT:
        raise ValueError(f"{context!r} is for clients: give ssl.Purpose.CLIENT_AUTH to ssl.create_default_context()")


# -- paths of Unix sockets -------------------------------------------------------------------------------------------


def identity(path: str | bytes) -> tuple[int, int]:
    """Return what tells a file from one that has taken its place."""
    found = os.lstat(path)
    return found.st_dev, found.st_ino


def is_abandoned(path: str | bytes) -> bool:
    """Whether *path* is a socket on which nobody listens any more."""
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        return False
    with socket.socket(AF.UNIX) as probe:
        probe.setblocking(False)
        return probe.connect_ex(path) == errno.ECONNREFUSED
