"""Names of hosts: getaddrinfo, getnameinfo and the resolvers behind them (spec C1; D-55, D-60, D-65).

The answers are those of the system.  Where a test needs a resolver that is slow, it puts a gate before the system's.
"""

from __future__ import annotations

import builtins
import os
import signal
import socket
import sys
import threading
import traceback
import warnings

import greenlet
import pytest

import coro
from coro import names
from coro.connect import create_connection, create_server, tcp_sock, udp_sock
from coro.kernel import this_kernel
from coro.names import ThreadResolver, get_resolver, getaddrinfo, getnameinfo, set_resolver

FOR_EVER = 20  # seconds: only a test that fails waits so long
UNKNOWN = "no such host.invalid"
posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither fork(2) nor setitimer(2)")

real = socket.getaddrinfo


class Slow:
    """The system's resolver behind a gate; every name is an address of this machine, or unknown."""

    def __init__(self):
        self.gate, self.begun = threading.Event(), threading.Event()
        self.asked = []

    def __call__(self, host, *args):
        self.asked.append(host)
        self.begun.set()
        assert self.gate.wait(FOR_EVER)
        return real(UNKNOWN if "unknown" in host else "127.0.0.1", *args)

    def ask(self, host, *args):
        """A coroutine that waits for *host*, whose query is under way."""
        self.begun.clear()
        co = coro.spawn(getaddrinfo, host, *args)
        coro.to_thread(self.begun.wait, FOR_EVER)
        return co


@pytest.fixture
def slow(monkeypatch):
    slow = Slow()
    monkeypatch.setattr(names, "system_getaddrinfo", slow)
    yield slow
    slow.gate.set()


@pytest.fixture
def resolver():
    """Sets a resolver for this test."""
    old = get_resolver()
    yield set_resolver
    set_resolver(old)


def joined(host):
    """A coroutine that joins the query for *host*."""
    co = coro.spawn(getaddrinfo, host, 80)
    coro.yield_slice()
    return co


# -- what it returns -------------------------------------------------------------------------------------------------

QUERIES = [
    ("localhost", 80),
    ("localhost", None),
    ("localhost", "80"),
    (b"localhost", b"80", socket.AF_INET),
    ("127.0.0.1", 80),
    ("127.0.0.1", 0, 0, socket.SOCK_STREAM),
    ("::1", 80, socket.AF_INET6, socket.SOCK_DGRAM),
    ("localhost", 80, socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, socket.AI_CANONNAME),
    (None, 80, 0, socket.SOCK_STREAM, 0, socket.AI_PASSIVE),
]


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_it_returns_what_the_standard_library_does(loop, query):
    """In a coroutine and outside, by position and by keyword."""
    expected = real(*query)
    words = dict(zip(("host", "port", "family", "type", "proto", "flags"), query, strict=False))

    assert getaddrinfo(*query) == getaddrinfo(**words) == expected
    assert loop(getaddrinfo, *query) == expected
    assert loop(lambda: getaddrinfo(**words)) == expected


def test_it_raises_what_the_standard_library_does(loop):
    """gaierror with the same number, for what the system does not know."""
    for query in (
        (UNKNOWN, 80),
        ("", 80),
        ("127.0.0.1", 80, socket.AF_INET6),
        ("name", 80, 0, 0, 0, socket.AI_NUMERICHOST),
        ("127.0.0.1", "no such service"),
        (None, None),
    ):
        with pytest.raises(socket.gaierror) as expected:
            real(*query)
        for run in (lambda fn, *args: fn(*args), loop):
            with pytest.raises(socket.gaierror) as caught:
                run(getaddrinfo, *query)
            assert caught.value.errno == expected.value.errno, query


def test_D_65_the_resolver_of_the_system_is_asked(loop):
    """So the hosts file counts, as for every other program, and nothing walks from the root servers."""
    assert isinstance(get_resolver(), ThreadResolver)
    assert get_resolver().resolve_ipv4("localhost") == "127.0.0.1"
    assert loop(get_resolver().resolve_ipv4, "localhost") == "127.0.0.1"


def test_D_60_no_name_hides_a_builtin():
    """Shrapnel's NameError is an alias of gaierror, and a star import does not bring it."""
    assert names.NameError is socket.gaierror
    assert [name for name in names.__all__ if hasattr(builtins, name)] == []


def test_getnameinfo_is_that_of_the_standard_library(loop):
    """In a thread, or in place if no name is wanted; a name in place of an address is gaierror."""
    numeric = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
    for flags in (0, socket.NI_NUMERICSERV, numeric):
        expected = socket.getnameinfo(("127.0.0.1", 80), flags)
        assert getnameinfo(("127.0.0.1", 80), flags) == expected
        assert loop(getnameinfo, ("127.0.0.1", 80), flags) == expected
    for run in (lambda fn, *args: fn(*args), loop):
        with pytest.raises(socket.gaierror):
            run(getnameinfo, (UNKNOWN, 80))
        for wrong in (None, "127.0.0.1", (), (1, 2)):
            with pytest.raises(TypeError):
                run(getnameinfo, wrong)


# -- bad input -------------------------------------------------------------------------------------------------------

LABEL = "a label has at most 63 characters".replace(" ", "-") * 2


@pytest.mark.parametrize(
    "host", [LABEL, f"{LABEL}.invalid", "a..b", ".", ".a", "x" * 300, "\udc80", b"\xff", ""], ids=ascii
)
def test_what_cannot_be_a_name_is_a_gaierror_that_says_why(loop, slow, host):
    """Not a UnicodeError of some codec; nobody is asked, and a socket is left as it was."""

    def main():
        with tcp_sock() as s:
            calls = [lambda: getaddrinfo(host, 80)]
            if host:
                calls += [lambda: s.connect((host, 80)), lambda: s.bind((host, 80))]
                calls += [lambda: create_connection((host, 80))]
            for call in calls:
                with pytest.raises(socket.gaierror, match="is not known: ") as caught:
                    call()
                assert caught.value.errno == socket.EAI_NONAME

    loop(main)

    assert slow.asked == []


@pytest.mark.parametrize(
    ("host", "port", "error"),
    [
        ("a\0b", 80, ValueError),  # the system takes it for "a"
        (b"127.0.0.1\0", 80, ValueError),
        ("localhost", "8\0000", ValueError),
        ("localhost", b"8\0000", ValueError),
        ("localhost", 65536, OverflowError),  # the system takes it for 0
        ("127.0.0.1", 65536 + 80, OverflowError),
        ("127.0.0.1", "65616", OverflowError),
        ("127.0.0.1", -1, OverflowError),
        ("127.0.0.1", 2**80, OverflowError),
        ("127.0.0.1", 1.5, TypeError),
        (None, [], TypeError),
        (5, 5, TypeError),
        (["localhost"], 5, TypeError),
    ],
    ids=str,
)
def test_bad_input_is_refused_at_once(loop, slow, host, port, error):
    """ValueError for a NUL, OverflowError for a port that there is not, TypeError; nobody is asked."""

    def main():
        with pytest.raises(error, match=r"NUL|port|host"):
            getaddrinfo(host, port)
        if host is not None:
            live = coro.get_live_sockets()
            with pytest.raises(error, match=r"NUL|port|host"):
                create_connection((host, port))
            assert coro.get_live_sockets() == live

    loop(main)

    assert slow.asked == []


def test_a_port_is_checked_before_the_name_is_looked_up(loop, slow):
    """connect, sendto and bind."""

    def main():
        with tcp_sock() as s, udp_sock() as u:
            for port, error in ((65536, OverflowError), (-1, OverflowError), ("http", TypeError), (None, TypeError)):
                for call in (s.connect, s.bind, lambda address: u.sendto(b"x", address)):
                    with pytest.raises(error, match="port"):
                        call(("localhost", port))
            assert s.getsockname() == ("0.0.0.0", 0)

    loop(main)

    assert slow.asked == []


def test_an_empty_host_is_nothing_to_connect_to(loop):
    """ValueError; a socket of one's own may be bound to it."""

    def main():
        with pytest.raises(ValueError, match="no host"):
            create_connection(("", 80))

    loop(main)


def test_create_connection_takes_the_name_of_a_service(loop):
    """Beside a name as beside an address."""

    def main():
        for host in ("127.0.0.1", "localhost"):
            try:
                with create_connection((host, "http"), 5) as s:  # somebody may serve it
                    assert s.getpeername()[1] == socket.getservbyname("http")
            except ConnectionRefusedError as exc:
                if exc.__cause__ is None:  # of one address
                    assert str(socket.getservbyname("http")) in str(exc)  # noqa: PT017

    loop(main)


# -- who waits, and where --------------------------------------------------------------------------------------------


def test_other_coroutines_run_meanwhile(loop, slow):
    """The thread is released by one of them."""

    def main():
        co = slow.ask("name", 80)
        slow.gate.set()
        assert co.result() == real("127.0.0.1", 80)
        assert this_kernel().externals == 0

    loop(main)


def test_literal_addresses_never_leave_the_thread(loop, monkeypatch):
    """Of both families, with a scope, and where no host is given; nor does AI_NUMERICHOST."""
    threads = set()

    def getaddrinfo_here(*args):
        threads.add(threading.current_thread())
        return real(*args)

    monkeypatch.setattr(names, "system_getaddrinfo", getaddrinfo_here)

    def main():
        for host in ("127.0.0.1", "::1", "fe80::1", b"127.0.0.1", None, "fe80::1%lo", "fe80::1%no such interface"):
            try:
                getaddrinfo(host, 80)
            except socket.gaierror:
                assert "%" in str(host)
        with pytest.raises(socket.gaierror):
            getaddrinfo("name", 80, flags=socket.AI_NUMERICHOST)
        assert threads == {threading.current_thread()}
        getaddrinfo("localhost", 80)
        assert len(threads) == 2

    loop(main)


def test_outside_a_coroutine_it_resolves_in_place(poller, slow):
    """Before a loop and after it, in the calling thread."""
    slow.gate.set()
    threads = set(threading.enumerate())

    assert getaddrinfo("name", 80) == real("127.0.0.1", 80)
    assert coro.run(int) == 0
    assert getaddrinfo("name", 80) == real("127.0.0.1", 80)
    assert set(threading.enumerate()) <= threads


@posix
def test_in_a_signal_handler_nothing_blocks(loop, failures):
    """While the loop runs a name is YieldFromMain, and an address is dealt with."""
    seen = []

    def handler(signum, frame):
        if this_kernel().current is None and not seen:  # not while a coroutine runs: then it is the one that asks
            seen.append(getaddrinfo("127.0.0.1", 80))
            try:
                getaddrinfo("localhost", 80)
            except coro.YieldFromMain as exc:
                seen.append(exc)

    def main():
        while not seen:
            signal.setitimer(signal.ITIMER_REAL, 0.002)
            coro.sleep_relative(0.004)

    old = signal.signal(signal.SIGALRM, handler)
    try:
        loop(main)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert seen[0] == real("127.0.0.1", 80)
    assert isinstance(seen[1], coro.YieldFromMain)


def test_a_slow_resolver_does_not_hold_up_to_thread(loop, slow):
    """Its threads are its own, and more queries than these wait for their turn."""

    def main():
        waiting = [slow.ask(f"name{number}", 80) for number in range(4)]
        waiting += [joined(f"name{number}") for number in range(4, 40)]
        assert coro.to_thread(int, "5") == 5
        slow.gate.set()
        for co in waiting:
            assert co.result() == real("127.0.0.1", 80)

    loop(main)

    assert sorted(slow.asked) == sorted(f"name{number}" for number in range(40))


def test_it_works_in_a_foreign_greenlet(loop):
    """One that a library has made on top of a coroutine."""
    assert loop(lambda: greenlet.greenlet(getaddrinfo).switch("localhost", 80)) == real("localhost", 80)


# -- queries that are joined -----------------------------------------------------------------------------------------


def test_identical_queries_are_joined(loop, slow):
    """One thread works, and each waiter gets a list of its own; another query is another call."""

    def main():
        waiting = [slow.ask("name", 80), *(joined("name") for _ in range(9))]
        other = slow.ask("name", 81)
        slow.gate.set()
        answers = [co.result() for co in waiting]
        assert answers == [real("127.0.0.1", 80)] * 10
        assert len({id(answer) for answer in answers}) == 10
        assert other.result() == real("127.0.0.1", 81)

    loop(main)

    assert slow.asked == ["name", "name"]


def test_a_query_that_is_over_is_made_anew(loop, slow):
    """Nothing is remembered: to cache names is the system's business."""
    slow.gate.set()

    def main():
        for _ in range(3):
            getaddrinfo("name", 80)
        assert get_resolver()._queries == {}

    loop(main)

    assert slow.asked == ["name"] * 3


def test_D_55_an_error_is_raised_in_each_waiter_with_its_own_traceback(loop, slow):
    """Each has an exception of its own, which shows its own frames only."""

    def asker_0():
        getaddrinfo("unknown", 80)

    def asker_1():
        getaddrinfo("unknown", 80)

    def main():
        slow.begun.clear()
        caught = []

        def ask(asker):
            try:
                asker()
            except socket.gaierror as exc:
                caught.append(exc)

        children = [coro.spawn(ask, asker) for asker in (asker_0, asker_1)]
        coro.to_thread(slow.begun.wait, FOR_EVER)
        slow.gate.set()
        for co in children:
            co.join()
        first, second = caught
        assert first is not second
        assert first.args == second.args
        assert first.errno == socket.EAI_NONAME
        for exc, mine, other in ((first, "asker_0", "asker_1"), (second, "asker_1", "asker_0")):
            frames = [frame.name for frame in traceback.extract_tb(exc.__traceback__)]
            assert mine in frames
            assert other not in frames
            assert exc.__context__ is None

    loop(main)

    assert slow.asked == ["unknown"]


@pytest.mark.parametrize("which", [0, 1], ids=["first", "second"])
@pytest.mark.parametrize("interruption", ["timeout", "shutdown"])
def test_when_one_waiter_is_interrupted_the_others_get_the_answer(loop, slow, which, interruption):
    """Whether it made the query or joined it."""

    def main():
        def ask():
            if interruption == "timeout":
                with pytest.raises(coro.TimeoutError):
                    coro.with_timeout(0.005, getaddrinfo, "name", 80)
            else:
                getaddrinfo("name", 80)

        bodies = [ask, lambda: getaddrinfo("name", 80)]
        children = [coro.spawn(body) for body in (bodies if which == 0 else bodies[::-1])]
        victim, other = children if which == 0 else children[::-1]
        coro.to_thread(slow.begun.wait, FOR_EVER)
        if interruption == "shutdown":
            victim.shutdown()
        victim.join()
        assert not other.dead
        slow.gate.set()
        assert other.result() == real("127.0.0.1", 80)
        assert this_kernel().externals == 0

    loop(main)

    assert slow.asked == ["name"]


def test_loops_of_several_threads_join_the_same_query(poller, failures, slow):
    """Each is woken in its own thread."""
    answers = []

    def other():
        answers.append(coro.run(getaddrinfo, "name", 80))

    def main():
        waiting = slow.ask("name", 80)
        thread = threading.Thread(target=other)
        thread.start()
        (query,) = get_resolver()._queries.values()
        while query.waiting < 2:
            coro.sleep_relative(0.001)
        slow.gate.set()
        answers.append(waiting.result())
        coro.to_thread(thread.join)

    coro.run(main)

    assert answers == [real("127.0.0.1", 80)] * 2
    assert slow.asked == ["name"]


# -- waits that end early --------------------------------------------------------------------------------------------


def test_a_timeout_ends_the_wait_and_the_thread_ends_by_itself(loop, slow):
    """TimeoutError at once, no promise is left, and what comes too late wakes nobody."""

    def waiter():
        with pytest.raises(coro.TimeoutError):
            coro.with_timeout(0.005, getaddrinfo, "name", 80)
        return coro.suspend()

    def main():
        co = coro.spawn(waiter)
        while this_kernel().externals == 0:
            coro.yield_slice()
        while this_kernel().externals:
            coro.sleep_relative(0.002)
        slow.gate.set()
        while get_resolver()._queries:
            coro.sleep_relative(0.001)
        for _ in range(3):
            coro.yield_slice()
        assert not co.dead
        co.schedule("right")
        assert co.result() == "right"

    loop(main)


def test_one_that_comes_back_joins_the_query_that_it_left(loop, slow):
    """A retry does not take another thread."""

    def main():
        for _ in range(8):
            with pytest.raises(coro.TimeoutError):
                coro.with_timeout(0.002, getaddrinfo, "name", 80)
        co = joined("name")
        slow.gate.set()
        assert co.result() == real("127.0.0.1", 80)

    loop(main)

    assert slow.asked == ["name"]


def test_a_query_that_has_not_begun_is_dropped_with_its_last_waiter(loop, slow, resolver):
    """It leaves the queue of the threads; while somebody waits it stays."""
    resolver(ThreadResolver(1))

    def main():
        first = slow.ask("first", 80)
        dropped = [joined("dropped") for _ in range(2)]
        kept = [joined("kept") for _ in range(2)]
        for co in (*dropped, kept[0]):
            co.shutdown()
            co.join()
        slow.gate.set()
        assert first.result() == kept[1].result() == real("127.0.0.1", 80)
        assert get_resolver()._queries == {}

    loop(main)

    assert slow.asked == ["first", "kept"]


def test_a_stray_wake_up_does_not_end_the_wait(loop, slow):
    """D-08: schedule is only a hint."""

    def main():
        co = slow.ask("name", 80)
        for _ in range(3):
            co.schedule("stray")
            coro.yield_slice()
        assert not co.dead
        slow.gate.set()
        assert co.result() == real("127.0.0.1", 80)

    loop(main)


def test_a_loop_that_ends_does_not_wait_for_the_answer(loop, slow):
    """Nor is the next loop disturbed when the answer comes."""

    def main():
        slow.ask("name", 80)

    loop(main)
    slow.gate.set()

    assert loop(getaddrinfo, "name", 80) == real("127.0.0.1", 80)


@posix
def test_D_43_a_forked_child_has_threads_and_queries_of_its_own(loop, slow):
    """Though one is under way in the parent, whose thread the child has not, and its lock may be held."""

    def main():
        co = slow.ask("name", 80)
        system = get_resolver()
        system._lock.acquire()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # threads and fork: that is what we test
            pid = coro.fork()
        if not pid:
            status = 1
            try:
                slow.gate = threading.Event()  # the old one has a lock that may be held
                slow.gate.set()
                if coro.with_timeout(FOR_EVER, getaddrinfo, "name", 80) == real("127.0.0.1", 80):
                    status = 0
            finally:
                os._exit(status)
        system._lock.release()
        assert coro.waitpid(pid) == (pid, 0)
        slow.gate.set()
        assert co.result() == real("127.0.0.1", 80)

    loop(main)


# -- resolvers of one's own ------------------------------------------------------------------------------------------


class Hosts:
    """A resolver with Shrapnel's interface."""

    def __init__(self, ipv4=(), ipv6=()):
        self.answers = {"ipv4": ipv4, "ipv6": ipv6}
        self.asked = []

    def answer(self, version, name):
        self.asked.append((version, name, coro.current().id))
        coro.yield_slice()
        answer = self.answers[version]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def resolve_ipv4(self, name):
        return self.answer("ipv4", name)

    def resolve_ipv6(self, name):
        return self.answer("ipv6", name)


def test_set_resolver_returns_the_old_one(resolver):
    """And get_resolver the one in use."""
    old, first = get_resolver(), Hosts()

    assert resolver(first) is old
    assert get_resolver() is first
    assert resolver(old) is first
    assert get_resolver() is old


@pytest.mark.parametrize("wrong", [None, 5, "127.0.0.1", object(), Hosts])
def test_what_is_no_resolver_is_refused(resolver, wrong):
    """TypeError that says what it needs, and the old one stays."""
    if wrong is Hosts:
        wrong = type("Half", (), {"resolve_ipv4": lambda self, name: "127.0.0.1"})()
    old = get_resolver()
    with pytest.raises(TypeError, match="resolve_ipv4"):
        resolver(wrong)
    assert get_resolver() is old


def test_a_resolver_is_asked_in_the_coroutine_that_wants_to_know(loop, resolver):
    """By connect, bind and sendto; it may block; addresses and hosts that are none do not reach it."""
    hosts = Hosts("127.0.0.1", "::1")
    resolver(hosts)

    def main():
        with create_server(("name", 0)) as listener, udp_sock() as u, udp_sock() as v:
            port = listener.getsockname()[1]
            create_connection(("127.0.0.1", port)).close()
            with tcp_sock() as s:
                s.connect(("name", port))
            with create_connection(("name", port), 5) as s:
                assert s.getpeername() == ("127.0.0.1", port)
            v.bind(("", 0))
            u.sendto(b"x", (b"name", v.getsockname()[1]))
            assert v.recv(5) == b"x"
            for _ in range(3):
                listener.accept()[0].close()
        me = coro.current().id
        ipv4 = ("ipv4", "name", me)
        assert hosts.asked == [ipv4, ipv4, ("ipv6", "name", me), ipv4, ipv4]

    loop(main)


def test_a_resolver_may_return_several_addresses(loop, resolver):
    """They come in its order, IPv6 first, in the form of the standard library."""
    resolver(Hosts(["127.0.0.2", "127.0.0.1"], ("::1", "::2")))

    found = loop(getaddrinfo, "name", 80, 0, socket.SOCK_STREAM)

    assert [info[4][:2] for info in found] == [("::1", 80), ("::2", 80), ("127.0.0.2", 80), ("127.0.0.1", 80)]
    assert found[2:] == real("127.0.0.2", 80, 0, socket.SOCK_STREAM) + real("127.0.0.1", 80, 0, socket.SOCK_STREAM)
    only = loop(getaddrinfo, "name", 80, socket.AF_INET, socket.SOCK_DGRAM)
    assert [info[:2] + info[4] for info in only] == [
        (socket.AF_INET, socket.SOCK_DGRAM, "127.0.0.2", 80),
        (socket.AF_INET, socket.SOCK_DGRAM, "127.0.0.1", 80),
    ]


def test_one_family_of_two_is_enough(loop, resolver):
    """An error or an empty answer of the other is not in the way."""
    for nothing in (LookupError("zz"), None, "", ()):
        resolver(Hosts("127.0.0.1", nothing))
        assert [info[4] for info in loop(getaddrinfo, "name", 80, 0, socket.SOCK_STREAM)] == [("127.0.0.1", 80)]
        resolver(Hosts(nothing, "::1"))
        assert [info[4][0] for info in loop(getaddrinfo, "name", 80, 0, socket.SOCK_STREAM)] == ["::1"]


def test_errors_of_a_resolver_are_raised(loop, resolver):
    """Its own exceptions pass through; nothing known, and what is no address, is gaierror."""
    boom = LookupError("zz")
    resolver(Hosts(boom, socket.gaierror(socket.EAI_AGAIN, "later")))
    for family in (0, socket.AF_INET):
        with pytest.raises(LookupError) as caught:
            loop(getaddrinfo, "name", 80, family)
        assert caught.value is boom
    resolver(Hosts())
    for family in (0, socket.AF_INET, socket.AF_INET6, 12345):
        with pytest.raises(socket.gaierror, match=r"'name' is not known: .*Hosts.* knows no address"):
            loop(getaddrinfo, "name", 80, family)
    resolver(Hosts("no address", ["::1", "nor this"]))
    for family in (socket.AF_INET, socket.AF_INET6):
        with pytest.raises(socket.gaierror):
            loop(getaddrinfo, "name", 80, family)


def test_a_resolver_that_has_getaddrinfo_is_asked_by_that(loop, resolver):
    """With all that the caller has said; what it returns is returned."""
    asked = []

    class Whole(Hosts):
        def getaddrinfo(self, *args):
            asked.append(args)
            return real("127.0.0.3", *args[1:])

    resolver(Whole())

    def main():
        with create_server(("127.0.0.3", 0)) as listener:
            port = listener.getsockname()[1]
            with create_connection(("name", port)) as s:
                assert s.getpeername() == ("127.0.0.3", port)
            listener.accept()[0].close()
            assert asked == [("name", port, 0, socket.SOCK_STREAM, 0, 0)]
        with udp_sock() as u:
            u.connect(("other", 9))
            assert u.getpeername() == ("127.0.0.3", 9)
            assert asked[1:] == [("other", None, socket.AF_INET, socket.SOCK_DGRAM, 0, 0)]

    loop(main)


@pytest.mark.parametrize(("limit", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)])
def test_the_limit_of_a_thread_resolver_is_a_number_from_1_up(limit, error):
    """Anything else is refused."""
    with pytest.raises(error, match="thread"):
        ThreadResolver(limit)


def test_the_limit_holds(loop, slow, resolver):
    """As many names at a time as there are threads; the others wait for their turn."""
    resolver(ThreadResolver(2))

    def main():
        waiting = [slow.ask("a", 80), slow.ask("b", 80), joined("c")]
        assert slow.asked == ["a", "b"]
        assert repr(get_resolver()) == "<coro.ThreadResolver: 2 threads, 3 queries under way>"
        slow.gate.set()
        for co in waiting:
            co.join()

    loop(main)

    assert slow.asked == ["a", "b", "c"]


def test_the_error_of_a_look_up_says_which_name(loop):
    """In a note, which the traceback shows: the text and number are the system's own."""

    def main():
        with pytest.raises(socket.gaierror) as caught:
            coro.create_connection(("no-such-name.invalid", 80))
        assert caught.value.__notes__ == ["asked for 'no-such-name.invalid'"]

    loop(main)
