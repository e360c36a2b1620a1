"""The pollers of this repository keep the contract of `coro.poller`: each of them, as far as it can be had here."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import pytest

from coro.poller import PollerInfo
from coro.testing import PollerTests


def offered_by(module: str) -> Callable[[type[PollerTests]], type[PollerTests]]:
    """Let the tests be for the poller that the plugin *module* describes; skip them in words where there is none."""

    def decorate(tests: type[PollerTests]) -> type[PollerTests]:
        try:
            info: PollerInfo = importlib.import_module(module).coro_poller()
        except ModuleNotFoundError as error:
            return pytest.mark.skip(reason=f"not installed: {error}")(tests)
        tests.poller_class = info.poller  # type: ignore[assignment]  # these plugins answer with a class
        return pytest.mark.skipif(info.unavailable is not None, reason=info.unavailable or "")(tests)

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
