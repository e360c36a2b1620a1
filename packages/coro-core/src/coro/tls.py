"""TLS over a `sock`, client and server: `wrap_tls`, `create_tls_connection` and the class `tls_sock` that they return.

Stands on the standard library's ssl, so contexts, certificates, versions and errors are Python's own, and on
`coro.sockets`.  The ssl object never touches the descriptor: it works between two buffers in memory, one of what has
arrived and one of what is to leave, and this file moves the ciphertext between them and the socket.

How the two directions stay apart
---------------------------------
* Every call of the ssl object is atomic for coroutines, so reader and writer share it without a lock.  Only the moving
  can block, and each direction of it has a lock: bytes are put in and leave in order.
* Whoever needs ciphertext brings it in (`_feed`).  A writer may need some too, in a renegotiation; if a reader waits
  for it already, the writer waits for the reader.
* To read may make an answer: to a change of keys, or an alert.  The reader sends it without waiting (`_push`), leaves
  it to a writer that is at work, or else to a coroutine made for that.  So a peer that does not read stops no reader.
* What has been encrypted is part of the stream: when a send is interrupted, the rest of it leaves before anything else.
"""

from __future__ import annotations

import errno
import ssl
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from socket import SHUT_RDWR, SHUT_WR, SOCK_STREAM
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Final, Literal, cast, overload

from .connect import create_connection
from .coroutine import MAIN, coro
from .exceptions import ClosedError, SimultaneousError, TimeoutError
from .kernel import WRITE, calling
from .locks import mutex
from .names import Address, host_of
from .sockets import sock
from .timeouts import check_seconds, with_timeout
from .transfers import check_room
from .verbs import current, spawn

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

__all__ = ["create_tls_connection", "tls_sock", "wrap_tls"]

BUFFER: Final = 2**16  # bytes: of ciphertext in one recv, and of data that are encrypted before one send
HANDSHAKE_TIMEOUT: Final = 60.0  # seconds
CLOSE_TIMEOUT: Final = 2.0  # seconds: less than the grace that a loop gives at its end

Engine = tuple[ssl.SSLObject, ssl.MemoryBIO, ssl.MemoryBIO]


class tls_sock:
    """A TLS connection that is used like a `sock`.  Made by `wrap_tls` and `create_tls_connection`.

    Attributes:
        ssl_object: the `ssl.SSLObject`, for what has no method here, such as ``get_channel_binding()``.  Do not read,
            write, shake hands or unwrap with it.

    All data are bytes; what is sent may be any object of the buffer protocol.  One coroutine may read while another one
    writes.  While one waits in the middle of a call, a second one for the same direction is refused.

    Every method that reads or writes raises `YieldFromMain` outside a coroutine, `ClosedError` when the connection is
    closed before or meanwhile, `SimultaneousError` when another coroutine waits to do the same with it, and
    `ssl.SSLError` for what is wrong with the TLS of the other end.  A connection that ends without the close_notify of
    TLS may have been cut by somebody in between: that is an `ssl.SSLEOFError`, never the end of the stream.

    A timeout or another exception that interrupts a read leaves the connection as it was.  When it interrupts a write
    nobody knows how much has been sent.  The connection can still be used, but `close` then sends no close_notify, so
    that the other end does not take a part for the whole.
    """

    __slots__ = (
        "__weakref__",
        "_ahead",
        "_closer",
        "_cut",
        "_ending",
        "_failed",
        "_fed",
        "_in",
        "_in_lock",
        "_out",
        "_out_lock",
        "_reader",
        "_said_goodbye",
        "_sock",
        "_unsent",
        "_users",
        "_writer",
        "ssl_object",
    )

    def __init__(self, plain: sock, engine: Engine) -> None:
        self._sock = plain
        self.ssl_object, self._in, self._out = engine
        self._in_lock = mutex()  # held by whoever brings ciphertext in
        self._out_lock = mutex()  # held by whoever sends ciphertext and waits for it
        self._fed = 0  # how often some was brought in
        self._unsent: bytes | memoryview = b""  # taken out of _out, and next to leave
        self._ahead = b""  # decrypted already, by shutdown
        self._ending = False  # a direction has ended or failed: ssl is to be asked even where no ciphertext is left
        self._failed = False  # an error has ended reading
        self._reader: coro | None = None
        self._writer: coro | None = None
        self._cut = False  # a write was left in the middle
        self._said_goodbye = False  # close_notify has been encrypted
        self._closer: coro | None = None
        self._users = 1  # this object and its files

    # -- ciphertext --------------------------------------------------------------------------------------------------

    def _feed(self, fed: int) -> None:
        """Bring in ciphertext, or wait until another coroutine has.  *fed* is `_fed` of before it was found missing."""
        with self._in_lock:
            if self._fed == fed:
                data = self._sock.recv(BUFFER)
                self._fed += 1
                if data:
                    self._in.write(data)
                else:
                    self._in.write_eof()
                    self._ending = True

    def _drain(self, send: Callable[..., int], *args: Any) -> None:
        """Send all ciphertext that there is or comes meanwhile, by *send*, which takes a part and tells how much."""
        while self._unsent or self._out.pending:
            if not self._unsent:
                self._unsent = self._out.read()
            sent = send(*args, self._unsent)
            self._unsent = memoryview(self._unsent)[sent:] if sent < len(self._unsent) else b""

    def _flush(self) -> None:
        """Send all ciphertext, waiting as often as it takes."""
        with self._out_lock:
            self._drain(self._sock._attempt, WRITE, self._sock._io.send)

    def _push(self) -> bool:
        """Send as much ciphertext as goes without waiting.  Returns whether that was all."""
        if self._out_lock.locked():
            return False
        with suppress(OSError):  # full, or broken, which the next read or write will find out
            self._drain(self._sock._io.send)
        return not self._unsent

    def _answer(self) -> None:
        """Send what reading has made, but do not hold up the reader."""
        if not self._push() and not self._out_lock.locked():
            spawn(self._flush_quietly, thread_name="tls answer")

    def _flush_quietly(self) -> None:
        with suppress(OSError):  # as in _push
            self._flush()

    def _handshake(self) -> None:
        while True:
            fed = self._fed
            try:
                self.ssl_object.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self._feed(fed)
            except ssl.SSLEOFError:
                raise self._cut_off("in the handshake") from None
            else:
                self._flush()
                return

    def _cut_off(self, how: str = "without a close_notify: what has come may be cut short") -> ssl.SSLEOFError:
        return ssl.SSLEOFError(ssl.SSL_ERROR_EOF, f"the connection of {self!r} has ended {how}")

    def _check_open(self) -> None:
        if self._closer is not None:
            raise ClosedError(f"{self!r} was closed by {self._closer!r} and cannot be used any more", self._closer)

    def _check_alone(self, co: coro, other: coro | None, verb: str) -> None:
        if other is not None and not other._dead:
            raise SimultaneousError(co, other, (self.fileno(), verb))

    # -- reading -----------------------------------------------------------------------------------------------------

    def _decrypt(self, size: int, *into: Any) -> Any:
        """Return at most *size* bytes of data, or how many were put *into* a buffer; None if ciphertext is missing."""
        if not (self._in.pending or self._ending or self.ssl_object.pending()):
            return None  # which ssl would say by an exception: a tenth of what a request costs
        try:
            data: Any = self.ssl_object.read(size, *into)
        except ssl.SSLWantReadError:
            return None
        except ssl.SSLZeroReturnError:  # what it says instead of b"" once we have sent close_notify, too
            data = 0 if into else b""
        except ssl.SSLEOFError:
            raise self._cut_off() from None
        except ssl.SSLError as exc:
            self._ending = self._failed = True
            self._push()  # the alert
            exc.add_note(f"while {current()!r} read from {self!r}")
            raise
        if not data:
            self._ending = True
            if self._failed:  # ssl takes a fatal alert for the end
                raise self._cut_off()
        return data

    def _read(self, size: int, *into: memoryview) -> Any:
        """Like `_decrypt`, but wait for what is missing."""
        _, co = calling()
        if self._ahead:
            data: Any = self._ahead[:size]
            self._ahead = self._ahead[size:]
            if into:
                into[0][: len(data)] = data
                return len(data)
            return data
        while True:
            fed = self._fed
            data = self._decrypt(size, *into)
            if self._out.pending:
                self._answer()
            if data is not None:
                return data
            self._check_alone(co, self._reader, "read")
            self._reader = co
            try:
                self._feed(fed)
            finally:
                self._reader = None

    def recv(self, size: int) -> bytes:
        """Return what has arrived, at least one byte and at most *size*; b"" after the other end's close_notify.

        One call returns at most one record of TLS, 16 KiB.  Raises `ssl.SSLEOFError` if the connection has ended
        without a close_notify, ConnectionResetError if it was reset, ValueError if *size* is negative.
        """
        self._check_open()
        if size < 1:
            if size < 0:
                raise ValueError(f"cannot receive {size} bytes")
            return b""
        return self._read(size)  # type: ignore[no-any-return]

    read = recv

    def recv_into(self, buffer: WriteableBuffer, nbytes: int = 0) -> int:
        """Like `recv`, into *buffer*, a writable object.

        Args:
            buffer: where to put the data.
            nbytes: how many bytes at most; 0 for as many as the buffer has room for.

        Returns how many bytes; 0 at the end of the stream.  ValueError if *nbytes* is negative or too many.
        """
        self._check_open()
        return self._read_into(buffer, nbytes)

    def _read_into(self, buffer: WriteableBuffer, nbytes: int = 0) -> int:
        with memoryview(buffer) as view, view.cast("B") as target:
            check_room(nbytes, target)
            with target[: nbytes or target.nbytes] as part:
                return self._read(part.nbytes, part) if part.nbytes else 0

    # These three stand on `recv` alone, so they are those of sock.

    def recv_exact(self, size: int) -> bytes:
        """Return exactly *size* bytes.

        Raises `EOFError` if the stream ends before; its argument is what there was.  ValueError for a negative size.
        """
        return sock.recv_exact(cast("sock", self), size)

    def readv(self, sizes: Iterable[int]) -> tuple[bytes, ...]:
        """Return pieces of exactly these sizes; if the stream ends before, fewer, as `sock.readv` does."""
        return sock.readv(cast("sock", self), sizes)

    def _collect(self, size: int) -> bytes:
        return sock._collect(cast("sock", self), size)

    def pending(self) -> int:
        """Return how many bytes `recv` can return at once because they are decrypted already."""
        return len(self._ahead) + self.ssl_object.pending()

    # -- writing -----------------------------------------------------------------------------------------------------

    def send(self, data: ReadableBuffer) -> int:
        """Send all of *data*, waiting as often as it takes.  Returns how many bytes these are.

        When it is interrupted, by a timeout for example, nobody knows how much has been sent.  TypeError for a str,
        BrokenPipeError after `shutdown`.
        """
        self._check_open()
        return self._write(data)

    sendall = write = send

    def _write(self, data: ReadableBuffer) -> int:
        _, co = calling()
        with memoryview(data) as view, view.cast("B") as octets:
            self._check_alone(co, self._writer, "write")
            if self._said_goodbye:
                raise BrokenPipeError(errno.EPIPE, f"{co!r} cannot send on {self!r} after its shutdown()")
            sent = 0
            self._writer = co
            try:
                if self._unsent:
                    self._flush()  # first, so that interrupted writes do not pile up
                while sent < octets.nbytes:
                    fed = self._fed
                    try:
                        with octets[sent : sent + BUFFER] as part:
                            sent += self.ssl_object.write(part)
                    except ssl.SSLWantReadError:  # in the middle of a renegotiation
                        self._flush()
                        self._feed(fed)
                    else:
                        self._flush()
            except BaseException as exc:
                self._cut = True
                if isinstance(exc, ssl.SSLEOFError):
                    raise self._cut_off() from None
                raise
            finally:
                self._writer = None
        return sent

    def _write_part(self, data: ReadableBuffer) -> int:
        """Encrypt the beginning of *data* once all that was encrypted before has left.  Returns how many bytes.

        When it is interrupted, nothing of *data* has been taken.  What there is no room for leaves by itself.
        """
        _, co = calling()
        with memoryview(data) as view, view.cast("B") as octets, octets[:BUFFER] as part:
            self._check_alone(co, self._writer, "write")
            if self._said_goodbye:
                raise BrokenPipeError(errno.EPIPE, f"{co!r} cannot send on {self!r} after its shutdown()")
            self._writer = co
            try:
                while True:
                    self._flush()
                    fed = self._fed
                    try:
                        sent = self.ssl_object.write(part)
                        break
                    except ssl.SSLWantReadError:  # in the middle of a renegotiation
                        self._flush()
                        self._feed(fed)
            except ssl.SSLEOFError:
                raise self._cut_off() from None
            finally:
                self._writer = None
        self._answer()
        return sent

    def writev(self, buffers: Iterable[ReadableBuffer]) -> int:
        """Send all of these, in as few records as they need.  Returns how many bytes they are."""
        return self.send(b"".join(buffers))

    # -- the end -----------------------------------------------------------------------------------------------------

    def shutdown(self, how: int) -> None:
        """Say that nothing more will be sent: send close_notify, waiting as `send` does.

        Args:
            how: ``SHUT.WR``, after which reading goes on, or ``SHUT.RDWR``, which then also shuts down the socket.

        With TLS 1.2 the other end may answer by closing both directions.  ValueError for ``SHUT.RD``, which TLS does
        not have.
        """
        if how not in (SHUT_WR, SHUT_RDWR):
            raise ValueError(f"a TLS connection can be shut down with SHUT.WR or SHUT.RDWR, not {how!r}")
        self._check_open()
        _, co = calling()
        self._check_alone(co, self._writer, "write")
        self._writer = co
        try:
            self._say_goodbye()
            self._flush()
        finally:
            self._writer = None
        if how == SHUT_RDWR:
            self._sock.shutdown(how)

    def _say_goodbye(self) -> None:
        """Encrypt close_notify.  ssl looks for the other end's at once, and takes offence at data before that."""
        if self._said_goodbye:
            return
        while data := self._decrypt(BUFFER):
            self._ahead += data
        self._said_goodbye = self._ending = True
        with suppress(ssl.SSLWantReadError):
            self.ssl_object.unwrap()

    def unwrap(self) -> sock:
        """End TLS in both directions and return the socket, to be used without it.  The caller must close that.

        Sends close_notify and waits for that of the other end, for ever if there is no timeout around this call.  Data
        that arrive before it are thrown away.  Raises `ssl.SSLEOFError` if the connection ends before, `ssl.SSLError`
        if the other end has gone on without TLS before it could know that it may.  Then nothing is left but `close`.
        """
        self.shutdown(SHUT_WR)
        while self.recv(BUFFER):
            pass
        if self._in.pending:
            raise ssl.SSLError(
                f"{self._in.pending} bytes without TLS came right behind the close_notify on {self!r} and are lost: "
                "the other end must wait for the close_notify of this one"
            )
        self._closer = current()
        return self._sock

    def close(self) -> None:
        """Send close_notify and close the socket.  Raises `ClosedError` in those that wait.  May be called twice.

        It waits at most 2 seconds for room to send the close_notify in, and never for that of the other end; use
        `unwrap` for that, or `shutdown` to give it more time.  There is no close_notify if a write was interrupted or
        is under way.  Files of `makefile` keep the connection open until they are closed too.
        """
        if self._closer is None:
            self._closer = current()
            self._leave(wait=True)

    def _leave(self, wait: bool) -> None:
        """One of those that keep the connection open does so no more."""
        self._users -= 1
        if self._users:
            return
        try:
            if not self._cut and self._writer is None:
                with suppress(ssl.SSLError):
                    self._say_goodbye()
                if not self._push() and wait and current() is not MAIN:
                    with suppress(OSError, TimeoutError):
                        with_timeout(CLOSE_TIMEOUT, self._flush)
            with suppress(OSError):
                self._sock._io.recv(BUFFER)  # what the system has not been asked for makes it reset the connection
        finally:
            self._sock.close()

    def __enter__(self) -> tls_sock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # -- the object --------------------------------------------------------------------------------------------------

    def makefile(
        self,
        mode: str = "r",
        bufsize: int = -1,
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]:
        """Return a file object for this connection, which ends when both are closed.

        The arguments and errors are those of `sock.makefile`.
        """
        return sock.makefile(
            cast("sock", Share(self)), mode, bufsize, encoding=encoding, errors=errors, newline=newline
        )

    def fileno(self) -> int:
        """Return the number of the descriptor, -1 after `close`.  It has ciphertext: do not read or write it."""
        return self._sock.fd

    def getsockname(self) -> Address:
        """Return the address of this end."""
        return self._sock.getsockname()

    def getpeername(self) -> Address:
        """Return the address of the other end.  OSError (``ENOTCONN``) if there is none any more."""
        return self._sock.getpeername()

    @overload
    def getsockopt(self, level: int, option: int) -> int: ...
    @overload
    def getsockopt(self, level: int, option: int, buflen: int) -> bytes: ...

    def getsockopt(self, level: int, option: int, buflen: int = 0) -> int | bytes:
        """Return an option of the socket: an int, or with *buflen* that many bytes."""
        return self._sock.getsockopt(level, option, buflen)

    def setsockopt(self, level: int, option: int, value: int | ReadableBuffer) -> None:
        """Set an option of the socket to an int or to packed bytes."""
        self._sock.setsockopt(level, option, value)

    def version(self) -> str | None:
        """Return the version of the protocol, such as ``"TLSv1.3"``."""
        return self.ssl_object.version()

    def cipher(self) -> tuple[str, str, int] | None:
        """Return the name of the cipher, the version of the protocol that defines it and the number of secret bits."""
        return self.ssl_object.cipher()

    @overload
    def getpeercert(self, binary_form: Literal[False] = False) -> dict[str, Any] | None: ...
    @overload
    def getpeercert(self, binary_form: Literal[True]) -> bytes | None: ...

    def getpeercert(self, binary_form: bool = False) -> dict[str, Any] | bytes | None:
        """Return the certificate of the other end, as `ssl.SSLSocket.getpeercert` does; None if it has sent none."""
        return self.ssl_object.getpeercert(binary_form)

    def selected_alpn_protocol(self) -> str | None:
        """Return the application protocol that the two ends have agreed on by ALPN; None for none."""
        return self.ssl_object.selected_alpn_protocol()

    @property
    def context(self) -> ssl.SSLContext:
        """The context."""
        return self.ssl_object.context

    @property
    def session(self) -> ssl.SSLSession | None:
        """The session, for the next connection of a client to the same server.  With TLS 1.3 read something before."""
        return self.ssl_object.session

    @property
    def session_reused(self) -> bool | None:
        """Whether the session is that of an earlier connection."""
        return self.ssl_object.session_reused

    @property
    def server_hostname(self) -> str | None:
        """The host name that a client asked for and the certificate was checked against."""
        return self.ssl_object.server_hostname

    @property
    def server_side(self) -> bool:
        """Whether this is the end of the server."""
        return self.ssl_object.server_side

    def __repr__(self) -> str:
        name = f" server_hostname={self.server_hostname!r}" if self.server_hostname else ""
        return f"<tls_sock fd={self._sock.fd}/{self._sock.orig_fd} {self.version()}{name} at {id(self):#x}>"


class Share:
    """What a file of `tls_sock.makefile` holds in place of a `sock`: it keeps the connection open."""

    def __init__(self, tls: tls_sock) -> None:
        self.fd = tls.fileno()
        self.fileno = tls.fileno
        self.recv_into = tls._read_into
        self.send = tls._write
        self._check_open = tls._check_open
        self._tls: tls_sock | None = tls
        self._wrote = False

    def dup(self) -> Share:
        """Begin to keep it open: what `sock.makefile` calls when its arguments are in order."""
        self._check_open()
        assert self._tls is not None
        self._tls._users += 1
        return self

    def _send_part(self, data: ReadableBuffer) -> int:
        assert self._tls is not None
        self._wrote = True
        return self._tls._write_part(data)

    def close(self) -> None:
        """Wait until all that was written has left.  Without that, do not: the garbage collector closes files too."""
        tls, self._tls = self._tls, None
        if tls is not None:
            wait = self._wrote and current() is not MAIN
            try:
                if wait:
                    tls._flush()
            finally:
                tls._leave(wait)


# -- making connections ----------------------------------------------------------------------------------------------


def engine(
    context: ssl.SSLContext, server_side: bool, server_hostname: str | None, session: ssl.SSLSession | None
) -> Engine:
    """Return an ssl object and its two buffers.  Whatever is wrong with the arguments is said here."""
    if not isinstance(context, ssl.SSLContext):
        raise TypeError(f"TLS needs an ssl.SSLContext, not {context!r}")
    if server_hostname is not None and not isinstance(server_hostname, str):
        raise TypeError(f"the host name of a server is a str, not {server_hostname!r}")
    if server_side and server_hostname is not None:  # of both the standard library takes no notice here
        raise ValueError(f"a server has no use for server_hostname={server_hostname!r}")
    if context.check_hostname and not server_side and not server_hostname:
        raise ValueError("this context checks the name in the certificate: give server_hostname, the name to expect")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    return context.wrap_bio(incoming, outgoing, server_side, server_hostname, session), incoming, outgoing


def connected(plain: sock, parts: Engine, timeout: float | None) -> tls_sock:
    """Return the connection once the handshake is done.  If it fails, *plain* is closed."""
    tls = tls_sock(plain, parts)
    try:
        if timeout is None:
            tls._handshake()
        else:
            with_timeout(timeout, tls._handshake)
    except BaseException as exc:
        if isinstance(exc, OSError):  # ours alone, a Shutdown may not be
            exc.add_note(f"in the TLS handshake of {tls!r} by {current()!r}")
        tls._push()  # the alert, which tells the other end why
        plain.close()
        raise
    return tls


def wrap_tls(
    plain: sock,
    context: ssl.SSLContext,
    *,
    server_side: bool = False,
    server_hostname: str | None = None,
    session: ssl.SSLSession | None = None,
    timeout: float | None = HANDSHAKE_TIMEOUT,
) -> tls_sock:
    """Begin TLS on a connection: shake hands, and return what to read and write from now on.

    Args:
        plain: a stream socket that is connected.  It belongs to the result from now on.
        context: an `ssl.SSLContext`, such as ``ssl.create_default_context()`` for a client; for a server
            ``ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)`` with a certificate loaded.
        server_side: whether this is the end of the server.
        server_hostname: for a client the name of the server, which its certificate must be for.
        session: for a client the `tls_sock.session` of an earlier connection, to be taken up.
        timeout: seconds for the handshake, since a peer that says nothing must not hold a coroutine for ever; None for
            no limit.

    If the handshake fails, *plain* is closed and this raises `ssl.SSLCertVerificationError` for a certificate that is
    not trusted or is for another name, another `ssl.SSLError` for what is not TLS or does not suit the context,
    `ssl.SSLEOFError` if the other end has closed the connection, `coro.TimeoutError`, or another OSError.  With TLS 1.3
    a client learns from its first `recv` only that the server has refused it.

    Wrong arguments leave *plain* open and as it was: TypeError if it is no `sock` or *context* no context, ValueError
    for another kind of socket, for a missing or needless *server_hostname*, `ssl.SSLError` for a context of the other
    side.  `YieldFromMain` outside a coroutine.
    """
    calling()
    if not isinstance(plain, sock):
        raise TypeError(f"TLS needs a coro.sock, not {plain!r}")
    if plain.stype != SOCK_STREAM:
        raise ValueError(f"TLS needs a stream socket, not {plain!r}")
    if timeout is not None:
        check_seconds(timeout)
    return connected(plain, engine(context, server_side, server_hostname, session), timeout)


def create_tls_connection(
    address: tuple[str, int],
    context: ssl.SSLContext | None = None,
    *,
    server_hostname: str | None = None,
    session: ssl.SSLSession | None = None,
    timeout: float | None = None,
    source_address: Address | None = None,
) -> tls_sock:
    """Connect to *address* by TCP, as `coro.create_connection` does, and shake hands as a client.

    Args:
        address: a host, name or number, and a port.
        context: an `ssl.SSLContext`; None for that of ``ssl.create_default_context()``, which trusts the authorities
            that the system trusts and checks the host name.  It is made once for the whole process.
        server_hostname: the name that the certificate must be for; None for the host of *address*.
        session: as of `wrap_tls`.
        timeout: seconds for all of this; None for no limit but 60 seconds for the handshake.
        source_address: what to bind to before; None for nothing.

    Raises what `coro.create_connection` and `wrap_tls` do.  Wrong arguments are found before anything is connected.
    """
    calling()
    if timeout is not None:
        check_seconds(timeout)
    if context is None:
        context = default_context()
    parts = engine(context, False, host_of(address) if server_hostname is None else server_hostname, session)

    def connect() -> tls_sock:
        plain = create_connection(address, None, source_address)
        return connected(plain, parts, HANDSHAKE_TIMEOUT if timeout is None else None)

    return connect() if timeout is None else with_timeout(timeout, connect)


@cache
def default_context() -> ssl.SSLContext:
    """Return the context of clients that give none.  Making one reads all certificates of the system: 30 ms."""
    return ssl.create_default_context()
