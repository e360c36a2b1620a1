"""Measures how long a program takes to begin: what an import, and a first loop, add to a Python that does nothing."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from typing import Any

IMPORTS = {name: f"import {name}" for name in ("coro", "gevent", "eventlet", "asyncio", "uvloop", "trio")}

FIRST_LOOPS = {
    "coro": "import coro; coro.run(int)",
    "gevent": "import gevent; gevent.spawn(int).get()",
    "eventlet": "import eventlet; eventlet.spawn(int).wait()",
    "asyncio": "import asyncio; asyncio.run(asyncio.sleep(0))",
    "uvloop": "import asyncio, uvloop; uvloop.run(asyncio.sleep(0))",
    "trio": "import trio; trio.run(trio.sleep, 0)",
}


def seconds(program: str) -> float:
    """How long Python takes to run a program, from its start to its end."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True, capture_output=True, env=environment)
    return time.perf_counter() - begin


def measure(entrant: str, *, loop: bool, times: int) -> dict[str, Any]:
    """Return the median of *times* differences to a bare Python, in seconds."""
    program = (FIRST_LOOPS if loop else IMPORTS)[entrant]
    seconds(program)  # so that everything is compiled, and in the cache of the system
    return {"value": statistics.median(seconds(program) - seconds("pass") for _ in range(times))}
