"""Groups: a block that outlasts its children, and shuts them down when it or one of them fails."""

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

from .helpers import Bang, Boom, fail, forever, settle


def late(exc):
    try:
        coro.suspend()
    finally:
        raise exc


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
