"""The programs for trio.  A nursery takes the place of spawning and joining; trio has no way to join one task."""

from __future__ import annotations

import gc
import random
import socket
import time
from typing import Any

import trio

from . import FOREVER, Count, resident


async def nothing() -> None:
    pass


async def switch(width: int, times: int) -> float:
    done = Count()

    async def body() -> None:
        for _ in range(times):
            await trio.sleep(0)
        done.value += times

    async with trio.open_nursery() as nursery:
        for _ in range(width):
            nursery.start_soon(body)
        begin = time.perf_counter()
    spent = time.perf_counter() - begin
    done.check(width * times)
    return spent / (width * times)


async def spawn(width: int, times: int, yields: bool = False) -> float:
    done = Count()

    async def body() -> None:
        done.value += 1

    async def body_that_yields() -> None:
        await trio.sleep(0)
        done.value += 1

    function = body_that_yields if yields else body
    begin = time.perf_counter()
    for _ in range(times):
        async with trio.open_nursery() as nursery:
            for _ in range(width):
                nursery.start_soon(function)
    spent = time.perf_counter() - begin
    done.check(width * times)
    return spent / (width * times)


async def sleep(width: int, times: int) -> float:
    done = Count()

    async def body() -> None:
        for _ in range(times):
            await trio.sleep(0.001)
        done.value += times

    begin = time.process_time()
    async with trio.open_nursery() as nursery:
        for _ in range(width):
            nursery.start_soon(body)
    spent = time.process_time() - begin
    done.check(width * times)
    return spent / (width * times)


async def timeout(times: int, blocks: bool = False, pending: int = 0) -> float:
    done, gate = Count(), trio.Event()

    async def wait() -> None:
        with trio.fail_after(FOREVER):
            await gate.wait()
        done.value += 1

    async with trio.open_nursery() as nursery:
        for _ in range(pending):
            nursery.start_soon(wait)
        await trio.sleep(0.001)
        begin = time.perf_counter()
        if blocks:
            for _ in range(times):
                with trio.fail_after(30):
                    await trio.sleep(0)
        else:
            for _ in range(times):
                with trio.fail_after(30):
                    await nothing()
        spent = time.perf_counter() - begin
        gate.set()
    done.check(pending)
    return spent / times


async def semaphore(times: int) -> float:
    first, second, order = trio.Semaphore(1), trio.Semaphore(0), []

    async def body(me: int, mine: trio.Semaphore, other: trio.Semaphore) -> None:
        for _ in range(times):
            await mine.acquire()
            order.append(me)
            other.release()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(body, 0, first, second)
        nursery.start_soon(body, 1, second, first)
        begin = time.perf_counter()
    spent = time.perf_counter() - begin
    assert order == [0, 1] * times, "the turns were not taken in turn"
    return spent / (2 * times)


async def mutex(width: int, times: int) -> float:
    lock, done, inside = trio.Lock(), Count(), Count()

    async def body() -> None:
        for _ in range(times):
            async with lock:
                inside.value += 1
                await trio.sleep(0)
                inside.check(1)
                inside.value -= 1
        done.value += times

    async with trio.open_nursery() as nursery:
        for _ in range(width):
            nursery.start_soon(body)
        begin = time.perf_counter()
    spent = time.perf_counter() - begin
    done.check(width * times)
    return spent / (width * times)


async def condition(times: int) -> float:
    changed, turn, order = trio.Condition(), 0, []

    async def body(me: int) -> None:
        nonlocal turn
        for _ in range(times):
            async with changed:
                while turn != me:
                    await changed.wait()
                turn = 1 - me
                order.append(me)
                changed.notify()

    async with trio.open_nursery() as nursery:
        for me in (0, 1):
            nursery.start_soon(body, me)
        begin = time.perf_counter()
    spent = time.perf_counter() - begin
    assert order == [0, 1] * times, "the turns were not taken in turn"
    return spent / (2 * times)


async def event(width: int, times: int) -> float:
    arrived, spent = Count(), 0.0
    events, through = [trio.Event() for _ in range(times)], [trio.Event() for _ in range(times)]

    async def body() -> None:
        for number, event in enumerate(events, 1):
            await event.wait()
            arrived.value += 1
            if arrived.value == width * number:
                through[number - 1].set()

    async with trio.open_nursery() as nursery:
        for _ in range(width):
            nursery.start_soon(body)
        for event, all_through in zip(events, through, strict=True):
            await trio.sleep(0.001)
            begin = time.perf_counter()
            event.set()
            await all_through.wait()
            spent += time.perf_counter() - begin
    arrived.check(width * times)
    return spent / (width * times)


async def queue(size: int, times: int) -> float:
    send, receive = trio.open_memory_channel[int](size)
    total = Count()

    async def produce() -> None:
        for number in range(times):
            await send.send(number)

    async def consume() -> None:
        for _ in range(times):
            total.value += await receive.receive()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(consume)
        nursery.start_soon(produce)
        begin = time.perf_counter()
    spent = time.perf_counter() - begin
    total.check(sum(range(times)))
    return spent / times


async def wait_for_one_of(width: int, times: int) -> float:
    pairs = [trio.socket.socketpair() for _ in range(width)]
    chosen, done = random.Random(width), Count()

    async def body(sock: trio.socket.SocketType) -> None:
        while data := await sock.recv(100):
            await sock.send(data)
        sock.close()

    async with trio.open_nursery() as nursery:
        for _, theirs in pairs:
            nursery.start_soon(body, theirs)
        await trio.sleep(0)
        begin = time.perf_counter()
        for number in range(times):
            ours, _ = chosen.choice(pairs)
            await ours.send(b"%d" % number)
            done.value += await ours.recv(100) == b"%d" % number
        spent = time.perf_counter() - begin
        for ours, _ in pairs:
            ours.close()
    done.check(times)
    return spent / times


async def memory_sleep(width: int) -> float:
    started = Count()

    async def body() -> None:
        started.value += 1
        await trio.sleep(FOREVER)

    gc.collect()
    before = resident()
    async with trio.open_nursery() as nursery:
        for _ in range(width):
            nursery.start_soon(body)
        while started.value < width:
            await trio.sleep(0.001)
        gc.collect()
        bytes_each = (resident() - before) / width
        nursery.cancel_scope.cancel()
    return bytes_each


async def memory_recv(width: int) -> float:
    started = Count()

    async def body(sock: trio.socket.SocketType) -> None:
        started.value += 1
        await sock.recv(100)

    sockets = [trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(width)]
    for sock in sockets:
        await sock.bind(("127.0.0.1", 0))
    gc.collect()
    before = resident()
    async with trio.open_nursery() as nursery:
        for sock in sockets:
            nursery.start_soon(body, sock)
        while started.value < width:
            await trio.sleep(0.001)
        gc.collect()
        bytes_each = (resident() - before) / width
        nursery.cancel_scope.cancel()
    return bytes_each


async def growth(operation: str, sizes: dict[str, Any], levels: list[int]) -> dict[int, float]:
    started, curve = Count(), {}

    async def body() -> None:
        started.value += 1
        await trio.sleep(FOREVER)

    async with trio.open_nursery() as nursery:
        for level in levels:
            for _ in range(level - started.value):
                nursery.start_soon(body)
            while started.value < level:
                await trio.sleep(0.001)
            curve[level] = min([await globals()[operation](**sizes) for _ in range(5)])
        nursery.cancel_scope.cancel()
    return curve


def run(name: str, program: str, sizes: dict[str, Any], repeats: int, warm: bool) -> list[Any]:
    """Like `threadlike.run`, for trio."""
    function = globals()[program]

    async def main() -> list[Any]:
        results = []
        for _ in range(warm + repeats):
            gc.collect()
            results.append(await function(**sizes))
        return results[warm:]

    return trio.run(main)
