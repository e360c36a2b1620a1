"""The seed of a program: copy it, and put your own work in the place of `worker`.

python seed.py
python seed.py --workers 1000
"""

from __future__ import annotations

import argparse
import random

import coro


def worker(number: int) -> float:
    """Do something that blocks; meanwhile the others run."""
    delay = random.uniform(0, 0.5)
    coro.sleep_relative(delay)
    return delay


def main(workers: int) -> None:
    """The first coroutine: start the others, wait for them, end the loop."""
    status = 1  # unless all goes well
    try:
        started = coro.get_now()
        coroutines = [coro.spawn(worker, number) for number in range(workers)]
        slept = sum(co.result() for co in coroutines)
        took = (coro.get_now() - started) / coro.ticks_per_sec
        print(f"{workers} workers have slept {slept:.1f} s in {took:.1f} s")
        status = 0
    finally:
        coro.set_exit(status)  # without it the event loop goes on for ever


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Some coroutines that work at the same time.")
    parser.add_argument("--workers", metavar="N", type=int, default=10, help="how many (default: 10)")
    args = parser.parse_args()
    coro.spawn(main, args.workers)
    coro.event_loop()
