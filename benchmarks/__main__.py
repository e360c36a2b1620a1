"""The command line of the benchmark suite: ``python -m benchmarks --help``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from . import suite, tables
from .cells import CELLS, ENTRANTS, Cell, chosen, missing

DESCRIPTION = """\
Measure what coro costs, beside every peer that is installed.

    python -m benchmarks                                every cell (an hour or so)
    python -m benchmarks --cells switch_2 'tcp_*'       some
    python -m benchmarks --peers gevent --rounds 3      coro against gevent only, three rounds
    python -m benchmarks --output results               also results/report.json, table.txt and the plots
    python -m benchmarks --compare HEAD --cells timeout is the tree slower than the last commit?

Machines are noisy, so an absolute time means little.  Each round runs every library once, each in a process of its
own, in rotated order; the ratio is taken inside a round, and what is printed is the median of the rounds with its
quartiles.  Below 1 coro takes less.  Run it on a machine that does nothing else.
"""


def show(text: str) -> None:
    """Show where we are, where somebody looks."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--cells", nargs="+", default=["*"], metavar="CELL", help="names of cells, or patterns like 'tcp_*'")
    add("--peers", nargs="+", choices=[name for name in ENTRANTS if name != tables.US], help="compare with these only")
    add("--rounds", type=int, help="how many interleaved rounds (default 7, with --compare 11)")
    add("--scale", type=float, default=1.0, help="shrink everything by this, to try the suite out")
    add("--output", type=Path, metavar="DIR", help="write report.json, table.txt and plots there")
    add("--render", type=Path, metavar="FILE", help="measure nothing; show that report.json again")
    add("--compare", metavar="BASE", help="compare with a git revision, or another checkout, instead of the peers")
    add("--list", action="store_true", help="list the cells and who is missing")
    args = parser.parse_args(arguments)
    try:
        args.cells = chosen(args.cells)
    except ValueError as exc:
        parser.error(str(exc))
    if args.rounds is not None and args.rounds < 1:
        parser.error("--rounds must be at least 1")
    if not 0 < args.scale <= 1:
        parser.error("--scale must be above 0, and at most 1")
    return args


def list_cells(cells: list[Cell]) -> None:
    width = max(map(len, CELLS))
    for cell in cells:
        print(f"{cell.name:{width}}  {cell.title} ({', '.join(cell.entrants)})")
    for name, why in missing().items():
        print(f"{name} cannot take part: {why}")


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says, and return the status: 1 if something failed or became slower."""
    args = parse(arguments)
    if args.list:
        list_cells(args.cells)
        return 0
    if args.compare:
        from . import compare

        return compare.main(args.compare, args.cells, args.rounds or 11, args.scale, args.output, show)
    if args.render:
        report = json.loads(args.render.read_text(encoding="utf-8"))
    else:
        absent = missing()

        def runners(cell: Cell) -> list[suite.Runner]:
            peers = [name for name in cell.entrants if args.peers is None or name in (tables.US, *args.peers)]
            return [suite.Runner(name, name) for name in peers if name not in absent]

        report = suite.measure(
            args.cells, runners, rounds=args.rounds or 7, scale=args.scale, missing=absent, progress=show
        )
        show("")
    print(tables.markdown(report), end="")
    if args.output:
        from . import plots

        plots.publish(report, args.output)
    return 1 if suite.failures(report) else 0


if __name__ == "__main__":
    sys.exit(main())
