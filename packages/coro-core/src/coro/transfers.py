"""What a socket does beyond single reads and writes: messages, pieces of exact sizes, vectors and files.

The base of `coro.sockets.sock`, and made of its `recv`, `send` and `_attempt`; nothing in here parks.
"""

from __future__ import annotations

import errno
import io
import os
import socket
import stat
from abc import abstractmethod
from collections.abc import Callable, Iterable
from functools import partial
from typing import IO, TYPE_CHECKING, Any, Final, NoReturn, TypeVar

from .kernel import READ, WRITE
from .oserrors import mapped

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

    from .sockets import ReadsAndWrites, sock

T = TypeVar("T")
Address = Any  # as of the standard library: a tuple for IPv4 and IPv6, a str or bytes for AF_UNIX
Ancillary = tuple[int, int, Any]  # level, type and data of one item beside a message, such as descriptors

LARGEST_READ: Final = 2**18  # bytes of a stream in one system call: the room for them is made before
LARGEST_MESSAGE: Final = 2**24  # bytes: no system has datagrams of that size
LARGEST_SENDFILE: Final = 2**30  # bytes in one system call
MOST_BUFFERS: Final = os.sysconf("SC_IOV_MAX") if "SC_IOV_MAX" in getattr(os, "sysconf_names", ()) else 16


class Transfers:
    """The methods of a socket that are made of others."""

    __slots__ = ("_sender", "_stream")

    _sender: Address  # of the last datagram: to answer it needs no look at the address
    _stream: bool  # a short read means that nothing is left

    if TYPE_CHECKING:  # what `sock` has
        domain: int
        fd: int
        protocol: int
        stype: int
        _io: ReadsAndWrites
        _socket: socket.socket | None

        @abstractmethod
        def recv(self, size: int, flags: int = 0) -> bytes: ...
        @abstractmethod
        def send(self, data: ReadableBuffer, flags: int = 0) -> int: ...
        @abstractmethod
        def dup(self) -> sock: ...
        @abstractmethod
        def _attempt(self, mask: int, call: Callable[..., T], *args: Any) -> T: ...
        @abstractmethod
        def _resolved(self, address: Address, resolve: bool = True) -> Address: ...
        @abstractmethod
        def _std(self) -> socket.socket: ...
        @abstractmethod
        def _raise_closed(self) -> NoReturn: ...

    # -- by the names of the standard library ------------------------------------------------------------------------

    @property
    def family(self) -> int:
        """The address family, as `domain`."""
        return self.domain

    @property
    def type(self) -> int:
        """The kind, as `stype`."""
        return self.stype

    @property
    def proto(self) -> int:
        """The number of the protocol, as `protocol`."""
        return self.protocol

    # -- reading -----------------------------------------------------------------------------------------------------

    def recvfrom(self, size: int, flags: int = 0) -> tuple[bytes, Address]:
        """Like `recv`, for one datagram; returns it and the address of its sender."""
        std = self._socket or self._std()
        if not 0 <= size <= LARGEST_MESSAGE:
            size = message_size(size)
        found = self._attempt(READ, std.recvfrom, size, flags)
        self._sender = found[1]
        return found

    def recvfrom_into(self, buffer: WriteableBuffer, nbytes: int = 0, flags: int = 0) -> tuple[int, Address]:
        """Like `recv_into`, for one datagram; returns how many bytes it has and the address of its sender."""
        std = self._std()
        with memoryview(buffer) as view, view.cast("B") as target:
            check_room(nbytes, target)
            return self._attempt(READ, std.recvfrom_into, target, nbytes, flags)

    def recvmsg(self, size: int, ancsize: int = 0, flags: int = 0) -> tuple[bytes, list[Ancillary], int, Address]:
        """Like `recv`, together with what comes beside the data, such as descriptors.  Not on Windows.

        Args:
            size: how many bytes at most.
            ancsize: room for what comes beside them, in bytes: `socket.CMSG_SPACE` says how much.
            flags: as of recvmsg(2).

        Returns the data, a list of ``(level, type, data)``, flags as ``socket.MSG_CTRUNC`` for what did not find room,
        and the address of the sender if there is one.  `socket.recv_fds` works with this method.  ValueError for
        negative sizes.
        """
        self._stream = False  # from now on: a stream with something beside it ends a read where that begins
        return self._attempt(READ, self._std().recvmsg, message_size(size), message_size(ancsize), flags)

    def recvmsg_into(
        self, buffers: Iterable[WriteableBuffer], ancsize: int = 0, flags: int = 0
    ) -> tuple[int, list[Ancillary], int, Address]:
        """Like `recvmsg`, into *buffers*, writable objects, one after the other.  Returns how many bytes, and so on."""
        most = octets(buffers)
        for view in most:
            check_room(0, view)
        if self.stype == socket.SOCK_STREAM:
            most = most[:MOST_BUFFERS]  # what does not fit stays for the next call
        self._stream = False  # as in recvmsg
        return self._attempt(READ, self._std().recvmsg_into, most, message_size(ancsize), flags)

    def recv_exact(self, size: int) -> bytes:
        """Return exactly *size* bytes.

        Raises `EOFError` if the stream ends before; its argument is what there was.  ValueError for a negative size.
        When it is interrupted, what had arrived is lost.
        """
        data = self._collect(size)
        if len(data) < size:
            raise EOFError(data)
        return data

    def readv(self, sizes: Iterable[int]) -> tuple[bytes, ...]:
        """Return pieces of exactly these sizes.

        If the stream ends before, only those that are complete and the beginning of the next one; ``()`` if there is
        nothing at all.  ValueError for a negative size.  When it is interrupted, what had arrived is lost.
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

    def sendto(self, data: ReadableBuffer, address: Address, flags: int = 0) -> int:
        """Send one datagram to *address*, whose host may be a name.  Returns how many bytes were sent."""
        if address is not self._sender:
            address = self._resolved(address)
        std = self._socket or self._std()
        return self._attempt(WRITE, std.sendto, data, flags, address)

    def sendmsg(
        self,
        buffers: Iterable[ReadableBuffer],
        ancdata: Iterable[tuple[int, int, ReadableBuffer]] = (),
        flags: int = 0,
        address: Address | None = None,
    ) -> int:
        """Send all of *buffers*, as one message unless it is a stream, and *ancdata* beside it.  Not on Windows.

        Args:
            buffers: the data.  A stream takes descriptors only together with at least one byte.
            ancdata: what to send beside them: ``(level, type, data)`` each.
            flags: as of sendmsg(2).
            address: where to, for datagrams; None for the other end.  Its host may be a name.

        Returns how many bytes were sent, which is always all.  `socket.send_fds` works with this method.
        """
        views = octets(buffers)
        beside = list(ancdata)
        if address is not None:
            address = self._resolved(address)
        std = self._std()
        if self.stype != socket.SOCK_STREAM:
            return self._attempt(WRITE, std.sendmsg, views, beside, flags, address)
        sent = self._attempt(WRITE, std.sendmsg, views[:MOST_BUFFERS], beside, flags)
        return self._write_all(views, sent, lambda rest: std.sendmsg(rest, (), flags))

    def _send_part(self, data: ReadableBuffer) -> int:
        """Send as much of *data* as goes at once, at least something.  Returns how many bytes.

        When it is interrupted, nothing has been sent.
        """
        return self._attempt(WRITE, self._io.send, data)

    def writev(self, buffers: Iterable[ReadableBuffer]) -> int:
        """Send all of these, without joining them first.  Returns how many bytes they are."""
        views = octets(buffers)
        if self._socket is not None and hasattr(self._socket, "sendmsg"):
            return self._write_all(views, 0, self._socket.sendmsg)
        if self._socket is None and self.fd >= 0:
            return self._write_all(views, 0, partial(os.writev, self.fd))
        return self.send(b"".join(views))

    def _write_all(self, views: list[memoryview], sent: int, call: Callable[[list[memoryview]], int]) -> int:
        """Send what is in *views* behind the first *sent* bytes.  Returns the length of all."""
        views = [view for view in views if view.nbytes]
        total = sum(view.nbytes for view in views)
        done = 0
        while True:
            while done < len(views) and sent >= views[done].nbytes:
                sent -= views[done].nbytes
                done += 1
            if done == len(views):
                return total
            views[done] = views[done][sent:]
            sent = self._attempt(WRITE, call, views[done : done + MOST_BUFFERS])

    @mapped()
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
                    try:
                        sent = self._attempt(WRITE, self._sendfile, number, offset + total, most)
                    except OSError as exc:
                        if total or exc.errno not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                            raise
                        regular = False  # not with this file, such as those of /proc
                        continue
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

    # -- files -------------------------------------------------------------------------------------------------------

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
            bufsize: the size of the buffers in bytes; -1 for the usual one, 0 (only with "b") for none.  Without one,
                ``write`` sends what goes at once, and returns how many bytes that was.
            encoding, errors, newline: as of `open`.

        When a write or a flush is interrupted, what was written before stays in the buffer until it is sent, and
        nothing is sent twice; of the data of that write nobody knows how much has been sent.  When a read with a buffer
        is interrupted, what had arrived of it is lost: `coro.read_stream` is for those who go on after that.
        ``close`` flushes, and may block for that, even where an interrupt leaves a ``with`` block.

        ValueError for another mode, or for text without a buffer.
        """
        if not mode or not set(mode) <= set("rwb") or not set(mode) & set("rw"):
            raise ValueError(f"the mode of a socket's file is made of 'r', 'w' and 'b', not {mode!r}")
        if bufsize == 0 and "b" not in mode:
            raise ValueError("text needs a buffer: give 'b' in the mode, or another bufsize than 0")
        raw = SocketIO(self.dup(), mode)
        if bufsize == 0:
            return raw  # type: ignore[return-value]
        try:
            size = io.DEFAULT_BUFFER_SIZE if bufsize < 0 else bufsize
            if "r" in mode and "w" in mode:
                buffered: Any = io.BufferedRWPair(raw, raw, size)
            else:
                buffered = io.BufferedReader(raw, size) if "r" in mode else io.BufferedWriter(raw, size)
            if "b" in mode:
                return buffered  # type: ignore[no-any-return]
            # Written through, since what text waits in the wrapper itself is lost when a write is interrupted.
            return io.TextIOWrapper(buffered, encoding, errors, newline, write_through=True)
        except BaseException:
            raw.close()
            raise


class SocketIO(io.RawIOBase):
    """The unbuffered file of `sock.makefile`.  Owns its socket."""

    def __init__(self, owned: sock, mode: str) -> None:
        self._sock = owned
        self._send: Callable[[ReadableBuffer], int] = owned._send_part
        self.mode = mode
        self.name = owned.fd

    def readable(self) -> bool:
        return "r" in self.mode

    def writable(self) -> bool:
        return "w" in self.mode

    def readinto(self, buffer: WriteableBuffer) -> int:
        if self.closed:
            raise ValueError("cannot read from a file of a socket that is closed")
        if not self.readable():
            raise io.UnsupportedOperation("this file of a socket is for writing only")
        return self._sock.recv_into(buffer)

    def write(self, data: ReadableBuffer) -> int:
        if self.closed:
            raise ValueError("cannot write to a file of a socket that is closed")
        if not self.writable():
            raise io.UnsupportedOperation("this file of a socket is for reading only")
        return self._send(data)

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._sock.close()


def message_size(size: int) -> int:
    """Return *size*, or less where no message can be that long: the room for it is made before."""
    if size < 0:
        raise ValueError(f"cannot receive {size} bytes")
    return min(size, LARGEST_MESSAGE)


def check_room(nbytes: int, target: memoryview) -> None:
    """Refuse to receive so many bytes into *target*; 0 stands for as many as it has room for."""
    if target.readonly:
        raise TypeError(f"cannot receive into what is read-only: {target.obj!r}")
    if nbytes < 0 or nbytes > target.nbytes:
        raise ValueError(f"cannot receive {nbytes} bytes into a buffer of {target.nbytes}")


def octets(buffers: Iterable[ReadableBuffer]) -> list[memoryview]:
    """Return views of the bytes in *buffers*."""
    return [memoryview(buffer).cast("B") for buffer in buffers]
