"""The coroutine object, the registry of all coroutines, and the stand-in for the main program.

Stands on `coro.exceptions`.  The object is plain: it holds what to run, its state, and the greenlet that it parks in.
Everything that makes it run is in `coro.kernel`, which each coroutine knows as ``_kernel``.
"""

from __future__ import annotations

import itertools
import sys
import warnings
import weakref
from collections.abc import Callable, ItemsView, Iterator, Mapping, ValuesView
from contextvars import Context
from types import CodeType, FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from greenlet import getcurrent

from .exceptions import DeadCoroutine, Interrupted, NotStartedError, ScheduleError, Shutdown

if TYPE_CHECKING:
    from greenlet import greenlet

    from .kernel import Kernel

__all__ = [
    "MAIN",
    "READY",
    "AllThreads",
    "all_threads",
    "at_end",
    "coro",
    "made",
    "main_stub",
    "name_of",
    "not_at_end",
    "set_selfishness",
]

T = TypeVar("T")

READY: Final = 1  # in the ready queue
CANCELLED: Final = object()  # what a coroutine has returned that never ran

MOST_SELFISH: Final = 32768

SCHEDULER: Final = {f"coro.{name}" for name in ("kernel", "repair", "latency", "loop", "report", "running")}

next_id = itertools.count().__next__  # atomic under the GIL; Python's integers never wrap, so no id comes twice


_selfishness = 4  # of new coroutines


class JoinedItself(ScheduleError, AssertionError):
    """A coroutine tried to wait for its own end.  (An AssertionError too, because Shrapnel raised that.)"""


class coro:
    """A coroutine.  Made by `spawn` or `new`, not by calling the class.

    Attributes (read only):
        id: a number that no other coroutine of the process ever has, from 1 up.
        name: what `set_name` or ``thread_name=`` gave, else the qualified name of the function.
        dead: it has ended, or was cancelled before it began.
        started: its function has been called.
        scheduled: it is ready to run and waits for its turn.
    """

    __slots__ = (
        "__weakref__",
        "_allowance",
        "_args",
        "_collected",
        "_context",
        "_dead",
        "_error",
        "_fun",
        "_id",
        "_joiners",
        "_kernel",
        "_kwargs",
        "_local_key",
        "_made_at",
        "_made_in",
        "_name",
        "_pending",
        "_resume",
        "_scheduled",
        "_selfishness",
        "_value",
    )

    # No __init__: to call a class without one is the cheapest way to an object with slots.  See `made`.
    _kernel: Kernel
    _fun: Any
    _args: Any
    _kwargs: Any  # None for an empty dict, which would occupy 64 bytes
    _name: str | None
    _context: Context | None
    _id: int
    _dead: bool
    _scheduled: Any  # 0; READY; or the queue in which it waits, or waited, for the end of the pass
    _allowance: int  # socket operations left before it must yield ...
    _selfishness: int  # ... of so many
    _collected: int  # how many coroutines wait in result()
    _pending: BaseException | type[BaseException] | None  # raised in it when it runs next
    _resume: Any  # the switch of the greenlet that it parks in; None before the start and after the end
    #: Who is told of its end: coroutines to wake, with None, or others, with what to call: ``function(who, self)``;
    #: or a mutex alone, which is told by its ``_owner_ended``: a dict for each hand-over would cost a twentieth.
    _joiners: Any
    _made_in: CodeType | None  # the code that has called `spawn` or `new`
    _made_at: int  # the instruction of that call
    _local_key: Any  # by which each ThreadLocal knows it
    #: What it has returned; before that, what `schedule` has given for `suspend` to return; or CANCELLED.
    _value: Any
    _error: tuple[BaseException, TracebackType | None] | None

    # -- state -------------------------------------------------------------------------------------------------------

    @property
    def _greenlet(self) -> greenlet | None:
        """What it parks in, from its start to its end."""
        resume = self._resume
        return None if resume is None else resume.__self__

    @property
    def id(self) -> int:
        return self._id

    @property
    def name(self) -> str:
        name = self._name
        if name is None:
            fun = self._fun
            name = f"coro {self._id}" if fun is None else name_of(fun)
        return name

    @property
    def dead(self) -> bool:
        return self._dead

    @property
    def started(self) -> bool:
        return self._resume is not None or (self._dead and self._value is not CANCELLED)

    @property
    def scheduled(self) -> bool:
        return bool(self._scheduled != 0)

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} #{self._id} name='{self.name}' dead={self._dead:d} started={self.started:d} "
            f"scheduled={self._scheduled != 0:d} at {id(self):#x}>"
        )

    def get_name(self) -> str:
        """Return the name."""
        return self.name

    def set_name(self, name: str | None) -> coro:
        """Set the name (None: the default name) and return the coroutine itself.  TypeError if it is not a str."""
        self._name = check_name(name)
        return self

    def get_frame(self) -> FrameType | None:
        """Return the innermost frame of the program in this coroutine, leaving out those of coro itself.

        For the running coroutine that is the caller's.  None before the start and after the end.
        """
        if self._greenlet is getcurrent():  # it runs, or what runs on its stack is the poll that it makes
            frame: FrameType | None = sys._getframe(1)
        else:
            frame = self._greenlet.gr_frame if self._greenlet is not None else None
        innermost = frame
        verb = None  # of coro, for one that was made to run nothing else
        while frame is not None:
            module = frame.f_globals.get("__name__", "")
            if not module.startswith("coro."):
                return frame
            if verb is None and module not in SCHEDULER:
                verb = frame
            frame = frame.f_back
        return verb or innermost

    def set_max_selfish_acts(self, maximum: int) -> int:
        """Set how many socket operations in a row may succeed before this coroutine yields.  See `set_selfishness`.

        Returns the old maximum.  ValueError for less than 1 or more than 32768.
        """
        old = self._selfishness
        self._allowance = self._selfishness = check_selfishness(maximum)
        return old

    # -- making it run -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Make a coroutine made by `new` ready to run.

        Raises `DeadCoroutine` if it has ended or was cancelled, `ScheduleError` if it was started already.
        """
        if self._dead:
            raise DeadCoroutine(self, "has ended and cannot be started")
        if self._resume is not None or self._scheduled != 0:
            raise ScheduleError(self, "has been started already")
        self._kernel.check_thread(self)
        self._kernel.launch(self)

    def schedule(self, value: Any = None) -> None:
        """Make a blocked coroutine ready.  Ends a `suspend`, which then returns *value*, or a sleep.

        Every other wait looks whether what it waits for has come true, and goes on waiting if not.  A coroutine made
        by `new` is started.  Raises `DeadCoroutine` if it has ended, `ScheduleError` if it is ready or running.
        """
        if self._dead:
            raise DeadCoroutine(self, "has ended and cannot be scheduled")
        if self._scheduled != 0:
            raise ScheduleError(self, "is ready to run already")
        kernel = self._kernel
        if kernel.current is self:
            raise ScheduleError(self, "is running")
        kernel.check_thread(self)
        if self._resume is not None:
            if value is not None:
                self._value = value
            kernel.wake(self)
        else:
            kernel.launch(self)

    def raise_exception(
        self, the_exception: BaseException | type[BaseException], force: bool = True, cancel_start: bool = False
    ) -> None:
        """Raise *the_exception*, an instance or a class, in this coroutine where it is blocked.

        It takes the place of a wake-up that is on its way, and the coroutine goes to the end of the queue; of several
        exceptions the last one wins.  With ``force=False`` that is a `ScheduleError` instead.  A coroutine that has
        not run yet raises `NotStartedError`, or with ``cancel_start=True`` is cancelled: it never runs.
        Raises `DeadCoroutine` if it has ended, `ScheduleError` if it is running, TypeError for what is no exception.
        """
        if not isinstance(the_exception, BaseException) and not (
            isinstance(the_exception, type) and issubclass(the_exception, BaseException)
        ):
            raise TypeError(f"can only raise an exception in {self!r}, not {the_exception!r}")
        if self._dead:
            raise DeadCoroutine(self, "has ended: nothing can be raised in it")
        kernel = self._kernel
        kernel.check_thread(self)
        if self._resume is None:
            if not cancel_start:
                raise NotStartedError(self, "has not run yet: pass cancel_start=True to cancel it")
            kernel.bury(self)
            return
        if kernel.current is self:
            raise ScheduleError(self, "is running: use the raise statement")
        if self._scheduled != 0 and not force:
            raise ScheduleError(self, "is ready to run already, and force is false")
        kernel.interrupt(self, the_exception)

    def shutdown(self) -> None:
        """End the coroutine by raising `Shutdown` in it.  Never fails.

        One that has not run yet is cancelled; a dead one is left alone; on itself, `Shutdown` is raised in place.
        """
        if self._dead:
            return
        self._kernel.check_thread(self)
        if self._kernel.current is self:
            raise Shutdown
        self.raise_exception(Shutdown, cancel_start=True)

    def interrupt(self, value: Any = None) -> None:
        """Deprecated: raise `Interrupted` in the coroutine, unless it is ready already (ScheduleError)."""
        warnings.warn(
            "coro.interrupt() is deprecated: use raise_exception(Interrupted)", DeprecationWarning, stacklevel=2
        )
        self.raise_exception(Interrupted() if value is None else Interrupted(value), force=False)

    # -- waiting for its end -----------------------------------------------------------------------------------------

    def join(self, timeout: float | None = None) -> None:
        """Wait until the coroutine has ended or was cancelled.

        Args:
            timeout: seconds to wait at most; None waits without limit.

        Raises `TimeoutError` when the time is over, `ScheduleError` on itself, `YieldFromMain` outside a coroutine.
        """
        if self._dead:
            return
        kernel = self._kernel
        kernel.check_thread(self)
        me = kernel.running_coroutine()
        if self is me:
            raise JoinedItself(self, "cannot wait for its own end")
        if timeout is not None:
            from .timeouts import with_timeout

            with_timeout(timeout, self.join)
            return
        try:
            at_end(self, me, None)
            while not self._dead:  # a hint must not cost it its place
                kernel.park(me)
        finally:
            not_at_end(self, me)

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the end, then return what the function returned or raise what it raised.

        A failure that somebody waits for in this way is not reported to the exception notifier as well.

        Args:
            timeout: seconds to wait at most; None waits without limit.

        Raises `DeadCoroutine` if the coroutine was shut down or cancelled, and whatever `join` raises.
        """
        self._collected += 1
        try:
            self.join(timeout)
        finally:
            self._collected -= 1
        if self._error is None:
            if self._value is CANCELLED:
                raise DeadCoroutine(self, "was cancelled before it began")
            return self._value
        error, traceback = self._error
        if isinstance(error, Shutdown):
            raise DeadCoroutine(self, "was shut down")
        try:
            raise error.with_traceback(traceback)  # the original one: it must not grow with each collector (D-55)
        finally:
            del self, error, traceback  # else the exception, its traceback, this frame and they would hold each other


def name_of(fun: Callable[..., Any]) -> str:
    """Return the name of a coroutine that nobody has named.  Never raises: it is needed when things go wrong."""
    try:
        return getattr(fun, "__qualname__", None) or repr(fun)
    except Exception:  # of its __repr__
        return object.__repr__(fun)


def made(
    co: coro,
    kernel: Kernel,
    fun: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    name: str | None,
    context: Context | None,
) -> coro:
    """Fill a new object in, and return it.  (`spawn` spells this out.)"""
    co._kernel = kernel
    co._fun = fun
    co._args = args
    co._kwargs = kwargs or None
    co._name = name
    co._context = context
    co._id = next_id()
    co._dead = False
    co._scheduled = co._collected = co._made_at = 0
    co._allowance = co._selfishness = _selfishness
    co._pending = co._resume = co._joiners = co._made_in = co._local_key = co._value = co._error = None
    return co


def at_end(co: coro, who: T, ended: Callable[[T, coro], object] | None) -> None:
    """Have ``ended(who, co)`` called when *co* ends or is cancelled.  It must neither block nor raise.

    With None, *who* is a coroutine to be woken.
    """
    joiners = co._joiners
    if type(joiners) is not dict:
        co._joiners = joiners = {} if joiners is None else {joiners: type(joiners)._owner_ended}
    joiners[who] = ended


def not_at_end(co: coro, who: object) -> None:
    """Undo `at_end`."""
    if co._joiners is who:
        co._joiners = None
    elif type(co._joiners) is dict:
        co._joiners.pop(who, None)
        if not co._joiners:
            co._joiners = None


class main_stub(coro):
    """Stands for the main program, and for every piece of code that runs outside a coroutine.  There is only one."""

    __slots__ = ()

    def _refuse(self, *args: Any, **kwargs: Any) -> Any:
        raise ScheduleError(self, "is the main program, not a coroutine: it cannot be scheduled, joined or interrupted")

    start = schedule = raise_exception = shutdown = interrupt = join = result = _refuse

    def get_frame(self) -> FrameType | None:
        """Return the caller's frame."""
        return sys._getframe(1)

    def set_name(self, name: str | None) -> coro:
        """Refused: the main program keeps its name."""
        return self._refuse()  # type: ignore[no-any-return]


# Takes the number 0, so that the first coroutine is 1.
MAIN: Final = made(main_stub(), None, None, (), {}, "main/scheduler", None)  # type: ignore[arg-type]
MAIN._id = -1


class AllThreads(Mapping[int, coro]):
    """All coroutines of the process by id: from their making to their end.

    One that was made by `new` and not started is there as long as somebody holds it.  Iteration works on a copy, so
    coroutines may come and go meanwhile.
    """

    def __init__(self) -> None:
        self.kernels: weakref.WeakSet[Kernel] = weakref.WeakSet()

    def _snapshot(self) -> dict[int, coro]:
        found: dict[int, coro] = {}
        for kernel in self._kernels():
            for reference in list(kernel.unstarted.valuerefs()):  # a copy made in C: other threads cannot get between
                co = reference()
                if co is not None:
                    found[co._id] = co
            found.update(kernel.live)
        return dict(sorted(found.items()))

    def _kernels(self) -> list[Kernel]:
        while True:
            try:
                return list(self.kernels)
            except RuntimeError:  # a thread has made one meanwhile
                pass

    def values(self) -> ValuesView[coro]:
        """Return the coroutines: a copy, like `items`, which the inherited views are not."""
        return self._snapshot().values()

    def items(self) -> ItemsView[int, coro]:
        """Return the coroutines with their ids."""
        return self._snapshot().items()

    def __getitem__(self, thread_id: int) -> coro:
        for kernel in self._kernels():
            co = kernel.live.get(thread_id) or kernel.unstarted.get(thread_id)
            if co is not None:
                return co
        raise KeyError(thread_id)

    def __iter__(self) -> Iterator[int]:
        return iter(self._snapshot())

    def __len__(self) -> int:
        return sum(len(kernel.live) + len(kernel.unstarted) for kernel in self._kernels())

    def __repr__(self) -> str:
        return repr(self._snapshot())


all_threads: Final = AllThreads()


def set_selfishness(n: int) -> None:
    """Set how many socket operations in a row may succeed before a coroutine yields.  For those made from now on.

    A coroutine whose sockets are always ready would else keep the others from running.  To wait for a socket renews
    the allowance.  At first it is 4.  ValueError for less than 1 or more than 32768.
    """
    global _selfishness
    _selfishness = check_selfishness(n)


def check_selfishness(n: int) -> int:
    """Return *n*, or raise the error for what is no allowance."""
    if isinstance(n, bool) or not isinstance(n, int):
        raise TypeError(f"selfishness is a number of operations, not {n!r}")
    if not 1 <= n <= MOST_SELFISH:
        raise ValueError(f"selfishness is a number of operations from 1 to {MOST_SELFISH}, not {n}")
    return n


def check_name(name: str | None) -> str | None:
    """Return *name*, or raise TypeError if it is no str."""
    if name is not None and not isinstance(name, str):
        raise TypeError(f"the name of a coroutine is a str, not {name!r}")
    return name
