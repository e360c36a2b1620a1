"""The programs for libraries whose coroutines look like threads: coro, gevent, eventlet, and the system's threads.

One text serves all four: they differ in the names of things only, which `Library` maps.
"""

from __future__ import annotations

import functools
import gc
import random
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from . import FOREVER, Count, resident


@dataclass(frozen=True)
class Library:
    """What a library calls the things that the programs use."""

    run: Callable[..., Any]  # run(function) in a coroutine
    spawn: Callable[..., Any]
    join: Callable[[Any], object]
    give_way: Callable[[], object]
    sleep: Callable[[float], object]
    with_timeout: Callable[..., object]  # with_timeout(seconds, function)
    Semaphore: Callable[[int], Any]
    Mutex: Callable[[], Any]
    Condition: Callable[[], Any]
    Event: Callable[[], Any]
    Queue: Callable[[int], Any]
    socketpair: Callable[[], tuple[Any, Any]]
    udp_socket: Callable[[], Any]


def use_coro(*, latency_warnings: bool = True) -> Library:
    import coro

    if not latency_warnings:
        coro.set_latency_warning(0)
    return Library(
        run=coro.run,
        spawn=coro.spawn,
        join=coro.coro.join,
        give_way=coro.yield_slice,
        sleep=coro.sleep_relative,
        with_timeout=coro.with_timeout,
        Semaphore=coro.semaphore,
        Mutex=coro.mutex,
        Condition=coro.condition_variable,
        Event=coro.Event,
        Queue=coro.Queue,
        socketpair=coro.socketpair,
        udp_socket=coro.udp_sock,
    )


def use_gevent() -> Library:
    from gevent import monkey

    monkey.patch_thread()  # gevent has no condition of its own
    import threading

    import gevent
    import gevent.event
    import gevent.lock
    import gevent.queue
    import gevent.socket

    return Library(
        run=lambda function: gevent.spawn(function).get(),
        spawn=gevent.spawn,
        join=gevent.Greenlet.join,
        give_way=gevent.sleep,
        sleep=gevent.sleep,
        with_timeout=gevent.with_timeout,
        Semaphore=gevent.lock.Semaphore,
        Mutex=lambda: gevent.lock.Semaphore(1),
        Condition=threading.Condition,
        Event=gevent.event.Event,
        Queue=gevent.queue.Queue,
        socketpair=gevent.socket.socketpair,
        udp_socket=lambda: gevent.socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
    )


def use_eventlet() -> Library:
    import eventlet
    import eventlet.green.socket
    import eventlet.green.threading
    import eventlet.queue
    import eventlet.semaphore

    class Event:
        """eventlet's own event may be sent once only; this is how its users make one that wakes all."""

        def __init__(self) -> None:
            self.event = eventlet.event.Event()
            self.wait = self.event.wait
            self.set = self.event.send

    return Library(
        run=lambda function: eventlet.spawn(function).wait(),
        spawn=eventlet.spawn,
        join=eventlet.greenthread.GreenThread.wait,
        give_way=eventlet.sleep,
        sleep=eventlet.sleep,
        with_timeout=eventlet.with_timeout,
        Semaphore=eventlet.semaphore.Semaphore,
        Mutex=lambda: eventlet.semaphore.Semaphore(1),
        Condition=eventlet.green.threading.Condition,
        Event=Event,
        Queue=eventlet.queue.LightQueue,
        socketpair=eventlet.green.socket.socketpair,
        udp_socket=lambda: eventlet.green.socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
    )


def use_threads() -> Library:
    import queue
    import threading

    def spawn(function: Callable[..., object], *args: object) -> threading.Thread:
        thread = threading.Thread(target=function, args=args, daemon=True)
        thread.start()
        return thread

    def missing(*args: object) -> Any:
        raise NotImplementedError("threads cannot do that")

    return Library(
        run=lambda function: function(),
        spawn=spawn,
        join=threading.Thread.join,
        give_way=functools.partial(time.sleep, 0),
        sleep=time.sleep,
        with_timeout=missing,
        Semaphore=threading.Semaphore,
        Mutex=threading.Lock,
        Condition=threading.Condition,
        Event=threading.Event,
        Queue=queue.Queue,
        socketpair=socket.socketpair,
        udp_socket=lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
    )


LIBRARIES: dict[str, Callable[[], Library]] = {
    "coro": use_coro,
    "coro-select": use_coro,  # by the environment
    "coro-unwatched": functools.partial(use_coro, latency_warnings=False),
    "gevent": use_gevent,
    "eventlet": use_eventlet,
    "threads": use_threads,
}


def nothing() -> None:
    pass


class Programs:
    """The programs, for one library."""

    def __init__(self, peer: Library) -> None:
        self.peer = peer

    def join_all(self, tasks: Iterable[Any]) -> None:
        join = self.peer.join
        for task in tasks:
            join(task)

    # -- switching and spawning --------------------------------------------------------------------------------------

    def switch(self, width: int, times: int) -> float:
        """*width* coroutines that do nothing but give way, *times* times each."""
        give_way, done = self.peer.give_way, Count()

        def body() -> None:
            for _ in range(times):
                give_way()
            done.value += times

        tasks = [self.peer.spawn(body) for _ in range(width)]
        begin = time.perf_counter()
        self.join_all(tasks)
        spent = time.perf_counter() - begin
        done.check(width * times)
        return spent / (width * times)

    def spawn(self, width: int, times: int, yields: bool = False) -> float:
        """*times* batches of *width* coroutines, each batch joined before the next one begins."""
        spawn, give_way, done = self.peer.spawn, self.peer.give_way, Count()

        def body() -> None:
            done.value += 1

        def body_that_yields() -> None:
            give_way()
            done.value += 1

        function = body_that_yields if yields else body
        begin = time.perf_counter()
        for _ in range(times):
            self.join_all([spawn(function) for _ in range(width)])
        spent = time.perf_counter() - begin
        done.check(width * times)
        return spent / (width * times)

    def join(self, width: int, times: int) -> float:
        """*width* coroutines wait for the end of one."""
        join, gates = self.peer.join, [self.peer.Event() for _ in range(times)]
        ones = [self.peer.spawn(gate.wait) for gate in gates]
        return self.together(width, [functools.partial(join, one) for one in ones], [gate.set for gate in gates])

    def together(self, width: int, waits: list[Callable[[], object]], opens: list[Callable[[], object]]) -> float:
        """*width* coroutines go through all *waits*; the time is from each call of *opens* until all are through."""
        arrived, spent = Count(), 0.0
        through = [self.peer.Event() for _ in waits]

        def body() -> None:
            for number, wait in enumerate(waits, 1):
                wait()
                arrived.value += 1
                if arrived.value == width * number:
                    through[number - 1].set()

        tasks = [self.peer.spawn(body) for _ in range(width)]
        for open_it, all_through in zip(opens, through, strict=True):
            self.peer.sleep(0.001)
            begin = time.perf_counter()
            open_it()
            all_through.wait()
            spent += time.perf_counter() - begin
        self.join_all(tasks)
        arrived.check(width * len(waits))
        return spent / (width * len(waits))

    # -- time --------------------------------------------------------------------------------------------------------

    def sleep(self, width: int, times: int) -> float:
        """*width* coroutines sleep for a millisecond, *times* times each.  CPU time: the rest is sleep."""
        sleep, done = self.peer.sleep, Count()

        def body() -> None:
            for _ in range(times):
                sleep(0.001)
            done.value += times

        begin = time.process_time()
        self.join_all([self.peer.spawn(body) for _ in range(width)])
        spent = time.process_time() - begin
        done.check(width * times)
        return spent / (width * times)

    def timeout(self, times: int, blocks: bool = False, pending: int = 0) -> float:
        """A call under a timeout that does not expire, while *pending* coroutines wait under one of their own."""
        with_timeout, done = self.peer.with_timeout, Count()
        gate, function = self.peer.Event(), self.peer.give_way if blocks else nothing

        def wait() -> None:
            with_timeout(FOREVER, gate.wait)
            done.value += 1

        others = [self.peer.spawn(wait) for _ in range(pending)]
        self.peer.sleep(0.001)
        begin = time.perf_counter()
        for _ in range(times):
            with_timeout(30, function)
        spent = time.perf_counter() - begin
        gate.set()
        self.join_all(others)
        done.check(pending)
        return spent / times

    # -- synchronization ---------------------------------------------------------------------------------------------

    def semaphore(self, times: int) -> float:
        """Two coroutines hand the turn to each other through two semaphores."""
        first, second, order = self.peer.Semaphore(1), self.peer.Semaphore(0), []

        def body(me: int, mine: Any, other: Any) -> None:
            for _ in range(times):
                mine.acquire()
                order.append(me)
                other.release()

        tasks = [self.peer.spawn(body, 0, first, second), self.peer.spawn(body, 1, second, first)]
        begin = time.perf_counter()
        self.join_all(tasks)
        spent = time.perf_counter() - begin
        assert order == [0, 1] * times, "the turns were not taken in turn"
        return spent / (2 * times)

    def mutex(self, width: int, times: int) -> float:
        """*width* coroutines compete for a mutex, whose owner gives way before it unlocks."""
        mutex, give_way, done, inside = self.peer.Mutex(), self.peer.give_way, Count(), Count()

        def body() -> None:
            for _ in range(times):
                with mutex:
                    inside.value += 1
                    give_way()
                    inside.check(1)
                    inside.value -= 1
            done.value += times

        tasks = [self.peer.spawn(body) for _ in range(width)]
        begin = time.perf_counter()
        self.join_all(tasks)
        spent = time.perf_counter() - begin
        done.check(width * times)
        return spent / (width * times)

    def condition(self, times: int) -> float:
        """Two coroutines hand the turn to each other through a condition."""
        changed, turn, order = self.peer.Condition(), 0, []

        def body(me: int) -> None:  # threading.Condition, which brings its own lock
            nonlocal turn
            for _ in range(times):
                with changed:
                    while turn != me:
                        changed.wait()
                    turn = 1 - me
                    order.append(me)
                    changed.notify()

        def body_without_lock(me: int) -> None:  # coro.condition_variable: nothing runs between two blocking calls
            nonlocal turn
            for _ in range(times):
                while turn != me:
                    changed.wait()
                turn = 1 - me
                order.append(me)
                changed.wake_one()

        function = body if hasattr(changed, "notify") else body_without_lock
        tasks = [self.peer.spawn(function, me) for me in (0, 1)]
        begin = time.perf_counter()
        self.join_all(tasks)
        spent = time.perf_counter() - begin
        assert order == [0, 1] * times, "the turns were not taken in turn"
        return spent / (2 * times)

    def event(self, width: int, times: int) -> float:
        """*width* coroutines wait for an event; the time is from setting it until all have run."""
        events = [self.peer.Event() for _ in range(times)]
        return self.together(width, [event.wait for event in events], [event.set for event in events])

    def queue(self, size: int, times: int) -> float:
        """*times* items from one coroutine to another through a queue that holds *size*."""
        queue, total = self.peer.Queue(size), Count()

        def produce() -> None:
            put = queue.put
            for number in range(times):
                put(number)

        def consume() -> None:
            get = queue.get
            for _ in range(times):
                total.value += get()

        tasks = [self.peer.spawn(consume), self.peer.spawn(produce)]
        begin = time.perf_counter()
        self.join_all(tasks)
        spent = time.perf_counter() - begin
        total.check(sum(range(times)))
        return spent / times

    def wait_for_one_of(self, width: int, times: int) -> float:
        """A byte there and back over one of *width* socket pairs, each of which a coroutine waits for."""
        pairs = [self.peer.socketpair() for _ in range(width)]
        chosen, done = random.Random(width), Count()

        def body(sock: Any) -> None:
            while data := sock.recv(100):
                sock.sendall(data)
            sock.close()

        tasks = [self.peer.spawn(body, theirs) for _, theirs in pairs]
        self.peer.give_way()
        begin = time.perf_counter()
        for number in range(times):
            ours, _ = chosen.choice(pairs)
            ours.sendall(b"%d" % number)
            done.value += ours.recv(100) == b"%d" % number
        spent = time.perf_counter() - begin
        for ours, _ in pairs:
            ours.close()
        self.join_all(tasks)
        done.check(times)
        return spent / times

    # -- memory and growth -------------------------------------------------------------------------------------------

    def park(self, count: int) -> list[Any]:
        """Let *count* more coroutines sleep, and return when all of them do."""
        started, sleep = Count(), self.peer.sleep

        def body() -> None:
            started.value += 1
            sleep(FOREVER)

        tasks = [self.peer.spawn(body) for _ in range(count)]
        while started.value < count:
            self.peer.sleep(0.001)
        return tasks

    def memory_sleep(self, width: int) -> float:
        """The bytes that a sleeping coroutine occupies."""
        gc.collect()
        before = resident()
        tasks = self.park(width)
        gc.collect()
        return (resident() - before) / len(tasks)

    def memory_recv(self, width: int) -> float:
        """The bytes that a coroutine occupies which waits to receive, without its socket."""
        started = Count()

        def body(sock: Any) -> None:
            started.value += 1
            sock.recv(100)

        sockets = [self.peer.udp_socket() for _ in range(width)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        gc.collect()
        before = resident()
        tasks = [self.peer.spawn(body, sock) for sock in sockets]
        while started.value < width:
            self.peer.sleep(0.001)
        gc.collect()
        return (resident() - before) / len(tasks)

    def growth(self, operation: str, sizes: dict[str, Any], levels: list[int]) -> dict[int, float]:
        """What an operation costs while so many coroutines are alive: ``{how many: seconds}``."""
        program, curve = getattr(self, operation), {}
        parked: list[Any] = []
        for level in levels:
            parked += self.park(level - len(parked))
            curve[level] = min(program(**sizes) for _ in range(5))
        return curve


def run(name: str, program: str, sizes: dict[str, Any], repeats: int, warm: bool) -> list[Any]:
    """Run a program *repeats* times for the library *name*, after one run to warm up if *warm*; return the results."""
    library = LIBRARIES[name]()
    function = getattr(Programs(library), program)

    def main() -> list[Any]:
        results = []
        for _ in range(warm + repeats):
            gc.collect()
            results.append(function(**sizes))
        return results[warm:]

    results: list[Any] = library.run(main)
    return results
