"""Classes of OSError for each errno: what catches what, and what is carried over (C9, D-48)."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import pickle
import socket
import subprocess
import sys
import traceback
import weakref

import pytest

import coro
from coro import oserrors
from coro.sockets import AF, SHUT, SOCK, SOL, fd_sock, sock

posix = pytest.mark.skipif(
    sys.platform == "win32", reason="Windows reports other errors than POSIX for what is done here"
)
linux = pytest.mark.skipif(
    sys.platform != "linux", reason="what the resolver reports without a descriptor is known of Linux only"
)

NAMES = sorted(name for name, number in vars(errno).items() if isinstance(number, int))
ALONE = {  # those that have a builtin class to themselves
    "ECHILD": ChildProcessError,
    "ECONNABORTED": ConnectionAbortedError,
    "ECONNREFUSED": ConnectionRefusedError,
    "ECONNRESET": ConnectionResetError,
    "EEXIST": FileExistsError,
    "EINTR": InterruptedError,
    "EISDIR": IsADirectoryError,
    "ENOENT": FileNotFoundError,
    "ENOTDIR": NotADirectoryError,
    "ESRCH": ProcessLookupError,
    "ETIMEDOUT": TimeoutError,
}


def raised(number, *args):
    """What mapped() makes of a plain OSError with this number."""
    try:
        with oserrors.mapped():
            raise OSError(number, os.strerror(number), *args)
    except OSError as exc:
        return exc


@pytest.mark.parametrize("name", NAMES)
def test_D_48_every_name_of_the_module_errno_has_a_class(name):
    """Aliases too: names with the same number are the same class, and err_map has it by its number."""
    number = getattr(errno, name)
    kind = getattr(oserrors, name)

    assert issubclass(kind, OSError)
    assert kind is oserrors.err_map[number]
    assert type(raised(number)) is kind


def test_D_48_the_aliases_that_shrapnel_lacked_are_there():
    """Where two names have one number, both catch."""
    for one, other in (("EWOULDBLOCK", "EAGAIN"), ("EDEADLK", "EDEADLOCK"), ("EOPNOTSUPP", "ENOTSUP")):
        if getattr(errno, one, 0) == getattr(errno, other, 1):
            assert getattr(oserrors, one) is getattr(oserrors, other)
    assert issubclass(oserrors.EWOULDBLOCK, BlockingIOError)


@pytest.mark.parametrize(("name", "builtin"), list(ALONE.items()))
def test_D_48_an_errno_with_a_builtin_class_to_itself_is_that_class(name, builtin):
    """So it catches what Python raises, wherever it comes from."""
    assert getattr(oserrors, name) is builtin
    with pytest.raises(getattr(oserrors, name)):
        raise OSError(getattr(errno, name), "as Python itself does it")


def test_D_48_an_error_of_python_itself_is_caught_by_name_by_builtin_and_as_OSError(tmp_path):
    """Three except clauses for one error of stat()."""
    for kind in (oserrors.ENOENT, FileNotFoundError, OSError):
        with pytest.raises(kind):
            os.stat(tmp_path / "missing")


def test_an_error_of_a_coro_socket_is_caught_by_name_by_builtin_and_as_OSError(loop):
    """Three except clauses for a connection that is refused."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = unused.getsockname()

        def main():
            for kind in (oserrors.ECONNREFUSED, ConnectionRefusedError, OSError):
                with coro.tcp_sock() as s, pytest.raises(kind) as caught:
                    s.connect(address)
                assert caught.value.errno == errno.ECONNREFUSED

        loop(main)


def test_errnos_that_share_a_builtin_class_are_told_apart():
    """EPERM does not catch EACCES, nor the other way round; PermissionError catches both."""
    assert issubclass(oserrors.EPERM, PermissionError)
    assert issubclass(oserrors.EACCES, PermissionError)
    assert not isinstance(raised(errno.EACCES), oserrors.EPERM)
    assert not isinstance(raised(errno.EPERM), oserrors.EACCES)
    assert type(raised(errno.EPIPE)) is oserrors.EPIPE
    assert issubclass(oserrors.EPIPE, BrokenPipeError)


def test_mapped_makes_an_except_clause_work_on_what_python_raises(tmp_path):
    """ENOTEMPTY has no builtin class: without mapped() the clause does not match, with it it does."""
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=os.strerror(errno.ENOTEMPTY)) as plain:
        os.rmdir(tmp_path)
    assert type(plain.value) is OSError

    try:
        with oserrors.mapped():
            os.rmdir(tmp_path)
    except oserrors.ENOTEMPTY as exc:
        caught = exc

    assert caught.errno == errno.ENOTEMPTY
    assert caught.strerror == os.strerror(errno.ENOTEMPTY)
    assert str(caught) == str(plain.value)
    assert traceback.extract_tb(caught.__traceback__)[-1].line == "os.rmdir(tmp_path)"


def test_mapped_is_a_decorator_too_and_leaves_other_errors_alone():
    """What is no OSError passes through as it is, and so does a result."""

    @oserrors.mapped()
    def fail(exc):
        if exc is None:
            return 5
        raise exc

    error = ValueError("mine")
    with pytest.raises(ValueError, match="mine") as caught:
        fail(error)
    assert caught.value is error
    assert fail(None) == 5
    with pytest.raises(oserrors.EMFILE):
        fail(OSError(errno.EMFILE, "too many"))


def test_D_48_the_file_names_are_kept():
    """One, or both of an operation on two files."""
    one = raised(errno.EXDEV, "first")
    two = raised(errno.EXDEV, "first", None, "second")

    assert (one.filename, one.filename2) == ("first", None)
    assert (two.filename, two.filename2) == ("first", "second")
    assert str(two).endswith("'first' -> 'second'")


def test_causes_contexts_and_notes_are_kept():
    """The mapped error stands in the place of the original, which does not show up as its context."""
    before, cause = ValueError("before"), KeyError("cause")

    def fail(how):
        error = OSError(errno.EMFILE, "too many")
        error.add_note("a note")
        with oserrors.mapped():
            if how == "cause":
                raise error from cause
            try:
                raise before
            except ValueError:
                raise error  # noqa: B904 - its context is what this is about

    with pytest.raises(oserrors.EMFILE) as caught:
        fail("context")
    assert caught.value.__context__ is before
    assert caught.value.__cause__ is None
    assert not caught.value.__suppress_context__
    assert caught.value.__notes__ == ["a note"]
    with pytest.raises(oserrors.EMFILE) as caught:
        fail("cause")
    assert caught.value.__cause__ is cause
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EACCES, errno.ECONNRESET, errno.EAGAIN])
def test_the_errors_can_be_pickled(number):
    """For each protocol, with their file names."""
    error = raised(number, "a file")
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        copy = pickle.loads(pickle.dumps(error, protocol))
        assert type(copy) is type(error)
        assert (copy.errno, copy.strerror, copy.filename) == (number, os.strerror(number), "a file")


def test_raise_oserror_raises_by_number():
    """The class for the number, or a plain OSError for a number that nobody knows.  Only ints are numbers."""
    with pytest.raises(oserrors.EMFILE) as caught:
        oserrors.raise_oserror(errno.EMFILE)
    assert caught.value.args == (errno.EMFILE, os.strerror(errno.EMFILE))
    with pytest.raises(ConnectionResetError):
        oserrors.raise_oserror(errno.ECONNRESET)
    with pytest.raises(OSError, match="54321") as caught:
        oserrors.raise_oserror(54321)
    assert type(caught.value) is OSError
    with pytest.raises(TypeError):
        oserrors.raise_oserror("EMFILE")  # type: ignore[arg-type]


def test_map_exception_raises_the_class_for_the_errno():
    """As in Shrapnel; an error of unknown number, or of a class of its own, is raised as it is."""
    with pytest.raises(oserrors.EADDRINUSE) as caught:
        oserrors.map_exception(OSError(errno.EADDRINUSE, "taken"))
    assert caught.value.strerror == "taken"
    for error in (OSError("no number"), OSError(54321, "unknown"), coro.ClosedError("closed"), raised(errno.EMFILE)):
        with pytest.raises(type(error)) as caught:
            oserrors.map_exception(error)
        assert caught.value is error


def test_how_much_was_written_is_kept():
    """A BlockingIOError says how many characters were written before it."""
    error = BlockingIOError(errno.EAGAIN, "later", 7)
    assert error.characters_written == 7

    assert oserrors.specific(error).characters_written == 7


# -- what the calls of coro raise ------------------------------------------------------------------------------------


def shut_down(stack):
    a, b = coro.socketpair()
    stack.enter_context(b)
    stack.enter_context(a).shutdown(SHUT.WR)
    return a


def full_and_shut_down(stack):
    """A socket whose writer waits when the other end goes away."""
    a, b = coro.socketpair()
    stack.enter_context(a)
    with contextlib.suppress(BlockingIOError):
        while True:
            a._socket.send(b"x" * 65536)
    coro.spawn(b.close)
    return a


def pipe(stack):
    reader, writer = os.pipe()
    stack.callback(os.close, reader)
    return stack.enter_context(fd_sock(writer))


def tcp(stack):
    return stack.enter_context(coro.tcp_sock())


def udp(stack):
    return stack.enter_context(coro.udp_sock())


def listener(stack):
    return stack.enter_context(coro.create_server(("127.0.0.1", 0)))


def taken(stack):
    return listener(stack).getsockname()


def closed_number():
    number = os.dup(0)
    os.close(number)
    return number


def through_a_file(s):
    with contextlib.closing(s.makefile("wb", 0)) as file:
        file.write(b"x")


CALLS = {
    "create_server": ("EADDRINUSE", taken, coro.create_server),
    "create_connection": (
        "EADDRINUSE",
        taken,
        lambda address: coro.create_connection(address, source_address=address),
    ),
    "bind": ("EADDRINUSE", lambda stack: (tcp(stack), taken(stack)), lambda pair: pair[0].bind(pair[1])),
    "bind elsewhere": ("EADDRNOTAVAIL", tcp, lambda s: s.bind(("192.0.2.1", 0))),
    "connect": ("EISCONN", listener, lambda s: s.connect(s.getsockname())),
    "listen": ("EOPNOTSUPP", udp, lambda s: s.listen()),
    "accept": ("EINVAL", tcp, lambda s: s.accept()),
    "accept_many": ("EINVAL", tcp, lambda s: s.accept_many()),
    "shutdown": ("ENOTCONN", tcp, lambda s: s.shutdown(SHUT.WR)),
    "getpeername": ("ENOTCONN", tcp, lambda s: s.getpeername()),
    "recv": ("ENOTCONN", tcp, lambda s: s.recv(1)),
    "recv some": ("ENOTCONN", tcp, lambda s: s.recv(1, socket.MSG_PEEK)),
    "recv_into": ("ENOTCONN", tcp, lambda s: s.recv_into(bytearray(1))),
    "recv_exact": ("ENOTCONN", tcp, lambda s: s.recv_exact(1)),
    "getsockopt": ("ENOPROTOOPT", tcp, lambda s: s.getsockopt(SOL.SOCKET, 9999)),
    "setsockopt": ("ENOPROTOOPT", tcp, lambda s: s.setsockopt(SOL.SOCKET, 9999, 1)),
    "send": ("EPIPE", shut_down, lambda s: s.send(b"x")),
    "send a view": ("EPIPE", shut_down, lambda s: s.send(memoryview(b"x"))),
    "send and wait": ("EPIPE", full_and_shut_down, lambda s: s.send(b"x")),
    "writev": ("EPIPE", shut_down, lambda s: s.writev([b"x", b"y"])),
    "sendmsg": ("EPIPE", shut_down, lambda s: s.sendmsg([b"x"])),
    "makefile": ("EPIPE", shut_down, through_a_file),
    "sendto": ("EMSGSIZE", udp, lambda s: s.sendto(b"x" * 70000, ("127.0.0.1", 9))),
    "sock": ("EPROTONOSUPPORT", lambda stack: None, lambda _: sock(AF.INET, SOCK.STREAM, 17)),
    "sock of a number": ("EBADF", lambda stack: closed_number(), lambda number: sock(fd=number)),
    "socketpair": ("EOPNOTSUPP", lambda stack: None, lambda _: coro.socketpair(AF.INET)),
    "no socket": ("ENOTSOCK", pipe, lambda s: s.getsockname()),
    "no datagrams": ("ENOTSOCK", pipe, lambda s: s.recvfrom(10)),
}
if sys.platform != "linux":  # others differ in what they find wrong with these
    for call in ("shutdown", "connect", "sock", "socketpair", "send and wait", "listen", "getsockopt", "setsockopt"):
        del CALLS[call]


@posix
@pytest.mark.parametrize("call", CALLS)
def test_an_error_of_a_call_of_coro_is_caught_by_its_name(loop, call):
    """With the errno, as what Python has for it too, with nothing about another error beside it."""
    name, make, function = CALLS[call]
    number = getattr(errno, name)

    def main():
        with contextlib.ExitStack() as stack:
            subject = make(stack)
            with pytest.raises(getattr(oserrors, name)) as caught:
                function(subject)
        assert caught.value.errno == number
        assert isinstance(caught.value, type(OSError(number, "")))
        frames = traceback.extract_tb(caught.value.__traceback__)
        assert frames[0].name == "main"
        assert "raise_specific" not in [frame.name for frame in frames]
        assert "another exception" not in "".join(traceback.format_exception(caught.value))

    loop(main)


def test_an_error_of_a_call_of_coro_is_caught_in_the_midst_of_another(loop):
    """What was being handled before is its context, as always."""

    def main():
        before = ValueError("before")
        a, b = coro.socketpair()
        with b, a:
            a.shutdown(SHUT.WR)
            try:
                raise before
            except ValueError:
                with pytest.raises(oserrors.EPIPE) as caught:
                    a.send(b"x")
        assert caught.value.__context__ is before
        assert not caught.value.__suppress_context__
        assert traceback.extract_tb(caught.value.__traceback__)[-1].line == "sent = self._io.send(data)"

    if hasattr(errno, "EPIPE"):
        loop(main)


def test_an_error_with_a_builtin_class_is_raised_as_it_is(loop):
    """ECONNREFUSED: nothing is put in its place, so its traceback has each place once."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = unused.getsockname()

        def main():
            with coro.tcp_sock() as s, pytest.raises(ConnectionRefusedError) as caught:
                s.connect(address)
            assert type(caught.value) is ConnectionRefusedError
            names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
            assert names.count("connect") == 1

        loop(main)


def test_an_error_is_freed_with_its_last_name(loop):
    """It does not hold itself by way of its traceback and the frames in there."""

    def main():
        with coro.tcp_sock() as s:
            try:
                s.getpeername()
            except oserrors.ENOTCONN as exc:
                found = weakref.ref(exc)
            assert found() is None

    gc.disable()
    try:
        loop(main)
    finally:
        gc.enable()


def test_a_wait_that_the_poller_refuses_is_caught_by_the_name_of_the_error(loop, poller, tmp_path):
    """EPERM of a poller that takes no regular files.  Those that do take them do not wait."""
    (tmp_path / "file").touch()

    def main():
        with fd_sock(os.open(tmp_path / "file", os.O_RDONLY)) as s:
            for wait in (s.wait_for_read, s.wait_for_write):
                with contextlib.nullcontext() if poller == "kqueue" else pytest.raises(oserrors.EPERM):
                    wait()

    loop(main)


@linux
def test_a_name_cannot_be_looked_up_without_a_descriptor():
    """EMFILE of the system's resolver, which is no gaierror; the name is imported when it is needed only."""
    script = """
import coro, os, resource, socket
def main():
    try:
        coro.getaddrinfo("localhost", 80)  # starts a thread
    except socket.gaierror:
        pass
    resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
    try:
        while True:
            os.dup(0)
    except OSError:
        pass
    try:
        coro.getaddrinfo("nonesuch.invalid", 80)
    except coro.oserrors.EMFILE:
        print("EMFILE")
    except socket.gaierror:
        print("gaierror")
coro.set_latency_warning(0)
coro.run(main)
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) in [("EMFILE\n", ""), ("gaierror\n", "")]  # as the C library likes it


def test_classes_are_made_when_they_are_asked_for():
    """``import coro`` needs none, and importing the sockets does not make this one."""
    script = """
import errno, sys, coro
assert "coro.oserrors" not in sys.modules
import coro.sockets
assert errno.EMFILE not in coro.oserrors._classes
assert coro.oserrors.EMFILE is coro.oserrors._classes[errno.EMFILE]
"""
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == 0


def test_all_names_are_listed_and_others_are_errors():
    """dir() has them before they are used; nothing else of the module errno is taken over."""
    assert {*NAMES, "err_map", "mapped"} <= set(dir(oserrors))
    assert oserrors.err_map is oserrors.err_map
    for name in ("errorcode", "ENONESUCH", "__wrapped__"):
        with pytest.raises(AttributeError, match=name):
            getattr(oserrors, name)


def test_an_errno_that_is_no_number_is_left_alone():
    """OSError takes anything for one."""
    for error in (OSError([], "no number"), OSError("EMFILE", "no number"), OSError(None, "no number")):
        assert oserrors.specific(error) is error


# -- beyond sockets --------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no device here that is always full")
def test_files_waits_and_processes_raise_the_class_of_the_errno(loop, tmp_path):
    """``except oserrors.ENOSPC`` and the like work on `coro.files`, `wait_for_read` and `Popen` too."""
    regular = tmp_path / "regular"
    regular.write_bytes(b"")

    def write_to_a_full_device():
        with coro.files.open("/dev/full", "wb", 0) as file:
            file.write(b"x")

    def wait_for_a_regular_file():
        with regular.open() as file:
            coro.wait_for_read(file)

    def wait_for_a_closed_descriptor():
        closed = os.dup(0)
        os.close(closed)
        coro.wait_for_write(closed)

    def main():
        for expected, call in (
            (oserrors.EBADF, wait_for_a_closed_descriptor),
            (oserrors.EPERM, wait_for_a_regular_file),
            (oserrors.ENAMETOOLONG, lambda: coro.files.open("x" * 5000)),
            (oserrors.ENOSPC, write_to_a_full_device),
            (oserrors.E2BIG, lambda: coro.subprocess.Popen(["true", "x" * 5_000_000])),
        ):
            with pytest.raises(expected) as caught:
                call()
            assert type(caught.value) is expected

    loop(main)


def test_a_closed_socket_is_a_bad_descriptor(loop):
    """`coro.ClosedError` is an ``oserrors.EBADF``."""

    def main():
        one = coro.tcp_sock()
        one.close()
        with pytest.raises(oserrors.EBADF) as caught:
            one.recv(1)
        assert isinstance(caught.value, coro.ClosedError)

    loop(main)
