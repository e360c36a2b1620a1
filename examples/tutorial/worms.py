"""Worms that crawl over the screen: hundreds of sleepers, and one coroutine that alone writes to the terminal.

    python tutorial/worms.py              in a terminal
    python tutorial/worms.py 300          with 300 worms

Each worm begins as its object is made, sleeps between two steps, and puts what it wants to be drawn into a fifo.  A
None in the fifo stops the writer.
"""

import random
import sys

import coro

WIDTH, HEIGHT = 78, 22
STEPS = 40

drawings = coro.fifo()


class Worm:
    """A letter that moves about."""

    alive = 0

    def __init__(self, letter):
        self.letter = letter
        self.x = random.randrange(WIDTH)
        self.y = random.randrange(HEIGHT)
        Worm.alive += 1
        coro.spawn(self.crawl)

    def crawl(self):
        try:
            for _ in range(STEPS):
                drawings.push((self.x, self.y, " "))
                self.x = (self.x + random.choice((-1, 0, 1))) % WIDTH
                self.y = (self.y + random.choice((-1, 0, 1))) % HEIGHT
                drawings.push((self.x, self.y, self.letter))
                coro.sleep_relative(random.uniform(0.02, 0.04))
        finally:
            Worm.alive -= 1
            if not Worm.alive:
                drawings.push(None)


def write():
    """Draw until there is a None."""
    drawn = 0
    print(f"\033[2J\033[{HEIGHT + 2};1H{len(coro.all_threads)} coroutines", end="")
    while (drawing := drawings.pop()) is not None:
        x, y, letter = drawing
        print(f"\033[{y + 1};{x + 1}H{letter}", end="", flush=not len(drawings))
        drawn += 1
    print(f"\033[{HEIGHT + 3};1H{drawn} drawings, {len(coro.all_threads)} coroutine left", flush=True)
    coro.set_exit(drawn != 2 * STEPS * worms)


if __name__ == "__main__":
    worms = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    coro.spawn(write)
    for number in range(worms):
        Worm(chr(ord("a") + number % 26))
    coro.event_loop()
