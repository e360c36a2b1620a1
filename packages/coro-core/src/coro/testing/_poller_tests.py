"""The conformance kit for pollers: one test for each sentence of the contract in `coro.poller`.

It stands on pytest and the contract alone: no kernel, and no knowledge of any backend.  What a poller can do is read
from its class; what a platform lacks is skipped in words.  Nothing is simulated: the descriptors, processes, signals
and threads are real, so what holds here holds in a program.

Three rules keep the kit fair.  It never asks for more than the contract: a poller may return from a wait with nothing
and may report a descriptor in any number of batches, so the helpers go on waiting until `PollerTests.patience` is over.
What must come is awaited; what must not come is watched for a moment only.  And since load makes every wait
longer but none shorter, a bound from above is tried several times and the best try counts.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from types import FrameType
from typing import IO, ClassVar, Final, TypeAlias

import pytest

from coro.poller import ERROR, HANGUP, READ, READ_HANGUP, WRITE, Poller

from ._real_things import (
    MOMENT,
    closing_fd,
    crowd,
    drain,
    duration,
    events,
    exit_code,
    fill,
    forked,
    handling,
    later,
    open_descriptors,
    process_fd,
    renumbered,
    reports,
    signal_main_thread,
    wait_until_readable,
    wait_until_zombie,
)

__all__ = ["PollerTests"]

Pair: TypeAlias = tuple[socket.socket, socket.socket]
Pipe: TypeAlias = tuple[IO[bytes], IO[bytes]]

FOR_READER: Final = READ | READ_HANGUP | HANGUP | ERROR  # any of these wakes who waits for reading
FOR_WRITER: Final = WRITE | HANGUP | ERROR  # any of these wakes who waits for writing
KNOWN: Final = FOR_READER | FOR_WRITER

AT_ONCE: Final = 0.1  # seconds: more than a busy machine needs, less than a person notices

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows can wait for sockets only")
forking = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork(2)")
signalling = pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="this platform has no pthread_kill(3)")


class PollerTests:
    """Subclass it, set `poller_class`, and let pytest collect the subclass."""

    #: The poller under test.  Calling it opens one.
    poller_class: ClassVar[type[Poller]]

    #: After so many seconds what ought to have happened counts as missing.  A good poller never takes so long.
    patience: ClassVar[float] = 10.0

    # ------------------------------------------------------------------------------------------- what the tests use

    @pytest.fixture(autouse=True)
    def _watchdog(self) -> Iterator[None]:
        """A wait that never ends fails its own test instead of stopping the whole run (where there is an alarm)."""
        if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
            yield
            return
        seconds = 5 * self.patience
        modules = {kind.__module__ for kind in type(self).__mro__ if kind is not object}

        def ring(signum: int, frame: FrameType | None) -> None:
            while frame is not None:
                if frame.f_globals.get("__name__") in modules and frame.f_code.co_name != "_watchdog":
                    pytest.fail(f"the poller hung for {seconds} seconds")
                frame = frame.f_back
            # The test is over: what makes its report must not be interrupted, which would end the whole run.

        handler = signal.signal(signal.SIGALRM, ring)
        timer = signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, *timer)
            signal.signal(signal.SIGALRM, handler)

    @pytest.fixture
    def open_poller(self) -> Iterator[Poller]:
        """An open poller of the class under test."""
        with closing(self.poller_class()) as poller:
            yield poller

    @pytest.fixture
    def edge_poller(self, open_poller: Poller) -> Poller:
        """The same, for tests of what only an edge-triggered poller has."""
        if not self.poller_class.edge:
            pytest.skip(f"{self.poller_class.__name__} is level-triggered (edge = False): it has no register()")
        return open_poller

    @pytest.fixture
    def pairs(self) -> Iterator[Callable[[], Pair]]:
        """Makes pairs of connected sockets that do not block, and closes them."""
        with ExitStack() as stack:

            def make() -> Pair:
                pair = socket.socketpair()
                for end in pair:
                    stack.enter_context(end)
                    end.setblocking(False)
                return pair

            yield make

    @pytest.fixture
    def pair(self, pairs: Callable[[], Pair]) -> Pair:
        """One such pair."""
        return pairs()

    @pytest.fixture
    def pipe(self) -> Iterator[Pipe]:
        """The two ends of a pipe that does not block: for reading, for writing."""
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        with open(reader, "rb", buffering=0) as read_end, open(writer, "wb", buffering=0) as write_end:
            yield read_end, write_end

    @pytest.fixture
    def child(self, pipe: Pipe) -> Iterator[tuple[int, IO[bytes]]]:
        """A child process, and the pipe whose closing makes it end."""
        reader, writer = pipe

        def work() -> None:
            writer.close()
            reader.read(1)

        with forked(work) as pid:
            yield pid, writer

    def seen(self, poller: Poller, fd: int, bits: int) -> int:
        """Wait until *fd* was reported with one of *bits*, and return all bits that were reported of it."""
        mask, deadline = 0, time.monotonic() + self.patience
        while not mask & bits:
            left = deadline - time.monotonic()
            if left < 0:
                pytest.fail(f"descriptor {fd}: expected one of {bits:#x} in {self.patience} s, reported was {mask:#x}")
            for number, found in events(poller, left):
                if number == fd:
                    mask |= found
        return mask

    def settle(self, poller: Poller) -> None:
        """Wait until nothing more is reported."""
        deadline = time.monotonic() + self.patience
        while found := events(poller, MOMENT):
            if time.monotonic() > deadline:
                pytest.fail(f"reported again and again although nothing changes: {found}")

    def all_seen(self, poller: Poller, fds: set[int]) -> None:
        """Wait until each of *fds* was reported as readable."""
        missing, deadline = set(fds), time.monotonic() + self.patience
        while missing:
            left = deadline - time.monotonic()
            if left < 0:
                pytest.fail(f"{len(missing)} of {len(fds)} descriptors were never reported")
            missing -= {fd for fd, mask in events(poller, left) if mask & FOR_READER}

    # ------------------------------------------------------------------------------------------------------- opening

    def test_calling_the_class_opens_a_poller(self, open_poller: Poller) -> None:
        """The class itself says whether it is edge-triggered; calling it without arguments gives a `Poller`."""
        assert isinstance(open_poller, Poller)
        assert isinstance(self.poller_class.edge, bool)

    def test_opening_raises_oserror_if_the_system_refuses(self) -> None:
        """Without a single descriptor left, opening either works or raises `OSError`."""
        resource = pytest.importorskip("resource", reason="this platform has no limit to set")
        self.poller_class().close()  # whatever it imports is imported now
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        try:
            with suppress(OSError), closing(self.poller_class()):
                pass
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    def test_two_pollers_are_independent(self, open_poller: Poller, pair: Pair) -> None:
        """Each call opens a poller of its own: what one was asked is nothing to the other, nor is its end."""
        a, b = pair
        b.send(b"x")
        with closing(self.poller_class()) as other:
            open_poller.arm(a.fileno(), READ)

            assert reports(other, a.fileno()) == []

        self.seen(open_poller, a.fileno(), FOR_READER)

    def test_any_one_thread_can_use_it(self, pair: Pair) -> None:
        """A poller is opened, used and closed in one thread, which need not be the main one."""
        a, b = pair
        b.send(b"x")
        errors: list[BaseException] = []

        def use() -> None:
            try:
                with closing(self.poller_class()) as poller:
                    poller.arm(a.fileno(), READ)
                    self.seen(poller, a.fileno(), FOR_READER)
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=use, daemon=True)
        thread.start()
        thread.join()

        assert errors == []

    @posix
    def test_its_descriptors_do_not_survive_an_exec(self) -> None:
        """No program that this one starts inherits a descriptor of the poller."""
        before = open_descriptors()
        with closing(self.poller_class()):
            for fd in open_descriptors() - before:
                assert not os.get_inheritable(fd)

    # ------------------------------------------------------------------------------------------------ arm and events

    def test_an_event_is_a_descriptor_and_bits_of_poll(self, open_poller: Poller, pair: Pair) -> None:
        """A wait gives something to iterate over: pairs of two integers, the second made of the five named bits."""
        a, b = pair
        b.send(b"x")
        open_poller.arm(a.fileno(), READ)
        deadline = time.monotonic() + self.patience
        while not (found := list(open_poller.wait(self.patience))):
            assert time.monotonic() < deadline

        ((fd, mask),) = found
        assert isinstance(fd, int)
        assert isinstance(mask, int)
        assert fd == a.fileno()
        assert mask & READ
        assert not mask & ~KNOWN

    def test_readable_is_reported(self, open_poller: Poller, pair: Pair) -> None:
        """`READ`: a read would not block."""
        a, b = pair
        open_poller.arm(a.fileno(), READ)
        b.send(b"x")

        assert self.seen(open_poller, a.fileno(), KNOWN) & READ
        assert a.recv(9) == b"x"

    def test_writable_is_reported(self, open_poller: Poller, pair: Pair) -> None:
        """`WRITE`: a write would not block."""
        a, b = pair
        fill(a)
        open_poller.arm(a.fileno(), WRITE)
        drain(b)

        assert self.seen(open_poller, a.fileno(), KNOWN) & WRITE
        assert a.send(b"x") == 1

    @posix
    def test_pipes_are_reported(self, open_poller: Poller, pipe: Pipe) -> None:
        """Descriptors that are no sockets can be waited for, each end for its own direction."""
        reader, writer = pipe
        open_poller.arm(writer.fileno(), WRITE)
        self.seen(open_poller, writer.fileno(), WRITE)
        open_poller.arm(reader.fileno(), READ)
        assert reports(open_poller, reader.fileno()) == []
        writer.write(b"x")

        self.seen(open_poller, reader.fileno(), READ)

    def test_an_accept_and_a_connect_are_reported(self, open_poller: Poller) -> None:
        """A listener is readable when somebody connects; who connects is writable when it is decided."""
        with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
            open_poller.arm(server.fileno(), READ)
            assert reports(open_poller, server.fileno()) == []
            client.setblocking(False)
            client.connect_ex(server.getsockname())
            open_poller.arm(client.fileno(), WRITE)

            self.seen(open_poller, client.fileno(), WRITE)
            assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
            open_poller.arm(server.fileno(), READ)
            self.seen(open_poller, server.fileno(), READ)
            server.accept()[0].close()

    def test_a_refused_connect_is_reported(self, open_poller: Poller) -> None:
        """Who waits for a connect is woken when it fails; the reason is then in ``SO_ERROR``."""
        with socket.socket() as nobody, socket.socket() as client:
            nobody.bind(("127.0.0.1", 0))  # bound and not listening: nobody else gets the port meanwhile
            client.setblocking(False)
            if client.connect_ex(nobody.getsockname()) == errno.ECONNREFUSED:
                pytest.skip("this platform refuses at once, so there is nothing to wait for")
            open_poller.arm(client.fileno(), WRITE)

            self.seen(open_poller, client.fileno(), FOR_WRITER)
            assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED

    def test_the_end_of_a_peer_is_readable(self, open_poller: Poller, pair: Pair) -> None:
        """An end of file would not block: who waits for reading is woken when the peer has closed."""
        a, b = pair
        open_poller.arm(a.fileno(), READ)
        b.close()

        self.seen(open_poller, a.fileno(), FOR_READER)
        assert a.recv(9) == b""

    def test_the_end_of_a_peer_wakes_a_writer(self, open_poller: Poller, pair: Pair) -> None:
        """`ERROR` and `HANGUP` are reported whether asked for or not: the writer to a peer that is gone is woken."""
        a, b = pair
        fill(a)
        open_poller.arm(a.fileno(), WRITE)
        b.close()

        self.seen(open_poller, a.fileno(), FOR_WRITER)
        with pytest.raises(ConnectionError):
            a.send(b"x")

    @posix
    def test_the_end_of_the_reader_wakes_a_writer_of_a_full_pipe(self, open_poller: Poller, pipe: Pipe) -> None:
        """The same for a pipe, where `ERROR` may be all that the system says."""
        reader, writer = pipe
        while writer.write(bytes(65536)):
            pass  # an unbuffered file answers None when it would block
        open_poller.arm(writer.fileno(), WRITE)
        assert reports(open_poller, writer.fileno()) == []
        reader.close()

        self.seen(open_poller, writer.fileno(), FOR_WRITER)
        with pytest.raises(BrokenPipeError):
            writer.write(b"x")

    def test_a_peer_that_has_finished_sending_does_not_wake_a_writer(self, open_poller: Poller, pair: Pair) -> None:
        """Only a bit of the mask, an error or a hangup is reported: a half-closed peer may still read, slowly.

        A poller that woke the writer would make it spin, for it would fail to write, arm again and be woken at once.
        """
        a, b = pair
        fill(a)
        b.shutdown(socket.SHUT_WR)
        open_poller.arm(a.fileno(), WRITE)

        assert reports(open_poller, a.fileno()) == []
        drain(b)
        self.seen(open_poller, a.fileno(), WRITE)

    def test_what_does_not_hold_is_not_reported(self, open_poller: Poller, pair: Pair) -> None:
        """An idle descriptor is silent."""
        a, _ = pair
        open_poller.arm(a.fileno(), READ)

        assert reports(open_poller, a.fileno()) == []

    def test_what_was_not_armed_is_not_reported(self, open_poller: Poller, pairs: Callable[[], Pair]) -> None:
        """Of two ready descriptors only the one that was armed is reported."""
        (a, a_peer), (b, b_peer) = pairs(), pairs()
        a_peer.send(b"x")
        b_peer.send(b"x")
        open_poller.arm(a.fileno(), READ)
        deadline = time.monotonic() + self.patience
        found: list[int] = []
        while a.fileno() not in found:
            assert time.monotonic() < deadline
            found += [fd for fd, _ in events(open_poller, self.patience)]

        assert found == [a.fileno()]
        assert reports(open_poller, b.fileno()) == []

    def test_only_the_direction_asked_for_is_waited_for(self, open_poller: Poller, pairs: Callable[[], Pair]) -> None:
        """Armed for reading, a writable descriptor is silent; armed for writing, a readable one."""
        (writable, _), (readable, peer) = pairs(), pairs()
        fill(readable)
        peer.send(b"x")
        open_poller.arm(writable.fileno(), READ)
        open_poller.arm(readable.fileno(), WRITE)

        assert reports(open_poller, writable.fileno()) == []
        assert reports(open_poller, readable.fileno()) == []

    def test_both_directions_can_be_waited_for(self, open_poller: Poller, pairs: Callable[[], Pair]) -> None:
        """A mask of `READ` and `WRITE` is reported when one of the two holds, whichever it is."""
        (writable, _), (readable, peer) = pairs(), pairs()
        fill(readable)
        peer.send(b"x")
        open_poller.arm(writable.fileno(), READ | WRITE)
        self.seen(open_poller, writable.fileno(), WRITE)
        open_poller.arm(readable.fileno(), READ | WRITE)
        self.seen(open_poller, readable.fileno(), READ)

    def test_arm_reports_once(self, open_poller: Poller, pair: Pair) -> None:
        """After its report a descriptor is silent, though it is still ready, and even if more comes."""
        a, b = pair
        b.send(b"x")
        open_poller.arm(a.fileno(), READ)
        self.seen(open_poller, a.fileno(), READ)
        assert reports(open_poller, a.fileno()) == []
        b.send(b"y")

        assert reports(open_poller, a.fileno()) == []

    def test_one_report_disarms_both_directions(self, open_poller: Poller, pair: Pair) -> None:
        """Reported as readable, a descriptor armed for both is no longer watched for writing, and the reverse."""
        a, b = pair
        open_poller.arm(a.fileno(), READ | WRITE)
        self.seen(open_poller, a.fileno(), WRITE)
        b.send(b"x")
        assert reports(open_poller, a.fileno()) == []
        fill(a)
        open_poller.arm(a.fileno(), READ | WRITE)
        self.seen(open_poller, a.fileno(), READ)
        drain(b)

        assert reports(open_poller, a.fileno()) == []

    def test_arm_is_level_triggered(self, open_poller: Poller, pair: Pair) -> None:
        """What holds already when it is armed is reported, however often it was reported before."""
        a, b = pair
        b.send(b"x")
        for _ in range(3):
            open_poller.arm(a.fileno(), READ)
            self.seen(open_poller, a.fileno(), READ)
        a.recv(9)
        open_poller.arm(a.fileno(), READ)

        assert reports(open_poller, a.fileno()) == []

    def test_what_held_when_armed_is_reported_by_the_next_wait(self, open_poller: Poller, pair: Pair) -> None:
        """The next wait reports it, even one that does not block."""
        a, b = pair
        b.send(b"x")
        wait_until_readable(a)
        open_poller.arm(a.fileno(), READ)

        assert [fd for fd, mask in events(open_poller, 0) if mask & READ] == [a.fileno()]

    def test_arm_replaces_an_earlier_arm(self, open_poller: Poller, pair: Pair) -> None:
        """Of two arms of one descriptor the second counts, and they are reported as one."""
        a, b = pair
        open_poller.arm(a.fileno(), WRITE)
        open_poller.arm(a.fileno(), READ)
        assert reports(open_poller, a.fileno()) == []
        open_poller.arm(a.fileno(), WRITE)
        self.seen(open_poller, a.fileno(), WRITE)
        b.send(b"x")

        assert reports(open_poller, a.fileno()) == []

    def test_a_closed_descriptor_is_refused_with_ebadf(self, open_poller: Poller, pairs: Callable[[], Pair]) -> None:
        """`arm` of a closed descriptor raises `OSError` with ``EBADF``, and then nothing is armed."""
        (closed, _), (ready, peer) = pairs(), pairs()
        peer.send(b"x")
        fd = closed.fileno()
        open_poller.arm(fd, READ)
        closed.close()
        with pytest.raises(OSError) as caught:  # noqa: PT011  # the number is checked below
            open_poller.arm(fd, READ)

        assert caught.value.errno == errno.EBADF
        with renumbered(ready, fd):
            assert reports(open_poller, fd) == []

    @posix
    def test_a_regular_file_is_refused_with_eperm(self, open_poller: Poller, pairs: Callable[[], Pair]) -> None:
        """`arm` of what is always ready raises `OSError` with ``EPERM``, and then nothing is armed."""
        (closed, _), (ready, peer) = pairs(), pairs()
        peer.send(b"x")
        fd = closed.fileno()
        open_poller.arm(fd, READ)
        with tempfile.TemporaryFile() as file:
            closed.close()
            with renumbered(file, fd):
                for mask in READ, WRITE:
                    with pytest.raises(OSError) as caught:  # noqa: PT011  # the number is checked below
                        open_poller.arm(fd, mask)
                    assert caught.value.errno == errno.EPERM

        with renumbered(ready, fd):
            assert reports(open_poller, fd) == []

    def test_a_thousand_descriptors_are_watched(self, open_poller: Poller, pairs: Callable[[], Pair]) -> None:
        """Of a thousand descriptors all are reported; one that is too many is refused when it is armed, in words."""
        refusal = ""
        armed: set[int] = set()
        with crowd(pairs) as sockets:
            for each in sockets:
                try:
                    open_poller.arm(each.fileno(), READ)
                except OSError as error:
                    if error.errno in (errno.EBADF, errno.EPERM):
                        raise  # these mean something else
                    refusal = str(error)
                    break
                armed.add(each.fileno())
            assert reports(open_poller, sockets[0].fileno()) == []
            for each in sockets:
                each.send(b"x")
            self.all_seen(open_poller, armed)
        if len(armed) < 1000:
            pytest.skip(
                f"only {len(armed)} descriptors were armed, and all reported: {refusal or 'no more can be had'}"
            )

    # --------------------------------------------------------------------------------------------------- unregister

    def test_unregister_forgets(self, open_poller: Poller, pair: Pair) -> None:
        """What was unregistered is not reported, and can be armed anew."""
        a, b = pair
        b.send(b"x")
        open_poller.arm(a.fileno(), READ)
        open_poller.unregister(a.fileno())
        assert reports(open_poller, a.fileno()) == []
        open_poller.arm(a.fileno(), READ)

        self.seen(open_poller, a.fileno(), READ)

    def test_unregister_never_raises(self, open_poller: Poller, pair: Pair) -> None:
        """It does not matter whether a descriptor is known, has been reported, or is open at all."""
        a, b = pair
        fd = a.fileno()
        open_poller.unregister(fd)  # never armed
        open_poller.arm(fd, READ)
        open_poller.unregister(fd)
        open_poller.unregister(fd)  # a second time
        b.send(b"x")
        open_poller.arm(fd, READ)
        self.seen(open_poller, fd, READ)
        open_poller.unregister(fd)  # reported, hence disarmed
        open_poller.arm(fd, READ)
        a.close()
        open_poller.unregister(fd)  # closed
        open_poller.unregister(fd)
        open_poller.unregister(a.fileno())  # what a closed socket says: -1

    @posix
    def test_unregister_of_a_number_in_use_again_never_raises(
        self, open_poller: Poller, pairs: Callable[[], Pair]
    ) -> None:
        """A descriptor may be forgotten late, when its number belongs to another file, armed or not."""
        (old, _), (new, peer) = pairs(), pairs()
        fd = old.fileno()
        open_poller.arm(fd, READ)
        old.close()
        with renumbered(new, fd):
            open_poller.unregister(fd)
            peer.send(b"x")
            assert reports(open_poller, fd) == []
            open_poller.arm(fd, READ)
            self.seen(open_poller, fd, READ)

    def test_arm_unregister_and_arm_between_two_waits(self, open_poller: Poller, pair: Pair) -> None:
        """Changes count in the order in which they were made, however many there are before the next wait."""
        a, b = pair
        b.send(b"x")
        for mask in WRITE, READ:
            open_poller.arm(a.fileno(), mask)
            open_poller.unregister(a.fileno())
            open_poller.arm(a.fileno(), mask)
            assert self.seen(open_poller, a.fileno(), mask) & mask
            assert reports(open_poller, a.fileno()) == []
        open_poller.arm(a.fileno(), READ)
        open_poller.unregister(a.fileno())
        open_poller.arm(a.fileno(), READ)
        open_poller.unregister(a.fileno())

        assert reports(open_poller, a.fileno()) == []

    # --------------------------------------------------------------------------------------------------------- wait

    def test_a_timeout_of_zero_does_not_block(self, open_poller: Poller, pair: Pair) -> None:
        """With 0 the wait only looks."""
        a, _ = pair
        open_poller.arm(a.fileno(), READ)

        assert any(duration(open_poller, 0) < AT_ONCE / 2 for _ in range(5)), "five times in a row it blocked"

    def test_none_waits_without_limit(self, open_poller: Poller, pair: Pair) -> None:
        """Without a timeout the wait ends with an event, which may be there already or come later."""
        a, b = pair
        b.send(b"x")
        open_poller.arm(a.fileno(), READ)
        while a.fileno() not in [fd for fd, _ in events(open_poller, None)]:
            pass
        a.recv(9)
        open_poller.arm(a.fileno(), READ)
        with later(lambda: b.send(b"y")):
            while a.fileno() not in [fd for fd, _ in events(open_poller, None)]:
                pass

        assert a.recv(9) == b"y"

    def test_a_wait_blocks(self, open_poller: Poller, pair: Pair) -> None:
        """It may return early with nothing, but an idle program must not be a busy loop, with nothing armed either."""
        a, _ = pair
        for arm in False, True:
            if arm:
                open_poller.arm(a.fileno(), READ)
            calls, end = 0, time.monotonic() + 5 * MOMENT
            while (left := end - time.monotonic()) > 0:
                events(open_poller, left)
                calls += 1

            assert calls < 20

    def test_a_wait_lasts_at_most_its_timeout(self, open_poller: Poller, pair: Pair) -> None:
        """With nothing to report the wait ends when the time is over, not much later."""
        a, _ = pair
        open_poller.arm(a.fileno(), READ)

        assert any(duration(open_poller, MOMENT) < MOMENT + AT_ONCE for _ in range(5)), (
            "five times in a row it was late"
        )

    def test_a_wait_is_never_rounded_down(self, open_poller: Poller, pair: Pair) -> None:
        """A timer is never early: a timeout between two steps of the system's clock is rounded up.

        Since a wait may return early with nothing now and then, the middle one of several must not be too short.
        """
        a, _ = pair
        step = time.get_clock_info("monotonic").resolution
        for armed in False, True:
            if armed:
                open_poller.arm(a.fileno(), READ)
            for timeout in 0.0001, 0.0004, 0.0007, 0.0011, 0.0016, 0.0023, 0.0029, 0.0038:
                assert sorted(duration(open_poller, timeout) for _ in range(5))[2] >= timeout - step

    def test_a_timeout_of_a_day_is_accepted(self, open_poller: Poller, pair: Pair) -> None:
        """A far timer is no error; the event that is there already ends the wait."""
        a, b = pair
        b.send(b"x")
        open_poller.arm(a.fileno(), READ)

        assert [fd for fd, _ in events(open_poller, 24 * 3600)] == [a.fileno()]

    def test_a_write_from_another_thread_ends_it_at_once(self, open_poller: Poller, pair: Pair) -> None:
        """The kernel's waker is a socket like any other: who writes to it from a thread ends the wait."""
        waker, other_end = pair

        self.wakes_at_once(open_poller, waker, lambda: other_end.send(b"x"))

    @signalling
    def test_a_write_from_a_signal_handler_ends_it_at_once(self, open_poller: Poller, pair: Pair) -> None:
        """A signal handler runs while the poller waits; what it makes ready is reported."""
        waker, other_end = pair
        with handling(lambda *_: other_end.send(b"x")):
            self.wakes_at_once(open_poller, waker, signal_main_thread)

    @signalling
    def test_the_wakeup_descriptor_of_signals_ends_it_at_once(self, open_poller: Poller, pair: Pair) -> None:
        """What `signal.set_wakeup_fd` writes to is a waker too."""
        waker, other_end = pair
        with handling(lambda *_: None):
            previous = signal.set_wakeup_fd(other_end.fileno(), warn_on_full_buffer=False)
            try:
                self.wakes_at_once(open_poller, waker, signal_main_thread)
            finally:
                signal.set_wakeup_fd(previous)

    def wakes_at_once(self, poller: Poller, waker: socket.socket, wake: Callable[[], object]) -> None:
        """Call *wake* in another thread while the poller waits for *waker*, which must be reported without delay."""
        called = 0.0

        def note_and_wake() -> None:
            nonlocal called
            called = time.monotonic()
            wake()

        delays: list[float] = []
        while not delays or min(delays) > AT_ONCE:
            assert len(delays) < 3, f"woken after {delays} seconds"
            poller.arm(waker.fileno(), READ)
            with later(note_and_wake):
                self.seen(poller, waker.fileno(), READ)
                delays.append(time.monotonic() - called)
            waker.recv(9)

    @signalling
    def test_a_signal_does_not_end_it(self, open_poller: Poller, pair: Pair) -> None:
        """PEP 475: the handler runs at once, and the wait goes on for the rest of its time."""
        a, _ = pair
        open_poller.arm(a.fileno(), READ)
        handled: list[float] = []
        timeout, interrupted = 3 * MOMENT, 0
        with handling(lambda *_: handled.append(time.monotonic())):
            while interrupted < 3:
                assert timeout < self.patience, "no signal handler ran while the poller waited"
                handled.clear()
                begin = time.monotonic()
                with later(signal_main_thread):
                    assert events(open_poller, timeout) == []
                    end = time.monotonic()
                    in_time = [when for when in handled if when < begin + timeout - MOMENT / 2]
                if in_time:
                    interrupted += 1
                    assert end - begin >= timeout
                else:
                    timeout *= 2  # the machine is busy, and the signal came late

    @signalling
    def test_what_a_signal_handler_raises_comes_out_of_it(self, open_poller: Poller, pair: Pair) -> None:
        """An exception raised by a signal handler ends the wait; the poller is as good as before."""
        a, b = pair
        open_poller.arm(a.fileno(), READ)

        class Raised(Exception):
            pass

        def handler(*_: object) -> None:
            raise Raised

        with handling(handler), pytest.raises(Raised), later(signal_main_thread):
            events(open_poller, self.patience)

        b.send(b"x")
        self.seen(open_poller, a.fileno(), READ)

    def test_a_descriptor_closed_while_armed_harms_no_other(
        self, open_poller: Poller, pairs: Callable[[], Pair]
    ) -> None:
        """Whoever closes a descriptor under the poller's eyes disturbs nobody else; a report of it is `ERROR`."""
        victims = [pairs()[0] for _ in range(3)]
        (a, b), (c, d) = pairs(), pairs()
        numbers = [victim.fileno() for victim in victims]
        for fd in *numbers, a.fileno(), c.fileno():
            open_poller.arm(fd, READ)
        for victim in victims:
            victim.close()
        b.send(b"x")
        self.seen(open_poller, a.fileno(), READ)  # the first wait may have other things to say
        d.send(b"x")
        self.seen(open_poller, c.fileno(), READ)

        for fd in numbers:
            assert reports(open_poller, fd) == []

    @posix
    def test_a_number_in_use_again_is_a_new_descriptor(self, open_poller: Poller, pairs: Callable[[], Pair]) -> None:
        """Closed while armed, its number taken by another file and armed: what is reported is the other file."""
        (old, old_peer), (new, new_peer) = pairs(), pairs()
        fd = old.fileno()
        open_poller.arm(fd, READ)
        old.close()
        with renumbered(new, fd):
            open_poller.arm(fd, READ)
            old_peer.close()
            assert reports(open_poller, fd) == []
            new_peer.send(b"x")
            self.seen(open_poller, fd, READ)
            assert reports(open_poller, fd) == []

    def test_a_stale_duplicate_does_not_spin(self, open_poller: Poller, pair: Pair) -> None:
        """The file behind a closed descriptor may live on in a duplicate: it is reported once at most."""
        a, b = pair
        fd = a.fileno()
        open_poller.arm(fd, READ)
        with a.dup():
            a.close()
            b.send(b"x")

            assert len(reports(open_poller, fd)) <= 1

    # -------------------------------------------------------------------------------------------------------- close

    def test_close_may_be_called_twice(self, open_poller: Poller, pair: Pair) -> None:
        """The second time nothing happens."""
        a, _ = pair
        open_poller.arm(a.fileno(), READ)
        open_poller.close()
        open_poller.close()

    @posix
    def test_close_releases_the_descriptors_of_the_poller(self, pair: Pair) -> None:
        """After many pollers have come and gone no descriptor is left behind."""
        a, b = pair
        b.send(b"x")
        before = open_descriptors()
        for _ in range(3):
            with closing(self.poller_class()) as poller:
                poller.arm(a.fileno(), READ)
                self.seen(poller, a.fileno(), READ)
                poller.arm(a.fileno(), READ)

        assert open_descriptors() - before == set()

    def test_close_leaves_alone_what_was_armed(self, open_poller: Poller, pair: Pair) -> None:
        """The poller releases what it opened itself, not what it was asked to watch."""
        a, b = pair
        open_poller.arm(a.fileno(), READ)
        open_poller.close()
        b.send(b"x")

        wait_until_readable(a)
        assert a.recv(9) == b"x"

    @forking
    def test_close_in_a_forked_child_leaves_the_parent_alone(self, open_poller: Poller, pair: Pair) -> None:
        """The child shares the poller with its parent and closes it; the parent has it as it was."""
        a, b = pair
        open_poller.arm(a.fileno(), READ)

        def work() -> None:
            open_poller.close()
            open_poller.close()

        with forked(work) as pid:
            assert exit_code(pid) == 0
        b.send(b"x")

        self.seen(open_poller, a.fileno(), READ)

    @forking
    def test_after_a_fork_both_sides_can_serve(self, open_poller: Poller, pairs: Callable[[], Pair]) -> None:
        """The child closes its poller and opens a new one; parent and child then watch without each other's events."""
        (a, a_peer), (b, b_peer) = pairs(), pairs()
        open_poller.arm(a.fileno(), READ)
        open_poller.arm(b.fileno(), READ)

        def work() -> None:
            open_poller.close()
            with closing(self.poller_class()) as own:
                own.arm(a.fileno(), READ)
                self.seen(own, a.fileno(), READ)
                own.arm(b.fileno(), READ)
                own.unregister(b.fileno())

        a_peer.send(b"x")
        with forked(work) as pid:
            assert exit_code(pid) == 0
        b_peer.send(b"x")

        self.all_seen(open_poller, {a.fileno(), b.fileno()})

    # --------------------------------------------------------------------------------------------------- process_fd

    @forking
    def test_the_end_of_a_child_is_readable(self, open_poller: Poller, child: tuple[int, IO[bytes]]) -> None:
        """The descriptor of a process is silent while it runs, and readable once it has ended."""
        pid, leash = child
        with process_fd(open_poller, pid) as fd:
            open_poller.arm(fd, READ)
            assert reports(open_poller, fd) == []
            leash.close()
            self.seen(open_poller, fd, READ)
            assert os.waitpid(pid, 0)[0] == pid

    @forking
    def test_the_end_of_a_child_that_is_over_is_readable(
        self, open_poller: Poller, child: tuple[int, IO[bytes]]
    ) -> None:
        """A child may have ended before it is asked for.

        Some systems do not know a process that nobody has reaped yet: there `ProcessLookupError` is right as well,
        since it sends the kernel to reap, too.
        """
        pid, leash = child
        with process_fd(open_poller, pid):  # or skip
            leash.close()
            wait_until_zombie(pid)
        with suppress(ProcessLookupError), closing_fd(open_poller.process_fd(pid)) as fd:
            open_poller.arm(fd, READ)
            self.seen(open_poller, fd, READ)
        assert os.waitpid(pid, 0)[0] == pid

    @forking
    def test_a_process_that_does_not_exist_is_refused(self, open_poller: Poller, child: tuple[int, IO[bytes]]) -> None:
        """Where there is no such process, the error is `ProcessLookupError`."""
        pid, leash = child
        with process_fd(open_poller, pid):  # or skip
            leash.close()
            os.waitpid(pid, 0)
        with pytest.raises(ProcessLookupError):
            os.close(open_poller.process_fd(pid))

    @forking
    def test_the_descriptor_of_a_process_belongs_to_the_caller(
        self, open_poller: Poller, child: tuple[int, IO[bytes]]
    ) -> None:
        """Each call gives a new descriptor, not inherited by other programs, that outlives the poller."""
        pid, _ = child
        with process_fd(open_poller, pid) as fd, process_fd(open_poller, pid) as other:
            assert fd != other
            assert not os.get_inheritable(fd)
            open_poller.close()
            os.fstat(fd)
            os.fstat(other)

    # ----------------------------------------------------------------------------------------------------- register

    def test_register_is_for_edge_pollers_only(self, open_poller: Poller, pair: Pair) -> None:
        """A level-triggered poller says that it has no `register`, rather than to pretend."""
        if self.poller_class.edge:
            pytest.skip(f"{self.poller_class.__name__} is edge-triggered")
        with pytest.raises(NotImplementedError):
            open_poller.register(pair[0].fileno())

    def test_what_holds_already_is_the_first_edge(self, edge_poller: Poller, pair: Pair) -> None:
        """Registered when it is readable and writable, a descriptor is reported as both."""
        a, b = pair
        b.send(b"x")
        wait_until_readable(a)
        edge_poller.register(a.fileno())
        mask = self.seen(edge_poller, a.fileno(), READ)

        assert mask & WRITE or self.seen(edge_poller, a.fileno(), WRITE)

    def test_every_new_datum_is_an_edge(self, edge_poller: Poller, pair: Pair) -> None:
        """Each arrival is reported without another call, whether or not the earlier ones have been read."""
        a, b = pair
        edge_poller.register(a.fileno())
        self.settle(edge_poller)
        for read in False, False, True, True:
            b.send(b"x")
            self.seen(edge_poller, a.fileno(), READ)
            self.settle(edge_poller)
            if read:
                a.recv(9)

    def test_a_drained_send_buffer_is_an_edge(self, edge_poller: Poller, pair: Pair) -> None:
        """Each time that a descriptor becomes writable again it is reported."""
        a, b = pair
        edge_poller.register(a.fileno())
        for _ in range(2):
            fill(a)
            self.settle(edge_poller)
            drain(b)
            self.seen(edge_poller, a.fileno(), WRITE)

    def test_the_end_of_a_peer_is_an_edge(self, edge_poller: Poller, pair: Pair) -> None:
        """A peer that closes while nothing is left to read is reported."""
        a, b = pair
        b.send(b"x")
        edge_poller.register(a.fileno())
        self.seen(edge_poller, a.fileno(), READ)
        a.recv(9)
        self.settle(edge_poller)
        b.close()

        self.seen(edge_poller, a.fileno(), FOR_READER)

    def test_the_end_of_a_peer_is_not_lost_behind_data(self, edge_poller: Poller, pair: Pair) -> None:
        """Data and the end in one: a hangup bit comes with the data, or another edge after they have been read.

        Otherwise nobody would ask again after the read that brought less than it asked for.
        """
        a, b = pair
        edge_poller.register(a.fileno())
        self.settle(edge_poller)
        b.send(b"x")
        b.close()
        mask = self.seen(edge_poller, a.fileno(), READ)
        assert a.recv(9) == b"x"

        assert mask & (READ_HANGUP | HANGUP) or self.seen(edge_poller, a.fileno(), FOR_READER)

    def test_an_edge_is_not_reported_again_and_again(self, edge_poller: Poller, pair: Pair) -> None:
        """What is ready and stays ready is no edge: the poller comes to rest though nobody reads."""
        a, b = pair
        b.send(b"x")
        edge_poller.register(a.fileno())
        self.seen(edge_poller, a.fileno(), READ)

        self.settle(edge_poller)

    def test_no_edge_is_lost_in_a_crowd(self, edge_poller: Poller, pairs: Callable[[], Pair]) -> None:
        """With a thousand descriptors ready at once each edge is reported, in as many batches as it takes."""
        with crowd(pairs) as sockets:
            for each in sockets:
                edge_poller.register(each.fileno())
            self.settle(edge_poller)
            for each in sockets:
                each.send(b"x")

            self.all_seen(edge_poller, {each.fileno() for each in sockets})

    def test_register_raises_like_arm(self, edge_poller: Poller, pair: Pair) -> None:
        """A closed descriptor is refused with ``EBADF``, a regular file with ``EPERM``."""
        a, _ = pair
        fd = a.fileno()
        a.close()
        with pytest.raises(OSError) as closed:  # noqa: PT011  # the number is checked below
            edge_poller.register(fd)
        assert closed.value.errno == errno.EBADF

        if sys.platform != "win32":
            with tempfile.TemporaryFile() as file, pytest.raises(OSError) as regular:  # noqa: PT011  # likewise
                edge_poller.register(file.fileno())
            assert regular.value.errno == errno.EPERM

    def test_unregister_ends_the_edges(self, edge_poller: Poller, pair: Pair) -> None:
        """What was unregistered is not reported, and can be registered anew; that never raises, done twice either."""
        a, b = pair
        edge_poller.register(a.fileno())
        edge_poller.unregister(a.fileno())
        edge_poller.unregister(a.fileno())
        b.send(b"x")
        assert reports(edge_poller, a.fileno()) == []
        edge_poller.register(a.fileno())

        self.seen(edge_poller, a.fileno(), READ)

    def test_register_unregister_and_register_between_two_waits(self, edge_poller: Poller, pair: Pair) -> None:
        """Changes count in the order in which they were made, however many there are before the next wait."""
        a, b = pair
        b.send(b"x")
        edge_poller.register(a.fileno())
        edge_poller.unregister(a.fileno())
        edge_poller.register(a.fileno())
        self.seen(edge_poller, a.fileno(), READ)
        self.settle(edge_poller)
        edge_poller.unregister(a.fileno())
        edge_poller.register(a.fileno())
        edge_poller.unregister(a.fileno())
        b.send(b"x")

        assert reports(edge_poller, a.fileno()) == []

    @posix
    def test_a_registered_descriptor_closed_harms_no_other(
        self, edge_poller: Poller, pairs: Callable[[], Pair]
    ) -> None:
        """Closed without a word, its number can be registered for another file; the rest is not disturbed."""
        (old, _), (new, new_peer), (other, other_peer) = pairs(), pairs(), pairs()
        fd = old.fileno()
        edge_poller.register(fd)
        edge_poller.register(other.fileno())
        self.settle(edge_poller)
        old.close()
        other_peer.send(b"x")
        self.seen(edge_poller, other.fileno(), READ)
        with renumbered(new, fd):
            edge_poller.register(fd)
            self.settle(edge_poller)
            new_peer.send(b"x")
            self.seen(edge_poller, fd, READ)

    def test_a_stale_duplicate_of_a_registered_descriptor_does_not_spin(self, edge_poller: Poller, pair: Pair) -> None:
        """The file behind a closed descriptor may live on in a duplicate: its edges end where its changes end."""
        a, b = pair
        edge_poller.register(a.fileno())
        self.settle(edge_poller)
        with a.dup():
            a.close()
            b.send(b"x")

            self.settle(edge_poller)

    @forking
    def test_close_in_a_forked_child_leaves_the_edges_of_the_parent(self, edge_poller: Poller, pair: Pair) -> None:
        """What the parent has registered stays registered when the child closes its copy of the poller."""
        a, b = pair
        edge_poller.register(a.fileno())
        self.settle(edge_poller)
        with forked(edge_poller.close) as pid:
            assert exit_code(pid) == 0
        b.send(b"x")

        self.seen(edge_poller, a.fileno(), READ)
