"""Locks, which have owners: `mutex` and `rw_lock` (B2, C2, D-39, D-41)."""

from __future__ import annotations

import random

import pytest

import coro
from coro.locks import mutex, rw_lock

from .helpers import Boom, settle

# -- mutex -----------------------------------------------------------------------------------------------------------


def test_the_owner_of_a_mutex_may_lock_it_again(loop):
    """lock() False (no wait) twice, unlock() False twice, locked until the second one (B2, multiple_lock)."""

    def main():
        m = mutex()
        assert not m.locked()
        assert not m.has_lock()
        assert repr(m) == "<mutex unlocked, 0 waiting>"
        assert m.lock() is False
        assert m.lock() is False
        assert m.locked()
        assert m.has_lock()
        assert m.unlock() is False
        assert m.locked()
        assert m.unlock() is False
        assert not m.locked()
        assert not m.has_lock()

    loop(main)


def test_a_mutex_has_one_owner(loop):
    """trylock says True = failed, try_lock says False; lock() True = waited; unlock() True = handed over (B2)."""
    log = []

    def other(m):
        log.append((m.trylock(), m.try_lock()))
        log.append(m.lock())
        log.append(m.has_lock())
        log.append((m.trylock(), m.try_lock()))
        for _ in range(3):
            log.append(m.unlock())

    def main():
        m = mutex()
        assert m.trylock() is False
        assert m.unlock() is False
        assert m.try_lock() is True
        co = coro.spawn(other, m)
        assert m.has_lock()
        assert not m.has_lock(co)
        settle()
        assert len(m) == 1
        assert m.unlock() is True
        assert m.has_lock(co)
        assert not m.has_lock()
        assert len(m) == 0
        assert not m.try_lock()
        co.join()
        assert not m.locked()

    loop(main)

    assert log == [(True, False), True, True, (False, True), False, False, False]


def test_lock_says_whether_it_had_to_wait(loop):
    """Held by another that yields: True, and the caller owns it then; nobody else waits (B2, unlock_resume)."""

    def other(m):
        with m:
            settle()

    def main():
        m = mutex()
        coro.spawn(other, m)
        settle()
        assert m.lock() is True
        assert m.has_lock()
        assert m.unlock() is False

    loop(main)


def test_a_mutex_is_handed_over_in_the_order_of_arrival(loop):
    """unlock() makes the first waiter the owner there and then; who unlocks and locks again stands behind all."""
    order = []

    def body(m, name):
        for _ in range(3):
            with m:
                order.append(name)
                settle()

    def main():
        m = mutex()
        for name in "abc":
            coro.spawn(body, m, name)

    loop(lambda: (main(), [co.join() for co in list(coro.all_threads.values()) if co is not coro.current()]))

    assert "".join(order) == "abcabcabc"


def test_unlocking_a_mutex_of_another_is_refused(loop):
    """LockError that names the culprit and the owner; likewise a free one; nothing is changed."""

    def stranger(m):
        with pytest.raises(coro.LockError, match=r"'stranger' .*cannot unlock <mutex owner=<coro .*'owner'"):
            m.unlock()

    def main():
        coro.current().set_name("owner")
        m = mutex()
        with pytest.raises(coro.LockError, match=r"'owner' .*cannot unlock <mutex unlocked"):
            m.unlock()
        m.lock()
        coro.spawn(stranger, m, thread_name="stranger").join()
        assert m.has_lock()
        m.unlock()

    loop(main)


def test_a_mutex_works_in_the_main_program_while_nobody_waits(loop):
    """The main program can own one; a coroutine must then wait, and the main program cannot wait for a coroutine."""
    m = mutex()
    assert m.lock() is False
    assert m.has_lock()
    with m:
        assert m.locked()

    def main():
        assert not m.try_lock()
        with pytest.raises(coro.LockError):
            m.unlock()
        with pytest.raises(coro.TimeoutError):
            coro.with_timeout(0.001, m.lock)

    loop(main)
    assert m.unlock() is False
    assert not m.locked()
    with pytest.raises(coro.LockError, match="main/scheduler"):
        m.unlock()


@pytest.mark.parametrize("waiters", [1, 3])
@pytest.mark.parametrize("end", ["returns", "fails", "is shut down"])
def test_D_41_a_mutex_whose_owner_has_ended_raises_in_its_waiters(loop, failures, end, waiters):
    """LockError in those that wait and in all that come later; it stays locked."""
    errors = []

    def owner(m):
        m.lock()
        settle()
        if end == "fails":
            raise Boom
        if end == "is shut down":
            coro.suspend()

    def body(m):
        try:
            m.lock()
        except coro.LockError as exc:
            errors.append((coro.current().name, str(exc)))

    def main():
        m = mutex()
        co = coro.spawn(owner, m)
        children = [coro.spawn(body, m, thread_name=f"waiter {number}") for number in range(waiters)]
        settle()
        settle()
        co.shutdown()
        for child in children:
            child.join(1)
        assert [name for name, _ in errors] == [f"waiter {number}" for number in range(waiters)]
        assert "its owner has ended without unlocking" in errors[0][1]
        assert "waiter 0" in errors[0][1]
        assert m.locked()
        for late in (m.lock, m.try_lock, m.trylock):
            with pytest.raises(coro.LockError, match="has ended"):
                late()
        assert len(m) == 0

    loop(main)
    if end == "fails":
        assert isinstance(failures.pop(), Boom)


def test_D_41_the_end_of_a_later_owner_is_seen_too(loop):
    """It was handed over twice, to one that unlocks and to one that dies with it; the last waiter is told."""
    seen = []

    def body(m, unlock):
        m.lock()
        settle()
        if unlock:
            m.unlock()

    def last(m):
        with pytest.raises(coro.LockError):
            m.lock()
        seen.append("told")

    def main():
        m = mutex()
        coro.spawn(body, m, True)
        coro.spawn(body, m, True)
        coro.spawn(body, m, False)
        coro.spawn(last, m).join(1)

    loop(main)

    assert seen == ["told"]


def test_D_41_an_owner_keeps_no_trace_of_mutexes_that_it_has_given_up(loop):
    """Contended and unlocked, or contended by somebody who gave up waiting: no callback stays with the old owner."""

    def main():
        me = coro.current()
        for _ in range(3):
            m = mutex()
            with m:
                co = coro.spawn(m.lock)
                settle()
                assert me._joiners is not None
                co.shutdown()
                settle()
                assert me._joiners is None
            with m:
                coro.spawn(lambda m=m: m.lock() and m.unlock())
                settle()
                assert me._joiners is not None
            assert me._joiners is None
            settle()

    loop(main)


def test_a_waiter_that_owns_the_mutex_already_and_is_interrupted_hands_it_on(loop):
    """Ownership goes from victim to victim; when nobody is left who wants it, the mutex is free."""

    def main():
        m = mutex()
        m.lock()
        victims = [coro.spawn(m.lock) for _ in range(3)]
        settle()
        assert m.unlock() is True
        for co in victims:
            co.shutdown()
        settle()
        assert not m.locked()
        m.lock()
        victim = coro.spawn(m.lock)
        settle()
        victim.shutdown()
        assert m.unlock() is False  # nobody is left to hand it to
        assert not m.locked()

    loop(main)


# -- rw_lock ---------------------------------------------------------------------------------------------------------


def test_readers_share_and_writers_do_not(loop):
    """Two read at once; a writer waits for both; what comes after a waiting writer waits behind it."""
    log = []

    def reader(lock, name):
        with lock.reader:
            log.append(f"+{name}")
            coro.suspend()
            log.append(f"-{name}")

    def writer(lock, name):
        with lock.writer:
            log.append(f"+{name}")
            coro.suspend()
            log.append(f"-{name}")

    def main():
        lock = rw_lock()
        children = [
            coro.spawn(reader if name.startswith("r") else writer, lock, name)
            for name in ("r1", "r2", "w1", "r3", "r4", "w2", "r5")
        ]
        for number in (0, 1, 2, 4, 3, 5, 6):
            settle()
            children[number].schedule()
        settle()

    loop(main)

    assert " ".join(log) == "+r1 +r2 -r1 -r2 +w1 -w1 +r3 +r4 -r4 -r3 +w2 -w2 +r5 -r5"


def test_try_read_lock_and_try_write_lock_say_true_when_not_obtained(loop):
    """Shrapnel's inverted answers; the *_nowait names say True when the lock was obtained (D-66)."""
    log = []

    def other(lock):
        log.append((lock.try_read_lock(), lock.try_write_lock(), lock.read_lock_nowait(), lock.write_lock_nowait()))
        while log[-1][2] and not lock.try_read_lock():
            for _ in range(3):
                lock.read_unlock()
            break

    def main():
        lock = rw_lock()
        assert lock.try_write_lock() is False
        coro.spawn(other, lock).join()
        lock.write_unlock()
        assert lock.read_lock_nowait() is True
        coro.spawn(other, lock).join()
        lock.read_unlock()
        assert lock.write_lock_nowait() is True
        lock.write_unlock()

    loop(main)

    assert log[0] == (True, True, False, False)
    assert log[1] == (False, True, True, False)


def test_locks_can_be_taken_again_by_those_who_hold_them(loop):
    """The writer writes and reads again; a reader reads again even though a writer waits; True only after a wait."""

    def main():
        lock = rw_lock()
        assert lock.write_lock() is False
        assert lock.write_lock() is False
        assert lock.read_lock() is False
        assert lock.write_lock() is False  # D-39: write inside read inside write
        for _ in range(3):
            lock.write_unlock()
        writer = coro.spawn(lock.write_lock)  # waits: the writer that was still reads
        settle()
        assert lock.read_lock() is False
        lock.read_unlock()
        assert not writer.dead
        lock.read_unlock()
        settle()
        assert writer.dead

    loop(main)


def test_D_39_a_reader_that_wants_to_write_is_told(loop):
    """It would wait for itself: LockError at once, and it still reads."""

    def main():
        lock = rw_lock()
        lock.read_lock()
        with pytest.raises(coro.LockError, match="would wait for itself"):
            lock.write_lock()
        assert lock.try_write_lock() is True
        lock.read_unlock()
        lock.write_lock()
        lock.write_unlock()

    loop(main)


@pytest.mark.parametrize("how", ["shutdown", "timeout"])
def test_D_39_readers_behind_a_writer_that_gives_up_go_on(loop, how):
    """A reader holds it, a writer waits, readers wait behind: the writer is interrupted, the readers read."""
    read = []

    def reader(lock):
        lock.read_lock()
        read.append(lock)
        lock.read_unlock()

    def writer(lock):
        with pytest.raises(coro.TimeoutError):
            coro.with_timeout(0.001, lock.write_lock)

    def main():
        lock = rw_lock()
        lock.read_lock()
        co = coro.spawn(writer if how == "timeout" else lock.write_lock, *([lock] if how == "timeout" else []))
        readers = [coro.spawn(reader, lock) for _ in range(3)]
        settle()
        assert read == []
        if how == "shutdown":
            co.shutdown()
        for child in readers:
            child.join(1)
        assert len(read) == 3

    loop(main)


def test_unlocking_what_one_does_not_hold_is_refused(loop):
    """LockError with the name of the coroutine, for strangers and for the wrong kind of unlock."""

    def stranger(lock):
        for unlock in (lock.read_unlock, lock.write_unlock):
            with pytest.raises(coro.LockError, match=r"'stranger'.* does not hold it for"):
                unlock()

    def main():
        lock = rw_lock()
        coro.spawn(stranger, lock, thread_name="stranger").join()
        lock.read_lock()
        coro.spawn(stranger, lock, thread_name="stranger").join()
        with pytest.raises(coro.LockError, match="for writing"):
            lock.write_unlock()
        lock.read_unlock()
        lock.write_lock()
        coro.spawn(stranger, lock, thread_name="stranger").join()
        with pytest.raises(coro.LockError, match="for reading"):
            lock.read_unlock()
        lock.write_unlock()

    loop(main)


@pytest.mark.parametrize("hold", ["read", "write"])
def test_D_41_an_rw_lock_whose_holder_has_ended_raises_in_its_waiters(loop, hold):
    """LockError in those that wait for the dead one, at once and later; readers share with a dead reader."""
    texts = []
    log = []

    def owner(lock):
        lock.read_lock() if hold == "read" else lock.write_lock()
        settle()

    def body(lock, kind):
        try:
            lock.read_lock() if kind == "read" else lock.write_lock()
            log.append(kind)
            lock.read_unlock()
        except coro.LockError as exc:
            texts.append(str(exc))
            log.append(f"no {kind}")

    def main():
        lock = rw_lock()
        coro.spawn(owner, lock)
        children = [coro.spawn(body, lock, kind) for kind in ("write", "read", "write", "read")]
        for co in children:
            co.join(1)
        with pytest.raises(coro.LockError):
            lock.write_lock()
        assert not lock._waiting

    loop(main)

    assert all("has ended without unlocking" in text for text in texts)
    assert sorted(log) == (["no write"] * 2 + ["read"] * 2 if hold == "read" else ["no read"] * 2 + ["no write"] * 2)


@pytest.mark.parametrize("give_up", [False, True])
def test_D_41_the_end_of_a_later_holder_of_an_rw_lock_is_seen_too(loop, give_up):
    """It got the lock from another; the last waiter is told, or has given up, and then no trace is left."""
    told = []

    def dies(lock):
        lock.write_lock()
        settle()
        settle()
        assert (coro.current()._joiners is None) is give_up

    def last(lock):
        try:
            lock.write_lock()
        except coro.LockError as exc:
            told.append(exc)

    def main():
        lock = rw_lock()
        lock.read_lock()
        coro.spawn(dies, lock)
        waiter = coro.spawn(last, lock)
        settle()
        lock.read_unlock()
        assert coro.current()._joiners is None
        settle()
        if give_up:
            waiter.shutdown()
        waiter.join(1)
        assert len(told) == (not give_up)

    loop(main)


def test_rw_lock_works_in_the_main_program_while_nobody_waits():
    """Reading, writing, both as blocks."""
    lock = rw_lock()
    with lock.writer, lock.reader:
        assert "writer=<main_stub" in repr(lock)
    with lock.reader, lock.reader:
        assert "readers=[#-1 'main/scheduler']" in repr(lock)
    with pytest.raises(Boom), lock.writer:
        raise Boom
    assert lock.try_write_lock() is False


def test_D_41_a_holder_that_lets_go_of_half_and_ends_is_noticed(loop):
    """A writer that also reads, ends reading and then itself: whoever waits gets `LockError`."""

    def main():
        lock = coro.rw_lock()

        def holder():
            lock.write_lock()
            lock.read_lock()
            coro.yield_slice()
            lock.read_unlock()

        coro.spawn(holder)
        coro.yield_slice()
        waiter = coro.spawn(lock.write_lock)
        with pytest.raises(coro.LockError):
            waiter.result(10)

    loop(main)


# -- under random interruption ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_a_mutex_has_never_two_owners_and_is_never_lost(loop, seed):
    """Random shutdowns, timeouts and stray wake-ups: one owner at a time, and it is free in the end."""
    chance = random.Random(seed)
    inside = []
    count = [0]

    def body(m):
        while True:
            try:
                if chance.random() < 0.3:
                    coro.with_timeout(0, m.lock)
                else:
                    m.lock()
            except coro.TimeoutError:
                continue
            try:
                inside.append(coro.current())
                count[0] += 1
                assert len(inside) == 1
                if chance.random() < 0.5:
                    settle()
                assert m.has_lock()
            finally:
                inside.pop()
                m.unlock()
            settle()

    def main():
        m = mutex()
        children = [coro.spawn(body, m) for _ in range(6)]
        for _ in range(150):
            settle()
            index = chance.randrange(len(children))
            if chance.random() < 0.3:
                children[index].shutdown()
                children[index] = coro.spawn(body, m)
            elif children[index].started and not children[index].scheduled and not children[index].dead:
                children[index].schedule()
        for co in children:
            co.shutdown()
        settle()
        assert count[0] > 100
        assert not m.locked()
        assert len(m) == 0
        assert coro.current()._joiners is None

    loop(main)


@pytest.mark.parametrize("seed", range(4))
def test_an_rw_lock_never_mixes_readers_and_a_writer(loop, seed):
    """Random interruption: one writer alone, or readers; nobody waits for a lock that is free."""
    chance = random.Random(seed)
    readers = []
    writers = []
    count = [0]

    def body(lock):
        while True:
            reading = chance.random() < 0.6
            take, give, here = (
                (lock.read_lock, lock.read_unlock, readers)
                if reading
                else (lock.write_lock, lock.write_unlock, writers)
            )
            try:
                if chance.random() < 0.3:
                    coro.with_timeout(0, take)
                else:
                    take()
            except coro.TimeoutError:
                continue
            here.append(1)
            count[0] += 1
            try:
                assert len(writers) + bool(readers) <= 1
                for _ in range(chance.randint(0, 2)):
                    settle()
            finally:
                here.pop()
                give()
            settle()

    def main():
        lock = rw_lock()
        children = [coro.spawn(body, lock) for _ in range(8)]
        for _ in range(150):
            settle()
            index = chance.randrange(len(children))
            if chance.random() < 0.3:
                children[index].shutdown()
                children[index] = coro.spawn(body, lock)
        for co in children:
            co.shutdown()
        settle()
        assert count[0] > 100
        assert lock.write_lock_nowait()
        lock.write_unlock()
        assert coro.current()._joiners is None

    loop(main)
