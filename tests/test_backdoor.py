"""The Python prompt inside a running program: sessions, whose output goes where, and what it listens on (C7, D-47)."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import socket
import stat
import sys
import tempfile

import pytest

import coro
from coro import backdoor
from coro.read_stream import sock_stream

from .helpers import free_port

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs Unix sockets")

PROMPT, MORE = b">>> ", b"... "


@pytest.fixture
def path():
    """Where a socket may be: short enough for its name."""
    with tempfile.TemporaryDirectory() as directory:
        yield os.path.join(directory, "door")


@pytest.fixture(autouse=True)
def streams():
    """After each test the standard streams are those that were there before."""
    before = sys.stdout, sys.stderr
    yield
    assert (sys.stdout, sys.stderr) == before
    assert not backdoor._routers


@contextlib.contextmanager
def serving(path, **kwargs):
    """A server at *path* while the block runs."""
    server = coro.spawn(backdoor.serve, unix_path=path, **kwargs)
    coro.yield_slice()
    try:
        yield server
    finally:
        server.shutdown()
        server.join()


class Visitor:
    """Somebody who has connected."""

    def __init__(self, path):
        self.sock = coro.unix_sock()
        self.sock.connect(path)
        self.stream = sock_stream(self.sock)

    def __enter__(self):
        self.greeting = self.until()
        return self

    def __exit__(self, *exc):
        self.sock.close()
        coro.yield_slice()  # the session ends

    def until(self, end=PROMPT):
        text = self.stream.read_until(end)
        assert text.endswith(end), text
        return text.removesuffix(end).decode().replace("\r\n", "\n")

    def say(self, text):
        self.sock.send(text.encode())

    def ask(self, statement, end=PROMPT):
        """Send a line and return what comes before the next prompt."""
        self.say(statement + "\n")
        return self.until(end)

    def rest(self):
        """What comes until the session ends."""
        return b"".join(self.stream.read_all()).decode().replace("\r\n", "\n")


def visit(loop, path, body, **kwargs):
    """Run ``body(visitor)`` against a server at *path*."""

    def main():
        with serving(path, **kwargs), Visitor(path) as visitor:
            body(visitor)

    coro.with_timeout(20, loop, main)


# -- a session -------------------------------------------------------------------------------------------------------


def test_expressions_are_evaluated_and_statements_run(loop, path):
    """An expression is answered with its repr, which is then called _; a statement with what it prints."""

    def body(visitor):
        assert visitor.ask("6 * 7") == "42\n"
        assert visitor.ask("_ + 1") == "43\n"
        assert visitor.ask("None") == ""
        assert visitor.ask("_") == "43\n"
        assert visitor.ask("text = 'é\\n'; text") == "'é\\n'\n"
        assert visitor.ask("print(text * 2, end='')") == "é\né\n"
        assert visitor.ask("import sys; print('err', file=sys.stderr)") == "err\n"
        assert visitor.ask("") == ""

    visit(loop, path, body)


def test_a_statement_of_several_lines_ends_with_an_empty_line(loop, path):
    """Each line before is answered with the second prompt; so is an open bracket."""

    def body(visitor):
        assert visitor.ask("def double(x):", MORE) == ""
        assert visitor.ask("    return 2 * x", MORE) == ""
        assert visitor.ask("") == ""
        assert visitor.ask("double(", MORE) == ""
        assert visitor.ask("21)") == "42\n"
        assert visitor.ask("for i in range(2):", MORE) == ""
        assert visitor.ask("  print(double(i))", MORE) == ""
        assert visitor.ask("") == "0\n2\n"

    visit(loop, path, body)


def test_exceptions_are_answered_with_a_traceback_and_the_session_goes_on(loop, path):
    """It begins in the statement; the frames of the server are left out."""

    def body(visitor):
        visitor.ask("def fail(): 1 / 0", MORE)
        visitor.ask("")
        text = visitor.ask("fail()")
        assert text.startswith('Traceback (most recent call last):\n  File "<backdoor>", line 1, in <module>\n')
        assert text.endswith("ZeroDivisionError: division by zero\n")
        assert "backdoor.py" not in text
        assert "SyntaxError" in visitor.ask("1 +* 2")
        assert visitor.ask("1 + 1") == "2\n"

    visit(loop, path, body)


def test_a_session_says_hello(loop, path):
    """The version of Python, and the message that serve() was given."""

    def body(visitor):
        assert visitor.greeting.startswith(f"Python {sys.version}".replace("\r\n", "\n"))
        assert visitor.greeting.endswith("Mind the gap.\nTwice.\n")

    visit(loop, path, body, welcome_message="Mind the gap.\nTwice.")


@pytest.mark.parametrize("end", ["\x04", "exit()\n", "quit()\n", "raise SystemExit(3)\n"])
def test_a_session_ends_by_control_D_and_by_SystemExit(loop, path, end, monkeypatch):
    """The connection is closed; the loop, and the stdin of the program, are not."""
    monkeypatch.setattr(sys, "stdin", io.StringIO())

    def body(visitor):
        visitor.say(end)
        assert visitor.rest() == ""
        with Visitor(path) as another:
            assert another.ask("1") == "1\n"

    visit(loop, path, body)
    assert not sys.stdin.closed


def test_the_end_of_the_input_ends_the_session_after_what_was_sent_before(loop, path):
    """Also if the last line has no end: what is piped into a session is answered completely."""

    def body(visitor):
        visitor.say("import coro\ncoro.sleep_relative(0.001); 'late'\n'last'")
        visitor.sock.shutdown(coro.SHUT.WR)
        assert visitor.rest() == ">>> 'late'\n>>> 'last'\n>>> "

    visit(loop, path, body)


def test_lines_may_end_in_LF_or_CRLF_and_those_sent_end_in_CRLF(loop, path):
    """As telnet has it."""

    def body(visitor):
        visitor.say("print('a\\nb')\r\n")
        assert visitor.stream.read_until(PROMPT) == b"a\r\nb\r\n>>> "

    visit(loop, path, body)


def test_bytes_that_are_no_UTF_8_do_no_harm(loop, path):
    """They are an error of the statement; what cannot be sent as UTF-8 is escaped."""

    def body(visitor):
        visitor.sock.send(b"\xff\xf4\xff\xfd\x06\n")
        assert "SyntaxError" in visitor.until()
        assert visitor.ask(r"print('\udcff')") == "\\udcff\n"

    visit(loop, path, body)


def test_a_line_that_is_too_long_ends_the_session(loop, path):
    """It says so first."""

    def body(visitor):
        visitor.say("x" * (2**20 + 1))
        assert "longer than 1048576 bytes" in visitor.rest()

    visit(loop, path, body)


def test_the_names_are_a_copy_of_those_of_the_main_program(loop, path):
    """What the session binds does not get into the program."""
    main = sys.modules["__main__"]

    def body(visitor):
        assert visitor.ask("__name__") == "'__main__'\n"
        visitor.ask("bound_by_a_session = 1")

    visit(loop, path, body)
    assert not hasattr(main, "bound_by_a_session")


def test_the_names_may_be_given(loop, path):
    """As a dict, of which each session gets a copy."""
    names = {"here": [1]}

    def body(visitor):
        visitor.ask("here.append(2); here = 3")

    visit(loop, path, body, global_dict=names)
    assert names == {"here": [1, 2]}


def test_input_asks_the_visitor(loop, path):
    """The builtin one would wait for the terminal of the program, and hold up all coroutines."""

    def body(visitor):
        assert visitor.ask("input('who? ')", b"? ") == "who"
        assert visitor.ask("me") == "'me'\n"

    visit(loop, path, body)


def test_login_and_print_result_can_be_overridden(loop, path):
    """SystemExit in login() refuses the visitor; what the session says and reads there is up to it."""

    class Mine(backdoor.backdoor):
        def login(self):
            self.send("password: ")
            if self.read_line() != "sesame":
                raise SystemExit

        def print_result(self, result):
            print("=", result)

    def mine(conn, addr, welcome_message, global_dict):
        Mine(conn, "\n", welcome_message, global_dict).read_eval_print_loop()

    def main():
        with serving(path, client_class=mine):
            stranger = Visitor(path)
            stranger.ask("please", b": ")
            assert stranger.rest() == ""
            stranger.sock.close()
            friend = Visitor(path)
            friend.say("sesame\n")
            friend.until()
            assert friend.ask("1 + 1") == "= 2\n"
            friend.sock.close()

    loop(main)


def test_a_visitor_who_hangs_up_in_the_middle_of_the_output_harms_nobody(loop, path):
    """The statement runs to its end; the session ends without an error."""
    done = []

    def body(visitor):
        visitor.say("import coro\nfor i in range(100): print('x' * 10000)\n\ndone.append(coro.current())\n")
        coro.yield_slice()
        visitor.sock.close()
        while not done:
            coro.sleep_relative(0.001)
        done.pop().join()

    visit(loop, path, body, global_dict={"done": done})


def test_sessions_end_with_the_loop(loop, path):
    """Those that wait for input and those that are blocked in a statement; the file of the socket goes."""

    def main():
        coro.spawn(backdoor.serve, unix_path=path)
        coro.yield_slice()
        idle, busy = Visitor(path), Visitor(path)
        idle.until()
        busy.until()
        busy.say("import coro; coro.suspend()\n")
        coro.yield_slice()
        assert os.path.exists(path)
        assert type(sys.stdout) is backdoor.Router
        idle.sock.close()
        busy.sock.close()

    loop(main)
    assert not os.path.exists(path)


# -- whose output goes where -----------------------------------------------------------------------------------------


def test_D_47_the_output_of_others_does_not_get_into_a_session_whose_statement_blocks(loop, path, capsys):
    """Both print while the statement of the session is blocked, and after it."""

    def body(visitor):
        visitor.say("import coro; print('one'); coro.suspend(); print('two')\n")
        assert visitor.stream.read_until(b"\n") == b"one\r\n"
        print("from the program")
        print("its error", file=sys.stderr)
        (blocked,) = (co for co in coro.all_threads.values() if co.name == "backdoor session")
        blocked.schedule()
        assert visitor.until() == "two\n"
        print("later")

    visit(loop, path, body)
    captured = capsys.readouterr()
    assert captured.out == "from the program\nlater\n"
    assert "its error\n" in captured.err


def test_D_47_two_sessions_at_once_do_not_get_each_others_output(loop, path, capsys):
    """Whichever begins and ends first; at the end sys.stdout is what it was."""
    before = sys.stdout

    def main():
        with serving(path):
            with Visitor(path) as first, Visitor(path) as second:
                for visitor, name in ((first, "first"), (second, "second")):
                    visitor.say(f"import coro; print('{name} a'); coro.sleep_relative(0.005); print('{name} b')\n")
                assert second.until() == "second a\nsecond b\n"
                assert first.until() == "first a\nfirst b\n"
                first.say("exit()\n")
                assert first.rest() == ""
                assert second.ask("print('alone')") == "alone\n"
            assert sys.stdout is before

    loop(main)
    assert capsys.readouterr().out == ""


def test_what_a_statement_spawns_prints_into_the_session_while_it_lasts(loop, path, capsys):
    """Afterwards it prints where the program does."""

    def body(visitor):
        child = "def child():\n  coro.suspend(); print('in'); coro.suspend(); print('out')\n\n"
        visitor.say(f"import coro\n{child}co = coro.spawn(child); names['co'] = co\n")
        while "co" not in names:
            coro.sleep_relative(0.001)
        co = names["co"]
        coro.yield_slice()
        co.schedule()
        visitor.until(b"in\r\n")
        visitor.say("exit()\n")
        visitor.rest()
        co.schedule()
        co.join()

    names = {}
    visit(loop, path, body, global_dict={"names": names})
    assert capsys.readouterr().out == "out\n"


def test_a_thread_that_a_statement_starts_prints_where_the_program_does(loop, path, capsys):
    """A thread cannot write to the socket of a coroutine."""

    def body(visitor):
        assert visitor.ask("import coro; coro.to_thread(print, 'threaded')") == ""

    visit(loop, path, body)
    assert capsys.readouterr().out == "threaded\n"


def test_a_stream_that_the_program_sets_meanwhile_stays(loop, path, capsys):
    """The end of the session does not put back the one before it."""
    with tempfile.TemporaryFile("w+") as file:
        before = sys.stdout

        def body(visitor):
            sys.stdout = file
            assert visitor.ask("1") == ""

        try:
            visit(loop, path, body)
            assert sys.stdout is file
        finally:
            sys.stdout = before
        file.seek(0)
        assert file.read() == "1\n"


def test_a_program_without_stdout_prints_nowhere(loop, path, monkeypatch):
    """sys.stdout may be None; print() then does nothing, also while there is a session."""
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", None)

        def body(visitor):
            assert visitor.ask("print('here')") == "here\n"
            print("nowhere")

        visit(loop, path, body)
        assert sys.stdout is None


def test_the_terminal_of_a_session_is_no_terminal(loop, path):
    """So that nobody starts a pager in it; what else is asked of the stream is answered by the program's own."""

    def body(visitor):
        assert visitor.ask("import sys; sys.stdout.isatty(), sys.stdout.writable()") == "(False, True)\n"
        assert "UnsupportedOperation" in visitor.ask("sys.stdout.fileno()")
        assert sys.stdout.encoding == sys.stdout._stream.encoding

    visit(loop, path, body)


# -- what it listens on ----------------------------------------------------------------------------------------------


def test_only_the_owner_may_connect_to_the_unix_socket(loop, path):
    """Its mode is 0600, whatever the umask."""

    def body(visitor):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600

    old = os.umask(0)
    try:
        visit(loop, path, body)
    finally:
        os.umask(old)


def test_without_arguments_it_is_a_unix_socket_of_this_process(loop, path, monkeypatch):
    """In XDG_RUNTIME_DIR, or else where temporary files are."""
    directory = os.path.dirname(path)
    monkeypatch.setenv("XDG_RUNTIME_DIR", directory)

    def main():
        with serving(None), Visitor(os.path.join(directory, f"coro-backdoor.{os.getpid()}")) as visitor:
            assert visitor.ask("1") == "1\n"

    loop(main)
    assert os.listdir(directory) == []
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert backdoor.default_path() == os.path.join(tempfile.gettempdir(), f"coro-backdoor.{os.getpid()}")


def test_a_socket_that_a_dead_process_has_left_is_replaced(loop, path):
    """Nobody listens on it any more."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(path)

    visit(loop, path, lambda visitor: None)
    assert not os.path.exists(path)


def test_a_socket_that_somebody_listens_on_is_left_alone(loop, path):
    """The second server gets an OSError that names the path, also while the queue of the first is full."""
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        other.listen(0)
        for _ in range(2):  # the first attempt fills the queue
            with pytest.raises(OSError, match="another process listens") as caught:
                loop(lambda: coro.with_timeout(20, backdoor.serve, unix_path=path))
            assert (caught.value.errno, caught.value.filename) == (errno.EADDRINUSE, path)
        assert os.path.exists(path)


def test_a_file_that_is_no_socket_is_left_alone(loop, path):
    """FileExistsError, and the file is there as before."""
    with open(path, "w") as file:
        file.write("precious")

    with pytest.raises(FileExistsError, match="not a socket"):
        loop(lambda: coro.with_timeout(20, backdoor.serve, unix_path=path))

    with open(path) as file:
        assert file.read() == "precious"


def test_the_file_of_another_server_is_not_removed_at_the_end(loop, path):
    """If somebody has put another in the place of ours meanwhile."""

    def main():
        with serving(path):
            os.rename(path, path + ".old")
            with socket.socket(socket.AF_UNIX) as other:
                other.bind(path)
        assert os.path.exists(path)

    loop(main)


def test_D_47_TCP_is_on_the_local_machine_only_unless_asked_for(loop):
    """A port alone is one of 127.0.0.1; all addresses are had by ip=""."""

    def main():
        with backdoor.listening(0, None, None) as listener:
            assert listener.getsockname()[0] == "127.0.0.1"
        with backdoor.listening(0, "", None) as listener:
            assert listener.getsockname()[0] == "0.0.0.0"

    loop(main)


def test_of_several_TCP_ports_the_first_free_one_is_taken(loop):
    """EADDRINUSE if there is none; other errors come through at once."""

    def main():
        with socket.create_server(("127.0.0.1", 0)) as holder:
            taken, free = holder.getsockname()[1], free_port()
            server = coro.spawn(backdoor.serve, [taken, free])
            coro.yield_slice()
            with coro.create_connection(("127.0.0.1", free)) as visitor:
                visitor.send(b"1\r\nexit()\r\n")
                assert b"".join(sock_stream(visitor).read_all()).endswith(b">>> 1\r\n>>> ")
            server.shutdown()
            server.join()
            with pytest.raises(OSError, match=r"no port of .* is free") as caught:
                backdoor.serve(taken)
            assert caught.value.errno == errno.EADDRINUSE
            with pytest.raises(OverflowError):
                backdoor.serve(65536)

    loop(main)


def test_bad_arguments_are_refused_before_anything_is_made(loop, path):
    """A path and an address; something that cannot be called."""

    def main():
        with pytest.raises(ValueError, match=r"a path .* or an address .*, not both"):
            backdoor.serve(8023, unix_path=path)
        with pytest.raises(TypeError, match="is called for each connection, which 5 cannot be"):
            backdoor.serve(unix_path=path, client_class=5)

    loop(main)
    assert not os.path.exists(path)


def test_outside_a_coroutine_nothing_is_made(path):
    """YieldFromMain, and no socket."""
    with pytest.raises(coro.YieldFromMain):
        backdoor.serve(unix_path=path)
    assert not os.path.exists(path)


def test_a_connection_is_closed_when_its_client_class_returns(loop, path):
    """It is called with the connection, the address, the message and the names, in a coroutine with a name."""
    calls = []

    def mine(*args):
        calls.append((*args, coro.current().name))

    def main():
        with serving(path, client_class=mine, welcome_message="hello", global_dict={"a": 1}):
            visitor = Visitor(path)
            assert visitor.rest() == ""
            visitor.sock.close()

    loop(main)
    ((conn, _, *others),) = calls
    assert others == ["hello", {"a": 1}, "backdoor session"]
    assert conn.fd == -1


def test_the_server_outlives_a_lack_of_descriptors(loop, path, capfd):
    """When one is free again it goes on: that is when a backdoor is needed most."""
    resource = pytest.importorskip("resource", reason="this platform has no module resource to limit descriptors with")

    def main():
        with serving(path):
            visitor = coro.unix_sock()
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            lowest = os.dup(0)  # the number that the next descriptor would have
            os.close(lowest)
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
            try:
                visitor.connect(path)
                while "cannot accept" not in capfd.readouterr().err:
                    coro.sleep_relative(0.001)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            with visitor:
                assert sock_stream(visitor).read_until(PROMPT).endswith(PROMPT)

    coro.with_timeout(20, loop, main)


def test_the_end_of_the_server_ends_the_sessions(loop, path):
    """A shutdown of the coroutine that serves leaves no session behind."""

    def main():
        with serving(path):
            visitor = Visitor(path)
            visitor.until()
        assert list(coro.all_threads.values()) == [coro.current()]
        assert visitor.rest() == ""
        visitor.sock.close()

    loop(main)


def test_a_statement_that_the_compiler_gives_up_on_does_not_end_the_session(loop, path):
    """It is answered with the error, whatever its kind; neither the session nor the notifier gets it."""

    def body(visitor):
        assert "Error" in visitor.ask("-" * 100_000 + "1")
        assert visitor.ask("1 + 1") == "2\n"

    visit(loop, path, body)
