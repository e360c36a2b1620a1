"""What the tests of the programs in examples/ have in common: running them, and talking to them as their peers do."""

from __future__ import annotations

import os
import re
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"

Address = tuple[str, int]


def command(program: str, *arguments: str) -> list[str]:
    return [sys.executable, "-W", "error", str(EXAMPLES / program), *arguments]


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    return subprocess.run(command(program, *arguments), capture_output=True, text=True, timeout=60)


def complaints(err: str) -> str:
    """What a program has said on stderr, but for the warnings that a loaded machine brings about."""
    return "".join(line for line in err.splitlines(keepends=True) if "High Latency" not in line)


@contextmanager
def running(program: str, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], Address]]:
    """Run a server for the length of a block; it must end well when it is asked to, and say nothing on stderr."""
    with subprocess.Popen(
        command(program, *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.fullmatch(r"listening on (.+):(\d+)\n", line)
            assert found, line or process.communicate()
            yield process, (found[1], int(found[2]))
        finally:
            process.terminate()
            try:
                _, err = process.communicate(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
    assert complaints(err) == ""
    if os.name == "posix":  # elsewhere terminate() leaves a process no time to end by itself
        assert process.returncode == 0


def text(address: Address) -> str:
    return f"{address[0]}:{address[1]}"


def dial(address: Address) -> socket.socket:
    return socket.create_connection(address, timeout=20)


def accepted(listener: socket.socket) -> socket.socket:
    """The next connection; like the client's, it does not wait for ever."""
    sock, _ = listener.accept()
    sock.settimeout(20)
    return sock


def receive_all(sock: socket.socket) -> bytes:
    return b"".join(iter(lambda: sock.recv(65536), b""))


def reset(sock: socket.socket) -> None:
    """Close with a RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("hh" if os.name == "nt" else "ii", 1, 0))
    sock.close()
