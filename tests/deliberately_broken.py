"""Pollers that break the contract of `coro.poller`, each in one way, to show that the conformance kit notices.

Each is a correct poller with one defect, which its docstring names.  `breaks` says which tests of the kit must fail,
and makes the test class that `test_conformance_kit` runs.  Needs Linux: they are made from the select poller and the
epoll poller.
"""

from __future__ import annotations

import errno
import math
import os
import select
import signal
import socket
import stat
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, TypeVar

from coro.poller import ERROR, HANGUP, READ, READ_HANGUP, WRITE, Poller
from coro.testing import PollerTests
from coro_epoll import EpollPoller
from coro_select import SelectPoller

Event = tuple[int, int]
AnyPoller = TypeVar("AnyPoller", bound=type[Poller])

PATIENCE = 0.2  # seconds: most tests fail because something does not come
IMPORTED_IN = os.getpid()

#: Which tests fail for which poller.
BROKEN: dict[type[Poller], tuple[str, ...]] = {}


def breaks(*tests: str) -> Callable[[AnyPoller], AnyPoller]:
    """Say that the poller must fail these *tests* of the kit (their names without ``test_``)."""

    def decorate(poller: AnyPoller) -> AnyPoller:
        BROKEN[poller] = tuple(f"test_{test}" for test in tests)
        name = f"Test{poller.__name__}"
        body = {"poller_class": poller, "patience": PATIENCE, "__module__": __name__}
        globals()[name] = type(name, (PollerTests,), body)
        return poller

    return decorate


class Level(SelectPoller):
    """A correct poller, level-triggered."""

    _readers: set[int]
    _writers: set[int]

    def mask(self, fd: int) -> int:
        """What *fd* is armed for."""
        return (READ if fd in self._readers else 0) | (WRITE if fd in self._writers else 0)

    @property
    def armed(self) -> set[int]:
        """Every descriptor that is armed."""
        return self._readers | self._writers


class Edge(EpollPoller):
    """A correct poller, edge-triggered, whose methods can be overridden."""

    def __init__(self) -> None:
        super().__init__()
        del self.wait, self.close  # the instance has those of its epoll object

    def wait(self, timeout: float | None) -> Iterable[Event]:
        return self._epoll.poll(timeout)

    def close(self) -> None:
        self._epoll.close()


class TestLevel(PollerTests):
    poller_class = Level


class TestEdge(PollerTests):
    poller_class = Edge


def state(fd: int) -> int:
    """What poll(2) says of a descriptor."""
    poll = select.poll()
    poll.register(fd, READ | WRITE | READ_HANGUP)
    return sum(mask for _, mask in poll.poll(0))


# ------------------------------------------------------------------------------------------------------------- opening


@breaks("calling_the_class_opens_a_poller")
class DoesNotSayWhetherEdge(Level):
    """Has no truth value for `edge`."""

    edge = None  # type: ignore[assignment]


@breaks("opening_raises_oserror_if_the_system_refuses")
class RaisesAnotherErrorWhenOpened(Level):
    """Wraps what the system said in an exception of its own."""

    def __init__(self) -> None:
        super().__init__()
        try:
            os.close(os.open(os.devnull, os.O_RDONLY))
        except OSError as error:
            raise RuntimeError("cannot be opened") from error


@breaks("two_pollers_are_independent")
class SharesItsTable(Level):
    """Keeps its table in the class."""

    readers: ClassVar[set[int]] = set()

    def __init__(self) -> None:
        super().__init__()
        self._readers = self.readers


@breaks("any_one_thread_can_use_it")
class NeedsTheMainThread(Level):
    """Touches the handlers of signals."""

    def __init__(self) -> None:
        super().__init__()
        signal.signal(signal.SIGUSR2, signal.SIG_DFL)


@breaks("its_descriptors_do_not_survive_an_exec")
class IsInherited(Level):
    """Has a descriptor that every program started from here inherits."""

    def __init__(self) -> None:
        super().__init__()
        self._file = open(os.devnull, "rb")  # noqa: SIM115
        os.set_inheritable(self._file.fileno(), True)

    def close(self) -> None:
        self._file.close()


# ------------------------------------------------------------------------------------------------------ arm and events


@breaks("an_event_is_a_descriptor_and_bits_of_poll")
class ReportsTriples(Level):
    """Adds a third thing to its events."""

    def wait(self, timeout: float | None) -> Iterable[Event]:
        return [(*event, None) for event in super().wait(timeout)]  # type: ignore[misc]


@breaks("an_event_is_a_descriptor_and_bits_of_poll")
class ReportsUnknownBits(Level):
    """Passes on bits that only its own platform knows."""

    def wait(self, timeout: float | None) -> Iterable[Event]:
        return [(fd, mask | 0x40) for fd, mask in super().wait(timeout)]


@breaks("an_event_is_a_descriptor_and_bits_of_poll", "readable_is_reported", "writable_is_reported")
class SwapsTheDirections(Level):
    """Says `WRITE` for readable and the reverse."""

    def wait(self, timeout: float | None) -> Iterable[Event]:
        return [(fd, {READ: WRITE, WRITE: READ}.get(mask, mask)) for fd, mask in super().wait(timeout)]


@breaks("pipes_are_reported")
class KnowsSocketsOnly(Level):
    """Refuses what is no socket."""

    def arm(self, fd: int, mask: int) -> None:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            raise OSError(errno.ENOTSOCK, os.strerror(errno.ENOTSOCK))
        super().arm(fd, mask)


@breaks("an_accept_and_a_connect_are_reported")
class DoesNotListen(Level):
    """Never reports a listening socket."""

    def wait(self, timeout: float | None) -> Iterable[Event]:
        return [event for event in super().wait(timeout) if not self._listens(event[0])]

    def _listens(self, fd: int) -> bool:
        with socket.socket(fileno=os.dup(fd)) as sock:
            return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


@breaks(
    "a_refused_connect_is_reported",
    "the_end_of_a_peer_is_readable",
    "the_end_of_a_peer_wakes_a_writer",
    "the_end_of_the_reader_wakes_a_writer_of_a_full_pipe",
)
class IgnoresErrorsAndHangups(Level):
    """Drops what has failed, as if nobody had asked."""

    def wait(self, timeout: float | None) -> Iterable[Event]:
        return [event for event in super().wait(timeout) if not state(event[0]) & (ERROR | HANGUP)]


@breaks("a_peer_that_has_finished_sending_does_not_wake_a_writer")
class WakesWritersForTheEndOfReading(Level):
    """Always watches for the end of the peer's sending as well."""

    def wait(self, timeout: float | None) -> Iterable[Event]:
        found = [fd for fd in self.armed if state(fd) & READ_HANGUP]
        for fd in found:
            self.unregister(fd)
        return [(fd, READ_HANGUP) for fd in found] or super().wait(timeout)


@breaks("what_does_not_hold_is_not_reported")
class ReportsWhatDoesNotHold(Level):
    """Takes everything that is armed for ready."""

    def wait(self, timeout: float | None) -> Iterable[Event]:
        found = [(fd, self.mask(fd)) for fd in self.armed]
        for fd, _ in found:
            self.unregister(fd)
        return found


@breaks("what_was_not_armed_is_not_reported")
class ArmsTheNeighbours(Level):
    """Arms a few descriptors too many."""

    def arm(self, fd: int, mask: int) -> None:
        super().arm(fd, mask)
        for neighbour in range(fd + 1, fd + 4):
            with suppress(OSError):
                super().arm(neighbour, mask)


@breaks("only_the_direction_asked_for_is_waited_for")
class ArmsBothDirections(Level):
    """Does not look at the mask."""

    def arm(self, fd: int, mask: int) -> None:
        super().arm(fd, READ | WRITE)


@breaks("both_directions_can_be_waited_for")
class ArmsOneDirection(Level):
    """Takes a mask of both for `READ`."""

    def arm(self, fd: int, mask: int) -> None:
        super().arm(fd, READ if mask & READ else WRITE)


@breaks("arm_reports_once")
class NeverDisarms(Level):
    """Reports again and again."""

    def wait(self, timeout: float | None) -> Iterable[Event]:
        armed = [(fd, self.mask(fd)) for fd in self.armed]
        found = list(super().wait(timeout))
        for fd, mask in armed:
            self.arm(fd, mask)
        return found


@breaks("one_report_disarms_both_directions")
class DisarmsWhatItReports(Level):
    """Goes on watching for the direction that it has not reported."""

    def wait(self, timeout: float | None) -> Iterable[Event]:
        armed = {fd: self.mask(fd) for fd in self.armed}
        found = list(super().wait(timeout))
        for fd, mask in found:
            if rest := armed[fd] & ~mask:
                self.arm(fd, rest)
        return found


@breaks("arm_is_level_triggered")
class ReportsChangesOnly(Level):
    """Does not report a second time what it has reported and what is still so."""

    def __init__(self) -> None:
        super().__init__()
        self._reported: set[int] = set()

    def wait(self, timeout: float | None) -> Iterable[Event]:
        found = [(fd, mask) for fd, mask in super().wait(timeout) if fd not in self._reported]
        self._reported.update(fd for fd, _ in found)
        return found


@breaks("what_held_when_armed_is_reported_by_the_next_wait")
class IsLate(Level):
    """Looks at what was armed in the wait after the next one."""

    def __init__(self) -> None:
        super().__init__()
        self._new: dict[int, int] = {}

    def arm(self, fd: int, mask: int) -> None:
        super().arm(fd, mask)
        super().unregister(fd)
        self._new[fd] = mask

    def wait(self, timeout: float | None) -> Iterable[Event]:
        found = list(super().wait(0 if self._new else timeout))
        for fd, mask in self._new.items():
            super().arm(fd, mask)
        self._new.clear()
        return found


@breaks("arm_replaces_an_earlier_arm")
class AddsToAnEarlierArm(Level):
    """Gathers the masks of one descriptor."""

    def arm(self, fd: int, mask: int) -> None:
        super().arm(fd, mask | self.mask(fd))


@breaks("a_closed_descriptor_is_refused_with_ebadf")
class AcceptsClosedDescriptors(Level):
    """Says nothing about a closed descriptor."""

    def arm(self, fd: int, mask: int) -> None:
        with suppress(OSError):
            super().arm(fd, mask)


@breaks("a_closed_descriptor_is_refused_with_ebadf", "a_regular_file_is_refused_with_eperm")
class ArmsWhatItRefuses(Level):
    """Raises as it should, and yet keeps the descriptor."""

    def arm(self, fd: int, mask: int) -> None:
        try:
            super().arm(fd, mask)
        except OSError:
            self._readers.add(fd)
            raise


@breaks("a_regular_file_is_refused_with_eperm")
class AcceptsRegularFiles(Level):
    """Reports a file, always."""

    def arm(self, fd: int, mask: int) -> None:
        try:
            super().arm(fd, mask)
        except PermissionError:
            self._readers.add(fd)


@breaks("a_thousand_descriptors_are_watched")
class HasASmallTable(Level):
    """Loses, without a word, what does not fit in."""

    def arm(self, fd: int, mask: int) -> None:
        super().arm(fd, mask)
        if len(self.armed) > 500:
            self.unregister(fd)


# ---------------------------------------------------------------------------------------------------------- unregister


@breaks("unregister_forgets")
class ForgetsNothing(Level):
    """Does nothing in `unregister`."""

    def unregister(self, fd: int) -> None:
        pass


@breaks("unregister_never_raises")
class RefusesToForgetTheClosed(Level):
    """Lets out what the system says of a closed descriptor."""

    def unregister(self, fd: int) -> None:
        os.fstat(fd)
        super().unregister(fd)


@breaks("unregister_of_a_number_in_use_again_never_raises")
class ChecksWhoseNumberItIs(Level):
    """Complains when the number has come to mean another file."""

    def __init__(self) -> None:
        super().__init__()
        self._files: dict[int, int] = {}

    def arm(self, fd: int, mask: int) -> None:
        super().arm(fd, mask)
        self._files[fd] = os.fstat(fd).st_ino

    def unregister(self, fd: int) -> None:
        super().unregister(fd)
        with suppress(OSError):
            file = os.fstat(fd).st_ino
            if self._files.pop(fd, file) != file:
                raise KeyError(fd)


@breaks("arm_unregister_and_arm_between_two_waits")
class MixesUpTheOrder(Level):
    """Drops, when it waits next, whatever was unregistered since it waited last."""

    def __init__(self) -> None:
        super().__init__()
        self._dropped: set[int] = set()

    def arm(self, fd: int, mask: int) -> None:
        dropped = fd in self._dropped
        super().arm(fd, mask)
        if not dropped:
            self._dropped.discard(fd)

    def unregister(self, fd: int) -> None:
        super().unregister(fd)
        self._dropped.add(fd)

    def wait(self, timeout: float | None) -> Iterable[Event]:
        for fd in self._dropped:
            super().unregister(fd)
        self._dropped.clear()
        return super().wait(timeout)


# ---------------------------------------------------------------------------------------------------------------- wait


@breaks("a_timeout_of_zero_does_not_block")
class BlocksForAMoment(Level):
    """Takes 0 for a short time."""

    def wait(self, timeout: float | None) -> Iterable[Event]:
        return super().wait(timeout or 0.1)


@breaks("none_waits_without_limit")
class CalculatesWithNone(Level):
    """Does not know that there may be no timeout."""

    def wait(self, timeout: float | None) -> Iterable[Event]:
        return super().wait(timeout + 0.0)  # type: ignore[operator]


@breaks("a_wait_blocks")
class IsABusyLoop(Level):
    """Only ever looks."""

    def wait(self, timeout: float | None) -> Iterable[Event]:
        return super().wait(0)


@breaks("a_wait_blocks")
class IsABusyLoopWhenIdle(Level):
    """Returns at once when nothing is armed."""

    def wait(self, timeout: float | None) -> Iterable[Event]:
        return super().wait(timeout) if self.armed else ()


@breaks("a_wait_lasts_at_most_its_timeout")
class CountsInSeconds(Level):
    """Rounds up, to a whole second."""

    def wait(self, timeout: float | None) -> Iterable[Event]:
        return super().wait(None if timeout is None else math.ceil(timeout))


@breaks("a_wait_is_never_rounded_down")
class RoundsDown(Level):
    """Counts in milliseconds and rounds down."""

    def wait(self, timeout: float | None) -> Iterable[Event]:
        return super().wait(None if timeout is None else math.floor(timeout * 1000) / 1000)


@breaks("a_wait_is_never_rounded_down")
class RoundsToTheNearest(Level):
    """Counts in milliseconds and rounds to the nearest."""

    def wait(self, timeout: float | None) -> Iterable[Event]:
        return super().wait(None if timeout is None else round(timeout, 3))


@breaks("a_timeout_of_a_day_is_accepted")
class KnowsNoFarTimers(Level):
    """Overflows."""

    def wait(self, timeout: float | None) -> Iterable[Event]:
        if timeout is not None and timeout * 1000 > 0xFFFFFF:
            raise OverflowError("timeout is too large")
        return super().wait(timeout)


@breaks("a_write_from_another_thread_ends_it_at_once")
class LooksAtTheEnd(Level):
    """Sleeps for its timeout, and then looks."""

    def wait(self, timeout: float | None) -> Iterable[Event]:
        found = list(super().wait(0))
        if not found:
            time.sleep(timeout or 0)
            found = list(super().wait(0))
        return found


@breaks(
    "a_write_from_a_signal_handler_ends_it_at_once",
    "the_wakeup_descriptor_of_signals_ends_it_at_once",
    "a_signal_does_not_end_it",
)
class BlocksSignals(Level):
    """Lets no signal in while it waits."""

    def wait(self, timeout: float | None) -> Iterable[Event]:
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
        try:
            return super().wait(timeout)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


@breaks("a_signal_does_not_end_it")
class EndsWithASignal(Level):
    """Returns when a signal has come."""

    def wait(self, timeout: float | None) -> Iterable[Event]:
        reader, writer = socket.socketpair()
        with reader, writer:
            writer.setblocking(False)
            self.arm(reader.fileno(), READ)
            previous = signal.set_wakeup_fd(writer.fileno())
            try:
                return [event for event in super().wait(timeout) if event[0] != reader.fileno()]
            finally:
                signal.set_wakeup_fd(previous)
                self.unregister(reader.fileno())


@breaks("what_a_signal_handler_raises_comes_out_of_it")
class SwallowsExceptions(Level):
    """Must go on, whatever happens."""

    def wait(self, timeout: float | None) -> Iterable[Event]:
        try:
            return super().wait(timeout)
        except Exception:
            return ()


@breaks("a_descriptor_closed_while_armed_harms_no_other")
class FailsForAClosedDescriptor(Level):
    """Lets out what the system says of a descriptor that is closed."""

    def wait(self, timeout: float | None) -> Iterable[Event]:
        for fd in self.armed:
            os.fstat(fd)
        return super().wait(timeout)


@breaks("a_descriptor_closed_while_armed_harms_no_other")
class PassesOnPollnval(Level):
    """Reports a closed descriptor with a bit that wakes nobody."""

    def wait(self, timeout: float | None) -> Iterable[Event]:
        return [(fd, 0x20 if mask == ERROR else mask) for fd, mask in super().wait(timeout)]


@breaks("a_descriptor_closed_while_armed_harms_no_other", "a_stale_duplicate_does_not_spin")
class NeverForgetsTheDead(Level):
    """Reports a closed descriptor again and again."""

    def wait(self, timeout: float | None) -> Iterable[Event]:
        found = list(super().wait(timeout))
        self._readers.update(fd for fd, mask in found if mask == ERROR)
        return found


@breaks("a_number_in_use_again_is_a_new_descriptor")
class RemembersWhatIsArmed(Edge):
    """Does not tell the system what it believes the system to know."""

    def __init__(self) -> None:
        super().__init__()
        self._armed: dict[int, int] = {}

    def arm(self, fd: int, mask: int) -> None:
        if self._armed.get(fd) != mask:
            super().arm(fd, mask)
            self._armed[fd] = mask

    def wait(self, timeout: float | None) -> Iterable[Event]:
        found = list(super().wait(timeout))
        for fd, _ in found:
            self._armed.pop(fd, None)
        return found


@breaks("a_stale_duplicate_does_not_spin")
class DisarmsByNumber(Edge):
    """Is level-triggered and deletes what it has reported, which fails for a number that is closed."""

    def arm(self, fd: int, mask: int) -> None:
        try:
            self._epoll.modify(fd, mask)
        except FileNotFoundError:
            self._epoll.register(fd, mask)

    def wait(self, timeout: float | None) -> Iterable[Event]:
        found = list(super().wait(timeout))
        for fd, _ in found:
            self.unregister(fd)
        return found


# --------------------------------------------------------------------------------------------------------------- close


@breaks("close_may_be_called_twice")
class ClosesOnce(Level):
    """Fails when it is closed again."""

    def close(self) -> None:
        del self._readers


@breaks("close_releases_the_descriptors_of_the_poller")
class Leaks(Level):
    """Opens a descriptor that nobody closes."""

    def __init__(self) -> None:
        super().__init__()
        os.open(os.devnull, os.O_RDONLY)


@breaks("close_leaves_alone_what_was_armed")
class ClosesEverything(Level):
    """Closes what it was asked to watch."""

    def close(self) -> None:
        for fd in self.armed:
            os.close(fd)
        super().close()


@breaks("close_in_a_forked_child_leaves_the_parent_alone", "close_in_a_forked_child_leaves_the_edges_of_the_parent")
class TidiesUpWhenClosed(Edge):
    """Deletes what is registered before it closes: in a forked child that is the parent's."""

    def __init__(self) -> None:
        super().__init__()
        self._known: set[int] = set()

    def arm(self, fd: int, mask: int) -> None:
        super().arm(fd, mask)
        self._known.add(fd)

    def register(self, fd: int) -> None:
        super().register(fd)
        self._known.add(fd)

    def close(self) -> None:
        for fd in self._known:
            self.unregister(fd)
        super().close()


@breaks("after_a_fork_both_sides_can_serve")
class OpensInOneProcessOnly(Level):
    """Cannot be opened in a child."""

    def __init__(self) -> None:
        if os.getpid() != IMPORTED_IN:
            raise RuntimeError("open in another process already")
        super().__init__()


# ---------------------------------------------------------------------------------------------------------- process_fd


@breaks("the_end_of_a_child_is_readable", "the_end_of_a_child_that_is_over_is_readable")
class NeverSeesTheEnd(Level):
    """Gives a descriptor that stays silent."""

    def process_fd(self, pid: int) -> int:
        return os.eventfd(0)


@breaks("the_end_of_a_child_is_readable")
class SeesTheEndTooSoon(Level):
    """Gives a descriptor that is readable from the beginning."""

    def process_fd(self, pid: int) -> int:
        return os.eventfd(1)


@breaks("the_end_of_a_child_that_is_over_is_readable")
class MissesAnEarlierEnd(Level):
    """Gives a descriptor that stays silent, if the process is over."""

    def process_fd(self, pid: int) -> int:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return os.eventfd(0) if state == "Z" else super().process_fd(pid)


@breaks("a_process_that_does_not_exist_is_refused")
class ReportsAnotherErrorForNoProcess(Level):
    """Raises another `OSError` where there is no such process."""

    def process_fd(self, pid: int) -> int:
        try:
            return super().process_fd(pid)
        except ProcessLookupError:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL)) from None


@breaks("the_descriptor_of_a_process_belongs_to_the_caller")
class KeepsDescriptorsOfProcesses(Level):
    """Gives the same descriptor twice."""

    def __init__(self) -> None:
        super().__init__()
        self._processes: dict[int, int] = {}

    def process_fd(self, pid: int) -> int:
        if pid not in self._processes:
            self._processes[pid] = super().process_fd(pid)
        return self._processes[pid]


@breaks("the_descriptor_of_a_process_belongs_to_the_caller")
class ClosesDescriptorsOfProcesses(Level):
    """Takes what it has given away with it when it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self._processes: set[int] = set()

    def process_fd(self, pid: int) -> int:
        fd = super().process_fd(pid)
        self._processes.add(fd)
        return fd

    def close(self) -> None:
        for fd in self._processes:
            os.close(fd)
        self._processes.clear()


# ------------------------------------------------------------------------------------------------------------ register


@breaks("register_is_for_edge_pollers_only")
class PretendsToRegister(Level):
    """Is level-triggered and has a `register` that cannot do what it promises."""

    def register(self, fd: int) -> None:
        self.arm(fd, READ | WRITE)


@breaks("what_holds_already_is_the_first_edge")
class BeginsWithTheNextEdge(Edge):
    """Does not report what held before."""

    def register(self, fd: int) -> None:
        super().register(fd)
        self._epoll.poll(0)


@breaks("every_new_datum_is_an_edge")
class ReportsOneEdge(Edge):
    """Falls silent after the first edge."""

    def register(self, fd: int) -> None:
        self._epoll.register(fd, select.EPOLLET | select.EPOLLONESHOT | READ | WRITE | READ_HANGUP)


@breaks("a_drained_send_buffer_is_an_edge", "what_holds_already_is_the_first_edge")
class RegistersReadersOnly(Edge):
    """Reports one direction."""

    def register(self, fd: int) -> None:
        self._epoll.register(fd, select.EPOLLET | READ | READ_HANGUP)


@breaks("the_end_of_a_peer_is_an_edge")
class DropsHangups(Edge):
    """Ignores an event that says that the peer has ended."""

    def wait(self, timeout: float | None) -> Iterable[Event]:
        return [(fd, mask) for fd, mask in super().wait(timeout) if not mask & READ_HANGUP]


@breaks("the_end_of_a_peer_is_not_lost_behind_data")
class MasksHangups(Edge):
    """Says of data and end in one only that there are data."""

    def wait(self, timeout: float | None) -> Iterable[Event]:
        return [(fd, mask & (READ | WRITE | ERROR) or mask) for fd, mask in super().wait(timeout)]


@breaks("an_edge_is_not_reported_again_and_again", "a_stale_duplicate_of_a_registered_descriptor_does_not_spin")
class RegistersLevels(Edge):
    """Reports what is ready for as long as it is."""

    def register(self, fd: int) -> None:
        self._epoll.register(fd, READ | READ_HANGUP)


@breaks("no_edge_is_lost_in_a_crowd")
class ReportsTheFirstHundred(Edge):
    """Throws away what is more than a hundred."""

    def wait(self, timeout: float | None) -> Iterable[Event]:
        return list(super().wait(timeout))[:100]


@breaks("register_raises_like_arm")
class RegistersAnything(Edge):
    """Is silent about what cannot be registered."""

    def register(self, fd: int) -> None:
        with suppress(OSError):
            super().register(fd)


@breaks("unregister_ends_the_edges")
class KeepsEdges(Edge):
    """Does nothing in `unregister`."""

    def register(self, fd: int) -> None:
        with suppress(FileExistsError):
            super().register(fd)

    def unregister(self, fd: int) -> None:
        pass


@breaks("register_unregister_and_register_between_two_waits")
class MixesUpTheOrderOfEdges(Edge):
    """Drops, when it waits next, whatever was unregistered since it waited last."""

    def __init__(self) -> None:
        super().__init__()
        self._dropped: set[int] = set()

    def unregister(self, fd: int) -> None:
        self._dropped.add(fd)

    def register(self, fd: int) -> None:
        with suppress(FileExistsError):
            super().register(fd)

    def wait(self, timeout: float | None) -> Iterable[Event]:
        for fd in self._dropped:
            super().unregister(fd)
        self._dropped.clear()
        return super().wait(timeout)


@breaks("a_registered_descriptor_closed_harms_no_other")
class RemembersWhatIsRegistered(Edge):
    """Does not tell the system what it believes the system to know."""

    def __init__(self) -> None:
        super().__init__()
        self._registered: set[int] = set()

    def register(self, fd: int) -> None:
        if fd not in self._registered:
            super().register(fd)
            self._registered.add(fd)

    def unregister(self, fd: int) -> None:
        super().unregister(fd)
        self._registered.discard(fd)
