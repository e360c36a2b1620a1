"""The poll poller keeps the contract of `coro.poller`."""

from __future__ import annotations

from coro_poller_poll import PollPoller

from coro.testing import PollerTests


class TestPollPoller(PollerTests):
    poller_class = PollPoller
