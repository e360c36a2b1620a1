"""A hundred clients at once: each counts itself off when it ends, and the last one ends the loop.

python tutorial/clients.py 9000
"""

import random
import sys

import coro

alive = 100


def client(port):
    """Say something ten times and expect to hear it again."""
    global alive
    try:
        with coro.tcp_sock() as conn:
            conn.connect(("127.0.0.1", port))
            for _ in range(10):
                block = random.randbytes(5000)
                conn.send(block)
                if coro.with_timeout(60, conn.recv_exact, len(block)) != block:
                    print("this is not what was sent", flush=True)
                    coro.set_exit(1)
    finally:  # also when something has failed
        alive -= 1
        if not alive:
            print("all clients have ended")
            coro.set_exit()


if __name__ == "__main__":
    for _ in range(alive):
        coro.spawn(client, int(sys.argv[1]))
    coro.event_loop()
