"""Latency warnings: say which coroutine has kept the CPU for too long.

Stands on the ready queue of `coro.kernel`.  A clock read at each switch would cost a tenth of it.  Instead a thread
looks at each running loop twenty times a second, notes which coroutine runs, and slips an entry in front of the
ready queue.  Whoever parks next calls that entry: if it is met late, the noted coroutine has run all the time since.
So the warning is exact to five hundredths of a second, it comes also when the coroutine ended in that run (D-36), and
a switch costs nothing.  What a library in C does without giving up the GIL counts too: the thread then comes late
itself, and takes the time at which it should have come.

But that there is a second thread at all makes everything else dearer: malloc locks its arena, and each system call
counts the users of its descriptor.  Measured: 4 to 9 % of a switch, 3 to 5 % of an echo.  So where that matters the
thread goes away: when a review, which the poll makes twenty times a second, finds that the loop has used the processor
nearly all the time and held nobody up.  A later review, which finds that this is over, has it come back.  What took
long meanwhile is reported too, as the time between two polls: whose it was, or of how many, nobody knows then.
"""

from __future__ import annotations

import os
import threading
import time
from math import inf
from typing import TYPE_CHECKING, Any, Final

from .kernel import monotonic
from .report import write_stderr

if TYPE_CHECKING:
    from .coroutine import coro
    from .kernel import Kernel

__all__ = ["set_latency_warning", "watch"]

UNIT: Final = 0.2  # seconds: Shrapnel's threshold for factor 1
PERIOD: Final = 0.05  # seconds between two looks
REVIEW: Final = PERIOD  # shorter than the shortest run that is reported, so that a review follows each
BUSY: Final = 0.7  # of the time between two reviews, on the processor
STAY: Final = 60.0  # seconds that the thread stays once two polls were farther apart than two looks

_factor = 1


def set_latency_warning(factor: int) -> int:
    """Choose after how long an uninterrupted run of a coroutine is reported on stderr.

    Args:
        factor: in units of 0.2 seconds, from 0 (never) to 300; by default 1.  Loops that are running already keep
            looking only if it was not 0 when they began.

    A loop that was busy all the time, and held nobody up, when it was last reviewed is not watched: what takes long in
    it then is reported without a name, and those of the next minute with one.

    Returns the old factor.  TypeError if it is no int, ValueError if it is out of range.
    """
    global _factor
    if not isinstance(factor, int):
        raise TypeError(f"the latency factor is an int, not {factor!r}")
    if not 0 <= factor <= 300:
        raise ValueError(f"the latency factor must be from 0 to 300, not {factor}")
    old, _factor = _factor, factor
    return old


class watch:
    """``with watch(kernel):`` has the thread look at a loop while it runs."""

    __slots__ = ("kernel", "reviewed", "since", "stay", "suspect", "used")

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.suspect: coro | None = None
        self.since = 0.0
        self.stay = 0.0  # until when the thread is needed, whatever else speaks against it
        self.reviewed = self.used = 0.0  # when the last review was; the processor time until then

    def __enter__(self) -> None:
        if _factor and self.kernel.on_review is None:  # else the loop runs already, and is about to say so
            _watcher.add(self)
            self.kernel.on_review = self.review
            self.kernel.next_review = 0.0  # at the first poll: until then modules are imported, which is no load

    def __exit__(self, *exc_info: object) -> None:
        if self.kernel.on_review == self.review:
            self.kernel.next_review, self.kernel.on_review = inf, None
        _watcher.discard(self)

    def look(self, due: float) -> None:
        """Note who runs since *due*, and slip the entry in.  Called by the thread."""
        if self.suspect is None:
            self.suspect = co = self.kernel.current
            if co is not None:
                # A loop that polls all the time can keep a thread waiting for the GIL for seconds: no fault of *co*.
                self.since = max(due, self.kernel.polled)
                self.kernel.ready.appendleft(self.met)

    def met(self) -> Any:
        """Report the suspect if it has run for too long; then go on.  An entry."""
        late, co = monotonic() - self.since, self.suspect
        self.suspect = None
        if is_long(late):
            report(late, f"for {co!r}")
        del co  # a spare worker may stay parked in this frame for long
        return self.kernel.next_entry()()

    def review(self, now: float, late: float) -> None:
        """Let the thread go, or have it come back.  Called by a poll, *late* seconds after the last one."""
        using = time.thread_time()
        busy = self.reviewed > 0 and using - self.used > BUSY * (now - self.reviewed)
        if late > PERIOD:
            self.stay = now + STAY
        if self in _watcher.watches:
            if busy and now > self.stay and self.suspect is None and threading.active_count() == 2:
                _watcher.discard(self)
        elif not busy or late > PERIOD:
            try:
                _watcher.add(self)
            except RecursionError:  # in a stack that is full: the hub tries again
                raise
            except RuntimeError:  # there are too many threads
                pass
            if is_long(late):
                report(late, "between two polls of a loop that was not watched, as all went well")
        self.reviewed, self.used = now, using  # last: what failed has reviewed nothing
        self.kernel.next_review = now + REVIEW


def is_long(seconds: float) -> bool:
    """Return whether so long a run is to be reported."""
    return _factor > 0 and seconds > _factor * UNIT


def report(seconds: float, what: str) -> None:
    write_stderr(f"{time.ctime()} High Latency: ({seconds:.3f}s) {what}\n")


class Watcher:
    """The thread, there only while a loop is watched."""

    def __init__(self) -> None:
        self.watches: set[watch] = set()
        self.lock = threading.Lock()
        self.stop = threading.Event()  # of the thread that runs
        self.thread: threading.Thread | None = None

    def add(self, one: watch) -> None:
        with self.lock:
            if self.thread is None:
                self.stop = threading.Event()
                thread = threading.Thread(target=self.run, args=(self.stop,), name="coro latency", daemon=True)
                try:
                    thread.start()  # fails where there are too many threads
                except BaseException:
                    self.stop.set()  # it may have begun
                    raise
                self.thread = thread
            one.suspect = None
            self.watches.add(one)

    def discard(self, one: watch) -> None:
        with self.lock:
            self.watches.discard(one)
            if self.watches or self.thread is None:
                return
            self.stop.set()
            thread, self.thread = self.thread, None
        thread.join()  # a loop that has ended leaves no thread behind

    def run(self, stop: threading.Event) -> None:
        due = monotonic() + PERIOD
        while not stop.wait(max(0.0, due - monotonic())):
            with self.lock:
                for one in self.watches:
                    one.look(due)
            due = max(due, monotonic()) + PERIOD


_watcher = Watcher()


def _forget() -> None:
    """A forked child has no thread; the loop that it may go on with is no longer watched."""
    global _watcher
    _watcher = Watcher()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
