"""A swarm of clients for an echo server, each a coroutine; the last one to end ends the program.

    python client_swarm.py 127.0.0.1:7007 --clients 100

The exit status is 0 if every client got back what it sent.
"""

from __future__ import annotations

import argparse
import os

from program import Address, address, positive

import coro

alive = 0  # clients that have not ended
contented = 0  # clients that got back all that they sent


def client(server: Address, requests: int, size: int) -> None:
    """Send random bytes and expect to get them back."""
    global contented
    with coro.create_connection(server, timeout=30) as conn:
        for _ in range(requests):
            message = os.urandom(size)
            conn.send(message)
            if coro.with_timeout(30, conn.recv_exact, size) != message:
                raise ValueError("the reply differs from what was sent")
    contented += 1


def counted(number: int, clients: int, server: Address, requests: int, size: int) -> None:
    """Be a client, whatever comes; the last one leaves a summary and switches off the light."""
    global alive
    try:
        client(server, requests, size)
    except EOFError:
        print(f"client {number}: the server has closed the connection before its reply was complete", flush=True)
    except (OSError, ValueError) as error:  # a timeout is an OSError; coro.Interrupted is neither, and passes
        print(f"client {number}: {error}", flush=True)
    finally:
        alive -= 1
        if not alive:
            print(f"{contented} of {clients} clients got back what they sent", flush=True)
            coro.set_exit(0 if contented == clients else 1)


def main() -> None:
    global alive
    parser = argparse.ArgumentParser(description="Many clients at once for an echo server.")
    parser.add_argument("server", metavar="HOST:PORT", type=address, help="the server, such as 127.0.0.1:7007")
    parser.add_argument("--clients", metavar="N", type=positive, default=100, help="default: 100")
    parser.add_argument("--requests", metavar="N", type=positive, default=10, help="of each client (default: 10)")
    parser.add_argument("--size", metavar="BYTES", type=positive, default=1000, help="of a request (default: 1000)")
    args = parser.parse_args()
    alive = args.clients
    for number in range(args.clients):
        coro.spawn(counted, number, args.clients, args.server, args.requests, args.size)
    coro.event_loop()


if __name__ == "__main__":
    main()
