"""Groups and pools: a block that outlasts its children, and so many coroutines at a time."""

from __future__ import annotations

import contextlib
import gc
import random
import threading
import weakref

import greenlet
import pytest

import coro
from coro.groups import Pool, group
from coro.queues import Queue


class Boom(Exception):
    pass


class Bang(Exception):
    pass


def settle():
    """Let all that is ready run, and whatever that makes ready."""
    coro.yield_slice()


def fail(exc=Boom):
    raise exc


def forever(log, name="child"):
    """Wait until something is raised here, and say what it was."""
    try:
        coro.suspend()
    except BaseException as exc:
        log.append((name, type(exc)))
        raise


def late(exc):
    try:
        coro.suspend()
    finally:
        raise exc


# -- group -----------------------------------------------------------------------------------------------------------


def test_a_group_ends_after_its_children(loop):
    """The block waits for all of them, also for those that children have spawned; results can be collected."""
    log = []

    def child(g, depth):
        settle()
        if depth:
            g.spawn(child, g, depth - 1)
        log.append(depth)
        return depth

    def main():
        with group() as g:
            first = g.spawn(child, g, 3, thread_name="first")
            assert first.name == "first"
            assert len(g) == 1
            assert g
            named = g.spawn(lambda *, a: a, a=5)
            log.append("body")
        assert log == ["body", 3, 2, 1, 0]
        assert first.dead
        assert first.result() == 3
        assert named.result() == 5
        assert len(g) == 0
        with group():
            pass

    loop(main)


def test_when_a_child_fails_the_others_are_shut_down(loop):
    """Its exception comes out in an ExceptionGroup, after the others have unwound; the notifier is not called."""
    log = []
    groups = []

    def main():
        def block():
            with group() as g:
                groups.append(g)
                for name in range(2):
                    g.spawn(forever, log, name)
                g.spawn(fail)
                g.spawn(forever, log, 2)

        with pytest.raises(ExceptionGroup) as caught:
            block()
        assert [type(exc) for exc in caught.value.exceptions] == [Boom]
        assert groups[0].cancelled
        assert "group of <coro" in str(caught.value)
        # The last one was cancelled before it began.
        assert log == [(0, coro.Shutdown), (1, coro.Shutdown)]

    loop(main)


def test_when_a_child_fails_the_block_is_interrupted(loop):
    """Where it blocks, by an Interrupted that inner handlers do not see; the group swallows it."""
    log = []

    def main():
        def block():
            with group() as g:
                g.spawn(fail)
                try:
                    coro.sleep_relative(10)
                except Exception as exc:
                    log.append(exc)
                except BaseException as exc:
                    log.append(type(exc))
                    raise

        with pytest.raises(ExceptionGroup) as caught:
            block()
        assert [type(exc) for exc in caught.value.exceptions] == [Boom]
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__
        settle()  # nothing is pending any more
        coro.sleep_relative(0.001)

    loop(main)

    assert log == [coro.Interrupted]


def test_all_failures_come_out_in_their_order(loop):
    """Of children that fail at once, in their cleanup, and of the block."""

    def main():
        one, two, three = Boom(1), Boom(2), Bang(3)

        def block():
            with group() as g:
                g.spawn(late, two)
                g.spawn(fail, one)
                try:
                    coro.suspend()
                except coro.Interrupted:
                    raise three from None

        with pytest.raises(ExceptionGroup) as caught:
            block()
        assert list(caught.value.exceptions) == [one, two, three]

    loop(main)


def test_a_failure_of_the_block_alone_passes_as_it_is(loop):
    """The children are shut down first.  Together with failures of children it is in the group."""
    log = []

    def main():
        boom = Boom()

        def block():
            with group() as g:
                g.spawn(forever, log)
                settle()
                raise boom

        with pytest.raises(Boom) as caught:
            block()
        assert caught.value is boom
        assert log == [("child", coro.Shutdown)]

        def block():
            with group() as g:
                g.spawn(late, Bang)
                settle()
                raise boom

        with pytest.raises(ExceptionGroup) as caught:
            block()
        assert [type(exc) for exc in caught.value.exceptions] == [Bang, Boom]

    loop(main)


def test_a_failure_that_the_block_has_collected_is_named_once(loop):
    """The block takes the result of a child that fails: that is one failure, not two."""

    def main():
        with pytest.raises(ExceptionGroup) as caught, group() as g:
            g.spawn(fail).result()
        assert [type(exc) for exc in caught.value.exceptions] == [Boom]

    loop(main)


def test_a_base_exception_of_a_child_makes_a_base_exception_group(loop):
    """`except* Exception` must not swallow it."""

    class Base(BaseException):
        pass

    def main():
        with pytest.raises(BaseExceptionGroup) as caught, group() as g:
            g.spawn(fail, Base)
        assert not isinstance(caught.value, ExceptionGroup)

    loop(main)


def test_a_child_that_is_shut_down_has_not_failed(loop):
    """By somebody from outside, by itself, or before it began: the others and the block go on."""
    log = []

    def main():
        with group() as g:
            outside = g.spawn(forever, log)
            g.spawn(fail, coro.Shutdown)
            unborn = g.spawn(log.append, "must not run")
            unborn.shutdown()
            other = g.spawn(coro.sleep_relative, 0.001)
            settle()
            outside.shutdown()
        assert other.result() is None
        assert not g.cancelled

    loop(main)

    assert log == [("child", coro.Shutdown)]


@pytest.mark.parametrize("where", ["in the block", "at its end"])
def test_a_group_whose_owner_is_shut_down_shuts_down_its_children(loop, where):
    """The Shutdown passes on once they have ended, however long that takes."""
    log = []

    def child():
        try:
            coro.suspend()
        finally:
            coro.sleep_relative(0.001)
            log.append("child has ended")

    def owner():
        try:
            with group() as g:
                g.spawn(child)
                if where == "in the block":
                    coro.suspend()
        except BaseException as exc:
            log.append(type(exc))
            raise

    def main():
        co = coro.spawn(owner)
        settle()
        co.shutdown()
        co.join()

    loop(main)

    assert log == ["child has ended", coro.Shutdown]


@pytest.mark.parametrize("where", ["in the block", "at its end"])
def test_a_timeout_around_a_group_shuts_down_its_children(loop, where):
    """TimeoutError at the frame that owns it, after the children have ended; a timeout inside is a failure."""
    log = []

    def body():
        with group() as g:
            g.spawn(forever, log)
            if where == "in the block":
                coro.suspend()

    def main():
        with pytest.raises(coro.TimeoutError):
            coro.with_timeout(0.002, body)
        assert log == [("child", coro.Shutdown)]
        with pytest.raises(coro.TimeoutError), group():
            coro.with_timeout(0.001, coro.suspend)

    loop(main)


@pytest.mark.parametrize("first", [Boom, coro.Interrupted, "cancel"])
def test_children_are_shut_down_only_once(loop, first):
    """A second interrupt of the owner does not disturb their cleanup; a Shutdown wins over what came first."""
    log = []
    groups = []

    def child():
        try:
            coro.suspend()
        finally:
            coro.sleep_relative(0.005)
            log.append("cleaned up")

    def owner():
        with group() as g:
            groups.append(g)
            g.spawn(child)

    def main():
        co = coro.spawn(owner)
        settle()
        if first == "cancel":
            groups[0].cancel()
        else:
            co.raise_exception(first)
        settle()
        co.shutdown()
        settle()
        co.raise_exception(Boom)
        with pytest.raises(coro.DeadCoroutine, match="was shut down"):
            co.result()

    loop(main)

    assert log == ["cleaned up"]


def test_what_interrupts_the_end_of_a_block_makes_no_garbage(loop):
    """The exception does not refer to itself by the frames that it passed."""

    def body(kind):
        with contextlib.suppress(Boom), kind() as owner:
            owner.spawn(coro.suspend)

    def main():
        for kind in (group, lambda: Pool(1)):
            boom = Boom()
            ref = weakref.ref(boom)
            co = coro.spawn(body, kind)
            settle()
            gc.collect()
            gc.disable()
            try:
                co.raise_exception(boom)
                co.join()
                del boom, co
                settle()
                assert ref() is None
            finally:
                gc.enable()

    loop(main)


def test_an_outer_timeout_that_met_an_inner_one_at_a_group_strikes_again(loop):
    """Both expire while the children clean up: the inner frame gets its TimeoutError, then the outer one too."""
    log = []

    def child():
        try:
            coro.suspend()
        finally:
            coro.sleep_relative(0.01)

    def inner():
        with group() as g:
            g.spawn(child)

    def outer():
        with pytest.raises(coro.TimeoutError) as caught:
            coro.with_timeout(0.002, inner)
        log.append(caught.value.seconds)
        coro.sleep_relative(10)

    def main():
        with pytest.raises(coro.TimeoutError) as caught:
            coro.with_timeout(0.004, outer)
        log.append(caught.value.seconds)
        settle()

    loop(main)

    assert log == [0.002, 0.004]


def test_failures_that_an_interrupt_hides_go_to_the_notifier(loop, failures):
    """A child fails in its cleanup while the owner is being shut down: somebody must hear of it."""

    def child():
        try:
            coro.suspend()
        finally:
            raise Boom

    def owner():
        with group() as g:
            g.spawn(child)

    def main():
        co = coro.spawn(owner)
        settle()
        co.shutdown()
        co.join()
        with pytest.raises(coro.DeadCoroutine):
            co.result()

    loop(main)

    (lost,) = failures
    failures.clear()
    assert isinstance(lost, ExceptionGroup)
    assert [type(exc) for exc in lost.exceptions] == [Boom]


@pytest.mark.parametrize("who", ["the block", "a child", "somebody else", "the block at its end"])
def test_a_group_can_be_cancelled(loop, who):
    """All children are shut down, the block is interrupted where it blocks next, and it ends without an error."""
    log = []

    def canceller(g):
        g.cancel()
        log.append("cancelled")

    def main():
        with group() as g:
            g.spawn(forever, log)
            settle()
            assert not g.cancelled
            if who == "the block":
                canceller(g)
                g.cancel()
            elif who == "a child":
                g.spawn(canceller, g)
            else:
                coro.spawn(canceller, g)
            if who != "the block at its end":
                coro.suspend()
                log.append("not reached")
        assert g.cancelled
        g.cancel()
        coro.sleep_relative(0.001)

    loop(main)

    assert sorted(log, key=str) == [("child", coro.Shutdown)] + ["cancelled"] * (who != "a child")


def test_a_child_of_a_cancelled_group_never_begins(loop):
    """It is cancelled at once, so that a race between spawn and cancel has no bad end."""
    log = []

    def main():
        with group() as g:
            g.cancel()
            co = g.spawn(log.append, "must not run")
            assert co.dead
            assert len(g) == 0

    loop(main)

    assert log == []


def test_a_cancelled_block_that_does_not_block_ends_in_peace(loop):
    """The interrupt that it has not met does not strike later."""

    def main():
        for _ in range(3):
            with group() as g:
                g.cancel()
            settle()
            coro.sleep_relative(0.001)

    loop(main)


def test_groups_nest(loop):
    """An outer failure ends an inner block; an inner failure is one failure of the outer group."""
    log = []

    def inner():
        with group() as g:
            g.spawn(forever, log, "inner")
            coro.suspend()

    def bad():
        with group() as g:
            g.spawn(fail)

    def main():
        def block():
            with group() as g:
                g.spawn(inner)
                g.spawn(forever, log, "outer")
                settle()
                with group() as second:
                    second.spawn(forever, log, "second")
                    g.spawn(bad)
                    coro.suspend()

        with pytest.raises(ExceptionGroup) as caught:
            block()
        (within,) = caught.value.exceptions
        assert isinstance(within, ExceptionGroup)
        assert [type(exc) for exc in within.exceptions] == [Boom]
        assert sorted(name for name, _ in log) == ["inner", "outer", "second"]

    loop(main)


def test_a_group_is_used_in_one_block(loop):
    """Before, after, again, in another thread, in the main program: a clear error, and nothing is made."""
    errors = []

    def main():
        g = group()
        with pytest.raises(RuntimeError, match="not open"):
            g.spawn(settle)
        g.cancel()
        with g:
            with pytest.raises(RuntimeError, match="has been used already"), g:
                pass
            with pytest.raises(TypeError):
                g.spawn("text")
            with pytest.raises(TypeError):
                g.spawn(settle, thread_name=5)

            def elsewhere():
                for call in (lambda: g.spawn(settle), g.cancel):
                    try:
                        call()
                    except RuntimeError as exc:
                        errors.append(str(exc))

            thread = threading.Thread(target=elsewhere)
            thread.start()
            thread.join()
            assert len(g) == 0
        assert not g.cancelled
        with pytest.raises(RuntimeError, match="not open"):
            g.spawn(settle)
        with pytest.raises(RuntimeError, match="has been used already"), g:
            pass

    loop(main)

    assert len(errors) == 2
    assert all("only a Portal" in text for text in errors)
    with pytest.raises(coro.YieldFromMain), group():
        pass


def test_a_group_in_a_foreign_greenlet(loop):
    """On top of a coroutine it works the same."""
    log = []

    def main():
        def inside():
            def block():
                with group() as g:
                    g.spawn(forever, log)
                    settle()
                    g.spawn(fail)
                    coro.suspend()

            with pytest.raises(ExceptionGroup):
                block()

        greenlet.greenlet(inside).switch()

    loop(main)

    assert log == [("child", coro.Shutdown)]


def test_the_end_of_the_loop_ends_a_group(poller, failures):
    """A SystemExit in a child ends the loop, as in any coroutine; block and children unwind."""
    log = []

    def main():
        try:
            with group() as g:
                g.spawn(forever, log)
                settle()
                g.spawn(fail, SystemExit(7))
                coro.suspend()
        finally:
            log.append("block")

    with pytest.raises(SystemExit) as caught:
        coro.run(main)

    assert caught.value.code == 7
    assert log == [("child", coro.Shutdown), "block"]


def test_a_failed_group_leaves_no_garbage_but_the_exception(loop):
    """Group and children are freed without the collector once the exception is."""
    refs = []

    def body():
        with group() as g:
            refs.append(weakref.ref(g))
            g.spawn(fail)

    def main():
        gc.collect()
        gc.disable()
        try:
            with contextlib.suppress(ExceptionGroup):
                body()
            settle()
            assert refs[0]() is None
        finally:
            gc.enable()

    loop(main)


def test_its_repr_names_the_owner_and_the_state(loop):
    """So that an error can be understood."""

    def main():
        coro.current().set_name("owner")
        g = group()
        assert "not open" in repr(g)
        with g:
            g.spawn(settle)
            assert "'owner'" in repr(g)
            assert "open, 1 children>" in repr(g)

    loop(main)


@pytest.mark.parametrize("seed", range(3))
def test_a_group_never_ends_before_its_children_under_random_interruption(loop, seed):
    """Children fail, are shut down, spawn others; the owner is interrupted or the group cancelled at any time."""
    chance = random.Random(seed)
    alive = [0]
    ended = [0]

    def child(g):
        alive[0] += 1
        try:
            for _ in range(chance.randint(0, 4)):
                if chance.random() < 0.2:
                    g.spawn(child, g)
                settle()
            if chance.random() < 0.1:
                raise Boom
        finally:
            for _ in range(chance.randint(0, 2)):
                with contextlib.suppress(coro.Interrupted):
                    settle()
            alive[0] -= 1

    def owner():
        mine = alive[0]
        try:
            with group() as g:
                children = [g.spawn(child, g) for _ in range(chance.randint(0, 4))]
                for co in children:
                    if chance.random() < 0.1:
                        co.shutdown()
                if chance.random() < 0.2:
                    coro.spawn(g.cancel)
                if chance.random() < 0.5:
                    settle()
        finally:
            assert mine == alive[0] == 0
            assert not g._children
            ended[0] += 1

    def main():
        for _ in range(60):
            co = coro.spawn(owner)
            co._collected += 1
            for _ in range(chance.randint(0, 4)):
                settle()
            if chance.random() < 0.3:
                co.shutdown()
            co.join()
            if co._error is not None:
                assert isinstance(co._error[0], (ExceptionGroup, coro.Shutdown))
        assert ended[0] > 30

    old = coro.set_exception_notifier(lambda: None)  # of what an interrupt hides
    try:
        loop(main)
    finally:
        coro.set_exception_notifier(old)


# -- Pool ------------------------------------------------------------------------------------------------------------


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
