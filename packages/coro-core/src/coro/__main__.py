"""``python -m coro``: the same as the command ``coro``.  Stands on `coro.cli`."""

from __future__ import annotations

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
