"""The scheduler does what the model of it says, in random programs and in those that once found a defect."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from coro.discovery import open_poller
from coro.kernel import READY, Kernel, Timeout
from coro.poller import Poller

from . import model
from .model import Program, check, failure, generate, search, shrink

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="on Windows a socket pair delivers when it likes, which the model cannot foresee"
)

KNOWN = pytest.mark.xfail(strict=True, reason="the kernel is known to have this defect, see model.KNOWN_DEFECTS")
PROGRAMS = 3000  # take 5 to 10 seconds; for more, see model_run.py


@pytest.fixture
def opened(poller: str) -> Callable[[], Poller]:
    """Opens the poller at hand."""
    return lambda: open_poller(poller)[1]


def test_random_programs_run_as_the_model_says(opened):
    """Order, times, results, exceptions and the state in the end are those of the model, and nothing is left."""
    steps = 0

    for count, wrong in search((f"test {number}" for number in range(PROGRAMS)), opened):
        assert not wrong, wrong
        steps += count

    assert steps > 20 * PROGRAMS


# The smallest programs that showed a defect, which the model was the first to find.
FOUND = {
    model.LOST_PLACE: Program(
        (
            (("suspend",),),
            (("join", 0, None),),
            (("join", 0, None),),
            (("schedule", 1, 0), ("yield_slice",), ("schedule", 0, 0)),
        )
    ),
    model.LATE_YIELDER: Program(
        ((("yield_slice",), ("throw", 1, "Boom", True, False), ("spawn", 2)), (("yield_slice",),), ())
    ),
    model.UNTOLD_WAITER: Program(((("wait_read", 0),), (("schedule", 0, 0), ("close", 0)))),
    model.EARLIER_THAN_NOW: Program(((("limit", 0, (("limit", -1, (("suspend",),)),)),),)),
    model.INNER_FIRST: Program(((("limit", 1, (("busy", 1), ("limit", 0, (("suspend",),)))),),)),
    model.LATE_DEADLOCK: Program(
        (
            (("limit", 1, (("suspend",),)),),
            (("limit", 5, (("suspend",),)),),
            (("limit", 9, (("suspend",),)),),
            (("sleep", 2), ("schedule", 1, 0), ("schedule", 2, 0)),
        )
    ),
    model.TOLD_TWICE: Program(
        (
            (("fail", "Break"),),
            (("finally", (("sleep_until", -1),), (("sleep_until", 1),)),),
            (("shutdown", 1),),
        )
    ),
    model.LATE_BIRTH: Program(
        (
            (("join", 5, None),),
            (("fail", "Break"),),
            (("finally", (("result", 1, None),), (("spawn", 0), ("throw", 4, "WakeUp", True, True))),),
            (),
        )
    ),
}


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(program, id=name, marks=KNOWN if name in model.KNOWN_DEFECTS else ())
        for name, program in FOUND.items()
    ],
)
def test_what_the_model_has_found_is_mended(opened, program):
    """Each defect has a program that runs as the model says once the defect is gone."""
    assert check(program, opened, known=set()) > 0


# -- the model finds what is broken ----------------------------------------------------------------------------------


def joiners_reversed(kernel: Kernel, co: Any) -> None:
    joiners, co._joiners = co._joiners, None
    for joiner in reversed(joiners or ()):
        kernel.wake(joiner)


def last_in_first_out(kernel: Kernel, co: Any) -> bool:
    if co._scheduled or co._dead:
        return False
    kernel.ready.appendleft(co._resume)
    co._scheduled = READY
    return True


def void_entries_count(kernel: Kernel, co: Any) -> None:
    pass


def timers_stay(kernel: Kernel, when: float, target: Any) -> None:
    pass


def timeouts_wait_for_ever(kernel: Kernel, timeout: Timeout) -> bool:
    return timeout[0] is None or bool(timeout[0]._scheduled)


@pytest.mark.parametrize(
    ("method", "broken"),
    [
        ("wake_joiners", joiners_reversed),
        ("wake", last_in_first_out),
        ("use_up", void_entries_count),
        ("cancel_timer", timers_stay),
        ("_expire", timeouts_wait_for_ever),
    ],
)
def test_a_broken_kernel_is_found(opened, monkeypatch, method, broken):
    """With one method of the kernel replaced by a wrong one, some program fails before long."""
    monkeypatch.setattr(Kernel, method, broken)

    assert any(failure(generate(f"broken {number}"), opened) for number in range(500))


def test_a_failing_program_is_made_small():
    """Of a program that fails because of two operations, those are left."""

    def fails(program: Program) -> bool:
        text = repr(program)
        return "'fill'" in text and "'join'" in text

    program = next(filter(fails, (generate(f"shrink {number}") for number in range(1000))))
    small = shrink(program, fails)

    assert sorted(op[0] for script in small.scripts for op in script) == ["fill", "join"]
    assert small == Program(small.scripts)
