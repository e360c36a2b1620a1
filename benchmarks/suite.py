"""Runs cells in interleaved rounds and collects a report.

The machine is faster in one minute than in the next, and nothing can be done about it.  So each round runs every
entrant of a cell once, each in a process of its own, beginning with another one each time; only ratios inside a round
are compared.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import native
from .cells import ENTRANTS, Cell

ROOT = Path(__file__).resolve().parent.parent
LONGEST_RUN = 300.0  # seconds, after which a run counts as failed

Report = dict[str, Any]


@dataclass(frozen=True)
class Runner:
    """Who runs a cell: an entrant, under a label, with some environment variables set."""

    label: str
    entrant: str
    environment: dict[str, str] = field(default_factory=dict)


def run_once(runner: Runner, cell: Cell, scale: float) -> dict[str, Any]:
    """Run one cell in a process of its own and return what it found.  RuntimeError with its last words if it fails."""
    command = [sys.executable, "-m", "benchmarks.child", runner.entrant, cell.name, str(scale)]
    environment = {**os.environ, **runner.environment}
    if runner.entrant == "coro-select":
        environment["CORO_POLLER"] = "select"
    # A session of its own, so that the servers of a run that is broken off end with it.
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=LONGEST_RUN)
        except BaseException as exc:
            os.killpg(process.pid, signal.SIGKILL)
            if isinstance(exc, subprocess.TimeoutExpired):
                raise RuntimeError(f"no result after {LONGEST_RUN:g} s") from None
            raise
    if process.returncode:
        words = err.strip().splitlines() or [f"status {process.returncode}"]
        raise RuntimeError(words[-1])
    result: dict[str, Any] = json.loads(out)
    return result


def measure(
    cells: Iterable[Cell],
    runners: Callable[[Cell], list[Runner]],
    *,
    rounds: int,
    scale: float = 1.0,
    missing: dict[str, str] | None = None,
    progress: Callable[[str], object] = lambda text: None,
) -> Report:
    """Run the cells.

    Args:
        cells: what to run.
        runners: who runs a cell; the first is the one whose time is divided by that of the others.
        rounds: how often.
        scale: by how much the sizes are shrunk; only 1 gives figures that mean anything.
        missing: who cannot take part, and why; goes into the report.
        progress: called with a line of text before each run.

    Returns the report: what the figures were measured on, and for each cell the runs of each runner, round by round, or
    why it has none.  A runner that fails in one round is left out of that cell.
    """
    found: dict[str, Any] = {}
    with native.compiled() as environment:
        for cell in cells:
            here = runners(cell)
            runs: dict[str, list[dict[str, Any]]] = {runner.label: [] for runner in here}
            failed: dict[str, str] = {}
            for turn in range(rounds * len(here)):
                round_, place = divmod(turn, len(here))
                runner = here[(round_ + place) % len(here)]
                if runner.label in failed:
                    continue
                progress(f"{cell.name}: round {round_ + 1} of {rounds}, {runner.label}")
                with_native = Runner(runner.label, runner.entrant, {**environment, **runner.environment})
                try:
                    runs[runner.label].append(run_once(with_native, cell, scale))
                except RuntimeError as exc:
                    failed[runner.label] = str(exc)
            found[cell.name] = {
                "title": cell.title,
                "group": cell.group,
                "unit": cell.unit,
                "runs": {label: of_label for label, of_label in runs.items() if label not in failed},
                "failed": failed,
            }
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "machine": f"{platform.machine()}, {os.cpu_count()} processors",
        "versions": versions(),
        "rounds": rounds,
        "scale": scale,
        "missing": missing or {},
        "cells": found,
    }


def versions() -> dict[str, str]:
    """The versions of what is measured, and of greenlet, on which three of them stand."""
    numbers = {}
    for name in ("coro-core", "greenlet", *sorted(set(filter(None, ENTRANTS.values())) - {"coro", "coro_select"})):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            numbers[name] = importlib.metadata.version(name)
    return numbers


def values(report: Report, cell: str, label: str, metric: str = "value") -> list[float]:
    """The figures of a runner for a cell, round by round; empty if there are none."""
    return [run[metric] for run in report["cells"][cell]["runs"].get(label, ()) if run.get(metric) is not None]


def failures(report: Report) -> list[str]:
    """What went wrong, a line each."""
    return [f"{name}: {who}: {why}" for name, one in report["cells"].items() for who, why in one["failed"].items()]
