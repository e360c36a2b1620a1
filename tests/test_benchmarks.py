"""The benchmark suite: its figures, its reports, and that every cell runs for every library that is installed."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import socket
import subprocess
import sys
import threading
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the suite is no package that anybody installs

from benchmarks import compare, echo, floors, least, native, plots, profile, stats, suite, syscalls, tables  # noqa: E402
from benchmarks.__main__ import main, parse  # noqa: E402
from benchmarks.cells import CELLS, COROUTINES, ENTRANTS, GROUPS, chosen, missing, shrunk  # noqa: E402

from .helpers import free_port  # noqa: E402

TINY = 0.001
ON_LINUX = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only Linux has the /proc from which this is read"
)


@pytest.fixture(scope="module")
def compiled() -> Iterator[dict[str, str]]:
    """The programs in C; empty where they cannot be had."""
    with native.compiled() as environment:
        yield environment


@pytest.fixture(params=["C", "Python"])
def generator(request: pytest.FixtureRequest, compiled: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Both load generators."""
    if request.param == "C":
        if not compiled:
            pytest.skip(missing()["c"])
        monkeypatch.setenv(native.VARIABLE, compiled[native.VARIABLE])


def report_of(cells: dict[str, dict[str, list[Any]]], **more: Any) -> suite.Report:
    """A report with these values: ``{cell: {label: [values or whole runs]}}``."""
    found = {}
    for name, runs in cells.items():
        cell = CELLS[name]
        found[name] = {
            "title": cell.title,
            "group": cell.group,
            "unit": cell.unit,
            "runs": {
                label: [one if isinstance(one, dict) else {"value": one} for one in values]
                for label, values in runs.items()
            },
            "failed": {},
        }
    common = {"python": "3.11.7", "system": "Linux", "machine": "x", "versions": {"coro-core": "1"}, "rounds": 3}
    return {**common, "scale": 1.0, "missing": {}, "cells": found, **more}


# -- the cells -------------------------------------------------------------------------------------------------------

RUN_ALL = """
import json, sys, warnings
warnings.simplefilter("ignore")
from benchmarks.cells import CELLS
from benchmarks.child import measure
entrant, scale = sys.argv[1], float(sys.argv[2])
seen = set()
for cell in CELLS.values():
    key = cell.program, json.dumps(cell.scaled(scale))
    if entrant in cell.entrants and key not in seen:  # so small, some are the same
        seen.add(key)
        print(json.dumps([cell.name, measure(entrant, cell.name, scale)]), flush=True)
import os; os._exit(0)
"""


def check_every_cell(entrant: str, environment: dict[str, str]) -> None:
    absent = missing()
    if entrant in absent:
        pytest.skip(absent[entrant])
    command = [sys.executable, "-c", RUN_ALL, entrant, str(TINY)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120
    )

    assert done.returncode == 0, done.stdout + done.stderr
    results = dict(json.loads(line) for line in done.stdout.splitlines())
    assert results
    for name, result in results.items():
        assert math.isfinite(result["value"]), (name, result)
        if CELLS[name].unit == "s" and CELLS[name].program != "startup":
            assert result["value"] > 0, (name, result)
        if CELLS[name].program == "echo" and "latency" in result:
            assert result["latency"] == sorted(result["latency"])


def test_every_cell_runs_with_coro(poller: str, compiled: dict[str, str]) -> None:
    """At a tiny size, over each poller; each program checks its own result."""
    check_every_cell("coro", compiled)


@pytest.mark.parametrize("entrant", [name for name in ENTRANTS if name != "coro"])
def test_every_cell_runs_with_each_entrant(entrant: str, compiled: dict[str, str]) -> None:
    """Those that are not installed are skipped, and the reason is given."""
    check_every_cell(entrant, {**compiled, "CORO_POLLER": "select"} if entrant == "coro-select" else compiled)


def test_cells_have_names_entrants_and_a_heading() -> None:
    """No name is there twice, coro takes part in each, and nobody takes part whom the suite does not know."""
    assert sum(map(len, GROUPS.values())) == len(CELLS)
    for cell in CELLS.values():
        assert cell.group in GROUPS
        assert cell.entrants[0] == "coro"
        assert set(cell.entrants) <= set(ENTRANTS)
        assert len(set(cell.entrants)) == len(cell.entrants)


def test_cells_are_chosen_by_pattern() -> None:
    """In the order of the suite, whatever the order of the patterns."""
    assert [cell.name for cell in chosen(["timeout", "switch_*"])] == ["switch_2", "switch_1000", "timeout"]
    with pytest.raises(ValueError, match="no cell is called 'swich_2'; there are switch_2, "):
        chosen(["switch_2", "swich_2"])


def test_sizes_shrink() -> None:
    """Counts stay at least 1, what is no number stays as it is, and a list that collapses has no doubles."""
    assert shrunk({"a": 1000, "b": 3, "c": True, "d": "tcp", "e": 0.5, "f": [0, 5, 9, 1000]}, 0.1) == {
        "a": 100,
        "b": 1,
        "c": True,
        "d": "tcp",
        "e": 0.05,
        "f": [0, 1, 100],
    }


# -- echo servers and load generators --------------------------------------------------------------------------------


@contextlib.contextmanager
def answering(kind: str, answer: Any) -> Iterator[int]:
    """A server in a thread, which gives ``answer(data)`` for what it receives, and closes when that is empty."""
    if kind == "udp":
        listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        listener.bind(("127.0.0.1", 0))
    else:
        listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(20)

    def serve() -> None:
        with contextlib.suppress(OSError):
            if kind == "udp":
                while True:
                    data, address = listener.recvfrom(65536)
                    if not data:
                        return
                    listener.sendto(answer(data), address)
            conn, _ = listener.accept()
            with conn:
                conn.settimeout(20)
                while (data := conn.recv(65536)) and (reply := answer(data)):
                    conn.sendall(reply)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        if kind == "udp":
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"", listener.getsockname())
        thread.join()
        listener.close()


def ask(kind: str, port: int, size: int = 100, requests: int = 20) -> dict[str, Any]:
    return echo.ask(kind, port, os.getpid(), connections=1, size=size, seconds=0, requests=requests)


@pytest.mark.usefixtures("generator")
@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_a_load_generator_counts_what_was_answered(kind: str) -> None:
    """As many requests as it was told, each with a latency, and the CPU time of the server."""
    with answering(kind, bytes) as port:
        found = ask(kind, port)

    assert found["requests"] >= 20
    assert found["seconds"] > 0
    assert len(found["latency"]) == 4
    assert 0 < found["latency"][0] <= found["latency"][3] <= found["seconds"] * 1.5
    assert found["server"] is None or found["server"] >= 0


@pytest.mark.usefixtures("generator")
@pytest.mark.parametrize("kind", ["tcp", "udp"])
@pytest.mark.parametrize(
    "answer",
    [lambda data: bytes(len(data)), lambda data: data + b"x", lambda data: data[:-1] + bytes([data[-1] ^ 1])],
    ids=["zeros", "too long", "last bit"],
)
def test_a_server_that_answers_wrongly_does_not_count(kind: str, answer: Any) -> None:
    """The run ends with an error that says so, instead of a figure."""
    with answering(kind, answer) as port, pytest.raises(RuntimeError, match="wrong answer"):
        ask(kind, port)


@pytest.mark.usefixtures("generator")
def test_a_server_that_closes_early_does_not_count() -> None:
    """Nor does one that breaks off."""
    with answering("tcp", lambda data: b"") as port, pytest.raises(RuntimeError, match="closed a connection"):
        ask("tcp", port)


@pytest.mark.usefixtures("generator")
def test_a_server_that_is_not_there() -> None:
    """The error of the system is passed on."""
    with pytest.raises(RuntimeError, match=r"(?i)refused"):
        ask("tcp", free_port())


def test_a_server_that_does_not_start_is_an_error() -> None:
    """It names the server, and nothing waits for it."""
    with pytest.raises(RuntimeError, match="the tcp server of nobody did not start"), echo.serving("nobody", "tcp"):
        pass


# -- running ---------------------------------------------------------------------------------------------------------


def test_rounds_are_interleaved_in_rotated_order() -> None:
    """Each round begins with another entrant, and the figures come back round by round."""
    turns: list[str] = []
    runners = [suite.Runner(name, "asyncio") for name in ("a", "b", "c")]

    report = suite.measure(
        chosen(["timeout"]), lambda cell: runners, rounds=2, scale=TINY, progress=lambda text: turns.append(text[-1])
    )

    assert turns == ["a", "b", "c", "b", "c", "a"]
    assert [len(suite.values(report, "timeout", name)) for name in "abc"] == [2, 2, 2]
    assert suite.failures(report) == []


def test_an_entrant_that_fails_is_left_out_and_named(tmp_path: Path) -> None:
    """Its last words are in the report, it is not asked again, and the others have their figures."""
    (tmp_path / "coro.py").write_text("raise ImportError('this one is broken')")
    turns: list[str] = []
    runners = [suite.Runner("coro", "coro", {"PYTHONPATH": str(tmp_path)}), suite.Runner("asyncio", "asyncio")]

    report = suite.measure(
        chosen(["timeout"]), lambda cell: runners, rounds=2, scale=TINY, progress=lambda text: turns.append(text)
    )

    assert suite.failures(report) == ["timeout: coro: ImportError: this one is broken"]
    assert len(turns) == 3
    assert len(suite.values(report, "timeout", "asyncio")) == 2
    assert "failed: timeout: coro: ImportError: this one is broken" in tables.markdown(report)
    assert "| failed |" in tables.markdown(report)


@ON_LINUX
def test_a_run_that_takes_too_long_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The servers of a run that is broken off end with it."""
    monkeypatch.setattr(suite, "LONGEST_RUN", 1.0)
    mark = f"CORO_TEST_MARK={os.urandom(8).hex()}"
    name, _, value = mark.partition("=")
    seen: set[str] = set()

    def marked() -> set[str]:
        found = set()
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                state = (path / "stat").read_text().rpartition(")")[2].split()[0]
                if state != "Z" and mark.encode() in (path / "environ").read_bytes().split(b"\0"):
                    found.add(path.name)
        return found

    def watch() -> None:
        while not stop.wait(0.02):
            seen.update(marked())

    stop = threading.Event()
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with pytest.raises(RuntimeError, match="no result after 1 s"):
            suite.run_once(suite.Runner("coro", "asyncio", {name: value}), CELLS["tcp_1_64"], 100.0)
    finally:
        stop.set()
        watcher.join()

    assert len(seen) >= 2, "the server had not begun"
    for _ in range(500):
        left = marked()  # the system takes a moment to end what was killed
        if not left:
            break
        threading.Event().wait(0.01)
    assert not left


def test_who_is_missing_is_said() -> None:
    """The reason is in the report and at the foot of the table."""
    report = report_of({"timeout": {"coro": [1.0]}}, missing={"trio": "trio is not installed"})

    assert "- *trio* did not take part: trio is not installed." in tables.markdown(report)
    assert all(entrant in ENTRANTS for entrant in missing())


# -- statistics ------------------------------------------------------------------------------------------------------


def test_quartiles() -> None:
    """The middle one, and those a quarter of the way from either end; one value is all three."""
    assert stats.quartiles([5, 1, 4, 2, 3]) == (3, 2, 4)
    assert stats.quartiles([7]) == (7, 7, 7)
    with pytest.raises(ValueError, match="no values"):
        stats.quartiles([])


def test_ratios_are_taken_inside_a_round() -> None:
    """A round in which everything took twice as long changes nothing; a round that is missing is an error."""
    assert stats.ratios([1, 2, 4], [2, 4, 8]) == [0.5, 0.5, 0.5]
    with pytest.raises(ValueError, match="zip"):
        stats.ratios([1, 2], [1])


def test_confidence() -> None:
    """n rounds that agree reach 1 - 2 / 2**n, rounds that cancel out reach 0, and the direction does not matter."""
    assert stats.confidence([1.1] * 7) == 1 - 2 / 2**7
    assert stats.confidence([0.9] * 7) == 1 - 2 / 2**7
    assert stats.confidence([2, 0.5]) == 0
    assert stats.confidence([1.0] * 8) == 0
    assert stats.confidence([1.1] * 20) > 0.999
    assert stats.confidence([1.1, 0.9] * 10) < 0.9
    # 2**3 ways; the sum of the logarithms is as far from 0 in the two extreme ones only
    assert stats.confidence([2, 4, 8]) == 1 - 2 / 8


def test_a_difference_must_be_sure_and_more_than_two_per_cent() -> None:
    """Else nothing is said."""
    assert compare.judge([1.05] * 11) == "slower"
    assert compare.judge([0.95] * 11) == "faster"
    assert compare.judge([1.01] * 11) == ""
    assert compare.judge([1.5] * 5) == ""
    assert compare.judge([1.3, 0.8] * 5) == ""


# -- tables ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (4.904e-7, "s", "490 ns"),
        (1.5e-5, "s", "15 µs"),
        (0.0123, "s", "12.3 ms"),
        (2.5, "s", "2.5 s"),
        (6545.4, "bytes", "6,545 bytes"),
        (1.039, "x", "1.04x"),
    ],
)
def test_amounts(value: float, unit: str, text: str) -> None:
    """A figure is shown with three digits and its unit."""
    assert tables.amount(value, unit) == text


def test_targets_go_by_the_version_of_python(tmp_path: Path) -> None:
    """One that is not named takes the newest that is older; one that is older than all takes the oldest."""
    path = tmp_path / "targets.toml"
    path.write_text('[a]\np = {"3.11" = 1.0, "3.13" = 2.0}\nq = 3.0\n[a.cpu]\np = 4.0\n')

    for python, expected in (("3.10.1", 1), ("3.11.7", 1), ("3.12.0", 1), ("3.13.0", 2), ("3.14.1", 2)):
        assert tables.targets(python, path) == {("a", "value"): {"p": expected, "q": 3}, ("a", "cpu"): {"p": 4}}


def test_each_target_is_for_a_cell_and_an_entrant_of_it() -> None:
    """A slip of the pen in the file would never be judged."""
    for (cell, metric), peers in tables.targets("3.13.0").items():
        assert cell in CELLS
        assert metric in tables.METRICS
        assert set(peers) <= {*CELLS[cell].entrants, "own"}


def test_verdicts() -> None:
    """Met, close if only the noise decides, else missed."""
    assert tables.verdict(stats.Quartiles(0.5, 0.4, 0.6), 0.5) == "met"
    assert tables.verdict(stats.Quartiles(0.5, 0.4, 0.6), 0.45) == "close"
    assert tables.verdict(stats.Quartiles(0.5, 0.4, 0.6), 0.39) == "**missed**"


def test_the_table_shows_ratio_quartiles_and_verdict() -> None:
    """Our time, and for each peer the median of the ratios inside the rounds."""
    report = report_of({"timeout": {"coro": [1e-6, 2e-6, 3e-6], "gevent": [1e-5, 1e-5, 3e-5], "trio": [1e-6] * 3}})

    assert tables.table(report, "Time").splitlines() == [
        "|  | coro | coro / gevent | coro / trio | target |",
        "|---|---|---|---|---|",
        "| a trivial call under a timeout | 2 µs | **0.10** [0.10, 0.15] | **2.00** [1.50, 2.50] | gevent 0.12: met |",
    ]
    assert tables.markdown(report).endswith("Of 1 targets 1 are met, 0 are close, 0 are missed.\n")


def test_figures_of_a_scaled_run_are_not_judged() -> None:
    """They mean nothing, and the report says so."""
    report = report_of({"timeout": {"coro": [1e-6], "gevent": [1e-5]}}, scale=0.1)

    assert tables.judged(report) == []
    assert "the figures mean nothing" in tables.markdown(report)


def test_growth_is_shown_for_each_and_not_as_a_ratio() -> None:
    """And our own is judged."""
    run = {"value": 1.5, "curve": {"100": 1e-6, "1000": 1.5e-6}}
    report = report_of({"growth_switch": {"coro": [run], "gevent": [{**run, "value": 3.0}]}})

    assert tables.table(report, "Growth").splitlines()[2] == (
        "| a switch, from 100 to 100,000 coroutines | **1.50** [1.50, 1.50] | **3.00** [3.00, 3.00] | "
        "own 1.2: **missed** |"
    )


@pytest.mark.parametrize(
    ("server", "load", "who"),
    [(0.98, 0.7, "server"), (0.5, 0.95, "load"), (0.95, 0.95, "both"), (0.5, 0.5, "neither"), (None, 0.99, "")],
)
def test_the_bottleneck_is_named(server: float | None, load: float, who: str) -> None:
    """Who was busy for more than nine tenths of the time; nothing where that cannot be seen."""
    assert tables.bottleneck([{"value": 1.0, "server": server, "load": load}] * 3) == who


def test_a_server_has_a_second_line_for_its_cpu_time() -> None:
    """With targets of its own, and the bottleneck in the first one."""
    run = {"value": 1e-5, "cpu": 4e-6, "server": 0.99, "load": 0.5}
    report = report_of({"tcp_1_64": {"coro": [run], "gevent": [{**run, "cpu": 2e-6}]}})

    wall, cpu = tables.table(report, "TCP and UDP").splitlines()[2:]

    assert wall == "| TCP echo, 1 connection, 64 bytes | 10 µs, server | **1.00** [1.00, 1.00], server |  |"
    assert cpu.startswith("| TCP echo, 1 connection, 64 bytes: CPU time of the server | 4 µs | **2.00** [2.00, 2.00] |")
    assert cpu.endswith(" | gevent 1: **missed** |")


# -- pictures --------------------------------------------------------------------------------------------------------


def sample_report() -> suite.Report:
    curve = {"100": 1e-6, "1000": 2e-6, "10000": 4e-6}
    served = {"value": 1e-5, "cpu": 1e-5, "server": 1.0, "load": 0.5, "latency": [1e-3, 2e-3, 3e-3, 4e-3]}
    return report_of(
        {
            "switch_2": {"coro": [4e-7, 5e-7], "gevent": [1e-6, 2e-6]},
            "tcp_1000_64": {"coro": [served], "c": [{**served, "value": 5e-6}]},
            "growth_switch": {"coro": [{"value": 4.0, "curve": curve}]},
        }
    )


def test_pictures_are_well_formed_and_name_what_they_show() -> None:
    """One for each kind of cell that the report has; a report without any gives none."""
    pictures = plots.pictures(sample_report())

    assert sorted(pictures) == ["echo.svg", "growth.svg", "latency.svg", "operations.svg"]
    for picture in pictures.values():
        root = ElementTree.fromstring(picture)
        words = [element.text for element in root.iter() if element.tag.endswith("text")]
        assert "coro" in words
        assert root.get("viewBox")
    assert plots.pictures(report_of({"import": {"coro": [0.02]}})) == {}


def test_a_bar_is_as_long_as_its_figure() -> None:
    """Twice the throughput is a bar of twice the length."""
    root = ElementTree.fromstring(plots.pictures(sample_report())["echo.svg"])
    bars = {
        element.get("fill"): float(element.get("width") or 0)
        for element in root.iter()
        if element.tag.endswith("rect") and element.get("height") == "9.0"
    }

    assert bars[plots.COLOURS["c"]] == pytest.approx(2 * bars[plots.COLOURS["coro"]], abs=0.2)


def test_axes() -> None:
    """Logarithmic ones have powers of ten around the figures, linear ones round steps from 0."""
    assert plots.ticks(3e-7, 2e-5) == pytest.approx([1e-7, 1e-6, 1e-5, 1e-4])
    assert plots.even_ticks(81_000) == [0, 20_000, 40_000, 60_000, 80_000, 100_000]
    assert plots.position(10, [1, 10, 100], 0, 200) == 100
    assert plots.position(25, [0, 50, 100], 0, 200) == 50


def test_texts_in_pictures_are_escaped() -> None:
    """A title may hold any character."""
    drawing = plots.Drawing("a < b & c")
    drawing.text(0, 0, "<tag>")

    root = ElementTree.fromstring(str(drawing))
    assert [element.text for element in root.iter() if element.tag.endswith("text")] == ["a < b & c", "<tag>"]


def test_every_entrant_has_a_colour_of_its_own() -> None:
    """Those that are drawn."""
    drawn = {entrant for cell in CELLS.values() for entrant in cell.entrants} - {"coro-unwatched"}

    assert set(plots.COLOURS) == drawn
    assert len(set(plots.COLOURS.values())) == len(plots.COLOURS)


def test_a_published_report_can_be_shown_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The table and the pictures follow from report.json alone."""
    plots.publish(sample_report(), tmp_path / "one")

    assert main(["--render", str(tmp_path / "one" / "report.json"), "--output", str(tmp_path / "two")]) == 0

    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == ["echo.svg", "growth.svg", "latency.svg", "operations.svg", "report.json", "table.txt"]
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert capsys.readouterr().out == (tmp_path / "one" / "table.txt").read_text(encoding="utf-8")


PUBLISHED = sorted((ROOT / "docs" / "performance").glob("*/report.json"))


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.parent.name)
def test_the_figures_in_the_documentation_come_from_its_reports(path: Path, tmp_path: Path) -> None:
    """Table and pictures beside a report are what the suite makes of it."""
    plots.publish(json.loads(path.read_text(encoding="utf-8")), tmp_path)

    for made in tmp_path.iterdir():
        assert (path.parent / made.name).read_text(encoding="utf-8") == made.read_text(encoding="utf-8"), made.name
    beside = {there.name for there in path.parent.iterdir()} - {"floors.txt", "profile.txt"}  # of other programs
    assert {made.name for made in tmp_path.iterdir()} == beside


# -- comparing two trees ---------------------------------------------------------------------------------------------


SLOW = """

_quick = yield_slice


def yield_slice() -> None:
    sum(range(2000))
    _quick()
"""


def test_a_tree_that_is_slower_is_found_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Against a copy in which a yield computes for a while, this tree is faster, and says with what confidence."""
    ignored = shutil.ignore_patterns("__pycache__", "dist")
    shutil.copytree(ROOT / "packages", tmp_path / "packages", ignore=ignored)
    with open(tmp_path / "packages" / "coro-core" / "src" / "coro" / "verbs.py", "a", encoding="utf-8") as file:
        file.write(SLOW)

    status = main(["--compare", str(tmp_path), "--cells", "switch_2", "--rounds", "8", "--scale", "0.02"])

    assert status == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("| a switch, 2 runnable"))
    assert line.endswith(f"| {1 - 2 / 2**8:.1%} | faster |")


def test_a_cell_that_became_slower_is_status_1() -> None:
    """And is named; one that became faster or is unsure is not."""
    report = report_of(
        {
            "switch_2": {"coro": [2.0] * 11, "base": [1.0] * 11},
            "timeout": {"coro": [1.0] * 11, "base": [2.0] * 11},
            "semaphore": {"coro": [1.0, 2.0] * 6, "base": [2.0, 1.0] * 6},
        }
    )

    assert compare.slower(report) == ["switch_2"]
    assert compare.table(report).count(" slower |") == 1
    assert compare.table(report).count(" faster |") == 1


def test_a_base_that_does_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    """Status 2, and the reason."""
    assert main(["--compare", "no-such-revision", "--cells", "switch_2", "--rounds", "1"]) == 2
    assert "'no-such-revision' is neither a revision nor a directory with packages/" in capsys.readouterr().out


@pytest.mark.skipif(
    shutil.which("git") is None or not (ROOT / ".git").exists(),
    reason="needs git and a checkout: a revision is taken from there",
)
def test_the_packages_of_a_revision() -> None:
    """They are written elsewhere, are what is imported from there, and are gone afterwards."""
    with compare.packages_of("HEAD") as path:
        code = "import coro, coro_select; print(coro.__file__, coro_select.__file__, sep='\\n')"
        done = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
        )
        files = done.stdout.split()

        assert len(files) == 2, done.stderr
        for file in files:
            assert any(Path(file).is_relative_to(part) for part in path.split(os.pathsep))
            assert not Path(file).is_relative_to(ROOT)
    assert not Path(files[0]).exists()


# -- system calls ----------------------------------------------------------------------------------------------------


def test_calls_are_sorted_by_kind() -> None:
    """A call that another thread has interrupted counts once, and only EAGAIN of a transfer counts as that."""
    log = """\
7 recvfrom(8, "x", 65536, 0, NULL, NULL) = 1
7 recvfrom(8, 0x1, 65536, 0, NULL, NULL) = -1 EAGAIN (Resource temporarily unavailable)
7 sendto(8, "x", 1, 0, NULL, 0 <unfinished ...>
8 futex(0x1, FUTEX_WAIT) = -1 EAGAIN (Resource temporarily unavailable)
7 <... sendto resumed>) = -1 EAGAIN (Resource temporarily unavailable)
7 epoll_wait(3, [], 64, 0) = 0
7 epoll_ctl(3, EPOLL_CTL_ADD, 8, {}) = 0
"""
    assert syscalls.counted(log) == {"recv": 2, "send": 1, "wait": 1, "epoll_ctl": 1, "EAGAIN": 2, "other": 1}


def can_trace() -> bool:
    strace = shutil.which("strace")
    return (
        strace is not None and subprocess.run([strace, "-o", os.devnull, "true"], capture_output=True).returncode == 0
    )


@pytest.mark.skipif(
    not can_trace(), reason="system calls are counted by strace, which is not installed or may not trace"
)
def test_an_echo_costs_one_recv_and_one_send(poller: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over each poller: no call that fails with EAGAIN, and no change of what epoll watches, in the steady state."""
    monkeypatch.setattr(syscalls, "REQUESTS", (100, 600))

    found = syscalls.per_request("coro", poller)

    assert found["recv"] == pytest.approx(1, abs=0.1)
    assert found["send"] == pytest.approx(1, abs=0.1)
    assert abs(found["EAGAIN"]) < 0.1
    assert abs(found["epoll_ctl"]) < 0.1


# -- in whose code the time goes -------------------------------------------------------------------------------------


def test_the_parts_of_a_profile() -> None:
    """Shared objects are sorted by whose they are; comments are left out."""
    report = """\
# Overhead;Shared Object
 61.50%;[kernel.kallsyms]
  0.25%;[vdso]
  0.25%;[nf_conntrack]
 20.00%;libpython3.11.so.1.0
 10.25%;libc.so.6
  3.00%;_greenlet.cpython-311-x86_64-linux-gnu.so
  2.00%;_socket.cpython-311-x86_64-linux-gnu.so
  1.00%;select.cpython-311-x86_64-linux-gnu.so
  1.00%;loop.cpython-311-x86_64-linux-gnu.so
  0.50%;libcrypto.so.3
  0.25%;[unknown]

"""
    assert profile.parted(report) == pytest.approx(
        {
            "the system": 0.62,
            "the interpreter": 0.2,
            "the C library": 0.1025,
            "greenlet": 0.03,
            "modules of the standard library": 0.03,
            "compiled code of the library": 0.015,
            "unknown": 0.0025,
        }
    )


def can_profile() -> bool:
    try:
        profile.perf("record", "-q", "-e", "cpu-clock:k", "-o", os.devnull, "--", "true")
    except RuntimeError:
        return False
    return True


@pytest.mark.skipif(not can_profile(), reason="profiles are made by perf, which is not installed or may not look")
def test_most_of_an_echo_is_spent_in_the_system() -> None:
    """The shares make a whole, and belong to a server that has answered."""
    spent, parts = profile.profile("coro", 10, seconds=1.0)

    assert 1e-6 < spent < 1e-3
    assert sum(parts.values()) == pytest.approx(1, abs=0.02)
    assert parts["the system"] > parts["the interpreter"] > 0


def test_a_profile_that_cannot_be_made_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """In perf's own words, or that there is none."""
    monkeypatch.setenv("PATH", os.devnull)

    with pytest.raises(RuntimeError, match="perf is not installed"):
        profile.perf("--version")


# -- floors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", floors.STEPS)
def test_each_step_of_a_floor_runs(step: str) -> None:
    """In a process of its own, which prints how long one operation takes, or how many bytes."""
    if step.endswith("-gevent"):
        pytest.importorskip("gevent", reason="the last step is gevent, which is not installed")
    if step.startswith("echo-") and not sys.platform.startswith("linux"):
        pytest.skip("the floors of an echo stand on epoll, and on what Linux tells of a process")
    command = [sys.executable, "-m", "benchmarks.floors", "--times", "100", "--step", step]

    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)

    assert done.returncode == 0, done.stderr
    if floors.is_memory(step):
        assert 1000 < float(done.stdout) < 100_000
    else:
        assert 0 < float(done.stdout) < 0.1


@pytest.mark.parametrize("yields", [least.give_way, least.give_way_fairly])
def test_a_step_uses_what_it_is_given(yields: Callable[[], None]) -> None:
    """Each step of a switch yields in its own way, and behind all others where it says so."""
    calls: list[None] = []
    scheduler = least.Scheduler()

    def counted() -> None:
        calls.append(None)
        yields()

    least.yield_in_turn(10, scheduler, counted)

    assert len(calls) == 10


def test_the_table_of_a_floor() -> None:
    """A line for each step, with the share of what gevent takes, round by round."""
    title, steps = next(iter(floors.OPERATIONS.items()))
    times = {name: [1e-7 * number, 2e-7 * number] for number, name in enumerate(steps, 1)}

    lines = floors.table(title, times).splitlines()

    assert len(lines) == 2 + len(steps)
    assert lines[2] == "| greenlet.switch, nothing else | 150 ns | **0.14** [0.14, 0.14] |"
    assert lines[-1] == "| gevent.sleep(0) | 1.05 µs | **1.00** [1.00, 1.00] |"


# -- the command line ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--cells", "nothing"], "no cell is called 'nothing'"),
        (["--peers", "twisted"], "invalid choice: 'twisted'"),
        (["--rounds", "0"], "--rounds must be at least 1"),
        (["--scale", "0"], "--scale must be above 0"),
        (["--scale", "2"], "--scale must be above 0, and at most 1"),
    ],
)
def test_wrong_arguments_are_refused(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is run."""
    with pytest.raises(SystemExit, match="2"):
        parse(arguments)
    assert words in capsys.readouterr().err


def test_a_run_prints_the_table_and_writes_the_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only the peers that were asked for take part."""
    status = main(
        ["--cells", "switch_2", "--peers", "asyncio", "--rounds", "1", "--scale", "0.01", "--output", str(tmp_path)]
    )

    assert status == 0
    out = capsys.readouterr().out
    assert "|  | coro | coro / asyncio | target |" in out
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert set(report["cells"]["switch_2"]["runs"]) == {"coro", "asyncio"}
    assert (tmp_path / "table.txt").read_text(encoding="utf-8") == out


def test_the_cells_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """With their titles and those who take part."""
    assert main(["--list", "--cells", "switch_*"]) == 0
    assert f"a switch, 2 runnable ({', '.join(COROUTINES)})" in capsys.readouterr().out
