"""A Python prompt inside a running program, over a Unix socket or TCP: spawn `serve`, then connect with ``nc -U``.

Stands on `coro.servers` and `coro.read_stream`.  While a session is open, `sys.stdout` and `sys.stderr` are objects
that pass each write on: to the terminal of the session for the coroutine that serves it and those that this has
spawned, and for everybody else to the stream that was there before.  Whose it is says a context variable, so a
statement may block, and there may be several sessions, and no output goes astray (D-47).
"""

from __future__ import annotations

import ast
import codeop
import errno
import io
import os
import socket
import stat
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Final, NoReturn

from .connect import create_server
from .kernel import calling, this_kernel
from .locks import mutex
from .read_stream import LineTooLong, buffered_stream
from .report import print_stderr
from .servers import StreamServer, check_address, is_abandoned
from .sockets import Address, sock

__all__ = ["backdoor", "client", "serve"]

PORTS: Final = range(8023, 8033)
NAME: Final = "<backdoor>"  # what tracebacks call the file of the statements
END_OF_INPUT: Final = b"\x04"  # ^D on a terminal that is not in line mode

Client = Callable[[sock, Address, str | None, dict[str, Any] | None], object]


# -- whose output goes where -----------------------------------------------------------------------------------------


class Terminal(io.TextIOBase):
    """What `sys.stdout` and `sys.stderr` are within a session: lines go to its socket as they are complete."""

    def __init__(self, conn: sock, line_separator: str) -> None:
        self._conn = conn
        self._line_separator = line_separator
        self._kernel = this_kernel()
        self._pending = ""
        self._sending = mutex()
        self.open = False

    def is_mine(self) -> bool:
        """Whether the caller can write here: it runs in a coroutine, in the right thread, while the session is open."""
        return self.open and self._kernel is this_kernel() and self._kernel.current is not None

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self._pending += text
        if "\n" in text:
            self.flush()
        return len(text)

    def flush(self) -> None:
        text, self._pending = self._pending, ""
        if text and self.open:
            data = text.replace("\n", self._line_separator).encode("utf-8", "backslashreplace")
            with self._sending, suppress(OSError):  # it has hung up: the next read will tell
                self._conn.send(data)


class Nowhere(io.TextIOBase):
    """In the place of a stream that the program does not have."""

    def write(self, text: str) -> int:
        return len(text)


class Router:
    """Stands for `sys.stdout` or `sys.stderr` while there are sessions."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        terminal = _terminal.get()
        if terminal is not None and terminal.is_mine():
            return getattr(terminal, name)
        return getattr(Nowhere() if self._stream is None else self._stream, name)


_terminal: ContextVar[Terminal | None] = ContextVar("coro.backdoor", default=None)
_lock: Final = threading.Lock()
_routers: Final[dict[str, Router]] = {}
_sessions = 0


@contextmanager
def routed(terminal: Terminal) -> Iterator[None]:
    """While the block runs, the output of this coroutine and its children goes to *terminal*."""
    global _sessions
    with _lock:
        if not _sessions:
            for name in ("stdout", "stderr"):
                _routers[name] = Router(getattr(sys, name))
                setattr(sys, name, _routers[name])
        _sessions += 1
    token = _terminal.set(terminal)
    terminal.open = True
    try:
        yield
    finally:
        terminal.open = False
        _terminal.reset(token)
        with _lock:
            _sessions -= 1
            if not _sessions:
                for name, router in _routers.items():
                    if getattr(sys, name) is router:  # else the program has set another one meanwhile
                        setattr(sys, name, router._stream)
                _routers.clear()


# -- a session -------------------------------------------------------------------------------------------------------


class backdoor:
    """A session: reads statements from a socket, runs them, and sends back what they print.

    Args:
        sock: the connection.
        line_separator: what to end the lines with that are sent.  Those that are read may end in LF or CRLF.
        welcome_message: what to say first, after the version of Python; None for nothing.
        global_dict: the names that the statements see; None for those of the main program.  The session gets a copy.

    To be derived from: `login` and `print_result` are there to be overridden.
    """

    def __init__(
        self,
        sock: sock,
        line_separator: str = "\r\n",
        welcome_message: str | None = None,
        global_dict: dict[str, Any] | None = None,
    ) -> None:
        self.sock = sock
        self.welcome_message = welcome_message
        self.env = dict(vars(sys.modules["__main__"]) if global_dict is None else global_dict)
        # The builtin ones would close the standard input of the program, or wait for it.
        self.env.update(exit=leave, quit=leave, input=self._input)
        self._terminal = Terminal(sock, line_separator)
        self._lines = buffered_stream(self._receive)

    def login(self) -> None:
        """Called first.  Override it to ask who is there, with `send` and `read_line`; raise SystemExit to refuse."""

    def print_result(self, result: object) -> None:
        """Print what an expression evaluated to, unless it is None.  Override it for another form."""
        print(repr(result))

    def send(self, text: str) -> None:
        """Send *text*.  If the other end has hung up, nothing happens."""
        self._terminal.write(text)
        self._terminal.flush()

    def read_line(self) -> str | None:
        """Return the next line without its end, or None if there is none: the connection or the input has ended."""
        try:
            line = self._lines.read_until(b"\n")
        except LineTooLong as exc:
            self.send(f"{exc}\n")
            return None
        except OSError:
            return None
        return line.rstrip(b"\r\n").decode("utf-8", "replace") if line else None

    def read_eval_print_loop(self) -> None:
        """Serve the session until its input ends, or a statement raises SystemExit, as ``exit()`` does."""
        calling()
        with routed(self._terminal), suppress(SystemExit):
            self.login()
            self.send(f"Python {sys.version} on {sys.platform}\n")
            if self.welcome_message is not None:
                self.send(self.welcome_message.rstrip("\n") + "\n")
            source: list[str] = []
            while True:
                self.send(str(getattr(sys, "ps2", "... ") if source else getattr(sys, "ps1", ">>> ")))
                line = self.read_line()
                if line is None:
                    break
                source.append(line)
                if self._run("\n".join(source)):
                    source.clear()

    def _input(self, prompt: object = "") -> str:
        self.send(str(prompt))
        line = self.read_line()
        if line is None:
            raise EOFError("the input of the session has ended")
        return line

    def _receive(self) -> bytes:
        data = self.sock.recv(8192)
        return b"" if data == END_OF_INPUT else data

    def _run(self, source: str) -> bool:
        """Run *source* and print what it evaluates to.  Returns whether it was complete."""
        try:
            if codeop.compile_command(source, NAME) is None:
                return False
            body = ast.parse(source, NAME).body
        except Exception as exc:  # also a RecursionError or a MemoryError of the compiler
            self._terminal.write("".join(traceback.format_exception_only(exc)))
            return True
        try:
            last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
            exec(compile(ast.Module(body, []), NAME, "exec", dont_inherit=True), self.env)
            if isinstance(last, ast.Expr):
                result = eval(compile(ast.Expression(last.value), NAME, "eval", dont_inherit=True), self.env)
                if result is not None:
                    self.print_result(result)
                    self.env["_"] = result
        except Exception as exc:
            stack = exc.__traceback__
            lines = traceback.format_exception(type(exc), exc, stack and stack.tb_next)  # without this frame
            self._terminal.write("".join(lines))
        return True


def leave() -> NoReturn:
    """End the session."""
    raise SystemExit


def client(
    conn: sock, addr: Address, welcome_message: str | None = None, global_dict: dict[str, Any] | None = None
) -> None:
    """Serve one connection: what `serve` calls by default."""
    backdoor(conn, welcome_message=welcome_message, global_dict=global_dict).read_eval_print_loop()


# -- the server ------------------------------------------------------------------------------------------------------


def serve(
    port: int | Iterable[int] | None = None,
    ip: str | None = None,
    unix_path: str | None = None,
    welcome_message: str | None = None,
    global_dict: dict[str, Any] | None = None,
    client_class: Client | None = None,
) -> None:
    """Offer a Python prompt to whoever connects, each in a coroutine of its own.

    Never returns: spawn it.  When it is shut down, so are the sessions.

    Args:
        port: listen on this TCP port, or on the first of these that is free.  If only *ip* is given, 8023 to 8032.
        ip: the address to listen on, by default 127.0.0.1; "" for all addresses of the machine.
        unix_path: listen on a Unix socket there, which only its owner may connect to (its mode is 0600).  A socket
            that is left of a process that has ended is replaced; anything else in its place is an error.
        welcome_message: what to say first; None for nothing.
        global_dict: the names that the statements see; None for those of the main program.  Each session gets a copy.
        client_class: what to call as ``client_class(conn, addr, welcome_message, global_dict)`` for each connection,
            by default `client`.  The connection is closed when it returns.

    Without *port*, *ip* and *unix_path* it is a Unix socket in the directory for such files (``XDG_RUNTIME_DIR``, or
    that for temporary ones), called ``coro-backdoor.`` and the number of the process.  Where it listens is said on
    stderr.  Whoever can connect can do whatever the process can: any user of the machine with TCP on 127.0.0.1.

    Raises OSError if it cannot listen there, FileExistsError for a path at which there is something else, ValueError
    for both a path and an address, TypeError for a *client_class* that cannot be called, `YieldFromMain` outside a
    coroutine.
    """
    calling()
    call = client if client_class is None else client_class
    if not callable(call):
        raise TypeError(f"a client_class is called for each connection, which {client_class!r} cannot be")

    def session(conn: sock, addr: Address) -> None:
        print_stderr(f"backdoor: connection from {addr!r}")
        call(conn, addr, welcome_message, global_dict)

    with listening(port, ip, unix_path) as listener:
        print_stderr(f"backdoor: listening on {listener.getsockname()!r}")
        StreamServer(listener, session, name="backdoor session").serve_forever()


@contextmanager
def listening(port: int | Iterable[int] | None, ip: str | None, unix_path: str | None) -> Iterator[sock]:
    """Open the socket that `serve` listens on, and close it, and remove its file, at the end of the block."""
    tcp = port is not None or ip is not None
    if tcp and unix_path is not None:
        raise ValueError(f"give a path ({unix_path!r}) or an address (port {port!r}, ip {ip!r}), not both")
    if tcp or not hasattr(socket, "AF_UNIX"):
        with bound("127.0.0.1" if ip is None else ip, port) as listener:
            yield listener
        return
    path = default_path() if unix_path is None else unix_path
    remove_stale(path)
    with sock(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        try:
            made = os.lstat(path)
            os.chmod(path, 0o600)  # before listen(): until then nobody can connect
            listener.listen()
            yield listener
        finally:
            with suppress(FileNotFoundError):
                if os.path.samestat(os.lstat(path), made):
                    os.unlink(path)


def bound(ip: str, port: int | Iterable[int] | None) -> sock:
    """Return a socket that listens on the first port that is free."""
    ports = list(PORTS) if port is None else [port] if isinstance(port, int) else list(port)
    for number in ports:
        check_address((ip, number))
    for number in ports:
        try:
            return create_server((ip, number))
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE:
                raise
    raise OSError(errno.EADDRINUSE, f"no port of {ports} is free on {ip!r}: give another one")


def default_path() -> str:
    """Return where the Unix socket of this process is, if nobody says otherwise."""
    return os.path.join(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir(), f"coro-backdoor.{os.getpid()}")


def remove_stale(path: str) -> None:
    """Remove a socket at *path* that nobody listens on.  OSError if there is anything else."""
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise FileExistsError(errno.EEXIST, "this is not a socket, and will not be removed", path)
        if not is_abandoned(path):
            raise OSError(errno.EADDRINUSE, "another process listens on this socket", path)
        os.unlink(path)
