"""A report as pictures, in SVG that is written by hand: bars of operations and echoes, curves of growth and latency.

The pictures stand on a light page as on a dark one: text is grey, and nothing is drawn behind it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path

from .stats import quartiles
from .suite import Report, values
from .tables import amount, markdown

COLOURS = {
    "coro": "#d1242f",
    "coro-select": "#f0883e",
    "gevent": "#1f77b4",
    "eventlet": "#17a2b8",
    "asyncio": "#8250df",
    "asyncio-protocol": "#b392f0",
    "uvloop": "#2da44e",
    "uvloop-protocol": "#85c78f",
    "trio": "#bf8700",
    "threads": "#8c6d5a",
    "greenlet": "#6e7681",
    "c": "#8b949e",
}
TEXT = "#768390"
GRID = "#8b949e"
WIDTH = 760

OPERATIONS = "switch_2 switch_1000 spawn_100 spawn_yield_10000 timeout timeout_block semaphore mutex event_1000 queue_1"
ECHOES = "tcp_1_64 tcp_100_64 tcp_1000_64 tcp_10000_64"
GROWTHS = "growth_switch growth_spawn growth_timeout growth_connections"
LATENCY = "tcp_1000_64"
PERCENTILES = ("50 %", "90 %", "99 %", "99.9 %")

Curves = dict[str, list[tuple[float, float]]]


class Drawing:
    """An SVG picture that grows downwards."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.parts: list[str] = []
        self.text(0, 18, title, size=15, weight="bold")
        self.height = 30.0

    def text(
        self, x: float, y: float, text: str, *, anchor: str = "start", size: int = 11, weight: str = "normal"
    ) -> None:
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}" '
            f'fill="{TEXT}">{escape(text)}</text>'
        )

    def bar(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        self.parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 1):.1f}" height="{height:.1f}" fill="{colour}"/>'
        )

    def line(self, points: Iterable[tuple[float, float]], colour: str, width: float) -> None:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width:g}"/>')

    def rule(self, points: Iterable[tuple[float, float]]) -> None:
        """A line of the grid, which lies behind all that was drawn before."""
        self.line(points, GRID, 0.4)
        self.parts.insert(0, self.parts.pop())

    def legend(self, labels: Iterable[str]) -> None:
        """The colours of the labels, on as many lines as they need."""
        x = 0.0
        for label in labels:
            width = 28 + 6.6 * len(label)
            if x + width > WIDTH:
                x, self.height = 0.0, self.height + 18
            self.bar(x, self.height, 10, 10, COLOURS[label])
            self.text(x + 14, self.height + 9, label)
            x += width
        self.height += 24

    def __str__(self) -> str:
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height:.0f}" width="{WIDTH}" '
            f'height="{self.height:.0f}" font-family="system-ui, sans-serif" role="img">\n'
            f"<title>{escape(self.title)}</title>\n" + "\n".join(self.parts) + "\n</svg>\n"
        )


def ticks(low: float, high: float) -> list[float]:
    """The powers of ten around an interval, from the last one below to the first one above: a logarithmic axis."""
    return [10.0**power for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]


def even_ticks(high: float) -> list[float]:
    """Round numbers in even steps from 0 to *high* or just above: a linear axis."""
    step = 10.0 ** math.floor(math.log10(high))
    step = next(part * step for part in (0.2, 0.5, 1.0, 2.0) if high / (part * step) <= 6)
    return [step * number for number in range(math.ceil(high / step) + 1)]


def position(value: float, axis: Sequence[float], begin: float, end: float) -> float:
    """Where a value lies on an axis that is drawn from *begin* to *end*: linear if it begins with 0."""
    scale: Callable[[float], float] = math.log10 if axis[0] else float
    low, high = scale(axis[0]), scale(axis[-1])
    return begin + (scale(value) - low) / ((high - low) or 1) * (end - begin)


def labels_of(report: Report, cells: Iterable[str]) -> list[str]:
    """Who has figures for one of the cells, in the order of the colours."""
    return [label for label in COLOURS if any(values(report, cell, label) for cell in cells)]


def bars(
    report: Report,
    title: str,
    cells: list[str],
    figure: Callable[[float], float],
    show: Callable[[float], str],
    *,
    linear: bool,
) -> str:
    """A group of bars for each cell, one bar for each entrant."""
    drawing = Drawing(title)
    labels = labels_of(report, cells)
    drawing.legend(labels)
    medians = {
        (cell, label): figure(quartiles(found).median)
        for cell in cells
        for label in labels
        if (found := values(report, cell, label))
    }
    most = max(medians.values())
    axis = even_ticks(most) if linear else ticks(min(medians.values()) / 2, most)
    left, right, top = 20.0, WIDTH - 80.0, drawing.height
    for cell in cells:
        drawing.text(left, drawing.height + 12, report["cells"][cell]["title"], weight="bold")
        drawing.height += 18
        for label in labels:
            if (cell, label) in medians:
                value = medians[cell, label]
                end = position(value, axis, left, right)
                drawing.bar(left, drawing.height, end - left, 9, COLOURS[label])
                drawing.text(end + 5, drawing.height + 8, f"{show(value)}  {label}" if label == "coro" else show(value))
                drawing.height += 11
        drawing.height += 8
    for tick in axis:
        x = position(tick, axis, left, right)
        drawing.rule([(x, top), (x, drawing.height)])
        drawing.text(x, drawing.height + 12, show(tick), anchor="middle")
    drawing.height += 20
    return str(drawing)


def chart(drawing: Drawing, title: str, curves: Curves, marks: dict[float, str], left: float, width: float) -> None:
    """One diagram of lines: times, on a logarithmic scale, over *marks*, the values and names of the other axis."""
    top, bottom = drawing.height + 24, drawing.height + 170
    drawing.text(left, drawing.height + 12, title, weight="bold")
    times = [time for points in curves.values() for _, time in points]
    rows, columns = ticks(min(times), max(times)), sorted(marks)
    begin, end = left + 50, left + width - 28  # half a label sticks out
    for tick in rows:
        y = position(tick, rows, bottom, top)
        drawing.rule([(begin, y), (end, y)])
        drawing.text(begin - 5, y + 4, amount(tick, "s"), anchor="end")
    for mark, name in marks.items():
        drawing.text(position(mark, columns, begin, end), bottom + 16, name, anchor="middle")
    for label, points in curves.items():
        where = [(position(x, columns, begin, end), position(y, rows, bottom, top)) for x, y in points]
        drawing.line(where, COLOURS[label], 2.5 if label == "coro" else 1.5)


def grid(title: str, charts: list[tuple[str, Curves, dict[float, str]]]) -> str:
    """Diagrams of lines, two in a row."""
    drawing = Drawing(title)
    drawing.legend(label for label in COLOURS if any(label in curves for _, curves, _ in charts))
    width = WIDTH / min(2, len(charts))
    for number, (name, curves, marks) in enumerate(charts):
        chart(drawing, name, curves, marks, number % 2 * width, width)
        if number % 2 or number == len(charts) - 1:
            drawing.height += 200
    return str(drawing)


def growth(report: Report, cell: str) -> tuple[str, Curves, dict[float, str]]:
    """The curves of a cell that measures growth: the median of the rounds at each point."""
    curves = {}
    for label in labels_of(report, [cell]):
        runs = [run["curve"] for run in report["cells"][cell]["runs"][label]]
        curves[label] = [(float(x), quartiles([run[x] for run in runs]).median) for x in runs[0]]
    return report["cells"][cell]["title"], curves, {x: f"{x:,.0f}" for points in curves.values() for x, _ in points}


def latency(report: Report, cell: str) -> tuple[str, Curves, dict[float, str]]:
    """The latency percentiles of a cell that measures servers."""
    marks = {10.0**number: name for number, name in enumerate(PERCENTILES)}
    curves = {}
    for label in labels_of(report, [cell]):
        columns = zip(*(run["latency"] for run in report["cells"][cell]["runs"][label]), strict=True)
        curves[label] = list(zip(marks, (quartiles(column).median for column in columns), strict=True))
    return report["cells"][cell]["title"], curves, marks


def pictures(report: Report) -> dict[str, str]:
    """The pictures that the report has figures for: ``{name of the file: SVG}``."""

    def there(names: str) -> list[str]:
        return [name for name in names.split() if name in report["cells"] and report["cells"][name]["runs"].get("coro")]

    found = {}
    if cells := there(OPERATIONS):
        title = "Time per operation (shorter is better, logarithmic scale)"
        found["operations.svg"] = bars(report, title, cells, float, lambda time: amount(time, "s"), linear=False)
    if cells := there(ECHOES):
        title = "Echoes per second (longer is better)"
        found["echo.svg"] = bars(report, title, cells, lambda time: 1 / time, "{:,.0f}".format, linear=True)
    if cells := there(LATENCY):
        found["latency.svg"] = grid("Latency: the time within which answers came", [latency(report, cells[0])])
    if cells := there(GROWTHS):
        found["growth.svg"] = grid(
            "Time per operation while ever more are alive", [growth(report, cell) for cell in cells]
        )
    return found


def publish(report: Report, directory: Path) -> None:
    """Write ``report.json``, ``table.txt`` (Markdown) and the pictures of a report into a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    # Not .md: the documentation includes it, and would else take it for a page of its own.
    (directory / "table.txt").write_text(markdown(report), encoding="utf-8")
    for name, picture in pictures(report).items():
        (directory / name).write_text(picture, encoding="utf-8")
