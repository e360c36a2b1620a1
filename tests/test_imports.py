"""What ``import coro`` imports, and that its lists of names agree."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import coro

FACE = ast.parse(Path(coro.__file__).read_text())


def test_what_is_imported_later_is_what_type_checkers_see():
    """The table of names that are imported when first asked for equals the imports under TYPE_CHECKING."""
    (block,) = [node for node in FACE.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    lines = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    seen = {(line.module, alias.name) for line in lines for alias in line.names}
    names = {(module, name) for module, names in coro._LATER.items() for name in names.split()}
    modules = {(None, module) for module, names in coro._LATER.items() if not names}
    assert seen == names | modules


@pytest.mark.parametrize("name", sorted(coro._module_of))
def test_each_name_that_is_imported_later_is_there(name):
    """It is listed by dir(), and a second look finds the same object without the help of __getattr__."""
    assert name in dir(coro)
    found = getattr(coro, name)
    assert vars(coro)[name] is found


def test_an_unknown_name_is_an_attribute_error():
    """As for any module."""
    with pytest.raises(AttributeError, match="module 'coro' has no attribute 'nonesuch'"):
        coro.nonesuch  # noqa: B018


@pytest.mark.parametrize(
    "module", ["asyncio", "concurrent.futures", "inspect", "logging", "pluggy", "queue", "selectors", "socket", "ssl"]
)
def test_importing_coro_imports_little(module):
    """``import coro`` is to take at most 25 ms: none of the modules that cost most is imported by it."""
    code = f"import sys, coro; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_submodules_are_attributes():
    """``import coro`` is enough to say ``coro.sockets.sock``."""
    code = "import coro; assert coro.sockets.sock is coro.sock"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
