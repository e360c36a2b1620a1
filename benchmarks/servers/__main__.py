"""Run one of the echo servers: ``python -m benchmarks.servers coro tcp``."""

from __future__ import annotations

import importlib
import sys
import warnings

MODULES = {"coro-select": "coro", "asyncio-protocol": "asyncio", "uvloop": "asyncio", "uvloop-protocol": "asyncio"}

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    _, entrant, kind = sys.argv
    module = importlib.import_module(f"benchmarks.servers.{MODULES.get(entrant, entrant)}_")
    if module.__name__.endswith("asyncio_"):
        module.serve(entrant, kind)
    else:
        getattr(module, kind)()
