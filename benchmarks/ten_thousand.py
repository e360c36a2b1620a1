"""Ten thousand connections at once, held and served: how long it takes, how much memory, and whether all get replies.

    python benchmarks/ten_thousand.py
    python benchmarks/ten_thousand.py --connections 5000 --rounds 10

Server and clients are two processes, since each end of a connection takes a descriptor of its process; the soft limit
(``ulimit -n``) is raised as far as the hard one allows.  All connections are made first.  Then, in each round, every
client sends a message and gets it back, all of them at the same time, and each reply is checked.  The exit status is 0
if all went well.

Not for coro-select: select(2) takes no descriptor beyond FD_SETSIZE, which is 1,024 on most systems.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
from typing import Any

import coro
from coro.kernel import this_kernel
from coro.servers import StreamServer

AT_ONCE = 200  # connections that are being made: fewer than any backlog
SPARE = 50  # descriptors for other things
SIZE = 64  # bytes of a message


def raise_limit(wanted: int) -> int:
    """Raise the limit of open files as far as it may be; returns for how many connections that is enough."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted + SPARE if hard == resource.RLIM_INFINITY else min(wanted + SPARE, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = most
    return wanted if soft == resource.RLIM_INFINITY else min(wanted, soft - SPARE)


def memory() -> int:
    """The most memory that this process has held, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def serve(wanted: int) -> None:
    """Be the server: print the port, echo until SIGTERM, print what there was."""
    raise_limit(wanted)
    most = 0

    def echo(conn: coro.sock, _: Any) -> None:
        nonlocal most
        most = max(most, len(server._connections))
        while data := conn.recv(1000):
            conn.send(data)

    server = StreamServer(("127.0.0.1", 0), echo, backlog=4096)
    server.start()
    before = memory()
    coro.register_signal_handler(signal.SIGTERM, lambda signum: server.stop(), once_only=True)
    coro.spawn(print, server.address[1], flush=True)
    coro.run(server.serve_forever)
    print(json.dumps({"most": most, "accepted": server.accepted, "memory": memory() - before}), flush=True)


class Progress:
    """One line on stderr, drawn again and again on a terminal."""

    def __init__(self) -> None:
        self.shown = coro.get_now()

    def show(self, line: str, now: bool = False) -> None:
        tty = sys.stderr.isatty()
        if now or coro.get_now() - self.shown > (0.1 if tty else 2) * coro.ticks_per_sec:
            self.shown = coro.get_now()
            print(f"\r{line:70}\r" if tty else line, end="" if tty else "\n", file=sys.stderr, flush=True)


def seconds_since(tick: int) -> float:
    return (coro.get_now() - tick) / coro.ticks_per_sec


def swarm(port: int, connections: int, rounds: int, hold: float) -> dict[str, Any]:
    """Be the clients; returns what was measured."""
    poller = this_kernel().poller_name
    if poller == "select":
        raise SystemExit("select(2) takes no descriptor beyond FD_SETSIZE: use another poller")
    progress = Progress()
    before, begin = memory(), coro.get_now()
    conns: list[coro.sock] = []
    replies = 0

    def connect(_: int) -> None:
        conns.append(coro.create_connection(("127.0.0.1", port), timeout=60))
        progress.show(f"{len(conns):,} of {connections:,} connections")

    def exchange(number: int) -> None:
        nonlocal replies
        message = number.to_bytes(8, "big") * (SIZE // 8)
        conns[number].send(message)
        if coro.with_timeout(60, conns[number].recv_exact, SIZE) != message:
            raise ValueError(f"connection {number} got a reply that is not its own")
        replies += 1
        progress.show(f"{replies:,} of {rounds * connections:,} replies on {len(conns):,} connections")

    try:
        with coro.Pool(AT_ONCE) as pool:
            for _ in pool.imap_unordered(connect, range(connections)):
                pass
        connecting = seconds_since(begin)
        coro.sleep_relative(hold)
        begin = coro.get_now()
        for _ in range(rounds):
            with coro.group() as everybody:
                for number in range(connections):
                    everybody.spawn(exchange, number)
        exchanging = seconds_since(begin)
    finally:
        for conn in conns:
            conn.close()
    progress.show("", now=sys.stderr.isatty())
    return {
        "poller": poller,
        "connections": connections,
        "connecting": connecting,
        "replies": replies,
        "exchanging": exchanging,
        "memory": memory() - before,
    }


def number(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is less than 1")
    return value


def main() -> int:
    parser = argparse.ArgumentParser(description="Hold and serve many connections at once.")
    parser.add_argument("--connections", metavar="N", type=number, default=10_000, help="default: 10,000")
    parser.add_argument("--rounds", metavar="N", type=number, default=5, help="messages on each (default: 5)")
    parser.add_argument("--hold", metavar="S", type=float, default=0, help="seconds to hold them idle (default: 0)")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.connections)
        return 0
    connections = raise_limit(args.connections)
    if connections < 1:
        print("the limit of open files (ulimit -n) leaves no room for a connection", file=sys.stderr)
        return 1
    if connections < args.connections:
        print(f"{connections:,} connections instead of {args.connections:,}: the limit of open files", file=sys.stderr)
    command = [sys.executable, os.path.abspath(__file__), "--serve", "--connections", str(connections)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            ours = coro.run(swarm, int(server.stdout.readline()), connections, args.rounds, args.hold)
        except KeyboardInterrupt:
            return 130
        finally:
            server.terminate()
            out, _ = server.communicate()
        theirs = json.loads(out)
    print(f"""\
connections  {theirs["most"]:,} at once, made in {ours["connecting"]:.2f} s
replies      {ours["replies"]:,} in {ours["exchanging"]:.2f} s, {ours["replies"] / ours["exchanging"]:,.0f} a second
memory       {theirs["memory"] / connections / 1024:.1f} KiB a connection in the server, \
{ours["memory"] / connections / 1024:.1f} KiB in the clients
poller       {ours["poller"]}""")
    return int(theirs["most"] != connections or ours["replies"] != connections * args.rounds)


if __name__ == "__main__":
    sys.exit(main())
