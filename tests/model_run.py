"""Compares coro with the model for as long as one likes: ``python tests/model_run.py --minutes 30 --poller epoll``.

Stands on `model`.  Prints how far it has come, and at the first difference the smallest program that shows it; the
status is then 1.  The same seed makes the same programs, on every Python and over every poller.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time

from model import KNOWN_DEFECTS, search

import coro
from coro.discovery import open_poller

PROGRESS = 10.0  # seconds between two lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="how long (default: 1)")
    parser.add_argument("--poller", help="its name; by default the one that coro chooses")
    parser.add_argument("--seed", default=str(time.time_ns()), help="of the programs; by default never the same")
    parser.add_argument("--strict", action="store_true", help="also run the programs that meet a known defect")
    options = parser.parse_args()

    name = open_poller(options.poller)[0]
    print(f"Python {sys.version.split()[0]}, {name}, {coro.__file__}, --seed {options.seed}", flush=True)
    begin = said = time.monotonic()
    left_out = steps = 0
    seeds = (f"{options.seed} {number}" for number in itertools.count())
    found = search(seeds, lambda: open_poller(name)[1], set() if options.strict else KNOWN_DEFECTS)
    for programs, (count, wrong) in enumerate(found):
        if wrong:
            print(f"After {programs} programs and {steps} steps: {wrong}")
            return 1
        left_out += not count
        steps += count
        now = time.monotonic()
        over = now - begin > options.minutes * 60
        if over or now - said > PROGRESS:
            said = now
            print(
                f"{now - begin:6.0f} s: {programs + 1} programs, {left_out} of them left out, {steps} steps", flush=True
            )
        if over:
            break
    return 0


if __name__ == "__main__":
    sys.exit(main())
