"""The programs in the documentation and the README run, and print what stands beneath them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)


def programs():
    """Each block of Python that is a whole program: one that imports coro and runs a loop to its end."""
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        if "_build" in path.parts:
            continue
        for number, found in enumerate(BLOCK.finditer(path.read_text(encoding="utf-8")), 1):
            code, output = found.groups()
            if (
                "import coro" in code
                and ("coro.run(" in code or "event_loop()" in code)
                and "serve_forever(" not in code
            ):
                yield pytest.param(code, output, id=f"{path.relative_to(ROOT)}:{number}")


@pytest.mark.parametrize(("code", "output"), list(programs()))
def test_the_programs_of_the_documentation_run(poller, code, output):
    """As they stand, in a process of their own, over each poller."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stderr
    if output is not None:
        assert output == done.stdout


def test_every_public_name_is_documented():
    """What coro exports appears in a chapter by name."""
    import coro

    names = {name for name in dir(coro) if not name.startswith("_") and not isinstance(getattr(coro, name), type(sys))}
    text = "\n".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts
    )
    text += "\n".join(f"coro.{name}" for name in __import__("coro.exceptions").exceptions.__all__)  # automodule

    assert sorted(name for name in names - {"annotations"} if f"coro.{name}" not in text) == []
