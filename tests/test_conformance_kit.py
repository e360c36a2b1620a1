"""The conformance kit can fail: for each of its tests there is a poller that the test finds fault with."""

from __future__ import annotations

import importlib.util
import os
import select
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import ModuleType

import pytest

from coro.testing import PollerTests

if not hasattr(select, "epoll"):
    pytest.skip("the broken pollers are made from the epoll poller, which needs Linux", allow_module_level=True)

FILE = Path(__file__).with_name("deliberately_broken.py")


def load(file: Path) -> ModuleType:
    """Import a file that is no test and not on the path."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BROKEN: dict[type, tuple[str, ...]] = load(FILE).BROKEN
FAULTS = [(poller.__name__, test) for poller, tests in BROKEN.items() for test in tests]
CONTROLS = sorted({(poller.__mro__[1].__name__, test) for poller, tests in BROKEN.items() for test in tests})


def run_python(*arguments: str, directory: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run another Python that finds the same modules."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=directory,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, map(os.path.abspath, sys.path)))},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


def run_pytest(directory: Path, *arguments: str) -> str:
    """Run tests of which some fail, and return what it prints."""
    done = run_python("-m", "pytest", *arguments, directory=directory)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], str]:
    """Run the kit in another process, where a broken poller may leave behind what it likes."""
    directory = tmp_path_factory.mktemp("kit")
    (directory / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib --noconftest\n")
    report = directory / "report.xml"
    names = [f"{FILE}::Test{poller}::{test}" for poller, test in CONTROLS + FAULTS]
    options = ["-q", "--tb=no", "-p", "no:cacheprovider", "-c", str(directory / "pytest.ini"), f"--junit-xml={report}"]
    run_pytest(directory, *options, *names)
    outcomes: dict[tuple[str, str], str] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        name = case.attrib["classname"].rpartition(".Test")[2], case.attrib["name"]
        outcome = ", ".join(part.tag for part in case) or "passed"
        outcomes.setdefault(name, outcome)  # a second one is of what comes after the test
    return outcomes


@pytest.mark.parametrize(("name", "test"), FAULTS)
def test_the_kit_notices(outcomes: dict[tuple[str, str], str], name: str, test: str) -> None:
    """The broken poller fails the test, by the test itself and not by what is around it."""
    assert outcomes[name, test] == "failure"


@pytest.mark.parametrize(("name", "test"), CONTROLS)
def test_the_kit_is_content(outcomes: dict[tuple[str, str], str], name: str, test: str) -> None:
    """The poller that a broken one is made from passes the same test."""
    assert outcomes[name, test] == "passed"


def test_no_test_of_the_kit_is_unable_to_fail() -> None:
    """Each test of the kit has a poller that fails it."""
    tests = {name for name in dir(PollerTests) if name.startswith("test_")}

    assert tests == {test for _, test in FAULTS}


def test_pytest_is_imported_when_the_kit_is_used() -> None:
    """`coro.testing` needs no pytest; the kit does, and says what to install."""
    program = (
        "import sys, coro.testing; assert 'pytest' not in sys.modules\n"
        "sys.modules['pytest'] = None\n"
        "try: from coro.testing import PollerTests\n"
        "except ImportError as error: print(error)"
    )
    done = run_python("-c", program)

    assert not done.returncode, done.stderr
    assert done.stdout == 'coro.testing.PollerTests needs pytest: pip install "coro-core[testing]"\n'


def test_an_alarm_that_rings_while_a_failure_is_reported_does_not_end_the_run(tmp_path: Path) -> None:
    """The poller fails at once, but to say so takes longer than the kit waits for a poller that hangs."""
    (tmp_path / "slow.py").write_text(
        """
import time

from coro_epoll._poller import EpollPoller


class Failure(Exception):
    def __str__(self):
        time.sleep(0.5)
        return "slow to say"


class Poller(EpollPoller):
    def __init__(self):
        super().__init__()
        self.wait = self.fail

    def fail(self, timeout):
        raise Failure
"""
    )
    (tmp_path / "test_slow.py").write_text(
        """
import slow

from coro.testing import PollerTests


class TestSlow(PollerTests):
    poller_class = slow.Poller
    patience = 0.02
"""
    )
    output = run_pytest(tmp_path, "-p", "no:cacheprovider", "--noconftest", "-k", "readable_is_reported")

    assert "slow to say" in output
    assert "hung" not in output
