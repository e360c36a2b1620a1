"""Read lines and pieces of given length from a stream of bytes.

Stands on nothing but the object that it reads from: a socket, a file, or a function that returns blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, Literal, overload

from .sync import check_count

__all__ = ["LineTooLong", "buffered_stream", "sock_stream"]

BLOCK: Final = 2**13  # bytes to ask for at once
LIMIT: Final = 2**20  # bytes

Bytes = bytes | bytearray


class LineTooLong(ValueError):
    """A line is longer than the limit of its stream.

    What has been read of it is still there, so `buffered_stream.gen_read_until` can get past it.

    Attributes:
        limit: how long a line may be, in bytes.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit

    def __str__(self) -> str:
        return f"a line is longer than {self.limit} bytes: read it with gen_read_until(), or give the stream a limit"


class buffered_stream:
    """Takes lines and pieces out of blocks of bytes, wherever the blocks begin and end.

    Args:
        producer: a function without arguments that returns the next block, and b"" at the end of the stream.  It may
            block.
        limit: how many bytes a line may have at most, its delimiter included.

    At the end of the stream the methods return what is left, then b"".  So b"" is always the end, and a line without
    its delimiter is the last one, cut short.  What the producer raises passes through and loses nothing: after a
    timeout the same call can be made again.  TypeError for what is no int or no bytes, ValueError for a negative number
    and for an empty delimiter.
    """

    def __init__(self, producer: Callable[[], Bytes], limit: int = LIMIT) -> None:
        if not callable(producer):
            raise TypeError(f"a producer is a function that returns bytes, not {producer!r}")
        check_count(limit, "the limit of a stream", 1)
        self._producer = producer
        self._limit = limit
        self._buffer = bytearray()

    @overload
    def read_until(self, delim: Bytes, join: Literal[True] = True) -> bytes: ...
    @overload
    def read_until(self, delim: Bytes, join: Literal[False]) -> Iterator[bytes]: ...

    def read_until(self, delim: Bytes, join: bool = True) -> bytes | Iterator[bytes]:
        """Return everything up to *delim*, and *delim* itself.

        Args:
            delim: one byte or more.
            join: false for `gen_read_until`.

        Raises `LineTooLong` when that is more than the limit.
        """
        if not join:
            return self.gen_read_until(delim)
        check_delimiter(delim)
        buffer = self._buffer
        searched = 0
        while (found := buffer.find(delim, searched)) < 0:
            if len(buffer) > self._limit:
                raise LineTooLong(self._limit)
            searched = max(0, len(buffer) - len(delim) + 1)  # the delimiter may have begun
            if not self._more():
                return self._take(len(buffer))
        if found + len(delim) > self._limit:
            raise LineTooLong(self._limit)
        return self._take(found + len(delim))

    def gen_read_until(self, delim: Bytes) -> Iterator[bytes]:
        """Return an iterator over pieces that make up what `read_until` returns.  It has no limit."""
        check_delimiter(delim)
        return self._pieces_until(bytes(delim))

    def _pieces_until(self, delim: bytes) -> Iterator[bytes]:
        buffer = self._buffer
        while (found := buffer.find(delim)) < 0:
            if len(buffer) >= len(delim):
                yield self._take(len(buffer) - len(delim) + 1)  # the rest may be the beginning of the delimiter
            elif not self._more():
                if buffer:
                    yield self._take(len(buffer))
                return
        yield self._take(found + len(delim))

    def read_line(self, delim: Bytes = b"\r\n") -> bytes:
        """Do ``read_until(delim)``; by default for lines that end in CRLF."""
        return self.read_until(delim)

    @overload
    def read_exact(self, size: int, join: Literal[True] = True) -> bytes: ...
    @overload
    def read_exact(self, size: int, join: Literal[False]) -> Iterator[bytes]: ...

    def read_exact(self, size: int, join: bool = True) -> bytes | Iterator[bytes]:
        """Return *size* bytes; fewer only if the stream ends before.

        Args:
            size: how many bytes.
            join: false for `gen_read_exact`.
        """
        if not join:
            return self.gen_read_exact(size)
        check_count(size, "a number of bytes")
        while len(self._buffer) < size and self._more():
            pass
        return self._take(size)

    def gen_read_exact(self, size: int) -> Iterator[bytes]:
        """Return an iterator over pieces that make up what `read_exact` returns."""
        check_count(size, "a number of bytes")
        return self._pieces_of(size)

    def _pieces_of(self, size: int) -> Iterator[bytes]:
        while size and (self._buffer or self._more()):
            piece = self._take(size)
            size -= len(piece)
            yield piece

    def read_all(self) -> Iterator[bytes]:
        """Return an iterator over blocks, as they come, to the end of the stream."""
        while self._buffer or self._more():
            yield self.flush()

    def flush(self) -> bytes:
        """Return what has been read ahead, and forget it.  Never blocks."""
        return self._take(len(self._buffer))

    def _more(self) -> bool:
        """Read another block.  Returns whether there was one."""
        block = self._producer()
        self._buffer += block
        return len(block) > 0

    def _take(self, size: int) -> bytes:
        """Return the first *size* bytes of the buffer and remove them."""
        with memoryview(self._buffer) as view:
            taken = bytes(view[:size])
        del self._buffer[:size]
        return taken


def sock_stream(sock: Any, limit: int = LIMIT) -> buffered_stream:
    """Return a stream that reads from *sock*.

    Args:
        sock: a `coro.sock`, or any object with a method ``recv(size)``, ``read1(size)`` or ``read(size)``.
        limit: how many bytes a line may have at most.

    TypeError for an object without these.  Whatever is read from *sock* directly is lost to the stream.
    """
    for name in ("recv", "read1", "read"):  # read1() returns what is there, where read() would wait for a full block
        method = getattr(sock, name, None)
        if callable(method):
            return buffered_stream(partial(method, BLOCK), limit)
    raise TypeError(f"can only read from an object with recv(), read1() or read(), not from {sock!r}")


def check_delimiter(delim: Any) -> None:
    """Refuse what cannot end a line."""
    if not isinstance(delim, (bytes, bytearray)):
        raise TypeError(f"a delimiter is bytes, not {delim!r}")
    if not delim:
        raise ValueError("a delimiter has one byte at least")
