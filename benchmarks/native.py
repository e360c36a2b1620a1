"""The programs in C: the load generator and the floor.  They use epoll, so they are for Linux; they need a compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROGRAMS = ("load", "floor")
VARIABLE = "CORO_BENCHMARKS_NATIVE"  # tells the runs where the programs are


@contextmanager
def compiled() -> Iterator[dict[str, str]]:
    """Compile the programs for the length of the block.  Gives the environment that the runs need; empty without C."""
    if not sys.platform.startswith("linux") or shutil.which("cc") is None:
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="coro-benchmarks-") as directory:
        for name in PROGRAMS:
            source = HERE / f"{name}.c"
            command = ["cc", "-O2", "-Wall", "-Wextra", "-o", f"{directory}/{name}", str(source)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"cannot compile {source}:\n{done.stderr}")
        yield {VARIABLE: directory}


def program(name: str) -> str | None:
    """The path of a compiled program, or None if there is none."""
    directory = os.environ.get(VARIABLE)
    return f"{directory}/{name}" if directory else None
