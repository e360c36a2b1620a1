"""What the basic operations cost, side by side: coro, gevent, eventlet, asyncio, uvloop and trio.

    python benchmarks/micro.py                     every library that is installed, every cell, 7 rounds
    python benchmarks/micro.py --cells switch_2    one cell
    python benchmarks/micro.py --peers gevent      coro against gevent only

Machines are noisy, so an absolute time means little.  Each round runs every library once, each in a process of its
own, in rotated order; the ratio to coro is taken inside a round, and what is printed is the median of the rounds with
its quartiles.  Below 1 coro takes less time.  A cell checks its own result: one that computes the wrong thing fails.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

CELLS = {
    "switch_2": "a switch, 2 runnable",
    "switch_1000": "a switch, 1,000 runnable",
    "spawn_100": "spawn and finish, batches of 100",
    "spawn_yield_10000": "spawn, yield, finish: 10,000 at once",
    "timeout": "a trivial call under a timeout",
    "timeout_block": "a call that yields under a timeout",
    "sleep_10000": "a sleep of 1 ms, 10,000 at once (CPU time)",
}
LIBRARIES = ["coro", "gevent", "eventlet", "asyncio", "uvloop", "trio"]

Cells = dict[str, Callable[[], float]]


def nothing() -> None:
    pass


class Counter:
    """Counts what really happened, so that a cell cannot be fast by doing nothing."""

    def __init__(self) -> None:
        self.count = 0

    def check(self, expected: int) -> None:
        assert self.count == expected, (self.count, expected)


def threadlike(
    spawn: Callable[..., object],
    join_all: Callable[[list[object]], None],
    give_way: Callable[[], object],
    sleep: Callable[[float], object],
    with_timeout: Callable[..., object],
) -> Cells:
    """The cells for libraries whose coroutines look like threads."""

    def switch(count: int) -> float:
        each, done = 100_000 // count, Counter()

        def body() -> None:
            for _ in range(each):
                give_way()
            done.count += each

        tasks = [spawn(body) for _ in range(count)]
        begin = time.perf_counter()
        join_all(tasks)
        spent = time.perf_counter() - begin
        done.check(each * count)
        return spent / (each * count)

    def spawn_100() -> float:
        done = Counter()

        def body() -> None:
            done.count += 1

        begin = time.perf_counter()
        for _ in range(200):
            join_all([spawn(body) for _ in range(100)])
        spent = time.perf_counter() - begin
        done.check(20_000)
        return spent / 20_000

    def spawn_yield() -> float:
        done = Counter()

        def body() -> None:
            give_way()
            done.count += 1

        begin = time.perf_counter()
        join_all([spawn(body) for _ in range(10_000)])
        spent = time.perf_counter() - begin
        done.check(10_000)
        return spent / 10_000

    def timeout(function: Callable[[], object]) -> float:
        begin = time.perf_counter()
        for _ in range(20_000):
            with_timeout(30, function)
        return (time.perf_counter() - begin) / 20_000

    def sleep_10000() -> float:
        done = Counter()

        def body() -> None:
            for _ in range(3):
                sleep(0.001)
            done.count += 3

        begin = time.process_time()
        join_all([spawn(body) for _ in range(10_000)])
        spent = time.process_time() - begin
        done.check(30_000)
        return spent / 30_000

    return {
        "switch_2": lambda: switch(2),
        "switch_1000": lambda: switch(1000),
        "spawn_100": spawn_100,
        "spawn_yield_10000": spawn_yield,
        "timeout": lambda: timeout(nothing),
        "timeout_block": lambda: timeout(give_way),
        "sleep_10000": sleep_10000,
    }


def measure(cells: Cells, names: list[str]) -> dict[str, float]:
    """Run each cell three times after one to warm up, and keep the best."""
    results = {}
    for name in names:
        gc.collect()
        cells[name]()
        results[name] = min(cells[name]() for _ in range(3))
    return results


def run_coro(names: list[str]) -> dict[str, float]:
    import coro

    def join_all(tasks: list[coro.coro]) -> None:
        for task in tasks:
            task.join()

    cells = threadlike(
        coro.spawn,
        join_all,
        coro.yield_slice,
        coro.sleep_relative,
        coro.with_timeout,  # type: ignore[arg-type]
    )
    return coro.run(measure, cells, names)


def run_gevent(names: list[str]) -> dict[str, float]:
    import gevent

    return measure(
        threadlike(gevent.spawn, gevent.joinall, lambda: gevent.sleep(0), gevent.sleep, gevent.with_timeout), names
    )


def run_eventlet(names: list[str]) -> dict[str, float]:
    import warnings

    warnings.simplefilter("ignore")
    import eventlet

    def join_all(tasks: list[eventlet.GreenThread]) -> None:
        for task in tasks:
            task.wait()

    return measure(threadlike(eventlet.spawn, join_all, eventlet.sleep, eventlet.sleep, eventlet.with_timeout), names)


def run_asyncio(names: list[str], runner: Callable[..., object] | None = None) -> dict[str, float]:
    import asyncio

    async def main() -> dict[str, float]:
        async def coroutine_nothing() -> None:
            pass

        async def switch(count: int) -> float:
            each, done = 100_000 // count, Counter()

            async def body() -> None:
                for _ in range(each):
                    await asyncio.sleep(0)
                done.count += each

            tasks = [asyncio.create_task(body()) for _ in range(count)]
            begin = time.perf_counter()
            await asyncio.gather(*tasks)
            spent = time.perf_counter() - begin
            done.check(each * count)
            return spent / (each * count)

        async def spawn_100() -> float:
            done = Counter()

            async def body() -> None:
                done.count += 1

            begin = time.perf_counter()
            for _ in range(200):
                for task in [asyncio.create_task(body()) for _ in range(100)]:
                    await task
            spent = time.perf_counter() - begin
            done.check(20_000)
            return spent / 20_000

        async def spawn_yield() -> float:
            done = Counter()

            async def body() -> None:
                await asyncio.sleep(0)
                done.count += 1

            begin = time.perf_counter()
            for task in [asyncio.create_task(body()) for _ in range(10_000)]:
                await task
            spent = time.perf_counter() - begin
            done.check(10_000)
            return spent / 10_000

        async def timeout(function: Callable[..., object], *args: object) -> float:
            begin = time.perf_counter()
            for _ in range(20_000):
                async with asyncio.timeout(30):
                    await function(*args)  # type: ignore[misc]
            return (time.perf_counter() - begin) / 20_000

        async def sleep_10000() -> float:
            done = Counter()

            async def body() -> None:
                for _ in range(3):
                    await asyncio.sleep(0.001)
                done.count += 3

            begin = time.process_time()
            await asyncio.gather(*[asyncio.create_task(body()) for _ in range(10_000)])
            spent = time.process_time() - begin
            done.check(30_000)
            return spent / 30_000

        cells = {
            "switch_2": lambda: switch(2),
            "switch_1000": lambda: switch(1000),
            "spawn_100": spawn_100,
            "spawn_yield_10000": spawn_yield,
            "timeout": lambda: timeout(coroutine_nothing),
            "timeout_block": lambda: timeout(asyncio.sleep, 0),
            "sleep_10000": sleep_10000,
        }
        results = {}
        for name in names:
            gc.collect()
            await cells[name]()
            results[name] = min([await cells[name]() for _ in range(3)])
        return results

    return (runner or asyncio.run)(main())  # type: ignore[return-value]


def run_uvloop(names: list[str]) -> dict[str, float]:
    import uvloop

    return run_asyncio(names, uvloop.run)


def run_trio(names: list[str]) -> dict[str, float]:
    import trio

    async def all_of(count: int, body: Callable[..., object]) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(body)

    async def main() -> dict[str, float]:
        async def coroutine_nothing() -> None:
            pass

        async def many(count: int, each: int, rounds: int, step: Callable[[], object], cpu: bool = False) -> float:
            done = Counter()

            async def body() -> None:
                for _ in range(each):
                    await step()  # type: ignore[misc]
                done.count += 1

            clock = time.process_time if cpu else time.perf_counter
            begin = clock()
            for _ in range(rounds):
                await all_of(count, body)
            spent = clock() - begin
            done.check(count * rounds)
            return spent / (count * rounds * max(each, 1))

        async def timeout(function: Callable[[], object]) -> float:
            begin = time.perf_counter()
            for _ in range(20_000):
                with trio.fail_after(30):
                    await function()  # type: ignore[misc]
            return (time.perf_counter() - begin) / 20_000

        cells = {
            "switch_2": lambda: many(2, 50_000, 1, lambda: trio.sleep(0)),
            "switch_1000": lambda: many(1000, 100, 1, lambda: trio.sleep(0)),
            "spawn_100": lambda: many(100, 0, 200, lambda: None),
            "spawn_yield_10000": lambda: many(10_000, 1, 1, lambda: trio.sleep(0)),
            "timeout": lambda: timeout(coroutine_nothing),
            "timeout_block": lambda: timeout(lambda: trio.sleep(0)),
            "sleep_10000": lambda: many(10_000, 3, 1, lambda: trio.sleep(0.001), cpu=True),
        }
        results = {}
        for name in names:
            gc.collect()
            await cells[name]()
            results[name] = min([await cells[name]() for _ in range(3)])
        return results

    return trio.run(main)  # type: ignore[no-any-return]


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """The median, and the quartiles around it."""
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return middle, low, high


def compare(libraries: list[str], names: list[str], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Run all libraries in turn, *rounds* times.  Returns ``{cell: {library: [seconds per operation, ...]}}``."""
    times: dict[str, dict[str, list[float]]] = {name: {library: [] for library in libraries} for name in names}
    total = rounds * len(libraries)
    for number in range(total):
        round_, place = divmod(number, len(libraries))
        library = libraries[(round_ + place) % len(libraries)]
        print(f"\r{number + 1}/{total} {library:10}", end="", file=sys.stderr, flush=True)
        command = [sys.executable, __file__, "--one", library, "--cells", *names]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"\n{library} failed:\n{done.stderr}")
        for name, seconds in json.loads(done.stdout).items():
            times[name][library].append(seconds)
    print("\r" + " " * 30 + "\r", end="", file=sys.stderr)
    return times


def table(times: dict[str, dict[str, list[float]]], libraries: list[str]) -> str:
    """A markdown table: the time of coro, and for each peer the ratio coro / peer."""
    peers = libraries[1:]
    lines = ["| operation | coro | " + " | ".join(f"coro / {peer}" for peer in peers) + " |"]
    lines.append("|---" * (len(peers) + 2) + "|")
    for name, by_library in times.items():
        ours = by_library["coro"]
        row = [CELLS[name], f"{statistics.median(ours) * 1e9:,.0f} ns"]
        for peer in peers:
            ratios = [mine / theirs for mine, theirs in zip(ours, by_library[peer], strict=True)]
            middle, low, high = quartiles(ratios)
            row.append(f"**{middle:.2f}** [{low:.2f}, {high:.2f}]")
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", choices=list(CELLS), default=list(CELLS), help="what to measure")
    parser.add_argument("--peers", nargs="+", choices=LIBRARIES[1:], help="whom to compare with (default: all)")
    parser.add_argument("--rounds", type=int, default=7, help="how many interleaved rounds (default 7)")
    parser.add_argument("--json", action="store_true", help="print the times instead of the table")
    parser.add_argument("--one", choices=LIBRARIES, help=argparse.SUPPRESS)  # the part that runs in its own process
    args = parser.parse_args()
    if args.one:
        runners = {
            "coro": run_coro,
            "gevent": run_gevent,
            "eventlet": run_eventlet,
            "asyncio": run_asyncio,
            "uvloop": run_uvloop,
            "trio": run_trio,
        }
        print(json.dumps(runners[args.one](args.cells)))
        return
    peers = [peer for peer in args.peers or LIBRARIES[1:] if args.peers or importlib.util.find_spec(peer)]
    libraries = ["coro", *peers]
    times = compare(libraries, args.cells, args.rounds)
    if args.json:
        print(json.dumps(times, indent=2))
    else:
        print(f"CPython {sys.version.split()[0]}, {args.rounds} interleaved rounds, median ratio [quartiles]\n")
        print(table(times, libraries))


if __name__ == "__main__":
    main()
