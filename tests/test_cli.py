"""The command line (`coro.cli`), run as its user does: in a process of its own, by its exit status and what it prints.

The processes see a copy of coro and what it depends on, a directory in which the tests put pollers, and the standard
library: what is installed where the tests run plays no part.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
import sys
import types
import zipfile
from pathlib import Path

import greenlet
import pluggy
import pytest

import coro
from coro import cli

# A poller that works wherever Python does.
TINY = """
import os, select
from coro.poller import READ, WRITE, Poller, PollerInfo, hookimpl

class Tiny(Poller):
    edge = False

    def __init__(self):
        self.armed = {}

    def arm(self, fd, mask):
        self.armed[fd] = mask

    def unregister(self, fd):
        self.armed.pop(fd, None)

    def wait(self, timeout):
        readers = [fd for fd, mask in self.armed.items() if mask & READ]
        writers = [fd for fd, mask in self.armed.items() if mask & WRITE]
        readable, writable, _ = select.select(readers, writers, [], timeout)
        events = dict.fromkeys(readable, READ)
        for fd in writable:
            events[fd] = events.get(fd, 0) | WRITE
        for fd in events:
            del self.armed[fd]
        return list(events.items())

    def close(self):
        self.armed.clear()

class Shut(Tiny):
    def __init__(self):
        raise OSError(24, "Too many open files")
"""


class Terminal:
    """Where a user types: a directory with scripts, an environment with pollers."""

    def __init__(self, root: Path, libraries: Path) -> None:
        self.scripts = root / "scripts"
        self.site = root / "site"
        self.libraries = libraries
        self.scripts.mkdir()
        self.site.mkdir()
        self.distribution("greenlet", importlib.metadata.version("greenlet"))

    def distribution(self, name: str, version: str, entries: str = "") -> None:
        info = self.site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(entries)

    def poller(self, name: str, options: str = "", kind: str = "Tiny") -> None:
        """Install a poller in the distribution ``coro-NAME`` 1.5."""
        hook = f"@hookimpl\ndef coro_poller():\n    return PollerInfo({name!r}, {kind}, {options})\n"
        (self.site / f"coro_{name}.py").write_text(f"{TINY}\n{hook}")
        self.distribution(f"coro-{name}", "1.5", f"[coro.pollers]\n{name} = coro_{name}\n")

    def script(self, text: str, name: str = "script.py") -> Path:
        path = self.scripts / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start ``python ARGUMENTS`` in the directory of the scripts."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("CORO_", "PYTHON"))}
        path = os.pathsep.join([str(self.libraries), str(self.site)])
        return subprocess.Popen(
            [sys.executable, "-S", *arguments],
            cwd=self.scripts,
            env={**clean, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8", "COLUMNS": "100", **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def python(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run ``python ARGUMENTS`` to its end."""
        with self.start(*arguments, **environment) as process:
            out, err = process.communicate(timeout=20)
            return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def coro(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run ``coro ARGUMENTS`` to its end."""
        return self.python("-m", "coro", *arguments, **environment)


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with coro and what it depends on, without their metadata."""
    path = tmp_path_factory.mktemp("libraries")
    for package in (coro, greenlet, pluggy):
        source = Path(str(package.__file__)).parent
        shutil.copytree(source, path / source.name, ignore=shutil.ignore_patterns("tests", "__pycache__"))
    return path


@pytest.fixture
def bare(tmp_path: Path, libraries: Path) -> Terminal:
    """A terminal where no poller is installed."""
    return Terminal(tmp_path, libraries)


@pytest.fixture
def terminal(bare: Terminal) -> Terminal:
    """A terminal where the poller *tiny* is installed."""
    bare.poller("tiny", "priority=30")
    return bare


# --- Help, version and usage errors -----------------------------------------------------------------------------------


def test_help_names_every_command(bare: Terminal) -> None:
    """Each with a line, and examples at the end.  No poller is needed for it."""
    done = bare.coro("--help")

    assert done.returncode == 0
    assert done.stderr == ""
    for command in cli.COMMANDS:
        assert f"\n    {command.name} " in done.stdout
        assert command.summary in done.stdout
    assert done.stdout.rstrip().splitlines()[-1].startswith("  coro ")


@pytest.mark.parametrize("command", ["pollers", "run"])
def test_each_command_has_help_with_examples(bare: Terminal, command: str) -> None:
    """The examples are commands that the parser takes."""
    done = bare.coro(command, "--help")

    assert done.returncode == 0
    assert done.stdout.startswith(f"usage: coro {command} ")
    _, examples = done.stdout.split("examples:\n")
    assert all(f"coro {command}" in line for line in examples.splitlines())


def test_help_imports_little(bare: Terminal) -> None:
    """It imports neither the plugin host nor the demo, and no plugin."""
    program = (
        "import sys\n"
        "from coro.cli import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit:\n"
        "    for name in ('coro.discovery', 'coro.demo', 'pluggy'):\n        assert name not in sys.modules, name\n"
    )
    done = bare.python("-c", program)

    assert done.returncode == 0, done.stderr
    assert "usage: coro" in done.stdout


def test_version(bare: Terminal) -> None:
    """One line that can go into a report of a bug."""
    done = bare.coro("--version")

    assert done.returncode == 0
    assert done.stdout.startswith(f"coro {coro.__version__} on Python {sys.version.split()[0]}, greenlet ")
    assert done.stdout.endswith(f"{sys.platform}\n")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "COMMAND"),
        (["no-such-command"], "invalid choice: 'no-such-command'"),
        (["--no-such-option", "pollers"], "--no-such-option"),
        (["pollers", "--js"], "unrecognized arguments: --js"),  # nothing may be abbreviated
        (["pollers", "surplus"], "unrecognized arguments: surplus"),
        (["run"], "the following arguments are required: SCRIPT\n"),
        (["run", "-m"], "the following arguments are required: SCRIPT\n"),
        (["run", "no_such_script.py"], "coro run: error: can't open 'no_such_script.py': No such file"),
        (["run", "."], "coro run: error: can't open '.': "),
        (["run", "-m", "no_such_module"], "coro run: error: can't find the module 'no_such_module'"),
        (["run", "-m", "no_such.module"], "can't find the module 'no_such.module': ModuleNotFoundError"),
        (["run", "-m", "logging"], "or it is a package without a __main__.py"),
        (["run", "-m", "sys"], "has no Python code to run"),
    ],
    ids=" ".join,
)
def test_a_usage_error_ends_with_status_2(terminal: Terminal, arguments: list[str], complaint: str) -> None:
    """With the usage and the complaint on stderr, and nothing on stdout."""
    done = terminal.coro(*arguments)

    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("usage: coro ")
    assert complaint in done.stderr


def test_the_console_script_is_the_same_program(terminal: Terminal) -> None:
    """What pip installs as ``coro`` calls `coro.cli.main` and exits with what it returns."""
    script = "import sys; from coro.cli import main; sys.argv[0] = 'coro'; sys.exit(main())"
    installed, module = terminal.python("-c", script, "pollers"), terminal.coro("pollers")

    assert (installed.returncode, installed.stdout) == (module.returncode, module.stdout)
    assert "tiny" in module.stdout


# --- pollers ----------------------------------------------------------------------------------------------------------


def test_pollers_prints_an_aligned_table(terminal: Terminal) -> None:
    """Each with package, version, priority and whether it is usable; a star and a sentence say which one is used."""
    terminal.poller("better", "priority=200, unavailable='needs a better machine'")
    terminal.poller("spare", "priority=5")
    (terminal.site / "broken.py").write_text("raise ValueError('broken')")
    terminal.distribution("a-broken-one", "0.3", "[coro.pollers]\nbroken = broken\n")
    done = terminal.coro("pollers")

    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "  NAME    PACKAGE           PRIORITY  USABLE",
        "  better  coro-better 1.5        200  no: needs a better machine",
        "* tiny    coro-tiny 1.5           30  yes",
        "  spare   coro-spare 1.5           5  yes",
        "  broken  a-broken-one 0.3         -  no: cannot be imported: ValueError: broken",
        "",
        "An event loop uses tiny, chosen by priority.",
    ]
    assert done.returncode == 0


def test_pollers_tells_what_the_environment_chooses(terminal: Terminal) -> None:
    """CORO_POLLER goes before the priority."""
    terminal.poller("spare", "priority=5")
    done = terminal.coro("pollers", CORO_POLLER="spare")

    assert "* spare  coro-spare 1.5" in done.stdout
    assert "* tiny" not in done.stdout
    assert done.stdout.splitlines()[-1] == "An event loop uses spare, chosen by CORO_POLLER."
    assert done.returncode == 0


def test_pollers_tells_what_cannot_be_opened(terminal: Terminal) -> None:
    """It tries each, because a loop would; what it finds is in the table, not in a warning."""
    terminal.poller("shut", "priority=200", kind="Shut")
    done = terminal.coro("pollers")

    assert "no: cannot be opened: OSError: [Errno 24] Too many open files" in done.stdout
    assert "* tiny" in done.stdout
    assert done.stderr == ""
    assert done.returncode == 0


def test_pollers_takes_a_class_from_the_environment(bare: Terminal) -> None:
    """Then a loop can start although nothing is installed."""
    bare.script(TINY, "loose.py")
    done = bare.coro("pollers", CORO_POLLER="loose:Tiny")

    assert done.stdout == "An event loop uses loose:Tiny, chosen by CORO_POLLER.\n"
    assert done.returncode == 0


def test_pollers_without_any(bare: Terminal) -> None:
    """Exit status 1, and the command to type."""
    done = bare.coro("pollers")

    assert done.stdout == ""
    assert done.stderr.startswith("No event loop can start: no poller is installed.\n")
    assert done.stderr.splitlines()[-1].startswith("    pip install coro-")
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("environment", "complaint", "command"),
    [
        ({"CORO_POLLER": "uring"}, "CORO_POLLER=uring is not installed.", "CORO_POLLER"),
        ({"CORO_POLLER": "nowhere:Class"}, "CORO_POLLER=nowhere:Class cannot be had: Module", "CORO_POLLER"),
        (
            {"CORO_DISABLE_PLUGIN_AUTOLOAD": "1"},
            "a poller cannot be had: CORO_DISABLE_PLUGIN_AUTOLOAD is set",
            "CORO_DISABLE_PLUGIN_AUTOLOAD",
        ),
    ],
    ids=["name", "class", "no autoload"],
)
def test_pollers_where_the_environment_leaves_none(
    terminal: Terminal, environment: dict[str, str], complaint: str, command: str
) -> None:
    """Exit status 1 although one is usable, and the command that removes what stands in the way."""
    done = terminal.coro("pollers", **environment)

    assert done.stderr.startswith(f"No event loop can start: {complaint}")
    assert done.stderr.splitlines()[-1].split()[1].rstrip("=") == command
    assert "  - " not in done.stderr  # what was found is in the table
    assert "*" not in done.stdout
    assert done.returncode == 1


def test_pollers_as_json(terminal: Terminal) -> None:
    """The same for programs."""
    terminal.distribution("a-broken-one", "0.3", "[coro.pollers]\nbroken = no_such_module\n")
    done = terminal.coro("pollers", "--json")
    answer = json.loads(done.stdout)
    tiny, broken = answer.pop("pollers")

    assert answer == {"chosen": "tiny", "chosen_by": "priority", "error": None}
    assert tiny == {
        "name": "tiny",
        "distribution": "coro-tiny",
        "version": "1.5",
        "priority": 30,
        "usable": True,
        "why_not": None,
        "chosen": True,
    }
    assert broken["why_not"].startswith("cannot be imported: ModuleNotFoundError")
    assert (broken["usable"], broken["chosen"], broken["priority"]) == (False, False, None)
    assert done.returncode == 0


def test_pollers_as_json_without_any(bare: Terminal) -> None:
    """The output is still one object, which has the text of the error; the exit status is 1."""
    done = bare.coro("pollers", "--json")
    answer = json.loads(done.stdout)

    assert (answer["pollers"], answer["chosen"], answer["chosen_by"]) == ([], None, None)
    assert answer["error"].splitlines()[-1].startswith("    pip install ")
    assert done.returncode == 1


# --- run: like python -------------------------------------------------------------------------------------------------

# What a program can see of how it was started.
MIRROR = """
import json, os, sys
here = sys.modules["__main__"]
assert here.__dict__ is globals()
def path(name):
    return None if name is None else os.path.abspath(name)
def annotated(x: 1 + 1):
    pass
print(json.dumps([
    sys.argv, path(sys.path[0]), path(__file__), __name__, __package__, __spec__ and __spec__.name, __doc__,
    type(__builtins__).__name__, type(__loader__).__name__, sorted({*globals(), "__annotations__"}),
    annotated.__annotations__,
]))
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["script.py"],
        ["script.py", "one", "--two", "-m", "-h", "--poller", "x", "--", "--", "-"],
        [os.path.join("package", "mod.py"), "x"],
        ["package", "x"],
        ["archive.zip", "x"],
        ["-m", "package.mod", "one", "--", "-h"],
        ["-m", "package", "-m"],
        ["-m", "script"],
    ],
    ids=" ".join,
)
def test_a_program_sees_what_python_would_show_it(terminal: Terminal, arguments: list[str]) -> None:
    """sys.argv, sys.path[0], the module ``__main__`` and its names are the same as under ``python``."""
    terminal.script(MIRROR)
    for name in ("__init__", "__main__", "mod"):
        terminal.script(MIRROR if name != "__init__" else "", f"package/{name}.py")
    with zipfile.ZipFile(terminal.scripts / "archive.zip", "w") as archive:
        archive.writestr("__main__.py", MIRROR)
    plain, under_coro = terminal.python(*arguments), terminal.coro("run", *arguments)

    assert under_coro.stderr == ""
    assert json.loads(under_coro.stdout) == json.loads(plain.stdout)
    assert under_coro.returncode == 0


@pytest.mark.skipif(os.name == "nt", reason="Windows lets only some users make symbolic links")
def test_a_link_leads_to_the_directory_of_the_script(terminal: Terminal) -> None:
    """The first entry of the path is the directory where the script really is."""
    script = terminal.script(MIRROR, "elsewhere/script.py")
    (terminal.scripts / "link.py").symlink_to(script)
    plain, under_coro = terminal.python("link.py"), terminal.coro("run", "link.py")

    assert json.loads(under_coro.stdout) == json.loads(plain.stdout)
    assert json.loads(plain.stdout)[1] == str(script.parent)


def test_a_module_is_looked_for_where_the_user_is(terminal: Terminal) -> None:
    """Also by the installed command, whose own directory Python has put first on the path."""
    terminal.script("import sys; from coro.cli import main; sys.exit(main())", "bin/launcher.py")
    terminal.script(MIRROR)
    plain = terminal.python("-m", "script")
    under_coro = terminal.python(os.path.join("bin", "launcher.py"), "run", "-m", "script")

    assert json.loads(under_coro.stdout) == json.loads(plain.stdout)


def test_a_safe_path_stays_safe(terminal: Terminal) -> None:
    """``python -P`` keeps the directory of the script off the path; so does ``python -P -m coro run``."""
    script = str(terminal.script("import sys; print(sys.path)"))
    plain, under_coro = terminal.python("-P", script), terminal.python("-P", "-m", "coro", "run", script)

    assert str(terminal.scripts) not in plain.stdout
    assert under_coro.stdout == plain.stdout


@pytest.mark.parametrize(
    ("line", "status", "printed"),
    [
        ("pass", 0, ""),
        ("sys.exit()", 0, ""),
        ("sys.exit(7)", 7, ""),
        ("sys.exit('good bye')", 1, "good bye\n"),
        ("raise KeyboardInterrupt", 130, ""),
        ("coro.set_exit(9); coro.sleep_relative(60)", 9, ""),
    ],
)
def test_the_exit_status_is_that_of_the_program(terminal: Terminal, line: str, status: int, printed: str) -> None:
    """What it says with SystemExit, or with `set_exit`."""
    terminal.script(f"import sys, coro\n{line}\n")
    done = terminal.coro("run", "script.py")

    assert (done.returncode, done.stderr, done.stdout) == (status, printed, "")


def test_an_exception_is_shown_without_the_frames_of_coro(terminal: Terminal) -> None:
    """The traceback is the one that ``python`` prints, and the exit status is 1."""
    terminal.script("def fail():\n    raise ValueError('bad')\n\ntry:\n    fail()\nexcept ValueError:\n    {}['key']\n")
    plain, under_coro = terminal.python("script.py"), terminal.coro("run", "script.py")

    assert "ValueError: bad" in plain.stderr
    assert under_coro.stderr == plain.stderr
    assert under_coro.returncode == 1


def test_an_exception_from_within_coro_shows_where(terminal: Terminal) -> None:
    """Only the frames that started the script are left out, not those into which it called."""
    terminal.script("import coro\ncoro.spawn(5)\n")
    done = terminal.coro("run", "script.py")

    _, _, last = done.stderr.rpartition("Traceback (most recent call last):\n")
    assert last.splitlines()[0].endswith('script.py", line 2, in <module>')
    assert str(terminal.libraries) in last
    assert done.returncode == 1


def test_a_syntax_error_is_shown_as_python_shows_it(terminal: Terminal) -> None:
    """Without a traceback, for there is no frame of the program yet."""
    terminal.script("x = (\n")
    plain, under_coro = terminal.python("script.py"), terminal.coro("run", "script.py")

    assert "SyntaxError" in plain.stderr
    assert under_coro.stderr == plain.stderr
    assert under_coro.returncode == 1


def test_the_hook_of_the_program_sees_its_exception(terminal: Terminal) -> None:
    """A program that has its own sys.excepthook gets the exception there."""
    terminal.script(
        "import sys\nsys.excepthook = lambda kind, value, trace: print('seen', value)\nraise ValueError(5)\n"
    )
    done = terminal.coro("run", "script.py")

    assert (done.stdout, done.stderr, done.returncode) == ("seen 5\n", "", 1)


# --- run: in a coroutine ----------------------------------------------------------------------------------------------


def test_a_program_runs_as_the_main_coroutine(terminal: Terminal) -> None:
    """It may block from its first line while others run; the coroutine has the name of the script."""
    terminal.script(
        "import coro\n"
        "coro.spawn(lambda: print('another'))\n"
        "coro.sleep_relative(0.01)\n"
        "print('the script', coro.current().name)\n"
    )
    done = terminal.coro("run", "script.py")

    assert done.stdout == "another\nthe script script.py\n"
    assert (done.returncode, done.stderr) == (0, "")


def test_what_the_program_leaves_behind_is_shut_down(terminal: Terminal) -> None:
    """Its ``finally`` blocks run, and find the module in which they were written in its place."""
    terminal.script(
        "import coro, sys\n"
        "def server():\n"
        "    try:\n"
        "        coro.sleep_relative(60)\n"
        "    finally:\n"
        "        print('unwound', sys.modules['__main__'].server is server)\n"
        "coro.spawn(server)\n"
        "coro.yield_slice()\n"
        "print('last line')\n"
    )
    done = terminal.coro("run", "script.py")

    assert done.stdout == "last line\nunwound True\n"
    assert done.returncode == 0


def test_exit_handlers_find_the_program(terminal: Terminal) -> None:
    """``__main__`` is still the program when the interpreter ends."""
    terminal.script("import atexit, sys\natexit.register(lambda: print(sys.modules['__main__'].__file__))\n")
    done = terminal.coro("run", "script.py")

    assert os.path.realpath(done.stdout.strip()) == os.path.realpath(terminal.scripts / "script.py")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals that another process could send")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["INT", "TERM"])
def test_a_signal_ends_the_program_with_the_usual_status(terminal: Terminal, number: int, status: int) -> None:
    """After its ``finally`` blocks, and without a traceback."""
    terminal.script(
        "import coro\n"
        "try:\n"
        "    print('ready', flush=True)\n"
        "    coro.sleep_relative(60)\n"
        "finally:\n"
        "    print('unwound')\n"
    )
    with terminal.start("-m", "coro", "run", "script.py") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=20)

    assert (process.returncode, out, err) == (status, "unwound\n", "")


@pytest.mark.parametrize(
    "start", ["coro.event_loop()", "coro.run(print)", "coro.event_loop(poller='tiny')"], ids=lambda text: text
)
@pytest.mark.parametrize("worker", ["print('worker')", "coro.set_exit(3)"])
def test_a_program_that_starts_a_loop_itself_is_told_how_to_be_run(terminal: Terminal, start: str, worker: str) -> None:
    """Programs in the style of Shrapnel do; the error ends with the command to type."""
    terminal.script(f"import coro\ncoro.spawn(lambda: {worker})\n{start}\n")
    done = terminal.coro("run", "--poller", "tiny", "script.py", "--port", "80 80")

    assert "RuntimeError: " in done.stderr
    assert f"in <module>\n    {start}\n" in done.stderr
    assert "coro run: script.py starts an event loop itself" in done.stderr
    assert done.stderr.splitlines()[-1] == "    CORO_POLLER=tiny python script.py --port '80 80'"
    assert done.returncode == 1


def test_a_module_that_starts_a_loop_itself_is_told_how_to_be_run(terminal: Terminal) -> None:
    """The command has the -m then, and no poller if none was named."""
    terminal.script("import coro\ncoro.event_loop()\n", "server.py")
    done = terminal.coro("run", "-m", "server")

    assert done.stderr.splitlines()[-1] == "    python -m server"
    assert done.returncode == 1


def test_a_runtime_error_of_the_program_is_just_that(terminal: Terminal) -> None:
    """The advice is given only to those who start a loop."""
    terminal.script("raise RuntimeError('the event loop is running already')\n")
    done = terminal.coro("run", "script.py")

    assert done.stderr.splitlines()[-1] == "RuntimeError: the event loop is running already"
    assert done.returncode == 1


def test_a_deadlock_is_told_without_a_traceback(terminal: Terminal) -> None:
    """No line of the program has raised it."""
    terminal.script("import coro\ncoro.suspend()\n")
    done = terminal.coro("run", "script.py")

    assert done.stderr.startswith("coro.exceptions.DeadlockError: ")
    assert done.returncode == 1


# --- run: the poller --------------------------------------------------------------------------------------------------

WHICH = (
    "import os\nfrom coro.kernel import this_kernel\nprint(this_kernel().poller_name, os.environ.get('CORO_POLLER'))\n"
)


def test_the_option_names_the_poller(terminal: Terminal) -> None:
    """It goes before the environment, and what the program starts inherits it."""
    terminal.poller("spare", "priority=5")
    terminal.script(WHICH)

    assert terminal.coro("run", "script.py").stdout == "tiny None\n"
    assert terminal.coro("run", "script.py", CORO_POLLER="spare").stdout == "spare spare\n"
    assert terminal.coro("run", "--poller", "spare", "script.py", CORO_POLLER="tiny").stdout == "spare spare\n"
    assert terminal.coro("run", "--poller=coro_spare:Tiny", "script.py").stdout == "coro_spare:Tiny coro_spare:Tiny\n"


def test_a_poller_that_cannot_be_had_is_told_without_a_traceback(terminal: Terminal) -> None:
    """It is no fault of the program, which has not begun."""
    terminal.script("print('begun')")
    done = terminal.coro("run", "--poller", "uring", "script.py")

    assert done.stdout == ""
    assert done.stderr.startswith("coro run: CORO_POLLER=uring is not installed.\n  - tiny (coro-tiny 1.5): usable\n")
    assert done.stderr.splitlines()[-1] == "    python -m coro pollers"
    assert done.returncode == 1


# --- demo -------------------------------------------------------------------------------------------------------------


def test_demo_is_wired(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command asks `coro.demo` for its arguments and returns the exit status of its main."""
    demo = types.ModuleType("coro.demo")

    def add_arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--clients", type=int)

    def main(args: argparse.Namespace) -> int:
        assert os.environ["CORO_POLLER"] == "tiny"
        return int(args.clients)

    vars(demo).update(add_arguments=add_arguments, main=main)
    monkeypatch.setitem(sys.modules, "coro.demo", demo)
    monkeypatch.setenv("CORO_POLLER", "another")

    assert cli.main(["demo", "--poller", "tiny", "--clients", "5"]) == 5


def test_interrupting_a_command_is_quiet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """^C ends any command with status 130 and no traceback."""
    demo = types.ModuleType("coro.demo")

    def main(args: argparse.Namespace) -> int:
        raise KeyboardInterrupt

    vars(demo).update(add_arguments=lambda parser: None, main=main)
    monkeypatch.setitem(sys.modules, "coro.demo", demo)

    assert cli.main(["demo"]) == 130
    assert capsys.readouterr() == ("", "")
