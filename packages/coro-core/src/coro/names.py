"""Names of hosts: `getaddrinfo` and its relatives, which block the coroutine and not the thread, and their resolver.

Stands on the standard library's resolver, so the hosts file and the settings of the system count, and on the threads
of `coro.threads`.  They are a pool of their own: a slow server of names must not hold up those who use `to_thread`.

A query that is under way already is joined: one thread works, and all who ask get the answer.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterable
from copy import copy
from socket import getaddrinfo as system_getaddrinfo  # of now: a program that replaces it may do so by ours
from socket import getnameinfo as system_getnameinfo
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from .exceptions import YieldFromMain
from .kernel import calling, this_kernel
from .oserrors import mapped

if TYPE_CHECKING:
    from concurrent.futures import Future

    from .threads import DaemonPool

__all__ = ["Resolver", "ThreadResolver", "get_resolver", "getaddrinfo", "getnameinfo", "set_resolver"]

T = TypeVar("T")
Address = Any  # as of the standard library

NameError = socket.gaierror  # noqa: A001 - Shrapnel's name; not in __all__, since it would hide a builtin (D-60)


class Resolver(Protocol):
    """What `set_resolver` takes.

    The methods run in the coroutine that asks, and may block it.  They return an address as text, or several, the best
    one first, and raise `socket.gaierror` or another exception for a name that they do not know.
    """

    def resolve_ipv4(self, name: str) -> str | Iterable[str]: ...

    def resolve_ipv6(self, name: str) -> str | Iterable[str]: ...


class Query:
    """A call of the system's resolver that is under way."""

    __slots__ = ("future", "waiting")

    def __init__(self, future: Future[Any]) -> None:
        self.future = future
        self.waiting = 0  # how many coroutines wait for it


class ThreadResolver:
    """The resolver of the system, asked in threads.  The default.

    A look-up that hangs holds up neither a loop nor the exit of the process.

    Args:
        limit: how many threads there may be, and by that how many names are looked up at a time; 4 unless given.

    TypeError and ValueError for what is no such number.
    """

    def __init__(self, limit: int = 4) -> None:
        if isinstance(limit, bool) or not isinstance(limit, int):
            raise TypeError(f"the limit is a number of threads, not {limit!r}")
        if limit < 1:
            raise ValueError(f"there must be at least 1 thread, not {limit}")
        self.limit: Final = limit
        self._pool: DaemonPool | None = None  # made by the first query: its import takes milliseconds
        self._forget()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        """Begin anew, also in a forked child: nobody works there on the queries of its parent."""
        self._lock = threading.Lock()  # held to join, to make and to leave a query
        self._queries: dict[Any, Query] = {}

    def resolve_ipv4(self, name: str) -> str:
        """Return the first IPv4 address of *name*.  Raises `socket.gaierror` if there is none."""
        return str(self.getaddrinfo(checked_name(name), None, socket.AF_INET, socket.SOCK_STREAM)[0][4][0])

    def resolve_ipv6(self, name: str) -> str:
        """Return the first IPv6 address of *name*.  Raises `socket.gaierror` if there is none."""
        return str(self.getaddrinfo(checked_name(name), None, socket.AF_INET6, socket.SOCK_STREAM)[0][4][0])

    def getaddrinfo(
        self, host: str, port: int | str | bytes | None, family: int = 0, stype: int = 0, proto: int = 0, flags: int = 0
    ) -> list[Any]:
        """Ask for *host* whatever it is, and return what the standard library's function of this name does."""
        return list(self._ask(system_getaddrinfo, host, port, family, stype, proto, flags))

    def getnameinfo(self, sockaddr: Address, flags: int = 0) -> tuple[str, str]:
        """Ask for *sockaddr*, and return what the standard library's function of this name does."""
        return self._ask(system_getnameinfo, sockaddr, flags)

    def _ask(self, call: Callable[..., T], *args: Any) -> T:
        """Return ``call(*args)``, called in a thread; in place where no coroutine would be held up."""
        try:
            calling()
        except YieldFromMain:
            if this_kernel().running:
                raise
            return call(*args)
        from .threads import DaemonPool, block_until_done

        key = (call, args)
        with self._lock:
            query = self._queries.get(key)
            if self._pool is None:
                self._pool = DaemonPool("coro-names", self.limit)
            if query is None:
                query = self._queries[key] = Query(self._pool.submit(call, *args))
                query.future.add_done_callback(lambda future: self._queries.pop(key, None))
            query.waiting += 1
        try:
            block_until_done(query.future)
            error = query.future.exception()
            if error is not None:
                error = copy(error)  # each waiter has its own, with its own traceback (D-55)
                error.add_note(f"asked for {args[0]!r}")
                raise error
            return query.future.result()  # type: ignore[no-any-return]
        finally:
            error = None  # its traceback holds this frame
            with self._lock:
                query.waiting -= 1
                if not query.waiting:
                    query.future.cancel()  # if it has not begun; else the thread goes on for nobody

    def __repr__(self) -> str:
        return f"<coro.ThreadResolver: {self.limit} threads, {len(self._queries)} queries under way>"


_system: Final = ThreadResolver()
_resolver: Resolver = _system


def get_resolver() -> Resolver:
    """Return the resolver that is in use: the one given to `set_resolver` last, else a `ThreadResolver`."""
    return _resolver


def set_resolver(resolver: Resolver) -> Resolver:
    """Let *resolver* turn names into addresses from now on, for the loops of all threads.

    Args:
        resolver: an object with the methods ``resolve_ipv4(name)`` and ``resolve_ipv6(name)``, which return an address
            as text, or several, the best one first.  They run in the coroutine that asks, so they may use sockets of
            coro.  If it has a method `getaddrinfo` too, with the parameters of the standard library's function, that
            one is called instead.  It is never asked for what is an address already.

    Returns the one that was in use.  TypeError if a method is missing.
    """
    global _resolver
    for method in ("resolve_ipv4", "resolve_ipv6"):
        if not callable(getattr(resolver, method, None)):
            raise TypeError(f"a resolver has the methods resolve_ipv4(name) and resolve_ipv6(name): {resolver!r}")
    old, _resolver = _resolver, resolver
    return old


@mapped()
def getaddrinfo(
    host: str | bytes | None,
    port: int | str | bytes | None,
    family: int = 0,
    type: int = 0,  # noqa: A002 - the standard library's name
    proto: int = 0,
    flags: int = 0,
) -> list[Any]:
    """Do what the standard library's function of this name does, and block the calling coroutine only.

    A name is given to the resolver in use, see `set_resolver`; an address is dealt with in place.  Outside a coroutine
    everything is.  The wait can be interrupted, by a timeout or a shutdown; a thread that looks the name up goes on
    until the system gives it an answer, which is dropped unless others wait for it.

    Args:
        host: a name or an address; None for the addresses of this machine.
        port: a number, or the name of a service; None for none.
        family, type, proto, flags: as of the standard library.

    Returns a list of ``(family, type, proto, canonname, sockaddr)``.  Raises `socket.gaierror` if there is none, also
    if *host* cannot be a name: one that is empty, or has a label that is empty or longer than 63 characters.
    OverflowError for a port beyond 65535, ValueError for a NUL in it or in the host, TypeError for other types.
    """
    check_port(port)
    if host is None:
        return system_getaddrinfo(host, port, family, type, proto, flags)
    host = text_of(host)
    if flags & socket.AI_NUMERICHOST or is_literal(socket.AF_INET, host) or is_literal(socket.AF_INET6, host):
        return system_getaddrinfo(host, port, family, type, proto, flags | socket.AI_NUMERICHOST)
    checked_name(host)
    resolver = _resolver
    ask = getattr(resolver, "getaddrinfo", None)
    found: list[Any] = [] if ask is None else ask(host, port, family, type, proto, flags)
    errors: list[Exception] = []
    for version, resolve in ((socket.AF_INET6, resolver.resolve_ipv6), (socket.AF_INET, resolver.resolve_ipv4)):
        if ask is None and family in (socket.AF_UNSPEC, version):
            try:
                answer = resolve(host) or ()
                for address in [answer] if isinstance(answer, (str, bytes)) else answer:
                    found += system_getaddrinfo(address, port, version, type, proto, flags | socket.AI_NUMERICHOST)
            except Exception as exc:
                if family != socket.AF_UNSPEC:
                    raise
                errors.append(exc)  # one of two families is enough
    try:
        if not found:
            raise errors[-1] if errors else no_name(host, f"{resolver!r} knows no address of it")
        return found
    finally:
        errors.clear()  # their tracebacks hold this frame


@mapped()
def getnameinfo(sockaddr: Address, flags: int = 0) -> tuple[str, str]:
    """Do what the standard library's function of this name does, and block the calling coroutine only.

    The system is asked, whatever `set_resolver` was given.  With ``NI_NUMERICHOST`` nobody is.

    Args:
        sockaddr: an address as that of `sock.getpeername`: a tuple of a host, which must be no name, and a port.
        flags: as of the standard library.

    Returns the names of the host and of the service.  Raises `socket.gaierror` if there is none.
    """
    host_of(sockaddr)
    if flags & socket.NI_NUMERICHOST:
        return system_getnameinfo(sockaddr, flags)
    return _system.getnameinfo(sockaddr, flags)


# -- addresses -------------------------------------------------------------------------------------------------------


def is_literal(domain: int, host: str) -> bool:
    """Whether *host* is an address of the family *domain*, not a name."""
    try:
        socket.inet_pton(domain, host.partition("%")[0] if domain == socket.AF_INET6 else host)
    except (OSError, ValueError):
        return False
    return True


def text_of(host: Any) -> str:
    """Return *host*, a str or ASCII bytes, as a str."""
    if isinstance(host, (bytes, bytearray)):
        try:
            host = host.decode("ascii")
        except UnicodeDecodeError:
            raise no_name(host, "bytes must be ASCII") from None
    if not isinstance(host, str):
        raise TypeError(f"a host is a str, not {host!r}")
    if "\0" in host:  # the system would take what stands before it
        raise ValueError(f"there is no NUL in a host: {host!r}")
    return host


def checked_name(name: str) -> str:
    """Return *name* unless it cannot be the name of a host."""
    if not text_of(name):
        raise no_name(name, "it is empty")
    try:
        name.encode("idna")
    except UnicodeError:
        raise no_name(name, "a name is made of labels of 1 to 63 characters, with dots between them") from None
    return name


def no_name(host: object, why: str) -> socket.gaierror:
    """Make the error for a name that has no address."""
    return socket.gaierror(socket.EAI_NONAME, f"the host {host!r} is not known: {why}")


def check_port(port: Any) -> None:
    """Refuse what is neither the number of a port nor the name of a service: the system may make another one of it."""
    number = port
    if isinstance(port, (str, bytes)):
        if (b"\0" if isinstance(port, bytes) else "\0") in port:  # type: ignore[operator]
            raise ValueError(f"there is no NUL in a port: {port!r}")
        number = int(port) if port.isdigit() and port.isascii() else None
    if number is None:
        return
    if not isinstance(number, int):
        raise TypeError(f"a port is a number or the name of a service, not {port!r}")
    if not 0 <= number <= 65535:
        raise OverflowError(f"a port is 0-65535, not {port!r}")


def check_number(port: Any) -> None:
    """Refuse what is not the number of a port."""
    if not isinstance(port, int):
        raise TypeError(f"the port of an address is a number, not {port!r}")
    check_port(port)


def host_of(address: Address) -> str:
    """Return the host of *address*, which is to be a tuple for AF_INET or AF_INET6."""
    if not isinstance(address, tuple) or len(address) < 2:
        raise TypeError(f"an address is a tuple of a host and a port, not {address!r}")
    return text_of(address[0])


def resolved(domain: int, stype: int, address: Address, resolve: bool = True) -> Address:
    """Return *address* of the family AF_INET or AF_INET6 with a number for a host that is a name."""
    host = host_of(address)
    if host in ("", "<broadcast>") or is_literal(domain, host):
        return (host, *address[1:])
    other = socket.AF_INET if domain == socket.AF_INET6 else socket.AF_INET6
    if is_literal(other, host):
        raise ValueError(f"{host!r} is an address of another family than the socket, which has {domain!r}")
    if not resolve:
        raise ValueError(f"{host!r} is no address: a name must be resolved before")
    check_number(address[1])
    found = getaddrinfo(host, None, domain, stype)[0][4]
    return (found[0], *address[1:], *found[len(address) :])
