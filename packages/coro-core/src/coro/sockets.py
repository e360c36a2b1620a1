"""Sockets whose calls block the coroutine instead of the thread, and other descriptors that are used like them.

Stands on the standard library's socket objects, so options, families, addresses and errors are Python's own, and on the
table of descriptors of `coro.kernel`.  What a socket does beyond single reads and writes is in `coro.transfers`, what
makes and connects sockets in `coro.connect`, and what becomes of the names of hosts in `coro.names`.

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

A stream of AF_UNIX also ends a read where descriptors were passed, so once `sock.recvmsg` has been used, which is how
one gets them, a short read proves nothing any more.

One coroutine may read from a socket and one may write to it at the same time.  While one waits in the middle of a call,
a second one for the same direction is refused, since the two would get in the midst of each other's data.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
import warnings
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace, TracebackType
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol, TypeVar, overload

from .coroutine import coro
from .exceptions import ClosedError, SimultaneousError
from .kernel import READ, WRITE, Descriptor, Kernel, adopted, calling, outside, this_kernel, worker
from .names import resolved
from .oserrors import class_for, mapped, raise_specific
from .transfers import LARGEST_READ, Transfers, check_room, message_size
from .transfers import Address as Address
from .verbs import HasFileno, current, descriptor_number, forget, sleep_relative, yield_slice

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

__all__ = [
    "AF",
    "PF",
    "SHUT",
    "SO",
    "SOCK",
    "SOL",
    "coro_fd",
    "fd_sock",
    "file_sock",
    "get_live_sockets",
    "sock",
]

T = TypeVar("T")


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


class ReadsAndWrites(Protocol):
    """What a `sock` reads from and writes to: a socket of the standard library, or what is used like one here."""

    def recv(self, size: int, /) -> bytes: ...
    def send(self, data: ReadableBuffer, /) -> int: ...


class NoSocket:
    """A descriptor that is no socket: a pipe, a terminal."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def recv(self, size: int, /) -> bytes:
        return os.read(self.fd, size)

    def send(self, data: ReadableBuffer, /) -> int:
        return os.write(self.fd, data)


class Closed:
    """What is left after a `close`."""

    __slots__ = ("closer", "fd")

    def __init__(self, fd: int, closer: coro) -> None:
        self.fd = fd
        self.closer = closer

    def refuse(self, *args: object) -> NoReturn:
        text = f"the socket with descriptor {self.fd} was closed by {self.closer!r} and cannot be used any more"
        raise ClosedError(text, self.closer)

    recv = send = refuse


_live: Final[set[int]] = set()  # the sock objects that there are, by identity: adding and removing are atomic


class sock(Transfers):
    """A socket that blocks the calling coroutine only.  Closed by `close`, or at the end of a ``with``.

    Args:
        domain: the address family, such as ``AF.INET``.
        stype: the kind, such as ``SOCK.STREAM``.
        protocol: the number of the protocol; 0 for the usual one.
        fd: a descriptor to wrap instead of opening a socket: a socket, whose family and kind are then its own, or a
            pipe, terminal and the like.  It is made non-blocking, belongs to this object and is closed by it.  All who
            share what it stands for, other processes too, then have it non-blocking, for good: do not wrap a terminal
            or another descriptor that was inherited, but see `coro.files.open`, as ``open(0, closefd=False)``.

    Attributes:
        fd: the descriptor, -1 after `close`.
        orig_fd: the descriptor, also after `close`.
        domain, stype, protocol: as above; ``AF.UNSPEC`` and 0 for what is no socket.

    All data are bytes; what is sent may be any object of the buffer protocol.  Addresses are those of the standard
    library.  A host may be a name where the method says so; it is looked up in a thread.

    Every method that may block, and by that all that reads or writes, accepts or connects, raises `YieldFromMain`
    outside a coroutine, `ClosedError` when the socket is closed before or meanwhile, and `SimultaneousError` when
    another coroutine waits to do the same with this socket.  A timeout or another exception that interrupts a wait
    leaves the socket usable.  All errors of the system are `OSError`, with the class that `coro.oserrors` has for their
    errno.
    """

    __slots__ = (
        "__weakref__",
        "_entry",
        "_io",
        "_kernel",
        "_socket",
        "domain",
        "fd",
        "orig_fd",
        "protocol",
        "stype",
    )

    @mapped()
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
        self._io: ReadsAndWrites = NoSocket(number)
        self.domain, self.stype, self.protocol = socket.AF_UNSPEC, 0, 0
        self._open(number)
        self._entry.readable = True

    def _adopt(self, std: socket.socket) -> None:
        """Become what *std* is."""
        std.setblocking(False)
        self._socket = std
        self._io = std
        self._stream = std.type == socket.SOCK_STREAM  # where a short read means that nothing is left
        self.domain, self.stype, self.protocol = std.family, std.type, std.proto
        self._open(std.fileno())

    def _open(self, fd: int) -> None:
        self._kernel: Kernel | None = None  # that has the descriptor in its table
        self._sender = None
        self._entry = Descriptor(fd, owned=True)
        self._entry.writable = True
        self.fd = self.orig_fd = fd
        _live.add(id(self))

    # -- waiting -----------------------------------------------------------------------------------------------------

    def _refuse(self, co: coro, other: coro, mask: int) -> None:
        if not other._dead:  # it was abandoned at the end of an earlier loop
            raise SimultaneousError(co, other, (self.fd, "read" if mask == READ else "write"))

    def _give_way(self, co: coro, mask: int) -> None:
        """Let all others run, but nobody in between what *co* reads or writes."""
        co._allowance = co._selfishness
        if co._kernel.nobody_else():
            return
        try:
            if mask == READ:
                self._entry.reader = co
            else:
                self._entry.writer = co
            yield_slice()
        finally:  # by now it may be another entry: see _arm
            if mask == READ:
                self._entry.reader = None
            else:
                self._entry.writer = None

    @mapped()
    def _arm(self, kernel: Kernel, co: coro, mask: int) -> Descriptor:
        """See to it that the poller will report *mask*, in the loop that runs now."""
        entry = self._entry
        if kernel.fds.get(entry.fd) is not entry:
            for other, direction in ((entry.reader, READ), (entry.writer, WRITE)):
                if other is not None and other._kernel is not kernel:
                    self._refuse(co, other, direction)
            old, former = entry, self._kernel
            entry = self._entry = kernel.own(self.fd, mask)
            self._kernel = kernel
            if old.reader is not None and not old.reader._dead:  # it is giving way
                entry.reader = old.reader
            if old.writer is not None and not old.writer._dead:
                entry.writer = old.writer
            old.reader = old.writer = None
            if former is not None and former is not kernel and former.running:
                former.inbox.append(partial(forget, former, old, co))  # the number may come to mean something else
                former.wake_up()
        elif not entry.edge:
            kernel.arm(entry, mask)
        return entry

    def _wait(self, kernel: Kernel, co: coro, mask: int) -> None:
        """Park *co* until the poller says that the descriptor is ready for *mask*.  (`recv` spells this out.)"""
        entry = self._entry
        if entry.kernel is not kernel:
            entry = self._arm(kernel, co, mask)
        try:
            if mask == READ:
                entry.reader = co
            else:
                entry.writer = co
            while not (entry.readable if mask == READ else entry.writable):
                kernel.park(co)
        finally:
            if mask == READ:
                entry.reader = None
            else:
                entry.writer = None
        co._allowance = co._selfishness

    def _attempt(self, mask: int, call: Callable[..., T], *args: Any) -> T:
        """Return ``call(*args)``, tried until it does not fail with EAGAIN.  It reads or writes, as *mask* says."""
        try:  # `calling`, spelt out: a frame, an eighth of what a datagram costs beside the system
            kernel = worker().kernel
            co: Any = kernel.current
            allowance = co._allowance  # which None has not
        except AttributeError:
            kernel, co = calling()
            allowance = co._allowance
        entry = self._entry
        if mask == READ:
            other, goes = entry.reader, entry.readable
        else:
            other, goes = entry.writer, entry.writable
        if other is not None:
            self._refuse(co, other, mask)
        if goes:
            if not allowance:
                self._give_way(co, mask)
                entry = self._entry
                goes = entry.readable if mask == READ else entry.writable
                allowance = co._selfishness
            co._allowance = allowance - 1
        while True:
            if goes:
                if self.fd < 0:
                    self._raise_closed()
                try:
                    return call(*args)
                except BlockingIOError:
                    if mask == READ:
                        entry.readable = entry.hung_up = False
                    else:
                        entry.writable = False
                except OSError as exc:
                    raise_specific(exc)
                    raise
            self._wait(kernel, co, mask)
            entry = self._entry
            goes = True

    def wait_for_read(self) -> None:
        """Block until a read or an accept would not block.  The end of the stream and errors count as readable."""
        self._wait_anew(READ)

    def wait_for_write(self) -> None:
        """Block until a write would not block, or a connect is decided."""
        self._wait_anew(WRITE)

    @mapped()
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
        if flags or not 0 < size <= LARGEST_READ:
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
                entry = self._entry
            co._allowance -= 1
        else:  # _wait and Kernel.park, spelt out: two frames less for each request
            if entry.kernel is not kernel:
                entry = self._arm(kernel, co, READ)
            try:
                entry.reader = co
                while not entry.readable:
                    ready = kernel.ready
                    (ready.popleft() if ready else kernel.next_pass())()
                    kernel.current = co
                    co._scheduled = 0
                    if co._pending is not None:
                        kernel.settle(co)
            except BaseException as exc:
                if exc is not kernel.settled:  # as in Kernel.park
                    kernel.ready.appendleft(partial(kernel.repair, co))
                    kernel.current = co
                    co._scheduled = 0
                kernel.settled = None
                raise
            finally:
                entry.reader = None
            co._allowance = co._selfishness
        while True:
            try:
                data = self._io.recv(size)
            except BlockingIOError:
                entry.readable = entry.hung_up = False
            except OSError as exc:
                raise_specific(exc)
                raise
            else:
                if len(data) < size and self._stream and not entry.hung_up:
                    entry.readable = False
                return data
            self._wait(kernel, co, READ)  # not in the handler: what is raised in it has nothing to do with that error
            entry = self._entry

    read = recv

    def _recv_specially(self, size: int, flags: int) -> bytes:
        size = message_size(size)
        if self.fd < 0:
            self._raise_closed()
        if size == 0:
            return b""
        if not flags:
            return self._attempt(READ, self._io.recv, size)
        return self._attempt(READ, self._std().recv, size, flags)  # it may leave behind what it returns

    def recv_into(self, buffer: WriteableBuffer, nbytes: int = 0, flags: int = 0) -> int:
        """Like `recv`, into *buffer*, a writable object.

        Args:
            buffer: where to put the data.
            nbytes: how many bytes at most; 0 for as many as the buffer has room for.
            flags: as of recv(2).

        Returns how many bytes; 0 at the end of the stream.  ValueError if *nbytes* is negative or too many.
        """
        with memoryview(buffer) as view, view.cast("B") as target:
            check_room(nbytes, target)
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
                entry = self._entry
            co._allowance -= 1
            if type(data) is bytes and not flags:
                try:
                    sent = self._io.send(data)
                    if sent == len(data):
                        return sent
                except BlockingIOError:
                    pass
                except OSError as exc:
                    raise_specific(exc)
                    raise
                entry.writable = False
        return self._send_rest(co, data, sent, flags)

    sendall = write = send

    def _send_rest(self, co: coro, data: ReadableBuffer, sent: int, flags: int) -> int:
        """Send what is in *data* behind the first *sent* bytes.  Returns the length of all."""
        if flags:
            self._std()
        with memoryview(data) as view, view.cast("B") as octets:
            while True:
                if not self._entry.writable:
                    self._wait(co._kernel, co, WRITE)
                try:
                    with octets[sent:] as rest:
                        sent += self._std().send(rest, flags) if flags else self._io.send(rest)
                except BlockingIOError:
                    pass
                except OSError as exc:
                    raise_specific(exc)
                    raise
                if sent >= octets.nbytes:
                    return sent
                self._entry.writable = False  # it took a part: it is full

    # -- connections -------------------------------------------------------------------------------------------------

    def connect(self, address: Address) -> None:
        """Connect to *address*, whose host may be a name.

        Returns when the connection is there; raises the error if there is none: ConnectionRefusedError and the like,
        `socket.gaierror` if the name cannot be resolved, ValueError for an address of another family.
        """
        self.connect_addr(address, resolve=True)

    def connect_addr(self, address: Address, resolve: bool = False) -> None:
        """Like `connect`, but a host that is a name is a ValueError unless *resolve* is true."""
        kernel, co = calling()  # first: outside a coroutine nothing is begun
        address = self._resolved(address, resolve)
        entry = self._entry
        if entry.writer is not None:
            self._refuse(co, entry.writer, WRITE)
        if entry.writable:
            if not co._allowance:
                self._give_way(co, WRITE)
            co._allowance -= 1
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
            raise class_for(error)(error, f"{os.strerror(error)}: connect to {address!r}")

    @mapped()
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

    @mapped()
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

    @mapped()
    def shutdown(self, how: int) -> None:
        """Shut down one direction or both: ``SHUT.RD``, ``SHUT.WR`` or ``SHUT.RDWR``."""
        self._std().shutdown(how)

    @mapped()
    def getsockname(self) -> Address:
        """Return the address of this end."""
        return self._std().getsockname()

    @mapped()
    def getpeername(self) -> Address:
        """Return the address of the other end.  OSError (``ENOTCONN``) if there is none."""
        return self._std().getpeername()

    @overload
    def getsockopt(self, level: int, option: int) -> int: ...
    @overload
    def getsockopt(self, level: int, option: int, buflen: int) -> bytes: ...

    @mapped()
    def getsockopt(self, level: int, option: int, buflen: int = 0) -> int | bytes:
        """Return an option: an int, or with *buflen* that many bytes."""
        std = self._std()
        return std.getsockopt(level, option, buflen) if buflen else std.getsockopt(level, option)

    @mapped()
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

    @mapped()
    def dup(self) -> sock:
        """Return another socket object for the same socket, with a descriptor of its own."""
        if self._socket is not None:
            return wrapped(self._std().dup())
        if self.fd < 0:
            self._raise_closed()
        return fd_sock(os.dup(self.fd))

    @mapped()
    def get_inheritable(self) -> bool:
        """Return whether programs that are executed get the descriptor too; at first they do not."""
        return self._std().get_inheritable() if self._socket or self.fd < 0 else os.get_inheritable(self.fd)

    @mapped()
    def set_inheritable(self, inheritable: bool) -> None:
        """Set whether programs that are executed get the descriptor too."""
        if self._socket or self.fd < 0:
            self._std().set_inheritable(inheritable)
        else:
            os.set_inheritable(self.fd, inheritable)

    def detach(self) -> int:
        """Give the descriptor up without closing it, and return its number; -1 after `close`.

        It does not block, see `os.set_blocking`.  This object is closed then, and those that wait get a `ClosedError`.
        """
        fd = self.fd
        if fd >= 0:
            self._give_up()
            if self._socket is not None:
                self._socket.detach()
        return fd

    @mapped()
    def close(self) -> None:
        """Close the descriptor.  Raises `ClosedError` in those that wait for it.  May be called twice."""
        fd = self.fd
        if fd >= 0:
            self._give_up()
            self._close(fd)

    def _give_up(self) -> None:
        """Let nobody use the descriptor any more."""
        fd, entry, kernel = self.fd, self._entry, self._kernel
        closer = current()
        self._io = Closed(fd, closer)
        self.fd = -1
        here = this_kernel()
        known = here.fds.get(fd)
        if known is not None:
            forget(here, known, closer)  # before the number can be in use again
        if kernel is not None and kernel is not here and kernel.running:
            kernel.inbox.append(partial(forget, kernel, entry, closer))
            kernel.wake_up()
        entry.readable = entry.writable = True

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

    # With what it needs: at the exit of the interpreter the globals of this module may be gone.
    def __del__(self, live: set[int] = _live, exiting: Callable[[], bool] = sys.is_finalizing) -> None:
        live.discard(id(self))
        if getattr(self, "fd", -1) >= 0 and not exiting():
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
            raise class_for(errno.ENOTSOCK)(errno.ENOTSOCK, f"{self!r} is no socket")
        return self._socket

    def _raise_closed(self) -> NoReturn:
        assert isinstance(self._io, Closed)
        self._io.refuse()

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


def wrapped(std: socket.socket) -> sock:
    """Return a `sock` that stands on *std*, and owns it."""
    new = sock.__new__(sock)
    new.fd = new.orig_fd = -1
    new._adopt(std)
    return new


class fd_sock(sock):
    """A descriptor used like a socket: that of a socket, pipe or terminal.  Closed with this object.

    It is made non-blocking for all who share it.  For one that was inherited, such as a terminal, use
    ``coro.files.open(0, closefd=False)``, which leaves that alone.
    """

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

    def __del__(self, live: set[int] = _live, exiting: Callable[[], bool] = sys.is_finalizing) -> None:
        live.discard(id(self))
        if getattr(self, "fd", -1) >= 0 and not exiting():
            if self._socket is not None:
                self._socket.detach()
            known = this_kernel().fds.get(self.fd)
            if known is self._entry:
                forget(this_kernel(), known, current())


coro_fd = file_sock  #: Shrapnel's other name for `file_sock`.


def get_live_sockets() -> int:
    """Return how many `sock` objects there are, those that are closed but still held included."""
    return len(_live)
