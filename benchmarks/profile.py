"""Shows in whose code an echo server spends its time: ``python -m benchmarks.profile``.

Needs ``perf`` of Linux, and the right to use it.  What stands in the line of the system cannot be had for less in any
language; what stands in the other lines is the library, the interpreter, and what they call.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from . import cells, echo, native

SUBJECTS = ("coro", "gevent", "uvloop-protocol", "greenlet", "c")
SIZE = 64
SECONDS = 3.0
SAMPLES = 2000  # per second
#: Beginnings of the names of shared objects, and whose code that is.  What begins otherwise is the library's own.
PARTS = {
    "[unknown": "unknown",
    "[": "the system",  # itself, and its modules
    "libpython": "the interpreter",
    "python": "the interpreter",
    "libc.": "the C library",
    "libc-": "the C library",
    "libpthread": "the C library",
    "ld-": "the C library",
    "_greenlet": "greenlet",
    "_socket": "modules of the standard library",
    "select": "modules of the standard library",
}
OWN = "compiled code of the library"
COLUMNS = (*dict.fromkeys(part for part in PARTS.values() if part != "unknown"), OWN)


def parted(report: str) -> dict[str, float]:
    """Sort the lines of a ``perf report``, percentages of shared objects, by the columns of the table."""
    parts: Counter[str] = Counter()
    for line in report.splitlines():
        share, _, name = line.partition(";")
        if line.startswith("#") or not share.strip().endswith("%"):
            continue
        part = next((part for begin, part in PARTS.items() if name.strip().startswith(begin)), OWN)
        parts[part] += float(share.strip().rstrip("%")) / 100
    return dict(parts)


def perf(*arguments: str) -> str:
    """Run perf and return what it prints.  RuntimeError with its words if it fails, or if there is none."""
    if shutil.which("perf") is None:
        raise RuntimeError("perf is not installed")
    done = subprocess.run(["perf", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["perf failed"])[-1])
    return done.stdout


def profile(entrant: str, connections: int, seconds: float = SECONDS) -> tuple[float, dict[str, float]]:
    """The CPU time for each request in seconds, and the share of each part.  RuntimeError if perf can't be used."""
    with (
        tempfile.TemporaryDirectory(prefix="coro-perf-") as directory,
        ThreadPoolExecutor(1) as pool,
        echo.serving(entrant, "tcp") as (port, pid),
    ):
        path = str(Path(directory) / "perf.data")
        load = pool.submit(echo.ask, "tcp", port, pid, connections=connections, size=SIZE, seconds=seconds)
        for_time = ["--", "sleep", f"{seconds * 0.8:g}"]
        perf("record", "-q", "-e", "cpu-clock", "-F", str(SAMPLES), "-p", str(pid), "-o", path, *for_time)
        run = load.result()
        report = perf("report", "-i", path, "--stdio", "--sort", "dso", "-t", ";", "-q")
    parts = parted(report)
    if not parts.get("the system"):
        raise RuntimeError("perf may not look into the system: see kernel.perf_event_paranoid in proc(5)")
    return run["server"] / run["requests"], parts


def table(connections: int) -> str:
    """The table in Markdown."""
    lines = [
        f"| {connections:,} connections | CPU time per request | {' | '.join(COLUMNS)} |",
        "|---" * (len(COLUMNS) + 2) + "|",
    ]
    for entrant in SUBJECTS:
        module = cells.ENTRANTS[entrant]
        if module and importlib.util.find_spec(module) is None:
            continue
        try:
            spent, parts = profile(entrant, connections)
        except RuntimeError as exc:
            lines.append(f"| {entrant} | {exc} |" + " |" * len(COLUMNS))
            continue
        amounts = " | ".join(f"{parts.get(part, 0.0) * spent * 1e6:.2f} µs" for part in COLUMNS)
        lines.append(f"| {entrant} | {spent * 1e6:.2f} µs | {amounts} |")
    return "\n".join(lines)


def main() -> None:
    argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__).parse_args()
    with native.compiled() as environment:
        os.environ.update(environment)
        print(f"CPython {sys.version.split()[0]}; TCP echo of {SIZE} bytes, one request in flight on each connection.")
        for connections in (100, 1000):
            print(f"\n{table(connections)}", flush=True)


if __name__ == "__main__":
    main()
