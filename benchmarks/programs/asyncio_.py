"""The programs for asyncio, with its own loop and with uvloop's."""

from __future__ import annotations

import asyncio
import functools
import gc
import random
import socket
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from . import FOREVER, Count, resident


async def join_all(tasks: Iterable[asyncio.Task[Any]]) -> None:
    for task in tasks:
        await task


async def nothing() -> None:
    pass


async def switch(width: int, times: int) -> float:
    done = Count()

    async def body() -> None:
        for _ in range(times):
            await asyncio.sleep(0)
        done.value += times

    tasks = [asyncio.create_task(body()) for _ in range(width)]
    begin = time.perf_counter()
    await join_all(tasks)
    spent = time.perf_counter() - begin
    done.check(width * times)
    return spent / (width * times)


async def spawn(width: int, times: int, yields: bool = False) -> float:
    done = Count()

    async def body() -> None:
        done.value += 1

    async def body_that_yields() -> None:
        await asyncio.sleep(0)
        done.value += 1

    function = body_that_yields if yields else body
    begin = time.perf_counter()
    for _ in range(times):
        await join_all([asyncio.create_task(function()) for _ in range(width)])
    spent = time.perf_counter() - begin
    done.check(width * times)
    return spent / (width * times)


async def join(width: int, times: int) -> float:
    gates = [asyncio.Event() for _ in range(times)]
    ones = [asyncio.create_task(gate.wait()) for gate in gates]

    async def joined(one: asyncio.Task[Any]) -> None:
        await one

    return await together(width, [functools.partial(joined, one) for one in ones], [gate.set for gate in gates])


async def together(
    width: int, waits: list[Callable[[], Awaitable[object]]], opens: list[Callable[[], object]]
) -> float:
    arrived, spent = Count(), 0.0
    through = [asyncio.Event() for _ in waits]

    async def body() -> None:
        for number, wait in enumerate(waits, 1):
            await wait()
            arrived.value += 1
            if arrived.value == width * number:
                through[number - 1].set()

    tasks = [asyncio.create_task(body()) for _ in range(width)]
    for open_it, all_through in zip(opens, through, strict=True):
        await asyncio.sleep(0.001)
        begin = time.perf_counter()
        open_it()
        await all_through.wait()
        spent += time.perf_counter() - begin
    await join_all(tasks)
    arrived.check(width * len(waits))
    return spent / (width * len(waits))


async def sleep(width: int, times: int) -> float:
    done = Count()

    async def body() -> None:
        for _ in range(times):
            await asyncio.sleep(0.001)
        done.value += times

    begin = time.process_time()
    await join_all([asyncio.create_task(body()) for _ in range(width)])
    spent = time.process_time() - begin
    done.check(width * times)
    return spent / (width * times)


async def timeout(times: int, blocks: bool = False, pending: int = 0) -> float:
    done, gate = Count(), asyncio.Event()

    async def wait() -> None:
        async with asyncio.timeout(FOREVER):
            await gate.wait()
        done.value += 1

    others = [asyncio.create_task(wait()) for _ in range(pending)]
    await asyncio.sleep(0.001)
    begin = time.perf_counter()
    if blocks:
        for _ in range(times):
            async with asyncio.timeout(30):
                await asyncio.sleep(0)
    else:
        for _ in range(times):
            async with asyncio.timeout(30):
                await nothing()
    spent = time.perf_counter() - begin
    gate.set()
    await join_all(others)
    done.check(pending)
    return spent / times


async def semaphore(times: int) -> float:
    first, second, order = asyncio.Semaphore(1), asyncio.Semaphore(0), []

    async def body(me: int, mine: asyncio.Semaphore, other: asyncio.Semaphore) -> None:
        for _ in range(times):
            await mine.acquire()
            order.append(me)
            other.release()

    tasks = [asyncio.create_task(body(0, first, second)), asyncio.create_task(body(1, second, first))]
    begin = time.perf_counter()
    await join_all(tasks)
    spent = time.perf_counter() - begin
    assert order == [0, 1] * times, "the turns were not taken in turn"
    return spent / (2 * times)


async def mutex(width: int, times: int) -> float:
    lock, done, inside = asyncio.Lock(), Count(), Count()

    async def body() -> None:
        for _ in range(times):
            async with lock:
                inside.value += 1
                await asyncio.sleep(0)
                inside.check(1)
                inside.value -= 1
        done.value += times

    tasks = [asyncio.create_task(body()) for _ in range(width)]
    begin = time.perf_counter()
    await join_all(tasks)
    spent = time.perf_counter() - begin
    done.check(width * times)
    return spent / (width * times)


async def condition(times: int) -> float:
    changed, turn, order = asyncio.Condition(), 0, []

    async def body(me: int) -> None:
        nonlocal turn
        for _ in range(times):
            async with changed:
                while turn != me:
                    await changed.wait()
                turn = 1 - me
                order.append(me)
                changed.notify()

    tasks = [asyncio.create_task(body(me)) for me in (0, 1)]
    begin = time.perf_counter()
    await join_all(tasks)
    spent = time.perf_counter() - begin
    assert order == [0, 1] * times, "the turns were not taken in turn"
    return spent / (2 * times)


async def event(width: int, times: int) -> float:
    events = [asyncio.Event() for _ in range(times)]
    return await together(width, [event.wait for event in events], [event.set for event in events])


async def queue(size: int, times: int) -> float:
    items: asyncio.Queue[int] = asyncio.Queue(size)
    total = Count()

    async def produce() -> None:
        for number in range(times):
            await items.put(number)

    async def consume() -> None:
        for _ in range(times):
            total.value += await items.get()

    tasks = [asyncio.create_task(consume()), asyncio.create_task(produce())]
    begin = time.perf_counter()
    await join_all(tasks)
    spent = time.perf_counter() - begin
    total.check(sum(range(times)))
    return spent / times


async def wait_for_one_of(width: int, times: int) -> float:
    loop = asyncio.get_running_loop()
    pairs = [socket.socketpair() for _ in range(width)]
    chosen, done = random.Random(width), Count()
    for pair in pairs:
        for sock in pair:
            sock.setblocking(False)

    async def body(sock: socket.socket) -> None:
        while data := await loop.sock_recv(sock, 100):
            await loop.sock_sendall(sock, data)
        sock.close()

    tasks = [asyncio.create_task(body(theirs)) for _, theirs in pairs]
    await asyncio.sleep(0)
    begin = time.perf_counter()
    for number in range(times):
        ours, _ = chosen.choice(pairs)
        await loop.sock_sendall(ours, b"%d" % number)
        done.value += await loop.sock_recv(ours, 100) == b"%d" % number
    spent = time.perf_counter() - begin
    for ours, _ in pairs:
        ours.close()
    await join_all(tasks)
    done.check(times)
    return spent / times


async def park(count: int) -> list[asyncio.Task[None]]:
    started = Count()

    async def body() -> None:
        started.value += 1
        await asyncio.sleep(FOREVER)

    tasks = [asyncio.create_task(body()) for _ in range(count)]
    while started.value < count:
        await asyncio.sleep(0.001)
    return tasks


async def memory_sleep(width: int) -> float:
    gc.collect()
    before = resident()
    tasks = await park(width)
    gc.collect()
    return (resident() - before) / len(tasks)


async def memory_recv(width: int) -> float:
    loop, started = asyncio.get_running_loop(), Count()

    async def body(sock: socket.socket) -> None:
        started.value += 1
        await loop.sock_recv(sock, 100)

    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(width)]
    for sock in sockets:
        sock.setblocking(False)
        sock.bind(("127.0.0.1", 0))
    gc.collect()
    before = resident()
    tasks = [asyncio.create_task(body(sock)) for sock in sockets]
    while started.value < width:
        await asyncio.sleep(0.001)
    gc.collect()
    return (resident() - before) / len(tasks)


async def growth(operation: str, sizes: dict[str, Any], levels: list[int]) -> dict[int, float]:
    parked: list[asyncio.Task[None]] = []
    curve = {}
    for level in levels:
        parked += await park(level - len(parked))
        curve[level] = min([await globals()[operation](**sizes) for _ in range(5)])
    return curve


def run(name: str, program: str, sizes: dict[str, Any], repeats: int, warm: bool) -> list[Any]:
    """Like `threadlike.run`, for asyncio and uvloop.  What a program leaves parked ends with the process."""
    function = globals()[program]

    async def main() -> list[Any]:
        results = []
        for _ in range(warm + repeats):
            gc.collect()
            results.append(await function(**sizes))
        return results[warm:]

    if name == "uvloop":
        import uvloop

        loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    else:
        loop = asyncio.new_event_loop()
    return loop.run_until_complete(main())
