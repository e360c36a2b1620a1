"""Fixtures of the tests of sockets: the families that this machine has, listening sockets and connections of each.

A file that wants one of them imports all three: each is made from the next.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

import coro
from coro.sockets import AF, sock

from .helpers import ipv6, posix


@pytest.fixture(name="family", params=["ipv4", pytest.param("ipv6", marks=ipv6), pytest.param("unix", marks=posix)])
def family_fixture(request: pytest.FixtureRequest) -> str:
    """The name of each family of addresses that this machine has."""
    return str(request.param)


@pytest.fixture(name="listen")
def listen_fixture(family: str, tmp_path: Path) -> Callable[..., sock]:
    """Makes a listening socket of the family at hand."""

    paths = (str(tmp_path / f"socket {number}") for number in itertools.count())

    def make(backlog: int = 16) -> sock:
        new = sock({"ipv4": AF.INET, "ipv6": AF.INET6, "unix": AF.LOCAL}[family])
        new.bind({"ipv4": ("127.0.0.1", 0), "ipv6": ("::1", 0), "unix": next(paths)}[family])
        new.listen(backlog)
        return new

    return make


@pytest.fixture(name="connection")
def connection_fixture(listen: Callable[..., sock]) -> Callable[[], AbstractContextManager[tuple[sock, sock]]]:
    """Makes two connected sockets of the family at hand, which are closed at the end of the block."""

    @contextlib.contextmanager
    def make() -> Iterator[tuple[sock, sock]]:
        with listen() as listener:
            child = coro.spawn(listener.accept)
            client = sock(listener.domain)
            client.connect(listener.getsockname())
            server, _ = child.result()
        with client, server:
            yield client, server

    return make
