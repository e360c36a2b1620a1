"""Counts what an echo server asks the system for each request, on each poller: ``python -m benchmarks.syscalls``.

Needs strace, thus Linux.  A server is run twice, once for many more requests than the other time; the difference is
what the requests cost, without the start and without the opening of connections.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

from . import echo, native

CONNECTIONS = 10
REQUESTS = (1000, 5000)
SIZE = 64
TRANSFERS = {
    "recvfrom": "recv",
    "read": "recv",
    "recv": "recv",
    "sendto": "send",
    "write": "send",
    "send": "send",
}
WAITS = ("epoll_wait", "epoll_pwait", "epoll_pwait2", "poll", "ppoll", "select", "pselect6")
COLUMNS = ("recv", "send", "wait", "epoll_ctl", "EAGAIN", "other")

#: One line for each: the entrant, and what coro is told to use.
SUBJECTS = (("coro", "epoll"), ("coro", "kqueue"), ("coro", "select"), ("gevent", ""), ("asyncio", ""), ("uvloop", ""))

LINE = re.compile(r"^(?:\d+ +)?(<\.\.\. )?(\w+)")  # a call that begins, or that goes on after another thread's


def counted(log: str) -> Counter[str]:
    """Sort the calls of a log of ``strace -f`` by the columns of the table."""
    calls: Counter[str] = Counter()
    for line in log.splitlines():
        if not (found := LINE.match(line)):
            continue
        resumed, name = found.groups()
        column = TRANSFERS.get(name, name if name == "epoll_ctl" else "wait" if name in WAITS else "other")
        calls[column] += not resumed  # else it was counted when it began
        calls["EAGAIN"] += column in TRANSFERS.values() and "EAGAIN" in line
    return calls


def per_request(entrant: str, poller: str = "") -> dict[str, float]:
    """What a request costs the server of *entrant*: ``{column: calls}``.  RuntimeError if there is no strace."""
    strace = shutil.which("strace")
    if strace is None:
        raise RuntimeError("strace is not installed")
    setting = ("env", f"CORO_POLLER={poller}") if poller else ()
    logs = []
    with tempfile.TemporaryDirectory(prefix="coro-strace-") as directory:
        for requests in REQUESTS:
            path = Path(directory) / f"{requests}.log"
            wrapper = (strace, "-f", "-qq", "-e", "signal=none", "-o", str(path), *setting)
            with echo.serving(entrant, "tcp", wrapper) as (port, pid):
                echo.ask("tcp", port, pid, connections=CONNECTIONS, size=SIZE, seconds=0, requests=requests)
            logs.append(counted(path.read_text(errors="replace")))
    few, many = logs
    return {column: (many[column] - few[column]) / (REQUESTS[1] - REQUESTS[0]) for column in COLUMNS}


def why_not(entrant: str, poller: str) -> str:
    """Why a line of the table has no figures; "" if it has."""
    if poller == "kqueue" and sys.platform.startswith("linux"):
        return "needs kqueue: macOS or a BSD, where ktrace or dtruss tells"
    return ""


def table() -> str:
    """The table in Markdown."""
    lines = [f"| calls for each request | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    with native.compiled() as environment:
        os.environ.update(environment)
        for entrant, poller in SUBJECTS:
            subject = f"{entrant}, {poller}" if poller else entrant
            reason = why_not(entrant, poller)
            try:
                found = {} if reason else per_request(entrant, poller)
            except RuntimeError as exc:
                reason = str(exc)
            if reason:
                lines.append(f"| {subject} | {reason} |" + " |" * (len(COLUMNS) - 1))
            else:
                lines.append(
                    f"| {subject} | {' | '.join(f'{round(found[column], 2) or 0.0:.2f}' for column in COLUMNS)} |"
                )
    return "\n".join(lines)


if __name__ == "__main__":
    argparse.ArgumentParser(prog="python -m benchmarks.syscalls", description=__doc__).parse_args()
    print(f"TCP echo of {SIZE} bytes over {CONNECTIONS} connections, one request in flight on each.\n\n{table()}")
