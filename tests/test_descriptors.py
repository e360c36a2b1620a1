"""Waiting for descriptors that coro does not own, and what can go wrong with that."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
import tempfile
import time

import pytest

import coro
from coro.kernel import this_kernel


class Boom(Exception):
    pass


posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows can wait for sockets only")


@pytest.fixture
def pair():
    a, b = socket.socketpair()
    a.setblocking(False)
    b.setblocking(False)
    with a, b:
        yield a, b


@pytest.fixture
def pipe():
    ends = os.pipe()
    yield ends
    for fd in ends:
        with contextlib.suppress(OSError):
            os.close(fd)


def fill(sock):
    """Send until the buffers are full."""
    sent = 0
    try:
        while True:
            sent += sock.send(b"x" * 65536)
    except BlockingIOError:
        return sent


def test_a_reader_waits_until_there_is_something_to_read(loop, pair):
    """Numbers and objects with fileno() both do; what is there already ends the wait at once."""
    a, b = pair

    def main():
        for waitable in (a, a.fileno()):
            co = coro.spawn(coro.wait_for_read, waitable)
            coro.sleep_relative(0.002)
            assert not co.dead
            b.send(b"x")
            co.join()
            coro.wait_for_read(waitable)  # it is still there
            assert a.recv(10) == b"x"

    loop(main)


def test_a_writer_waits_until_there_is_room(loop, pair):
    """At once while there is room; else until the peer has read."""
    a, b = pair

    def main():
        coro.wait_for_write(a)
        sent = fill(a)
        co = coro.spawn(coro.wait_for_write, a)
        coro.sleep_relative(0.002)
        assert not co.dead
        received = 0
        while received < sent:
            received += len(b.recv(65536))
        co.join()

    loop(main)


def test_one_reader_and_one_writer_on_one_descriptor(loop, pair):
    """Full duplex: what ends one wait does not lose the other."""
    a, b = pair

    def main():
        for _ in range(5):
            sent = fill(a)
            reader, writer = coro.spawn(coro.wait_for_read, a), coro.spawn(coro.wait_for_write, a)
            coro.sleep_relative(0.001)
            b.send(b"x")
            reader.join()
            coro.sleep_relative(0.001)
            assert not writer.dead
            while sent:
                sent -= len(b.recv(65536))
            writer.join()
            a.recv(10)
            sent = fill(a)
            reader, writer = coro.spawn(coro.wait_for_read, a), coro.spawn(coro.wait_for_write, a)
            coro.sleep_relative(0.001)
            while sent:
                sent -= len(b.recv(65536))
            writer.join()
            coro.sleep_relative(0.001)
            assert not reader.dead
            b.send(b"x")
            reader.join()
            a.recv(10)

    loop(main)


@pytest.mark.parametrize("direction", ["read", "write"])
def test_two_waiters_for_the_same_are_refused_with_both_named(loop, pair, direction):
    """SimultaneousError in the second; the first goes on waiting; after its end the place is free."""
    a, b = pair
    wait = coro.wait_for_read if direction == "read" else coro.wait_for_write

    def main():
        sent = fill(a)
        first = coro.spawn(wait, a)
        coro.yield_slice()
        with pytest.raises(coro.SimultaneousError) as caught:
            wait(a)
        assert (caught.value.co, caught.value.other) == (coro.current(), first)
        assert caught.value.event == (a.fileno(), direction)
        assert repr(coro.current()) in str(caught.value)
        assert repr(first) in str(caught.value)
        assert not first.dead
        b.send(b"x")
        while sent:
            sent -= len(b.recv(65536))
        first.join()
        wait(a)

    loop(main)


def test_an_interrupted_wait_leaves_no_waiter(loop, pair):
    """After a timeout or an exception the next wait is not refused, and works."""
    a, b = pair

    def main():
        for _ in range(3):
            with pytest.raises(coro.TimeoutError):
                coro.with_timeout(0.002, coro.wait_for_read, a)
            assert not this_kernel().fds
        co = coro.spawn(coro.wait_for_read, a)
        coro.yield_slice()
        co.shutdown()
        coro.yield_slice()
        assert not this_kernel().fds
        co = coro.spawn(coro.wait_for_read, a)
        coro.yield_slice()
        b.send(b"x")
        co.join()

    loop(main)


def test_an_interrupted_reader_does_not_disturb_the_writer(loop, pair):
    """The writer on the same descriptor still gets its event."""
    a, b = pair

    def main():
        sent = fill(a)
        writer = coro.spawn(coro.wait_for_write, a)
        coro.yield_slice()
        with pytest.raises(coro.TimeoutError):
            coro.with_timeout(0.002, coro.wait_for_read, a)
        while sent:
            sent -= len(b.recv(65536))
        coro.with_timeout(5, writer.join)

    loop(main)


def test_D_08_schedule_does_not_end_a_wait_for_a_descriptor(loop, pair):
    """A wake-up is a hint: the waiter looks, and goes on waiting."""
    a, b = pair

    def main():
        co = coro.spawn(coro.wait_for_read, a)
        coro.yield_slice()
        for _ in range(3):
            co.schedule("stray")
            coro.yield_slice()
            assert not co.dead
        b.send(b"x")
        co.join()

    loop(main)


@posix
def test_D_14_the_end_of_the_writer_wakes_the_reader_of_an_empty_pipe(loop, pipe):
    """A hangup without data is an event for whoever waits."""
    r, w = pipe

    def main():
        co = coro.spawn(coro.wait_for_read, r)
        coro.yield_slice()
        os.close(w)
        coro.with_timeout(5, co.join)
        assert os.read(r, 1) == b""

    loop(main)


@posix
def test_D_14_the_end_of_the_reader_wakes_the_writer_of_a_full_pipe(loop, pipe):
    """And its write then says EPIPE."""
    r, w = pipe
    os.set_blocking(w, False)

    def main():
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(w, b"x" * 4096)
        co = coro.spawn(coro.wait_for_write, w)
        coro.yield_slice()
        os.close(r)
        coro.with_timeout(5, co.join)
        with pytest.raises(BrokenPipeError):
            os.write(w, b"x")

    loop(main)


def test_a_refused_connect_wakes_the_writer(loop):
    """The error is in SO_ERROR."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = closed.getsockname()

    def main():
        with socket.socket() as sock:
            sock.setblocking(False)
            if sock.connect_ex(address) in (errno.EINPROGRESS, errno.EWOULDBLOCK):
                coro.with_timeout(10, coro.wait_for_write, sock)
                assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED

    loop(main)


# -- bad descriptors -------------------------------------------------------------------------------------------------

WAITS = [coro.wait_for_read, coro.wait_for_write]


@pytest.mark.parametrize("wait", WAITS)
@pytest.mark.parametrize(
    ("junk", "error"),
    [(None, TypeError), ("0", TypeError), (1.5, TypeError), (True, TypeError), (object(), TypeError), (-1, ValueError)],
)
def test_what_is_no_descriptor_is_refused(loop, wait, junk, error):
    """TypeError or ValueError at once."""

    def main():
        with pytest.raises(error):
            wait(junk)
        assert not this_kernel().fds

    loop(main)


@pytest.mark.parametrize("wait", WAITS)
def test_a_closed_object_is_refused(loop, wait, pair):
    """Its fileno() is -1."""

    def main():
        pair[0].close()
        with pytest.raises(ValueError, match="closed"):
            wait(pair[0])

    loop(main)


@pytest.mark.parametrize("wait", WAITS)
def test_D_16_a_closed_descriptor_is_ebadf_and_leaves_no_waiter(loop, wait):
    """OSError at once; a new descriptor with that number can be waited for."""

    def main():
        a, b = socket.socketpair()
        number = a.fileno()
        a.close()
        for _ in range(2):
            with pytest.raises(OSError) as caught:  # noqa: PT011  # the number is checked below
                wait(number)
            assert caught.value.errno == errno.EBADF
        assert not this_kernel().fds
        b.close()

    loop(main)


@posix
@pytest.mark.parametrize("wait", WAITS)
def test_D_16_a_regular_file_is_eperm_and_leaves_no_waiter(loop, wait):
    """It is always ready: the second attempt is not a SimultaneousError."""

    def main():
        with tempfile.TemporaryFile() as file:
            for _ in range(2):
                with pytest.raises(PermissionError):
                    wait(file)
        assert not this_kernel().fds

    loop(main)


# -- notify_of_close -------------------------------------------------------------------------------------------------


def test_notify_of_close_raises_closed_error_in_both_waiters(loop, pair):
    """With errno EBADF, a text that says by whom, and the closer as an attribute."""
    a, _ = pair
    seen = []

    def waiter(wait):
        try:
            wait(a)
        except coro.ClosedError as exc:
            seen.append(exc)

    def main():
        fill(a)
        waiters = [coro.spawn(waiter, wait) for wait in WAITS]
        coro.yield_slice()
        coro.notify_of_close(a)
        a.close()
        for co in waiters:
            co.join()
        assert not this_kernel().fds

    loop(main)

    assert len(seen) == 2
    for exc in seen:
        assert isinstance(exc, OSError)
        assert exc.errno == errno.EBADF
        assert "was closed by <coro #" in str(exc)
        assert exc.closed_by.name.endswith("main")


@pytest.mark.parametrize("order", ["shutdown first", "close first"])
def test_D_50_shutdown_and_close_in_either_order(loop, pair, order):
    """A waiter that is shut down and whose descriptor is closed ends, with one of the two."""
    a, _ = pair

    def body():
        with contextlib.suppress(coro.ClosedError):
            coro.wait_for_read(a)

    def main():
        co = coro.spawn(body)
        coro.yield_slice()
        if order == "shutdown first":
            co.shutdown()
            coro.notify_of_close(a)
        else:
            coro.notify_of_close(a)
            co.shutdown()
        co.join()

    loop(main)


def test_notify_of_close_without_waiters_is_nothing(loop, pair):
    """In the loop and outside it."""
    coro.notify_of_close(pair[0])
    loop(coro.notify_of_close, pair[0])


def test_D_18_a_number_that_is_used_again_wakes_only_its_new_waiter(loop):
    """Closed with a duplicate left open, number used again: events of the old file wake nobody."""

    def main():
        a, b = socket.socketpair()
        duplicate = a.dup()
        waiter = coro.spawn(expect_closed, a)
        coro.yield_slice()
        number = a.fileno()
        coro.notify_of_close(a)
        a.close()
        waiter.join()
        c, d = socket.socketpair()
        assert number in (c.fileno(), d.fileno())
        fresh, other = (c, d) if c.fileno() == number else (d, c)
        co = coro.spawn(coro.wait_for_read, fresh)
        coro.yield_slice()
        b.send(b"for the old one")
        coro.sleep_relative(0.005)
        assert not co.dead
        other.send(b"x")
        co.join()
        for sock in (b, c, d, duplicate):
            sock.close()

    def expect_closed(sock):
        with pytest.raises(coro.ClosedError):
            coro.wait_for_read(sock)

    loop(main)


def test_many_descriptors_at_once(loop, poller):
    """A few hundred waiters are each woken once, by their own event."""
    count = 200
    pairs = [socket.socketpair() for _ in range(count)]
    woken = []

    def reader(number):
        coro.wait_for_read(pairs[number][0])
        woken.append(number)
        assert pairs[number][0].recv(10) == b"%d" % number

    def main():
        children = [coro.spawn(reader, number) for number in range(count)]
        coro.yield_slice()
        for number in range(count):
            pairs[number][1].send(b"%d" % number)
        for co in children:
            co.join()

    try:
        loop(main)
    finally:
        for one in pairs:
            for sock in one:
                sock.close()

    assert sorted(woken) == list(range(count))


@posix
def test_select_says_where_its_limit_is(poller, failures):
    """A descriptor past FD_SETSIZE is a clear error for the one who waits, and nobody else is disturbed."""
    if poller != "select":
        pytest.skip(f"{poller} can watch descriptors of any number; only select refuses those from FD_SETSIZE up")
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 1100:
        pytest.skip(f"this process may have no more than {hard} descriptors, too few to pass FD_SETSIZE (1,024)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1100) if soft > 0 else soft, hard))
    opened = []

    def main():
        a, b = socket.socketpair()
        opened.extend([a.detach(), b.detach()])
        co = coro.spawn(coro.wait_for_read, opened[0])
        coro.yield_slice()
        while opened[-1] < 1030:
            opened.append(os.dup(opened[0]))
        with pytest.raises(OSError, match="1024"):
            coro.wait_for_read(opened[-1])
        os.write(opened[1], b"x")
        co.join()

    try:
        coro.run(main)
    finally:
        for fd in opened:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_an_idle_wait_costs_no_cpu_time(loop, pair):
    """The loop sleeps in the poller."""

    def main():
        co = coro.spawn(coro.wait_for_read, pair[0])
        cpu = time.process_time()
        coro.sleep_relative(0.1)
        assert time.process_time() - cpu < 0.05
        co.shutdown()

    loop(main)


def test_a_number_is_free_again_as_soon_as_its_waiter_has_been_shut_down(loop):
    """Shut down, closed and used again before the old waiter has run: the new one waits undisturbed."""

    def main():
        a, b = socket.socketpair()
        old = coro.spawn(coro.wait_for_read, a)
        coro.yield_slice()
        number = a.fileno()
        old.shutdown()
        a.close()
        c, d = socket.socketpair()
        fresh, other = (c, d) if c.fileno() == number else (d, c)
        assert fresh.fileno() == number
        co = coro.spawn(coro.wait_for_read, fresh)
        waiting = coro.spawn(coro.wait_for_write, fresh)
        coro.yield_slice()
        assert old.dead
        other.send(b"x")
        coro.with_timeout(5, co.join)
        waiting.join()
        for sock in (b, c, d):
            sock.close()

    loop(main)
