"""Coroutines that wait for a socket: one reader and one writer at a time, and busy ones take turns."""

from __future__ import annotations

import os
import socket
import time
from typing import Any

import pytest

import coro
from coro.connect import socketpair, tcp_sock
from coro.coroutine import set_selfishness
from coro.kernel import this_kernel
from coro.sockets import AF, SHUT, SOCK, sock

from .helpers import drain, fails, fill, parked
from .socket_fixtures import connection_fixture, family_fixture, listen_fixture  # noqa: F401  fixtures

# -- one reader, one writer ------------------------------------------------------------------------------------------


def test_a_second_reader_or_writer_is_refused_with_both_named(loop):
    """SimultaneousError in the second, whatever it calls; the first goes on; afterwards the place is free."""
    a, b = socketpair()

    def main():
        with a, b:
            first = parked(b.recv, 10)
            reads = [
                lambda: b.recv(1),
                lambda: b.recv_into(bytearray(1)),
                lambda: b.recvfrom(1),
                lambda: b.recv_exact(1),
                lambda: b.readv([1]),
                lambda: b.recv(1, socket.MSG_PEEK),
                b.accept,
                b.wait_for_read,
            ]
            for read in reads:
                with pytest.raises(coro.SimultaneousError) as caught:
                    read()
                assert (caught.value.co, caught.value.other) == (coro.current(), first)
                assert caught.value.event == (b.fd, "read")
            a.send(b"x")
            assert first.result() == b"x"
            a.send(b"y")
            assert b.recv(10) == b"y"

            size = fill(b)
            writer = parked(b.send, b"z")
            for write in (lambda: b.send(b"1"), lambda: b.writev([b"1"]), b.wait_for_write):
                with pytest.raises(coro.SimultaneousError) as caught:
                    write()
                assert (caught.value.co, caught.value.other) == (coro.current(), writer)
                assert caught.value.event == (b.fd, "write")
            drain(a, size)
            assert writer.result(5) == 1
            assert a.recv(10) == b"z"

    loop(main)


def test_nobody_gets_between_one_that_was_woken_and_its_data(loop):
    """What has come is for the one that waits, also when another coroutine runs before it and finds the data there."""
    (a, b), (c, d) = socketpair(), socketpair()

    def thief():
        d.recv(10)
        return fails(b.recv, 10)

    def main():
        with a, b, c, d:
            thieving, reading = parked(thief), parked(b.recv_exact, 8)
            c.send(b"go")
            a.send(b"data")
            assert type(thieving.result(5)) is coro.SimultaneousError
            a.send(b"more")
            assert reading.result(5) == b"datamore"

    loop(main)


def test_nobody_gets_between_the_parts_of_one_read(loop):
    """Not even where the reader lets others run because it has had its share."""
    a, b = socketpair(AF.LOCAL, SOCK.DGRAM)
    seen = []

    def body():
        assert coro.current().set_max_selfish_acts(1) == 4
        assert coro.current().set_max_selfish_acts(1) == 1
        for part in (b"ab", b"cd", b"ef", b"gh"):
            a.send(part)
        b.wait_for_read()
        coro.spawn(lambda: seen.append(fails(b.recv, 10)))
        return b.recv_exact(8)

    def main():
        with a, b:
            assert coro.spawn(body).result(5) == b"abcdefgh"
            assert [type(exc) for exc in seen] == [coro.SimultaneousError]

    loop(main)


def test_nobody_gets_between_one_that_was_woken_and_what_it_writes(loop):
    """Also when another coroutine runs before it and finds room there."""
    (a, b), (c, d) = socketpair(), socketpair()
    message = b"m" * 2_000_000

    def thief():
        d.recv(10)
        return fails(b.send, b"stolen")

    def main():
        with a, b, c, d:
            size = fill(b)
            thieving, writing = parked(thief), parked(b.send, message)
            c._socket.send(b"go")
            taken = len(a._socket.recv(size))
            assert type(thieving.result(5)) is coro.SimultaneousError
            assert a.recv_exact(size - taken + len(message)).endswith(message)
            assert writing.result(5) == len(message)

    loop(main)


@pytest.mark.parametrize("selfishness", [1, 4])
def test_no_other_write_gets_into_the_middle_of_one(loop, selfishness):
    """Two writers of long messages: one is refused or waits its turn, no message is torn."""
    a, b = socketpair()

    def writer(byte, refused):
        coro.current().set_max_selfish_acts(selfishness)
        for _ in range(20):
            try:
                a.send(byte * 300_000)
            except coro.SimultaneousError:
                refused.append(byte)
                coro.yield_slice()

    def main():
        refused = []
        with a, b:
            writers = [coro.spawn(writer, byte, refused) for byte in (b"a", b"b")]

            def close():
                for co in writers:
                    co.join()
                a.shutdown(SHUT.WR)

            coro.spawn(close)
            count = 0
            while block := b.readv([300_000]):
                assert len(set(block[0])) == 1
                assert len(block[0]) == 300_000
                count += 1
            assert count + len(refused) == 40
            assert refused

    loop(main)


def test_one_that_gives_way_is_not_in_the_way_of_the_other_direction(loop):
    """Its coroutine still has its turn, so a second writer is refused, but a reader may begin to wait."""

    def main():
        a, b = socketpair()
        with a, b:

            def write():
                for _ in range(50):  # more than its share at a time
                    a.send(b"x")

            def intrude():
                with pytest.raises(coro.SimultaneousError) as caught:
                    a.send(b"y")
                assert caught.value.other is writer

            writer = coro.spawn(write)
            reader = coro.spawn(a.recv, 10)  # the first wait of this socket
            intruder = coro.spawn(intrude)
            intruder.result(5)
            b.send(b"hello")
            assert reader.result(5) == b"hello"
            writer.result(5)
            assert b.recv_exact(50) == b"x" * 50
            a.send(b"z")  # and nobody is left as a writer
            assert b.recv(10) == b"z"

    loop(main)


def test_one_that_gives_way_while_it_reads_is_not_in_the_way_of_a_writer(loop):
    """The same the other way round."""

    def main():
        a, b = socketpair()
        with b, sock(fd=a.detach()) as c:  # one that is known to nobody yet
            b.send(b"x" * 50)
            reader = coro.spawn(lambda: b"".join(c.recv(1) for _ in range(50)))
            room = fill(c)
            writer = coro.spawn(c.send, b"y")
            drained = coro.spawn(b.recv_exact, room + 1)
            assert reader.result(5) == b"x" * 50
            assert drained.result(5).endswith(b"y")
            assert writer.result(5) == 1

    loop(main)


def test_the_number_of_an_owned_descriptor_is_refused_by_the_plain_waits(loop):
    """ValueError that says what to use instead; the waiter of the socket is not disturbed."""
    a, b = socketpair()

    def main():
        with a, b:
            reader = parked(b.recv, 10)
            for wait in (coro.wait_for_read, coro.wait_for_write):
                with pytest.raises(ValueError, match="belongs to a coro socket"):
                    wait(b.fileno())
            a.send(b"x")
            assert reader.result() == b"x"

    loop(main)


def test_wait_for_read_and_wait_for_write_ask_the_system(loop, connection):
    """They wait until it holds, whatever was remembered, and do not take what they wait for."""

    def main():
        with connection() as (a, b):
            waiter = parked(b.wait_for_read)
            a.send(b"xy")
            waiter.result(5)
            b.wait_for_read()
            assert b.recv(1) == b"x"
            coro.with_timeout(5, b.wait_for_read)
            assert b.recv(1) == b"y"  # a full read: it is remembered as readable, but it is not
            with pytest.raises(coro.TimeoutError):
                coro.with_timeout(0.005, b.wait_for_read)
            coro.with_timeout(5, b.wait_for_write)
            size = fill(b)
            waiter = parked(b.wait_for_write)
            coro.sleep_relative(0.002)
            assert not waiter.dead
            drain(a, size)
            waiter.result(5)
            a.close()
            coro.with_timeout(5, b.wait_for_read)

    loop(main)


def test_a_stray_wake_up_ends_no_wait(loop, connection):
    """schedule() is only a hint to a reader, a writer, an accepter (D-08)."""

    def main():
        with connection() as (a, b):
            fill(b)
            reader, writer = parked(b.recv, 10), parked(b.send, b"x")
            for co in (reader, writer):
                for _ in range(3):
                    co.schedule("stray")
                    coro.yield_slice()
                assert not co.dead
            a.send(b"data")
            assert reader.result(5) == b"data"
            writer.shutdown()
            writer.join()
        with tcp_sock() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(1)
            accepter = parked(listener.accept)
            accepter.schedule("stray")
            coro.yield_slice()
            assert not accepter.dead
            with tcp_sock() as client:
                client.connect(listener.getsockname())
                accepter.result(5)[0].close()

    loop(main)


# -- selfishness -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("allowance", [1, 4, 7])
def test_busy_readers_take_turns(loop, allowance):
    """After so many operations that need not wait the others run: A A A A B B B B A ... with 4."""
    pairs = [socketpair() for _ in range(2)]
    order = []

    def reader(name, b):
        coro.current().set_max_selfish_acts(allowance)
        for _ in range(3 * allowance):
            b.recv(1)
            order.append(name)

    def main():
        for a, b in pairs:
            a.send(b"x" * 100)
            b.wait_for_read()
        for co in [coro.spawn(reader, name, b) for name, (_, b) in zip("AB", pairs, strict=True)]:
            co.join()
        for s in sum(pairs, ()):
            s.close()

    loop(main)

    assert "".join(order) == ("A" * allowance + "B" * allowance) * 3


def test_one_that_is_always_ready_starves_neither_timers_nor_timeouts(loop):
    """A writer into a buffer that never fills and a reader of it; a timeout ends it in time."""
    a, b = socketpair()

    def busy():
        while True:
            a.send(b"x")
            b.recv(1)

    def main():
        with a, b:
            sleeper = coro.spawn(coro.sleep_relative, 0.002)
            with pytest.raises(coro.TimeoutError):
                coro.with_timeout(0.02, busy)
            assert sleeper.dead

    loop(main)


@pytest.mark.parametrize("waits", [False, True], ids=["nobody waits", "somebody waits"])
def test_one_that_is_always_ready_asks_the_system_for_those_that_wait(loop, waits):
    """Where nobody waits, to give way 1,400 times asks the system ten times or a little more often."""
    polls = []

    def main():
        a, b = socketpair()
        c, d = socketpair()
        with a, b, c, d:
            reader = parked(c.recv, 1)
            if not waits:
                reader.shutdown()
                reader.join()
            coro.current().set_max_selfish_acts(1)
            b.send(b"1")
            assert a.recv(1) == b"1"  # now the poller knows it
            poller = this_kernel().poller
            wait = poller.wait
            poller.wait = lambda timeout: polls.append(timeout) or wait(timeout)
            for _ in range(1400):
                a.send(b"")
            if waits:
                d.send(b"1")
                for _ in range(3):
                    a.send(b"")
                assert reader.dead

    loop(main)
    assert len(polls) >= 10
    assert (len(polls) < 700) is not waits


def test_one_that_is_always_ready_delays_a_timer_by_one_allowance(loop):
    """A server takes a millisecond for each answer: a sleeper wakes when it next gives way, not 128 times later."""
    answers = []

    def main():
        a, b = socketpair()
        with a, b:
            b.send(b"1")
            assert a.recv(1) == b"1"
            coro.current().set_max_selfish_acts(1)
            sleeper = coro.spawn(coro.sleep_relative, 0.002)
            while not sleeper.dead:
                a.send(b"")
                answers.append(None)
                time.sleep(0.001)  # the whole thread

    old = coro.set_latency_warning(0)  # they look on twenty times a second
    try:
        loop(main)
    finally:
        coro.set_latency_warning(old)
    assert len(answers) < 10


def test_D_42_an_allowance_that_cannot_be_is_refused(loop):
    """ValueError for less than 1 or more than 32768, TypeError for no number; the old one stays."""

    def main():
        me = coro.current()
        for setter in (set_selfishness, me.set_max_selfish_acts):
            for wrong in (0, -1, 32769):
                with pytest.raises(ValueError, match="from 1 to 32768"):
                    setter(wrong)
            for wrong in (None, 1.5, "4", True):
                with pytest.raises(TypeError):
                    setter(wrong)
        assert me._selfishness == 4
        try:
            assert set_selfishness(32768) is None
            child = coro.spawn(int)
            assert (child._selfishness, me._selfishness) == (32768, 4)
        finally:
            set_selfishness(4)

    loop(main)


@pytest.mark.parametrize("kind", ["datagrams", "pipe", "stream"])
def test_what_ends_a_wait_has_nothing_to_do_with_an_error_before_it(loop, kind):
    """A read that found nothing is no context of what is raised while the next one waits."""

    def main():
        ends: list[Any] = []
        if kind == "datagrams":
            ends += [coro.udp_sock()]
            ends[0].bind(("127.0.0.1", 0))
            sender = coro.udp_sock()
            ends += [sender]
            sender.sendto(b"12", ends[0].getsockname())
        elif kind == "pipe":
            ends += [coro.fd_sock(end) for end in os.pipe()]
            ends[1].send(b"12")
        else:
            ends += coro.socketpair()
            ends[1].send(b"12")
        caught: list[BaseException] = []

        def read() -> None:
            assert ends[0].recv(2) == b"12"
            try:
                ends[0].recv(2)
            except ValueError as exc:
                caught.append(exc)

        reader = coro.spawn(read)
        coro.sleep_relative(0.01)
        reader.raise_exception(ValueError("from outside"))
        reader.join()
        for end in ends:
            end.close()
        assert str(caught[0]) == "from outside"
        assert caught[0].__context__ is None

    loop(main)
