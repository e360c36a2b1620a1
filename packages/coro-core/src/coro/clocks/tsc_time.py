"""Ticks and dates: conversions between the clock of `coro.get_now` and POSIX time, and objects that stand for moments.

Stands on the module time.  A tick is a nanosecond of the monotonic clock.  What ties that clock to the calendar is one
number, by how many nanoseconds POSIX time is ahead.  It is taken at import, by `update_time_relation`, and by the first
conversion after each `tick_update_interval`; so no coroutine has to run for it.  Conversions are exact, in integers of
any size (D-44), but for those to and from float.
"""

from __future__ import annotations

import time
from typing import Any, ClassVar, Final, Self

from ..verbs import ticks_per_sec, ticks_per_usec

__all__ = [
    "TSC",
    "Posix",
    "Posix_from_posix_fsec",
    "Posix_from_posix_sec",
    "Posix_from_posix_usec",
    "Posix_from_ticks",
    "TSC_from_posix_fsec",
    "TSC_from_posix_sec",
    "TSC_from_posix_usec",
    "TSC_from_ticks",
    "Time",
    "fPosix",
    "fPosix_from_posix_fsec",
    "fPosix_from_posix_sec",
    "fPosix_from_posix_usec",
    "fPosix_from_ticks",
    "fsec_to_ticks",
    "get_kernel_usec",
    "mktime_posix_fsec",
    "mktime_posix_sec",
    "mktime_posix_usec",
    "mktime_tsc",
    "now_posix_fsec",
    "now_posix_sec",
    "now_posix_usec",
    "now_raw_posix_fsec",
    "now_raw_posix_sec",
    "now_raw_posix_usec",
    "now_raw_tsc",
    "now_tsc",
    "rdtsc",
    "sec_to_ticks",
    "ticks_per_sec",
    "ticks_per_usec",
    "ticks_to_fsec",
    "ticks_to_sec",
    "ticks_to_usec",
    "ticks_to_usec_safe",
    "uPosix",
    "uPosix_from_posix_fsec",
    "uPosix_from_posix_sec",
    "uPosix_from_posix_usec",
    "uPosix_from_ticks",
    "update_time_relation",
    "usec_to_ticks",
    "usec_to_ticks_safe",
]

tick_update_interval: float = 3600  #: Seconds after which the relation of the two clocks is looked at again.

rdtsc = now_raw_tsc = time.monotonic_ns  #: The current tick.

_ahead = 0  # nanoseconds that POSIX time is ahead of the ticks
_taken = 0  # the tick at which that was found


def update_time_relation() -> None:
    """Look again how ticks relate to POSIX time.  To be called after the system's clock has been set."""
    global _ahead, _taken
    before = rdtsc()
    posix = time.time_ns()
    _taken = rdtsc()
    _ahead = posix - (before + _taken) // 2


update_time_relation()


def _offset() -> int:
    if rdtsc() - _taken > tick_update_interval * ticks_per_sec:
        update_time_relation()
    return _ahead


def get_kernel_usec() -> int:
    """Return POSIX time in microseconds, asked of the system."""
    return time.time_ns() // ticks_per_usec


# -- numbers ---------------------------------------------------------------------------------------------------------


def usec_to_ticks(usec: int) -> int:
    """Return the tick of a POSIX time in microseconds.  It is negative for a time before the machine was started."""
    return int(usec * ticks_per_usec) - _offset()


def ticks_to_usec(ticks: int) -> int:
    """Return the POSIX time of a tick in whole microseconds, rounded down."""
    return (ticks + _offset()) // ticks_per_usec


def sec_to_ticks(sec: int) -> int:
    """Return the tick of a POSIX time in seconds."""
    return int(sec * ticks_per_sec) - _offset()


def ticks_to_sec(ticks: int) -> int:
    """Return the POSIX time of a tick in whole seconds, rounded down."""
    return (ticks + _offset()) // ticks_per_sec


def fsec_to_ticks(fsec: float) -> int:
    """Return the tick of a POSIX time in seconds, a float; good to about a microsecond."""
    return round(fsec * ticks_per_sec) - _offset()


def ticks_to_fsec(ticks: int) -> float:
    """Return the POSIX time of a tick in seconds, a float."""
    return (ticks + _offset()) / ticks_per_sec


def usec_to_ticks_safe(usec: int) -> int:
    """Do `usec_to_ticks`, but leave 0 as it is: for programs in which 0 stands for "never"."""
    return usec and usec_to_ticks(usec)


def ticks_to_usec_safe(ticks: int) -> int:
    """Do `ticks_to_usec`, but leave 0 as it is."""
    return ticks and ticks_to_usec(ticks)


def now_raw_posix_sec() -> int:
    """Return the current POSIX time in whole seconds."""
    return ticks_to_sec(rdtsc())


def now_raw_posix_usec() -> int:
    """Return the current POSIX time in whole microseconds."""
    return ticks_to_usec(rdtsc())


def now_raw_posix_fsec() -> float:
    """Return the current POSIX time in seconds, a float."""
    return ticks_to_fsec(rdtsc())


# -- objects ---------------------------------------------------------------------------------------------------------


class Time:
    """A moment, kept as a tick.  Use one of the classes derived from it, which differ in their unit.

    Attributes:
        tsc: the tick (read only).

    An object is compared with a number as if it were the number of its units, and so are two of one class: two `Posix`
    of the same second are equal.  Objects of different classes are ordered by their ticks and never equal.  A number of
    units can be added and subtracted; the difference of two objects of one class is a number of units.  Anything else,
    ``5 - moment`` too, is a TypeError (D-45).
    """

    __slots__ = ("_tsc",)

    _unit: ClassVar[int] = 1  # in ticks

    def __init__(self, ticks: int) -> None:
        if not isinstance(ticks, int):
            raise TypeError(f"a tick is an int, not {ticks!r}")
        self._tsc = ticks

    @property
    def tsc(self) -> int:
        return self._tsc

    # -- making one ----------------------------------------------------------------------------------------------

    @classmethod
    def now(cls) -> Self:
        """Return the current moment."""
        return cls(rdtsc())

    @classmethod
    def from_ticks(cls, ticks: int) -> Self:
        """Return the moment of a tick."""
        return cls(ticks)

    @classmethod
    def from_posix_sec(cls, sec: int) -> Self:
        """Return the moment of a POSIX time in seconds."""
        return cls(sec_to_ticks(sec))

    @classmethod
    def from_posix_usec(cls, usec: int) -> Self:
        """Return the moment of a POSIX time in microseconds."""
        return cls(usec_to_ticks(usec))

    @classmethod
    def from_posix_fsec(cls, fsec: float) -> Self:
        """Return the moment of a POSIX time in seconds, a float."""
        return cls(fsec_to_ticks(fsec))

    @classmethod
    def mktime(cls, tt: time.struct_time | tuple[int, ...]) -> Self:
        """Return the moment of a local time.

        Args:
            tt: what `time.localtime` returns, or a tuple of the same nine numbers.

        TypeError for anything else, ValueError for another number of items and for a year before 1900, OverflowError
        for a date that the system cannot represent.
        """
        if not isinstance(tt, (tuple, time.struct_time)):
            raise TypeError(f"a local time is a struct_time or a tuple of nine numbers, not {tt!r}")
        if len(tt) != 9:
            raise ValueError(f"a local time is made of nine numbers, not {len(tt)}: {tt!r}")
        if tt[0] < 1900:
            raise ValueError(f"a year is written with four digits, and is not before 1900: {tt!r}")
        return cls(sec_to_ticks(int(time.mktime(tt))))  # type: ignore[arg-type]

    # -- what it says --------------------------------------------------------------------------------------------

    def as_posix_sec(self) -> int:
        """Return it as POSIX time in whole seconds, rounded down."""
        return ticks_to_sec(self._tsc)

    def as_posix_usec(self) -> int:
        """Return it as POSIX time in whole microseconds, rounded down."""
        return ticks_to_usec(self._tsc)

    def as_posix_fsec(self) -> float:
        """Return it as POSIX time in seconds, a float."""
        return ticks_to_fsec(self._tsc)

    def ctime(self) -> str:
        """Return the local time in 24 characters, such as ``Sun Jun 20 23:21:05 1993``."""
        return time.ctime(self.as_posix_sec())

    def localtime(self) -> time.struct_time:
        """Return the local time."""
        return time.localtime(self.as_posix_sec())

    def gmtime(self) -> time.struct_time:
        """Return the time in UTC."""
        return time.gmtime(self.as_posix_sec())

    def mkstr_local(self, format: str) -> str:  # noqa: A002 - Shrapnel's name
        """Return the local time as `time.strftime` writes it."""
        return time.strftime(format, self.localtime())

    def mkstr_utc(self, format: str) -> str:  # noqa: A002
        """Return the time in UTC as `time.strftime` writes it."""
        return time.strftime(format, self.gmtime())

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.ctime()}>"

    # -- as a number of units ------------------------------------------------------------------------------------

    def _value(self) -> float:
        return self._tsc

    def __int__(self) -> int:
        return int(self._value())

    def __float__(self) -> float:
        return float(self._value())

    def __hash__(self) -> int:
        return hash(self._value())

    def _pair(self, other: object) -> tuple[float, float] | None:
        """Return what to compare; None if the two cannot be ordered."""
        if isinstance(other, Time):
            same = type(other) is type(self)
            return (self._value(), other._value()) if same else (self._tsc, other._tsc)
        return (self._value(), other) if isinstance(other, (int, float)) else None

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Time) and type(other) is not type(self):
            return False  # else equal objects would have different hashes
        pair = self._pair(other)
        return NotImplemented if pair is None else pair[0] == pair[1]

    def __lt__(self, other: object) -> bool:
        pair = self._pair(other)
        return NotImplemented if pair is None else pair[0] < pair[1]

    def __le__(self, other: object) -> bool:
        pair = self._pair(other)
        return NotImplemented if pair is None else pair[0] <= pair[1]

    def __gt__(self, other: object) -> bool:
        pair = self._pair(other)
        return NotImplemented if pair is None else pair[0] > pair[1]

    def __ge__(self, other: object) -> bool:
        pair = self._pair(other)
        return NotImplemented if pair is None else pair[0] >= pair[1]

    def __add__(self, other: float) -> Self:
        if isinstance(other, (int, float)):
            return type(self)(self._tsc + int(other * self._unit))
        return NotImplemented

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        if isinstance(other, (int, float)):
            return type(self)(self._tsc - int(other * self._unit))
        if type(other) is type(self):
            return self._value() - other._value()
        return NotImplemented


class TSC(Time):
    """A moment, in ticks."""

    __slots__ = ()


class Posix(Time):
    """A moment, in whole seconds of POSIX time."""

    __slots__ = ()
    _unit = ticks_per_sec

    def _value(self) -> float:
        return self.as_posix_sec()


class uPosix(Time):
    """A moment, in whole microseconds of POSIX time."""

    __slots__ = ()
    _unit = ticks_per_usec

    def _value(self) -> float:
        return self.as_posix_usec()


class fPosix(Time):
    """A moment, in seconds of POSIX time, a float."""

    __slots__ = ()
    _unit = ticks_per_sec

    def _value(self) -> float:
        return self.as_posix_fsec()


# Shrapnel's functions: each makes an object of the class that its name begins with.

now_tsc: Final = TSC.now
now_posix_sec: Final = Posix.now
now_posix_usec: Final = uPosix.now
now_posix_fsec: Final = fPosix.now

mktime_tsc: Final = TSC.mktime
mktime_posix_sec: Final = Posix.mktime
mktime_posix_usec: Final = uPosix.mktime
mktime_posix_fsec: Final = fPosix.mktime

TSC_from_ticks: Final = TSC.from_ticks
TSC_from_posix_sec: Final = TSC.from_posix_sec
TSC_from_posix_usec: Final = TSC.from_posix_usec
TSC_from_posix_fsec: Final = TSC.from_posix_fsec

Posix_from_ticks: Final = Posix.from_ticks
Posix_from_posix_sec: Final = Posix.from_posix_sec
Posix_from_posix_usec: Final = Posix.from_posix_usec
Posix_from_posix_fsec: Final = Posix.from_posix_fsec

uPosix_from_ticks: Final = uPosix.from_ticks
uPosix_from_posix_sec: Final = uPosix.from_posix_sec
uPosix_from_posix_usec: Final = uPosix.from_posix_usec
uPosix_from_posix_fsec: Final = uPosix.from_posix_fsec

fPosix_from_ticks: Final = fPosix.from_ticks
fPosix_from_posix_sec: Final = fPosix.from_posix_sec
fPosix_from_posix_usec: Final = fPosix.from_posix_usec
fPosix_from_posix_fsec: Final = fPosix.from_posix_fsec
