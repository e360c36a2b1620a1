"""``coro demo``: an echo server and its clients, all of them coroutines of one thread, over real TCP on loopback.

Stands on the public face of coro; asks the poller of the running loop how many connections it can take.  What is served
is plain blocking code: `serve`, `echo` and `converse` look like those of an application.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from itertools import count
from math import inf
from typing import TYPE_CHECKING, Any, Final

from . import (
    coro,
    create_connection,
    create_server,
    get_live_coros,
    get_now,
    run,
    sleep_relative,
    sock,
    spawn,
    ticks_per_sec,
    with_timeout,
)
from .kernel import READ, this_kernel

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

__all__ = ["add_arguments", "main"]

HOST: Final = "127.0.0.1"
MOST_BYTES: Final = 65536  # of a message: a client that sends before it reads must not outrun the buffers on the way
PATIENCE: Final = 60.0  # seconds that a client waits for a connection or a reply
SPARE: Final = 16  # descriptors for the listener and for what Python opens now and then
REDRAW: Final = 0.1  # seconds between two looks of the progress on a terminal
REPORT: Final = 2.0  # seconds between two lines of it elsewhere


# -- connections -----------------------------------------------------------------------------------------------------


def accept(listener: sock) -> sock:
    """Return the next connection that somebody makes to *listener*."""
    return undelayed(listener.accept()[0])


def connect(address: tuple[str, int]) -> sock:
    """Return a new connection to *address*; OSError if it is refused."""
    return undelayed(create_connection(address))


def undelayed(conn: sock) -> sock:
    """Return *conn* set up for small messages."""
    conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return conn


# -- the server and its clients --------------------------------------------------------------------------------------


class Tally:
    """What has happened so far."""

    def __init__(self) -> None:
        self.requests = 0  # whose reply came complete, right or wrong
        self.verified = 0  # bytes that came back as they were sent
        self.errors: Counter[str] = Counter()  # by what they say
        self.latencies: Counter[int] = Counter()  # nanoseconds, rounded down by less than 1 %
        self.connections = self.most_connections = self.most_coroutines = 0
        self.coroutines: int | None = None  # that were left when all was done; None while it is not
        self.poller = ""
        self.begin: int | None = None  # of the requests; before, the clients connect
        self.end: int | None = None

    def start(self, fun: Callable[..., object], *args: Any) -> coro:
        """Spawn a coroutine and count it."""
        co = spawn(fun, *args)
        self.most_coroutines = max(self.most_coroutines, get_live_coros())
        return co

    def add_latency(self, nanoseconds: int) -> None:
        """Count a latency by its 8 leading bits: memory must not grow with each request."""
        shift = max(nanoseconds.bit_length() - 8, 0)
        self.latencies[nanoseconds >> shift << shift] += 1

    def latency(self, percent: float) -> float:
        """Return the seconds within which *percent* of the replies came; 0 if there were none."""
        seen = 0
        for nanoseconds, replies in sorted(self.latencies.items()):
            seen += replies
            if seen * 100 >= percent * self.requests:
                return nanoseconds / ticks_per_sec
        return 0.0

    def seconds(self) -> float:
        """Return how long the requests took, or have taken so far; 0 if they have not begun."""
        now = get_now()
        return ((self.end or now) - (self.begin or now)) / ticks_per_sec


def serve(listener: sock, tally: Tally, sessions: list[coro]) -> None:
    """Give each connection to *listener* a coroutine."""
    with listener:  # closed if this fails, so that no client waits for it
        try:
            while True:
                sessions.append(tally.start(echo, accept(listener)))
        except OSError as error:
            tally.errors[f"the server cannot accept: {error}"] += 1


def echo(conn: sock) -> None:
    """Send back all that comes."""
    with conn, suppress(OSError):  # whatever happens to the connection, the client sees it too
        while data := conn.recv(MOST_BYTES):
            conn.send(data)


def exchange(conn: sock, message: bytes) -> bytes:
    """Send *message* and return a reply of the same length."""
    conn.send(message)
    try:
        return conn.recv_exact(len(message))
    except EOFError:
        raise ConnectionError("the server closed the connection before its reply was complete") from None


def converse(conn: sock, size: int, requests: float, deadline: float, serial: count[int], tally: Tally) -> None:
    """Be a client: make *requests* requests of *size* bytes, no two alike, until *deadline*, and check every reply."""
    filler = os.urandom(size)
    with conn:
        try:
            done, begin = 0, get_now()
            while done < requests and begin < deadline:
                message = (next(serial).to_bytes(8, "little") + filler)[:size]
                reply = with_timeout(PATIENCE, exchange, conn, message)
                now = get_now()
                tally.add_latency(now - begin)
                tally.requests += 1
                if reply == message:
                    tally.verified += size
                else:
                    tally.errors["a reply differed from what had been sent"] += 1
                done, begin = done + 1, now
            conn.shutdown(socket.SHUT_WR)
            if with_timeout(PATIENCE, conn.recv, 1):
                tally.errors["more came back than had been sent"] += 1
        except OSError as error:
            tally.errors[str(error)] += 1
        finally:
            tally.connections -= 1


def conduct(args: Namespace, listener: sock, tally: Tally) -> None:
    """Be the main coroutine: start the server, connect the clients, let them talk, and wait until all have ended."""
    tally.poller = this_kernel().poller_name
    address = listener.getsockname()
    clients = affordable(args.clients, tally)
    if not args.quiet:
        each = f"{args.requests:,} requests each" if args.seconds is None else f"{args.seconds:g} seconds"
        say(f"clients: {clients:,}, for {each}, {args.size:,} bytes a request; echo server: port {address[1]}")
    sessions: list[coro] = []
    server = tally.start(serve, listener, tally, sessions)
    reporter = None if args.quiet else tally.start(report, tally)
    with ExitStack() as stack:
        conns = []
        for _ in range(clients):
            try:
                conns.append(stack.enter_context(with_timeout(PATIENCE, connect, address)))
            except OSError as error:
                tally.errors[str(error)] += 1
            else:
                tally.connections = tally.most_connections = len(conns)
        tally.begin = get_now()
        deadline = inf if args.seconds is None else tally.begin + args.seconds * ticks_per_sec
        requests = inf if args.seconds is not None else args.requests
        try:
            serial = count()
            work = [tally.start(converse, conn, args.size, requests, deadline, serial, tally) for conn in conns]
            for co in work:
                co.result()
        finally:
            tally.end = get_now()
    server.shutdown()
    if reporter is not None:
        reporter.shutdown()
        reporter.join()
    for co in (server, *sessions):
        co.join()
    tally.coroutines = get_live_coros() - 1  # without this one


# -- descriptors -----------------------------------------------------------------------------------------------------


def raise_limit(clients: int) -> None:
    """See to it that the process may open two descriptors for each client, as far as it is allowed to."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * clients + SPARE + 16  # and those that are open already
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # refused: there will be as many clients as find room
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            say(f"the limit of open files was {soft:,}: raised to {wanted:,}")


def affordable(clients: int, tally: Tally) -> int:
    """Return for how many of the *clients* there are descriptors; found out by trying, on the poller of the loop."""
    poller: Any = this_kernel().poller
    reason, room = None, 0
    with ExitStack() as stack:
        try:
            for room in range(2 * clients + SPARE):  # noqa: B007  # where it stopped is the result
                probe = stack.enter_context(socket.socket())
                poller.arm(probe.fileno(), READ)
                stack.callback(poller.unregister, probe.fileno())
        except OSError as error:
            reason = error.strerror or str(error)
    if reason is None:
        return clients
    fewer = max(room - SPARE, 0) // 2
    say(f"{fewer:,} clients instead of {clients:,}, because each takes two descriptors: {reason}")
    if not fewer:
        tally.errors[f"no descriptors for a single client: {reason}"] += 1
    return fewer


# -- what is shown ---------------------------------------------------------------------------------------------------


def say(text: str) -> None:
    """Tell the user something that is not part of the result."""
    print(f"coro demo: {text}", file=sys.stderr, flush=True)


def report(tally: Tally) -> None:
    """Show the progress: on a terminal in one line that is drawn again and again."""
    tty = sys.stderr.isatty()
    before, then = 0, get_now()
    try:
        while True:
            sleep_relative(REDRAW if tty else REPORT)
            now = get_now()
            rate = (tally.requests - before) * ticks_per_sec / (now - then)
            before, then = tally.requests, now
            line = "connecting" if tally.begin is None else f"{tally.seconds():.1f} s"
            line += f"  {tally.requests:,} requests  {rate:,.0f}/s"
            line += f"  {tally.connections:,} connections  {tally.errors.total():,} errors"
            (draw if tty else say)(line)
    finally:
        if tty:
            draw("")


def draw(line: str) -> None:
    """Put *line* in the place of the one that the cursor is in."""
    width = shutil.get_terminal_size().columns - 1
    print(f"\r{line[:width]:{width}}\r", end="", file=sys.stderr, flush=True)


def summary(args: Namespace, tally: Tally, interrupted: bool) -> str:
    """Say what was done and how fast."""
    seconds = tally.seconds()
    per_second = 1 / (seconds or inf)
    why = "chosen by priority"
    if getattr(args, "poller", None):
        why = "asked for with --poller"
    elif os.environ.get("CORO_POLLER"):
        why = "asked for with CORO_POLLER"
    errors = "".join(f"\n             {times:,} x {text}" for text, times in tally.errors.most_common())
    left = get_live_coros() if tally.coroutines is None else tally.coroutines
    latencies = "  ".join(
        f"{name} {tally.latency(percent) * 1000:,.2f} ms"
        for name, percent in (("p50", 50), ("p90", 90), ("p99", 99), ("max", 100))
    )
    return f"""\
requests     {tally.requests:,}{" until it was interrupted" if interrupted else ""}
errors       {tally.errors.total():,}{errors}
throughput   {tally.requests * per_second:,.0f} requests/s, {tally.verified * per_second / 1e6:,.2f} MB/s each way
latency      {latencies}
verified     {tally.verified:,} bytes
connections  {tally.most_connections:,} at the peak
coroutines   {tally.most_coroutines:,} at the peak, {left:,} at the end
poller       {tally.poller or "none"}, {why}
time         {seconds:.2f} s"""


# -- the command -----------------------------------------------------------------------------------------------------


def number(least: int, most: float = inf) -> Callable[[str], int]:
    """Return what makes an option a whole number in a range."""

    def whole_number(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            from argparse import ArgumentTypeError

            upper = "up" if most == inf else f"to {most}"
            raise ArgumentTypeError(f"{value} is not in the range from {least} {upper}")
        return value

    whole_number.__name__ = "whole number"  # what argparse calls it
    return whole_number


def duration(text: str) -> float:
    """Make an option a number of seconds."""
    value = float(text)
    if not 0 < value < inf:
        raise ValueError
    return value


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options of ``coro demo``, except ``--poller``, which the command line declares for all commands."""
    parser.add_argument("--clients", type=number(1), default=1000, metavar="N", help="clients at once (default: 1000)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--requests", type=number(1), default=100, metavar="N", help="requests of each client (default: 100)"
    )
    length.add_argument("--seconds", type=duration, metavar="S", help="go on for S seconds instead")
    parser.add_argument(
        "--size", type=number(1, MOST_BYTES), default=64, metavar="BYTES", help="bytes of each request (default: 64)"
    )
    parser.add_argument(
        "--port", type=number(0, 65535), default=0, help="port of the server on loopback (default: any that is free)"
    )
    parser.add_argument("--quiet", action="store_true", help="show no progress, only the summary")


def main(args: Namespace) -> int:
    """Run the demo and print its summary.

    Args:
        args: what `add_arguments` has declared, as parsed.

    Returns the exit status: 0, 1 if there were errors, 130 after ^C, 143 after SIGTERM.
    """
    raise_limit(args.clients)
    try:
        listener = create_server((HOST, args.port), backlog=1024)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        say(f"cannot listen on {HOST} port {args.port}: {reason}.  Choose another port, or leave out --port")
        return 1
    tally = Tally()
    ended_by: int | None = None
    with listener:
        try:
            run(conduct, args, listener, tally)
        except KeyboardInterrupt:
            ended_by = 130
        except SystemExit as exc:
            ended_by = exc.code if isinstance(exc.code, int) else 1
    print(summary(args, tally, ended_by is not None), flush=True)
    return ended_by if ended_by is not None else int(bool(tally.errors))
