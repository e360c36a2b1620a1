"""The command line: ``coro`` and ``python -m coro``.

Stands on argparse and the public face of coro.  A command is an entry of `COMMANDS`; it is asked for its arguments only
when it is the one that was chosen, and imports what it needs then, so ``coro --help`` stays quick.

Exit status: 0 for success, 1 for failure, 2 for a usage error, 130 after ^C, 143 after SIGTERM; ``coro run`` passes on
that of the program.
"""

from __future__ import annotations

import argparse
import builtins
import importlib
import io
import json
import os
import platform
import shlex
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import find_spec
from types import CodeType, FrameType, ModuleType
from typing import TYPE_CHECKING, Any, Final

from .exceptions import NoPollerError

if TYPE_CHECKING:
    from .discovery import Candidate

__all__ = ["COMMANDS", "Command", "UsageError", "main"]


class UsageError(Exception):
    """The command line asks for what cannot be.  Ends with exit status 2."""


@dataclass(frozen=True)
class Command:
    """One subcommand of ``coro``."""

    name: str
    summary: str  #: One line for the list of commands.
    description: str  #: What ``--help`` says of it.
    examples: tuple[str, ...]
    add_arguments: Callable[[argparse.ArgumentParser], None]
    execute: Callable[[argparse.Namespace], int]  #: Returns the exit status.


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line *argv* (by default ``sys.argv[1:]``) and return its exit status."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    name = next((argument for argument in arguments if not argument.startswith("-")), None)
    chosen = next((command for command in COMMANDS if command.name == name), None)
    parser, subparser = _parsers(chosen)
    args = parser.parse_args(arguments)
    assert chosen is not None  # else the parser has ended the program
    assert subparser is not None
    if getattr(args, "poller", None) is not None:
        os.environ["CORO_POLLER"] = args.poller
    try:
        return chosen.execute(args)
    except UsageError as error:
        subparser.error(str(error))
    except NoPollerError as error:
        print(f"coro {chosen.name}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parsers(chosen: Command | None) -> tuple[argparse.ArgumentParser, argparse.ArgumentParser | None]:
    """The parser of the whole command line and that of the command that was *chosen*, which alone has arguments."""

    def style(examples: Iterable[str]) -> dict[str, Any]:
        epilog = "examples:\n" + "\n".join(f"  {example}" for example in examples)
        return {"epilog": epilog, "formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}

    about = "Coroutines that look like threads."
    parser = argparse.ArgumentParser("coro", description=about, **style(each.examples[0] for each in COMMANDS))
    parser.add_argument("--version", action=_Version, help="show the versions of coro and of what it runs on, and exit")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    subparser = None
    for command in COMMANDS:
        added = commands.add_parser(
            command.name, help=command.summary, description=command.description, **style(command.examples)
        )
        if command is chosen:
            subparser = added
            command.add_arguments(subparser)
    return parser, subparser


def _add_poller(parser: argparse.ArgumentParser) -> None:
    """The option ``--poller`` of every command that runs a loop.  `main` puts it where the loop looks."""
    parser.add_argument("--poller", metavar="NAME", help="the poller to use, or MODULE:CLASS; sets CORO_POLLER")


class _Version(argparse.Action):
    """``--version``, which looks the versions up only if it is asked."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:  # noqa: A002
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        from . import __version__

        runtime = f"Python {platform.python_version()}, greenlet {version('greenlet')}, {sys.platform}"
        print(f"coro {__version__} on {runtime}")
        parser.exit()


# --- coro pollers -----------------------------------------------------------------------------------------------------


def _add_pollers_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print a JSON object instead of a table")


def _pollers(args: argparse.Namespace) -> int:
    """Each poller is opened for a moment, since some can be refused only then, and so is the one of the choice."""
    from .discovery import SHOW_POLLERS, find_pollers, how_to_unset, open_poller

    found = [_tried(candidate) for candidate in find_pollers()]
    chosen, why_none = None, None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # what it would say is in the table
        try:
            chosen, poller = open_poller()
            poller.close()
        except NoPollerError as error:
            why_none = str(error)
    taken = next((each for each in found if each.name == chosen and each.why_not is None), None)
    chosen_by = None if chosen is None else "CORO_POLLER" if os.environ.get("CORO_POLLER") else "priority"

    if args.json:
        rows = [_as_json(each, each is taken) for each in found]
        print(json.dumps({"pollers": rows, "chosen": chosen, "chosen_by": chosen_by, "error": why_none}, indent=2))
        return 0 if chosen else 1
    if found:
        print(_table(found, taken), end="\n\n")
    if why_none is not None:
        lines = [line for line in why_none.splitlines() if not line.startswith("  - ")]  # those are in the table
        if lines[-1].strip() == SHOW_POLLERS:
            lines[-2:] = "Name another, or let the priority decide with:", f"    {how_to_unset('CORO_POLLER')}"
        print("No event loop can start: " + "\n".join(lines), file=sys.stderr)
        return 1
    print(f"An event loop uses {chosen}, chosen by {chosen_by}.")
    return 0


def _tried(candidate: Candidate) -> Candidate:
    """The same candidate, or one that says why it cannot be opened."""
    if candidate.why_not is None:
        try:
            candidate.open().close()
        except Exception as error:
            return candidate.failed("cannot be opened", error)
    return candidate


def _as_json(candidate: Candidate, chosen: bool) -> dict[str, object]:
    return {
        "name": candidate.name,
        "distribution": candidate.distribution,
        "version": candidate.version,
        "priority": candidate.info.priority if candidate.info else None,
        "usable": candidate.why_not is None,
        "why_not": candidate.why_not,
        "chosen": chosen,
    }


def _table(found: list[Candidate], taken: Candidate | None) -> str:
    """One line for each poller, the one that is *taken* with a star."""
    rows = [("", "NAME", "PACKAGE", "PRIORITY", "USABLE")]
    for each in found:
        priority = str(each.info.priority) if each.info else "-"
        usable = "yes" if each.why_not is None else f"no: {each.why_not}"
        rows.append(("*" if each is taken else "", each.name, f"{each.distribution} {each.version}", priority, usable))
    star, name, package, priority_, _ = (max(map(len, column)) for column in zip(*rows, strict=True))
    return "\n".join(
        f"{row[0]:{star}} {row[1]:{name}}  {row[2]:{package}}  {row[3]:>{priority_}}  {row[4]}".rstrip() for row in rows
    )


# --- coro run ---------------------------------------------------------------------------------------------------------


def _add_run_arguments(parser: argparse.ArgumentParser) -> None:
    _add_poller(parser)
    parser.add_argument("-m", dest="module", action="store_true", help="SCRIPT is the name of a module")
    parser.add_argument("script", metavar="SCRIPT", help="a file, a directory or an archive with a __main__.py")
    rest = parser.add_argument("args", metavar="ARGS", nargs=argparse.REMAINDER, help="what it finds in sys.argv[1:]")
    rest.required = False


def _run(args: argparse.Namespace) -> int:
    """Run a program as ``python`` would, but in a coroutine: it may block, and others run meanwhile."""
    from . import run

    try:
        code, program = _load_module(args.script) if args.module else _load_script(args.script)
    except (SyntaxError, ValueError) as error:
        sys.excepthook(type(error), error.with_traceback(None), None)
        return 1
    sys.argv[:] = [program.__file__ or args.script if args.module else args.script, *args.args]
    sys.modules["__main__"] = program  # for good: its coroutines and exit handlers outlive the last line

    def main_coroutine() -> None:
        exec(code, program.__dict__)

    main_coroutine.__qualname__ = args.script  # the coroutine is called after the script
    try:
        run(main_coroutine)
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_globals is not program.__dict__:
            trace = trace.tb_next  # what started the script is of no interest to its author
        if trace is None and isinstance(error, NoPollerError):
            raise
        sys.excepthook(type(error), error.with_traceback(trace), trace)
        if type(error) is RuntimeError and any(_starts_a_loop(frame) for frame, _ in traceback.walk_tb(trace)):
            command = shlex.join(["python", *(["-m"] if args.module else []), args.script, *args.args])
            setting = f"CORO_POLLER={shlex.quote(args.poller)} " if args.poller else ""
            print(
                f"\ncoro run: {args.script} starts an event loop itself, but `coro run` has started one for it.  "
                f"Run it with:\n    {setting}{command}",
                file=sys.stderr,
            )
        return 1
    return 0


def _load_script(path: str) -> tuple[CodeType, ModuleType]:
    """The code of a script and the module ``__main__`` that it will run in, as ``python PATH`` makes it."""
    if spec := PathFinder.find_spec("__main__", [path]):  # a directory or an archive
        _set_first_path(path)
        return _load_spec(spec, path)
    full = os.path.abspath(path)
    try:
        with io.open_code(full) as file:
            source = file.read()
    except OSError as error:
        raise UsageError(f"can't open {path!r}: {error.strerror}") from None
    code = compile(source, full, "exec", dont_inherit=True)
    _set_first_path(os.path.dirname(os.path.realpath(full)))
    return code, _main_module(__file__=full, __loader__=SourceFileLoader("__main__", full))


def _load_module(name: str) -> tuple[CodeType, ModuleType]:
    """The same for ``python -m NAME``."""
    _set_first_path(os.getcwd())
    try:
        spec = find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = find_spec(f"{name}.__main__")
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise UsageError(f"can't find the module {name!r}: {type(error).__name__}: {error}") from error
    if spec is None:
        raise UsageError(f"can't find the module {name!r}, or it is a package without a __main__.py")
    return _load_spec(spec, name)


def _load_spec(spec: ModuleSpec, target: str) -> tuple[CodeType, ModuleType]:
    loader: Any = spec.loader
    code = loader.get_code(spec.name) if hasattr(loader, "get_code") else None
    if code is None:
        raise UsageError(f"{target!r} has no Python code to run")
    return code, _main_module(__file__=spec.origin, __loader__=loader, __spec__=spec, __package__=spec.parent)


def _main_module(**attributes: object) -> ModuleType:
    module = ModuleType("__main__")
    module.__dict__.update({"__builtins__": builtins, "__cached__": None}, **attributes)
    return module


def _set_first_path(path: str) -> None:
    """What Python puts first on the path for a program; for now coro's own is there."""
    if not sys.flags.safe_path:
        sys.path[0] = path


def _starts_a_loop(frame: FrameType) -> bool:
    module = frame.f_globals.get("__name__", "")
    return frame.f_code.co_name in ("event_loop", "run") and module.partition(".")[0] == "coro"


# --- coro demo --------------------------------------------------------------------------------------------------------


def _add_demo_arguments(parser: argparse.ArgumentParser) -> None:
    _add_poller(parser)
    importlib.import_module("coro.demo").add_arguments(parser)


def _demo(args: argparse.Namespace) -> int:
    status: int = importlib.import_module("coro.demo").main(args)
    return status


COMMANDS: Final = (
    Command(
        name="pollers",
        summary="list the pollers that are installed, and which one is used",
        description="""\
List the pollers that are installed: the package of each, whether it can be
used here and if not, why.  The star marks the one that an event loop uses.
Each poller is opened for a moment to find out.

Exit status: 0 if an event loop can start, 1 if it cannot.""",
        examples=("coro pollers", "coro pollers --json", "CORO_POLLER=select coro pollers"),
        add_arguments=_add_pollers_arguments,
        execute=_pollers,
    ),
    Command(
        name="run",
        summary="run a script or a module as the main coroutine",
        description="""\
Run a script (with -m a module) as `python` would, but as the main coroutine of
an event loop: from its first line it may call whatever blocks.  After its last
line the coroutines that it left behind are shut down, as coro.run does.

A program that calls coro.event_loop() or coro.run() itself is run with
`python`, not with this command.

Exit status: that of the program; 1 for an exception, 130 after ^C, 143 after
SIGTERM.""",
        examples=(
            "coro run fetch.py https://example.org",
            "coro run --poller select fetch.py",
            "coro run -m mypackage.server --port 8080",
        ),
        add_arguments=_add_run_arguments,
        execute=_run,
    ),
    Command(
        name="demo",
        summary="serve many clients from one thread, and show how fast",
        description="Run an echo server and many clients in one thread of this process, and show how fast they are.",
        examples=("coro demo", "coro demo --clients 10000 --seconds 10", "coro demo --poller select --requests 1000"),
        add_arguments=_add_demo_arguments,
        execute=_demo,
    ),
)
