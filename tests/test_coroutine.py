"""The coroutine object: its states and what each operation does in each of them, names, ids, the registry, results."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import gc
import re
import traceback
import weakref

import pytest

import coro


class Boom(Exception):
    pass


# -- the state matrix ------------------------------------------------------------------------------------------------
#
# N made by new, P spawned and not yet run, R running, B blocked, Q ready after having run, D dead, C cancelled.
# Each row says what the operation does in each state: an exception, or the flags (dead, started, scheduled) after it.

P, B, Q, D, C = (0, 0, 1), (0, 1, 0), (0, 1, 1), (1, 1, 0), (1, 0, 0)
SE, DC, NS = coro.ScheduleError, coro.DeadCoroutine, coro.NotStartedError

MATRIX = [
    ("start", lambda co: co.start(), {"N": P, "P": SE, "R": SE, "B": SE, "Q": SE, "D": DC, "C": DC}),
    ("schedule", lambda co: co.schedule(7), {"N": P, "P": SE, "R": SE, "B": Q, "Q": SE, "D": DC, "C": DC}),
    ("coro.schedule", lambda co: coro.schedule(co), {"N": P, "P": SE, "R": SE, "B": Q, "Q": SE, "D": DC, "C": DC}),
    ("raise", lambda co: co.raise_exception(Boom), {"N": NS, "P": NS, "R": SE, "B": Q, "Q": Q, "D": DC, "C": DC}),
    (
        "raise, no force",
        lambda co: co.raise_exception(Boom, force=False),
        {"N": NS, "P": NS, "R": SE, "B": Q, "Q": SE, "D": DC, "C": DC},
    ),
    (
        "raise, cancel",
        lambda co: co.raise_exception(Boom, cancel_start=True),
        {"N": C, "P": C, "R": SE, "B": Q, "Q": Q, "D": DC, "C": DC},
    ),
    ("shutdown", lambda co: co.shutdown(), {"N": C, "P": C, "R": coro.Shutdown, "B": Q, "Q": Q, "D": D, "C": C}),
]


@pytest.mark.parametrize("state", "NPRBQDC")
@pytest.mark.parametrize(("operation", "row"), [m[1:] for m in MATRIX], ids=[m[0] for m in MATRIX])
def test_each_operation_does_in_each_state_what_the_table_says(loop, state, operation, row):
    """Shrapnel's matrix with its errors mended: start() of a dead one is DeadCoroutine, shutdown() never fails."""

    def body():
        with contextlib.suppress(Boom):
            coro.suspend()

    def make():
        if state == "R":
            return coro.current()
        co = (coro.new if state == "N" else coro.spawn)(body)
        if state == "C":
            co.shutdown()
        if state in "BQD":
            coro.yield_slice()
        if state in "QD":
            co.schedule()
        if state == "D":
            co.join()
        return co

    def main():
        co = make()
        expected = row[state]
        if isinstance(expected, type):
            with pytest.raises(expected) as caught:
                operation(co)
            assert type(caught.value) is expected
            if expected is not coro.Shutdown:
                assert caught.value.args[0] is co  # D-23: the coroutine, not the scheduler
                assert repr(co) in str(caught.value)
        else:
            assert operation(co) is None
            assert expected == (co.dead, co.started, co.scheduled)
        if not co.dead and state != "R":
            co.shutdown()
            coro.yield_slice()
            assert co.dead

    loop(main)


def test_D_33_interrupt_on_one_that_has_not_started_is_an_error(loop):
    """The deprecated interrupt() neither starts a coroutine nor drops its exception silently."""

    def main():
        co = coro.new(coro.suspend)
        with pytest.warns(DeprecationWarning, match="interrupt"), pytest.raises(coro.NotStartedError):
            co.interrupt()
        assert (False, False, False) == (co.dead, co.started, co.scheduled)
        co.shutdown()

    loop(main)


def test_interrupt_raises_interrupted_with_its_value(loop):
    """interrupt(value) raises Interrupted(value) in a blocked coroutine, and is refused by a ready one."""
    seen = []

    def body():
        try:
            coro.suspend()
        except coro.Interrupted as exc:
            seen.append(exc.args)

    def main():
        co = coro.spawn(body)
        coro.yield_slice()
        with pytest.warns(DeprecationWarning, match="interrupt"):
            co.interrupt(5)
        with pytest.warns(DeprecationWarning, match="interrupt"), pytest.raises(coro.ScheduleError):
            co.interrupt(6)
        co.join()

    loop(main)

    assert [(5,)] == seen


def test_shutdown_of_itself_raises_in_place(loop):
    """A coroutine that shuts itself down ends there, silently, with its finally blocks run."""
    ran = []

    def body():
        try:
            coro.current().shutdown()
            ran.append("not reached")
        finally:
            ran.append("finally")

    loop(lambda: coro.spawn(body).join())

    assert ["finally"] == ran


def test_suspend_returns_the_value_of_schedule(loop):
    """Any value, None and () included, is what suspend() returns; that of the first start is dropped."""
    got = []

    def body():
        for _ in range(4):
            got.append(coro.suspend())

    def main():
        co = coro.new(body)
        co.schedule("dropped")
        for value in (None, (), 0, Boom("not raised")):
            coro.yield_slice()
            co.schedule(value)
        co.join()

    loop(main)

    assert [None, (), 0] == got[:3]
    assert isinstance(got[3], Boom)


def test_of_several_exceptions_the_last_one_is_delivered(loop):
    """Two raised before the target runs: it sees the second, once."""
    seen = []

    def body():
        try:
            coro.suspend()
        except Exception as exc:
            seen.append(exc)
            coro.sleep_relative(0.001)

    def main():
        co = coro.spawn(body)
        coro.yield_slice()
        co.raise_exception(ValueError("first"))
        co.raise_exception(Boom("second"))
        co.join()

    loop(main)

    assert ["second"] == [str(exc) for exc in seen]


@pytest.mark.parametrize("junk", [None, 5, "Boom", object(), int, [Boom]])
def test_raise_exception_refuses_what_is_no_exception(loop, junk):
    """TypeError at once, in the caller; the target is left alone."""

    def main():
        co = coro.spawn(coro.suspend)
        coro.yield_slice()
        with pytest.raises(TypeError, match="can only raise an exception"):
            co.raise_exception(junk)
        assert not co.scheduled
        co.shutdown()

    loop(main)


def test_an_exception_may_be_raised_in_one_that_runs_in_the_same_pass(loop):
    """Two sleepers with one deadline wake together; the first can still raise in the second."""
    seen = []

    def body(when):
        try:
            coro.sleep_absolute(when)
        except Boom:
            seen.append("boom")

    def main():
        when = coro.get_now() + 5_000_000
        co = coro.new(body, when)
        coro.spawn(co.start)
        coro.sleep_absolute(when)
        assert co.scheduled
        co.raise_exception(Boom)
        coro.yield_slice()
        assert ["boom"] == seen

    loop(main)


def test_D_37_shutting_down_many_ready_ones_is_linear(loop):
    """20,000 ready coroutines are shut down in time proportional to their number."""
    import time

    def main():
        def cost(count):
            children = [coro.spawn(coro.suspend) for _ in range(count)]
            coro.yield_slice()
            for co in children:
                co.schedule()
            begin = time.process_time()
            for co in reversed(children):
                co.shutdown()
            spent = time.process_time() - begin
            coro.yield_slice()
            assert all(co.dead for co in children)
            return spent

        times = [(cost(2000), cost(20000)) for _ in range(5)]  # by turns: the machine may be busy for a while
        assert min(many for _, many in times) < 50 * min(few for few, _ in times)  # quadratic would be 100

    loop(main)


# -- making ----------------------------------------------------------------------------------------------------------


def test_spawn_and_new_pass_arguments_on(loop):
    """Any number of positional and keyword arguments arrive, also one named fun."""

    def body(*args, **kwargs):
        return args, kwargs

    def main():
        for count in range(6):
            args = tuple(range(count))
            assert coro.spawn(body, *args).result() == (args, {})
            assert coro.spawn(body, *args, fun=1, self=2, thread_name="x").result() == (args, {"fun": 1, "self": 2})
        co = coro.new(body, 1, a=2)
        co.start()
        assert co.result() == ((1,), {"a": 2})

    loop(main)


def generator_function():
    yield


async def async_function():
    pass


async def async_generator_function():
    yield


class Method:
    def generator(self):
        yield


@pytest.mark.parametrize("make", [coro.spawn, coro.new])
@pytest.mark.parametrize(
    "junk",
    [
        None,
        5,
        "function",
        generator_function,
        async_function,
        async_generator_function,
        Method().generator,
        functools.partial(async_function),
    ],
)
def test_spawn_refuses_at_once_what_cannot_run(make, junk):
    """TypeError before anything is made, also before the loop."""
    before = len(coro.all_threads)

    with pytest.raises(TypeError):
        make(junk)

    assert before == len(coro.all_threads)


@pytest.mark.parametrize("make", [coro.spawn, coro.new])
@pytest.mark.parametrize("name", [b"bytes", 5, ["x"]])
def test_D_26_a_wrong_name_is_refused_before_anything_is_made(make, name):
    """TypeError, and no orphan runs later."""
    before = len(coro.all_threads)

    with pytest.raises(TypeError, match="name of a coroutine"):
        make(print, thread_name=name)

    assert before == len(coro.all_threads)


def test_any_callable_can_be_spawned(loop):
    """Classes, builtins, partials and objects with __call__ run like functions; Shrapnel's proxy spawns a class."""

    class Callable:
        def __call__(self):
            return "called"

    def main():
        assert coro.spawn(dict, a=1).result() == {"a": 1}
        assert coro.spawn(len, "abc").result() == 3
        assert coro.spawn(functools.partial(int, "7")).result() == 7
        assert coro.spawn(Callable()).result() == "called"
        assert coro.spawn("abc".upper).result() == "ABC"

    loop(main)


def test_a_coroutine_begins_with_a_copy_of_the_context_of_its_spawner(loop):
    """Context variables are inherited at the spawn and private afterwards, also in a greenlet that is used again."""
    var = contextvars.ContextVar("var", default="unset")
    seen = []

    def body(value):
        seen.append(var.get())
        var.set(value)
        coro.yield_slice()
        seen.append(var.get())

    def main():
        coro.spawn(body, "lost").join()
        var.set("inherited")
        children = [coro.spawn(body, number) for number in (1, 2)]
        var.set("later")
        for co in children:
            co.join()
        assert var.get() == "later"

    loop(main)

    assert ["unset", "lost", "inherited", "inherited", 1, 2] == seen


# -- names, ids, the registry ----------------------------------------------------------------------------------------


def test_names_and_repr(loop):
    """The default name is the qualified name; set_name is chainable; the repr has the form that Shrapnel's has."""

    def main():
        co = coro.spawn(coro.suspend)
        assert co.name == co.get_name() == "suspend"
        assert co.set_name("bob") is co
        assert re.fullmatch(rf"<coro #{co.id} name='bob' dead=0 started=0 scheduled=1 at 0x[0-9a-f]+>", repr(co))
        coro.yield_slice()
        assert "dead=0 started=1 scheduled=0" in repr(co)
        assert co.set_name(None).name == "suspend"
        with pytest.raises(TypeError):
            co.set_name(b"bob")
        co.shutdown()
        co.join()
        assert "name='suspend' dead=1 started=1 scheduled=0" in repr(co)
        assert coro.spawn(print, end="", thread_name="n").name == "n"

    loop(main)


def test_D_53_ids_and_flags_are_read_only(loop):
    """AttributeError for each of them; nothing about the coroutine changes."""

    def main():
        co = coro.current()
        for name in ("id", "name", "dead", "started", "scheduled"):
            with pytest.raises(AttributeError):
                setattr(co, name, 1)

    loop(main)


def test_ids_are_never_used_twice(loop):
    """Ids go up by one from coroutine to coroutine, whatever ended meanwhile."""

    def main():
        first = coro.spawn(int)
        first.join()
        second = coro.spawn(int)
        assert second.id == first.id + 1

    loop(main)


def test_all_threads_holds_a_coroutine_from_its_making_to_its_end(loop):
    """It is there from spawn on, still there in its own notifier and gone before its joiners run."""
    seen = []

    def body():
        seen.append(coro.all_threads.get(coro.current().id) is coro.current())

    def main():
        co = coro.spawn(body)
        assert coro.all_threads[co.id] is co is coro.get_thread_by_id(co.id)
        assert co.id in list(coro.all_threads)
        assert coro.current().id in coro.all_threads
        co.join()
        assert co.id not in coro.all_threads
        with pytest.raises(KeyError):
            coro.get_thread_by_id(co.id)
        assert len(coro.all_threads) == 1 == coro.get_live_coros()
        assert repr(coro.all_threads) == repr({coro.current().id: coro.current()})

    loop(main)

    assert [True] == seen


def test_D_53_one_made_by_new_stays_registered_only_while_somebody_holds_it():
    """Ten made by new() and dropped leave no entry behind; one that is held is there, and gone once cancelled."""
    before = len(coro.all_threads)

    for _ in range(10):
        coro.new(print)
    held = coro.new(print)
    gc.collect()

    assert before + 1 == len(coro.all_threads)
    assert coro.all_threads[held.id] is held
    held.shutdown()
    assert held.id not in coro.all_threads


def test_the_function_and_its_arguments_are_let_go_at_the_end(loop):
    """A dead coroutine that somebody holds keeps neither function, arguments nor keyword arguments alive."""

    class Argument:
        pass

    def main():
        argument, keyword = Argument(), Argument()
        co = coro.spawn(lambda a, b: None, argument, b=keyword)
        seen = weakref.ref(argument), weakref.ref(keyword)
        del argument, keyword
        co.join()
        gc.collect()
        assert [None, None] == [ref() for ref in seen]

    loop(main)


# -- join and result -------------------------------------------------------------------------------------------------


def test_join_returns_none_however_the_target_ends(loop, failures):
    """After a return, an exception, a shutdown, a cancel, and on a dead one at once."""

    def fail():
        raise Boom

    def main():
        for co in (coro.spawn(int), coro.spawn(fail), coro.spawn(coro.suspend), coro.new(int)):
            if co.name == "suspend":
                coro.yield_slice()
                co.shutdown()
            if not co.scheduled and not co.started:
                co.shutdown()
            assert co.join() is None
            assert co.join() is None

    loop(main)

    assert isinstance(failures.pop(), Boom)


def test_join_of_one_that_has_not_started_waits_for_its_start_and_end(loop):
    """Joining a coroutine made by new() blocks until it has been started and has ended, or was cancelled."""
    ran = []

    def joiner(co):
        co.join()
        ran.append(co.started)

    def main():
        started, cancelled = coro.new(int), coro.new(int)
        waiting = [coro.spawn(joiner, started), coro.spawn(joiner, cancelled)]
        coro.yield_slice()
        assert not ran
        started.start()
        coro.yield_slice()
        cancelled.shutdown()
        for co in waiting:
            co.join()

    loop(main)

    assert [True, False] == ran


def test_D_08_schedule_does_not_end_a_join(loop):
    """A wake-up is a hint: the joiner looks, and goes on waiting."""

    def main():
        target = coro.spawn(coro.suspend)
        joiner = coro.spawn(target.join)
        coro.yield_slice()
        for _ in range(3):
            joiner.schedule("stray")
            coro.yield_slice()
            assert not joiner.dead
        target.schedule()
        joiner.join()

    loop(main)


def test_an_interrupted_joiner_leaves_no_trace(loop):
    """It is out of the list of joiners, and the end of the target wakes it no more."""
    ran = []

    def body(target):
        with pytest.raises(Boom):
            target.join()
        coro.sleep_relative(0.005)
        ran.append("slept")

    def main():
        target = coro.spawn(coro.suspend)
        joiner = coro.spawn(body, target)
        coro.yield_slice()
        joiner.raise_exception(Boom)
        coro.yield_slice()
        target.schedule()
        target.join()
        assert not ran
        joiner.join()

    loop(main)

    assert ["slept"] == ran


def test_join_of_itself_is_an_error(loop):
    """It could never come back: ScheduleError with the coroutine; an AssertionError too, as in Shrapnel."""

    def main():
        for expected in (coro.ScheduleError, AssertionError):
            with pytest.raises(expected, match="its own end") as caught:
                coro.current().join()
            assert caught.value.args[0] is coro.current()

    loop(main)


@pytest.mark.parametrize("name", ["join", "result"])
def test_join_and_result_with_a_timeout(loop, name):
    """TimeoutError when it expires, and the target goes on unharmed."""

    def main():
        target = coro.spawn(coro.suspend)
        with pytest.raises(coro.TimeoutError):
            getattr(target, name)(0.001)
        with pytest.raises(coro.TimeoutError):
            getattr(target, name)(timeout=0)
        assert not target.dead
        target.schedule()
        getattr(target, name)(timeout=10)

    loop(main)


def test_result_returns_or_raises_what_the_function_did(loop, failures):
    """The value or the very exception, as often as one asks."""
    boom = Boom("once")

    def fail():
        coro.yield_slice()
        raise boom

    def main():
        good, bad = coro.spawn(lambda: 42), coro.spawn(fail)
        assert [42, 42] == [good.result(), good.result()]
        depths = []
        for _ in range(3):
            with pytest.raises(Boom) as caught:
                bad.result()
            assert caught.value is boom
            depths.append(len(caught.traceback))
        assert len(set(depths)) == 1  # D-55: the traceback does not grow with each collector

    loop(main)

    assert [] == failures  # the collector was waiting, so the notifier was not told


def test_a_failure_that_nobody_waits_for_is_reported_although_it_is_collected_later(loop, failures):
    """The notifier is told at the end of the coroutine; result() still raises afterwards."""

    def fail():
        raise Boom

    def main():
        co = coro.spawn(fail)
        coro.yield_slice()
        assert isinstance(failures.pop(), Boom)
        with pytest.raises(Boom):
            co.result()

    loop(main)


def test_result_of_one_that_was_shut_down_or_cancelled(loop):
    """DeadCoroutine that says which."""

    def main():
        ended, cancelled = coro.spawn(coro.suspend), coro.new(int)
        coro.yield_slice()
        ended.shutdown()
        cancelled.shutdown()
        with pytest.raises(coro.DeadCoroutine, match="was shut down"):
            ended.result()
        with pytest.raises(coro.DeadCoroutine, match="was cancelled"):
            cancelled.result()

    loop(main)


# -- the main program ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "blocks",
    [coro.yield_slice, lambda: coro.semaphore(0).acquire(), lambda: coro.Queue().get(), lambda: coro.Event().wait()],
    ids=["yield", "semaphore", "queue", "event"],
)
def test_an_error_of_the_main_program_says_nothing_of_how_it_was_found_out(blocks):
    """The traceback has one error, not another "during handling of the above"."""
    with pytest.raises(coro.YieldFromMain) as caught:
        blocks()
    assert "During handling" not in "".join(traceback.format_exception(caught.value))


def test_neither_does_that_of_a_socket():
    """Whose calls find the kernel by themselves."""
    with coro.udp_sock() as sock, pytest.raises(coro.YieldFromMain) as caught:
        sock.recvfrom(1)
    assert "During handling" not in "".join(traceback.format_exception(caught.value))


def test_the_main_object_cannot_be_scheduled(loop):
    """current() in the main program is number -1, with Shrapnel's repr, and refuses every operation."""
    main = coro.current()

    assert main.id == -1
    assert re.fullmatch(
        r"<main_stub #-1 name='main/scheduler' dead=0 started=0 scheduled=0 at 0x[0-9a-f]+>", repr(main)
    )
    assert -1 not in coro.all_threads
    for name in ("start", "schedule", "shutdown", "join", "result"):
        with pytest.raises(coro.ScheduleError, match="main program"):
            getattr(main, name)()
    with pytest.raises(coro.ScheduleError):
        main.raise_exception(Boom)

    def body():
        assert coro.current() is not main
        with pytest.raises(coro.ScheduleError):
            coro.schedule(main)

    loop(body)
    assert coro.current() is main


@pytest.mark.parametrize("junk", [None, 5, [], object(), coro])
def test_D_06_schedule_of_what_is_no_coroutine(junk):
    """TypeError, where Shrapnel crashed."""
    with pytest.raises(TypeError, match="can only schedule a coroutine"):
        coro.schedule(junk)


def test_D_25_coro_coro_is_the_class(loop):
    """The documented name is the class of every coroutine, not the package."""
    assert isinstance(coro.coro, type)
    assert loop(lambda: isinstance(coro.current(), coro.coro))


def test_D_24_the_frame_of_one_that_does_not_run_is_not_that_of_the_asker(loop):
    """None before the start and after the end; of a blocked one, the innermost frame of the program."""

    def blocked():
        coro.suspend()

    def main():
        co = coro.spawn(blocked)
        assert co.get_frame() is None
        assert coro.where(co) == "not started"
        coro.yield_slice()
        assert co.get_frame().f_code is blocked.__code__
        assert "blocked|" in coro.where(co).split("]")[0]
        assert coro.current().get_frame().f_code is main.__code__
        assert "main|" in coro.where(coro.current()).split("]")[0]
        assert coro.where_all()[co.id][:2] == (
            "test_D_24_the_frame_of_one_that_does_not_run_is_not_that_of_the_asker.<locals>.blocked",
            co,
        )
        co.shutdown()
        co.join()
        assert co.get_frame() is None
        assert coro.where(co) == "dead"

    loop(main)


def test_all_threads_can_be_walked_while_coroutines_come_and_go(loop):
    """Its views are copies: to wait for each in turn is the natural thing to do."""

    def main():
        for _ in range(3):
            coro.spawn(coro.yield_slice)
        for co in coro.all_threads.values():
            if co is not coro.current():
                co.join()
        for number, co in coro.all_threads.items():
            assert co.id == number
            coro.spawn(int).join()
        assert list(coro.all_threads) == [coro.current().id]

    loop(main)


def test_a_function_whose_repr_fails_does_no_harm(loop):
    """It has no name, so its repr would be that of the coroutine, which is needed when it ends."""

    class Body:
        def __repr__(self):
            raise RuntimeError("no repr")

        def __call__(self):
            return 7

    def main():
        co = coro.spawn(Body())
        assert "Body object at" in co.name
        assert co.result() == 7
        assert "Body object at" in repr(co)

    loop(main)
