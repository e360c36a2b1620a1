"""One run of one cell for one entrant, in a process of its own: prints ``{"value": ..., ...}`` and ends.

python -m benchmarks.child coro switch_2 1.0
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from typing import Any

from .cells import CELLS


def measure(entrant: str, name: str, scale: float) -> dict[str, Any]:
    """Run a cell and return what it found: at least ``value``, which is in the unit of the cell."""
    cell = CELLS[name]
    sizes = cell.scaled(scale)
    if cell.program in ("echo", "startup"):
        from . import echo, startup

        return (echo.measure if cell.program == "echo" else startup.measure)(entrant, **sizes)
    if entrant in ("asyncio", "uvloop"):
        from .programs.asyncio_ import run
    elif entrant == "trio":
        from .programs.trio_ import run
    else:
        from .programs.threadlike import run
    results = run(entrant, cell.program, sizes, cell.repeats, cell.warm)
    if cell.program == "growth":
        (curve,) = results
        values = list(curve.values())
        return {"value": values[-1] / values[0], "curve": curve}
    return {"value": min(results)}


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # a peer that is about to be deprecated is measured nevertheless
    _, entrant, name, scale = sys.argv
    print(json.dumps(measure(entrant, name, float(scale))), flush=True)
    os._exit(0)  # taking down a hundred thousand parked coroutines takes longer than the measurement
