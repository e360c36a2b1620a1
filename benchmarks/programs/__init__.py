"""Each cell as a program, for the three ways of writing one: threadlike, asyncio and trio.

A program takes sizes, counts what really happened, fails if that is not what it was asked for, and returns the seconds
that one operation took, or whatever else its cell measures.
"""

from __future__ import annotations

import os

FOREVER = 3600.0  # seconds, longer than any program runs


class Count:
    """Counts what really happened, so that no program can be fast by doing nothing."""

    def __init__(self) -> None:
        self.value = 0

    def check(self, expected: int) -> None:
        """Fail unless it happened so many times."""
        if self.value != expected:
            raise AssertionError(f"{self.value} operations were done instead of {expected}")


def resident() -> int:
    """The bytes of memory that this process occupies; where the system does not tell, the most it ever did."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        import resource  # there is none on Windows

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
