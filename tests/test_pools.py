"""Pools: so many coroutines at a time; `map` and `imap_unordered`."""

from __future__ import annotations

import pytest

import coro
from coro.groups import Pool
from coro.queues import Queue

from .helpers import Bang, Boom, fail, forever, settle


def test_a_pool_runs_so_many_at_a_time(loop):
    """spawn waits while it is full; the block ends after all have ended."""
    running = [0]
    most = [0]
    done = []

    def body(name, *, extra):
        running[0] += 1
        most[0] = max(most[0], running[0])
        for _ in range(name % 3):
            settle()
        running[0] -= 1
        done.append(name)
        return extra

    def main():
        with Pool(3) as pool:
            assert pool.size == pool.free == 3
            children = [pool.spawn(body, name, extra=name, thread_name=f"job {name}") for name in range(10)]
            assert children[9].name == "job 9"
            assert pool.free < 3
        assert len(pool) == 0
        assert pool.free == 3
        assert [co.result() for co in children] == list(range(10))
        pool.spawn(body, 10, extra=0)
        assert len(pool) == 1
        pool.join()
        assert len(pool) == 0

    loop(main)

    assert most == [3]
    assert sorted(done) == list(range(11))


def test_children_that_never_begin_give_back_their_place(loop):
    """Cancelled before they ran: the place is free again, and who waits for it gets it."""

    def main():
        pool = Pool(2)
        children = [pool.spawn(coro.suspend) for _ in range(2)]
        waiter = coro.spawn(pool.spawn, coro.suspend)
        for co in children:
            co.shutdown()
        settle()
        assert waiter.dead
        assert len(pool) == 1
        assert pool.free == 1
        pool.shutdown()
        pool.join()
        assert pool.free == 2

    loop(main)


def test_a_failure_in_a_pool_goes_to_the_notifier(loop, failures):
    """As in any coroutine; the others and the block go on."""

    def main():
        with Pool(2) as pool:
            pool.spawn(fail)
            co = pool.spawn(coro.sleep_relative, 0.001)
        co.result()

    loop(main)

    assert [type(exc) for exc in failures] == [Boom]
    failures.clear()


@pytest.mark.parametrize("how", ["fails", "is shut down", "times out"])
def test_a_pool_whose_block_fails_shuts_down_its_coroutines(loop, how):
    """And waits for their end before the exception passes on."""
    log = []

    def block():
        with Pool(3) as pool:
            pool.spawn(forever, log)
            settle()
            if how == "fails":
                raise Boom

    def main():
        if how == "fails":
            with pytest.raises(Boom):
                block()
        elif how == "times out":
            with pytest.raises(coro.TimeoutError):
                coro.with_timeout(0.001, block)
        else:
            co = coro.spawn(block)
            settle()
            settle()
            co.shutdown()
            co.join()
        assert log == [("child", coro.Shutdown)]

    loop(main)


def test_an_interrupted_spawn_takes_no_place(loop):
    """Waiting for a place, or with bad arguments: TypeError before anything is taken."""

    def main():
        pool = Pool(1)
        pool.spawn(coro.suspend)
        with pytest.raises(coro.TimeoutError):
            coro.with_timeout(0.001, pool.spawn, settle)
        pool.shutdown()
        pool.join()
        for free in (1, 0):
            assert pool.free == free
            for call in (lambda: pool.spawn("text"), lambda: pool.spawn(settle, thread_name=5)):
                with pytest.raises(TypeError):
                    call()
            assert pool.free == free
            pool.spawn(settle)

    loop(main)


def test_map_returns_the_results_in_the_order_of_the_items(loop):
    """However long each takes; of several iterables like the builtin; never more than size at a time."""
    running = [0]
    most = [0]

    def body(number, other=0):
        running[0] += 1
        most[0] = max(most[0], running[0])
        for _ in range(5 - number):
            settle()
        running[0] -= 1
        return number * 10 + other

    def main():
        pool = Pool(3)
        assert pool.map(body, range(5)) == [0, 10, 20, 30, 40]
        assert pool.map(body, range(5), iter([3, 2, 1])) == [3, 12, 21]
        assert pool.map(body, []) == []
        assert most == [3]
        assert pool.free == 3

    loop(main)


def test_when_a_call_of_map_fails_the_others_are_shut_down(loop):
    """Its exception is raised, bare; the pool itself and other users of it go on."""
    log = []

    def body(number):
        if number == 1:
            settle()
            raise Boom
        forever(log, number)

    def main():
        with Pool(4) as pool:
            other = pool.spawn(coro.sleep_relative, 0.002)
            with pytest.raises(Boom):
                pool.map(body, range(10))
            settle()
            assert log == [(0, coro.Shutdown), (2, coro.Shutdown)]
            assert len(pool) == 1
        assert other.result() is None

    loop(main)


def test_map_is_interrupted_with_its_calls(loop):
    """A timeout around it shuts down what it has begun."""
    log = []

    def main():
        pool = Pool(2)
        with pytest.raises(coro.TimeoutError):
            coro.with_timeout(0.001, pool.map, lambda name: forever(log, name), range(5))
        pool.join()
        assert [name for name, _ in log] == [0, 1]

    loop(main)


def test_imap_unordered_yields_results_as_they_come(loop):
    """The quick ones first, and each once."""

    def body(number):
        for _ in range(number):
            settle()
        return number

    def main():
        pool = Pool(3)
        assert list(pool.imap_unordered(body, [6, 3, 0])) == [0, 3, 6]
        assert sorted(pool.imap_unordered(lambda a, b: a + b, range(3), range(3))) == [0, 2, 4]
        assert list(pool.imap_unordered(body, [])) == []

    loop(main)


@pytest.mark.parametrize("slow", [False, True])
def test_imap_unordered_is_lazy_and_bounded(loop, slow):
    """It takes no item before it is asked, and never has more than size calls and results in hand."""
    taken = []

    def items():
        for number in range(20):
            if slow:
                settle()
            taken.append(number)
            yield number

    def main():
        pool = Pool(3)
        results = pool.imap_unordered(lambda number: number, items())
        settle()
        assert taken == []
        for fetched in range(1, 21):
            next(results)
            settle()
            settle()
            assert len(taken) <= fetched + 3
        with pytest.raises(StopIteration):
            next(results)

    loop(main)


def test_imap_unordered_that_is_closed_shuts_down_its_calls(loop):
    """By close(), by being forgotten, by a call that fails, by an item that cannot be taken."""
    log = []

    def body(number):
        if number == 0:
            return
        if number < 0:
            raise Boom
        forever(log, number)

    def items():
        yield 1
        yield 0
        raise Bang

    def main():
        pool = Pool(3)
        for how in ("close", "forget"):
            results = pool.imap_unordered(body, [0, 1, 2])
            assert next(results) is None
            if how == "close":
                results.close()
            del results
            pool.join()
            assert [name for name, _ in log] == [1, 2]
            log.clear()
        with pytest.raises(Boom):
            list(pool.imap_unordered(body, [1, -1, 2]))
        pool.join()
        assert [name for name, _ in log] == [1, 2]
        log.clear()
        with pytest.raises(Bang):
            list(pool.imap_unordered(body, items()))
        pool.join()
        assert pool.free == 3

    loop(main)


def test_imap_unordered_shares_a_pool(loop):
    """While others fill the pool it takes what becomes free, and yields what is ready meanwhile."""

    def main():
        pool = Pool(2)
        blocker = pool.spawn(coro.suspend)
        assert sorted(pool.imap_unordered(lambda number: number, range(5))) == [0, 1, 2, 3, 4]
        blocker.shutdown()
        pool.join()

    loop(main)


def test_wrong_arguments_of_a_pool_are_refused_at_once(loop):
    """Sizes, functions and iterables; nothing is begun."""
    for bad in ("1", 1.0, None, True):
        with pytest.raises(TypeError, match="is an int"):
            Pool(bad)
    for bad in (0, -1):
        with pytest.raises(ValueError, match="1 or more"):
            Pool(bad)

    def generator():
        yield

    def main():
        pool = Pool(1)
        for method in (pool.map, pool.imap_unordered):
            with pytest.raises(TypeError):
                method("text", [])
            with pytest.raises(TypeError, match="runs nothing"):
                method(generator, [])
            with pytest.raises(TypeError):
                method(settle, 5)
        assert len(pool) == 0

    loop(main)


def test_a_coroutine_of_the_pool_cannot_wait_for_its_end(loop):
    """ScheduleError instead of waiting for itself for ever; Shutdown in place if it shuts the pool down."""
    log = []

    def body(pool):
        with pytest.raises(coro.ScheduleError, match="is one of them"):
            pool.join()
        pool.shutdown()
        log.append("not reached")

    def main():
        pool = Pool(3)
        pool.spawn(forever, log)
        settle()
        pool.spawn(body, pool)
        pool.join()

    loop(main)

    assert log == [("child", coro.Shutdown)]


def test_a_pool_in_the_main_program(loop):
    """Before the loop it can be filled, but not waited for."""
    pool = Pool(2)
    children = [pool.spawn(int, "7") for _ in range(2)]
    for wait in (lambda: pool.spawn(int), pool.join, lambda: pool.map(int, "1")):
        with pytest.raises(coro.YieldFromMain):
            wait()
    with pytest.raises(coro.YieldFromMain), pool:
        pass

    loop(pool.join)

    assert [co.result() for co in children] == [7, 7]
    assert repr(pool) == "<Pool size=2 children=0, 0 waiting>"


def test_a_pool_fed_by_a_queue(loop):
    """The usual shape: iterate over a queue until it is closed, spawn for each, collect elsewhere."""

    def main():
        q = Queue(2)
        done = []

        def feed():
            for number in range(10):
                q.put(number)
            q.close()

        coro.spawn(feed)
        with Pool(3) as pool:
            for number in q:
                pool.spawn(done.append, number)
        assert done == list(range(10))

    loop(main)
