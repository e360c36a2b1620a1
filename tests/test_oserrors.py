"""Classes of OSError for each errno: what catches what, and what is carried over (C9, D-48)."""

from __future__ import annotations

import errno
import os
import pickle
import socket
import traceback

import pytest

import coro
from coro import oserrors

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
