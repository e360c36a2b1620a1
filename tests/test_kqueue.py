"""coro-kqueue: what it promises beyond the contract, and the facts about kqueue(2) that its code relies on.

Where Python has `select.kqueue` these tests run against the kqueue of the system.  Linux has none.  There they run
against a double, `kqueue_double`, once for each set of rules that it knows (FreeBSD, macOS, NetBSD, OpenBSD), and where
libkqueue is installed, against that library: what passes there has *not* been seen to pass on a BSD.  A test that looks
behind the scenes, or brings about what no system does on demand, runs against the double only and is skipped elsewhere.
"""

from __future__ import annotations

import errno
import gc
import os
import select
import signal
import socket
import stat
import struct
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import pytest

import coro_kqueue
from coro.poller import ERROR, HANGUP, READ, READ_HANGUP, WRITE
from coro.testing import PollerTests
from coro_kqueue import KqueuePoller, _poller

if sys.platform == "linux":
    from . import kqueue_double, libkqueue

    library = libkqueue.load()

Pair: TypeAlias = tuple[socket.socket, socket.socket]

BOTH = READ | WRITE
system: Any = select  # as `Any`: for a type checker, the attributes of this module depend on the platform
MOMENT = 0.01  # seconds for which what must stay silent is watched
PATIENCE = 10.0  # seconds after which what must come counts as missing

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither a kqueue nor pipes to wait for")

_NO_QUEUE = "a kqueue of libkqueue is no kernel object: it is found by its number, and never readable"
_LOST = "libkqueue loses edges if both filters of a descriptor report into a full list"
NOT_IN_LIBKQUEUE = {
    "test_1_a_descriptor_reports_in_two_events": _LOST,
    "test_2_closing_a_number_removes_its_knotes": "libkqueue cannot see that a descriptor is closed",
    "test_3_flags_stay_and_udata_goes": "libkqueue refuses to add a knote that exists with other flags",
    "test_4_an_error_is_an_event_where_there_is_room": "libkqueue returns errors and events together",
    "test_9_a_kqueue_is_readable_while_it_holds_events": _NO_QUEUE,
    "test_9_a_kqueue_lives_as_long_as_a_duplicate": _NO_QUEUE,
    "test_a_refused_connect_is_reported": "libkqueue takes the error away from the socket (SO_ERROR)",
    "test_no_edge_is_lost_in_a_crowd": _LOST,
    "test_the_end_of_the_peer_comes_with_its_last_data": "libkqueue asks no more for the end once both filters are set",
    "test_a_socket_that_was_never_connected_is_silent": "libkqueue passes on what epoll says",
    "test_a_device_that_kqueue_refuses_is_an_error_with_a_remedy": "libkqueue refuses a device with another error",
    "test_the_end_of_a_child_is_readable": _NO_QUEUE,
    "test_the_end_of_a_child_that_is_over_is_readable": _NO_QUEUE,
    "test_D_52_what_fails_halfway_leaves_nothing_armed": _NO_QUEUE,
    "test_close_in_a_child_spares_who_has_the_number_now": _NO_QUEUE,
    "test_a_child_that_has_ended_is_readable_at_once": _NO_QUEUE,
    "test_the_descriptor_of_a_process_outlives_every_object": _NO_QUEUE,
}


# ------------------------------------------------------------------------------------------- what the tests run against


@dataclass
class Leg:
    """Something that plays the kqueue: the system, a double of one, or libkqueue."""

    name: str
    install: Callable[[pytest.MonkeyPatch], Any] = lambda _: None
    double: Any = None  #: The `select.kqueue` of the double.


def legs() -> Iterator[Any]:
    """Give the legs that this platform has."""
    if hasattr(select, "kqueue"):
        yield pytest.param(Leg("system"), id="system")
    elif sys.platform == "linux":
        for system in kqueue_double.SYSTEMS:
            install = partial(kqueue_double.install, system=system)
            yield pytest.param(Leg("double", install), id=f"double-of-{system.name}")
        if library is not None:
            yield pytest.param(Leg("libkqueue", partial(libkqueue.install, library=library)), id="libkqueue")
    else:
        reason = "this Python has no select.kqueue, and the double needs Linux"
        yield pytest.param(Leg("nothing"), id="nothing", marks=pytest.mark.skip(reason=reason))


if sys.platform == "linux" and library is None:

    @pytest.mark.skip(reason="libkqueue is not installed: here nothing runs against it, only against the double")
    def test_libkqueue() -> None:
        """Stands for all tests of this file that would run against libkqueue too."""


@pytest.fixture(params=legs())
def leg(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Leg]:
    """Let `select` have a kqueue."""
    leg: Leg = request.param
    if leg.name == "libkqueue" and (reason := NOT_IN_LIBKQUEUE.get(request.node.originalname)):
        pytest.skip(reason)
    leg.double = leg.install(monkeypatch)
    yield leg
    if leg.name == "double":
        kqueue_double.release()


@pytest.fixture
def double(leg: Leg) -> Any:
    """The `select.kqueue` of the double; whatever else would play the kqueue is skipped."""
    if leg.name != "double":
        pytest.skip("only the double of a kqueue, not a real one, can be made to do that, or be seen doing it")
    return leg.double


@pytest.fixture
def queue(leg: Leg) -> Iterator[KqueuePoller]:
    """An open poller, under this name since the suite has a fixture `poller` of its own."""
    queue = KqueuePoller()
    yield queue
    queue.close()


@pytest.fixture
def pairs() -> Iterator[Callable[[], Pair]]:
    """A function that makes connected sockets that do not block."""
    with ExitStack() as stack:

        def make() -> Pair:
            pair = socket.socketpair()
            for end in pair:
                stack.enter_context(end)
                end.setblocking(False)
            return pair

        yield make


@pytest.fixture
def pair(pairs: Callable[[], Pair]) -> Pair:
    """One such pair."""
    return pairs()


@pytest.fixture
def full_pipe() -> Iterator[tuple[Any, Any]]:
    """The ends of a pipe into which nothing fits any more: for reading, for writing."""
    reader, writer = os.pipe()
    with open(reader, "rb", buffering=0) as read_end, open(writer, "wb", buffering=0) as write_end:
        fill(writer)
        os.set_blocking(reader, False)
        yield read_end, write_end


@pytest.fixture
def dead_pipe(full_pipe: tuple[Any, Any]) -> int:
    """The writing end of a full pipe whose reader has gone."""
    reader, writer = full_pipe
    reader.close()
    return int(writer.fileno())


def fill(fd: int) -> None:
    """Write until nothing fits any more."""
    os.set_blocking(fd, False)
    with suppress(BlockingIOError):
        while os.write(fd, bytes(65536)):
            pass
    with suppress(BlockingIOError):
        while os.write(fd, b"x"):
            pass


def drain(fd: int) -> None:
    """Read until nothing is left."""
    with suppress(BlockingIOError):
        while os.read(fd, 65536):
            pass


def reports(queue: KqueuePoller, fd: int) -> list[int]:
    """Return what is reported of *fd* within a moment, one mask for each time."""
    found = []
    end = time.monotonic() + MOMENT
    while (left := end - time.monotonic()) > 0:
        found += [mask for number, mask in queue.wait(left) if number == fd]
    return found


def seen(queue: KqueuePoller, fd: int, bits: int) -> int:
    """Wait until all of *bits* were reported of *fd*, and return all bits that were."""
    mask, end = 0, time.monotonic() + PATIENCE
    while mask & bits != bits:
        left = end - time.monotonic()
        assert left > 0, f"expected {bits:#x}, reported was {mask:#x}"
        for number, found in queue.wait(left):
            if number == fd:
                mask |= found
    return mask


def open_descriptors() -> set[int]:
    """Return the descriptors that are open."""
    found = set()
    for fd in range(1024):
        with suppress(OSError):
            os.fstat(fd)
            found.add(fd)
    return found


@contextmanager
def forked(work: Callable[[], object]) -> Iterator[int]:
    """Run *work* in a child whose pid is given.  It is gone afterwards."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12 and newer: libkqueue has threads
        pid = os.fork()
    if not pid:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    try:
        yield pid
    finally:
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


@pytest.fixture
def zombie() -> Iterator[int]:
    """The pid of a child that has ended and was not reaped."""
    with forked(lambda: None) as pid:
        if hasattr(os, "waitid"):
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        else:
            time.sleep(10 * MOMENT)  # macOS before Python 3.13: nothing tells it
        yield pid


# --------------------------------------------------------------------------------------------------- the whole contract


@pytest.mark.usefixtures("leg")
class TestContract(PollerTests):
    """The contract of `coro.poller`, sentence by sentence."""

    poller_class = KqueuePoller


# ------------------------------------------------------------------------------------------------------------- the hook


def test_the_package_imports_everywhere_and_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Python has no `select.kqueue`, importing works and the hook says why the poller cannot."""
    monkeypatch.delattr(select, "kqueue", raising=False)

    assert "select.kqueue" in (coro_kqueue.coro_poller().unavailable or "")


@pytest.mark.usefixtures("leg")
def test_the_hook_describes_the_poller() -> None:
    """Where there is a kqueue, the poller is offered under its name, before select."""
    info = coro_kqueue.coro_poller()

    assert (info.name, info.poller, info.priority, info.unavailable) == ("kqueue", KqueuePoller, 100, None)


# ------------------------------------------------------------------------------------------------- the facts themselves
# The numbers are those of the essay in `coro_kqueue._poller`.  A failure on a real system means that the essay is wrong
# there, and the double with it.


class TestFacts:
    """What the poller takes for granted, asked of kqueue itself, without a poller."""

    @pytest.fixture
    def raw(self, leg: Leg) -> Iterator[Any]:
        """An open `select.kqueue`."""
        raw = system.kqueue()
        yield raw
        raw.close()

    @staticmethod
    def change(fd: int, flags: int, filter_: int | None = None, udata: int = 0) -> Any:
        """One change, of the read filter if no other is named."""
        return system.kevent(fd, system.KQ_FILTER_READ if filter_ is None else filter_, flags, 0, 0, udata)

    def test_1_a_descriptor_reports_in_two_events(self, raw: Any, pair: Pair) -> None:
        """Reading and writing are two knotes, so ready for both means two events, in one list or in two."""
        a, b = pair
        b.send(b"x")
        for filter_ in system.KQ_FILTER_READ, system.KQ_FILTER_WRITE:
            raw.control([self.change(a.fileno(), system.KQ_EV_ADD | system.KQ_EV_CLEAR, filter_)], 0, 0)
        found = raw.control(None, 1, PATIENCE) + raw.control(None, 1, PATIENCE)

        assert {event.filter for event in found} == {system.KQ_FILTER_READ, system.KQ_FILTER_WRITE}
        assert raw.control(None, 1, 0) == []

    def test_2_closing_a_number_removes_its_knotes(self, raw: Any, pairs: Callable[[], Pair]) -> None:
        """Though a duplicate lives on nothing is reported, nothing can be deleted, and the number comes back clean."""
        (a, a_peer), (b, b_peer) = pairs(), pairs()
        fd = a.fileno()
        with a.dup():
            raw.control([self.change(fd, system.KQ_EV_ADD)], 0, 0)
            a.close()
            a_peer.send(b"x")
            b_peer.send(b"x")
            assert raw.control(None, 1, MOMENT) == []
            with pytest.raises(OSError, match=f"{os.strerror(errno.ENOENT)}|{os.strerror(errno.EBADF)}"):
                raw.control([self.change(fd, system.KQ_EV_DELETE)], 0, 0)
            os.dup2(b.fileno(), fd)

            assert raw.control(None, 1, MOMENT) == []
            os.close(fd)

    def test_3_flags_stay_and_udata_goes(self, raw: Any, pair: Pair) -> None:
        """Adding a knote that exists tests the condition anew and sets ``udata``, but makes no one-shot of it."""
        a, b = pair
        b.send(b"x")
        raw.control([self.change(a.fileno(), system.KQ_EV_ADD | system.KQ_EV_CLEAR, udata=1)], 0, 0)
        assert [event.udata for event in raw.control(None, 1, PATIENCE)] == [1]
        assert raw.control(None, 1, MOMENT) == []
        for udata in 2, 3:
            raw.control([self.change(a.fileno(), system.KQ_EV_ADD | system.KQ_EV_ONESHOT, udata=udata)], 0, 0)
            assert [event.udata for event in raw.control(None, 1, PATIENCE)] == [udata]
        b.send(b"x")

        assert [event.udata for event in raw.control(None, 1, PATIENCE)] == [3]

    def test_3_a_one_shot_is_gone_when_it_has_reported(self, raw: Any, pair: Pair) -> None:
        """Deleting it then is ``ENOENT``."""
        a, b = pair
        b.send(b"x")
        raw.control([self.change(a.fileno(), system.KQ_EV_ADD | system.KQ_EV_ONESHOT)], 0, 0)
        assert len(raw.control(None, 2, PATIENCE)) == 1
        with pytest.raises(FileNotFoundError):
            raw.control([self.change(a.fileno(), system.KQ_EV_DELETE)], 0, 0)

    def test_4_an_error_raises_where_there_is_no_room(self, raw: Any, pair: Pair) -> None:
        """What follows the change that failed is not applied."""
        a, b = pair
        b.send(b"x")
        with pytest.raises(FileNotFoundError):
            raw.control([self.change(a.fileno(), system.KQ_EV_DELETE), self.change(a.fileno(), system.KQ_EV_ADD)], 0, 0)

        assert raw.control(None, 1, MOMENT) == []

    def test_4_an_error_is_an_event_where_there_is_room(self, raw: Any, pair: Pair) -> None:
        """Then the rest is applied, and the call returns at once with the errors alone; without errors, with events."""
        a, b = pair
        b.send(b"x")
        delete, add = self.change(a.fileno(), system.KQ_EV_DELETE), self.change(a.fileno(), system.KQ_EV_ADD)
        found = raw.control([delete, add], 2, PATIENCE)
        assert [(event.flags & system.KQ_EV_ERROR, event.data) for event in found] == [
            (system.KQ_EV_ERROR, errno.ENOENT)
        ]
        found = raw.control([delete, add], 2, PATIENCE)

        assert [(event.flags & system.KQ_EV_ERROR, event.filter) for event in found] == [(0, system.KQ_FILTER_READ)]

    def test_5_a_half_closed_peer_is_the_end_for_one_filter(self, raw: Any, pair: Pair) -> None:
        """``EV_EOF`` comes from the read filter while data are left, and not from the write filter."""
        a, b = pair
        b.send(b"x")
        b.shutdown(socket.SHUT_WR)
        ends = {}
        for filter_ in system.KQ_FILTER_READ, system.KQ_FILTER_WRITE:
            raw.control([self.change(a.fileno(), system.KQ_EV_ADD | system.KQ_EV_ONESHOT, filter_)], 0, 0)
            (event,) = raw.control(None, 1, PATIENCE)
            ends[filter_] = bool(event.flags & system.KQ_EV_EOF)

        assert ends == {system.KQ_FILTER_READ: True, system.KQ_FILTER_WRITE: False}

    def test_6_the_write_filter_of_a_dead_pipe(self, raw: Any, dead_pipe: int) -> None:
        """It is refused with ``EPIPE`` or ``EBADF``, or says ``EV_EOF`` at once; nothing else."""
        refusal = None
        try:
            raw.control([self.change(dead_pipe, system.KQ_EV_ADD, system.KQ_FILTER_WRITE)], 0, 0)
        except OSError as exc:
            refusal = exc.errno
        flags = [event.flags & system.KQ_EV_EOF for event in raw.control(None, 1, 0)]

        assert refusal in (errno.EPIPE, errno.EBADF) or flags == [system.KQ_EV_EOF]

    def test_7_a_regular_file_is_silent_at_its_end(self, raw: Any, tmp_path: Path) -> None:
        """It is accepted, and readable as long as something follows the position."""
        path = tmp_path / "file"
        path.write_bytes(b"x")
        with path.open("rb", buffering=0) as file:
            raw.control([self.change(file.fileno(), system.KQ_EV_ADD)], 0, 0)
            assert len(raw.control(None, 1, PATIENCE)) == 1
            file.read()

            assert raw.control(None, 1, MOMENT) == []

    def test_8_a_child_inherits_no_kqueue(self, raw: Any) -> None:
        """There the number is free."""

        def work() -> None:
            with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
                os.fstat(number)

        number = raw.fileno()
        with forked(work) as pid:
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

    def test_9_a_kqueue_is_readable_while_it_holds_events(self, raw: Any, pair: Pair) -> None:
        """That holds for select(2), for another kqueue, and for a duplicate."""
        a, b = pair
        duplicate = os.dup(raw.fileno())
        outer = system.kqueue()
        outer.control([self.change(duplicate, system.KQ_EV_ADD)], 0, 0)
        raw.control([self.change(a.fileno(), system.KQ_EV_ADD)], 0, 0)
        assert select.select([raw.fileno(), duplicate], [], [], 0)[0] == []
        assert outer.control(None, 1, 0) == []
        b.send(b"x")

        assert select.select([duplicate], [], [], PATIENCE)[0] == [duplicate]
        assert [event.ident for event in outer.control(None, 1, PATIENCE)] == [duplicate]
        outer.close()
        os.close(duplicate)

    def test_9_a_kqueue_lives_as_long_as_a_duplicate(self, raw: Any) -> None:
        """Closing the number that it was opened under takes nothing away: the end of a process is still told."""
        leash, held = os.pipe()

        def work() -> None:
            os.close(held)
            os.read(leash, 1)

        with forked(work) as pid:
            raw.control([system.kevent(pid, system.KQ_FILTER_PROC, system.KQ_EV_ADD, system.KQ_NOTE_EXIT)], 0, 0)
            duplicate = os.dup(raw.fileno())
            raw.close()
            assert select.select([duplicate], [], [], MOMENT)[0] == []
            os.close(held)

            assert select.select([duplicate], [], [], PATIENCE)[0] == [duplicate]
            os.close(duplicate)
        os.close(leash)

    def test_10_a_call_without_room_does_not_wait(self, raw: Any) -> None:
        """Whatever its timeout; infinity and more than 292 years are no timeouts at all."""
        assert raw.control(None, 0, None) == []
        for timeout in float("inf"), 1e10:
            with pytest.raises(TypeError):
                raw.control(None, 1, timeout)


# -------------------------------------------------------------------------------------------------- what an event means


@posix
def test_the_two_events_of_a_descriptor_become_one(queue: KqueuePoller, pair: Pair) -> None:
    """Readable and writable are two events of kqueue; the poller reports one pair with both bits."""
    a, b = pair
    b.send(b"x")
    queue.register(a.fileno())

    assert list(queue.wait(PATIENCE)) == [(a.fileno(), BOTH)]


@posix
def test_the_end_of_the_peer_comes_with_its_last_data(queue: KqueuePoller, pair: Pair) -> None:
    """``EV_EOF`` of the read filter is said once, while data may be left: `READ_HANGUP`, which is no `HANGUP`."""
    a, b = pair
    queue.register(a.fileno())
    b.send(b"x")
    b.shutdown(socket.SHUT_WR)
    mask = seen(queue, a.fileno(), READ | READ_HANGUP)

    assert a.recv(9) == b"x"
    assert not mask & (HANGUP | ERROR)


@posix
def test_a_peer_that_reads_no_more_is_a_hangup(queue: KqueuePoller, pair: Pair) -> None:
    """``EV_EOF`` of the write filter is `WRITE` and `HANGUP`: a write would not block, and will say why."""
    a, b = pair
    b.close()
    queue.arm(a.fileno(), WRITE)

    seen(queue, a.fileno(), WRITE | HANGUP)
    with pytest.raises(BrokenPipeError):
        a.send(b"x")


@posix
@pytest.mark.parametrize(("asked", "expected"), [(READ, READ | READ_HANGUP | ERROR), (WRITE, WRITE | HANGUP | ERROR)])
def test_a_connection_that_was_reset_is_an_error(asked: int, expected: int, queue: KqueuePoller) -> None:
    """``EV_EOF`` with a number in ``fflags`` carries the error of the socket: `ERROR` is reported with it."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        peer, _ = server.accept()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        assert select.select([client], [], [], PATIENCE)[0]
        queue.arm(client.fileno(), asked)

        assert seen(queue, client.fileno(), expected) == expected


def test_D_52_an_error_event_is_reported_as_an_error(queue: KqueuePoller, double: Any, monkeypatch: Any) -> None:
    """``EV_ERROR``, which is looked at before everything else, becomes `ERROR` alone."""
    broken = kqueue_double.Kevent(
        7, system.KQ_FILTER_READ, kqueue_double.EV_ERROR | kqueue_double.EV_EOF, data=errno.EBADF
    )
    monkeypatch.setattr(double, "_scan", lambda *_: [broken])

    assert list(queue.wait(0)) == [(7, ERROR)]


@posix
def test_a_socket_that_was_never_connected_is_silent(queue: KqueuePoller) -> None:
    """Unlike epoll, kqueue does not take a fresh socket for one that has hung up; its connect is still reported."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
        queue.register(client.fileno())
        assert reports(queue, client.fileno()) == []
        client.connect(server.getsockname())

        assert not seen(queue, client.fileno(), WRITE) & HANGUP


# ----------------------------------------------------------------------------------------------------- arm and register


@posix
def test_arm_after_register_reports_once(queue: KqueuePoller, pair: Pair) -> None:
    """A knote keeps the flags that it was made with, so `arm` makes a new one: one-shot, in one direction."""
    a, b = pair
    queue.register(a.fileno())
    queue.arm(a.fileno(), READ)
    assert reports(queue, a.fileno()) == []
    b.send(b"x")
    assert seen(queue, a.fileno(), READ) == READ
    b.send(b"y")

    assert reports(queue, a.fileno()) == []


@posix
def test_register_after_arm_reports_each_edge(queue: KqueuePoller, pair: Pair) -> None:
    """The same the other way round: what was one-shot is not any more."""
    a, b = pair
    queue.arm(a.fileno(), READ)
    queue.register(a.fileno())
    for _ in range(3):
        b.send(b"x")
        seen(queue, a.fileno(), READ)


@posix
def test_what_is_always_ready_is_refused(queue: KqueuePoller, tmp_path: Path) -> None:
    """kqueue would take files and directories, and be silent at the end of a file: the poller says ``EPERM``."""
    for path, flags in (tmp_path / "file", os.O_RDWR | os.O_CREAT), (tmp_path, os.O_RDONLY):
        fd = os.open(path, flags)
        for call in partial(queue.arm, fd, READ), partial(queue.arm, fd, WRITE), partial(queue.register, fd):
            with pytest.raises(PermissionError, match="always ready"):
                call()
        assert reports(queue, fd) == []
        os.close(fd)


@posix
def test_a_disk_is_always_ready_too(queue: KqueuePoller, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Block devices are refused like files (here a socket that poses as one, for few may open a disk)."""
    monkeypatch.setattr(os, "fstat", lambda _: os.stat_result([stat.S_IFBLK] + [0] * 9))
    with pytest.raises(PermissionError, match="always ready"):
        queue.arm(pair[0].fileno(), READ)


@posix
def test_a_device_that_kqueue_refuses_is_an_error_with_a_remedy(leg: Leg, queue: KqueuePoller) -> None:
    """macOS cannot watch /dev/tty: the ``EINVAL`` reaches the caller at once, with a note that says what to do."""
    if leg.name == "system" and sys.platform != "darwin":
        pytest.skip("of this system it is not known which devices its kqueue refuses; of macOS it is (/dev/tty)")
    try:
        fd = os.open("/dev/null" if leg.name == "double" else "/dev/tty", os.O_RDWR)
    except OSError as exc:
        pytest.skip(f"there is no terminal to open, which is the device that kqueue refuses: {exc}")
    with pytest.raises(OSError, match=os.strerror(errno.EINVAL)) as caught:
        queue.arm(fd, READ)
    os.close(fd)

    assert "CORO_POLLER=select" in caught.value.__notes__[0]


@posix
def test_D_52_what_fails_halfway_leaves_nothing_armed(queue: KqueuePoller, pair: Pair) -> None:
    """There is no rollback in kqueue: if the second of two filters is refused, the poller takes the first one back."""
    a, b = pair
    with open(os.dup((nest := system.kqueue()).fileno()), "rb", buffering=0) as nested:  # has no write filter
        with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
            queue.arm(nested.fileno(), BOTH)
        nest.control([system.kevent(a.fileno(), system.KQ_FILTER_READ, system.KQ_EV_ADD)], 0)
        b.send(b"x")
        assert select.select([nested], [], [], PATIENCE)[0]

        assert reports(queue, nested.fileno()) == []
    nest.close()


# ---------------------------------------------------------------------------------------------------------------- pipes


@posix
def test_a_pipe_without_a_reader_is_writable_once(queue: KqueuePoller, dead_pipe: int) -> None:
    """``EPIPE`` from the write filter (``EBADF`` on NetBSD) is no error of `arm`: the write is to say it."""
    for mask in WRITE, BOTH:
        queue.arm(dead_pipe, mask)
        assert [fd for fd, found in queue.wait(0) if found & WRITE] == [dead_pipe]
        assert reports(queue, dead_pipe) == []
    with pytest.raises(BrokenPipeError):
        os.write(dead_pipe, b"x")


@posix
def test_a_pipe_without_a_reader_can_be_registered(queue: KqueuePoller, dead_pipe: int) -> None:
    """`register` does not fail either: that the pipe is writable is its first edge."""
    queue.register(dead_pipe)

    seen(queue, dead_pipe, WRITE)


@posix
def test_what_a_pipe_without_a_reader_had_to_say_can_be_taken_back(queue: KqueuePoller, dead_pipe: int) -> None:
    """`unregister` forgets a report that the poller itself holds ready, as it forgets those of the system."""
    queue.arm(dead_pipe, WRITE)
    queue.unregister(dead_pipe)
    assert reports(queue, dead_pipe) == []
    queue.arm(dead_pipe, WRITE)
    queue.arm(dead_pipe, WRITE)

    assert len(reports(queue, dead_pipe)) == 1


@posix
def test_a_wait_does_not_sleep_on_a_report_that_is_ready(queue: KqueuePoller, dead_pipe: int, pair: Pair) -> None:
    """What the poller holds ready is returned at once, and together with what the system has."""
    queue.arm(dead_pipe, WRITE)
    begin = time.monotonic()
    assert [fd for fd, _ in queue.wait(PATIENCE)] == [dead_pipe]
    assert time.monotonic() - begin < PATIENCE / 2
    a, b = pair
    b.send(b"x")
    queue.arm(a.fileno(), READ)
    queue.arm(dead_pipe, WRITE)

    assert {fd for fd, _ in queue.wait(PATIENCE)} == {a.fileno(), dead_pipe}


def test_a_socket_may_refuse_its_write_filter_as_well(
    queue: KqueuePoller, double: Any, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """macOS has answered ``EPIPE`` for sockets, too: one report of an `arm`, one edge of a `register`.

    See https://github.com/tokio-rs/mio/issues/582.
    """
    a, b = pair
    attach = double._attach

    def refuse(self: Any, change: Any) -> Any:
        if change.filter == self.WRITE:
            raise OSError(errno.EPIPE, "the peer has gone")
        return attach(self, change)

    monkeypatch.setattr(double, "_attach", refuse)
    queue.arm(a.fileno(), BOTH)
    seen(queue, a.fileno(), WRITE)
    b.send(b"x")
    assert reports(queue, a.fileno()) == []
    queue.register(a.fileno())
    seen(queue, a.fileno(), BOTH)
    b.send(b"y")

    assert seen(queue, a.fileno(), READ) == READ


@posix
@pytest.mark.parametrize("how", ["register", "arm"])
def test_the_end_of_the_reader_wakes_the_writer_of_a_full_pipe(how: str, queue: KqueuePoller, full_pipe: Any) -> None:
    """NetBSD, OpenBSD and DragonFly tell only the read filter of the writing end; it wakes the writer all the same."""
    reader, writer = full_pipe
    queue.register(writer.fileno()) if how == "register" else queue.arm(writer.fileno(), WRITE)
    assert reports(queue, writer.fileno()) == []
    reader.close()

    seen(queue, writer.fileno(), WRITE | HANGUP)
    assert reports(queue, writer.fileno()) == []


@posix
def test_data_do_not_wake_who_writes_to_a_pipe(queue: KqueuePoller, tmp_path: Path) -> None:
    """The read filter that listens for the end of the reader keeps quiet about everything else."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    fd = os.open(path, os.O_RDWR)  # as readable as it is full
    fill(fd)
    queue.arm(fd, WRITE)
    assert reports(queue, fd) == []
    drain(fd)

    assert seen(queue, fd, WRITE) == WRITE
    os.close(fd)


@posix
def test_the_sentry_of_a_pipe_leaves_with_the_report(queue: KqueuePoller) -> None:
    """One report disarms: who was told that a pipe is writable is not told that its reader has gone, unless it asks."""
    reader, writer = os.pipe()
    queue.arm(writer, WRITE)
    seen(queue, writer, WRITE)
    os.close(reader)

    assert reports(queue, writer) == []
    os.close(writer)


def test_a_pipe_needs_no_sentry_where_there_is_none(
    queue: KqueuePoller, double: Any, full_pipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A named FIFO of OpenBSD refuses the read filter at its writing end: waiting for writing works without it."""
    reader, writer = full_pipe
    attach = double._attach

    def refuse(self: Any, change: Any) -> Any:
        if change.filter == self.READ:
            raise OSError(errno.EINVAL, "not open for reading")
        return attach(self, change)

    monkeypatch.setattr(double, "_attach", refuse)
    queue.arm(writer.fileno(), WRITE)
    drain(reader.fileno())

    assert seen(queue, writer.fileno(), WRITE) == WRITE


@posix
def test_the_end_of_a_pipe_is_the_end_of_both_directions(queue: KqueuePoller, full_pipe: Any) -> None:
    """A pipe has no half that could live on: the end of its writer is `HANGUP`, as on Linux."""
    reader, writer = full_pipe
    queue.register(reader.fileno())
    writer.close()

    seen(queue, reader.fileno(), READ | READ_HANGUP | HANGUP)


# ----------------------------------------------------------------------------------------------------------------- wait


@posix
@pytest.mark.parametrize("ready", [4, 5])
def test_D_52_a_full_list_is_followed_by_another(
    ready: int, queue: KqueuePoller, pairs: Callable[[], Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One wait returns all there is, however little room one call has, and does not wait for more."""
    monkeypatch.setattr(_poller, "_ROOM", 2)
    ends = [pairs() for _ in range(ready)]
    for a, b in ends:
        b.send(b"x")
        queue.arm(a.fileno(), READ)
    begin = time.monotonic()

    assert {fd for fd, _ in queue.wait(PATIENCE)} == {a.fileno() for a, _ in ends}
    assert time.monotonic() - begin < PATIENCE / 2


@posix
def test_one_report_disarms_though_the_other_event_found_no_room(
    queue: KqueuePoller, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two events of a descriptor may come in two lists: the second is taken back, or merged with the first."""
    monkeypatch.setattr(_poller, "_ROOM", 1)
    a, b = pair
    b.send(b"x")
    queue.arm(a.fileno(), BOTH)
    found = [mask for fd, mask in queue.wait(PATIENCE) if fd == a.fileno()]

    assert len(found) == 1
    assert reports(queue, a.fileno()) == []


@pytest.mark.parametrize("timeout", [float("inf"), 1e300, 86_401, None])
def test_a_long_timeout_is_shortened_to_a_day(timeout: float | None, queue: KqueuePoller, double: Any) -> None:
    """`select.kqueue` refuses infinity and more than 292 years; to return early is allowed (the double sees it)."""
    reader, writer = os.pipe()
    os.close(writer)
    queue.arm(reader, READ)

    assert list(queue.wait(timeout))
    assert double.calls[-1][2] == (None if timeout is None else 86_400)
    os.close(reader)


def test_no_call_that_can_sleep_has_changes_and_each_has_room(queue: KqueuePoller, double: Any, pair: Pair) -> None:
    """Python repeats an interrupted call with its changes; a call without room for events does not wait at all."""
    a, _ = pair
    queue.register(a.fileno())
    queue.arm(a.fileno(), BOTH)
    queue.unregister(a.fileno())
    queue.wait(0)
    queue.wait(MOMENT)
    with forked(lambda: None) as pid:
        os.close(queue.process_fd(pid))

    assert {(room, timeout) for changes, room, timeout in double.calls if changes} == {(0, 0)}
    assert [room for changes, room, _ in double.calls if not changes] == [_poller._ROOM] * 2


# ---------------------------------------------------------------------------------------------------------------- close


@posix
def test_unregister_of_a_closed_poller_never_raises(queue: KqueuePoller, pair: Pair) -> None:
    """The kernel may forget a descriptor late, when the poller is closed, too."""
    queue.register(pair[0].fileno())
    queue.close()
    queue.unregister(pair[0].fileno())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork(2)")
@pytest.mark.parametrize("knows_forks", [False, True], ids=["Python 3.11.6", "Python 3.11.7"])
def test_close_in_a_child_spares_who_has_the_number_now(knows_forks: bool, leg: Leg, pair: Pair) -> None:
    """A child has no copy of the kqueue: closing, and collecting the poller, must not close what took its number."""
    if leg.double is not None:
        leg.double.knows_forks = knows_forks
    elif knows_forks != (sys.version_info >= (3, 12, 1) or (3, 11, 7) <= sys.version_info < (3, 12)):
        pytest.skip("only the double can play a Python other than the one that runs this test")
    before = open_descriptors()
    queue = KqueuePoller()
    numbers = open_descriptors() - before

    def work() -> None:
        nonlocal queue
        for fd in numbers:
            os.dup2(pair[0].fileno(), fd)
        queue.close()
        queue.close()
        del queue
        gc.collect()
        for fd in numbers:
            os.fstat(fd)

    with forked(work) as pid:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    queue.arm(pair[0].fileno(), WRITE)
    seen(queue, pair[0].fileno(), WRITE)
    queue.close()


# ------------------------------------------------------------------------------------------------------------ processes


@posix
@pytest.mark.parametrize("waitid", [True, False], ids=["", "without os.waitid"])
def test_a_child_that_has_ended_is_readable_at_once(
    waitid: bool, queue: KqueuePoller, zombie: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FreeBSD takes a zombie, macOS answers ``ESRCH``: either way the descriptor is readable, and nobody reaps."""
    if not waitid:  # macOS before Python 3.13
        monkeypatch.delattr(os, "waitid", raising=False)
    fd = queue.process_fd(zombie)
    queue.arm(fd, READ)

    assert [number for number, mask in queue.wait(PATIENCE) if mask & READ] == [fd]
    assert select.select([fd], [], [], 0)[0] == [fd]
    assert os.waitpid(zombie, 0)[0] == zombie
    os.close(fd)


@posix
@pytest.mark.parametrize("waitid", [True, False], ids=["", "without os.waitid"])
@pytest.mark.usefixtures("leg")
def test_a_child_that_was_reaped_is_refused(
    waitid: bool, queue: KqueuePoller, zombie: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``ESRCH`` of what is no child any more is `ProcessLookupError`, and leaves no descriptor behind."""
    os.waitpid(zombie, 0)
    if not waitid:
        monkeypatch.delattr(os, "waitid", raising=False)
    before = open_descriptors()
    with pytest.raises(ProcessLookupError):
        queue.process_fd(zombie)

    assert open_descriptors() <= before


@posix
def test_the_descriptor_of_a_process_outlives_every_object(queue: KqueuePoller) -> None:
    """It is no number that a kqueue object would close when it is collected, and it works without the poller."""
    leash, held = os.pipe()

    def work() -> None:
        os.close(held)
        os.read(leash, 1)

    with forked(work) as pid:
        fd = queue.process_fd(pid)
        queue.close()
        gc.collect()
        assert select.select([fd], [], [], MOMENT)[0] == []
        os.close(held)

        assert select.select([fd], [], [], PATIENCE)[0] == [fd]
        os.close(fd)
    os.close(leash)
