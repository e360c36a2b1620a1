"""Exceptions at every bytecode of the scheduler: a program, and what must hold after one was raised in its midst.

Stands on `sys.settrace`, which can raise between any two bytecodes; a KeyboardInterrupt really comes only after calls,
at the start of functions and at backward jumps, so this asks for more than ever happens.

The program has two kinds of coroutines.  *Partners* hand things to one another by all primitives, so that exceptions
find every kind of switch under way; what they lose by it is theirs.  *Bystanders* share nothing with them, nor with one
another.  Whatever happens to a partner, each bystander must come to its end.

By hand, every bytecode or each n-th:  python tests/injection.py --poller select --step 7 MemoryError
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import coro
import coro.kernel
import coro.running
import coro.timeouts
import coro.verbs
from coro.kernel import this_kernel

HERE = os.path.dirname(os.path.abspath(coro.kernel.__file__))
#: Where exceptions are raised: the scheduler and what is spelt out of it.
FILES = {os.path.join(HERE, name) for name in ("kernel.py", "running.py", "verbs.py", "timeouts.py", "coroutine.py")}
#: What makes and ends a loop is no part of a switch.
AROUND = {"open_kernel", "run_kernel", "tidy", "close_kernel", "__init__", "this_kernel"}
PARKS = {os.path.join(HERE, name) for name in ("sync.py", "locks.py", "queues.py", "sockets.py")}

ROUNDS = 3
BYSTANDERS = 3
DISPATCH = coro.running.dispatch.__code__  # its first line is outside of its try


class Injector:
    """``with Injector(at, exc):`` raises *exc* at the bytecode number *at*; at 0, it only counts them."""

    def __init__(self, at: int, exc: type[BaseException]) -> None:
        self.at = at
        self.exc = exc
        self.count = 0
        self.where = ""

    def __enter__(self) -> Injector:
        sys.settrace(self.call)
        return self

    def __exit__(self, *exc_info: object) -> None:
        sys.settrace(None)

    def call(self, frame: FrameType, event: str, arg: Any) -> Any:
        if frame.f_code.co_filename not in FILES | PARKS or frame.f_code.co_name in AROUND:
            return None
        frame.f_trace_lines = False
        frame.f_trace_opcodes = True
        return self.opcode

    def opcode(self, frame: FrameType, event: str, arg: Any) -> Any:
        code = frame.f_code
        if code is DISPATCH and frame.f_lineno == code.co_firstlineno:
            return self.opcode
        if event == "opcode" and this_kernel().running and (code.co_filename in FILES or is_park(frame)):
            self.count += 1
            if self.count == self.at:
                self.where = f"{os.path.basename(code.co_filename)}:{frame.f_lineno} in {code.co_name}"
                sys.settrace(None)
                raise self.exc
        return self.opcode


#: What the lines of a spelt out switch have in them.
PARK = (
    "kernel.ready",
    "kernel.next_pass()",
    "kernel.budget",
    "if not budget",
    "kernel.current =",
    "co._scheduled =",
    "co._pending is",
    "kernel.settle(",
    "exc is not kernel.settled",
)


def is_park(frame: FrameType) -> bool:
    """Whether the bytecode belongs to a spelt out switch, and not to what the primitive does around it."""
    if frame.f_lineno is None:  # of the compiler's own making
        return False
    line = source(frame.f_code.co_filename)[frame.f_lineno - 1]
    return any(words in line for words in PARK)


sources: dict[str, list[str]] = {}


def source(path: str) -> list[str]:
    if path not in sources:
        with open(path) as file:
            sources[path] = file.read().splitlines()
    return sources[path]


class Case:
    """One run of the program."""

    bystanders = BYSTANDERS

    def __init__(self) -> None:
        self.ends = coro.socketpair()
        self.begun: list[str] = []
        self.unwound: list[str] = []
        self.finished: list[str] = []

    def spawn(self, name: str, body: Callable[..., None], *args: Any) -> coro.coro:
        return coro.spawn(self.life, name, body, args, thread_name=name)

    def life(self, name: str, body: Callable[..., None], args: tuple[Any, ...]) -> None:
        self.begun.append(name)
        try:
            body(*args)
            self.finished.append(name)
        finally:
            self.unwound.append(name)

    def main(self) -> None:
        semaphore, mutex, event = coro.semaphore(1), coro.mutex(), coro.Event()
        queue: coro.Queue[int] = coro.Queue(1)
        partners = [
            self.spawn("semaphore", take_turns, semaphore),
            self.spawn("semaphore", take_turns, semaphore),
            self.spawn("mutex", take_turns, mutex),
            self.spawn("mutex", take_turns, mutex),
            self.spawn("event", event.wait),
            self.spawn("put", lambda: [queue.put(n) for n in range(ROUNDS)]),
            self.spawn("get", lambda: [queue.get() for n in range(ROUNDS)]),
            self.spawn("echo", echo, self.ends[1]),
            self.spawn("ask", ask, self.ends[0]),
            self.spawn("timeouts", time_out),
            self.spawn("suspended", suspended),
            self.spawn("sleeper", coro.sleep_relative, 1000),
        ]
        others = [self.spawn("bystander", bystand) for _ in range(BYSTANDERS)]
        coro.yield_slice()
        event.set()
        for co in partners[-2:]:
            if not co.dead and co.started and not co.scheduled:
                co.schedule(7)
        for co in others:
            co.result(60)
        for co in partners:
            co.shutdown()
        for co in partners:
            co.join()

    def run(self) -> BaseException | None:
        """Run the program; return what came out of the loop."""
        try:
            coro.run(self.main)
        except BaseException as exc:
            return exc
        finally:
            for end in self.ends:
                end.close()
        return None


class Yielders(Case):
    """A program in which nobody waits for a descriptor: then passes end without a poll."""

    bystanders = 0

    def main(self) -> None:
        cos = [self.spawn("yielder", yield_often) for _ in range(3)]
        coro.yield_slice()
        if cos[0].started and not cos[0].dead:
            cos[0].raise_exception(coro.WakeUp)
        for co in cos:
            co.join(60)


def yield_often() -> None:
    for _ in range(2 * ROUNDS):
        with contextlib.suppress(coro.WakeUp):
            coro.yield_slice()


def take_turns(lock: Any) -> None:
    for _ in range(ROUNDS):
        with lock:
            coro.yield_slice()


def echo(end: coro.sock) -> None:
    while data := end.recv(100):
        end.sendall(data)


def ask(end: coro.sock) -> None:
    for _ in range(ROUNDS):
        end.sendall(b"?")
        end.recv(100)


def time_out() -> None:
    coro.with_timeout(5, coro.yield_slice)
    with contextlib.suppress(coro.TimeoutError):
        coro.with_timeout(0.0001, coro.suspend)
    with coro.timeout(5):
        coro.sleep_relative(0.0001)


def suspended() -> None:
    coro.suspend()
    child = coro.spawn(woken)
    coro.yield_slice()
    if child.started and not child.dead:
        child.raise_exception(coro.WakeUp)
    child.join()


def woken() -> None:
    with contextlib.suppress(coro.WakeUp):
        coro.suspend()


def bystand() -> None:
    """Uses every kind of switch, and nothing that anybody else uses."""
    reader, writer = socket.socketpair()
    with reader, writer:
        for _ in range(ROUNDS):
            coro.yield_slice()
            coro.sleep_relative(0.0001)
            writer.send(b"!")
            coro.wait_for_read(reader)
            assert reader.recv(1) == b"!"


def check(at: int, exc: type[BaseException], program: type[Case] = Case) -> int:
    """Run the program with *exc* at bytecode *at*, and see that everything holds.  Returns how many bytecodes ran."""
    case = program()
    reported: list[BaseException | None] = []
    old = coro.set_exception_notifier(lambda: reported.append(sys.exception()))
    try:
        with Injector(at, exc) as injector:
            outcome = case.run()
    finally:
        coro.set_exception_notifier(old)
    where = f"bytecode {at}, {injector.where}: {outcome!r}, finished {case.finished}, reported {reported}"
    for error in reported:
        assert isinstance(error, exc), where
    if injector.where and outcome is None and exc is not MemoryError:
        raise AssertionError(f"{where}: the exception has come out nowhere")
    assert outcome is None or isinstance(outcome, exc), where
    if outcome is None:
        # The one in which the exception was raised may have been a bystander itself.
        hit = any(frames_of(error, "bystand") for error in reported)
        if program is Yielders:
            assert case.finished.count("yielder") >= 2, where
        assert case.finished.count("bystander") == case.bystanders - hit, where
    assert sorted(case.begun) == sorted(case.unwound), where
    kernel = this_kernel()
    for left in (kernel.live, kernel.fds, kernel.timers, kernel.timer_map, kernel.unarmed, kernel.idle):
        assert not left, f"{where}: left {left}"
    assert not kernel.running, where
    assert kernel.current is None, where
    assert not kernel.ready, where
    return injector.count


def frames_of(error: BaseException | None, name: str) -> bool:
    traceback = error.__traceback__ if error is not None else None
    while traceback is not None:
        if traceback.tb_frame.f_code.co_name == name:
            return True
        traceback = traceback.tb_next
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("exception", choices=["KeyboardInterrupt", "MemoryError"])
    parser.add_argument("--poller", default="epoll")
    parser.add_argument("--step", type=int, default=1)
    parser.add_argument("--start", type=int, default=1)
    options = parser.parse_args()
    os.environ["CORO_POLLER"] = options.poller
    exc = {"KeyboardInterrupt": KeyboardInterrupt, "MemoryError": MemoryError}[options.exception]
    coro.set_latency_warning(0)
    check(0, exc)
    total = check(0, exc)
    bad = 0
    for at in range(options.start, total, options.step):
        try:
            check(at, exc)
        except AssertionError as error:
            bad += 1
            print(error, flush=True)
        if sys.stderr.isatty():
            print(f"\r{at} of {total}", end="", file=sys.stderr, flush=True)
    print(f"{total} bytecodes, {bad} bad")


if __name__ == "__main__":
    main()
