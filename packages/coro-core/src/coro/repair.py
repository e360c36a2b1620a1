"""Repair: put the queues of a kernel right after an exception that came in the midst of a switch.

Stands on what `coro.kernel` says of its queues.  A KeyboardInterrupt raised by a handler of the program's own, or a
MemoryError, can come between any two bytecodes: after an entry was taken out of the queue and before it was called,
between a wake-up and the flag that says so.  To make each of these steps indivisible would cost every switch; to look
through everything once, after it has happened, costs nobody.  The rules that are restored here are:

* a coroutine that is flagged as scheduled has exactly one entry, any other has none;
* each newborn has one ``start``, and there is one ``poll`` if the budget is used up;
* the heap holds all deadlines of the map, and nothing waits for what has ended.
"""

from __future__ import annotations

from collections import Counter, deque
from contextlib import suppress
from heapq import heapify
from typing import TYPE_CHECKING, Any

from greenlet import greenlet

from .coroutine import READY, coro

if TYPE_CHECKING:
    from .kernel import Entry, Kernel, Timeout

READ = 0x0001  # as in `coro.kernel`, which imports this
__all__ = ["repair"]


def repair(kernel: Kernel, interrupted: coro | None) -> None:
    """Restore the rules.

    Args:
        kernel: whose queues to look through.
        interrupted: the coroutine in which the exception was raised, which may have parked again or ended since: what
            was on its way to it before is void, except an exception, which it still gets.
    """
    kernel.idle[:] = [resume for resume in kernel.idle if not resume.__self__.dead]  # type: ignore[attr-defined]
    parked: dict[Entry, coro] = {}
    for co in list(kernel.live.values()):
        if co._resume is not None:  # and so it is parked, since an entry is being called
            if co._resume.__self__.dead:
                kernel.bury(co)  # its worker died around its function
            else:
                parked[co._resume] = co
    repair_queues(kernel, parked, interrupted)
    repair_timers(kernel)
    repair_descriptors(kernel)


def repair_descriptors(kernel: Kernel) -> None:
    """Have everything reported again that somebody waits for: what the poller has said may be lost."""
    poller = kernel.poller
    if poller is None or kernel.wake_read is None:  # a forked child, which has not opened a poller of its own yet
        return
    poller.arm(kernel.wake_read.fileno(), READ)
    for entry in list(kernel.fds.values()):
        if entry.reader is not None and entry.reader._dead:
            entry.reader = None
        if entry.writer is not None and entry.writer._dead:
            entry.writer = None
        with suppress(OSError):  # one that was closed behind our back
            if entry.edge:
                poller.unregister(entry.fd)
                poller.register(entry.fd)
            elif entry.owned or entry.reader is not None or entry.writer is not None:
                kernel.arm(entry, 0)
            else:
                del kernel.fds[entry.fd]
                poller.unregister(entry.fd)


def repair_queues(kernel: Kernel, parked: dict[Entry, coro], interrupted: coro | None) -> None:
    """Give each coroutine the entries that its flag promises: lost ones come to the front, void ones go.

    The flag may be a queue that is empty: hence not 0 is asked for, and not what is true.
    """
    if kernel.yielded is kernel.ready:  # half exchanged
        kernel.yielded = deque()
    known = set(kernel.newborn)
    lost = [co for co in kernel.live.values() if co._resume is None and co not in known]
    # The dead ones too: each has its place in the queue, and who comes behind it would come sooner without it.
    newborn = lost + [co for co in kernel.newborn if co._resume is None]
    kernel.newborn.clear()
    kernel.newborn.extend(newborn)

    starts = len(newborn)
    counts = Counter([*kernel.yielded, *kernel.ready])
    right = {
        entry
        for entry, co in parked.items()
        if counts[entry] == kernel.stale.get(co, 0) + (co._scheduled != 0) and co is not interrupted
    }
    queued: set[Entry] = set()
    marked = False

    def sift(queue: deque[Entry]) -> None:
        nonlocal starts, marked
        kept: list[Entry] = []
        # One by one: the thread of the latency warnings may put something in meanwhile.  Backwards: the last entry of
        # a coroutine is the one that counts (Kernel.settle).
        while queue:
            entry = queue.pop()
            if entry is kernel.start:
                starts -= 1
                if starts < 0:
                    continue
            elif entry is kernel.poll:
                if marked or queue is kernel.yielded:  # half exchanged
                    continue
                marked = True
            elif entry not in right and isinstance(getattr(entry, "__self__", None), greenlet):
                co = parked.get(entry)
                if co is None or entry in queued or (co is interrupted and co._scheduled == 0):
                    continue
                queued.add(entry)
                if co._scheduled == 0:
                    co._scheduled = READY
            kept.append(entry)
        queue.extend(reversed(kept))

    sift(kernel.yielded)
    sift(kernel.ready)
    kernel.ready.extendleft([kernel.start] * starts)
    for entry, co in parked.items():
        if entry not in right:
            kernel.stale.pop(co, None)
            if entry not in queued and (co._scheduled != 0 or co._pending is not None):
                co._scheduled = READY
                kernel.ready.appendleft(entry)
    for co in [co for co in kernel.stale if co._dead]:
        del kernel.stale[co]
    if kernel.budget <= 0 and not marked:
        kernel.ready.append(kernel.poll)


def repair_timers(kernel: Kernel) -> None:
    """Make the heap hold what the map holds, and drop what belongs to coroutines that have ended."""

    def ended(target: Any) -> bool:
        co = target if isinstance(target, coro) else target[0]
        return co is None or co._dead

    for when, target in list(kernel.timer_map.items()):
        if isinstance(target, dict):
            for item in [item for item in target.values() if ended(item)]:
                del target[id(item)]
            if not target:
                del kernel.timer_map[when]
        elif ended(target):
            del kernel.timer_map[when]
    kernel.timers[:] = kernel.timer_map
    heapify(kernel.timers)

    def needless(timeout: Timeout) -> bool:
        target = kernel.timer_map.get(timeout[1])
        return ended(timeout) or target is timeout or (isinstance(target, dict) and id(timeout) in target)

    # One by one, so that the chain stays whole: a signal handler may note another one meanwhile.
    while kernel.unarmed is not None and needless(kernel.unarmed):
        kernel.unarmed = kernel.unarmed[3]
    timeout = kernel.unarmed
    while timeout is not None:
        while timeout[3] is not None and needless(timeout[3]):
            timeout[3] = timeout[3][3]
        timeout = timeout[3]
