"""A report as text: tables in Markdown with ratios, quartiles, targets and who was the bottleneck."""

from __future__ import annotations

import itertools
import tomllib
from pathlib import Path
from typing import Any

from .cells import LEGEND
from .stats import Quartiles, quartiles, ratios
from .suite import Report, failures, values

TARGETS = Path(__file__).resolve().parent / "targets.toml"
US = "coro"
BUSY = 0.9  # of the time: more than that, and it is the bottleneck

#: The figures of a run that are compared, and what is added to the title of the cell.
METRICS = {"value": "", "cpu": ": CPU time of the server"}


def amount(value: float, unit: str) -> str:
    """A figure with its unit: ``490 ns``, ``6,545 bytes``, ``1.04x``."""
    if unit == "bytes":
        return f"{value:,.0f} bytes"
    if unit == "x":
        return f"{value:.2f}x"
    for factor, name in ((1e9, "ns"), (1e6, "µs"), (1e3, "ms")):
        if value * factor < 1000:
            return f"{value * factor:.3g} {name}"
    return f"{value:.3g} s"


def scatter(found: Quartiles) -> str:
    """A median with its quartiles: ``**0.34** [0.33, 0.36]``."""
    return f"**{found.median:.2f}** [{found.low:.2f}, {found.high:.2f}]"


def bottleneck(runs: list[dict[str, Any]]) -> str:
    """Who was busy nearly all of the time: "server", "load", "both" or "neither"; "" if that was not seen."""
    if not runs or runs[0].get("server") is None:
        return ""
    busy = [who for who in ("server", "load") if quartiles([run[who] for run in runs]).median > BUSY]
    return {0: "neither", 1: busy[0] if busy else "", 2: "both"}[len(busy)]


def targets(python: str, path: Path = TARGETS) -> dict[tuple[str, str], dict[str, float]]:
    """What is to be reached with this version of Python: ``{(cell, metric): {peer: ratio}}``."""
    version = tuple(map(int, python.split(".")[:2]))
    wanted: dict[tuple[str, str], dict[str, float]] = {}

    def number(value: float | dict[str, float]) -> float:
        if not isinstance(value, dict):
            return value
        by_version = {tuple(map(int, key.split("."))): one for key, one in value.items()}
        return by_version[max((key for key in by_version if key <= version), default=min(by_version))]

    for cell, peers in tomllib.loads(path.read_text(encoding="utf-8")).items():
        for peer, value in peers.items():
            if peer in METRICS:
                wanted.setdefault((cell, peer), {}).update({who: number(one) for who, one in value.items()})
            else:
                wanted.setdefault((cell, "value"), {})[peer] = number(value)
    return wanted


def verdict(found: Quartiles, target: float) -> str:
    """Whether a target is reached; "close" if only the noise decides, that is, if it lies above the lower quartile."""
    if found.median <= target:
        return "met"
    return "close" if found.low <= target else "**missed**"


def judged(report: Report) -> list[tuple[str, str, str, float, Quartiles, str]]:
    """Each target that the report has figures for: cell, metric, peer, target, what was found, the verdict."""
    lines = []
    for (cell, metric), peers in targets(report["python"]).items():
        if cell not in report["cells"] or report["scale"] != 1:
            continue
        ours = values(report, cell, US, metric)
        for peer, target in peers.items():
            theirs = values(report, cell, peer, metric)
            if ours and (theirs or peer == "own"):
                found = quartiles(ours if peer == "own" else ratios(ours, theirs))
                lines.append((cell, metric, peer, target, found, verdict(found, target)))
    return lines


def table(report: Report, group: str) -> str:
    """The table of one group of cells."""
    names = [name for name, one in report["cells"].items() if one["group"] == group]
    peers: list[str] = []
    for name in names:
        peers += [label for label in report["cells"][name]["runs"] if label not in (US, *peers)]
    aims: dict[tuple[str, str], list[str]] = {}
    for cell, metric, peer, target, _, word in judged(report):
        aims.setdefault((cell, metric), []).append(f"{peer} {target:g}: {word}")
    absolute = all(report["cells"][name]["unit"] == "x" for name in names)
    heads = ["", US, *(peer if absolute else f"{US} / {peer}" for peer in peers), "target"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name in names:
        cell = report["cells"][name]
        for metric, addition in METRICS.items():
            ours = values(report, name, US, metric)
            if not ours and metric != "value":
                continue
            row = [cell["title"] + addition]
            for label in (US, *peers):
                theirs = values(report, name, label, metric)
                if label in cell["failed"]:
                    text = "failed"
                elif not theirs:
                    text = ""
                elif cell["unit"] == "x":
                    text = scatter(quartiles(theirs))
                elif label == US:
                    text = amount(quartiles(ours).median, cell["unit"])
                else:
                    text = scatter(quartiles(ratios(ours, theirs))) if ours else amount(theirs[0], cell["unit"])
                who = bottleneck(cell["runs"].get(label, [])) if metric == "value" else ""
                row.append(f"{text}, {who}" if text and who else text)
            row.append("; ".join(aims.get((name, metric), ())))
            lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def conditions(report: Report) -> str:
    """What the figures were measured on."""
    numbers = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    text = f"CPython {report['python']}, {report['system']}, {report['machine']}; {numbers}; {report['rounds']} rounds."
    if report["scale"] != 1:
        text += f"  Sizes scaled by {report['scale']:g}: the figures mean nothing."
    return text


def markdown(report: Report) -> str:
    """The whole report."""
    groups = list(dict.fromkeys(one["group"] for one in report["cells"].values()))
    parts = [conditions(report)]
    for group in groups:
        parts += [f"### {group}", table(report, group)]
    seen = set(itertools.chain.from_iterable(one["runs"] for one in report["cells"].values()))
    notes = [f"- *{label}*: {text}." for label, text in LEGEND.items() if label in seen]
    notes += [f"- *{name}* did not take part: {why}." for name, why in report["missing"].items()]
    notes += [f"- failed: {line}" for line in failures(report)]
    if notes:
        parts += ["### Notes", "\n".join(notes)]
    counts = [word for *_, word in judged(report)]
    if counts:
        met, close = counts.count("met"), counts.count("close")
        parts.append(
            f"Of {len(counts)} targets {met} are met, {close} are close, {len(counts) - met - close} are missed."
        )
    return "\n\n".join(parts) + "\n"
