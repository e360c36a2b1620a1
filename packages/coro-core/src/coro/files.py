"""Files: `open` gives file objects whose calls block the calling coroutine instead of the thread.

Stands on the builtin `open`, on threads (`coro.threads`) and on the poller (`coro.verbs`).  No poller can wait for a
disk, so what concerns a regular file is done by threads: a `File`.  Pipes and terminals can be waited for: a `Stream`,
which also serves the pipes of `coro.subprocess`.

A `File` wraps the file object of the standard library, and a thread calls it, one operation after the other.  Since
that cannot be interrupted, an interrupted read is undone: the next operation first goes back to where it began.

A `Stream` has buffers of its own.  Those of the standard library lose what they hold of a line when the read of the
rest is interrupted; here what has arrived leaves the buffer only when it is returned.

Both keep the whole lines that are there in a `BytesIO` or `StringIO`, which iterates over them in C.  Its own position
says how many of them have been returned.
"""

from __future__ import annotations

import builtins
import codecs
import io
import itertools
import os
import select
import stat
import sys
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from math import inf
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple, cast

from .exceptions import YieldFromMain
from .kernel import calling
from .locks import mutex
from .oserrors import mapped
from .threads import ThreadPool, block_until_done
from .verbs import notify_of_close, wait_for_read, wait_for_write, yield_slice

if TYPE_CHECKING:
    from _typeshed import FileDescriptorOrPath

__all__ = ["File", "Stream", "open"]

AT_ONCE: Final = 2**16  # bytes in one system call, which is what a pipe holds; also what is read ahead of a file
SURE_ROOM: Final = getattr(select, "PIPE_BUF", 512)  # bytes that a pipe which is ready takes without blocking

_pool: Final = ThreadPool("coro-files")  # a slow disk must hold up neither names nor the calls of to_thread


@mapped()
def open(  # noqa: A001 - the name that it takes the place of
    file: FileDescriptorOrPath,
    mode: str = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Callable[[str, int], int] | None = None,
) -> IO[Any]:
    """Open a file like the builtin `open`, and return a file object whose calls block the calling coroutine only.

    Args:
        file: a path, or the number of a descriptor.
        mode, buffering, encoding, errors, newline, closefd: as of the builtin.
        opener: as of the builtin; it is called in a thread.

    Returns a `File` for a regular file or a disk, a `Stream` for a pipe, a terminal or another device.  A descriptor
    that was given by number is not made non-blocking, since others may share it: so ``open(0, closefd=False)`` reads
    the standard input of the program, whatever that is.

    The file is opened in a thread.  If the wait for that is interrupted it may be opened, truncated or created all the
    same; it is then closed at once.  A FIFO opens when somebody opens its other end; until then it keeps a thread busy,
    which the exit of the process waits for.

    Raises what the builtin does, and `YieldFromMain` outside a coroutine.
    """
    calling()
    future: Future[IO[Any]] = _pool.submit(
        builtins.open, (file, mode, buffering, encoding, errors, newline, closefd, opener), {}
    )
    try:
        try:
            block_until_done(future)
        except BaseException:
            if not future.cancel():
                future.add_done_callback(close_unclaimed)
            raise
        own = opener is None and not isinstance(file, int)
        return cooperative(future.result(), own, newline, buffering)
    finally:
        del future  # else an exception, its traceback, this frame and the future would hold each other


def close_unclaimed(future: Future[IO[Any]]) -> None:
    """Close the file that was opened for somebody who no longer waits."""
    if future.exception() is None:
        future.result().close()


def cooperative(file: Any, own: bool, newline: str | None = None, buffering: int = -1) -> IO[Any]:
    """Return the file object of coro that takes the place of *file*, one of the standard library."""
    kind = os.fstat(file.fileno()).st_mode
    text = isinstance(file, io.TextIOWrapper)
    new: File | Stream
    if stat.S_ISREG(kind) or stat.S_ISBLK(kind) or sys.platform == "win32":
        new = TextFile(file, newline) if text else BinaryFile(file)
    else:
        new = TextStream(file, own, newline, buffering) if text else BinaryStream(file, own, buffering)
    return cast("IO[Any]", new)


class Wrapper(io.IOBase):
    """What both kinds have in common: they stand for *file*, an object of the standard library, and own it."""

    _nothing: Any = b""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._lines = self._buffer(self._nothing)  # whole lines, to be returned without further ado

    def _buffer(self, data: Any) -> Any:
        """Return *data* as a file in memory."""
        return io.BytesIO(data)

    def __next__(self) -> Any:
        for line in self._lines:
            return line
        if line := self.readline():
            return line
        raise StopIteration

    @property
    def closed(self) -> bool:
        return bool(self._file.closed)

    @property
    def name(self) -> Any:
        return self._file.name

    @property
    def mode(self) -> Any:
        return self._file.mode

    def fileno(self) -> int:
        return int(self._file.fileno())

    def isatty(self) -> bool:
        return bool(self._file.isatty())

    def readable(self) -> bool:
        return bool(self._file.readable())

    def writable(self) -> bool:
        return bool(self._file.writable())

    def seekable(self) -> bool:
        return bool(self._file.seekable())

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__name__} of {self._file!r}>"

    def __del__(self) -> None:
        """Leave it to the wrapped file, which warns: IOBase would close this one, which may block."""


class Text(Wrapper):
    """The same for text."""

    _nothing = ""
    _newline = "\n"  # what ends a line; "" for each of the three

    def _buffer(self, data: Any) -> Any:
        text: Any = io.StringIO()
        text.__setstate__((data, self._newline, 0, None))  # its constructor would translate what ends a line
        return text


# -- regular files: threads ------------------------------------------------------------------------------------------


class Operation(NamedTuple):
    """What a thread is to do with a file."""

    number: int
    future: Future[Any]
    call: Callable[..., Any]
    args: tuple[Any, ...]


_numbers: Final = itertools.count(1)


def performs(name: str) -> Callable[..., Any]:
    """Make the method of `File` that has a thread call the method *name* of the wrapped file."""

    def method(self: File, *args: Any) -> Any:
        return self._do(self._perform, name, *args)

    method.__name__ = name
    return method


def reads(name: str) -> Callable[..., Any]:
    """The same for one that reads, which can be undone."""

    def method(self: File, *args: Any) -> Any:
        return self._do(self._read, name, *args)

    method.__name__ = name
    return method


class File(Wrapper):
    """A regular file whose operations run in threads.  Made by `open`; has the methods of the builtin's file objects.

    There is one operation at a time, in the order in which they were called, whichever coroutines call them, also those
    of several loops.  All files share a few threads, which are not those of `coro.to_thread`.

    An operation that is interrupted while it waits for its turn is not done.  One that is under way completes in its
    thread, and the next one waits for that.  If it was a read, it is then undone: the next operation begins where it
    began, unless it has begun before the interrupt.  If it was a write, what was given is written, or is in the buffer.
    A `close` is completed in any case.

    Iteration and ``readline`` fetch lines by the 64 KB, and return what has been fetched without waiting for a turn;
    but any other operation finds the file positioned behind the last line that was returned.  Unlike with the builtin,
    ``tell`` works during the iteration.

    Outside a coroutine `close` blocks the thread; the other operations raise `YieldFromMain` if they need a thread.
    There is no ``detach``, ``buffer`` or ``raw``.  A file that is lost without a `close` is closed with a
    ResourceWarning, as the builtin's.
    """

    def __init__(self, file: Any) -> None:
        super().__init__(file)
        self._lock = threading.Lock()  # over what follows
        self._queue: deque[Operation] = deque()
        self._busy = False  # a thread is at it, or about to be
        self._last = 0  # the number of the operation that was begun last
        self._undo = False  # the next one is to begin where that began to read
        # What follows belongs to the thread.
        self._began: int | None = None  # there
        self._back: tuple[int, int] | None = None  # where the next one is to begin: a position, and so much behind it
        self._fetched: int | None = None  # where `_lines` begins, None if there is no way back
        self._size = 0  # of `_lines`

    read = reads("read")
    write = performs("write")
    flush = performs("flush")
    seek = performs("seek")
    tell = performs("tell")
    truncate = performs("truncate")

    def readline(self, size: int | None = -1, /) -> Any:
        """Return the rest of the line with its end, but at most *size* bytes or characters."""
        while True:
            line = self._lines.readline(size)
            if line or size == 0 or not self._do(self._fetch):
                return line

    def readlines(self, hint: int | None = -1, /) -> list[Any]:
        """Return the lines up to the end, or until they have *hint* bytes or characters together."""
        if hint is None or hint <= 0:
            return cast("list[Any]", self._do(self._read, "readlines"))
        return cast("list[Any]", self._do(self._read_lines, hint))

    def writelines(self, lines: Any, /) -> None:
        """Write all of *lines*.  These are collected first, in this coroutine."""
        self._do(self._perform, "writelines", list(lines))

    @mapped()
    def close(self) -> None:
        """Flush and close the file, after the operations that were called before.  May be called twice."""
        if self.closed:
            return
        future = self._submit(self._close).future
        try:
            with suppress(YieldFromMain):
                block_until_done(future)
            future.result()
        finally:
            del future  # as in `open`

    @mapped()
    def _do(self, call: Callable[..., Any], *args: Any) -> Any:
        """Block the coroutine until a thread has made the call."""
        calling()
        operation = self._submit(call, *args)
        try:
            try:
                block_until_done(operation.future)
            except BaseException:
                operation.future.cancel()
                with self._lock:
                    if self._last == operation.number:  # it is under way, or has ended just now
                        self._undo = True
                raise
            return operation.future.result()
        finally:
            del operation  # as in `open`

    def _submit(self, call: Callable[..., Any], *args: Any) -> Operation:
        operation = Operation(next(_numbers), Future(), call, args)
        with self._lock:
            if not self._busy:
                _pool.submit(self._work, (), {})
                self._busy = True
            self._queue.append(operation)
        return operation

    # What follows runs in a thread.

    def _work(self) -> None:
        """Perform one operation, and see to the next."""
        while True:
            with self._lock:
                operation = self._queue.popleft()
                future = operation.future
                begins = future.set_running_or_notify_cancel()
                if begins:
                    if self._undo and self._began is not None:
                        self._back = self._began, 0
                    self._last, self._began, self._undo = operation.number, None, False
            if begins:
                try:
                    value = operation.call(*operation.args)
                except BaseException as exc:
                    future.set_exception(exc)
                else:
                    future.set_result(value)
                    del value
            del operation, future
            with self._lock:
                if not self._queue:
                    self._busy = False
                    return
                with suppress(RuntimeError):  # the process exits: then all in this thread
                    _pool.submit(self._work, (), {})  # behind the operations of other files
                    return

    def _perform(self, name: str, *args: Any) -> Any:
        self._go_back()
        return getattr(self._file, name)(*args)

    def _read(self, name: str, *args: Any) -> Any:
        self._go_back()
        self._began = self._place()
        return getattr(self._file, name)(*args)

    def _read_lines(self, hint: int) -> list[Any]:
        """Do what the wrapped file's readlines() does, after which that could not tell() its position."""
        self._go_back()
        self._began = self._place()
        lines: list[Any] = []
        while hint > 0 and (line := self._file.readline()):
            lines.append(line)
            hint -= len(line)
        return lines

    def _close(self) -> None:
        self._lines.read()  # it is done with
        self._file.close()

    def _fetch(self) -> bool:
        """Fetch lines, unless some are there.  Returns whether there are any."""
        if self._lines.tell() == self._size:
            self._go_back()
            self._fetched = self._place()
            lines = self._next_lines()
            self._size = len(lines)
            self._lines = self._buffer(lines)
        return self._size > 0

    def _next_lines(self) -> Any:
        # What has no size may be one of the system's own files, whose next line is yet to come.
        if self._fetched is not None and os.fstat(self._file.fileno()).st_size:
            try:
                return self._file.read(AT_ONCE) + self._file.readline()
            except Exception:  # after the lines before it
                self._file.seek(self._fetched)
        return self._file.readline()

    def _place(self) -> int | None:
        """Return where the file is positioned, None if there is no way back."""
        try:
            return int(self._file.tell())
        except (OSError, ValueError):
            return None

    def _go_back(self) -> None:
        """Undo what was read for nobody."""
        left = len(self._lines.read())  # in one step: `__next__`, in its own thread, gets a line before that or none
        if left and self._fetched is not None:
            self._back = self._fetched, self._size - left
        if self._back is not None:
            position, more = self._back
            self._file.seek(position)
            if more:
                self._file.read(more)
            self._back = None


class BinaryFile(File, io.BufferedIOBase):
    """A `File` of bytes."""

    read1 = reads("read1")
    readall = reads("readall")
    peek = performs("peek")


class TextFile(Text, File, io.TextIOBase):
    """A `File` of text."""

    def __init__(self, file: Any, newline: str | None = None) -> None:
        self._newline = newline if newline is not None else "\n"
        super().__init__(file)

    encoding: Any = property(lambda self: self._file.encoding)
    errors: Any = property(lambda self: self._file.errors)
    newlines: Any = property(lambda self: self._file.newlines)
    line_buffering: Any = property(lambda self: self._file.line_buffering)


# -- pipes and terminals: the poller ---------------------------------------------------------------------------------


class Stream(Wrapper):
    """A pipe, a terminal or another device, whose reads and writes wait through the poller.

    Made by `open`, and by `coro.subprocess.Popen` for its pipes.  It has the methods of the builtin's file objects, but
    it cannot seek, and there is no ``detach``, ``buffer`` or ``raw``.

    One coroutine reads at a time, and one writes; others wait for their turn, but a line that is there is returned to
    whoever asks for it.  A read that is interrupted takes nothing: what has arrived is there for the next one.  When a
    write or flush is interrupted, what has not been written stays in the buffer for the next flush.  `close` flushes;
    then it raises `ClosedError` in whoever still reads, and closes the descriptor, also if the flush has failed or was
    interrupted.

    A descriptor that was given by number stays blocking if it is, since others may share it, as the shell does the
    terminal.  To read, it is enough to wait until there is something, unless another process takes it first; to write,
    a pipe is given what it takes at once.  Only a write to a terminal or a socket can block the thread: open a terminal
    anew by its name (`os.ttyname`), and use `coro.fd_sock` for a socket.

    What the poller cannot watch, such as ``/dev/null``, is taken for always ready.  Outside a coroutine, what would
    have to wait raises `YieldFromMain`.  A stream that is lost without a `close` is closed with a ResourceWarning; what
    was in its buffer is lost.
    """

    _ends: Any = (b"\n",)  # of lines

    def __init__(self, file: Any, own: bool, buffering: int = -1) -> None:
        buffered = not isinstance(file, io.FileIO)
        super().__init__(file.detach() if buffered else file)
        self._size = (buffering if buffering > 1 else io.DEFAULT_BUFFER_SIZE) if buffered else 0
        self._read_ahead = buffered
        self._arrived = self._nothing  # begins with `_lines`, whose position says how much of it has been returned
        self._unsent = bytearray()
        self._reading = mutex()
        self._writing = mutex()
        if own:
            os.set_blocking(self.fileno(), False)

    def read(self, size: int | None = -1, /) -> Any:
        """Return *size* bytes or characters, or what comes before the end; by default all up to the end.

        With a size, an unbuffered stream returns what is there, at least one byte.
        """
        wanted = inf if size is None or size < 0 else size
        if wanted != inf and not self._read_ahead:
            return self.read1(size)
        with self._reading:
            self._check(self.readable(), "read")
            if len(self._arrived) - self._lines.tell() < wanted:
                self._collect(wanted)
            return self._take(wanted)

    def read1(self, size: int | None = -1, /) -> Any:
        """Return what is there, at least one byte or character and at most *size*; nothing at the end."""
        wanted = inf if size is None or size < 0 else size
        with self._reading:
            self._check(self.readable(), "read")
            if wanted and self._lines.tell() == len(self._arrived):
                self._hold(self._receive(wanted))
            return self._take(wanted)

    def readline(self, size: int | None = -1, /) -> Any:
        """Return the rest of the line with its end, but at most *size* bytes or characters."""
        if line := self._lines.readline(size):
            return line
        wanted = inf if size is None or size < 0 else size
        with self._reading:
            self._check(self.readable(), "read")
            self._collect(wanted, True)
            self._lines = self._buffer(self._arrived[: self._whole(self._arrived)])
            return self._lines.readline(size) or self._take(wanted)

    def readlines(self, hint: int | None = -1, /) -> list[Any]:
        """Return the lines up to the end, or until they have *hint* bytes or characters together."""
        wanted = hint if hint is not None and hint > 0 else inf
        lines: list[Any] = []
        with self._reading:
            try:
                while wanted > 0 and (line := self.readline()):
                    lines.append(line)
                    wanted -= len(line)
            except BaseException:
                self._hold(self._nothing.join(lines) + self._left())
                raise
        return lines

    def _collect(self, wanted: float, line: bool = False) -> None:
        """Wait until *wanted* has arrived, or if *line* is true a whole line, or the end."""
        last = self._take(inf)  # else `__next__` would return meanwhile what belongs to the caller
        parts = [last]
        have = len(last)
        try:
            while have < wanted and not (line and self._whole(last)):
                piece = self._receive(1 if line else wanted - have)
                if not piece:
                    break
                parts.append(piece)
                have += len(piece)
                last = last[-1:] + piece  # an end of line may have two characters
        finally:
            self._hold(self._nothing.join(parts))

    def _whole(self, data: Any) -> int:
        """Return how much of *data* is whole lines."""
        return max((at + len(end) for end in self._ends if (at := data.rfind(end)) >= 0), default=0)

    def _left(self) -> Any:
        """Return what has arrived and was not returned."""
        return self._arrived[self._lines.tell() :]

    def _hold(self, data: Any) -> None:
        """Have *data* in the place of that."""
        self._arrived = data
        self._lines = self._buffer(self._nothing)

    def _take(self, size: float) -> Any:
        """Return so much of it, or all."""
        begin = self._lines.tell()
        if begin + size >= len(self._arrived):
            taken = self._left()
            self._hold(self._nothing)
            return taken
        end = begin + int(size)
        self._lines.seek(end)
        return self._arrived[begin:end]

    def _receive(self, size: float) -> Any:
        """Wait for what comes next and return it; nothing at the end."""
        return self._receive_bytes(size)

    @mapped()
    def _receive_bytes(self, size: float = inf) -> bytes:
        most = AT_ONCE if self._read_ahead else int(min(size, AT_ONCE))
        while True:
            self._wait(wait_for_read)
            with suppress(BlockingIOError):
                return os.read(self.fileno(), most)

    def _rest(self, data: bytes) -> Any:
        """Return what has arrived and was not returned, and *data*, the last to arrive."""
        return self._take(inf) + data

    def write(self, data: Any, /) -> int:
        """Write *data*, by way of the buffer if there is one.  Returns the length of *data*."""
        self._check(self.writable(), "write to")
        octets = self._encode(data)
        self._unsent += octets
        if len(self._unsent) > self._size or self._ends_line(data):
            self.flush()
        return len(data) if isinstance(data, str) else len(octets)

    @mapped()
    def flush(self) -> None:
        """Write what is in the buffer."""
        with self._writing:
            while self._unsent:
                self._wait(wait_for_write)
                most = SURE_ROOM if os.get_blocking(self.fileno()) else AT_ONCE
                sent = 0
                with suppress(BlockingIOError), memoryview(self._unsent) as view, view[:most] as part:
                    sent = os.write(self.fileno(), part)
                del self._unsent[:sent]

    def close(self) -> None:
        """Flush and close."""
        if self.closed:
            return
        try:
            self.flush()
        finally:
            if not self.closed:
                self._hold(self._left())  # no line is there for `__next__` any more
                notify_of_close(self.fileno())
                self._file.close()

    def _encode(self, data: Any) -> Any:
        return memoryview(data).cast("B")

    def _ends_line(self, data: Any) -> bool:
        return False

    def _wait(self, verb: Callable[[int], None]) -> None:
        try:
            verb(self.fileno())
        except PermissionError:  # the poller refuses it, as epoll does /dev/null
            yield_slice()

    def _check(self, possible: bool, verb: str) -> None:
        if not possible:
            raise io.UnsupportedOperation(f"cannot {verb} {self!r}: its mode is {self.mode!r}")


class BinaryStream(Stream, io.BufferedIOBase):
    """A `Stream` of bytes."""

    def peek(self, size: int = 0, /) -> bytes:
        """Return what is there, at least one byte, without taking it; nothing at the end."""
        with self._reading:
            self._check(self.readable(), "read")
            if self._lines.tell() == len(self._arrived):
                self._hold(self._receive(inf))
            return cast("bytes", self._left())


class TextStream(Text, Stream, io.TextIOBase):
    """A `Stream` of text."""

    encoding: Any = property(lambda self: self._encoding)
    errors: Any = property(lambda self: self._errors)
    newlines: Any = property(lambda self: getattr(self._decoder, "newlines", None))
    line_buffering: Any = property(lambda self: self._line_buffering)

    def __init__(self, file: Any, own: bool, newline: str | None = None, buffering: int = -1) -> None:
        self._encoding, self._errors, self._line_buffering = file.encoding, file.errors, file.line_buffering
        self._newline = newline if newline is not None else "\n"
        self._ends = (self._newline,) if self._newline else ("\r", "\n")
        super().__init__(file.detach(), own, buffering)
        self._read_ahead = True
        self._encoder = codecs.getincrementalencoder(self._encoding)(self._errors)
        self._decoder = codecs.getincrementaldecoder(self._encoding)(self._errors)
        if newline in (None, ""):
            self._decoder = io.IncrementalNewlineDecoder(self._decoder, translate=newline is None)
        self._linesep = os.linesep if newline is None else newline or "\n"

    def _receive(self, size: float) -> Any:
        while True:
            data = self._receive_bytes()
            text = self._decoder.decode(data, not data)
            if text or not data:
                return text

    def _rest(self, data: bytes) -> Any:
        return self._take(inf) + self._decoder.decode(data, True)

    def _encode(self, data: Any) -> Any:
        if not isinstance(data, str):
            raise TypeError(f"can only write str to {self!r}, not {type(data).__name__}")
        return self._encoder.encode(data if self._linesep == "\n" else data.replace("\n", self._linesep))

    def _ends_line(self, data: Any) -> bool:
        return self._line_buffering and ("\n" in data or "\r" in data)
