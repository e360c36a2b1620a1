"""``coro demo`` (`coro.demo`), run as its user does: in a process of its own, by its exit status and what it says."""

from __future__ import annotations

import argparse
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from coro import cli, create_server, demo
from coro.discovery import find_pollers

from .helpers import free_port

PATCHED = "import sys\nfrom coro import cli, demo, loop\n{}\nsys.exit(cli.main(['demo', *sys.argv[1:]]))"
posix = pytest.mark.skipif(
    os.name != "posix", reason="only POSIX has the signals, pseudo-terminals and limits used here"
)


def start(*options: str, patch: str = "", env: dict[str, str] | None = None, **more: Any) -> subprocess.Popen[str]:
    """Start ``coro demo OPTIONS``, after the statements *patch*."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CORO_")}
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PATCHED.format(patch), *options],
        env={**clean, **(env or {})},
        stdout=subprocess.PIPE,
        text=True,
        **{"stderr": subprocess.PIPE, **more},
    )


def run(*options: str, **more: Any) -> tuple[int, dict[str, str], str]:
    """Run it to its end.  Returns the exit status, the summary by its first words, and what is on stderr."""
    with start(*options, **more) as process:
        out, err = process.communicate(timeout=60)
    return process.returncode, summary(out), err


def summary(text: str) -> dict[str, str]:
    """The summary as a dict; what is indented belongs to the line before."""
    lines = re.sub(r"\n +", "; ", text).splitlines()
    return dict(re.split(r" +", line, maxsplit=1) for line in lines)  # type: ignore[arg-type]


def number(text: str) -> float:
    """The number that a line of the summary begins with."""
    return float(text.split()[0].replace(",", ""))


def test_the_numbers_of_the_summary_add_up(poller: str) -> None:
    """Each client makes its requests, each reply is verified, and nothing is left: over every poller."""
    status, told, err = run("--poller", poller, "--clients", "20", "--requests", "30", "--size", "100", "--quiet")

    assert (status, err) == (0, "")
    assert told["requests"] == "600"
    assert told["errors"] == "0"
    assert told["verified"] == "60,000 bytes"
    assert told["connections"] == "20 at the peak"
    assert told["coroutines"] == "42 at the peak, 0 at the end"  # the main one, the server, two for each connection
    assert told["poller"] == f"{poller}, asked for with --poller"
    assert 600 / number(told["throughput"]) == pytest.approx(number(told["time"]), abs=0.006)
    latencies = [float(value) for value in re.findall(r"([\d.]+) ms", told["latency"])]
    assert len(latencies) == 4
    assert 0 < latencies[0] <= latencies[1] <= latencies[2] <= latencies[3] <= number(told["time"]) * 1000 + 10


def test_a_thousand_clients_are_the_default() -> None:
    """A thousand connections at once in one process, on the poller that the priority chooses."""
    status, told, err = run("--requests", "2")

    if "instead of 1,000" in err:
        pytest.skip(err)
    assert status == 0
    assert told["requests"] == "2,000"
    assert told["errors"] == "0"
    assert told["verified"] == "128,000 bytes"
    assert told["connections"] == "1,000 at the peak"
    assert told["coroutines"] == "2,003 at the peak, 0 at the end"
    assert told["poller"].endswith(", chosen by priority")


def test_the_environment_chooses_the_poller(poller: str) -> None:
    """``CORO_POLLER`` is obeyed, and named as the reason."""
    _, told, _ = run("--clients", "1", "--requests", "1", env={"CORO_POLLER": poller})

    assert told["poller"] == f"{poller}, asked for with CORO_POLLER"


@pytest.mark.parametrize("size", [1, 65536])
def test_the_smallest_and_the_largest_message(poller: str, size: int) -> None:
    """Both go through whole."""
    status, told, _ = run("--poller", poller, "--clients", "3", "--requests", "4", "--size", str(size))

    assert status == 0
    assert told["verified"] == f"{12 * size:,} bytes"


def test_for_a_time(poller: str) -> None:
    """With ``--seconds`` the clients go on for that time, and finish the request that they have begun."""
    status, told, _ = run("--poller", poller, "--clients", "2", "--seconds", "0.1")

    assert status == 0
    assert 0.1 <= number(told["time"]) < 10
    assert number(told["verified"]) == number(told["requests"]) * 64 > 0


CORRUPT = """
def echo(sock):
    with sock:
        while data := sock.recv(65536):
            sock.send(data[:-1] + bytes([data[-1] ^ 1]))
"""
ALIKE = """
def echo(sock):  # the same reply again and again
    with sock:
        first = sock.recv(65536)
        sock.send(first)
        while sock.recv(65536):
            sock.send(first)
"""
TALKATIVE = """
def echo(sock):
    with sock:
        while data := sock.recv(65536):
            sock.send(data)
        sock.send(b"more")
"""
SHORT = """
def echo(sock):
    with sock:
        sock.send(sock.recv(65536)[:-1])
"""
SILENT = """
def echo(sock):
    with sock:
        demo.sleep_relative(0.2)
demo.PATIENCE = 0.05
"""
REFUSING = """
connect = demo.connect

def serve(listener, tally, sessions):
    listener.close()

def late(address):
    demo.sleep_relative(0)  # the server comes first
    return connect(address)

demo.serve, demo.connect = serve, late
"""


@pytest.mark.parametrize(
    ("server", "requests", "errors", "verified"),
    [
        (CORRUPT, 15, "15; 15 x a reply differed from what had been sent", 0),
        (ALIKE, 15, "12; 12 x a reply differed from what had been sent", 3),
        (TALKATIVE, 15, "3; 3 x more came back than had been sent", 15),
        (SHORT, 0, "3; 3 x the server closed the connection before its reply was complete", 0),
        (SILENT, 0, "3; 3 x timed out after 0.05 s", 0),
    ],
    ids=["corrupt", "alike", "talkative", "short", "silent"],
)
def test_what_is_not_an_echo_is_an_error(poller: str, server: str, requests: int, errors: str, verified: int) -> None:
    """Each fault of the server is counted once, is not verified, and makes the exit status 1."""
    status, told, _ = run("--poller", poller, "--clients", "3", "--requests", "5", patch=f"{server}\ndemo.echo = echo")

    assert status == 1
    assert told["requests"] == str(requests)
    assert told["errors"] == errors
    assert told["verified"] == f"{verified * 64} bytes"


def test_refused_connections_are_errors(poller: str) -> None:
    """One for each client; none of them hangs."""
    status, told, _ = run("--poller", poller, "--clients", "3", patch=REFUSING)

    assert status == 1
    assert told["requests"] == "0"
    assert re.match(r"3; 3 x .*refused", told["errors"])
    assert told["connections"] == "0 at the peak"


@posix
@pytest.mark.parametrize(("signum", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_it_says_what_was_done(poller: str, signum: signal.Signals, expected: int) -> None:
    """^C ends it in the middle of the requests: the summary comes all the same, and no traceback."""
    with start("--poller", poller, "--clients", "20", "--seconds", "60", patch="demo.REPORT = 0.02") as process:
        assert process.stderr is not None
        for line in process.stderr:
            if re.search(r" s  [1-9][\d,]* requests", line):
                break
        process.send_signal(signum)
        out, err = process.communicate(timeout=20)

    told = summary(out)
    assert process.returncode == expected
    assert told["requests"].endswith(" until it was interrupted")
    assert number(told["requests"]) > 0
    assert told["errors"] == "0"
    assert told["coroutines"] == "43 at the peak, 0 at the end"
    assert 0 < number(told["time"]) < 30
    assert "Traceback" not in err


@posix
def test_on_a_terminal_the_progress_is_one_line_drawn_again_and_again(poller: str) -> None:
    """It stays within the width of the terminal and is wiped out at the end."""
    import pty

    ours, theirs = pty.openpty()
    with start(
        "--poller",
        poller,
        "--clients",
        "5",
        "--seconds",
        "0.2",
        patch="demo.REDRAW = 0.02",
        env={"COLUMNS": "60"},
        stderr=theirs,
    ) as process:
        os.close(theirs)
        shown = b""
        try:
            while some := os.read(ours, 4096):
                shown += some
        except OSError:
            pass  # Linux says EIO when the other end has been closed
        os.close(ours)
        process.communicate(timeout=20)

    assert process.returncode == 0
    header, progress = shown.decode().split("\r\n", 1)
    assert header.startswith("coro demo: clients: 5, for 0.2 seconds, 64 bytes a request; echo server: port ")
    assert "\n" not in progress
    looks = [look for look in progress.split("\r") if look]
    assert len(looks) >= 3
    assert {len(look) for look in looks} == {59}
    assert re.match(r"0\.\d s  [1-9][\d,]* requests  [\d,]+/s  5 connections  0 errors", looks[-3])
    assert looks[-1].strip() == ""


def test_a_port_that_is_in_use() -> None:
    """Nothing is begun; the message names the port and the option."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, told, err = run("--port", str(port))

    assert (status, told) == (1, {})
    assert re.fullmatch(rf"coro demo: cannot listen on 127.0.0.1 port {port}: .*in use.*--port\n", err)


def test_the_port_can_be_chosen() -> None:
    """The echo server listens where it was told."""
    port = free_port()

    status, _, err = run("--port", str(port), "--clients", "1", "--requests", "1")

    assert status == 0
    assert f"echo server: port {port}\n" in err


def limit(soft: int, hard: int) -> Callable[[], None]:
    """What gives the process that is about to begin a limit of open files."""
    import resource

    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@posix
def test_the_limit_of_open_files_is_raised_if_it_must_be() -> None:
    """The soft one, within the hard one; the user is told."""
    status, told, err = run("--clients", "100", "--requests", "1", preexec_fn=limit(50, 1000))

    assert status == 0
    assert "coro demo: the limit of open files was 50: raised to 232\n" in err
    assert told["connections"] == "100 at the peak"


@posix
def test_with_too_few_descriptors_there_are_fewer_clients() -> None:
    """As many as find room, without an error, and the user is told how many and why."""
    status, told, err = run("--clients", "100", "--requests", "1", preexec_fn=limit(100, 100))

    found = re.search(r"coro demo: (\d+) clients instead of 100, because each takes two descriptors: Too many", err)
    assert found
    clients = int(found[1])
    assert 20 <= clients < 50
    assert status == 0
    assert told["requests"] == str(clients)
    assert told["connections"] == f"{clients} at the peak"
    assert told["errors"] == "0"


@posix
def test_without_descriptors_for_a_single_client_it_fails() -> None:
    """With the reason, and without a traceback."""
    status, told, err = run("--clients", "5", preexec_fn=limit(24, 24))

    assert status == 1
    assert told["errors"].startswith("1; 1 x no descriptors for a single client: ")
    assert "Traceback" not in err


@pytest.mark.skipif(
    all(found.name != "select" for found in find_pollers()),
    reason="coro-select is not installed: its limit of descriptors is tested here",
)
def test_a_poller_with_a_limit_of_its_own_gets_fewer_clients() -> None:
    """select(2) has one of about 1,000 descriptors: the poller's own words say so."""
    status, told, err = run("--poller", "select", "--clients", "1000", "--requests", "1")

    found = re.search(r"coro demo: (\d+) clients instead of 1,000, because each takes two descriptors: \w+", err)
    assert found
    assert 100 < int(found[1]) < 512
    assert status == 0
    assert told["requests"] == found[1]
    assert told["errors"] == "0"


@pytest.mark.parametrize(
    "options",
    [
        "--clients 0",
        "--clients many",
        "--requests 0",
        "--requests 5 --seconds 1",
        "--seconds 0",
        "--seconds nan",
        "--seconds inf",
        "--size 0",
        "--size 65537",
        "--port 65536",
        "--port -1",
        "extra",
    ],
)
def test_options_that_cannot_be(options: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A usage error: exit status 2, the reason on stderr, nothing done."""
    with pytest.raises(SystemExit) as caught:
        cli.main(["demo", *options.split()])

    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.search(r"^coro( demo)?: error: ", err, re.MULTILINE)


def test_an_unknown_poller() -> None:
    """The error of the command line, which names what there is; exit status 1 and no summary."""
    status, told, err = run("--poller", "nosuch")

    assert (status, told) == (1, {})
    assert err.startswith("coro demo: CORO_POLLER=nosuch is not installed")


def test_it_leaves_nothing_behind(loop: Callable[..., None]) -> None:
    """In a process that goes on, every connection, coroutine and descriptor is gone when the main coroutine ends."""
    tally = demo.Tally()
    args = argparse.Namespace(clients=3, requests=2, seconds=None, size=8, quiet=True)
    listener = create_server((demo.HOST, 0))

    loop(demo.conduct, args, listener, tally)

    assert (tally.most_connections, tally.connections, tally.coroutines) == (3, 0, 0)
    assert (tally.requests, tally.verified, tally.errors.total()) == (6, 48, 0)
    assert listener.fileno() == -1


def test_importing_the_demo_is_cheap() -> None:
    """It brings in neither the plugin host nor the parser."""
    code = "import sys, coro.demo; print(sorted({'pluggy', 'argparse', 'resource', 'coro.discovery'} & {*sys.modules}))"

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_percentiles_are_right_to_one_percent() -> None:
    """Of 1 to 1,000 ms the percent are the latencies, whatever the rounding; of nothing they are 0."""
    tally = demo.Tally()
    assert tally.latency(50) == 0.0

    for milliseconds in range(1000, 0, -1):
        tally.requests += 1
        tally.add_latency(milliseconds * 1_000_000)

    for percent in (1, 50, 90, 99, 100):
        assert percent / 100 * 0.99 <= tally.latency(percent) <= percent / 100
    assert len(tally.latencies) < 800
