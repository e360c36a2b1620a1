"""A chat server: one room, a nick name for each, and no patience with those who do not read.

    python chat_server.py 127.0.0.1:7008
    nc 127.0.0.1 7008                     once for each who wants to chat

The first line that a client sends is its nick name.  Then each line goes to all others; /names lists who is here, /quit
leaves.  What others say waits in a bounded queue until the client has read it: one that is too slow is dropped, and
nobody waits for it.
"""

from __future__ import annotations

import argparse
import queue
from typing import IO

from program import Address, address, positive, serve

import coro
from coro.servers import StreamServer

LONGEST_LINE = 1000  # characters; what is longer is cut in pieces
MOST_BYTES = 65536  # in the buffers of the system for one client: its queue is to fill up soon after
FAREWELL = 5  # seconds for what is still in the queue of one that leaves


class Member:
    """Somebody in the room."""

    def __init__(self, nick: str, room: int) -> None:
        self.nick = nick
        self.co = coro.current()
        self.outbox: coro.Queue[str] = coro.Queue(room)

    def tell(self, text: str) -> None:
        """Let the member know something.  Never waits."""
        try:
            self.outbox.put(text, block=False)
        except queue.Full:
            print(f"{self.nick} does not read, and is dropped", flush=True)
            self.co.shutdown()


members: dict[str, Member] = {}


def tell_all(text: str, sender: Member) -> None:
    """Tell everybody else."""
    for member in list(members.values()):
        if member is not sender:
            member.tell(text)


def choose_nick(conn: coro.sock, lines: IO[str]) -> str:
    """Ask until there is a nick name that nobody has; "" if the client has gone."""
    conn.send(b"Your nick name?\n")
    while line := lines.readline(LONGEST_LINE):
        nick = line.strip()
        if nick.isidentifier() and nick not in members:
            return nick
        conn.send(b"It must be one word, and nobody else's.  Your nick name?\n")
    return ""


def write(conn: coro.sock, outbox: coro.Queue[str]) -> None:
    """Send what is in the queue until it is closed and empty."""
    for text in outbox:
        conn.send(f"{text}\n".encode())


def listen_to(member: Member, lines: IO[str]) -> None:
    """Do what the client says until it leaves."""
    tell_all(f"* {member.nick} is here", member)
    while line := lines.readline(LONGEST_LINE):
        match line.strip():
            case "/quit":
                return
            case "/names":
                member.tell("* " + ", ".join(sorted(members)))
            case "":
                pass
            case text:
                tell_all(f"{member.nick}: {text}", member)


def session(conn: coro.sock, client: Address, room: int) -> None:
    """Serve one client: one coroutine reads, another one writes."""
    conn.setsockopt(coro.SOL.SOCKET, coro.SO.SNDBUF, MOST_BYTES)
    try:
        with conn.makefile("r", encoding="utf-8", errors="replace") as lines:
            nick = choose_nick(conn, lines)
            if not nick:
                return
            members[nick] = member = Member(nick, room)
            with coro.group() as both:
                try:
                    writer = both.spawn(write, conn, member.outbox)
                    listen_to(member, lines)
                finally:
                    del members[nick]
                    member.outbox.close()
                    tell_all(f"* {nick} has gone", member)
                writer.join(FAREWELL)
    except* OSError as errors:  # a reset connection, or one that does not read the last lines
        print(f"{client[0]}:{client[1]}: {errors.exceptions[0]}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="A chat room for everybody who connects.")
    parser.add_argument("listen", metavar="HOST:PORT", type=address, help="where to listen; port 0: any")
    parser.add_argument(
        "--queue", metavar="N", type=positive, default=100, help="lines that may wait for a slow reader (default: 100)"
    )
    args = parser.parse_args()
    serve(StreamServer(args.listen, lambda conn, client: session(conn, client, args.queue), name="chat"))


if __name__ == "__main__":
    main()
