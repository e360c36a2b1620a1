"""Measures an echo server: the server in one process, the load generator, the same for all, in another.

A run reports the time for each request, the CPU time that the server spent on it, how busy server and load generator
were, and the latency that the clients saw.  Where both had nine tenths of a processor or less, neither was the
bottleneck: the time went into waking each other.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import native

REPEATS = 3  # of each point of a curve, of which the best counts


@contextmanager
def serving(entrant: str, kind: str, wrapper: tuple[str, ...] = ()) -> Iterator[tuple[int, int]]:
    """Run an echo server for the length of the block.  Gives its port and its process id.

    Args:
        entrant: whose server.
        kind: "tcp", "udp" or "tls".
        wrapper: a command line to put before it, on Linux.

    RuntimeError if it does not start.
    """
    floor = native.program("floor")
    if entrant == "c":
        if floor is None:
            raise RuntimeError("the C server is not compiled")
        command = [floor, kind]
    else:
        command = [sys.executable, "-m", "benchmarks.servers", entrant, kind]
    with subprocess.Popen(
        [*wrapper, *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line.strip().isdigit():
                raise RuntimeError(f"the {kind} server of {entrant} did not start: {' '.join(command)}")
            yield int(line), process.pid
        finally:
            if wrapper:  # it ends with the server, which would go on without it
                for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
                    os.kill(int(child), signal.SIGKILL)
                process.wait()
            process.kill()


def ask(
    kind: str, port: int, pid: int, *, connections: int, size: int, seconds: float, requests: int = 0, idle: int = 0
) -> dict[str, Any]:
    """Run the load generator, and return what it found.  RuntimeError with its words if it fails."""
    load = native.program("load")
    command = [load] if load and kind != "tls" else [sys.executable, "-m", "benchmarks.load"]
    numbers = [port, connections, size, seconds, requests, idle, pid]
    done = subprocess.run([*command, kind, *map(str, numbers)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["the load generator failed"])[-1])
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measure(
    entrant: str, *, kind: str, connections: int, size: int, seconds: float, idle: list[int] | None = None
) -> dict[str, Any]:
    """Measure the server of *entrant*.

    Args:
        entrant: whose server.
        kind: "tcp", "udp", "tls", or "accept": a TCP server, and a connection for each request.
        connections: with one request in flight on each.
        size: of a request and its answer, in bytes.
        seconds: how long.
        idle: measure anew with so many idle connections beside, and report the growth.
    """

    def once(more: int = 0) -> dict[str, Any]:
        return ask(kind, port, pid, connections=connections, size=size, seconds=seconds, idle=more)

    with serving(entrant, "tcp" if kind == "accept" else kind) as (port, pid):
        if idle:
            runs = [(more, once(more)) for _ in range(REPEATS) for more in idle]
            curve = {
                connections + more: min(run["seconds"] / run["requests"] for beside, run in runs if beside == more)
                for more in idle
            }
            each = list(curve.values())
            return {"value": each[-1] / each[0], "curve": curve}
        run = once()
    requests, elapsed, cpu = run["requests"], run["seconds"], run["server"]
    return {
        "value": elapsed / requests,
        "cpu": None if cpu is None else cpu / requests,
        "server": None if cpu is None else cpu / elapsed,
        "load": run["load"] / elapsed,
        "latency": run["latency"],
    }
