"""Finds the pollers that are installed and opens one.

Stands on `coro.poller` (the contract), `coro.exceptions`, pluggy and `importlib.metadata`.  The kernel imports this
module at the first `event_loop`; nothing is looked for before the first question is asked.

Who decides is the first that has an opinion: the argument ``poller=``, the environment variable ``CORO_POLLER`` (a
name, or ``module:Class``), the priority.  What somebody named must work, or `NoPollerError` says why it does not.  What
was chosen by priority falls back to the next one, with a `RuntimeWarning`.

A plugin is a stranger, and one broken stranger must not take every program down.  pluggy's own loader stops at the
first plugin that cannot be imported, and its hook call at the first answer that raises.  So each entry point is loaded
and asked by itself, with a plugin manager of its own, and whatever goes wrong becomes the reason why that one poller is
not used: `Candidate.why_not`.
"""

from __future__ import annotations

import importlib
import operator
import os
import select
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import pluggy

from . import poller as contract
from .exceptions import NoPollerError
from .poller import POLLER_API, Poller, PollerInfo

if TYPE_CHECKING:
    from importlib.metadata import Distribution

__all__ = ["GROUP", "Candidate", "PollerRequest", "find_pollers", "forget_pollers", "open_poller"]

GROUP: Final = "coro.pollers"  #: The group of entry points: an entry's name is the poller's, its value a module.

#: What ``poller=`` may be: a name, ``"module:Class"``, a class (or whatever opens a poller when it is called), an open
#: poller, or what a plugin answers.  None leaves the choice to the environment, then to the priority.
PollerRequest: TypeAlias = str | Callable[[], Poller] | Poller | PollerInfo | None

_OURS: Final = {"epoll": "coro-epoll", "kqueue": "coro-kqueue", "select": "coro-select"}
_METHODS: Final = ("arm", "close", "process_fd", "register", "unregister", "wait")
SHOW_POLLERS: Final = "python -m coro pollers"
_SEE_OTHERS: Final = f"See which pollers can be used with:\n    {SHOW_POLLERS}"
_UNNAMED: Final = "unnamed"  # a distribution whose metadata is missing or damaged; never to be handed to pip


@dataclass(frozen=True)
class Candidate:
    """A poller that some distribution offers, usable or not.  Its `str` is ``epoll (coro-epoll 0.1.0)``."""

    name: str
    distribution: str
    version: str
    info: PollerInfo | None = None  #: What the plugin says of it; None if it could not be asked.
    why_not: str | None = None  #: Why it cannot be used, in one line; None if it can.
    error: Exception | None = field(default=None, compare=False, repr=False)  #: What was raised, where something was.

    def __str__(self) -> str:
        return f"{self.name} ({self.distribution} {self.version})"

    def open(self) -> Poller:
        """Open this poller.  Raises `NoPollerError` if it is not usable, and whatever opening it raises."""
        if self.info is None or self.why_not is not None:
            raise NoPollerError(f"the poller {self} cannot be used: {self.why_not}.\n{_SEE_OTHERS}")
        return _checked(self.info.poller())

    def failed(self, what: str, error: Exception) -> Candidate:
        """The same candidate, not usable because of *error*; *what* begins the sentence."""
        return replace(self, why_not=f"{what}: {_describe(error)}", error=error)


# --- Finding ----------------------------------------------------------------------------------------------------------

_found: list[Candidate] | None = None  # no lock: two threads that come at once both look, and find the same


def find_pollers() -> list[Candidate]:
    """Return every poller that is installed, in the order of preference: by priority, name, distribution.

    Those that cannot be used are in their places, with the reason; those that could not even be asked come last.  Looks
    once per process.  Finds nothing where ``CORO_DISABLE_PLUGIN_AUTOLOAD=1``.

    Raises `OSError` where no more files can be opened.
    """
    global _found
    if _autoload_disabled():
        return []
    if _found is None:
        _found = sorted(_look(), key=_preference)
    return list(_found)


def forget_pollers() -> None:
    """Make the next `find_pollers` look again, because something was installed or removed."""
    global _found
    _found = None
    importlib.invalidate_caches()


def _autoload_disabled() -> bool:
    return os.environ.get("CORO_DISABLE_PLUGIN_AUTOLOAD", "") not in ("", "0")


def _preference(candidate: Candidate) -> tuple[float, str, str]:
    priority = candidate.info.priority if candidate.info else float("-inf")
    return -priority, candidate.name, candidate.distribution


def _look() -> Iterator[Candidate]:
    """Load and ask every entry point of the group, each guarded.

    The same name and value may well be met twice (an editable install and its leftovers, two versions on the path):
    that is one poller.  The name alone is nobody's: a broken entry of that name hides no good one.
    """
    os.close(os.open(os.devnull, os.O_RDONLY))  # out of descriptors every directory looks empty: raise EMFILE instead
    from importlib.metadata import distributions  # here, because event_loop(poller=SomeClass) need not pay for it

    seen = set()
    for distribution in distributions():
        if not _declares_pollers(distribution):
            continue
        owner = _name_and_version(distribution)
        try:
            entries = [(entry.name, entry.value, entry.load) for entry in distribution.entry_points.select(group=GROUP)]
        except Exception as error:
            yield Candidate("?", *owner).failed("its entry_points.txt cannot be read", error)
            continue
        for name, value, load in entries:
            if (name, value) in seen:
                continue
            seen.add((name, value))
            candidate = Candidate(name, *owner)
            try:
                plugin = load()
            except Exception as error:
                yield candidate.failed("cannot be imported", error)
                continue
            try:
                info = _ask(plugin)
            except Exception as error:
                yield candidate.failed("does not answer as a poller plugin", error)
            else:
                yield replace(candidate, info=info, why_not=_refusal(info, name))


def _declares_pollers(distribution: Distribution) -> bool:
    """Whether its metadata mentions the group.  Reads the text only: parsing that of strangers costs, and can fail."""
    try:
        return GROUP in (distribution.read_text("entry_points.txt") or "")
    except Exception:
        return False  # not readable, so nobody can tell whether it is about pollers


def _name_and_version(distribution: Distribution) -> tuple[str, str]:
    try:
        return distribution.metadata["Name"] or _UNNAMED, distribution.version or "?"
    except Exception:  # what is missing shows in many ways, which differ between versions of Python
        return _UNNAMED, "?"


def _ask(plugin: object) -> PollerInfo:
    """Call the one hook of *plugin* and return its answer, in which all types are right."""
    manager = pluggy.PluginManager("coro")
    manager.add_hookspecs(contract)
    manager.register(plugin)  # refuses a hook with the wrong signature
    hooks = manager.hook.coro_poller.get_hookimpls()
    if not hooks:
        manager.check_pending()  # explains a misspelt hook; otherwise an unknown one is for some later coro
    if len(hooks) != 1:
        raise TypeError(f"it must implement the hook coro_poller once, not {len(hooks)} times")
    info: Any = hooks[0].function()
    if not isinstance(info, PollerInfo):
        raise TypeError(f"its hook coro_poller must return a PollerInfo, not {type(info).__qualname__}")
    right = {
        "name": isinstance(info.name, str),
        "poller": callable(info.poller),
        "priority": isinstance(info.priority, int),
        "api": isinstance(info.api, int),
        "unavailable": isinstance(info.unavailable, str | None),
    }
    if wrong := ", ".join(f"{name}={getattr(info, name)!r}" for name, is_right in right.items() if not is_right):
        raise TypeError(f"the wrong type in its PollerInfo: {wrong}")
    return info


def _refusal(info: PollerInfo, name: str) -> str | None:
    """Why the poller that is known by *name* cannot be used, as far as that can be told before it is opened."""
    if info.api != POLLER_API:
        older = "coro-core" if info.api > POLLER_API else "the plugin"
        return f"speaks poller API {info.api}, this coro speaks {POLLER_API}: {older} must be upgraded"
    if info.name != name:
        return f"its entry point says {name!r}, its PollerInfo says {info.name!r}: the names must agree"
    if info.unavailable is not None:
        return " ".join(info.unavailable.split()) or "unavailable, without a reason"
    if missing := getattr(info.poller, "__abstractmethods__", None):
        return f"its class lacks {', '.join(f'{method}()' for method in sorted(missing))}"
    return None


# --- Choosing ---------------------------------------------------------------------------------------------------------


def open_poller(request: PollerRequest = None) -> tuple[str, Poller]:
    """Open the poller for a loop.  Returns it with its name, in a form in which it can be asked for again.

    *request* is the argument of ``event_loop(poller=...)``.  Without one ``CORO_POLLER`` decides, then the priority.  A
    poller that is open already is returned as it is.

    Raises `NoPollerError` if none can be used, or not the one that was named: its text lists what was found and ends
    with the command to type.  What was handed over raises its own errors, and `TypeError` if it is no poller.
    """
    asked = f"poller={request!r}"
    if request is None and (request := os.environ.get("CORO_POLLER") or None):
        asked = f"CORO_POLLER={request}"
    if request is None:
        return _open_found(find_pollers())
    if not isinstance(request, str):
        return _open_given(request)
    if ":" not in request:
        return _open_found(find_pollers(), request, asked)
    try:
        module, _, attribute = request.partition(":")
        return request, _open_given(operator.attrgetter(attribute)(importlib.import_module(module)))[1]
    except Exception as error:
        raise NoPollerError(f"{asked} cannot be had: {_describe(error)}.\n{_SEE_OTHERS}") from error


def _open_given(given: Any) -> tuple[str, Poller]:
    """Open what the program handed over: a class, another factory, a plugin's answer or a poller that is open."""
    if isinstance(given, PollerInfo):
        candidate = Candidate(given.name, "given by", "the program", given, _refusal(given, given.name))
        return given.name, candidate.open()
    is_factory = isinstance(given, type) or (callable(given) and _lacks(given))
    named = given if hasattr(given, "__qualname__") else type(given)
    return f"{named.__module__}:{named.__qualname__}", _checked(given() if is_factory else given)


def _open_found(found: list[Candidate], name: str | None = None, asked: str = "") -> tuple[str, Poller]:
    """Open the most preferred of those *found* that are usable, or of those among them that have this *name*."""
    chosen = [index for index, candidate in enumerate(found) if name is None or candidate.name == name]
    usable = [index for index in chosen if found[index].why_not is None]
    for index, following in zip_longest(usable, usable[1:]):
        candidate = found[index]
        try:
            return candidate.name, candidate.open()
        except Exception as error:
            found[index] = candidate.failed("cannot be opened", error)
            if following is not None:
                warnings.warn(
                    f"the poller {candidate} cannot be opened ({_describe(error)}): trying {found[following]}.  "
                    f"To have that one from the start, set CORO_POLLER={found[following].name}",
                    RuntimeWarning,
                    stacklevel=_stacklevel(),
                )
    forget_pollers()  # so that it works once one has been installed, in this process too
    failed = [found[index] for index in chosen]
    cause = next((candidate.error for candidate in failed if candidate.error), None)
    raise NoPollerError(_explain(found, failed, name, asked)) from cause


def _explain(found: list[Candidate], failed: list[Candidate], name: str | None, asked: str) -> str:
    """The text of a `NoPollerError`: what happened, a line for each poller, the command that mends it."""
    package = _OURS.get(name or "", "")
    if _autoload_disabled():
        variable = "CORO_DISABLE_PLUGIN_AUTOLOAD"
        what = f"{asked or 'a poller'} cannot be had: {variable} is set, so none was looked for"
        remedy = f"Let coro look for pollers with:\n    {how_to_unset(variable)}"
    elif name is None:
        what = "no poller can be used here" if found else "no poller is installed"
        remedy = _install(found)
    elif failed:
        what = f"{asked} cannot be used"
        remedy = _mend(failed[0]) or _other(found)
    elif package in (_native(), "coro-select"):
        what = f"{asked} is not installed"
        remedy = f"Install it with:\n    pip install {package}"
    else:
        what = f"{asked} is not installed"
        remedy = _other(found)
    lines = [f"  - {candidate}: {candidate.why_not or 'usable'}" for candidate in found]
    return "\n".join([f"{what}.", *lines, remedy])


def _mend(failed: Candidate) -> str | None:
    """How to mend a plugin that is itself at fault; None where it is not."""
    if failed.info is not None and failed.info.api > POLLER_API:
        return "Upgrade coro with:\n    pip install --upgrade coro-core"
    if (failed.info is None or failed.info.api < POLLER_API) and failed.distribution != _UNNAMED:
        return f"Upgrade it with:\n    pip install --upgrade {failed.distribution}"
    return None


def _other(found: list[Candidate]) -> str:
    """What else can be had in place of the one that was named."""
    return _SEE_OTHERS if any(candidate.why_not is None for candidate in found) else _install(found)


def _install(found: list[Candidate]) -> str:
    """What to install where nothing *found* is usable."""
    there = {candidate.distribution for candidate in found}
    for package in (_native(), "coro-select"):
        if package not in there:
            return f"Install one with:\n    pip install {package}"
    return f"Upgrade it with:\n    pip install --upgrade {_native()}"


def how_to_unset(variable: str) -> str:
    """The command that removes an environment variable."""
    return f"set {variable}=" if os.name == "nt" else f"unset {variable}"


def _native() -> str:
    """The package that suits this platform best."""
    return "coro-epoll" if hasattr(select, "epoll") else "coro-kqueue" if hasattr(select, "kqueue") else "coro-select"


def _stacklevel() -> int:
    """The level at which a warning of the caller shows the line of the program, however deep inside coro it arises."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "coro":
        frame, level = frame.f_back, level + 1
    return level


def _checked(poller: Any) -> Poller:
    """Return *poller* if it keeps the contract, as far as that can be seen; else raise `TypeError`."""
    if lacks := _lacks(poller):
        raise TypeError(
            f"an object of type {type(poller).__qualname__} is no poller, it lacks {', '.join(lacks)}.  "
            "Give the name of a poller, a class derived from coro.poller.Poller, or an instance of one"
        )
    opened: Poller = poller
    return opened


def _lacks(poller: object) -> list[str]:
    """What *poller* lacks of the contract.  It need not inherit from `Poller`."""
    lacks = [f"{name}()" for name in _METHODS if not callable(getattr(poller, name, None))]
    edge = getattr(poller, "edge", None)
    if not isinstance(edge, bool):
        lacks.append("edge (True or False)")
    elif edge and getattr(getattr(poller, "register", None), "__func__", None) is Poller.register:
        lacks.append("register()")
    return lacks


def _describe(error: Exception) -> str:
    """An exception in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")
