"""Stacks and tracebacks in one line, under Shrapnel's names.  Stands on `coro.report`."""

from __future__ import annotations

import sys
import traceback
from types import FrameType, TracebackType

from . import report

__all__ = ["stack_string", "traceback_data", "traceback_string"]


def stack_string(f: FrameType | None = None) -> str:
    """Return a stack in one line, innermost first: ``[dir/file function|line] [caller...]``.

    Args:
        f: the innermost frame; None for that of the caller.
    """
    return report.stack_string(sys._getframe(1) if f is None else f)


def traceback_string(
    t: type[BaseException] | None = None, v: BaseException | None = None, tb: TracebackType | None = None
) -> str:
    """Return an exception in one line: the repr of its innermost place, type, text, and all places.

    Args:
        t, v, tb: its class, the exception and its traceback, as of `sys.exc_info`; None for the one being handled.

    The places are those of `stack_string`, but with the innermost last.
    """
    return repr(report.compact_traceback(t, v, tb))


def traceback_data(
    t: type[BaseException] | None = None, v: BaseException | None = None, tb: TracebackType | None = None
) -> tuple[str, str, list[tuple[str, str, int]]]:
    """Return an exception as ``(type, text, [(file, function, line), ...])``, with the innermost place last.

    Args:
        t, v, tb: as of `traceback_string`.

    ``("None", "None", [])`` if there is no exception.
    """
    if v is None:
        v = sys.exception()
    if v is None:
        return ("None", "None", [])
    places = traceback.walk_tb(tb or v.__traceback__)
    return (
        str(t or type(v)),
        str(v),
        [(frame.f_code.co_filename, frame.f_code.co_name, line) for frame, line in places],
    )
