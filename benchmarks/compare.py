"""Tells whether this tree is slower than another one: both run every cell in turn, round by round.

The other one is a revision, of which git writes the packages into a temporary directory, or the directory of a
checkout.  The programs are those of this tree for both.
"""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from . import plots
from .cells import Cell
from .stats import confidence, quartiles, ratios
from .suite import ROOT, Report, Runner, failures, measure, values
from .tables import amount, conditions, scatter

SURE = 0.99  # confidence from which on a difference counts
LEAST = 0.02  # a smaller difference than this does not count, however sure


@contextmanager
def packages_of(base: str) -> Iterator[str]:
    """Give the import path of the packages of a revision or checkout.  ValueError if it is neither."""
    checkout = Path(base)
    if (checkout / "packages").is_dir():
        yield import_path(checkout)
        return
    command = ["git", "-C", str(ROOT), "archive", "--format=tar", base, "packages"]
    done = subprocess.run(command, capture_output=True)
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip()
        raise ValueError(f"{base!r} is neither a revision nor a directory with packages/: {words}")
    with tempfile.TemporaryDirectory(prefix="coro-base-") as directory:
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            archive.extractall(directory, filter="data")
        yield import_path(Path(directory))


def import_path(tree: Path) -> str:
    """What ``PYTHONPATH`` has to be to import the packages of a tree, whatever else is installed."""
    return os.pathsep.join(str(path.resolve()) for path in sorted((tree / "packages").glob("*/src")))


def judge(found: list[float]) -> str:
    """What the ratios of this tree to the other one say: "slower", "faster", or "" if nothing can be said."""
    median = quartiles(found).median
    if abs(median - 1) < LEAST or confidence(found) < SURE:
        return ""
    return "slower" if median > 1 else "faster"


def table(report: Report) -> str:
    """The comparison in Markdown."""
    lines = ["| | base | this tree | this tree / base | confidence | |", "|---" * 6 + "|"]
    for name, cell in report["cells"].items():
        ours, theirs = values(report, name, "coro"), values(report, name, "base")
        if not ours or not theirs:
            lines.append(f"| {cell['title']} | | | failed | | |")
            continue
        found = ratios(ours, theirs)
        figures = [amount(quartiles(one).median, cell["unit"]) for one in (theirs, ours)]
        lines.append(
            f"| {cell['title']} | {' | '.join(figures)} | {scatter(quartiles(found))} | "
            f"{confidence(found):.1%} | {judge(found)} |"
        )
    return "\n".join(lines)


def slower(report: Report) -> list[str]:
    """The cells in which this tree is slower."""
    return [
        name
        for name in report["cells"]
        if (ours := values(report, name, "coro"))
        and (theirs := values(report, name, "base"))
        and judge(ratios(ours, theirs)) == "slower"
    ]


def main(
    base: str, cells: list[Cell], rounds: int, scale: float, output: Path | None, show: Callable[[str], None]
) -> int:
    """Compare, print what was found, and return the status: 1 if something is slower or failed, 2 for a wrong base."""
    try:
        with packages_of(base) as path:
            runners = [Runner("coro", "coro", {"PYTHONPATH": import_path(ROOT)})]
            runners.append(Runner("base", "coro", {"PYTHONPATH": path}))
            cells = [cell for cell in cells if "coro" in cell.entrants]
            report = measure(cells, lambda cell: runners, rounds=rounds, scale=scale, progress=show)
    except ValueError as exc:
        print(exc)
        return 2
    show("")
    print(conditions(report), table(report), sep="\n\n")
    for line in failures(report):
        print(f"failed: {line}")
    found = slower(report)
    if found:
        print(f"\nSlower: {', '.join(found)}.  One cell in a hundred says so by chance; measure these once more.")
    if output:
        plots.publish(report, output)
    return 1 if found or failures(report) else 0
