"""Selfishness: how long a coroutine whose sockets are always ready may go on before the others have their turn."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections.abc import Iterator

import pytest

import coro

MOST = 400  # reads of the flood while something else takes one step: the bound is no promise, starvation is endless


@contextlib.contextmanager
def flood() -> Iterator[coro.sock]:
    """One end of a connection into which a thread writes as fast as it can."""
    ours, theirs = socket.socketpair()
    over = threading.Event()

    def write() -> None:
        data = bytes(65536)
        with contextlib.suppress(OSError):
            while not over.is_set():
                theirs.sendall(data)

    writer = threading.Thread(target=write)
    writer.start()
    select.select([ours], [], [], 60)  # until it has begun: a busy machine may take its time
    try:
        with coro.sock(fd=ours.detach()) as end:
            yield end
    finally:
        over.set()
        theirs.shutdown(socket.SHUT_RDWR)
        writer.join()
        theirs.close()


class Drain:
    """A coroutine that reads small pieces of a flood for ever, so that it never has to wait."""

    def __init__(self, end: coro.sock) -> None:
        self.reads = 0
        self.end = end

    def __call__(self) -> None:
        while True:
            self.end.recv(16)
            self.reads += 1


def test_D_07_a_flooding_peer_starves_no_other_socket(loop):
    """Between two steps of a conversation beside it the flood is read a bounded number of times."""

    def echo(end):
        while data := end.recv(100):
            end.send(data)

    def main():
        with flood() as end:
            drain = Drain(end)
            reader = coro.spawn(drain)
            a, b = coro.socketpair()
            with a, b:
                server = coro.spawn(echo, b)
                for _ in range(50):
                    before = drain.reads
                    a.send(b"?")
                    assert a.recv(1) == b"?"
                    assert drain.reads - before < MOST
                server.shutdown()
            assert drain.reads > 0
            reader.shutdown()
            reader.join()

    loop(main)


def test_D_07_a_flooding_peer_starves_no_timer(loop):
    """Sleeps end, though not one poll has to wait."""

    def main():
        with flood() as end:
            drain = Drain(end)
            reader = coro.spawn(drain)
            for _ in range(20):
                coro.sleep_relative(0.001)
            assert drain.reads > 0
            reader.shutdown()
            reader.join()

    loop(main)


def test_D_07_a_flooding_peer_does_not_keep_the_loop_from_its_end(poller, failures):
    """After `set_exit` the reader is unwound."""
    unwound = []

    def drain_and_say_so(end):
        try:
            Drain(end)()
        finally:
            unwound.append(True)

    with flood() as end:
        coro.spawn(drain_and_say_so, end)
        coro.spawn(lambda: (coro.sleep_relative(0.01), coro.set_exit(7)))
        coro.set_print_exit_string(False)
        try:
            with pytest.raises(SystemExit) as ended:
                coro.event_loop()
        finally:
            coro.set_print_exit_string(True)
    assert ended.value.code == 7
    assert unwound == [True]


def test_D_10_a_timeout_ends_a_reader_that_never_has_to_wait(loop):
    """It is postponed once at most for data that are there, so a flood cannot put it off for ever."""

    def main():
        with flood() as end:
            drain = Drain(end)
            begin = time.monotonic()
            with pytest.raises(coro.TimeoutError):
                coro.with_timeout(0.02, drain)
            assert time.monotonic() - begin >= 0.02
            assert drain.reads > 0

    loop(main)


def test_readers_of_floods_share(loop):
    """Of three that are always ready, none reads much less than another."""

    def main():
        with flood() as one, flood() as two, flood() as three:
            drains = [Drain(end) for end in (one, two, three)]
            readers = [coro.spawn(drain) for drain in drains]
            while min(drain.reads for drain in drains) < 1000:
                coro.yield_slice()
            assert max(drain.reads for drain in drains) < 10_000
            for reader in readers:
                reader.shutdown()
                reader.join()

    loop(main)


@pytest.mark.parametrize("n", [1, 3, 100])
def test_the_allowance_is_what_was_set(loop, n):
    """A coroutine reads so often in a row and then lets the others run, once."""

    def main():
        a, b = coro.socketpair()
        with a, b:
            b.send(bytes(1000))
            a.wait_for_read()
            order = []

            def read():
                coro.current().set_max_selfish_acts(n)
                for _ in range(2 * n + 1):
                    a.recv(1)
                    order.append("read")

            reader = coro.spawn(read)
            coro.yield_slice()
            while not reader.dead:
                order.append("other")
                coro.yield_slice()
            assert order == ["read"] * n + ["other"] + ["read"] * n + ["other", "read"]

    loop(main)
