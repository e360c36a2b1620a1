"""Files: regular ones by threads, pipes and terminals by the poller."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
import time

import pytest

import coro
from coro import files
from coro.kernel import this_kernel

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no descriptors that a poller could watch")

FOR_EVER = 10  # seconds: what takes that long has failed


class Boom(Exception):
    pass


class Gated(io.FileIO):
    """A file on a disk that is slow: each read and write waits until it is let through."""

    def __init__(self, path, mode="r"):
        super().__init__(path, mode)
        self.begun = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)
        self.calls = 0

    def _pass(self):
        self.calls += 1
        self.begun.release()
        assert self.gate.acquire(timeout=FOR_EVER)

    def read(self, size=-1):
        self._pass()
        return super().read(size)

    def readinto(self, buffer):
        self._pass()
        return super().readinto(buffer)

    def readall(self):
        self._pass()
        return super().readall()

    def write(self, data):
        self._pass()
        return super().write(data)


@pytest.fixture(autouse=True)
def nothing_external():
    """No thread is waited for in the end."""
    yield
    assert this_kernel().externals == 0


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file"


@pytest.fixture
def pipe():
    """The numbers of the ends of a pipe, closed in the end unless the test has done so."""
    ends = os.pipe()
    kinds = [os.fstat(fd) for fd in ends]
    yield ends
    for fd, kind in zip(ends, kinds, strict=True):
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(fd), kind):
                os.close(fd)


def begun(gated):
    """Wait in a coroutine until a thread is in *gated*."""
    assert coro.to_thread(gated.begun.acquire, timeout=FOR_EVER)


def fill(fd):
    """Write to a blocking descriptor until it is full.  Returns how many bytes that were."""
    os.set_blocking(fd, False)
    done = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            done += os.write(fd, b"x" * 1000)
    os.set_blocking(fd, True)
    return done


def raised(function, *args):
    """Run a function and return what it raises."""
    try:
        value = function(*args)
    except BaseException as exc:
        return exc
    return pytest.fail(f"returned {value!r}")


# -- regular files ---------------------------------------------------------------------------------------------------


def test_a_text_file_behaves_like_the_builtins(loop, path):
    """Written, appended to, read as a whole, by lines, by pieces and by iteration; closed at the end of the block."""

    def main():
        with files.open(path, "w", encoding="utf-8") as file:
            assert file.write("äöü\n") == 4
            file.writelines(["two\n", "three\n"])
            assert file.writable()
            assert not file.readable()
        assert file.closed
        with files.open(path, "a", encoding="utf-8") as file:
            file.write("four")
        assert path.read_text(encoding="utf-8") == "äöü\ntwo\nthree\nfour"
        with files.open(path, encoding="utf-8") as file:
            assert (file.encoding, file.errors, file.mode, file.name) == ("utf-8", "strict", "r", str(path))
            assert isinstance(file, io.TextIOBase)
            assert file.read(2) == "äö"
            assert file.readline() == "ü\n"
            assert list(file) == ["two\n", "three\n", "four"]
            assert file.read() == ""
            assert file.seek(0) == 0
            assert file.readlines() == ["äöü\n", "two\n", "three\n", "four"]
            assert file.newlines == "\n"

    loop(main)


def test_a_binary_file_behaves_like_the_builtins(loop, path):
    """Read and written in place, positioned, cut off, peeked at, read into a buffer; also without a buffer."""

    def main():
        with files.open(path, "w+b") as file:
            assert isinstance(file, io.BufferedIOBase)
            assert file.write(b"0123456789") == 10
            assert file.seek(2) == 2
            assert file.read(3) == b"234"
            assert file.tell() == 5
            file.write(b"xx")
            assert file.seek(-3, os.SEEK_END) == 7
            assert file.peek(1)[:1] == b"7"
            buffer = bytearray(5)
            assert file.readinto(buffer) == 3
            assert buffer == b"789\0\0"
            assert file.truncate(6) == 6
            file.flush()
            assert path.read_bytes() == b"01234x"
        with files.open(path, "rb", buffering=0) as file:
            assert file.read(1) == b"0"
            assert file.readall() == b"1234x"
            assert os.fstat(file.fileno()).st_size == 6
            assert file.seekable()
            assert not file.isatty()

    loop(main)


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (("does-not-exist",), FileNotFoundError),
        ((".",), IsADirectoryError),
        (("x", "q"), ValueError),
        (("x", "rb", -1, "utf-8"), ValueError),
        ((1.5,), TypeError),
        ((10**6,), OSError),
    ],
)
def test_what_cannot_be_opened_is_the_error_of_the_builtin(loop, tmp_path, monkeypatch, args, error):
    """And no descriptor is left."""
    monkeypatch.chdir(tmp_path)

    def main():
        with pytest.raises(error):
            files.open(*args)

    loop(main)


def test_what_the_file_cannot_do_is_the_error_of_the_builtin(loop, path):
    """Reading a file that is for writing, detaching it, using it after its close."""

    def main():
        with files.open(path, "w") as file:
            with pytest.raises(io.UnsupportedOperation):
                file.read()
            with pytest.raises(io.UnsupportedOperation):
                file.detach()
            with pytest.raises(TypeError):
                file.write(b"bytes")
        for operation in (file.read, file.__enter__, file.flush, file.tell):
            with pytest.raises(ValueError, match="closed"):
                operation()
        file.close()

    loop(main)


def test_a_slow_disk_holds_up_nobody_else(loop, path):
    """While a thread reads, other coroutines run."""
    path.write_bytes(b"data")

    def main():
        gated = Gated(path)
        with files.BinaryFile(gated) as file:
            reader = coro.spawn(file.read, 4)
            begun(gated)
            coro.yield_slice()
            assert not reader.dead
            gated.gate.release()
            assert reader.result() == b"data"

    loop(main)


def test_files_have_threads_of_their_own(loop, path):
    """Although all threads of to_thread are busy, a file can be opened, and its opener runs in another one."""
    names = []

    def opener(name, flags):
        names.append(threading.current_thread().name)
        return os.open(name, flags)

    def main():
        gate = threading.Event()
        coro.set_thread_limit(1)
        try:
            blocked = coro.spawn(coro.to_thread, gate.wait, FOR_EVER)
            coro.yield_slice()
            with files.open(path, "wb", opener=opener) as file:
                file.write(b"x")
            assert not blocked.dead
            gate.set()
            blocked.join()
        finally:
            coro.set_thread_limit(None)

    loop(main)

    assert names[0].startswith("coro-files")


def test_one_operation_at_a_time_in_the_order_of_the_calls(loop, path):
    """Three coroutines read from one file: a thread is in it once, and each gets what is next."""
    path.write_bytes(b"abc")

    def main():
        gated = Gated(path)
        with files.BinaryFile(gated) as file:
            readers = [coro.spawn(file.read, 1) for _ in range(3)]
            begun(gated)
            assert gated.calls == 1
            gated.gate.release(3)
            assert [reader.result() for reader in readers] == [b"a", b"b", b"c"]

    loop(main)


def test_loops_of_two_threads_may_share_a_file(poller, path):
    """No line is lost, none is read twice."""
    lines = [b"%d\n" % number for number in range(2000)]
    path.write_bytes(b"".join(lines))
    got = []

    def main():
        with files.open(path, "rb") as file:
            thread = threading.Thread(target=coro.run, args=(lambda: got.extend(file),))
            thread.start()
            got.extend(file)
            coro.to_thread(thread.join)

    coro.run(main)

    assert sorted(got, key=int) == lines


@pytest.mark.parametrize("name", ["read", "readline", "readlines", "__next__"])
@pytest.mark.parametrize("kind", ["text", "binary"])
@pytest.mark.parametrize("late", [False, True], ids=["under way", "already done"])
def test_an_interrupted_read_is_undone(loop, path, name, kind, late):
    """It completes in its thread; the next operation waits for that, and begins where the interrupted one began."""
    head = "" if kind == "text" else "head\n"  # a text file would read more than that
    path.write_text(head + "one\ntwo\n")

    def main():
        gated = Gated(path)
        buffered = io.BufferedReader(gated, 5)
        gated.gate.release()
        with files.TextFile(io.TextIOWrapper(buffered)) if kind == "text" else files.BinaryFile(buffered) as file:
            if head:
                assert file.read(5) == head.encode()
                begun(gated)
            else:
                assert gated.gate.acquire()
            reader = coro.spawn(raised, getattr(file, name))
            begun(gated)
            if late:
                gated.gate.release(9)
                while file._busy:  # the thread may have done it, but the loop does not poll, and knows nothing of that
                    time.sleep(0.001)
            reader.raise_exception(Boom)
            coro.yield_slice()
            assert isinstance(reader.result(), Boom)
            follower = coro.spawn(file.read)
            coro.yield_slice()
            gated.gate.release(9)
            assert follower.result() == ("one\ntwo\n" if kind == "text" else b"one\ntwo\n")

    loop(main)


def test_an_interrupted_iteration_returns_no_line_twice(loop, path):
    """They have been fetched for a coroutine that does not run yet; another one takes some, then it is interrupted."""
    path.write_bytes(b"one\ntwo\nthree\n")

    def main():
        with files.open(path, "rb") as file:
            reader = coro.spawn(raised, next, file)
            coro.yield_slice()
            while file._busy:  # see above
                time.sleep(0.001)
            got = [next(file)]
            reader.raise_exception(Boom)
            assert isinstance(reader.result(), Boom)
            got.extend(file)
            assert got == [b"one\n", b"two\n", b"three\n"]

    loop(main)


def test_an_interrupted_operation_that_has_not_begun_is_not_done(loop, path):
    """It was waiting for its turn: what comes behind it is done, and the one before is not undone."""
    path.write_bytes(b"abc")

    def main():
        gated = Gated(path, "r+")
        with files.BinaryFile(gated) as file:
            first = coro.spawn(file.read, 1)
            begun(gated)
            second = coro.spawn(raised, file.write, b"X")
            third = coro.spawn(file.read, 1)
            coro.yield_slice()
            second.raise_exception(Boom)
            coro.yield_slice()
            gated.gate.release(5)
            assert (first.result(), third.result()) == (b"a", b"b")
        assert path.read_bytes() == b"abc"

    loop(main)


def test_an_interruption_behind_an_interrupted_read_does_not_keep_it_from_being_undone(loop, path):
    """The read is under way, another operation waits for its turn; both are interrupted."""
    path.write_bytes(b"abc")

    def main():
        gated = Gated(path)
        with files.BinaryFile(gated) as file:
            first = coro.spawn(raised, file.read, 1)
            begun(gated)
            second = coro.spawn(raised, file.read, 1)
            coro.yield_slice()
            for co in (first, second):
                co.raise_exception(Boom)
                assert isinstance(co.result(), Boom)
            gated.gate.release(5)
            assert file.read(3) == b"abc"

    loop(main)


def test_an_interrupted_caller_is_not_disturbed_when_the_thread_is_done(loop, path):
    """It sleeps as long as it wants to."""
    path.write_bytes(b"abc")

    def main():
        gated = Gated(path)
        with files.BinaryFile(gated) as file:
            with pytest.raises(coro.TimeoutError):
                coro.with_timeout(0.002, file.read, 1)
            timer = threading.Timer(0.005, gated.gate.release, (5,))
            timer.start()
            begin = time.monotonic()
            coro.sleep_relative(0.03)
            assert time.monotonic() - begin >= 0.03
            timer.join()

    loop(main)


def test_an_interrupted_write_is_completed_and_not_repeated(loop, path):
    """The next one comes behind it."""

    def main():
        gated = Gated(path, "w")
        with files.BinaryFile(gated) as file:
            writer = coro.spawn(raised, file.write, b"one")
            begun(gated)
            writer.raise_exception(Boom)
            coro.yield_slice()
            gated.gate.release(2)
            assert file.write(b"two") == 3
        assert path.read_bytes() == b"onetwo"

    loop(main)


def test_an_interrupted_close_is_completed(loop, path):
    """With what is in the buffer; the descriptor is closed."""

    def main():
        gated = Gated(path, "w")
        file = files.BinaryFile(io.BufferedWriter(gated))
        file.write(b"data")
        with pytest.raises(coro.TimeoutError):
            coro.with_timeout(0.001, file.close)
        begun(gated)
        gated.gate.release()
        file.close()
        assert file.closed
        assert path.read_bytes() == b"data"

    loop(main)


def test_a_close_is_completed_though_the_way_back_is_barred(loop, path):
    """What iteration has fetched for nobody need not be undone: a disk that fails just then keeps nothing open."""
    path.write_bytes(b"one\ntwo\n")

    class Broken(io.FileIO):
        def seek(self, *args):
            raise OSError("the disk is gone")

    def main():
        file = files.BinaryFile(Broken(path))
        assert next(file) == b"one\n"
        file.close()
        assert file.closed

    loop(main)


def test_lines_to_write_may_come_from_a_generator_that_blocks(loop, path):
    """It runs in the coroutine of the caller, not in a thread."""

    def lines():
        for number in range(3):
            coro.yield_slice()
            yield f"{number}\n"

    def main():
        with files.open(path, "w") as file:
            file.writelines(lines())
        assert path.read_text() == "0\n1\n2\n"

    loop(main)


def test_an_interrupted_open_leaves_nothing_open(loop, path):
    """What the thread has opened for nobody is closed."""
    entered, gate, opened = threading.Event(), threading.Event(), []

    def opener(name, flags):
        entered.set()
        gate.wait(FOR_EVER)
        opened.append(os.open(name, flags))
        return opened[0]

    def main():
        co = coro.spawn(raised, lambda: files.open(path, "w", opener=opener))
        coro.to_thread(entered.wait, FOR_EVER)
        co.raise_exception(Boom)
        assert isinstance(co.result(), Boom)
        gate.set()
        while files._pool.call(int, (), {}) or not opened:
            pass

    loop(main)
    files._pool.set_limit(None)  # waits for nobody; the check that no descriptor is left comes after the test
    for thread in threading.enumerate():
        if thread.name.startswith("coro-files"):
            thread.join(FOR_EVER)


def test_iteration_leaves_the_position_behind_the_last_line(loop, path):
    """Although it reads ahead: a read, a readline, a tell, a write and a second loop go on from there."""
    path.write_text("".join(f"line {number}\n" for number in range(1000)))

    def main():
        with files.open(path, "r+") as file:
            for line in file:
                if line == "line 3\n":
                    break
            assert file.tell() == 28
            assert next(file) == "line 4\n"
            assert file.readline() == "line 5\n"
            assert next(file) == "line 6\n"
            assert file.read(6) == "line 7"
            assert file.read(1) == "\n"
            assert next(iter(file)) == "line 8\n"
            rest = list(file)
            assert len(rest) == 991
            assert raised(next, file).__class__ is StopIteration
        with files.open(path, "r+b") as file:
            assert next(file) == b"line 0\n"
            file.seek(0, os.SEEK_CUR)
            file.write(b"LINE")
        assert path.read_bytes().startswith(b"line 0\nLINE 1\n")

    loop(main)


@pytest.mark.parametrize("newline", [None, "", "\n", "\r", "\r\n"])
@pytest.mark.parametrize("mode", ["r", "rb"])
def test_the_lines_of_a_file_are_those_of_the_builtin(loop, path, mode, newline):
    """For each newline, over many reads, by iteration and by readline, with other operations in between."""
    path.write_text("öne\r\ntwo\nthree\rfour\r\n\nfive\r" * 4_000, encoding="utf-8", newline="")
    kwargs = {"encoding": "utf-8", "newline": newline} if mode == "r" else {}

    def mixed(file):
        for number in range(200):
            yield file.readline()
            yield file.readline(number % 5)
            yield file.read(number % 7)
            file.seek(file.tell())
        yield file.read()

    def main():
        with open(path, mode, **kwargs) as expected, files.open(path, mode, **kwargs) as file:
            lines = list(expected)
            assert list(file) == lines
            file.seek(0)
            assert list(iter(file.readline, file.read(0))) == lines
            assert file.readline() == file.read(0)
            for each in (expected, file):
                each.seek(0)
            assert list(mixed(file)) == list(mixed(expected))

    loop(main)


def test_tell_works_after_readlines_with_a_hint(loop, path):
    """With the builtin it does not, and without it a read that is interrupted later could not be undone."""
    path.write_text("one\ntwo\nthree\n")

    def main():
        with files.open(path) as file:
            assert file.readlines(5) == ["one\n", "two\n"]
            assert file.tell() == 8
            assert file.readlines(None) == ["three\n"]

    loop(main)


def test_a_line_costs_no_journey_to_a_thread(loop, path, monkeypatch):
    """Iteration and readline take it from what has been fetched: a thousand lines need a few operations."""
    path.write_text("line\n" * 1000)
    begun = []
    submit = files._pool.submit
    monkeypatch.setattr(files._pool, "submit", lambda *args: begun.append(args) or submit(*args))

    def main():
        by_readline = (lambda file: iter(file.readline, "")), (lambda file: iter(lambda: file.readline(9), ""))
        for lines in (iter, *by_readline):
            with files.open(path) as file:
                assert len(list(lines(file))) == 1000

    loop(main)
    assert len(begun) < 20


def test_a_closed_file_has_no_more_lines(loop, path):
    """Neither those that were fetched nor others: ValueError, as with the builtin."""
    path.write_text("one\ntwo\n")

    def main():
        file = files.open(path)
        assert next(file) == "one\n"
        file.close()
        for operation in (file.__next__, file.readline, file.__iter__):
            with pytest.raises(ValueError, match="closed"):
                operation()

    loop(main)


def test_iteration_gives_the_lines_before_an_error_first(loop, path):
    """What cannot be decoded is an error when it is its turn."""
    path.write_bytes(b"x" * 20000 + b"\ngood\n" + b"y" * 20000 + b"\n\xff\n")

    def main():
        with files.open(path, encoding="utf-8") as file:
            assert next(file) == "x" * 20000 + "\n"
            assert next(file) == "good\n"
            with pytest.raises(UnicodeDecodeError):
                list(file)

    loop(main)


def test_a_lost_file_is_closed_with_a_warning(loop, path):
    """As soon as nobody holds it, like the builtin's; what is in its buffer is written."""

    def main():
        file = files.open(path, "w")
        file.write("kept")
        while sys.getrefcount(file) > 2 or sys.getrefcount(file._file) > 2:  # the thread is about to let go of it
            coro.sleep_relative(0.001)
        held = [file]
        del file
        with pytest.warns(ResourceWarning, match="unclosed file"):
            held.clear()
        assert path.read_text() == "kept"

    loop(main)


def test_outside_a_coroutine_a_file_can_only_be_closed(loop, path):
    """Else YieldFromMain, and nothing is opened or written."""
    with pytest.raises(coro.YieldFromMain):
        files.open(path, "w")
    assert not path.exists()

    file = loop(files.open, path, "w")
    with pytest.raises(coro.YieldFromMain):
        file.write("x")
    file.close()

    assert file.closed
    assert path.read_text() == ""


def test_what_waits_for_a_disk_is_no_deadlock(loop, path):
    """run() waits for the thread though nothing else is left to do."""
    path.write_bytes(b"data")

    def main():
        gated = Gated(path)
        with files.BinaryFile(gated) as file:
            timer = threading.Timer(0.02, gated.gate.release)
            timer.start()
            assert file.read(4) == b"data"
            timer.join()

    loop(main)


# -- pipes and other things that can be waited for -------------------------------------------------------------------


@posix
def test_a_pipe_is_read_and_written_through_the_poller(loop, pipe):
    """A reader waits without a thread until a line comes; the end of the pipe is the end of the file."""
    reader, writer = pipe

    def main():
        with files.open(reader) as source, files.open(writer, "w") as target:
            assert isinstance(source, files.Stream)
            lines = []
            co = coro.spawn(lambda: lines.extend(source))
            coro.yield_slice()
            assert this_kernel().externals == 0
            target.write("one\ntwo\nthr")
            coro.yield_slice()
            assert lines == []
            target.flush()
            target.close()
            co.join()
            assert lines == ["one\n", "two\n", "thr"]
            assert source.read() == ""

    loop(main)


@posix
@pytest.mark.parametrize("mode", ["r", "rb"])
@pytest.mark.parametrize(
    ("name", "args"), [("readline", ()), ("read", (100,)), ("read", ()), ("readlines", ()), ("read1", ())]
)
def test_an_interrupted_read_of_a_pipe_loses_nothing(loop, pipe, mode, name, args):
    """Half a line has come before the timeout, half after it: the next call returns all."""
    reader, writer = pipe

    def main():
        with files.open(reader, mode) as source:
            if name != "read1":
                os.write(writer, b"he")
            for _ in range(2):
                with pytest.raises(coro.TimeoutError):
                    coro.with_timeout(0.002, getattr(source, name), *args)
            os.write(writer, b"llo\n")
            os.close(writer)
            expected = b"llo\n" if name == "read1" else b"hello\n"
            expected = expected.decode() if mode == "r" else expected
            assert getattr(source, name)(*args) == ([expected] if name == "readlines" else expected)

    loop(main)


@posix
@pytest.mark.parametrize("mode", ["r", "rb"])
def test_an_interrupted_readlines_of_a_pipe_loses_no_line(loop, pipe, mode):
    """Also those that had come as a whole; with a hint it returns what the builtin does."""
    reader, writer = pipe
    expected = [b"one\n", b"two\n", b"three\n", b"four"]
    if mode == "r":
        expected = [line.decode() for line in expected]

    def main():
        with files.open(reader, mode) as source:
            os.write(writer, b"one\ntwo\nth")
            with pytest.raises(coro.TimeoutError):
                coro.with_timeout(0.002, source.readlines)
            os.write(writer, b"ree\nfour")
            os.close(writer)
            assert source.readlines(5) == expected[:2]
            assert source.readlines(1) == expected[2:3]
            assert source.readlines() == expected[3:]
            assert source.readlines(None) == []

    loop(main)


@posix
def test_who_iterates_over_a_pipe_takes_nothing_from_who_reads(loop, pipe):
    """While one waits for the rest of a piece, the lines at its beginning are nobody else's."""
    reader, writer = pipe

    def main():
        with files.open(reader, "rb") as source:
            os.write(writer, b"one\ntwo\nthree\n")
            assert next(source) == b"one\n"
            piece = coro.spawn(source.read, 12)
            coro.yield_slice()
            line = coro.spawn(next, source)
            coro.yield_slice()
            os.write(writer, b"four\n")
            assert piece.result() == b"two\nthree\nfo"
            assert line.result() == b"ur\n"

    loop(main)


@posix
@pytest.mark.parametrize("mode", ["r", "rb"])
def test_lines_and_pieces_of_a_pipe_may_be_read_by_turns(loop, mode):
    """A length in a line of its own, then so much, by each of the ways to read both."""
    data = b"".join(b"%d\n" % number + b"\n" * number for number in range(300))

    def main():
        reader, writer = os.pipe()
        with files.open(reader, mode) as source, files.open(writer, "wb") as target:
            feeder = coro.spawn(lambda: (target.write(data), target.close()))
            ways = (source.__next__, source.readline, lambda: source.readline(9))
            for number in range(300):
                assert int(ways[number % 3]()) == number
                if number % 2:
                    assert len(source.read(number)) == number
                else:
                    left = number
                    while left:
                        left -= len(source.read1(left))
            assert source.read() == source.read(0)
            feeder.result()

    loop(main)


@posix
def test_a_closed_pipe_has_no_more_lines(loop, pipe):
    """Though some have arrived: ValueError, as with the builtin."""
    reader, writer = pipe

    def main():
        source = files.open(reader)
        os.write(writer, b"one\ntwo\n")
        assert next(source) == "one\n"
        source.close()
        for operation in (source.__next__, source.readline, source.readlines, source.__iter__):
            with pytest.raises(ValueError, match="closed"):
                operation()

    loop(main)


@posix
def test_an_interrupted_write_goes_on_with_the_next_flush(loop, pipe):
    """Nothing is written twice, nothing is lost, wherever the pipe was full."""
    reader, writer = pipe
    data = bytes(range(256)) * 1000

    def main():
        with files.open(reader, "rb") as source:
            with files.open(writer, "wb") as target:
                with pytest.raises(coro.TimeoutError):
                    coro.with_timeout(0.005, target.write, data)
                co = coro.spawn(source.read)
                target.flush()
            assert co.result() == data

    loop(main)


@posix
def test_a_close_raises_closed_error_in_the_reader(loop, pipe):
    """Which names who has done it; those behind it find the file closed."""
    reader, _ = pipe

    def main():
        source = files.open(reader, "rb")
        first = coro.spawn(raised, source.readline)
        second = coro.spawn(raised, source.readline)
        coro.yield_slice()
        source.close()
        assert isinstance(first.result(), coro.ClosedError)
        assert first.result().closed_by is coro.current()
        assert isinstance(second.result(), ValueError)
        assert source.closed
        source.close()

    loop(main)


@posix
def test_readers_and_writers_of_a_pipe_take_turns(loop, pipe):
    """Each reader gets whole lines, in the order in which they came; writers do not get in each other's way."""
    reader, writer = pipe

    def main():
        with files.open(reader) as source, files.open(writer, "w") as target:
            readers = [coro.spawn(source.readline) for _ in range(3)]
            coro.yield_slice()
            for piece in ("a", "a\nb", "b\ncc", "\n"):
                os.write(writer, piece.encode())
                coro.yield_slice()
            assert [co.result() for co in readers] == ["aa\n", "bb\n", "cc\n"]

            def write(letter):
                target.write(letter * 100_000 + "\n")
                target.flush()

            writers = [coro.spawn(write, letter) for letter in "xyz"]
            assert [len(source.readline()) for _ in "xyz"] == [100_001] * 3
            for co in writers:
                co.result()

    loop(main)


@posix
@pytest.mark.parametrize("newline", [None, "", "\n", "\r", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_text_of_a_pipe_is_that_of_the_builtin(loop, newline, encoding):
    """The same lines, pieces and bytes for each newline, however the data are cut."""
    text = "öne\r\ntwo\nthree\rfour\r\n\nfive\r"
    data = text.encode(encoding)

    def builtin(call):
        reader, writer = os.pipe()
        os.write(writer, data)
        os.close(writer)
        with open(reader, encoding=encoding, newline=newline) as file:
            return call(file)

    def ours(call, size):
        reader, writer = os.pipe()

        def feed():
            for begin in range(0, len(data), size):
                os.write(writer, data[begin : begin + size])
                coro.yield_slice()
            os.close(writer)

        with files.open(reader, encoding=encoding, newline=newline) as file:
            coro.spawn(feed)
            return call(file)

    def main():
        for call in (
            lambda file: file.readlines(),
            lambda file: (file.read(6), file.readline(), file.readline(2), file.readline(-1), file.read()),
        ):
            expected = builtin(call)
            for size in (1, 3, 1000):
                assert ours(call, size) == expected

        reader, writer = os.pipe()
        with files.open(writer, "w", encoding=encoding, newline=newline) as file:
            file.write("a\n")
            file.write("b\r\n")
        with open(reader, "rb") as file:
            written = file.read()
        expected = io.BytesIO()
        with io.TextIOWrapper(expected, encoding=encoding, newline=newline) as file:
            file.write("a\nb\r\n")
            file.flush()
            assert written == expected.getvalue()

    loop(main)


@posix
def test_binary_pipes_have_the_methods_of_the_builtin(loop, pipe):
    """Reading by pieces, into a buffer, without taking; no position; clear errors for what cannot be."""
    reader, writer = pipe

    def main():
        with files.open(reader, "rb") as source, files.open(writer, "wb") as target:
            os.write(writer, b"0123456789\nab\n")
            assert source.peek()[:2] == b"01"
            assert source.read(2) == b"01"
            assert source.read1(3) == b"234"
            assert source.read(0) == source.read1(0) == b""
            assert source.readline(2) == b"56"
            buffer = bytearray(3)
            assert source.readinto(buffer) == 3
            assert buffer == b"789"
            assert source.readline() == b"\n"
            assert source.readline(100) == b"ab\n"
            assert (source.readable(), source.writable(), source.seekable()) == (True, False, False)
            for operation in (source.tell, source.detach, target.read, lambda: source.write(b"x")):
                with pytest.raises(io.UnsupportedOperation):
                    operation()
            with pytest.raises(TypeError):
                target.write("text")
            assert target.write(memoryview(b"abcd").cast("H")) == 4
            target.writelines([b"x", b"y"])
            target.flush()
            assert source.read(6) == b"abcdxy"
        with pytest.raises(ValueError, match="closed"):
            source.read()
        with pytest.raises(ValueError, match="closed"):
            target.write(b"")

    loop(main)


@posix
def test_an_unbuffered_pipe_takes_nothing_beyond_what_is_asked_for(loop, pipe):
    """What comes after the line is left to whoever shares the pipe; a write is there at once."""
    reader, writer = pipe

    def main():
        with files.open(reader, "rb", buffering=0) as source, files.open(writer, "wb", buffering=0) as target:
            target.write(b"line\nrest")
            assert source.readline() == b"line\n"
            assert os.read(reader, 2) == b"re"
            assert source.read(100) == b"st"

    loop(main)


@posix
def test_a_broken_pipe_is_an_error_once_and_the_descriptor_is_closed(loop, pipe):
    """At the flush, and again at the close, as with the builtin."""
    reader, writer = pipe

    def main():
        target = files.open(writer, "wb")
        target.write(b"x")
        os.close(reader)
        with pytest.raises(BrokenPipeError):
            target.flush()
        with pytest.raises(BrokenPipeError):
            target.close()
        assert target.closed

    loop(main)


@posix
def test_a_descriptor_that_was_given_stays_as_it_was(loop, pipe):
    """Neither a read nor a nearly full pipe makes it non-blocking, nor blocks the thread; closefd=False is obeyed."""
    reader, writer = pipe

    def main():
        with (
            files.open(reader, "rb", closefd=False) as source,
            files.open(writer, "wb", closefd=False) as target,
        ):
            size = fill(writer)
            os.read(reader, 6000)
            co = coro.spawn(target.write, b"x" * 300_000)
            coro.yield_slice()
            assert not co.dead
            assert len(source.read(size + 290_000)) == size + 290_000
            target.flush()
            co.result()
            assert os.get_blocking(reader)
            assert os.get_blocking(writer)
        os.fstat(reader)
        os.fstat(writer)

    loop(main)


@posix
def test_a_fifo_is_opened_by_name(loop, tmp_path):
    """The thread waits for the other end, the coroutines do not."""
    path = tmp_path / "fifo"
    os.mkfifo(path)

    def write():
        with files.open(path, "w") as target:
            target.write("through")

    def main():
        co = coro.spawn(write)
        with files.open(path) as source:
            assert isinstance(source, files.Stream)
            assert source.read() == "through"
        co.join()

    loop(main)


@posix
@pytest.mark.parametrize("kind", ["pipe", "terminal", "file", "null"])
def test_the_standard_input_is_read_whatever_it_is(loop, tmp_path, kind):
    """By its number, as a program does with open(0, closefd=False): each gives the same lines."""
    path = tmp_path / "file"
    path.write_bytes(b"one\ntwo\n")
    data, others = b"one\ntwo\n", []
    if kind == "pipe":
        fd, writer = os.pipe()
        os.write(writer, data)
        os.close(writer)
    elif kind == "terminal":
        master, fd = os.openpty()
        others.append(master)
        os.write(master, data + b"\4")  # ^D
    else:
        fd = os.open(path if kind == "file" else os.devnull, os.O_RDONLY)

    def main():
        with files.open(fd, closefd=False) as stdin:
            return [line.upper() for line in stdin]

    try:
        assert loop(main) == ([] if kind == "null" else ["ONE\n", "TWO\n"])
    finally:
        for number in (fd, *others):
            os.close(number)


@posix
def test_a_device_that_the_poller_refuses_is_always_ready(loop):
    """The null device takes everything and gives nothing, the zero device gives zeros; others get their turn."""
    ticks = []

    def main():
        co = coro.spawn(lambda: [(ticks.append(1), coro.yield_slice()) for _ in range(20)])
        with files.open(os.devnull, "r+b", buffering=0) as null:
            assert null.write(b"x" * 1_000_000) == 1_000_000
            assert null.read() == b""
        with files.open("/dev/zero", "rb") as zero:
            assert zero.read(1_000_000) == bytes(1_000_000)
        assert len(ticks) > 10
        co.join()

    loop(main)


@posix
def test_a_terminal_serves_as_a_socket_and_as_a_file(loop):
    """The master by fd_sock, the slave opened anew by its name, whose own setting nobody else shares."""
    master, slave = os.openpty()

    def main():
        with coro.fd_sock(master) as keyboard, files.open(os.ttyname(slave), "r+b", buffering=0) as terminal:
            assert terminal.isatty()
            reader = coro.spawn(terminal.readline)
            coro.yield_slice()
            keyboard.send(b"typed\n")
            assert reader.result() == b"typed\n"
            terminal.write(b"shown")
            seen = b""
            while b"shown" not in seen:
                seen += keyboard.recv(100)
            assert os.get_blocking(slave)
            assert not os.get_blocking(terminal.fileno())

    try:
        loop(main)
    finally:
        os.close(slave)


@posix
def test_a_terminal_is_line_buffered(loop):
    """Text that ends a line is shown at once, as the builtin does it; what does not waits for the flush."""
    master, slave = os.openpty()

    def main():
        with coro.fd_sock(master) as screen, files.open(os.ttyname(slave), "w") as terminal:
            assert terminal.line_buffering
            terminal.write("a line\n")
            assert screen.recv(100).split() == [b"a", b"line"]
            terminal.write("half")
            with pytest.raises(coro.TimeoutError):
                coro.with_timeout(0.002, screen.recv, 100)
            terminal.flush()
            assert screen.recv(100) == b"half"

    try:
        loop(main)
    finally:
        os.close(slave)


@posix
def test_a_full_terminal_that_was_opened_by_name_does_not_block_the_thread(loop):
    """Its reader is a coroutine of the same loop, makes room bit by bit, and gets it all."""
    master, slave = os.openpty()
    expected = fill(slave) + 10_000

    def main():
        with coro.fd_sock(master) as screen, files.open(os.ttyname(slave), "wb") as terminal:

            def write():
                terminal.write(b"x" * 10_000)
                terminal.flush()

            co = coro.spawn(write)
            seen = 0
            while seen < expected:
                seen += len(screen.recv(100))
            co.join()

    try:
        loop(main)
    finally:
        os.close(slave)


@posix
def test_a_lost_stream_is_closed_with_a_warning(loop, pipe):
    """And does not try to write, which might block."""
    _, writer = pipe

    def main():
        target = files.open(writer, "wb")
        target.write(b"lost")
        held = [target]
        del target
        with pytest.warns(ResourceWarning, match="unclosed file"):
            held.clear()

    loop(main)


@posix
def test_outside_a_coroutine_a_stream_does_not_block(loop, pipe):
    """What would have to wait raises YieldFromMain; closing works."""
    reader, writer = pipe
    source, target = loop(lambda: (files.open(reader), files.open(writer, "w")))
    with pytest.raises(coro.YieldFromMain):
        source.read()
    target.write("x")
    with pytest.raises(coro.YieldFromMain):
        target.close()
    assert target.closed
    source.close()


@posix
def test_a_second_reader_of_the_same_descriptor_is_refused(loop, pipe):
    """Two file objects on one descriptor would get in each other's way: SimultaneousError names both coroutines."""
    reader, _ = pipe

    def main():
        with files.open(reader, closefd=False) as one, files.open(reader, closefd=False) as two:
            first = coro.spawn(raised, one.read)
            coro.yield_slice()
            exc = raised(two.read)
            assert isinstance(exc, coro.SimultaneousError)
            assert exc.other is first
            first.shutdown()
            first.join()

    loop(main)
