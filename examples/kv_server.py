"""A key-value server that speaks the protocol of Redis, as far as it goes: redis-cli and client libraries can use it.

    python kv_server.py 127.0.0.1:6380
    redis-cli -p 6380 set name value
    nc 127.0.0.1 6380                     plain lines work too: "get name"

It knows PING, ECHO, GET, SET, DEL, EXISTS, INCR, KEYS, DBSIZE, FLUSHALL, COMMAND and QUIT.  All is in memory and gone
at the end.  No lock is needed: a coroutine is only ever interrupted where it blocks, and no command blocks.
"""

from __future__ import annotations

import argparse
import fnmatch
from typing import IO

from program import Address, address, serve

import coro
from coro.servers import StreamServer

LONGEST = 2**20  # bytes: of a line, and of a key or value
MOST = 1024  # words in a command

data: dict[bytes, bytes] = {}

Reply = bytes | int | list[bytes] | None


class CommandError(Exception):
    """A command that cannot be done; the client is told why."""


class ProtocolError(CommandError):
    """What the client sends makes no sense: there is no telling where the next command begins."""


def execute(words: list[bytes]) -> Reply:
    """Do one command."""
    match [words[0].upper(), *words[1:]]:
        case [b"PING"]:
            return b"PONG"
        case [b"PING" | b"ECHO", text]:
            return text
        case [b"GET", key]:
            return data.get(key)
        case [b"SET", key, value]:
            data[key] = value
            return b"OK"
        case [b"DEL", _, *_]:
            return sum(data.pop(key, None) is not None for key in words[1:])
        case [b"EXISTS", _, *_]:
            return sum(key in data for key in words[1:])
        case [b"INCR", key]:
            try:
                value = int(data.get(key, b"0")) + 1
            except ValueError:
                raise CommandError("value is not an integer") from None
            data[key] = b"%d" % value
            return value
        case [b"KEYS", pattern]:
            return fnmatch.filter(sorted(data), pattern)
        case [b"DBSIZE"]:
            return len(data)
        case [b"FLUSHALL"]:
            data.clear()
            return b"OK"
        case [b"COMMAND", *_]:  # redis-cli asks for help texts when it starts
            return []
        case [b"QUIT"]:
            return b"OK"
    raise CommandError(f"unknown command or wrong number of arguments: {words[0].decode(errors='replace')!r}")


def encode(reply: Reply) -> bytes:
    """Put a reply into the form of the protocol."""
    match reply:
        case None:
            return b"$-1\r\n"
        case int():
            return b":%d\r\n" % reply
        case list():
            return b"*%d\r\n%b" % (len(reply), b"".join(encode(item) for item in reply))
        case b"OK" | b"PONG":
            return b"+%b\r\n" % reply
    return b"$%d\r\n%b\r\n" % (len(reply), reply)


def read_line(stream: IO[bytes]) -> bytes:
    """Return the next line without its end; EOFError at the end of the stream."""
    line = stream.readline(LONGEST)
    if not line:
        raise EOFError
    if not line.endswith(b"\n"):
        raise ProtocolError("a line is too long, or was cut off")
    return line.strip()


def read_count(line: bytes, kind: bytes, most: int) -> int:
    """Return the number in a line such as ``*3``."""
    if line[:1] != kind or not line[1:].isdigit() or int(line[1:]) > most:
        raise ProtocolError(f"expected {kind.decode()!r} and a number up to {most}, not {line[:20]!r}")
    return int(line[1:])


def read_command(stream: IO[bytes]) -> list[bytes]:
    """Return the words of the next command: an array of strings, or a plain line."""
    line = read_line(stream)
    if line[:1] != b"*":
        return line.split()
    words = []
    for _ in range(read_count(line, b"*", MOST)):
        size = read_count(read_line(stream), b"$", LONGEST)
        word = stream.read(size + 2)
        if len(word) < size + 2:
            raise EOFError
        words.append(word[:-2])
    return words


def session(conn: coro.sock, client: Address) -> None:
    """Answer commands until the client has no more of them."""
    try:
        with conn.makefile("rb") as stream:
            while True:
                try:
                    words = read_command(stream)
                    if words:
                        conn.send(encode(execute(words)))
                except CommandError as error:
                    conn.send(f"-ERR {error}\r\n".encode())
                    if isinstance(error, ProtocolError):
                        return
                if words and words[0].upper() == b"QUIT":
                    return
    except EOFError:
        pass
    except OSError as error:
        print(f"{client[0]}:{client[1]}: {error}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="A small key-value server for the clients of Redis.")
    parser.add_argument("listen", metavar="HOST:PORT", type=address, help="where to listen; port 0: any")
    serve(StreamServer(parser.parse_args().listen, session))


if __name__ == "__main__":
    main()
