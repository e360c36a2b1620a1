"""coro-core without any backend.  Runs only in an environment that has none: `tox -e bare`."""

from __future__ import annotations

import importlib.metadata
import select
import subprocess
import sys
from collections.abc import Callable, Iterable
from typing import Any

import pytest

import coro
from coro.poller import READ, WRITE, Poller


class HandMade(Poller):
    """The least that can be a poller, for sockets only."""

    edge = False

    def __init__(self) -> None:
        self._armed: dict[int, int] = {}

    def arm(self, fd: int, mask: int) -> None:
        self._armed[fd] = mask

    def unregister(self, fd: int) -> None:
        self._armed.pop(fd, None)

    def wait(self, timeout: float | None) -> Iterable[tuple[int, int]]:
        readers = [fd for fd, mask in self._armed.items() if mask & READ]
        writers = [fd for fd, mask in self._armed.items() if mask & WRITE]
        readable, writable, _ = select.select(readers, writers, [], timeout)
        events = [(fd, READ) for fd in readable] + [(fd, WRITE) for fd in writable]
        for fd, _ in events:
            self.unregister(fd)
        return events

    def close(self) -> None:
        self._armed.clear()


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run another Python of this environment to its end."""
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=60)


def test_this_environment_is_bare() -> None:
    """Otherwise the other tests here would say nothing."""
    assert not importlib.metadata.entry_points(group="coro.pollers")


def test_import_works_and_looks_for_nothing() -> None:
    """Importing coro costs no search for plugins and needs none."""
    program = "import coro, sys; print([name for name in sys.modules if name == 'importlib.metadata'])"
    done = python("-W", "error", "-c", program)

    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


@pytest.mark.parametrize("start", [coro.event_loop, lambda: coro.run(print)], ids=["event_loop", "run"])
def test_a_loop_says_what_to_install(start: Callable[[], Any]) -> None:
    """The text of the error ends with the command to type."""
    with pytest.raises(coro.NoPollerError) as raised:
        start()

    last = str(raised.value).splitlines()[-1].strip()
    assert last.startswith(("pip install coro-", "python -m pip install coro-"))


@pytest.mark.parametrize("name", ["epoll", "select", "nosuch"])
def test_a_name_that_is_not_installed_says_what_to_install(name: str) -> None:
    """Asking by name gets the same answer, with the name in it."""
    with pytest.raises(coro.NoPollerError, match=name) as raised:
        coro.event_loop(poller=name)

    assert "pip install coro-" in str(raised.value).splitlines()[-1]


def test_the_command_says_it_too() -> None:
    """Nothing to list is no crash."""
    done = python("-m", "coro", "pollers")

    assert "pip install coro-" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_the_program_can_go_on() -> None:
    """A loop that could not start leaves nothing behind: what needs no loop still works."""
    with pytest.raises(coro.NoPollerError):
        coro.event_loop()

    assert not coro.coro_is_running()


def test_a_class_that_is_handed_over_needs_no_plugin() -> None:
    """No metadata is looked at, so a program that is frozen into one file can run."""
    said: list[str] = []

    def main() -> None:
        coro.sleep_relative(0.01)
        said.append("here")
        coro.set_exit(3)

    coro.spawn(main)
    with pytest.raises(SystemExit) as ended:
        coro.event_loop(poller=HandMade)

    assert (said, ended.value.code) == (["here"], 3)
