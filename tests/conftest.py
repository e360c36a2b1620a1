"""What every test stands on: the choice of pollers, and the proof that a test has left nothing behind."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import coro
from coro.discovery import find_pollers
from coro.kernel import this_kernel

# These need an environment of their own, which tox makes.
collect_ignore = ["bare", "thirdparty", "wheels", "plugins"]


def pollers() -> list[str]:
    """The pollers that the suite runs over: the one that CORO_POLLER names, else all that can be used here."""
    named = os.environ.get("CORO_POLLER")
    if named:
        return [named]
    return sorted({found.name for found in find_pollers() if found.why_not is None})


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "poller" in metafunc.fixturenames:
        metafunc.parametrize("poller", pollers(), indirect=True)


@pytest.fixture
def poller(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of the poller that the loops of this test use."""
    monkeypatch.setenv("CORO_POLLER", request.param)
    return str(request.param)


@pytest.fixture
def failures() -> Iterator[list[BaseException]]:
    """The exceptions that ended coroutines.  What a test leaves in the list fails it (D-54)."""
    seen: list[BaseException] = []
    old = coro.set_exception_notifier(lambda: seen.append(sys.exception()))  # type: ignore[arg-type]
    yield seen
    coro.set_exception_notifier(old)
    assert seen == [], f"coroutines have failed: {seen}"


def descriptors() -> set[str]:
    """The open descriptors of this process, where the system tells."""
    try:
        return set(os.listdir("/dev/fd"))
    except OSError:
        return set()


@pytest.fixture(autouse=True, scope="session")
def frozen() -> None:
    """What was there before the first test need not be looked through by each collection: that halves the suite."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """After a test there are no coroutines, timers, waiters or descriptors that were not there before it."""
    gc.collect()
    before = descriptors()
    yield
    kernel = this_kernel()
    assert not kernel.running
    assert kernel.current is None
    assert not kernel.live, kernel.live
    assert not kernel.fds
    assert not kernel.timers
    assert not kernel.timer_map
    assert not kernel.unarmed
    assert not kernel.idle
    assert not kernel.ready
    gc.collect()
    assert not kernel.unstarted, dict(kernel.unstarted)
    left = descriptors() - before
    assert len(left) <= 1, left  # listing them opens one


@pytest.fixture
def loop(poller: str, failures: list[BaseException]) -> Callable[..., Any]:
    """Runs a function as the main coroutine over the poller at hand; a coroutine that fails fails the test."""
    return coro.run
