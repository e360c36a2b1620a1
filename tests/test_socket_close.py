"""What the end of a socket, and of the wait of a coroutine for it, does to all others: close, shutdown, timeouts."""

from __future__ import annotations

import contextlib
import errno
import gc
import io
import os
import socket
import warnings

import pytest

import coro
from coro.connect import create_server, socketpair, tcp_sock, udp_sock
from coro.kernel import this_kernel
from coro.sockets import SHUT, SO, SOL

from .helpers import CountedIO, fails, fill, parked, posix

# -- whoever waits ---------------------------------------------------------------------------------------------------


def read_blocked(stack):
    a, b = socketpair()
    stack.enter_context(a)
    return b, lambda: b.recv(10)


def read_into_blocked(stack):
    a, b = socketpair()
    stack.enter_context(a)
    return b, lambda: b.recv_into(bytearray(10))


def write_blocked(stack):
    a, b = socketpair()
    stack.enter_context(a)
    fill(b)
    return b, lambda: b.send(b"x")


def writev_blocked(stack):
    a, b = socketpair()
    stack.enter_context(a)
    fill(b)
    return b, lambda: b.writev([b"x", b"y"])


def accept_blocked(stack):
    listener = create_server(("127.0.0.1", 0))
    return listener, listener.accept


def wait_blocked(stack):
    a, b = socketpair()
    stack.enter_context(a)
    return b, b.wait_for_read


BLOCKED = [read_blocked, read_into_blocked, write_blocked, writev_blocked, accept_blocked, wait_blocked]


@pytest.mark.parametrize("blocked", BLOCKED)
def test_close_wakes_whoever_waits_and_says_who_did_it(loop, blocked):
    """ClosedError (EBADF) that names the coroutine that closed and the one that waited."""

    def main():
        with contextlib.ExitStack() as stack:
            s, call = blocked(stack)
            waiter = parked(fails, call)
            closer = coro.spawn(s.close, thread_name="the closer")
            error = waiter.result(5)
            assert type(error) is coro.ClosedError
            assert error.errno == errno.EBADF
            assert error.closed_by is closer
            assert "the closer" in str(error)
            assert repr(waiter)[:10] in str(error)
            assert not this_kernel()._somebody_waits()

    loop(main)


def test_close_wakes_the_waiters_of_both_directions(loop):
    """A reader and a writer of one socket."""
    a, b = socketpair()

    def main():
        fill(b)
        waiters = [parked(fails, b.recv, 10), parked(fails, b.send, b"x")]
        b.close()
        assert [type(co.result(5)) for co in waiters] == [coro.ClosedError] * 2
        a.close()

    loop(main)


@pytest.mark.parametrize("blocked", BLOCKED)
@pytest.mark.parametrize("submitted", [True, False], ids=["blocked", "about to block"])
@pytest.mark.parametrize("order", [("shutdown", "close"), ("close", "shutdown")], ids=" then ".join)
def test_shutting_a_coroutine_down_and_closing_its_socket(loop, blocked, submitted, order):
    """In both orders, blocked already or about to: it ends with Shutdown or ClosedError, and all is well."""
    seen = []

    def body(call):
        try:
            call()
        except (coro.Shutdown, coro.ClosedError) as exc:
            seen.append(type(exc))
            raise

    def main():
        with contextlib.ExitStack() as stack:
            s, call = blocked(stack)
            co = coro.spawn(lambda: fails(body, call))
            if submitted:
                coro.yield_slice()
            for step in order:
                (co.shutdown if step == "shutdown" else s.close)()
            co.join()
            assert seen == ([coro.Shutdown] if submitted else [])

    loop(main)


def two_in_one_batch(first, second):
    """Run both, blocked in reads of their own, woken by one poll in an order that the poller decides."""
    (a, b), (c, d) = socketpair(), socketpair()
    with a, c, b, d:
        one, two = parked(first, b, d), parked(second, d)
        a.send(b"go")
        c.send(b"data")
        coro.yield_slice()
        one.join()
        two.join()
        return two


@pytest.mark.parametrize("swapped", [False, True])
def test_a_close_in_the_batch_that_brought_data_is_seen_by_the_reader(loop, swapped):
    """Made ready by data and closed before it ran: ClosedError, not the data of a closed socket."""
    outcomes = []

    def closer(mine, other):
        mine.recv(10)
        closed = not outcomes
        other.close()
        outcomes.append(closed)

    def reader(mine):
        try:
            outcomes.append(mine.recv(10))
        except coro.ClosedError as exc:
            outcomes.append(exc)

    def main():
        numbers = [os.dup(0) for _ in range(swapped)]  # another order of numbers
        two_in_one_batch(closer, reader)
        for number in numbers:
            os.close(number)

    loop(main)

    if outcomes[0] is True:
        assert type(outcomes[1]) is coro.ClosedError
    else:
        assert outcomes == [b"data", False]


def test_a_wake_up_that_was_replaced_by_an_exception_loses_no_data(loop):
    """A reader that is shut down in the batch that brought data: the next reader gets it."""
    seen = []

    def killer(mine, other):
        mine.recv(10)
        victim = other._entry.reader
        if victim is not None:
            assert victim.scheduled or not other._entry.readable
            victim.shutdown()

    def reader(mine):
        try:
            seen.append(mine.recv(10))
        except coro.Shutdown:
            coro.spawn(next_reader, mine.dup(), mine._entry.readable)
            raise

    def next_reader(mine, readable):
        with mine:
            seen.append(coro.with_timeout(5, mine.recv, 10))

    def main():
        two_in_one_batch(killer, reader)
        coro.yield_slice()
        coro.sleep_relative(0.002)

    loop(main)

    assert seen == [b"data"]


# -- closed sockets --------------------------------------------------------------------------------------------------


def test_close_is_idempotent_and_a_with_block_closes(loop):
    """A second close does nothing, also when the number is in use again by then."""

    def main():
        a, b = socketpair()
        with a as same:
            assert same is a
        assert a.fd == a.fileno() == -1
        number = a.orig_fd
        c, d = socketpair()
        assert number in (c.fd, d.fd)
        a.close()
        a.close()
        c.send(b"x")
        assert d.recv(1) == b"x"
        for s in (b, c, d):
            s.close()

    loop(main)


OPERATIONS = {
    "recv": lambda s: s.recv(1),
    "recv 0": lambda s: s.recv(0),
    "recv with flags": lambda s: s.recv(1, socket.MSG_PEEK),
    "read": lambda s: s.read(1),
    "recv_into": lambda s: s.recv_into(bytearray(1)),
    "recv much": lambda s: s.recv(2**31),
    "recvfrom": lambda s: s.recvfrom(1),
    "recvfrom_into": lambda s: s.recvfrom_into(bytearray(1)),
    "recvmsg": lambda s: s.recvmsg(1),
    "recvmsg_into": lambda s: s.recvmsg_into([bytearray(1)]),
    "recv_exact": lambda s: s.recv_exact(1),
    "readv": lambda s: s.readv([1]),
    "send": lambda s: s.send(b"x"),
    "send a view": lambda s: s.send(memoryview(b"x")),
    "write": lambda s: s.write(b"x"),
    "sendall": lambda s: s.sendall(b"x"),
    "writev": lambda s: s.writev([b"x"]),
    "sendmsg": lambda s: s.sendmsg([b"x"]),
    "send with flags": lambda s: s.send(b"x", socket.MSG_DONTROUTE),
    "sendto": lambda s: s.sendto(b"x", ("127.0.0.1", 9)),
    "sendfile": lambda s: s.sendfile(io.BytesIO(b"x")),
    "accept": lambda s: s.accept(),
    "accept_many": lambda s: s.accept_many(),
    "connect": lambda s: s.connect(("127.0.0.1", 9)),
    "connect_addr": lambda s: s.connect_addr(("127.0.0.1", 9)),
    "bind": lambda s: s.bind(("127.0.0.1", 0)),
    "listen": lambda s: s.listen(1),
    "shutdown": lambda s: s.shutdown(SHUT.RDWR),
    "getsockopt": lambda s: s.getsockopt(SOL.SOCKET, SO.TYPE),
    "setsockopt": lambda s: s.setsockopt(SOL.SOCKET, SO.KEEPALIVE, 1),
    "set_reuse_addr": lambda s: s.set_reuse_addr(),
    "getsockname": lambda s: s.getsockname(),
    "getpeername": lambda s: s.getpeername(),
    "wait_for_read": lambda s: s.wait_for_read(),
    "wait_for_write": lambda s: s.wait_for_write(),
    "get_inheritable": lambda s: s.get_inheritable(),
    "set_inheritable": lambda s: s.set_inheritable(True),
    "dup": lambda s: s.dup(),
    "makefile": lambda s: s.makefile(),
}


@pytest.mark.parametrize("used", [False, True], ids=["never used", "used"])
@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_every_use_of_a_closed_socket_is_a_closed_error(loop, operation, used):
    """At once, with EBADF, saying who closed it."""

    def main():
        if used:
            with create_server(("127.0.0.1", 0)) as listener, tcp_sock() as s:
                s.connect(listener.getsockname())
                listener.accept()[0].close()
                s.recv(10)
        else:
            s = tcp_sock()
            s.close()
        with pytest.raises(coro.ClosedError, match="was closed by") as caught:
            operation(s)
        assert caught.value.errno == errno.EBADF
        assert caught.value.closed_by is coro.current()
        assert not this_kernel().fds.get(s.orig_fd)

    loop(main)


# -- numbers that are used again -------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_D_19_an_unclosed_socket_that_is_lost_is_closed_with_a_warning(loop):
    """ResourceWarning that shows the socket; the peer sees the end; waiters for the number are told."""

    def main():
        a, b = socketpair()
        with a:
            waiter = parked(fails, coro.wait_for_read, b.fileno())
            text = repr(b)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                del b
                gc.collect()
            assert [w.category for w in caught] == [ResourceWarning]
            assert str(caught[0].message) == f"unclosed {text}"
            assert a.recv(10) == b""
            assert type(waiter.result(5)) is coro.ClosedError

    loop(main)


@posix
def test_D_19_making_a_socket_interrupts_nobody(loop):
    """Who waits for a number that was closed behind coro's back is left alone; the socket refuses to wait beside it."""

    def main():
        a, b = socket.socketpair()
        waiter = parked(coro.wait_for_read, a)
        number = a.fileno()
        a.close()
        made = [udp_sock()]
        while made[-1].fd != number:
            made.append(udp_sock())
        assert not waiter.scheduled
        assert waiter._pending is None
        with pytest.raises(coro.SimultaneousError) as caught:
            made[-1].recv(10)
        assert caught.value.other is waiter
        waiter.shutdown()
        waiter.join()
        with pytest.raises(coro.TimeoutError):
            coro.with_timeout(0.002, made[-1].recv, 10)
        for s in [*made, b]:
            s.close()

    loop(main)


@posix
def test_D_18_events_of_a_closed_socket_never_reach_the_next_user_of_its_number(loop):
    """A duplicate keeps the old file alive; what happens to it wakes nobody who waits for the number's new owner."""

    def main():
        a, b = socketpair()
        parked_reader = parked(fails, b.recv, 10)  # registers b
        number = b.fd
        keeper = os.dup(number)
        b.close()
        parked_reader.join()
        c, d = socketpair()
        new, peer = (c, d) if c.fd == number else (d, c)
        assert new.fd == number
        new._io = counted = CountedIO(new._io)
        reader = parked(new.recv, 10)
        a.send(b"for the old one")
        coro.sleep_relative(0.002)
        assert counted.recv.calls == 0
        assert not new._entry.readable
        peer.send(b"for the new one")
        assert reader.result(5) == b"for the ne"
        os.close(keeper)
        for s in (a, c, d):
            s.close()

    loop(main)


def test_D_18_numbers_that_are_used_again_at_once_get_the_right_data(loop):
    """Sockets are closed and made in the midst of traffic; each reader gets what was sent to it."""

    def main():
        for i in range(50):
            a, b = socketpair()
            reader = parked(b.recv, 10)
            a.send(b"%d" % i)
            if i % 3:
                assert reader.result() == b"%d" % i
            else:
                coro.yield_slice()
                b.close()
                reader.join()
            a.close()
            b.close()

    loop(main)


# -- timeouts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blocked", BLOCKED)
def test_a_timeout_leaves_no_waiter(loop, blocked):
    """The socket can be waited for again at once, by anybody, and nobody counts as waiting."""

    def main():
        with contextlib.ExitStack() as stack:
            s, call = blocked(stack)
            for _ in range(2):
                with pytest.raises(coro.TimeoutError):
                    coro.with_timeout(0.002, call)
                assert not this_kernel()._somebody_waits()
                assert s._entry.reader is s._entry.writer is None
            other = parked(fails, call)
            s.close()
            assert type(other.result(5)) is coro.ClosedError

    loop(main)


def test_data_that_comes_after_a_timeout_is_there_for_the_next_read(loop):
    """Nothing is lost by an interrupted wait."""
    a, b = socketpair()

    def main():
        with a, b:
            for _ in range(2):
                with pytest.raises(coro.TimeoutError):
                    coro.with_timeout(0.002, b.recv, 10)
                a.send(b"one")
                assert coro.with_timeout(5, b.recv, 10) == b"one"

    loop(main)
