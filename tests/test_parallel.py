"""in_parallel: calling several functions at once (A13), and its defects (D-34)."""

from __future__ import annotations

import contextvars
import gc
import sys
import traceback
import weakref

import pytest
from greenlet import greenlet

import coro
from coro.parallel import FAILURE, SUCCESS, in_parallel


class Boom(Exception):
    pass


def value_after_yields(yields, value):
    for _ in range(yields):
        coro.yield_slice()
    return value


def fail(exc):
    coro.yield_slice()
    raise exc


def test_results_come_in_the_order_of_the_input(loop):
    """Whatever the order in which the functions end."""
    ended = []

    def body(yields, value):
        value_after_yields(yields, None)
        ended.append(value)
        return value

    def main():
        assert in_parallel([(body, (3, "a")), (body, (1, "b")), (body, (2, "c"))]) == ["a", "b", "c"]

    loop(main)

    assert ended == ["b", "c", "a"]


def test_all_have_started_before_any_is_waited_for(loop):
    """Each runs in a coroutine of its own, named after its function."""

    def body(inside):
        inside.append(coro.current())
        while len(inside) < 3:
            coro.yield_slice()

    def main():
        inside = []
        assert in_parallel([(body, [inside])] * 3) == [None] * 3
        assert len(set(inside)) == 3
        assert coro.current() not in inside
        assert inside[0].name.endswith("body")
        assert all(co.dead for co in inside)

    loop(main)


@pytest.mark.parametrize("kind", [list, tuple, iter, lambda pairs: (pair for pair in pairs)])
def test_the_input_is_any_iterable(loop, kind):
    """List, tuple, iterator or generator; the arguments too, and the pairs may be lists."""

    def main():
        assert in_parallel(kind([(max, [1, 2]), [max, (n for n in (3, 4))]])) == [2, 4]

    loop(main)


def test_a_triple_has_keyword_arguments(loop):
    """They are all the function's own, thread_name too."""

    def main():
        kwargs = {"b": 2, "thread_name": "mine", "cancel": 0}
        assert in_parallel([(dict, (), kwargs), (dict, [[("a", 1)]], {})]) == [kwargs, {"a": 1}]

    loop(main)


def test_empty_gives_the_empty_list_without_blocking(loop):
    """Nobody else runs meanwhile."""

    def main():
        other = coro.spawn(int)
        assert in_parallel([]) == []
        assert in_parallel(iter(())) == []
        assert not other.started

    loop(main)


def test_a_failure_is_raised_after_all_have_ended(loop):
    """InParallelError; its result_list has status and value, or status and exc_info, in the order of the input."""
    boom = Boom("zz")
    ended = []

    def slow():
        value_after_yields(5, None)
        ended.append("slow")
        return 7

    def main():
        with pytest.raises(coro.InParallelError) as caught:
            in_parallel([(fail, (boom,)), (slow, ())])
        assert ended == ["slow"]
        (status, (kind, exc, tb)), good = caught.value.result_list
        assert status == FAILURE == "failure"
        assert kind is Boom
        assert exc is boom
        assert traceback.extract_tb(tb)[-1].name == "fail"
        assert good == (SUCCESS, 7) == ("success", 7)
        assert caught.value.args == (caught.value.result_list,)

    loop(main)


def test_the_text_and_the_traceback_show_every_failure(loop):
    """The text counts them and gives number and exception; the traceback gives the place of each."""

    def main():
        with pytest.raises(coro.InParallelError, match=r"^1 of 2 calls failed: \[1\] Boom\('zz'\)$") as caught:
            in_parallel([(int, ()), (fail, (Boom("zz"),))])
        assert isinstance(caught.value.__cause__, Boom)

        calls = [(fail, (Boom("first"),)), (int, ()), (int, ("x",)), (fail, (coro.Shutdown(),))]
        with pytest.raises(coro.InParallelError, match=r"^3 of 4 calls failed: \[0\] .*\[2\] .*\[3\]") as caught:
            in_parallel(calls)
        text = "".join(traceback.format_exception(caught.value))
        assert "Boom: first" in text
        assert "ValueError: invalid literal" in text
        assert text.count("raise exc") == 2

    loop(main)


def test_a_failure_is_not_reported_to_the_notifier_as_well(loop, failures):
    """The caller has learnt of it."""

    def main():
        with pytest.raises(coro.InParallelError):
            in_parallel([(fail, (Boom(),)), (fail, (coro.Interrupted("mine"),))])

    loop(main)

    assert failures == []


def test_the_exceptions_are_not_kept_alive(loop):
    """No cycle holds them, once the caller has let go of the error."""

    def main():
        gc.disable()
        try:
            try:
                in_parallel([(fail, (Boom(),)), (fail, (Boom(),))])
            except coro.InParallelError as exc:
                ref = weakref.ref(exc)
            value_after_yields(2, None)
            assert ref() is None
        finally:
            gc.enable()

    loop(main)


def test_D_34_a_child_that_is_shut_down_has_failed(loop):
    """A FAILURE with Shutdown; the others are not touched."""
    inside = []

    def victim():
        inside.append(coro.current())
        coro.suspend()

    def killer():
        value_after_yields(1, None)
        inside[0].shutdown()
        return "done"

    def main():
        with pytest.raises(coro.InParallelError) as caught:
            in_parallel([(victim, ()), (killer, ())])
        (status, (kind, _, _)), good = caught.value.result_list
        assert (status, kind) == (FAILURE, coro.Shutdown)
        assert good == (SUCCESS, "done")

    loop(main)


def test_D_34_a_child_that_is_cancelled_before_it_began_has_failed(loop):
    """A FAILURE with DeadCoroutine that names the coroutine, never a hang."""

    def killer():
        for co in coro.all_threads.values():
            if co.name == "victim":
                co.shutdown()

    def victim():
        pytest.fail("has run")

    victim.__qualname__ = "victim"

    def main():
        with pytest.raises(coro.InParallelError, match=r"victim.*cancelled before it began") as caught:
            in_parallel([(killer, ()), (victim, ())])
        status, (kind, exc, tb) = caught.value.result_list[1]
        assert (status, kind, tb) == (FAILURE, coro.DeadCoroutine, None)
        assert exc.args[0].name == "victim"

    loop(main)


@pytest.mark.parametrize(
    "wrong",
    [
        int,
        (),
        (int,),
        (int, (), {}, 4),
        "ab",
        None,
        (None, ()),
        (int, 5),
        (int, None),
        (int, (), [1]),
        (int, (), {1: 2}),
        (int, (), None),
        (value_after_yields.__code__, ()),
    ],
    ids=repr,
)
def test_D_34_a_malformed_entry_is_an_error_before_anything_starts(loop, wrong):
    """TypeError that names its index; no coroutine is made, neither for it nor for the ones before it."""

    def main():
        before = list(coro.all_threads)
        with pytest.raises(TypeError, match="entry 1 of in_parallel"):
            in_parallel([(pytest.fail, ("has run",)), wrong, (pytest.fail, ("has run",))])
        assert list(coro.all_threads) == before
        coro.yield_slice()

    loop(main)


def test_D_34_a_generator_function_is_refused(loop):
    """As by spawn: its call would run nothing."""

    def generator():
        yield

    def main():
        with pytest.raises(TypeError, match=r"entry 0 .*generator"):
            in_parallel([(generator, ())])

    loop(main)


@pytest.mark.parametrize("wrong", [None, 5, int])
def test_what_is_no_iterable_is_refused(loop, wrong):
    """TypeError that says what is needed."""

    def main():
        with pytest.raises(TypeError, match=r"in_parallel\(\) needs pairs"):
            in_parallel(wrong)

    loop(main)


def test_an_error_of_the_generator_passes_through(loop):
    """And nothing has started."""

    def calls():
        yield pytest.fail, ("has run",)
        raise Boom

    def main():
        with pytest.raises(Boom):
            in_parallel(calls())
        coro.yield_slice()

    loop(main)


@pytest.mark.parametrize("options", [{}, {"cancel": True}, {"cancel": False}])
def test_a_second_call_works_after_a_timeout(loop, options):
    """Three sleepers time out; three new ones bring their results in order."""

    def sleeper(seconds, value):
        coro.sleep_relative(seconds)
        return value

    def main():
        calls = [(sleeper, (0.02, number)) for number in (4, 5, 6)]
        with pytest.raises(coro.TimeoutError):
            coro.with_timeout(0.005, in_parallel, calls, **options)
        assert coro.with_timeout(5, in_parallel, calls, **options) == [4, 5, 6]

    loop(main)


@pytest.mark.parametrize("interruption", ["timeout", "shutdown", "exception"])
def test_D_34_an_interrupted_caller_takes_its_children_along(loop, interruption):
    """They get Shutdown, and their finally blocks, blocking ones too, have ended when the caller goes on."""
    ran = []

    def child(name):
        try:
            coro.suspend()
        finally:
            value_after_yields(3, None)
            ran.append(name)

    def caller():
        try:
            in_parallel([(child, ("a",)), (child, ("b",))])
        finally:
            ran.append("caller")

    def main():
        if interruption == "timeout":
            with pytest.raises(coro.TimeoutError):
                coro.with_timeout(0.002, caller)
        else:
            co = coro.spawn(caller)
            value_after_yields(2, None)
            if interruption == "shutdown":
                co.shutdown()
                co.join()
            else:
                co.raise_exception(Boom)
                with pytest.raises(Boom):
                    co.result()
        assert ran == ["a", "b", "caller"]

    loop(main)


def test_without_cancel_the_children_run_on(loop):
    """The interruption leaves at once, and the results are dropped."""
    ran = []

    def child(name):
        coro.suspend()
        ran.append(name)

    def main():
        with pytest.raises(coro.TimeoutError):
            coro.with_timeout(0.002, in_parallel, [(child, ("a",)), (child, ("b",))], cancel=False)
        children = [co for co in coro.all_threads.values() if co is not coro.current()]
        assert len(children) == 2
        for co in children:
            co.schedule()
        value_after_yields(2, None)
        assert ran == ["a", "b"]

    loop(main)


@pytest.mark.parametrize("cancel", [True, False])
def test_no_failure_is_lost_when_the_caller_is_interrupted(loop, failures, cancel):
    """There is no InParallelError then, so the notifier is told: of those before, and of those to come."""

    def late():
        try:
            coro.sleep_relative(0.01)
        finally:
            raise Boom("late")

    def main():
        with pytest.raises(coro.TimeoutError):
            coro.with_timeout(0.005, in_parallel, [(fail, (Boom("early"),)), (late, ())], cancel=cancel)
        coro.sleep_relative(0.02)

    loop(main)

    assert sorted(str(exc) for exc in failures) == ["early", "late"]
    failures.clear()


def test_a_second_interruption_ends_the_wait_for_stubborn_children(loop):
    """The caller is not held for ever by a child that does not end."""
    gate = []

    def stubborn():
        try:
            coro.suspend()
        finally:
            while not gate:
                coro.yield_slice()

    def main():
        with pytest.raises(coro.TimeoutError) as caught:
            coro.with_timeout(0.01, coro.with_timeout, 0.002, in_parallel, [(stubborn, ())])
        assert caught.value.seconds == 0.01
        gate.append("open")
        value_after_yields(2, None)

    loop(main)


def test_the_end_of_the_loop_unwinds_caller_and_children(loop):
    """Each gets its Shutdown once."""
    seen = []

    def child():
        try:
            coro.suspend()
        except BaseException as exc:
            seen.append(type(exc))
            coro.yield_slice()
            raise

    def main():
        coro.spawn(in_parallel, [(child, ()), (child, ())])
        value_after_yields(3, None)

    loop(main)

    assert seen == [coro.Shutdown] * 2


def test_sys_exit_in_a_child_ends_the_loop(loop):
    """As in any coroutine."""
    with pytest.raises(SystemExit) as caught:
        loop(in_parallel, [(sys.exit, (5,)), (coro.suspend, ())])

    assert caught.value.code == 5


def test_a_stray_wake_up_does_not_end_it_early(loop):
    """D-08: schedule is only a hint."""

    def main():
        coro.spawn(coro.current().schedule, "stray")
        assert in_parallel([(value_after_yields, (5, 1))]) == [1]

    loop(main)


def test_children_begin_with_the_context_of_the_caller(loop):
    """A copy: what they set is theirs."""
    var = contextvars.ContextVar("var")

    def body(value):
        old = var.get()
        var.set(value)
        coro.yield_slice()
        return old, var.get()

    def main():
        var.set("caller's")
        assert in_parallel([(body, (1,)), (body, (2,))]) == [("caller's", 1), ("caller's", 2)]
        assert var.get() == "caller's"

    loop(main)


def test_calls_may_nest(loop):
    """A child may call in_parallel itself; errors keep their structure."""

    def main():
        assert in_parallel([(in_parallel, ([(int, ("1",)), (int, ("2",))],)), (int, ())]) == [[1, 2], 0]
        with pytest.raises(coro.InParallelError) as caught:
            in_parallel([(in_parallel, ([(fail, (Boom(),))],))])
        assert isinstance(caught.value.__cause__, coro.InParallelError)
        assert isinstance(caught.value.__cause__.__cause__, Boom)

    loop(main)


def test_it_may_be_called_in_a_foreign_greenlet(loop):
    """One that a library has made on top of a coroutine."""

    def main():
        assert greenlet(in_parallel).switch([(value_after_yields, (2, 1)), (value_after_yields, (1, 2))]) == [1, 2]

    loop(main)


def test_thousands_at_once(loop):
    """All in one call."""

    def main():
        assert in_parallel((value_after_yields, (1, number)) for number in range(3000)) == list(range(3000))

    loop(main)


@pytest.mark.parametrize("calls", [[], [(pytest.fail, ("has run",))], None])
def test_from_main_it_is_yield_from_main_and_no_child_is_made(calls):
    """Before anything else, also after a loop has ended."""
    with pytest.raises(coro.YieldFromMain):
        in_parallel(calls)

    assert not coro.all_threads
