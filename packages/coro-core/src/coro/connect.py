"""Making sockets: by their kind, in pairs, connected to a server, or listening for clients.

Stands on `coro.sockets`, and on `coro.names` for the names of hosts.
"""

from __future__ import annotations

import errno
import itertools
import socket
from typing import Final

from .coroutine import coro
from .kernel import calling, monotonic
from .names import check_number, getaddrinfo, host_of, resolved
from .oserrors import mapped
from .sockets import AF, SOCK, Address, sock, wrapped
from .verbs import spawn

__all__ = [
    "create_connection",
    "create_server",
    "has_ipv6",
    "make_socket",
    "socketpair",
    "tcp6_sock",
    "tcp_sock",
    "udp6_sock",
    "udp_sock",
    "unix_sock",
]

HEAD_START: Final = 0.25  # seconds: RFC 8305, the Connection Attempt Delay


def tcp_sock() -> sock:
    """Return a new TCP socket for IPv4."""
    return sock(socket.AF_INET, socket.SOCK_STREAM)


def udp_sock() -> sock:
    """Return a new UDP socket for IPv4."""
    return sock(socket.AF_INET, socket.SOCK_DGRAM)


def tcp6_sock() -> sock:
    """Return a new TCP socket for IPv6."""
    return sock(socket.AF_INET6, socket.SOCK_STREAM)


def udp6_sock() -> sock:
    """Return a new UDP socket for IPv6."""
    return sock(socket.AF_INET6, socket.SOCK_DGRAM)


def unix_sock() -> sock:
    """Return a new stream socket of the family AF_UNIX."""
    return sock(AF.UNIX, socket.SOCK_STREAM)


def make_socket(domain: int, stype: int) -> sock:
    """Return ``sock(domain, stype)``."""
    return sock(domain, stype)


@mapped()
def socketpair(
    domain: int = getattr(AF, "UNIX", AF.INET), stype: int = SOCK.STREAM, protocol: int = 0
) -> tuple[sock, sock]:
    """Return two sockets that are connected to each other."""
    a, b = socket.socketpair(domain, stype, protocol)
    return wrapped(a), wrapped(b)


def has_ipv6() -> bool:
    """Return whether a socket for IPv6 can be made.  OSError if none at all can be made, for want of descriptors."""
    try:
        tcp6_sock().close()
    except OSError as exc:
        if exc.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
            raise
        return False
    return True


@mapped()
def create_connection(address: Address, timeout: float | None = None, source_address: Address | None = None) -> sock:
    """Connect to *address* by TCP over whichever of IPv6 and IPv4 works, and return the socket.

    The addresses of the host are tried in the order of `socket.getaddrinfo`, but with the two families in turn.  The
    next one is begun when one has failed, or after 250 ms while the earlier ones go on: the first connection wins, the
    others are closed (RFC 8305).

    Args:
        address: a host, name or number, and a port, number or name of a service.
        timeout: seconds for all of this; None for no limit.
        source_address: what to bind to before; None for nothing.

    Raises `coro.TimeoutError` when the time is over, `socket.gaierror` for an unknown name, and if there is no
    connection its error; of several an OSError whose ``__cause__`` is the ExceptionGroup of all.  TypeError, ValueError
    and OverflowError, before anything is made, for an address that cannot be.
    """
    if timeout is not None:
        from .timeouts import with_timeout

        return with_timeout(timeout, create_connection, address, None, source_address)
    kernel, me = calling()
    host, port = host_of(address), address[1]
    if not host:
        raise ValueError(f"there is no host to connect to: {address!r}")
    if len(address) > 2:  # with flow and scope
        return connected(socket.AF_INET6, address, source_address)
    found = [(info[0], info[4]) for info in getaddrinfo(host, port, socket.AF_UNSPEC, socket.SOCK_STREAM)]
    first = [item for item in found if item[0] == found[0][0]]
    second = [item for item in found if item[0] != found[0][0]]
    turns = [item for pair in itertools.zip_longest(first, second) for item in pair if item is not None]
    if len(turns) == 1:
        return connected(turns[0][0], turns[0][1], source_address)

    winner: list[sock] = []
    errors: list[Exception] = []
    attempts: list[coro] = []
    waiting = True

    def attempt(family: int, target: Address) -> None:
        try:
            new = connected(family, target, source_address)
        except Exception as exc:
            errors.append(exc)
        else:
            if winner or not waiting:
                new.close()
            else:
                winner.append(new)
        if waiting:
            kernel.wake(me)

    try:
        for family, target in turns:
            failed = len(errors)
            attempts.append(spawn(attempt, family, target))
            when = monotonic() + HEAD_START
            kernel.add_timer(when, me)
            try:
                while not winner and len(errors) == failed and monotonic() < when:
                    kernel.park(me)
            finally:
                kernel.cancel_timer(when, me)
            if winner:
                break
        while not winner and len(errors) < len(attempts):
            kernel.park(me)
        if winner:
            return winner.pop()
        numbers = {exc.errno for exc in errors if isinstance(exc, OSError)}
        raise OSError(
            numbers.pop() if len(numbers) == 1 else None,
            f"none of the {len(errors)} addresses of {host!r} can be connected to",
        ) from ExceptionGroup(f"connecting to {host}:{port}", errors)
    finally:
        waiting = False
        for co in attempts:
            co.shutdown()
        for new in winner:  # interrupted just then
            new.close()
        errors.clear()  # their tracebacks hold it


def connected(family: int, address: Address, source_address: Address | None) -> sock:
    """Return a new TCP socket that is connected to *address*."""
    new = sock(family, socket.SOCK_STREAM)
    try:
        if source_address is not None:
            new.bind(source_address)
        new.connect(address)
    except BaseException:
        new.close()
        raise
    return new


@mapped()
def create_server(
    address: Address,
    *,
    family: int = AF.INET,
    backlog: int = socket.SOMAXCONN,
    reuse_port: bool = False,
    dualstack_ipv6: bool = False,
) -> sock:
    """Return a TCP socket that listens on *address*, whose host may be a name.

    The address may be one that connections of an earlier server still use (not on Windows, where that is never safe).

    Args:
        address: a host, "" for all addresses of the machine, and a port, 0 for any that is free.
        family: ``AF.INET`` or ``AF.INET6``.
        backlog: how many connections may wait for `accept`.
        reuse_port: let several sockets listen on the same port (``SO_REUSEPORT``).
        dualstack_ipv6: take IPv4 connections too; with ``AF.INET6`` only.

    Raises what `socket.create_server` does, and ValueError for another family.
    """
    if family not in (socket.AF_INET, socket.AF_INET6):
        raise ValueError(f"a TCP server is of the family AF.INET or AF.INET6, not {family!r}")
    address = resolved(family, socket.SOCK_STREAM, address)
    check_number(address[1])  # the standard function would leave its socket open
    return wrapped(
        socket.create_server(
            address, family=family, backlog=backlog, reuse_port=reuse_port, dualstack_ipv6=dualstack_ipv6
        )
    )
