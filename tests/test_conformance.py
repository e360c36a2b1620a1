"""The pollers of this repository keep the contract of `coro.poller`: each of them, as far as it can be had here."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import pytest

from coro.poller import PollerInfo
from coro.testing import PollerTests


def skipped(reason: str) -> type:
    """One test, in the place of all those of a poller that cannot be had here: *reason* says why."""

    class Skipped:
        @pytest.mark.skip(reason=reason)
        def test_all_of_the_contract(self) -> None: ...

    return Skipped


def offered_by(module: str) -> Callable[[type[PollerTests]], type]:
    """Let the tests be for the poller that the plugin *module* describes; where there is none, one is skipped."""

    def decorate(tests: type[PollerTests]) -> type:
        try:
            info: PollerInfo = importlib.import_module(module).coro_poller()
        except ModuleNotFoundError as error:
            return skipped(f"the package of this poller is not installed: {error}")
        if info.unavailable is not None:
            return skipped(info.unavailable)
        tests.poller_class = info.poller  # type: ignore[assignment]  # these plugins answer with a class
        return tests

    return decorate


@offered_by("coro_epoll")
class TestEpoll(PollerTests):
    pass


@offered_by("coro_kqueue")
class TestKqueue(PollerTests):
    pass


@offered_by("coro_select")
class TestSelect(PollerTests):
    pass


@offered_by("coro_poller_poll")
class TestPollOfTheTemplate(PollerTests):
    pass
