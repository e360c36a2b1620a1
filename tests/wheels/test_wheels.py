"""What is released works without the tree: the wheels, installed, and the source distributions.

Runs only where the built packages are installed and `DIST_DIR` names the directory that they came from:
`tox -e wheels`.
"""

from __future__ import annotations

import email
import importlib.util
import os
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
DIST = Path(os.environ["DIST_DIR"])
MODULES = ["coro", "coro_epoll", "coro_kqueue", "coro_select"]

DISTRIBUTIONS = {"coro": "coro_core", **{name: name for name in MODULES[1:]}}
VERSION = tomllib.loads((ROOT / "packages/coro-core/pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]

PROGRAM = """\
import coro

said = []

def talk(name):
    for _ in range(3):
        said.append(name)
        coro.yield_slice()

def main():
    for co in [coro.spawn(talk, "a"), coro.spawn(talk, "b")]:
        co.join()
    coro.sleep_relative(0.01)
    print("".join(said), coro.__file__)
    coro.set_exit()

coro.spawn(main)
coro.event_loop()
"""


def wheel(module: str) -> Path:
    """The one wheel of a package; its name says that it is for any Python 3 on any platform."""
    return DIST / f"{DISTRIBUTIONS[module]}-{VERSION}-py3-none-any.whl"


def sdist(module: str) -> Path:
    """The source distribution of a package."""
    return DIST / f"{DISTRIBUTIONS[module]}-{VERSION}.tar.gz"


def run(*arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command outside the tree to its end."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("CORO_", "PYTHONPATH"))}
    return subprocess.run(
        [str(word) for word in arguments], cwd=cwd, env=env | environment, capture_output=True, text=True, timeout=120
    )


def test_nothing_else_was_built() -> None:
    """One wheel and one source distribution for each package, which are for any Python 3 on any platform."""
    wanted = {path.name for module in MODULES for path in (wheel(module), sdist(module))}

    assert {path.name for path in DIST.iterdir()} == wanted


@pytest.mark.parametrize("module", MODULES)
def test_the_installed_package_is_not_the_tree(module: str) -> None:
    """Otherwise this file would test something else."""
    found = importlib.util.find_spec(module)

    assert found is not None
    assert found.origin is not None
    assert Path(found.origin).is_relative_to(sysconfig.get_path("purelib"))
    assert not Path(found.origin).is_relative_to(ROOT / "packages")


@pytest.mark.parametrize("module", MODULES)
def test_a_wheel_holds_the_whole_package_and_nothing_else(module: str) -> None:
    """Every file of the package, ``py.typed`` among them, and the licence; no tests, no stray files."""
    package = DISTRIBUTIONS[module].replace("_", "-")
    source = ROOT / "packages" / package / "src"
    files = {
        path.relative_to(source).as_posix()
        for path in (source / module).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel(module)) as archive:
        names = set(archive.namelist())
        metadata = f"{DISTRIBUTIONS[module]}-{VERSION}.dist-info"
        headers = email.message_from_bytes(archive.read(f"{metadata}/METADATA"))

    assert f"{module}/py.typed" in files
    assert {name for name in names if not name.startswith(metadata)} == files
    assert f"{metadata}/licenses/LICENSE" in names
    assert headers["Name"] == package
    assert headers["License-Expression"] == "MIT"
    assert headers.get_payload().strip(), "the README is the description"


@pytest.mark.parametrize("module", MODULES)
def test_a_source_distribution_builds_alone(module: str, tmp_path: Path) -> None:
    """Unpacked anywhere, it makes the same wheel as the tree."""
    with tarfile.open(sdist(module)) as archive:
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.iterdir()
    done = run(sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path / "out", unpacked, cwd=tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr
    with zipfile.ZipFile(wheel(module)) as ours, zipfile.ZipFile(tmp_path / "out" / wheel(module).name) as theirs:
        assert ours.namelist() == theirs.namelist()


@pytest.mark.parametrize("module", MODULES)
def test_every_package_can_be_imported(module: str, tmp_path: Path) -> None:
    """On every platform: what a backend lacks is said by its hook, not by an ImportError."""
    done = run(sys.executable, "-W", "error", "-c", f"import {module}", cwd=tmp_path)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("name", ["", "select"], ids=["priority", "select"])
def test_a_program_runs(name: str, tmp_path: Path) -> None:
    """Coroutines, a timer and a loop, over the poller of the platform (nothing is asked for) and over the floor."""
    done = run(sys.executable, "-W", "error", "-c", PROGRAM, cwd=tmp_path, CORO_POLLER=name)

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ababab ")


@pytest.mark.parametrize("command", [["coro"], [sys.executable, "-m", "coro"]], ids=["coro", "python -m coro"])
def test_the_command_lists_the_pollers(command: list[str], tmp_path: Path) -> None:
    """The command is installed, and finds the three backends through their metadata."""
    if command == ["coro"]:
        command = [str(Path(sysconfig.get_path("scripts")) / "coro")]
    done = run(*command, "pollers", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    for module in MODULES[1:]:
        assert DISTRIBUTIONS[module].replace("_", "-") in done.stdout


def test_the_demo_runs(tmp_path: Path) -> None:
    """The first thing that a user is told to type."""
    done = run(sys.executable, "-m", "coro", "demo", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert done.stdout
