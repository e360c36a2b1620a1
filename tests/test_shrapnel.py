"""Shrapnel's small names: `coro.shrapnel` and `coro.tb` (C3, C7, D-46)."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time

import pytest

import coro
import coro.shrapnel as old
from coro import tb
from coro.clocks import tsc_time


def fail():
    raise ValueError("boom")


def test_the_aliases_are_the_functions_of_today():
    """Each name does what its successor does."""
    assert old.absolute_time_to_ticks(10**15) == tsc_time.usec_to_ticks(10**15)
    assert old.ticks_to_absolute_time(5) == tsc_time.ticks_to_usec(5)
    assert old.absolute_secs_to_ticks(10**9) == tsc_time.sec_to_ticks(10**9)
    assert old.ticks_to_absolute_secs(5) == tsc_time.ticks_to_sec(5)
    assert old.absolute_time_to_ticks_safe(0) == old.ticks_to_absolute_time_safe(0) == 0
    assert old.microseconds == 1_000_000
    assert old._yield is coro.suspend
    assert (old.P, old.W) == (coro.print_stderr, coro.write_stderr)
    assert old.compact_traceback is tb.traceback_string


def test_the_variables_change():
    """now and now_usec are the time at which they are read; an unknown name is an AttributeError."""
    before = coro.get_now()
    assert before <= old.now <= coro.get_now()
    assert abs(old.now_usec - old.get_usec()) < 10**7
    with pytest.raises(AttributeError, match=r"'coro\.shrapnel' has no attribute 'nothing'"):
        old.nothing  # noqa: B018 - the error is what is asked for


def test_event_loop_is_running_says_whether_the_loop_runs(loop):
    """A variable in Shrapnel; coro_is_running() is the function."""
    assert old.event_loop_is_running is False
    assert loop(lambda: old.event_loop_is_running) is True


def test_the_dates_are_written_in_local_time():
    """Of a tick, and of a time in microseconds."""
    assert old.ctime_usec(10**15) == time.ctime(10**9)
    assert old.ctime_ticks(tsc_time.sec_to_ticks(10**9)) == time.ctime(10**9)


def test_a_traceback_in_one_line():
    """The repr of the innermost place, the type, the text and all places, for the exception being handled or given."""
    try:
        fail()
    except ValueError as exc:
        here = tb.traceback_string()
        given = tb.traceback_string(type(exc), exc, exc.__traceback__)
        data = tb.traceback_data()

    place, kind, text, places = eval(here)
    assert given == here
    assert (kind, text) == ("<class 'ValueError'>", "boom")
    assert place.startswith("tests/test_shrapnel.py fail|")
    assert places.endswith(f"[{place}]")
    assert "test_a_traceback_in_one_line" in places
    assert data[:2] == ("<class 'ValueError'>", "boom")
    assert [function for _, function, _ in data[2]] == ["test_a_traceback_in_one_line", "fail"]


def test_without_an_exception_there_is_no_traceback():
    """A fixed text, and no places."""
    assert "no exception" in tb.traceback_string()
    assert tb.traceback_data() == ("None", "None", [])


def test_a_stack_in_one_line():
    """Innermost first, beginning with the caller, or with the frame that is given."""

    def inner():
        return tb.stack_string(), tb.stack_string(sys._getframe(1))

    mine, callers = inner()

    assert mine.startswith("[tests/test_shrapnel.py inner|")
    assert callers.startswith("[tests/test_shrapnel.py test_a_stack_in_one_line|")


def test_D_46_coro_patches_nothing_of_the_standard_library(poller):
    """To import all of coro and to run both kinds of loop leaves each module as it was: no name is replaced."""
    program = """
        import asyncio, builtins, multiprocessing, os, queue, select, selectors, signal, socket, ssl, subprocess, sys
        import threading, time, _socket, _thread

        watched = [asyncio, builtins, os, queue, select, selectors, signal, socket, socket.socket, ssl, ssl.SSLSocket,
                   subprocess, subprocess.Popen, threading, threading.Thread, time, _socket, _thread]

        def state():
            names = [{name: id(value) for name, value in vars(thing).items()} for thing in watched]
            modules = [id(sys.modules[thing.__name__]) for thing in watched if thing.__name__ in sys.modules]
            streams = [id(getattr(sys, name)) for name in ("stdin", "stdout", "stderr", "excepthook", "displayhook")]
            return names, modules, streams

        before = state()
        import pkgutil
        import coro
        for found in pkgutil.walk_packages(coro.__path__, "coro."):
            if not found.name.endswith("__main__") and not found.name.startswith("coro.testing"):
                __import__(found.name)
        assert state() == before, "importing"

        def main():
            coro.sleep_relative(0)
            coro.to_thread(int)
            a, b = coro.socketpair()
            with a, b:
                a.send(b"x")
                b.recv(1)
            assert state() == before, "running"
            return 5

        assert coro.run(main) == 5
        coro.set_print_exit_string(False)
        coro.spawn(coro.set_exit)
        try:
            coro.event_loop()
        except SystemExit:
            pass
        assert state() == before, "afterwards"
        print("untouched")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60)

    assert (done.stdout, done.stderr) == ("untouched\n", "")
