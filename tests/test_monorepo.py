"""The four packages agree with each other and with the rules of the repository.  Stands on the files alone."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

import coro

ROOT = Path(__file__).resolve().parent.parent
CORE = "coro-core"
BACKENDS = ["coro-epoll", "coro-kqueue", "coro-select"]
PACKAGES = [CORE, *BACKENDS]

IMPORT_NAMES = {CORE: "coro", **{name: name.replace("-", "_") for name in BACKENDS}}

#: What only one of the backends would say.  ("select" alone is an ordinary word.)
BACKEND_WORDS = re.compile(r"epoll|kqueue|kevent|coro[-_]select", re.IGNORECASE)

#: The files of coro-core that may name a backend: they choose one, or talk to the user about them.
MAY_NAME_BACKENDS = {"cli.py", "discovery.py"}

SOURCES = sorted(
    path
    for top in ("packages", "tests", "examples", "benchmarks", "docs")
    for path in (ROOT / top).rglob("*.py")
    if not {"build", "dist", "_build"} & set(path.parts) and not any(part.startswith(".") for part in path.parts)
)
CORE_SOURCES = sorted((ROOT / "packages" / CORE / "src").rglob("*.py"))


def project(package: str) -> dict[str, Any]:
    """The table [project] of one package."""
    table: dict[str, Any] = tomllib.loads((ROOT / "packages" / package / "pyproject.toml").read_text(encoding="utf-8"))
    return table["project"]


def name_of(path: Path) -> str:
    """How a parametrised test calls a file."""
    return path.relative_to(ROOT).as_posix()


def test_there_are_four_packages() -> None:
    """What lies in packages/ is what is released."""
    assert sorted(PACKAGES) == sorted(path.name for path in (ROOT / "packages").iterdir() if path.is_dir())
    assert [project(package)["name"] for package in PACKAGES] == PACKAGES


def test_one_version_number_for_all() -> None:
    """The packages are released together under one number, which `coro.__version__` repeats."""
    versions = {package: project(package)["version"] for package in PACKAGES}

    assert len(set(versions.values())) == 1, versions
    assert coro.__version__ == versions[CORE]


def test_the_installed_version_is_that_of_the_tree() -> None:
    """An environment that was made before the last change of the number would test something else."""
    assert importlib.metadata.version(CORE) == project(CORE)["version"]


def test_the_core_needs_greenlet_and_pluggy_only() -> None:
    """Everything else is an extra."""
    names = [re.split(r"[\s<>=~!\[;]", line)[0] for line in project(CORE)["dependencies"]]

    assert sorted(names) == ["greenlet", "pluggy"]


@pytest.mark.parametrize("package", BACKENDS)
def test_a_backend_needs_a_compatible_core_only(package: str) -> None:
    """``~=``, not ``==``: the API number guards, and a stranger's poller must not be locked out by ours."""
    major, minor = project(CORE)["version"].split(".")[:2]

    assert project(package)["dependencies"] == [f"coro-core ~= {major}.{minor}"]


def test_the_extras_name_the_backends_by_the_same_rule() -> None:
    """``coro-core[standard]`` takes each backend for the platforms that it is made for."""
    major, minor = project(CORE)["version"].split(".")[:2]
    extras = project(CORE)["optional-dependencies"]

    for package in BACKENDS:
        wanted = f"{package} ~= {major}.{minor}"

        assert extras[package.removeprefix("coro-")] == [wanted]
        assert len([line for line in extras["standard"] if line.partition(";")[0].strip() == wanted]) == 1


@pytest.mark.parametrize("package", BACKENDS)
def test_a_backend_is_found_by_its_own_name(package: str) -> None:
    """The entry point in the group ``coro.pollers`` is called like the poller and names the package."""
    assert project(package)["entry-points"] == {"coro.pollers": {package.removeprefix("coro-"): IMPORT_NAMES[package]}}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_brings_its_papers(package: str) -> None:
    """A source distribution cannot reach outside its directory, so each has a licence and a README of its own."""
    directory = ROOT / "packages" / package

    assert (directory / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert (directory / "README.md").read_text(encoding="utf-8").startswith(f"# {package}\n")
    assert (directory / "src" / IMPORT_NAMES[package] / "py.typed").is_file()


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_says_the_same_as_the_others(package: str) -> None:
    """Python version, licence and author are those of the core."""
    core = project(CORE)

    for key in ("requires-python", "license", "license-files", "readme", "authors"):
        assert project(package)[key] == core[key]
    assert "Typing :: Typed" in project(package)["classifiers"]


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_file_opens_with_what_it_is_for(path: Path) -> None:
    """The docstring comes first in every file that is not empty."""
    tree = ast.parse(path.read_text(encoding="utf-8"))

    assert not tree.body or ast.get_docstring(tree)


@pytest.mark.parametrize("path", CORE_SOURCES, ids=name_of)
def test_the_core_imports_no_backend(path: Path) -> None:
    """A backend is found, never imported, whichever file it is."""
    imported = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            imported.add(node.module.partition(".")[0])

    assert not imported & {IMPORT_NAMES[package] for package in BACKENDS}


@pytest.mark.parametrize("path", [p for p in CORE_SOURCES if p.name not in MAY_NAME_BACKENDS], ids=name_of)
def test_the_core_does_not_know_its_backend(path: Path) -> None:
    """No name and no text of the code is about one of them.  Comments and docstrings may be: they do nothing."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    said = [
        f"line {node.lineno}: {word}"
        for node in ast.walk(tree)
        if id(node) not in prose
        for word in words_of(node)
        if BACKEND_WORDS.search(word)
    ]

    assert not said


def words_of(node: ast.AST) -> list[str]:
    """The identifiers and strings that a node itself holds."""
    match node:
        case ast.Constant(value=str() as text) | ast.Name(id=text) | ast.Attribute(attr=text) | ast.arg(arg=text):
            return [text]
        case ast.FunctionDef(name=text) | ast.ClassDef(name=text) | ast.alias(name=text):
            return [text]
        case ast.ImportFrom(module=str() as text):
            return [text]
    return []


@pytest.mark.parametrize("path", sorted((ROOT / "changelog").glob("*.md")), ids=name_of)
def test_a_changelog_fragment_will_be_found(path: Path) -> None:
    """towncrier passes over a file whose name it does not know, without a word.  And the package comes first."""
    if path.name == "README.md":
        return
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["towncrier"]
    types = "|".join(kind["directory"] for kind in settings["type"])
    text = path.read_text(encoding="utf-8")

    assert re.fullmatch(rf"(\d+|\+[\w-]+)\.({types})\.md", path.name)
    assert text.split(": ")[0] in {*PACKAGES, "all packages"}
    assert text.rstrip().endswith(".")
