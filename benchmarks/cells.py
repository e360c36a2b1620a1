"""What is measured, and for whom.  A cell is one line of the tables; an entrant is one column."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

#: What an entrant needs to be installed; "" for nothing.
ENTRANTS = {
    "coro": "coro",
    "coro-select": "coro_select",
    "coro-unwatched": "coro",
    "gevent": "gevent",
    "eventlet": "eventlet",
    "asyncio": "",
    "asyncio-protocol": "",
    "uvloop": "uvloop",
    "uvloop-protocol": "uvloop",
    "trio": "trio",
    "threads": "",
    "greenlet": "greenlet",
    "c": "",
}

LEGEND = {
    "coro-select": "coro over its poller for any platform instead of the best one for this",
    "coro-unwatched": "coro without latency warnings",
    "asyncio-protocol": "asyncio with callbacks (a Protocol) instead of streams",
    "uvloop-protocol": "uvloop with callbacks (a Protocol) instead of streams",
    "threads": "a thread of the system for each coroutine or connection",
    "greenlet": "fifty lines on greenlet and epoll, which do nothing but echo: the floor of this way in Python",
    "c": "a server in C on epoll, which does nothing but echo: the floor",
}

COROUTINES = ("coro", "gevent", "eventlet", "asyncio", "uvloop", "trio")
JOINABLE = ("coro", "gevent", "eventlet", "asyncio", "uvloop")
WITH_THREADS = (*COROUTINES, "threads")
SERVERS = (
    "coro",
    "coro-select",
    "gevent",
    "eventlet",
    "asyncio",
    "asyncio-protocol",
    "uvloop",
    "uvloop-protocol",
    "trio",
    "threads",
    "greenlet",
    "c",
)
PROTOCOLS = ("asyncio-protocol", "uvloop-protocol")


@dataclass(frozen=True)
class Cell:
    """One thing to measure.

    Attributes:
        name: what the command line calls it.
        title: what the tables call it.
        program: a function of ``programs/``, or "echo" or "startup", which need more processes than one.
        entrants: who takes part.
        sizes: the arguments of the program; numbers are shrunk by ``--scale``.
        unit: "s" (seconds per operation), "bytes" or "x" (the last of a curve over its first).
        repeats: the best of so many counts, after one run to warm up if *warm*.
        group: the heading above it.
    """

    name: str
    title: str
    program: str
    entrants: tuple[str, ...]
    sizes: dict[str, Any]
    unit: str = "s"
    repeats: int = 3
    warm: bool = True
    group: str = ""

    def scaled(self, scale: float) -> dict[str, Any]:
        """The sizes, shrunk by *scale*."""
        return {key: shrunk(value, scale) for key, value in self.sizes.items()}


def shrunk(value: Any, scale: float) -> Any:
    """Shrink a number, and the numbers in a list or dict: counts to no less than 1, seconds (floats) to what comes."""
    if isinstance(value, dict):
        return {key: shrunk(one, scale) for key, one in value.items()}
    if isinstance(value, list):
        return sorted({shrunk(one, scale) for one in value})
    if isinstance(value, float):
        return value * scale
    if isinstance(value, bool) or not isinstance(value, int) or value <= 1:
        return value
    return max(1, int(value * scale))


def once(
    name: str, title: str, program: str, entrants: tuple[str, ...], sizes: dict[str, Any], unit: str = "s"
) -> Cell:
    """A cell that is run once in a process: it measures what happens the first time, or is slow."""
    return Cell(name, title, program, entrants, sizes, unit, repeats=1, warm=False)


def echo(name: str, title: str, kind: str, connections: int, size: int, *without: str) -> Cell:
    """A cell that measures echo servers, for all of them but those that are named."""
    sizes = {"kind": kind, "connections": connections, "size": size, "seconds": 2.0 if connections > 1000 else 0.5}
    return once(name, title, "echo", tuple(entrant for entrant in SERVERS if entrant not in without), sizes)


def growth(name: str, title: str, operation: str, sizes: dict[str, Any]) -> Cell:
    """A cell that measures an operation while ever more coroutines sleep."""
    levels = [100, 1000, 10_000, 100_000]
    return once(name, title, "growth", COROUTINES, {"operation": operation, "sizes": sizes, "levels": levels}, "x")


GROUPS: dict[str, list[Cell]] = {
    "Switching and spawning": [
        Cell("switch_2", "a switch, 2 runnable", "switch", COROUTINES, {"width": 2, "times": 50_000}),
        Cell("switch_1000", "a switch, 1,000 runnable", "switch", COROUTINES, {"width": 1000, "times": 100}),
        Cell("spawn_1", "spawn and finish, one at a time", "spawn", WITH_THREADS, {"width": 1, "times": 5000}),
        Cell("spawn_100", "spawn and finish, batches of 100", "spawn", WITH_THREADS, {"width": 100, "times": 200}),
        Cell("spawn_100000", "spawn and finish, 100,000 at once", "spawn", COROUTINES, {"width": 100_000, "times": 1}),
        Cell(
            "spawn_yield_1",
            "spawn, yield, finish: one at a time",
            "spawn",
            COROUTINES,
            {"width": 1, "times": 5000, "yields": True},
        ),
        Cell(
            "spawn_yield_100",
            "spawn, yield, finish: batches of 100",
            "spawn",
            COROUTINES,
            {"width": 100, "times": 200, "yields": True},
        ),
        Cell(
            "spawn_yield_10000",
            "spawn, yield, finish: 10,000 at once",
            "spawn",
            COROUTINES,
            {"width": 10_000, "times": 1, "yields": True},
        ),
        once(
            "spawn_yield_10000_first",
            "the same, the first 10,000 of the process",
            "spawn",
            COROUTINES,
            {"width": 10_000, "times": 1, "yields": True},
        ),
        Cell("join_1000", "1,000 join one", "join", (*JOINABLE, "threads"), {"width": 1000, "times": 10}),
    ],
    "Time": [
        Cell(
            "sleep_10000",
            "a sleep of 1 ms, 10,000 at once (CPU time)",
            "sleep",
            COROUTINES,
            {"width": 10_000, "times": 3},
        ),
        Cell("timeout", "a trivial call under a timeout", "timeout", COROUTINES, {"times": 20_000}),
        Cell(
            "timeout_10000",
            "a trivial call under a timeout, 10,000 others pending",
            "timeout",
            COROUTINES,
            {"times": 20_000, "pending": 10_000},
        ),
        Cell(
            "timeout_block",
            "a call that yields under a timeout",
            "timeout",
            COROUTINES,
            {"times": 20_000, "blocks": True},
        ),
    ],
    "Synchronization": [
        Cell("semaphore", "a hand-over through a semaphore", "semaphore", WITH_THREADS, {"times": 10_000}),
        Cell("mutex", "lock, yield, unlock; 10 compete", "mutex", WITH_THREADS, {"width": 10, "times": 1000}),
        Cell("condition", "a hand-over through a condition", "condition", WITH_THREADS, {"times": 5000}),
        Cell("event_1000", "an event that wakes 1,000, each", "event", WITH_THREADS, {"width": 1000, "times": 10}),
        Cell("queue_1", "an item through a queue of 1", "queue", WITH_THREADS, {"size": 1, "times": 20_000}),
        Cell("queue_100", "an item through a queue of 100", "queue", WITH_THREADS, {"size": 100, "times": 100_000}),
    ],
    "TCP and UDP": [
        echo("tcp_1_64", "TCP echo, 1 connection, 64 bytes", "tcp", 1, 64),
        echo("tcp_100_64", "TCP echo, 100 connections, 64 bytes", "tcp", 100, 64),
        echo("tcp_1000_64", "TCP echo, 1,000 connections, 64 bytes", "tcp", 1000, 64),
        echo("tcp_10000_64", "TCP echo, 10,000 connections, 64 bytes", "tcp", 10_000, 64, "threads", "coro-select"),
        echo("tcp_1_16384", "TCP echo, 1 connection, 16 KiB", "tcp", 1, 16_384),
        echo("tcp_100_16384", "TCP echo, 100 connections, 16 KiB", "tcp", 100, 16_384),
        echo("tcp_1000_16384", "TCP echo, 1,000 connections, 16 KiB", "tcp", 1000, 16_384),
        echo("accept", "accept, one echo, close; 100 at once", "accept", 100, 64, "greenlet"),
        echo("udp_100_64", "UDP echo, 100 clients, 64 bytes", "udp", 100, 64, *PROTOCOLS, "greenlet"),
        echo("tls_100_64", "TLS echo, 100 connections, 64 bytes", "tls", 100, 64, "coro-select", "greenlet", "c"),
        echo("tls_100_16384", "TLS echo, 100 connections, 16 KiB", "tls", 100, 16_384, "coro-select", "greenlet", "c"),
        Cell(
            "wait_1000",
            "a byte there and back over one of 1,000 socket pairs",
            "wait_for_one_of",
            (*COROUTINES, "coro-select"),
            {"width": 1000, "times": 5000},
        ),
    ],
    "Memory": [
        once(
            "memory_sleep", "a coroutine that sleeps, of 10,000", "memory_sleep", COROUTINES, {"width": 10_000}, "bytes"
        ),
        once(
            "memory_sleep_100000",
            "a coroutine that sleeps, of 100,000",
            "memory_sleep",
            COROUTINES,
            {"width": 100_000},
            "bytes",
        ),
        once(
            "memory_recv", "a coroutine that receives, of 10,000", "memory_recv", COROUTINES, {"width": 10_000}, "bytes"
        ),
    ],
    "Growth": [
        growth("growth_switch", "a switch, from 100 to 100,000 coroutines", "switch", {"width": 2, "times": 10_000}),
        growth("growth_spawn", "spawn and finish, from 100 to 100,000", "spawn", {"width": 100, "times": 50}),
        growth("growth_timeout", "a timeout, from 100 to 100,000", "timeout", {"times": 10_000, "blocks": True}),
        once(
            "growth_connections",
            "TCP echo, 100 connections and up to 9,900 idle",
            "echo",
            tuple(entrant for entrant in SERVERS if entrant not in (*PROTOCOLS, "coro-select", "threads")),
            {"kind": "tcp", "connections": 100, "size": 64, "seconds": 0.2, "idle": [0, 900, 9900]},
            "x",
        ),
    ],
    "Beginning": [
        once("import", "import, over a bare Python", "startup", COROUTINES, {"loop": False, "times": 5}),
        once(
            "first_loop",
            "import and a first loop, over a bare Python",
            "startup",
            COROUTINES,
            {"loop": True, "times": 5},
        ),
    ],
    "What observing costs": [
        Cell(
            "latency_warnings",
            "a switch, 2 runnable, with latency warnings",
            "switch",
            ("coro", "coro-unwatched"),
            {"width": 2, "times": 50_000},
        ),
    ],
}

CELLS = {cell.name: replace(cell, group=heading) for heading, cells in GROUPS.items() for cell in cells}


def chosen(patterns: list[str]) -> list[Cell]:
    """The cells whose names match one of the patterns (``tcp_*``), in order.  ValueError for one that matches none."""
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in CELLS):
            raise ValueError(f"no cell is called {pattern!r}; there are {', '.join(CELLS)}")
    return [cell for name, cell in CELLS.items() if any(fnmatchcase(name, pattern) for pattern in patterns)]


def missing() -> dict[str, str]:
    """The entrants that cannot take part here, and why."""
    return dict(_missing())


def _missing() -> Iterator[tuple[str, str]]:
    for name, module in ENTRANTS.items():
        if module and importlib.util.find_spec(module) is None:
            yield name, f"{module} is not installed"
    if not sys.platform.startswith("linux"):
        yield "greenlet", "that server uses epoll, which Linux has"
        yield "c", "the C server uses epoll, which Linux has"
    elif shutil.which("cc") is None:
        yield "c", "there is no C compiler (cc)"
