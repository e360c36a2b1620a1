"""What may come between any two bytecodes of a switch: nobody but the one it comes to is harmed.  See injection.py."""

from __future__ import annotations

import sys

import pytest

import coro

from .injection import Case, Yielders, check

POINTS = 120  # of some 17,000; `python tests/injection.py` tries them all


@pytest.mark.parametrize("program", [Case, Yielders])
@pytest.mark.parametrize("exc", [KeyboardInterrupt, MemoryError])
def test_an_exception_at_any_bytecode_of_a_switch_harms_nobody_else(poller, capsys, exc, program):
    """The one it comes to gets it, or the loop ends with it; all others come to their end or are unwound."""
    assert sys.gettrace() is None, "this test needs the trace function for itself"
    old = coro.set_latency_warning(0)
    try:
        check(0, exc, program)  # Python 3.12 traces no bytecode the first time
        total = check(0, exc, program)
        assert total > 1000
        for at in range(1, total, max(1, total // POINTS)):
            check(at, exc, program)
    finally:
        coro.set_latency_warning(old)
