"""How pollers are found and chosen (`coro.discovery`), over throw-away distributions.

A directory with ``x.py`` and ``x-1.0.dist-info/`` on ``sys.path`` is a distribution for `importlib.metadata` just as an
installed one is.  During these tests the path has nothing but such a directory and the standard library, so that what
is installed where they run plays no part.
"""

from __future__ import annotations

import errno
import importlib
import importlib.metadata
import os
import select
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

import coro
from coro.discovery import GROUP, Candidate, find_pollers, forget_pollers, open_poller
from coro.exceptions import NoPollerError
from coro.poller import POLLER_API, Poller, PollerInfo

Patch: TypeAlias = pytest.MonkeyPatch

# What follows "from coro.poller import ..." in a plugin: a class that keeps the contract on paper.
POLLER = """
from coro.poller import POLLER_API, Poller, PollerInfo, hookimpl
class Paper(Poller):
    edge = False
    opening = None
    def __init__(self):
        if self.opening is not None:
            raise self.opening
    def arm(self, fd, mask): pass
    def unregister(self, fd): pass
    def wait(self, timeout): return ()
    def close(self): pass
"""


def plugin(name: str, options: str = "", body: str = "") -> str:
    """The text of a plugin module: *options* goes into its PollerInfo, *body* before its hook."""
    return f"{POLLER}{body}\n@hookimpl\ndef coro_poller():\n    return PollerInfo({name!r}, Paper, {options})\n"


class Site:
    """A directory on the path, into which distributions are put."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(
        self,
        distribution: str,
        entries: dict[str, str] | str,
        modules: dict[str, str] | None = None,
        version: str = "1.0",
        metadata: bool = True,
    ) -> None:
        """Install a distribution with the entry points *entries*, from a name to a module, and these *modules*."""
        info = self.path / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        if metadata:
            text = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
            (info / "METADATA").write_text(text, encoding="utf-8")
        if isinstance(entries, dict):
            entries = f"[{GROUP}]\n" + "".join(f"{name} = {module}\n" for name, module in entries.items())
        (info / "entry_points.txt").write_text(entries, encoding="utf-8")
        for name, text in (modules or {}).items():
            (self.path / f"{name}.py").write_text(text, encoding="utf-8")
        forget_pollers()

    def add_poller(self, name: str, options: str = "", body: str = "", version: str = "1.0") -> None:
        """Install the distribution ``dist-NAME`` with the poller *name* in the module ``plugin_NAME``."""
        self.add(f"dist-{name}", {name: f"plugin_{name}"}, {f"plugin_{name}": plugin(name, options, body)}, version)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: Patch) -> Iterator[Site]:
    """An empty directory for distributions, on a path where no others are."""
    for variable in ("CORO_POLLER", "CORO_DISABLE_PLUGIN_AUTOLOAD"):
        monkeypatch.delenv(variable, raising=False)
    path = tmp_path / "site"
    path.mkdir()
    library = [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")]
    bare = [entry for entry in sys.path if "lib-dynload" in entry or entry.endswith(".zip")]
    monkeypatch.setattr(sys, "path", [str(path), *library, *bare])
    before = set(sys.modules)
    forget_pollers()
    yield Site(path)
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]
    forget_pollers()


def names(found: Iterable[Candidate]) -> list[str]:
    return [candidate.name for candidate in found]


def only(found: list[Candidate]) -> Candidate:
    assert len(found) == 1, found
    return found[0]


def last_line(error: pytest.ExceptionInfo[NoPollerError]) -> str:
    """The command with which the text of an error ends."""
    return str(error.value).splitlines()[-1].strip()


def paper() -> type[Poller]:
    """A poller class made here, not in a plugin."""
    scope: dict[str, Any] = {"__name__": __name__}
    exec(POLLER, scope)
    made: type[Poller] = scope["Paper"]
    return made


# --- When -------------------------------------------------------------------------------------------------------------


def in_a_new_process(site: Site, program: str) -> str:
    """What *program* prints; the distributions of *site* come first on its path."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site.path), str(Path(coro.__file__).parents[1])])}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("module", ["coro", "coro.discovery"])
def test_importing_looks_for_nothing(site: Site, module: str) -> None:
    """Neither `import coro` nor the import of the plugin host reads any metadata or imports any plugin."""
    site.add_poller("early")

    assert in_a_new_process(site, imported_by(f"import {module}", "importlib.metadata", "plugin_early")) == "[]"


def test_importing_coro_does_not_import_the_plugin_host(site: Site) -> None:
    """`import coro` is paid for by every program, so neither pluggy nor the plugin host comes with it."""
    assert in_a_new_process(site, imported_by("import coro", "pluggy", "coro.discovery")) == "[]"


def imported_by(statement: str, *modules: str) -> str:
    """A program that prints which of *modules* this *statement* imports."""
    return (
        "import sys\n"
        "before = set(sys.modules)\n"
        f"{statement}\n"
        f"print([name for name in {modules} if name in sys.modules and name not in before])"
    )


def test_a_new_process_finds_what_is_installed(site: Site) -> None:
    """The counterpart of the above: the first question does import the plugin."""
    site.add_poller("early", "priority=10**6")
    program = imported_by("from coro.discovery import open_poller\nprint(open_poller()[0])", "plugin_early")

    assert in_a_new_process(site, program) == "early\n['plugin_early']"


def test_looks_once_per_process(site: Site) -> None:
    """What happens to the installation after the first look is seen only when that look is forgotten."""
    site.add_poller("mine")

    assert names(find_pollers()) == ["mine"]

    (site.path / "dist_mine-1.0.dist-info").rename(site.path / "gone")

    assert names(find_pollers()) == ["mine"]

    forget_pollers()

    assert find_pollers() == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit of descriptors that a process could set")
def test_too_many_open_files_are_not_taken_for_an_empty_installation(site: Site) -> None:
    """Who has no descriptor left gets EMFILE, not the advice to install what is there."""
    site.add_poller("mine")
    program = (
        "import importlib.metadata, os, resource\n"
        "from coro.discovery import open_poller\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))\n"
        "try:\n"
        "    open_poller()\n"
        "except OSError as error:\n"
        "    print(os.strerror(error.errno))\n"
    )

    assert in_a_new_process(site, program) == os.strerror(errno.EMFILE)


def test_the_answer_belongs_to_the_caller(site: Site) -> None:
    """A caller that changes the list does not change what others find."""
    site.add_poller("mine")
    find_pollers().clear()

    assert names(find_pollers()) == ["mine"]


# --- What is found ----------------------------------------------------------------------------------------------------


def test_a_candidate_says_where_it_comes_from(site: Site) -> None:
    """It has the name, the distribution with its version, and what the plugin says of itself."""
    site.add_poller("mine", "priority=70", version="2.5")
    candidate = only(find_pollers())

    assert (candidate.name, candidate.distribution, candidate.version) == ("mine", "dist-mine", "2.5")
    assert candidate.why_not is None
    assert candidate.info is not None
    assert candidate.info.priority == 70
    assert str(candidate) == "mine (dist-mine 2.5)"


def test_pollers_come_in_the_order_of_preference(site: Site) -> None:
    """By priority from the highest, then by name; the broken come last, the unavailable in their places."""
    site.add("a-broken", {"aa": "no_such_module"})
    site.add_poller("low", "priority=-1")
    site.add("z-dist", {"same_a": "plugin_a"}, {"plugin_a": plugin("same_a")})
    site.add("y-dist", {"same_b": "plugin_b"}, {"plugin_b": plugin("same_b")})
    site.add_poller("high", "priority=120, unavailable='needs a better machine'")

    assert names(find_pollers()) == ["high", "same_a", "same_b", "low", "aa"]


BAD = plugin("bad")
TWICE = "\n@hookimpl(specname='coro_poller')\ndef again():\n    return PollerInfo('bad', Paper)\n"
ABSTRACT = "class Paper(Poller):\n    def close(self): pass\n"
BROKEN = {  # the module of a plugin, and what its reason has in it
    "missing dependency": ("import no_such_module", "cannot be imported: ModuleNotFoundError: No module named 'no_su"),
    "syntax error": ("def (", "cannot be imported: SyntaxError: invalid syntax"),
    "any error at import": ("1 / 0", "cannot be imported: ZeroDivisionError: division by zero"),
    "no hook": ("x = 1", "it must implement the hook coro_poller once, not 0 times"),
    "unmarked hook": (BAD.replace("@hookimpl", ""), "it must implement the hook coro_poller once, not 0 times"),
    "two hooks": (BAD + TWICE, "it must implement the hook coro_poller once, not 2 times"),
    "misspelt hook": (BAD.replace("coro_poller", "coro_poler"), "PluginValidationError: unknown hook 'coro_poler'"),
    "wrong signature": (
        BAD.replace("coro_poller()", "coro_poller(loop)"),
        "PluginValidationError: Plugin 'plugin_bad'",
    ),
    "raising hook": (BAD.replace("return PollerInfo", "raise OSError('no luck') #"), "OSError: no luck"),
    "hook that returns garbage": (BAD.replace("PollerInfo('bad', Paper, )", "{}"), "return a PollerInfo, not dict"),
    "hook that returns nothing": (BAD.replace("    return", "    pass #"), "return a PollerInfo, not NoneType"),
    "wrong types": (plugin("bad", "priority='high', unavailable=1"), "PollerInfo: priority='high', unavailable=1"),
    "no class": (BAD.replace("Paper, ", "None, "), "the wrong type in its PollerInfo: poller=None"),
    "field of a later coro": (plugin("bad", "colour='red'"), "unexpected keyword argument 'colour'"),
    "outdated": (plugin("bad", "api=POLLER_API - 1"), f"speaks {POLLER_API}: the plugin must be upgraded"),
    "for a later coro": (plugin("bad", "api=POLLER_API + 1"), f"speaks {POLLER_API}: coro-core must be upgraded"),
    "two names": (plugin("worse"), "its entry point says 'bad', its PollerInfo says 'worse': the names must agree"),
    "missing methods": (plugin("bad", body=ABSTRACT), "its class lacks arm(), unregister(), wait()"),
    "unavailable": (plugin("bad", "unavailable='needs a\\n  better machine'"), "needs a better machine"),
    "unavailable without a word": (plugin("bad", "unavailable=''"), "unavailable, without a reason"),
}


@pytest.mark.parametrize(("text", "why_not"), BROKEN.values(), ids=BROKEN)
def test_what_is_broken_harms_nobody_else(site: Site, text: str, why_not: str) -> None:
    """A plugin that fails in any way says why, in one line, and the others are found and used without a word."""
    site.add("dist-bad", {"bad": "plugin_bad"}, {"plugin_bad": text}, version="0.3")
    site.add_poller("good", "priority=-1")
    found = {candidate.name: candidate for candidate in find_pollers()}

    assert set(found) == {"good", "bad"}
    assert found["good"].why_not is None
    assert why_not in (found["bad"].why_not or "")
    assert "\n" not in (found["bad"].why_not or "")
    assert str(found["bad"]) == "bad (dist-bad 0.3)"
    assert open_poller()[0] == "good"
    with pytest.raises(NoPollerError):
        found["bad"].open()


def test_an_entry_points_file_that_cannot_be_parsed_harms_nobody_else(site: Site) -> None:
    """It takes the place of the pollers that it would have named."""
    site.add("dist-bad", f"[{GROUP}]\nthis is no entry\n")
    site.add_poller("good")
    good, bad = find_pollers()

    assert good.why_not is None
    assert str(bad) == "? (dist-bad 1.0)"
    assert (bad.why_not or "").startswith("its entry_points.txt cannot be read: ")


def test_metadata_that_is_about_something_else_is_none_of_our_business(site: Site) -> None:
    """A damaged file that does not mention pollers is not even parsed."""
    site.add("dist-bad", "[console_scripts]\nthis is no entry\n")
    site.add_poller("good")

    assert names(find_pollers()) == ["good"]


def test_a_file_that_cannot_be_decoded_is_passed_over(site: Site) -> None:
    """Nobody can say whether it was about pollers."""
    site.add("dist-bad", "")
    (site.path / "dist_bad-1.0.dist-info" / "entry_points.txt").write_bytes(b"[coro.pollers]\nx = \xff\xfe")
    site.add_poller("good")

    assert names(find_pollers()) == ["good"]


def test_a_distribution_without_metadata_can_still_offer_a_poller(site: Site) -> None:
    """It has no name then, and pip is never told to install something called so."""
    site.add("dist-mine", {"mine": "plugin_mine"}, {"plugin_mine": plugin("mine")}, metadata=False)
    site.add("dist-bad", {"bad": "no_such_module"}, metadata=False)

    assert [str(candidate) for candidate in find_pollers()] == ["mine (unnamed ?)", "bad (unnamed ?)"]
    assert open_poller()[0] == "mine"
    with pytest.raises(NoPollerError) as error:
        open_poller("bad")
    assert last_line(error) == "python -m coro pollers"


def test_a_hook_for_a_later_coro_is_passed_over(site: Site) -> None:
    """A plugin may implement hooks that this coro does not know yet."""
    site.add_poller("mine", body="@hookimpl\ndef coro_instrument(): pass\n")

    assert open_poller()[0] == "mine"


def test_keyboard_interrupt_at_import_is_not_a_broken_plugin(site: Site) -> None:
    """^C while plugins are imported ends the program, and the next look starts anew."""
    site.add("dist-slow", {"slow": "plugin_slow"}, {"plugin_slow": "raise KeyboardInterrupt"})
    with pytest.raises(KeyboardInterrupt):
        find_pollers()
    (site.path / "plugin_slow.py").write_text(plugin("slow") + "# another size, so that no cache is used\n")
    importlib.invalidate_caches()

    assert only(find_pollers()).why_not is None


# --- Twice ------------------------------------------------------------------------------------------------------------


def test_the_same_name_and_value_twice_is_one_poller(site: Site) -> None:
    """Editable installs and their leftovers declare the same thing twice; the first is shown."""
    site.add_poller("mine")
    site.add("dist-zombie", {"mine": "plugin_mine"})
    for version in "12":
        site.add("dist-broken", {"broken": "no_such_module"}, version=version)

    assert names(find_pollers()) == ["mine", "broken"]


@pytest.mark.parametrize(
    ("priorities", "expected"), [((20, 30), "dist-b"), ((30, 20), "dist-a"), ((20, 20), "dist-a")], ids=str
)
def test_of_two_with_the_same_name_the_higher_priority_is_used(
    site: Site, priorities: tuple[int, int], expected: str
) -> None:
    """With equal priorities the name of the distribution decides.  Both are shown."""
    for letter, priority in zip("ba", reversed(priorities), strict=True):  # the order of the files decides nothing
        text = plugin("mine", f"priority={priority}") + f"Paper.origin = 'dist-{letter}'\n"
        site.add(f"dist-{letter}", {"mine": f"plugin_{letter}"}, {f"plugin_{letter}": text})
    found = find_pollers()
    by_priority, by_name = open_poller()[1], open_poller("mine")[1]

    assert names(found) == ["mine", "mine"]
    assert {candidate.distribution for candidate in found} == {"dist-a", "dist-b"}
    assert found[0].distribution == expected
    assert by_priority.origin == by_name.origin == expected  # type: ignore[attr-defined]


@pytest.mark.parametrize("stranger", ["a-stranger", "z-stranger"])
@pytest.mark.parametrize("value", ["plugin_good", "no_such_module"], ids=["same value", "other value"])
def test_a_broken_stranger_does_not_take_a_name(site: Site, stranger: str, value: str) -> None:
    """A name belongs to nobody before it has been loaded, whichever of two distributions comes first."""
    site.add(stranger, {"good": value})
    site.add_poller("good")

    assert open_poller("good")[0] == "good"
    assert find_pollers()[0].why_not is None


# --- Choosing by priority ---------------------------------------------------------------------------------------------


def test_the_highest_priority_is_used(site: Site) -> None:
    """Nobody has named one."""
    site.add_poller("low", "priority=10")
    site.add_poller("high", "priority=100")
    name, poller = open_poller()

    assert name == "high"
    assert isinstance(poller, Poller)
    assert type(poller).__module__ == "plugin_high"


def test_what_is_unavailable_is_passed_over_silently(site: Site) -> None:
    """Warnings are errors here, so there is none."""
    site.add_poller("low", "priority=10")
    site.add_poller("high", "priority=100, unavailable='needs a better machine'")

    assert open_poller()[0] == "low"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("Paper.opening = OSError(24, 'Too many open files')", r"OSError: \[Errno 24\] Too many open files"),
        ("Paper.opening = PermissionError(1, 'Operation not permitted')", "PermissionError: .* not permitted"),
        ("Paper.opening = ZeroDivisionError()", r"\(ZeroDivisionError\)"),
        (
            "class Paper:\n    edge = False\n    close = wait = unregister = print\n",
            r"it lacks arm\(\), process_fd\(\)",
        ),
    ],
    ids=["EMFILE", "EPERM", "any error", "not a poller"],
)
def test_what_cannot_be_opened_gives_way_to_the_next_with_a_warning(site: Site, body: str, reason: str) -> None:
    """The warning names the poller, the reason and the next one, and shows the line of the program."""
    site.add_poller("low", "priority=10")
    site.add_poller("high", "priority=100", body)
    with pytest.warns(RuntimeWarning, match=reason) as warned:
        name, _ = open_poller()

    assert name == "low"
    assert len(warned) == 1
    text = str(warned[0].message)
    assert text.startswith("the poller high (dist-high 1.0) cannot be opened (")
    assert "trying low (dist-low 1.0)" in text
    assert text.endswith("CORO_POLLER=low")
    assert warned[0].filename == __file__


def test_a_poller_that_failed_once_is_tried_again(site: Site) -> None:
    """Too many open files is no lasting state."""
    site.add_poller("low", "priority=10")
    site.add_poller("high", "priority=100", "Paper.opening = OSError(24, 'Too many open files')")
    with pytest.warns(RuntimeWarning):
        open_poller()
    sys.modules["plugin_high"].Paper.opening = None

    assert open_poller()[0] == "high"


def test_when_none_can_be_opened_the_error_names_all(site: Site) -> None:
    """Each with its reason; the first failure is the cause."""
    site.add_poller("low", "priority=10", "Paper.opening = OSError('closed on Mondays')")
    site.add_poller("high", "priority=100", "Paper.opening = OSError('closed on Sundays')")
    site.add("dist-bad", {"bad": "no_such_module"})
    with pytest.warns(RuntimeWarning, match="trying low"), pytest.raises(NoPollerError) as error:
        open_poller()

    assert str(error.value).splitlines()[:4] == [
        "no poller can be used here.",
        "  - high (dist-high 1.0): cannot be opened: OSError: closed on Sundays",
        "  - low (dist-low 1.0): cannot be opened: OSError: closed on Mondays",
        "  - bad (dist-bad 1.0): cannot be imported: ModuleNotFoundError: No module named 'no_such_module'",
    ]
    assert last_line(error).startswith("pip install coro-")
    assert str(error.value.__cause__) == "closed on Sundays"


# --- No backend -------------------------------------------------------------------------------------------------------

PLATFORMS: list[tuple[set[str], str]] = [({"epoll"}, "coro-epoll"), ({"kqueue"}, "coro-kqueue"), (set(), "coro-select")]


@pytest.mark.parametrize(("has", "package"), PLATFORMS, ids=["Linux", "BSD", "elsewhere"])
def test_without_a_backend_the_error_ends_with_the_command(
    site: Site, monkeypatch: Patch, has: set[str], package: str
) -> None:
    """The package is the one for this platform."""
    for name in ("epoll", "kqueue"):
        monkeypatch.delattr(select, name, raising=False)
        if name in has:
            monkeypatch.setattr(select, name, object(), raising=False)
    with pytest.raises(NoPollerError, match="no poller is installed") as error:
        open_poller()

    assert last_line(error) == f"pip install {package}"


def test_a_backend_that_is_here_and_useless_is_not_recommended(site: Site, monkeypatch: Patch) -> None:
    """If the one for this platform cannot be used, the floor is; if that cannot either, an upgrade is tried."""
    monkeypatch.setattr(select, "epoll", object(), raising=False)
    site.add("coro-epoll", {"epoll": "no_such_module"})
    with pytest.raises(NoPollerError) as error:
        open_poller()

    assert last_line(error) == "pip install coro-select"

    site.add("coro-select", {"select": "no_such_module"})
    with pytest.raises(NoPollerError) as error:
        open_poller()

    assert last_line(error) == "pip install --upgrade coro-epoll"


def test_once_it_is_installed_the_same_process_finds_it(site: Site) -> None:
    """Somebody at a prompt types the command and tries again."""
    with pytest.raises(NoPollerError):
        open_poller()
    info = site.path / "dist_mine-1.0.dist-info"
    info.mkdir()
    (info / "entry_points.txt").write_text(f"[{GROUP}]\nmine = plugin_mine\n")
    (site.path / "plugin_mine.py").write_text(plugin("mine"))

    assert open_poller()[0] == "mine"


# --- By name ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def two(site: Site) -> Site:
    """A site with the pollers *high*, which is preferred, and *low*."""
    site.add_poller("low", "priority=10")
    site.add_poller("high", "priority=100")
    return site


def test_the_environment_goes_before_the_priority(two: Site, monkeypatch: Patch) -> None:
    """CORO_POLLER is a name here."""
    monkeypatch.setenv("CORO_POLLER", "low")

    assert open_poller()[0] == "low"


def test_the_argument_goes_before_the_environment(two: Site, monkeypatch: Patch) -> None:
    """Even where the environment names something that does not exist."""
    monkeypatch.setenv("CORO_POLLER", "no-such-poller")

    assert open_poller("low")[0] == "low"


def test_an_empty_variable_names_nothing(two: Site, monkeypatch: Patch) -> None:
    """CORO_POLLER= is the same as no CORO_POLLER."""
    monkeypatch.setenv("CORO_POLLER", "")

    assert open_poller()[0] == "high"


def ask_by_argument(name: str, _: Patch) -> tuple[str, Poller]:
    return open_poller(name)


def ask_by_environment(name: str, monkeypatch: Patch) -> tuple[str, Poller]:
    monkeypatch.setenv("CORO_POLLER", name)
    return open_poller()


both_ways = pytest.mark.parametrize(
    ("ask", "asked"),
    [(ask_by_argument, "poller='{}'"), (ask_by_environment, "CORO_POLLER={}")],
    ids=["argument", "environment"],
)
Ask = Callable[[str, Patch], tuple[str, Poller]]


@both_ways
def test_a_name_that_is_unknown(two: Site, monkeypatch: Patch, ask: Ask, asked: str) -> None:
    """The error says who asked for what and what there is, and ends with the command that shows more."""
    with pytest.raises(NoPollerError) as error:
        ask("uring", monkeypatch)

    assert str(error.value).splitlines() == [
        f"{asked.format('uring')} is not installed.",
        "  - high (dist-high 1.0): usable",
        "  - low (dist-low 1.0): usable",
        "See which pollers can be used with:",
        "    python -m coro pollers",
    ]


@both_ways
def test_a_name_that_is_broken(two: Site, monkeypatch: Patch, ask: Ask, asked: str) -> None:
    """It is an error although others are usable; the exception of the plugin is its cause."""
    site = two
    site.add("dist-bad", {"bad": "plugin_bad"}, {"plugin_bad": "import no_such_module"}, version="0.3")
    with pytest.raises(NoPollerError) as error:
        ask("bad", monkeypatch)

    lines = str(error.value).splitlines()
    assert lines[0] == f"{asked.format('bad')} cannot be used."
    assert lines[3].startswith("  - bad (dist-bad 0.3): cannot be imported: ModuleNotFoundError")
    assert last_line(error) == "pip install --upgrade dist-bad"
    assert isinstance(error.value.__cause__, ModuleNotFoundError)


@both_ways
def test_a_name_that_cannot_be_opened(two: Site, monkeypatch: Patch, ask: Ask, asked: str) -> None:
    """What somebody named does not fall back, and there is no warning either."""
    two.add_poller("shut", "priority=1", "Paper.opening = OSError('closed on Sundays')")
    with pytest.raises(NoPollerError) as error:
        ask("shut", monkeypatch)

    assert f"{asked.format('shut')} cannot be used." in str(error.value)
    assert "  - shut (dist-shut 1.0): cannot be opened: OSError: closed on Sundays" in str(error.value)
    assert last_line(error) == "python -m coro pollers"
    assert isinstance(error.value.__cause__, OSError)


@pytest.mark.parametrize(
    ("options", "command"),
    [
        ("api=POLLER_API - 1", "pip install --upgrade dist-odd"),
        ("api=POLLER_API + 1", "pip install --upgrade coro-core"),
        ("unavailable='needs a better machine'", "python -m coro pollers"),
    ],
)
def test_the_command_fits_the_reason(two: Site, options: str, command: str) -> None:
    """Whoever is behind is upgraded; where nobody is at fault, another poller must do."""
    two.add_poller("odd", options)
    with pytest.raises(NoPollerError) as error:
        open_poller("odd")

    assert last_line(error) == command


def test_a_name_that_is_unavailable_where_nothing_else_is_usable(site: Site, monkeypatch: Patch) -> None:
    """There is nothing to choose from, so something is to be installed."""
    monkeypatch.setattr(select, "epoll", object(), raising=False)
    site.add_poller("odd", "unavailable='needs a better machine'")
    with pytest.raises(NoPollerError) as error:
        open_poller("odd")

    assert last_line(error) == "pip install coro-epoll"


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("epoll", "pip install coro-epoll"),
        ("select", "pip install coro-select"),
        ("kqueue", "python -m coro pollers"),  # of no use on a system with epoll
    ],
)
def test_one_of_ours_that_is_not_installed(two: Site, monkeypatch: Patch, name: str, command: str) -> None:
    """Its package is known, so the command installs it, unless it could not work here."""
    monkeypatch.setattr(select, "epoll", object(), raising=False)
    monkeypatch.delattr(select, "kqueue", raising=False)
    with pytest.raises(NoPollerError, match="is not installed") as error:
        open_poller(name)

    assert last_line(error) == command


def test_a_name_that_two_have_is_had_from_the_second(site: Site) -> None:
    """If the first of that name cannot be opened, the other is what was asked for just as well."""
    for letter, opening in (("a", "OSError('closed on Sundays')"), ("b", "None")):
        text = plugin("mine", body=f"Paper.opening = {opening}")
        site.add(f"dist-{letter}", {"mine": f"plugin_{letter}"}, {f"plugin_{letter}": text})
    with pytest.warns(RuntimeWarning, match=r"mine \(dist-a 1.0\) cannot be opened"):
        name, poller = open_poller("mine")

    assert name == "mine"
    assert type(poller).__module__ == "plugin_b"


# --- By module and class ----------------------------------------------------------------------------------------------


@both_ways
def test_a_class_by_its_path(two: Site, monkeypatch: Patch, ask: Ask, asked: str) -> None:
    """It needs no entry point, and its name is its path."""
    (two.path / "loose.py").write_text(f"{POLLER}\nclass Outer:\n    Inner = Paper\n")
    name, poller = ask("loose:Outer.Inner", monkeypatch)

    assert name == "loose:Outer.Inner"
    assert type(poller).__module__ == "loose"


@both_ways
@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("no_such_module:Paper", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("loose:Nothing", "AttributeError: module 'loose' has no attribute 'Nothing'"),
        ("loose:", "AttributeError: "),
        ("loose:Shut", "OSError: closed on Sundays"),
        ("loose:POLLER_API", "TypeError: an object of type int is no poller"),
        (
            "loose:AnInfo",
            "NoPollerError: the poller mine (given by the program) cannot be used: needs a better machine",
        ),
    ],
)
def test_a_path_that_leads_nowhere(two: Site, monkeypatch: Patch, ask: Ask, asked: str, path: str, reason: str) -> None:
    """It was named, so it is an error, with the reason, and the command that shows what could be had."""
    (two.path / "loose.py").write_text(
        f"{POLLER}\nclass Shut(Paper):\n    opening = OSError('closed on Sundays')\n"
        "AnInfo = PollerInfo('mine', Paper, unavailable='needs a better machine')\n"
    )
    with pytest.raises(NoPollerError) as error:
        ask(path, monkeypatch)

    assert str(error.value).startswith(f"{asked.format(path)} cannot be had: {reason}")
    assert last_line(error) == "python -m coro pollers"
    assert error.value.__cause__ is not None


# --- Handed over ------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_search(site: Site, monkeypatch: Patch) -> None:
    """Looking for distributions fails the test."""

    def refuse(**_: object) -> Iterator[importlib.metadata.Distribution]:
        raise AssertionError("nobody has asked for a search")

    monkeypatch.setattr(importlib.metadata, "distributions", refuse)


@pytest.mark.usefixtures("no_search")
def test_a_class_is_called() -> None:
    """Nothing is searched, so it works in a program that was frozen without metadata."""
    made = paper()
    name, poller = open_poller(made)

    assert type(poller) is made
    assert name == f"{__name__}:Paper"


@pytest.mark.usefixtures("no_search")
def test_a_factory_is_called() -> None:
    """Whatever gives a poller when it is called is as good as a class."""
    made = paper()

    assert type(open_poller(lambda: made())[1]) is made


@pytest.mark.usefixtures("no_search")
def test_an_open_poller_is_used_as_it_is() -> None:
    """It is not opened again."""
    mine = paper()()

    assert open_poller(mine)[1] is mine


@pytest.mark.usefixtures("no_search")
def test_a_poller_need_not_inherit() -> None:
    """It keeps the contract if it has all that the contract names, be it in the instance only, and callable itself."""

    class Duck:
        edge = True

        def __init__(self) -> None:
            self.arm = self.close = self.register = self.unregister = self.wait = self.process_fd = print

        def __call__(self) -> None:
            raise AssertionError("an open poller is not called")

    duck: Any = Duck()

    assert open_poller(duck)[1] is duck
    assert isinstance(open_poller(Duck)[1], Duck)  # type: ignore[arg-type]


@pytest.mark.usefixtures("no_search")
def test_what_a_plugin_answers_is_opened() -> None:
    """A PollerInfo has a name of its own."""
    made = paper()
    name, poller = open_poller(PollerInfo("mine", made))

    assert name == "mine"
    assert type(poller) is made


@pytest.mark.usefixtures("no_search")
@pytest.mark.parametrize("options", [{"unavailable": "needs a better machine"}, {"api": POLLER_API + 1}], ids=str)
def test_an_answer_that_says_no_is_not_opened(options: dict[str, Any]) -> None:
    """The reason is in the error."""

    def opened() -> Poller:
        raise AssertionError("it was opened")

    with pytest.raises(NoPollerError, match=r"needs a better machine|speaks poller API") as error:
        open_poller(PollerInfo("mine", opened, **options))
    assert last_line(error) == "python -m coro pollers"


@pytest.mark.usefixtures("no_search")
def test_a_class_raises_its_own_error() -> None:
    """The program handed it over, so the program gets what it raises."""

    class Shut(paper()):  # type: ignore[misc]
        opening = OSError(24, "Too many open files")

    with pytest.raises(OSError, match="Too many open files") as error:
        open_poller(Shut)
    assert error.value is Shut.opening


def no_edge() -> Poller:
    made: Any = paper()
    made.edge = None
    poller: Poller = made()
    return poller


def edge_without_register() -> Poller:
    made: Any = paper()
    made.edge = True
    poller: Poller = made()
    return poller


@pytest.mark.usefixtures("no_search")
@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (5, r"type int is no poller, it lacks arm\(\), close\(\)"),
        (object, r"type object is no poller"),
        (lambda: None, r"type NoneType is no poller"),
        (no_edge, r"type Paper is no poller, it lacks edge \(True or False\)\."),
        (edge_without_register, r"type Paper is no poller, it lacks register\(\)\."),
        (select, r"type module is no poller"),
    ],
    ids=["number", "wrong class", "factory of nothing", "no edge", "edge without register", "module"],
)
def test_what_is_no_poller_is_a_type_error(request_: Any, reason: str) -> None:
    """The error says what is lacking and what could be given."""
    with pytest.raises(TypeError, match=reason) as error:
        open_poller(request_)
    assert "derived from coro.poller.Poller" in str(error.value)


def test_the_name_of_a_class_is_a_way_to_ask_for_it(site: Site) -> None:
    """What comes back as name can be put into CORO_POLLER."""
    (site.path / "loose.py").write_text(POLLER)
    made = importlib.import_module("loose").Paper
    name, _ = open_poller(made)

    assert type(open_poller(name)[1]) is made


# --- CORO_DISABLE_PLUGIN_AUTOLOAD -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_search")
def test_without_autoload_nothing_is_searched(monkeypatch: Patch) -> None:
    """The automatic choice has nothing to choose from; the command gives it back."""
    monkeypatch.setenv("CORO_DISABLE_PLUGIN_AUTOLOAD", "1")
    with pytest.raises(NoPollerError, match="CORO_DISABLE_PLUGIN_AUTOLOAD is set, so none was looked for") as error:
        open_poller()

    assert find_pollers() == []
    assert "CORO_DISABLE_PLUGIN_AUTOLOAD" in last_line(error)


@both_ways
def test_without_autoload_a_name_means_nothing(two: Site, monkeypatch: Patch, ask: Ask, asked: str) -> None:
    """Even where the pollers were found before."""
    find_pollers()
    monkeypatch.setenv("CORO_DISABLE_PLUGIN_AUTOLOAD", "1")
    with pytest.raises(NoPollerError) as error:
        ask("low", monkeypatch)

    assert str(error.value).startswith(f"{asked.format('low')} cannot be had: CORO_DISABLE_PLUGIN_AUTOLOAD is set")


@pytest.mark.usefixtures("no_search")
def test_without_autoload_a_class_works(site: Site, monkeypatch: Patch) -> None:
    """By its path, and handed over."""
    monkeypatch.setenv("CORO_DISABLE_PLUGIN_AUTOLOAD", "1")
    (site.path / "loose.py").write_text(POLLER)
    monkeypatch.setenv("CORO_POLLER", "loose:Paper")

    assert open_poller()[0] == "loose:Paper"
    assert isinstance(open_poller(paper())[1], Poller)


@pytest.mark.parametrize("value", ["", "0"])
def test_autoload_is_disabled_by_a_value_that_says_so(two: Site, monkeypatch: Patch, value: str) -> None:
    """Empty and 0 leave it on."""
    monkeypatch.setenv("CORO_DISABLE_PLUGIN_AUTOLOAD", value)

    assert open_poller()[0] == "high"


# --- In the loop ------------------------------------------------------------------------------------------------------


def test_the_loop_asks_here(site: Site) -> None:
    """`event_loop(poller=...)` raises what the choice raises, and coro goes on working."""
    with pytest.raises(NoPollerError, match="poller='no-such-poller' is not installed"):
        coro.event_loop(poller="no-such-poller")

    assert not coro.coro_is_running()
