"""Sockets whose calls block the coroutine instead of the thread, and other descriptors that are used like them.

Stands on the standard library's socket objects, so options, families, addresses and errors are Python's own, and on the
table of descriptors of `coro.kernel`.  Names are looked up in threads (`coro.threads`).

When a call tries, and when it waits
------------------------------------
The kernel remembers of each descriptor what the poller has said of it, in a `Descriptor`.  Where the poller reports
edges, the descriptor is registered once, at the first wait, and no wait after that costs a system call; elsewhere it is
armed for each wait.  What keeps failing calls away is this:

* A call tries unless the descriptor is known not to be ready; so most sends are one system call and nothing else.
* EAGAIN proves that it is not ready.  So does a read from a stream that returned less than was asked for: all that was
  there has been taken, and what comes later is another edge.  A request and its response are thus one recv and one
  send, and no call that fails with EAGAIN.
* That does not hold once the end of the stream has been reported: it comes as one event with the last data and is not
  said again.  Nor for datagrams, for accept and for what is no socket: they go on until EAGAIN.
* A new socket is taken for not readable and for writable: registering reports whatever holds by then.

A stream of AF_UNIX also ends a read where descriptors were passed, so read those with care for the message that brings
them.

One coroutine may read from a socket and one may write to it at the same time.  While one waits in the middle of a call,
a second one for the same direction is refused, since the two would get in the midst of each other's data.
"""

from __future__ import annotations

import errno
import io
import itertools
import os
import socket
import stat
import sys
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from types import SimpleNamespace, TracebackType
from typing import IO, TYPE_CHECKING, Any, Final, NoReturn, TypeVar, overload

from .coroutine import coro
from .exceptions import ClosedError, SimultaneousError, YieldFromMain
from .kernel import READ, WRITE, Descriptor, Kernel, adopted, calling, monotonic, outside, this_kernel, worker
from .verbs import HasFileno, current, descriptor_number, forget, sleep_relative, spawn, yield_slice

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

    from .threads import ThreadPool

__all__ = [
    "AF",
    "PF",
    "SHUT",
    "SO",
    "SOCK",
    "SOL",
    "coro_fd",
    "create_connection",
    "create_server",
    "fd_sock",
    "file_sock",
    "get_live_sockets",
    "has_ipv6",
    "make_socket",
    "sock",
    "socketpair",
    "tcp6_sock",
    "tcp_sock",
    "udp6_sock",
    "udp_sock",
    "unix_sock",
]

T = TypeVar("T")
Address = Any  # as of the standard library: a tuple for IPv4 and IPv6, a str or bytes for AF_UNIX


def constants(prefix: str) -> SimpleNamespace:
    """Return the constants of the standard library's socket module whose names begin with *prefix*, without it."""
    names = (name for name in dir(socket) if name.startswith(prefix))
    return SimpleNamespace(**{name.removeprefix(prefix): getattr(socket, name) for name in names})


AF: Final = constants("AF_")  #: Address families: INET, INET6, UNIX ...
AF.LOCAL = getattr(AF, "UNIX", None)
PF: Final = AF
SOCK: Final = constants("SOCK_")  #: Kinds of socket: STREAM, DGRAM ...
SHUT: Final = constants("SHUT_")  #: What to shut down: RD, WR, RDWR.
SOL: Final = constants("SOL_")  #: Levels of options: SOCKET ...
SO: Final = constants("SO_")  #: Options of the level SOL.SOCKET: REUSEADDR, KEEPALIVE ...

IN_PROGRESS: Final = {errno.EINPROGRESS, errno.EALREADY} | ({errno.EWOULDBLOCK} if sys.platform == "win32" else set())
LARGEST_READ: Final = 2**18  # bytes in one system call, when the caller wants more than that
LARGEST_SENDFILE: Final = 2**30  # bytes in one system call
MOST_BUFFERS: Final = os.sysconf("SC_IOV_MAX") if "SC_IOV_MAX" in getattr(os, "sysconf_names", ()) else 16
HEAD_START: Final = 0.25  # seconds: RFC 8305, the Connection Attempt Delay

_live: Final[set[int]] = set()  # the sock objects that there are, by identity: adding and removing are atomic


class sock:
    """A socket that blocks the calling coroutine only.  Closed by `close`, or at the end of a ``with``.

    Args:
        domain: the address family, such as ``AF.INET``.
        stype: the kind, such as ``SOCK.STREAM``.
        protocol: the number of the protocol; 0 for the usual one.
        fd: a descriptor to wrap instead of opening a socket: a socket, whose family and kind are then its own, or a
            pipe, terminal and the like.  It is made non-blocking, belongs to this object and is closed by it.

    Attributes:
        fd: the descriptor, -1 after `close`.
        orig_fd: the descriptor, also after `close`.
        domain, stype, protocol: as above; ``AF.UNSPEC`` and 0 for what is no socket.

    All data are bytes; what is sent may be any object of the buffer protocol.  Addresses are those of the standard
    library.  A host may be a name where the method says so; it is looked up in a thread.

    Every method that may block, and by that all that reads or writes, accepts or connects, raises `YieldFromMain`
    outside a coroutine, `ClosedError` when the socket is closed before or meanwhile, and `SimultaneousError` when
    another coroutine waits to do the same with this socket.  A timeout or another exception that interrupts a wait
    leaves the socket usable.  All errors of the system are `OSError`.
    """

    __slots__ = (
        "__weakref__",
        "_closer",
        "_entry",
        "_kernel",
        "_recv",
        "_send",
        "_socket",
        "_stream",
        "domain",
        "fd",
        "orig_fd",
        "protocol",
        "stype",
    )

    def __init__(
        self, domain: int = AF.INET, stype: int = SOCK.STREAM, protocol: int = 0, fd: int | HasFileno = -1
    ) -> None:
        self.fd = self.orig_fd = -1  # first: __del__ must not close what is not ours (D-27)
        if isinstance(fd, int) and fd == -1:
            self._adopt(socket.socket(domain, stype, protocol))
            return
        number = descriptor_number(fd)
        if sys.platform == "win32" or stat.S_ISSOCK(os.fstat(number).st_mode):
            self._adopt(socket.socket(fileno=number))
            self._entry.readable = True  # not known
            return
        os.set_blocking(number, False)
        self._socket: socket.socket | None = None
        self._stream = False
        self._recv: Callable[..., bytes] = partial(os.read, number)
        self._send: Callable[..., int] = partial(os.write, number)
        self.domain, self.stype, self.protocol = socket.AF_UNSPEC, 0, 0
        self._open(number)
        self._entry.readable = True

    def _adopt(self, std: socket.socket) -> None:
        """Become what *std* is."""
        std.setblocking(False)
        self._socket = std
        self._recv = std.recv
        self._send = std.send
        self._stream = std.type == socket.SOCK_STREAM  # where a short read means that nothing is left
        self.domain, self.stype, self.protocol = std.family, std.type, std.proto
        self._open(std.fileno())

    def _open(self, fd: int) -> None:
        self._kernel: Kernel | None = None  # that has the descriptor in its table
        self._closer: coro | None = None
        self._entry = Descriptor(fd, owned=True)
        self._entry.writable = True
        self.fd = self.orig_fd = fd
        _live.add(id(self))

    # -- waiting -----------------------------------------------------------------------------------------------------

    def _begin(self, mask: int) -> tuple[Kernel, coro]:
        """Refuse a second coroutine, and let others run if this one has had its share.  What each call begins with."""
        kernel, co = calling()
        entry = self._entry
        other = entry.reader if mask == READ else entry.writer
        if other is not None:
            self._refuse(co, other, mask)
        if entry.readable if mask == READ else entry.writable:
            if not co._allowance:
                self._give_way(co, mask)
            co._allowance -= 1
        return kernel, co

    def _refuse(self, co: coro, other: coro, mask: int) -> None:
        if not other._dead:  # it was abandoned at the end of an earlier loop
            raise SimultaneousError(co, other, (self.fd, "read" if mask == READ else "write"))

    def _give_way(self, co: coro, mask: int) -> None:
        """Let all others run, but nobody in between what *co* reads or writes."""
        entry = self._entry
        co._allowance = co._selfishness
        try:
            if mask == READ:
                entry.reader = co
            else:
                entry.writer = co
            yield_slice()
        finally:
            if mask == READ:
                entry.reader = None
            else:
                entry.writer = None

    def _arm(self, kernel: Kernel, co: coro, mask: int) -> Descriptor:
        """See to it that the poller will report *mask*, in the loop that runs now."""
        entry = self._entry
        if kernel.fds.get(entry.fd) is not entry:
            for other, direction in ((entry.reader, READ), (entry.writer, WRITE)):
                if other is not None:  # in the loop of another thread
                    self._refuse(co, other, direction)
            entry = self._entry = kernel.own(self.fd, mask)
            self._kernel = kernel
        elif not entry.edge:
            kernel.arm(entry, mask)
        return entry

    def _wait(self, kernel: Kernel, co: coro, mask: int) -> None:
        """Park *co* until the poller says that the descriptor is ready for *mask*.  (`recv` spells this out.)"""
        entry = self._arm(kernel, co, mask)
        try:
            kernel.waiting.add(co)
            if mask == READ:
                entry.reader = co
            else:
                entry.writer = co
            while not (entry.readable if mask == READ else entry.writable):
                kernel.park(co)
        finally:
            kernel.waiting.discard(co)
            if mask == READ:
                entry.reader = None
            else:
                entry.writer = None
        co._allowance = co._selfishness

    def _attempt(self, mask: int, call: Callable[..., T], *args: Any) -> T:
        """Return ``call(*args)``, tried until it does not fail with EAGAIN.  It reads or writes, as *mask* says."""
        kernel, co = self._begin(mask)
        while True:
            entry = self._entry
            if entry.readable if mask == READ else entry.writable:
                if self.fd < 0:
                    self._raise_closed()
                try:
                    return call(*args)
                except BlockingIOError:
                    if mask == READ:
                        entry.readable = entry.hung_up = False
                    else:
                        entry.writable = False
            self._wait(kernel, co, mask)

    def wait_for_read(self) -> None:
        """Block until a read or an accept would not block.  The end of the stream and errors count as readable."""
        self._wait_anew(READ)

    def wait_for_write(self) -> None:
        """Block until a write would not block, or a connect is decided."""
        self._wait_anew(WRITE)

    def _wait_anew(self, mask: int) -> None:
        """Ask the poller: what is remembered says only that it is worth a try."""
        kernel, co = calling()
        if self.fd < 0:
            self._raise_closed()
        entry = self._entry
        other = entry.reader if mask == READ else entry.writer
        if other is not None:
            self._refuse(co, other, mask)
        if kernel.fds.get(entry.fd) is not entry:
            entry = self._arm(kernel, co, mask)  # first: what fails here changes nothing
        elif entry.edge and kernel.poller is not None:
            kernel.poller.unregister(entry.fd)
            kernel.poller.register(entry.fd)  # reports what holds now
        if mask == READ:
            entry.readable = False
        else:
            entry.writable = False
        self._wait(kernel, co, mask)

    # -- reading -----------------------------------------------------------------------------------------------------

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Return what has arrived, at least one byte and at most *size*; b"" at the end of the stream.

        Of a datagram what is beyond *size* is lost.  ValueError if *size* is negative.
        """
        if flags or size < 1:
            return self._recv_specially(size, flags)
        try:
            kernel = worker().kernel
        except AttributeError:
            return adopted(self.recv, size)  # type: ignore[no-any-return]
        co = kernel.current
        if co is None:
            outside()
        entry = self._entry
        if entry.reader is not None:
            self._refuse(co, entry.reader, READ)
        if entry.readable:
            if not co._allowance:
                self._give_way(co, READ)
            co._allowance -= 1
        while True:
            if entry.readable:
                try:
                    data = self._recv(size)
                except BlockingIOError:
                    entry.readable = entry.hung_up = False
                else:
                    if len(data) < size and self._stream and not entry.hung_up:
                        entry.readable = False
                    return data
            # _wait and Kernel.park, spelt out: two frames less for each request
            if not entry.edge or kernel.fds.get(entry.fd) is not entry:
                entry = self._arm(kernel, co, READ)
            try:
                kernel.waiting.add(co)
                entry.reader = co
                while not entry.readable:
                    try:
                        kernel.ready.popleft()()
                        kernel.current = co
                        co._scheduled = 0
                    except BaseException:  # as in Kernel.park
                        kernel.ready.appendleft(partial(kernel.repair, co))
                        kernel.current = co
                        co._scheduled = 0
                        raise
                    if co._pending is not None:
                        kernel.settle(co)
            finally:
                kernel.waiting.discard(co)
                entry.reader = None
            co._allowance = co._selfishness

    read = recv

    def _recv_specially(self, size: int, flags: int) -> bytes:
        std = self._std() if flags else None
        if size < 0:
            raise ValueError(f"cannot receive {size} bytes")
        if self.fd < 0:
            self._raise_closed()
        if size == 0:
            return b""
        assert std is not None
        return self._attempt(READ, std.recv, size, flags)  # it may leave behind what it returns: nothing is concluded

    def recv_into(self, buffer: WriteableBuffer, nbytes: int = 0, flags: int = 0) -> int:
        """Like `recv`, into *buffer*, a writable object.

        Args:
            buffer: where to put the data.
            nbytes: how many bytes at most; 0 for as many as the buffer has room for.
            flags: as of recv(2).

        Returns how many bytes; 0 at the end of the stream.  ValueError if *nbytes* is negative or too many.
        """
        with memoryview(buffer) as view, view.cast("B") as target:
            if nbytes < 0 or nbytes > target.nbytes:
                raise ValueError(f"cannot receive {nbytes} bytes into a buffer of {target.nbytes}")
            size = nbytes or target.nbytes
            if self.fd < 0:
                self._raise_closed()
            if size == 0:
                return 0
            with target[:size] as part:
                if self._socket is None:
                    return self._attempt(READ, os.readv, self.fd, [part])
                got = self._attempt(READ, self._socket.recv_into, part, size, flags)
        entry = self._entry
        if got < size and self._stream and not flags and not entry.hung_up and self.fd >= 0:
            entry.readable = False
        return got

    def recvfrom(self, size: int, flags: int = 0) -> tuple[bytes, Address]:
        """Like `recv`, for one datagram; returns it and the address of its sender."""
        if size < 0:
            raise ValueError(f"cannot receive {size} bytes")
        return self._attempt(READ, self._std().recvfrom, size, flags)

    def recv_exact(self, size: int) -> bytes:
        """Return exactly *size* bytes.

        Raises `EOFError` if the stream ends before; its argument is what there was.  ValueError for a negative size.
        """
        data = self._collect(size)
        if len(data) < size:
            raise EOFError(data)
        return data

    def readv(self, sizes: Iterable[int]) -> tuple[bytes, ...]:
        """Return pieces of exactly these sizes.

        If the stream ends before, only those that are complete and the beginning of the next one; ``()`` if there is
        nothing at all.  ValueError for a negative size.
        """
        wanted = list(sizes)
        if any(size < 0 for size in wanted):
            raise ValueError(f"cannot receive {min(wanted)} bytes")
        data = self._collect(sum(wanted))
        pieces: list[bytes] = []
        begin = 0
        for size in wanted:
            if size and begin >= len(data):
                break
            pieces.append(data[begin : begin + size])
            begin += size
        return tuple(pieces)

    def _collect(self, size: int) -> bytes:
        """Return *size* bytes, or as many as there are before the end of the stream."""
        parts: list[bytes] = [self.recv(min(size, LARGEST_READ))]
        missing = size - len(parts[0])
        while missing and parts[-1]:
            parts.append(self.recv(min(missing, LARGEST_READ)))
            missing -= len(parts[-1])
        return parts[0] if len(parts) == 1 else b"".join(parts)

    # -- writing -----------------------------------------------------------------------------------------------------

    def send(self, data: ReadableBuffer, flags: int = 0) -> int:
        """Send all of *data*, waiting as often as it takes.  Returns how many bytes these are.

        When it is interrupted, by a timeout for example, nobody knows how much has been sent.  TypeError for a str.
        """
        try:
            co = worker().kernel.current
        except AttributeError:
            return adopted(self.send, data, flags)  # type: ignore[no-any-return]
        if co is None:
            outside()
        entry = self._entry
        if entry.writer is not None:
            self._refuse(co, entry.writer, WRITE)
        sent = 0
        if entry.writable:
            if not co._allowance:
                self._give_way(co, WRITE)
            co._allowance -= 1
            if type(data) is bytes and not flags:
                try:
                    sent = self._send(data)
                    if sent == len(data):
                        return sent
                except BlockingIOError:
                    pass
                entry.writable = False
        return self._send_rest(co, data, sent, flags)

    sendall = write = send

    def _send_rest(self, co: coro, data: ReadableBuffer, sent: int, flags: int) -> int:
        """Send what is in *data* behind the first *sent* bytes.  Returns the length of all."""
        args = (flags,) if flags else ()
        with memoryview(data) as view, view.cast("B") as octets:
            while True:
                if not self._entry.writable:
                    self._wait(co._kernel, co, WRITE)
                try:
                    with octets[sent:] as rest:
                        sent += self._send(rest, *args)
                except BlockingIOError:
                    pass
                if sent >= octets.nbytes:
                    return sent
                self._entry.writable = False  # it took a part: it is full

    def sendto(self, data: ReadableBuffer, address: Address, flags: int = 0) -> int:
        """Send one datagram to *address*, whose host may be a name.  Returns how many bytes were sent."""
        address = self._resolved(address)
        return self._attempt(WRITE, self._std().sendto, data, flags, address)

    def writev(self, buffers: Iterable[ReadableBuffer]) -> int:
        """Send all of these, without joining them first.  Returns how many bytes they are."""
        views = [memoryview(buffer).cast("B") for buffer in buffers]
        views = [view for view in views if view.nbytes]
        total = sum(view.nbytes for view in views)
        if self._socket is not None and hasattr(self._socket, "sendmsg"):
            call: Callable[[list[memoryview]], int] = self._socket.sendmsg
        elif self._socket is None and self.fd >= 0:
            call = partial(os.writev, self.fd)
        else:
            return self.send(b"".join(views))
        done = 0
        while done < len(views):
            sent = self._attempt(WRITE, call, views[done : done + MOST_BUFFERS])
            while done < len(views) and sent >= views[done].nbytes:
                sent -= views[done].nbytes
                done += 1
            if sent:
                views[done] = views[done][sent:]
        return total

    def sendfile(self, file: IO[bytes], offset: int = 0, count: int | None = None) -> int:
        """Send what is in *file*, without taking it through Python where the system can do that.

        Args:
            file: a file opened in binary mode.  Reading from it blocks the whole thread.
            offset: where to begin, in bytes.
            count: how many bytes; None for all up to the end of the file.

        Returns how many bytes were sent.  The file is then positioned behind them.  ValueError for a text file, a
        negative *offset*, or a *count* that is not positive.
        """
        if isinstance(file, io.TextIOBase):
            raise ValueError(f"can only send a file that was opened in binary mode, not {file!r}")
        if offset < 0 or (count is not None and count <= 0):
            raise ValueError(f"cannot send {count} bytes from position {offset} of a file")
        try:
            number = file.fileno() if hasattr(os, "sendfile") else -1
            regular = self._socket is not None and number >= 0 and stat.S_ISREG(os.fstat(number).st_mode)
        except (OSError, AttributeError):
            regular = False
        total = 0
        try:
            while count is None or total < count:
                most = LARGEST_SENDFILE if count is None else min(count - total, LARGEST_SENDFILE)
                if regular:
                    sent = self._attempt(WRITE, self._sendfile, number, offset + total, most)
                else:
                    if file.seekable():
                        file.seek(offset + total)
                    sent = self.send(file.read(min(most, LARGEST_READ)))
                if not sent:
                    break
                total += sent
        finally:
            if total and file.seekable():
                file.seek(offset + total)
        return total

    def _sendfile(self, number: int, offset: int, count: int) -> int:
        return os.sendfile(self.fd, number, offset, count)

    # -- connections -------------------------------------------------------------------------------------------------

    def connect(self, address: Address) -> None:
        """Connect to *address*, whose host may be a name.

        Returns when the connection is there; raises the error if there is none: ConnectionRefusedError and the like,
        `socket.gaierror` if the name cannot be resolved, ValueError for an address of another family.
        """
        self.connect_addr(address, resolve=True)

    def connect_addr(self, address: Address, resolve: bool = False) -> None:
        """Like `connect`, but a host that is a name is a ValueError unless *resolve* is true."""
        calling()  # outside a coroutine nothing is begun
        address = self._resolved(address, resolve)
        kernel, co = self._begin(WRITE)
        error = self._std().connect_ex(address)
        pause = 0.001
        while error == errno.EAGAIN and self.domain == AF.LOCAL:
            sleep_relative(pause)  # the backlog of the server is full, and there is nothing that could be waited for
            pause = min(2 * pause, 0.1)
            error = self._std().connect_ex(address)
        if error in IN_PROGRESS:
            self._entry.writable = False
            self._wait(kernel, co, WRITE)
            error = self._std().getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, f"{os.strerror(error)}: connect to {address!r}")

    def bind(self, address: Address) -> None:
        """Give the socket an address of its own.

        Args:
            address: as of the standard library; the host "" stands for all addresses of the machine, the port 0 for any
                that is free.  The host may be a name.

        Call `set_reuse_addr` before, for a server that is to be restarted at once.  ValueError for an address of
        another family, OverflowError for a port beyond 65535.
        """
        address = self._resolved(address)
        self._std().bind(address)

    def listen(self, backlog: int = socket.SOMAXCONN) -> None:
        """Begin to take connections; up to *backlog* of them wait for `accept`."""
        self._std().listen(backlog)

    def accept(self) -> tuple[sock, Address]:
        """Return the next connection and the address of its other end.  One that was broken off before is left out."""
        return self._attempt(READ, self._accept)

    def accept_many(self, max: int = 0) -> list[tuple[sock, Address]]:  # noqa: A002 - Shrapnel's name
        """Wait for a connection like `accept`, and return all that are there.

        Args:
            max: how many at most; 0 for all.  ValueError if it is negative.
        """
        if max < 0:
            raise ValueError(f"cannot accept {max} connections")
        accepted = [self.accept()]
        while not max or len(accepted) < max:
            try:
                accepted.append(self._accept())
            except BlockingIOError:
                self._entry.readable = self._entry.hung_up = False
                break
            except OSError:  # it will come again in the next call; what was accepted must not be lost
                break
        return accepted

    def _accept(self) -> tuple[sock, Address]:
        while True:
            try:
                std, address = self._std().accept()
            except ConnectionAbortedError:
                continue
            return wrapped(std), address

    def shutdown(self, how: int) -> None:
        """Shut down one direction or both: ``SHUT.RD``, ``SHUT.WR`` or ``SHUT.RDWR``."""
        self._std().shutdown(how)

    def getsockname(self) -> Address:
        """Return the address of this end."""
        return self._std().getsockname()

    def getpeername(self) -> Address:
        """Return the address of the other end.  OSError (``ENOTCONN``) if there is none."""
        return self._std().getpeername()

    @overload
    def getsockopt(self, level: int, option: int) -> int: ...
    @overload
    def getsockopt(self, level: int, option: int, buflen: int) -> bytes: ...

    def getsockopt(self, level: int, option: int, buflen: int = 0) -> int | bytes:
        """Return an option: an int, or with *buflen* that many bytes."""
        std = self._std()
        return std.getsockopt(level, option, buflen) if buflen else std.getsockopt(level, option)

    def setsockopt(self, level: int, option: int, value: int | ReadableBuffer) -> None:
        """Set an option to an int or to packed bytes."""
        self._std().setsockopt(level, option, value)

    def set_reuse_addr(self) -> None:
        """Let `bind` take an address that connections of an earlier server still use (``SO_REUSEADDR``)."""
        self.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

    # -- the object --------------------------------------------------------------------------------------------------

    def fileno(self) -> int:
        """Return the number of the descriptor, -1 after `close`.  `coro.wait_for_read` and its twin refuse it."""
        return self.fd

    def dup(self) -> sock:
        """Return another socket object for the same socket, with a descriptor of its own."""
        if self._socket is not None:
            return wrapped(self._std().dup())
        if self.fd < 0:
            self._raise_closed()
        return fd_sock(os.dup(self.fd))

    def makefile(
        self,
        mode: str = "r",
        bufsize: int = -1,
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]:
        """Return a file object for the same socket.  It has a descriptor of its own: close both.

        Args:
            mode: "r", "w" or both, and "b" for bytes.
            bufsize: the size of the buffers in bytes; -1 for the usual one, 0 (only with "b") for none.
            encoding, errors, newline: as of `open`.

        ValueError for another mode, or for text without a buffer.
        """
        if not mode or not set(mode) <= set("rwb") or not set(mode) & set("rw"):
            raise ValueError(f"the mode of a socket's file is made of 'r', 'w' and 'b', not {mode!r}")
        if bufsize == 0 and "b" not in mode:
            raise ValueError("text needs a buffer: give 'b' in the mode, or another bufsize than 0")
        raw = SocketIO(self.dup(), mode)
        if bufsize == 0:
            return raw  # type: ignore[return-value]
        size = io.DEFAULT_BUFFER_SIZE if bufsize < 0 else bufsize
        if "r" in mode and "w" in mode:
            buffered: Any = io.BufferedRWPair(raw, raw, size)
        else:
            buffered = io.BufferedReader(raw, size) if "r" in mode else io.BufferedWriter(raw, size)
        if "b" in mode:
            return buffered  # type: ignore[no-any-return]
        return io.TextIOWrapper(buffered, encoding, errors, newline)

    def close(self) -> None:
        """Close the descriptor.  Raises `ClosedError` in those that wait for it.  May be called twice."""
        fd, entry, kernel = self.fd, self._entry, self._kernel
        if fd < 0:
            return
        self.fd = -1
        self._closer = closer = current()
        self._recv = self._send = partial(raise_closed, fd, closer)
        here = this_kernel()
        known = here.fds.get(fd)
        if known is not None:
            forget(here, known, closer)  # before the number can be in use again
        if kernel is not None and kernel is not here and kernel.running:
            kernel.inbox.append(partial(forget, kernel, entry, closer))
            kernel.wake_up()
        entry.readable = entry.writable = True
        self._close(fd)

    def _close(self, fd: int) -> None:
        try:
            if self._socket is not None:
                self._socket.close()
            else:
                os.close(fd)
        except OSError as exc:
            if exc.errno not in (errno.ECONNRESET, errno.ENOTCONN):
                raise

    def __enter__(self) -> sock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        _live.discard(id(self))
        if getattr(self, "fd", -1) >= 0 and not sys.is_finalizing():
            text = f"unclosed {self!r}"
            self.close()
            warnings.warn(text, ResourceWarning, stacklevel=2, source=self)

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} fd={self.fd}/{self.orig_fd} domain={self.domain:d} type={self.stype:d} "
            f"at {id(self):#x}>"
        )

    def _std(self) -> socket.socket:
        """Return the socket of the standard library.  `ClosedError` if it is closed, ENOTSOCK if it is none."""
        if self.fd < 0:
            self._raise_closed()
        if self._socket is None:
            raise OSError(errno.ENOTSOCK, f"{self!r} is no socket")
        return self._socket

    def _raise_closed(self) -> NoReturn:
        raise_closed(self.orig_fd, self._closer)

    def _resolved(self, address: Address, resolve: bool = True) -> Address:
        """Return *address* with a number for a host that is a name."""
        self._std()
        domain = self.domain
        if domain == socket.AF_UNSPEC:
            raise ValueError(f"a socket without a family has no address such as {address!r}")
        if domain in (socket.AF_INET, socket.AF_INET6):
            return resolved(domain, self.stype, address, resolve)
        if domain == AF.LOCAL and isinstance(address, (str, bytes)):
            nul: Any = "\0" if isinstance(address, str) else b"\0"
            if nul in address[1:] and not address.startswith(nul):
                raise ValueError(f"the path of a socket has no NUL in it: {address!r}")
        return address


def raise_closed(fd: int, closer: coro | None, *args: Any) -> NoReturn:
    """Raise the error for the use of a closed socket."""
    raise ClosedError(f"the socket with descriptor {fd} was closed by {closer!r} and cannot be used any more", closer)


def wrapped(std: socket.socket) -> sock:
    """Return a `sock` that stands on *std*, and owns it."""
    new = sock.__new__(sock)
    new.fd = new.orig_fd = -1
    new._adopt(std)
    return new


class fd_sock(sock):
    """A descriptor used like a socket: that of a socket, pipe or terminal.  Closed with this object."""

    __slots__ = ()

    def __init__(self, fd: int) -> None:
        super().__init__(fd=fd)


class file_sock(sock):
    """An object with ``fileno()`` used like a socket.  `close` closes that object; nothing else does.

    It is kept alive, and left open if this object is lost without a `close`.
    """

    __slots__ = ("_file",)

    def __init__(self, fileobj: HasFileno) -> None:
        super().__init__(fd=fileobj)
        self._file = fileobj

    def _close(self, fd: int) -> None:
        if self._socket is not None:
            self._socket.detach()
        closing = getattr(self._file, "close", None)
        if closing is None:
            os.close(fd)
        else:
            closing()

    def __del__(self) -> None:
        _live.discard(id(self))
        if getattr(self, "fd", -1) >= 0 and not sys.is_finalizing():
            if self._socket is not None:
                self._socket.detach()
            known = this_kernel().fds.get(self.fd)
            if known is self._entry:
                forget(this_kernel(), known, current())


coro_fd = file_sock  #: Shrapnel's other name for `file_sock`.


class SocketIO(io.RawIOBase):
    """The unbuffered file of `sock.makefile`.  Owns its socket."""

    def __init__(self, owned: sock, mode: str) -> None:
        self._sock = owned
        self.mode = mode
        self.name = owned.fd

    def readable(self) -> bool:
        return "r" in self.mode

    def writable(self) -> bool:
        return "w" in self.mode

    def readinto(self, buffer: WriteableBuffer) -> int:
        if not self.readable():
            raise io.UnsupportedOperation("this file of a socket is for writing only")
        return self._sock.recv_into(buffer)

    def write(self, data: ReadableBuffer) -> int:
        if not self.writable():
            raise io.UnsupportedOperation("this file of a socket is for reading only")
        return self._sock.send(data)

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._sock.close()


# -- making sockets --------------------------------------------------------------------------------------------------


def tcp_sock() -> sock:
    """Return a new TCP socket for IPv4."""
    return sock(socket.AF_INET, socket.SOCK_STREAM)


def udp_sock() -> sock:
    """Return a new UDP socket for IPv4."""
    return sock(socket.AF_INET, socket.SOCK_DGRAM)


def tcp6_sock() -> sock:
    """Return a new TCP socket for IPv6."""
    return sock(socket.AF_INET6, socket.SOCK_STREAM)


def udp6_sock() -> sock:
    """Return a new UDP socket for IPv6."""
    return sock(socket.AF_INET6, socket.SOCK_DGRAM)


def unix_sock() -> sock:
    """Return a new stream socket of the family AF_UNIX."""
    return sock(AF.UNIX, socket.SOCK_STREAM)


def make_socket(domain: int, stype: int) -> sock:
    """Return ``sock(domain, stype)``."""
    return sock(domain, stype)


def socketpair(
    domain: int = getattr(AF, "UNIX", AF.INET), stype: int = SOCK.STREAM, protocol: int = 0
) -> tuple[sock, sock]:
    """Return two sockets that are connected to each other."""
    a, b = socket.socketpair(domain, stype, protocol)
    return wrapped(a), wrapped(b)


def has_ipv6() -> bool:
    """Return whether a socket for IPv6 can be made."""
    try:
        tcp6_sock().close()
    except OSError:
        return False
    return True


def get_live_sockets() -> int:
    """Return how many `sock` objects there are, those that are closed but still held included."""
    return len(_live)


# -- names and connections -------------------------------------------------------------------------------------------

_names: ThreadPool | None = None  # threads of their own: a slow server of names must not hold up other calls


def lookup(host: str, port: int | str | None, family: int, stype: int) -> list[Any]:
    """Return what `socket.getaddrinfo` does, asked in a thread; in place where no coroutine would be held up."""
    global _names
    try:
        calling()
    except YieldFromMain:
        if this_kernel().running:
            raise
        return socket.getaddrinfo(host, port, family, stype)
    if _names is None:
        from .threads import ThreadPool

        _names = ThreadPool("coro-names", 4)
    return _names.call(socket.getaddrinfo, (host, port, family, stype), {})


def is_literal(domain: int, host: str) -> bool:
    """Whether *host* is an address of the family *domain*, not a name."""
    try:
        socket.inet_pton(domain, host.partition("%")[0])
    except (OSError, ValueError):
        return False
    return True


def host_of(address: Address) -> str:
    """Return the host of *address*, which is to be a tuple for AF_INET or AF_INET6."""
    if not isinstance(address, tuple) or len(address) < 2:
        raise TypeError(f"an address is a tuple of a host and a port, not {address!r}")
    host = address[0]
    if isinstance(host, (bytes, bytearray)):
        host = host.decode("ascii")
    if not isinstance(host, str):
        raise TypeError(f"a host is a str, not {host!r}")
    if "\0" in host:
        raise ValueError(f"there is no NUL in a host: {host!r}")
    return host


def resolved(domain: int, stype: int, address: Address, resolve: bool = True) -> Address:
    """Return *address* of the family AF_INET or AF_INET6 with a number for a host that is a name."""
    host = host_of(address)
    if host in ("", "<broadcast>") or is_literal(domain, host):
        return (host, *address[1:])
    other = socket.AF_INET if domain == socket.AF_INET6 else socket.AF_INET6
    if is_literal(other, host):
        raise ValueError(f"{host!r} is an address of another family than the socket, which has {domain!r}")
    if not resolve:
        raise ValueError(f"{host!r} is no address: a name must be resolved before")
    found = lookup(host, None, domain, stype)[0][4]
    return (found[0], *address[1:], *found[len(address) :])


def create_connection(
    address: tuple[str, int], timeout: float | None = None, source_address: Address | None = None
) -> sock:
    """Connect to *address* by TCP over whichever of IPv6 and IPv4 works, and return the socket.

    The addresses of the host are tried in the order of `socket.getaddrinfo`, but with the two families in turn.  The
    next one is begun when one has failed, or after 250 ms while the earlier ones go on: the first connection wins, the
    others are closed (RFC 8305).

    Args:
        address: a host, name or number, and a port.
        timeout: seconds for all of this; None for no limit.
        source_address: what to bind to before; None for nothing.

    Raises `coro.TimeoutError` when the time is over, `socket.gaierror` for an unknown name, and if there is no
    connection its error; of several an OSError whose ``__cause__`` is the ExceptionGroup of all.
    """
    if timeout is not None:
        from .timeouts import with_timeout

        return with_timeout(timeout, create_connection, address, None, source_address)
    kernel, me = calling()
    host, port = host_of(address), address[1]
    for family in (socket.AF_INET, socket.AF_INET6):
        if is_literal(family, host):
            return connected(family, address, source_address)
    found = [(info[0], info[4]) for info in lookup(host, port, socket.AF_UNSPEC, socket.SOCK_STREAM)]
    first = [item for item in found if item[0] == found[0][0]]
    second = [item for item in found if item[0] != found[0][0]]
    turns = [item for pair in itertools.zip_longest(first, second) for item in pair if item is not None]
    if len(turns) == 1:
        return connected(turns[0][0], turns[0][1], source_address)

    winner: list[sock] = []
    errors: list[Exception] = []
    attempts: list[coro] = []
    waiting = True

    def attempt(family: int, target: Address) -> None:
        try:
            new = connected(family, target, source_address)
        except Exception as exc:
            errors.append(exc)
        else:
            if winner or not waiting:
                new.close()
            else:
                winner.append(new)
        if waiting:
            kernel.wake(me)

    try:
        for family, target in turns:
            failed = len(errors)
            attempts.append(spawn(attempt, family, target))
            when = monotonic() + HEAD_START
            kernel.add_timer(when, me)
            try:
                while not winner and len(errors) == failed and monotonic() < when:
                    kernel.park(me)
            finally:
                kernel.cancel_timer(when, me)
            if winner:
                break
        while not winner and len(errors) < len(attempts):
            kernel.park(me)
        if winner:
            return winner.pop()
    finally:
        waiting = False
        for co in attempts:
            co.shutdown()
        for new in winner:  # interrupted just then
            new.close()
    numbers = {exc.errno for exc in errors if isinstance(exc, OSError)}
    raise OSError(
        numbers.pop() if len(numbers) == 1 else None,
        f"none of the {len(errors)} addresses of {host!r} can be connected to",
    ) from ExceptionGroup(f"connecting to {host}:{port}", errors)


def connected(family: int, address: Address, source_address: Address | None) -> sock:
    """Return a new TCP socket that is connected to *address*."""
    new = sock(family, socket.SOCK_STREAM)
    try:
        if source_address is not None:
            new.bind(source_address)
        new.connect(address)
    except BaseException:
        new.close()
        raise
    return new


def create_server(
    address: Address,
    *,
    family: int = AF.INET,
    backlog: int = socket.SOMAXCONN,
    reuse_port: bool = False,
    dualstack_ipv6: bool = False,
) -> sock:
    """Return a TCP socket that listens on *address*, whose host may be a name.

    The address may be one that connections of an earlier server still use (not on Windows, where that is never safe).

    Args:
        address: a host, "" for all addresses of the machine, and a port, 0 for any that is free.
        family: ``AF.INET`` or ``AF.INET6``.
        backlog: how many connections may wait for `accept`.
        reuse_port: let several sockets listen on the same port (``SO_REUSEPORT``).
        dualstack_ipv6: take IPv4 connections too; with ``AF.INET6`` only.

    Raises what `socket.create_server` does.
    """
    address = resolved(family, socket.SOCK_STREAM, address)
    return wrapped(
        socket.create_server(
            address, family=family, backlog=backlog, reuse_port=reuse_port, dualstack_ipv6=dualstack_ipv6
        )
    )
