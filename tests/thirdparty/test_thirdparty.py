"""Programs among the plugins of strangers, good and bad.  Runs only where all are installed: `tox -e thirdparty`.

The strangers are in tests/plugins and examples/coro-poller-poll, installed from wheels as a user installs them.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

STRANGERS = ["broken", "duplicate", "good", "outdated", "poll", "unopenable"]

NEEDS_POLL = pytest.param(
    "poll",
    marks=pytest.mark.skipif(not hasattr(select, "poll"), reason="needs poll(2), which this platform does not have"),
)

PROGRAM = """\
import sys, socket, coro

def answer(sock):
    coro.wait_for_read(sock.fileno())
    sock.send(sock.recv(10).upper())

def main():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        coro.spawn(answer, theirs)
        ours.send(b"hello")
        coro.wait_for_read(ours.fileno())
        coro.sleep_relative(0.01)
        print(ours.recv(10).decode())
    coro.set_exit(7)

coro.set_print_exit_string(False)
coro.spawn(main)
coro.event_loop(poller=sys.argv[1] if sys.argv[1:] else None)
"""


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run another Python of this environment to its end."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("CORO_")} | environment
    return subprocess.run([sys.executable, *arguments], env=env, capture_output=True, text=True, timeout=60)


def listing(**environment: str) -> dict[str, Any]:
    """What ``coro pollers --json`` says."""
    done = python("-m", "coro", "pollers", "--json", **environment)
    found: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
    return found


def why_not(name: str, distribution: str) -> str | None:
    """The reason why one poller of the listing is not used."""
    (reason,) = [
        row["why_not"]
        for row in listing()["pollers"]
        if (row["name"], row["distribution"]) == (name, f"coro-poller-{distribution}")
    ]
    assert reason is None or isinstance(reason, str)
    return reason


@pytest.mark.parametrize("stranger", STRANGERS)
def test_the_strangers_are_installed_from_wheels(stranger: str) -> None:
    """An editable install would find its entry points in another way."""
    distribution = importlib.metadata.distribution(f"coro-poller-{stranger}")
    module = f"coro_poller_{stranger}"

    assert any(path.parts[0] in (module, f"{module}.py") for path in distribution.files or [])


# --- The program still runs ------------------------------------------------------------------------------------------


def test_the_best_that_can_be_opened_is_chosen() -> None:
    """Nobody is asked for: the best one is refused by the system, the next one is taken, and a warning says so."""
    done = python("-c", PROGRAM)

    assert (done.returncode, done.stdout) == (7, "good is open\nHELLO\n")
    assert done.stderr.count("RuntimeWarning") == 1
    assert "unopenable" in done.stderr
    assert "the sandbox forbids it" in done.stderr
    for silent in ("broken", "outdated", "Traceback"):
        assert silent not in done.stderr


@pytest.mark.parametrize("how", ["argument", "environment"])
@pytest.mark.parametrize("name", ["good", NEEDS_POLL, "select"])
def test_a_good_one_can_be_asked_for(how: str, name: str) -> None:
    """By argument or by environment; then nothing is said about the others, whatever they are."""
    done = python("-c", PROGRAM, name) if how == "argument" else python("-c", PROGRAM, CORO_POLLER=name)

    assert (done.returncode, done.stderr) == (7, "")
    assert done.stdout == ("good is open\n" if name == "good" else "") + "HELLO\n"


def test_the_argument_beats_the_environment() -> None:
    """What the program says counts more than what its user says."""
    done = python("-c", PROGRAM, "good", CORO_POLLER="broken")

    assert (done.returncode, done.stdout) == (7, "good is open\nHELLO\n")


def test_a_class_can_be_asked_for() -> None:
    """``module:Class`` needs no metadata, so it works without any discovery."""
    done = python("-c", PROGRAM, CORO_POLLER="coro_poller_good:GoodPoller", CORO_DISABLE_PLUGIN_AUTOLOAD="1")

    assert (done.returncode, done.stdout, done.stderr) == (7, "good is open\nHELLO\n", "")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("broken", "a_module_that_nobody_has"),
        ("outdated", "API 0"),
        ("unopenable", "the sandbox forbids it"),
        ("nosuch", "nosuch"),
    ],
)
def test_a_bad_one_that_is_asked_for_is_an_error(name: str, reason: str) -> None:
    """It is not replaced by another one.  The error tells why, and ends with a command to type."""
    done = python("-c", PROGRAM, CORO_POLLER=name)

    assert (done.returncode, done.stdout) == (1, "")
    assert "NoPollerError" in done.stderr
    assert reason in done.stderr
    assert done.stderr.splitlines()[-1].split()[0] in ("pip", "python", "coro", "unset")


# --- The listing -----------------------------------------------------------------------------------------------------


def test_the_listing_tells_the_choice() -> None:
    """The same one as the program got, and why it was chosen."""
    found = listing()

    assert (found["chosen"], found["chosen_by"]) == ("good", "priority")
    assert [row["distribution"] for row in found["pollers"] if row["chosen"]] == ["coro-poller-good"]

    found = listing(CORO_POLLER="select")

    assert (found["chosen"], found["chosen_by"]) == ("select", "CORO_POLLER")


@pytest.mark.parametrize(
    ("name", "distribution", "reason"),
    [
        ("broken", "broken", "a_module_that_nobody_has"),
        ("select", "broken", "a_module_that_nobody_has"),
        ("outdated", "outdated", "API 0"),
        ("unopenable", "unopenable", "the sandbox forbids it"),
        ("good", "duplicate", "the wrong one"),
    ],
)
def test_the_listing_tells_why_not(name: str, distribution: str, reason: str) -> None:
    """Each bad one is there under its name and distribution, with what is wrong with it."""
    assert reason in (why_not(name, distribution) or "")


def test_the_listing_is_complete_and_in_order() -> None:
    """Whoever can be chosen comes in the order of the choice; whoever could not even be asked comes last."""
    found = listing()["pollers"]
    rows = [(row["name"], row["distribution"]) for row in found]

    assert len(rows) == len(set(rows))
    assert {f"coro-poller-{stranger}" for stranger in STRANGERS} < {distribution for _, distribution in rows}
    priorities = [row["priority"] for row in found if row["priority"] is not None]
    assert priorities == sorted(priorities, reverse=True)
    assert all(row["priority"] is None for row in found[len(priorities) :])


def test_the_table_names_everybody() -> None:
    """The same for people."""
    done = python("-m", "coro", "pollers")

    assert done.returncode == 0, done.stderr
    for stranger in STRANGERS:
        assert f"coro-poller-{stranger} " in done.stdout
    assert "chosen by priority" in done.stdout


def test_a_stranger_cannot_take_the_name_of_a_good_one() -> None:
    """``coro-poller-broken`` claims the name ``select``; the one from coro-select is the one that is used."""
    (row,) = [row for row in listing(CORO_POLLER="select")["pollers"] if row["chosen"]]

    assert row["distribution"] == "coro-select"


def test_the_strangers_do_not_come_from_the_tree() -> None:
    """What is tested is what pip has installed."""
    program = "import coro_poller_good; print(coro_poller_good.__file__)"
    path = Path(python("-c", program).stdout.strip())

    assert path.is_relative_to(Path(sys.prefix).resolve()) or path.is_relative_to(sys.prefix)
