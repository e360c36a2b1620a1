"""A program with a back door: a Python prompt that looks into it while it runs.

    python tutorial/backdoor.py /tmp/door
    nc -U /tmp/door                       then type: ticks

The last statement of a program is the event loop; what is to run in it is spawned before.
"""

import sys

import coro
from coro import backdoor

ticks = 0


def tick():
    """Something that goes on."""
    global ticks
    while True:
        ticks += 1
        coro.sleep_relative(0.1)


if __name__ == "__main__":
    coro.spawn(backdoor.serve, unix_path=sys.argv[1])
    coro.spawn(tick)
    coro.event_loop()
