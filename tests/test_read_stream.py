"""Lines and pieces from streams of bytes (C7, B4, D-49)."""

from __future__ import annotations

import io
import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

import coro
from coro.read_stream import LineTooLong, buffered_stream, sock_stream

FEW = st.sampled_from(b"\r\n")  # few different bytes: delimiters that overlap themselves and each other
DATA = st.lists(FEW, max_size=60).map(bytes)
DELIMITER = st.lists(FEW, min_size=1, max_size=5).map(bytes)
SIZES = st.lists(st.integers(1, 7), min_size=1, max_size=5)


def blocks_of(data, sizes):
    """A producer that returns *data* in blocks of these sizes, again and again, then b"" for ever."""
    source = io.BytesIO(data)
    left = itertools.cycle(sizes)
    return lambda: source.read(next(left))


def lines_of(stream, delim):
    return list(iter(lambda: stream.read_until(delim), b""))


def split(data, delim):
    """What bytes.split() says that the lines are."""
    *complete, rest = data.split(delim)
    return [line + delim for line in complete] + ([rest] if rest else [])


@given(DATA, DELIMITER, SIZES)
def test_D_49_lines_are_those_of_bytes_split(data, delim, sizes):
    """Wherever the blocks begin, for delimiters of any length, also those that begin with what they end with."""
    assert lines_of(buffered_stream(blocks_of(data, sizes)), delim) == split(data, delim)


@given(DATA, DELIMITER, SIZES)
def test_D_49_the_pieces_of_a_line_make_up_the_line(data, delim, sizes):
    """gen_read_until() ends at the same places as read_until(), and keeps no more back than part of a delimiter."""
    stream = buffered_stream(blocks_of(data, sizes))
    lines = []
    while pieces := list(stream.read_until(delim, join=False)):
        assert all(pieces)
        lines.append(b"".join(pieces))

    assert lines == split(data, delim)


@given(DATA, SIZES, st.lists(st.integers(0, 12), max_size=20), st.booleans())
def test_read_exact_returns_as_many_bytes_as_asked_for(data, sizes, wanted, join):
    """Fewer only at the end of the stream; join=False gives the same in pieces."""
    stream = buffered_stream(blocks_of(data, sizes))
    expected = io.BytesIO(data)
    for size in wanted:
        got = stream.read_exact(size, join)
        assert (got if join else b"".join(got)) == expected.read(size)
    assert b"".join(stream.read_all()) == expected.read()
    assert stream.read_exact(5) == b""


@given(DATA, SIZES, st.integers(1, 20), DELIMITER)
def test_no_line_is_longer_than_the_limit_wherever_the_blocks_begin(data, sizes, limit, delim):
    """The limit counts the delimiter.  A line that is too long stays in the stream and can be read in pieces."""
    stream = buffered_stream(blocks_of(data, sizes), limit)
    for expected in split(data, delim):
        if len(expected) <= limit:
            assert stream.read_until(delim) == expected
        else:
            for _ in range(2):
                with pytest.raises(LineTooLong) as caught:
                    stream.read_until(delim)
                assert caught.value.limit == limit
            assert b"".join(stream.gen_read_until(delim)) == expected
    assert stream.read_until(delim) == b""


def test_a_line_without_end_takes_no_more_memory_than_the_limit():
    """One block more than the limit is read, then LineTooLong says how to go on."""
    read = []

    def endless():
        read.append(1000)
        return b"x" * 1000

    stream = buffered_stream(endless, 10_000)

    with pytest.raises(LineTooLong, match="longer than 10000 bytes: read it with gen_read_until"):
        stream.read_line()
    assert sum(read) == 11_000


def test_by_default_a_line_may_have_a_mebibyte():
    """Not a byte more."""
    line = b"x" * (2**20 - 2) + b"\r\n"

    assert buffered_stream(io.BytesIO(line).read).read_line() == line
    with pytest.raises(LineTooLong):
        buffered_stream(io.BytesIO(b"x" + line).read).read_line()


def test_D_49_a_delimiter_may_begin_in_the_middle_of_a_false_start():
    """The example of the defect: one carriage return too many."""
    stream = buffered_stream(blocks_of(b"a\r\r\nb\r\n", [2, 1, 1]))

    assert stream.read_line() == b"a\r\r\n"
    assert stream.read_line() == b"b\r\n"


def test_D_49_the_end_and_a_last_line_cut_short_are_told_apart():
    """The line comes without its delimiter, the end is empty; an empty line is a delimiter."""
    stream = buffered_stream(blocks_of(b"\r\none\r\ntwo\r", [99]))

    assert [stream.read_line() for _ in range(5)] == [b"\r\n", b"one\r\n", b"two\r", b"", b""]


def test_flush_returns_what_was_read_ahead():
    """And forgets it, without reading."""
    stream = buffered_stream(blocks_of(b"one\r\ntwo", [99]))
    stream.read_line()

    assert stream.flush() == b"two"
    assert stream.flush() == b""


def test_read_all_returns_what_was_read_ahead_and_the_rest():
    """Block by block."""
    stream = buffered_stream(blocks_of(b"a\r\nbcdef", [4, 2, 2]))
    stream.read_line()

    assert list(stream.read_all()) == [b"b", b"cd", b"ef"]


def test_a_generator_that_is_given_up_leaves_the_rest_in_the_stream():
    """What it has not yielded can still be read."""
    stream = buffered_stream(blocks_of(b"abcdef|gh", [2, 2]))
    pieces = stream.gen_read_until(b"|")

    assert next(pieces) == b"ab"
    pieces.close()
    assert stream.read_until(b"|") == b"cdef|"


@pytest.mark.parametrize("length", [1, 4, 20])
@pytest.mark.parametrize("chunk", [1, 2, 7, 20, None, 1000, 10_000])
def test_lines_over_a_socket(loop, length, chunk):
    """The lines that one coroutine sends, in chunks of one size or of random ones, are those that the other reads."""
    draw = random.Random(length)
    delim = bytes(draw.choices(b"\r\n|.", k=length))
    lines = [bytes(draw.choices(b"\r\n|.abc", k=draw.randrange(40))) for _ in range(10)]
    data = delim.join(lines) + delim

    def main():
        a, b = coro.socketpair()

        def send():
            begin = 0
            with a:
                while begin < len(data):
                    size = chunk or draw.randrange(1, 50)
                    a.send(data[begin : begin + size])
                    begin += size
                    coro.yield_slice()

        with b:
            coro.spawn(send)
            assert lines_of(sock_stream(b), delim) == split(data, delim)

    loop(main)


def test_a_timeout_loses_nothing(loop):
    """What had come of the line before the timeout is there for the next call."""

    def main():
        a, b = coro.socketpair()
        with a, b:
            stream = sock_stream(b)
            for method, argument in ((stream.read_until, b"\n"), (stream.read_exact, 7)):
                a.send(b"one ")
                with pytest.raises(coro.TimeoutError):
                    coro.with_timeout(0.001, method, argument)
                a.send(b"do\n")
                assert method(argument) == b"one do\n"

    loop(main)


def test_a_stream_reads_from_whatever_has_recv_read1_or_read(loop):
    """read1() before read(): that of a buffered file would wait for a full block while a line is there."""

    class ReadOnly:
        def __init__(self, data):
            self.read = io.BytesIO(data).read

    def main():
        a, b = coro.socketpair()
        with a, b, b.makefile("rb") as file:
            a.send(b"line\r\n")
            assert coro.with_timeout(10, sock_stream(file).read_line) == b"line\r\n"

    loop(main)
    assert sock_stream(io.BytesIO(b"x\r\n")).read_line() == b"x\r\n"
    assert sock_stream(ReadOnly(b"y\r\nz")).read_line() == b"y\r\n"


def test_bad_input_is_refused_at_once():
    """Before anything is read, by the generators too."""

    def never():
        raise AssertionError

    stream = buffered_stream(never)
    for method in (stream.read_until, stream.gen_read_until, stream.read_line):
        with pytest.raises(ValueError, match="one byte at least"):
            method(b"")
        with pytest.raises(TypeError, match="a delimiter is bytes, not '\\\\n'"):
            method("\n")
    for method in (stream.read_exact, stream.gen_read_exact):
        with pytest.raises(ValueError, match="0 or more, not -1"):
            method(-1)
        with pytest.raises(TypeError, match="is an int"):
            method(1.5)
    with pytest.raises(TypeError, match="a producer is a function"):
        buffered_stream(b"data")
    with pytest.raises(ValueError, match="must be 1 or more"):
        buffered_stream(never, 0)
    with pytest.raises(TypeError, match=r"recv\(\), read1\(\) or read\(\), not from 5"):
        sock_stream(5)
