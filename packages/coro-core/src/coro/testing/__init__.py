"""Tools for testing what is built on coro.  `PollerTests` checks that a poller keeps the contract of `coro.poller`.

The whole test file of a poller, to be run with pytest::

    from coro.testing import PollerTests
    from coro_uring import UringPoller

    class TestUring(PollerTests):
        poller_class = UringPoller

pytest is imported when `PollerTests` is asked for, so that nothing else in this package needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._poller_tests import PollerTests

__all__ = ["PollerTests"]


def __getattr__(name: str) -> Any:
    """Import the kit at its first use (PEP 562)."""
    if name != "PollerTests":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        import pytest
    except ModuleNotFoundError as error:
        if error.name != "pytest":
            raise
        msg = 'coro.testing.PollerTests needs pytest: pip install "coro-core[testing]"'
        raise ModuleNotFoundError(msg, name="pytest") from error
    pytest.register_assert_rewrite(
        f"{__name__}._poller_tests", f"{__name__}._real_things"
    )  # to show values in failures
    from ._poller_tests import PollerTests

    globals()[name] = PollerTests
    return PollerTests
