"""ThreadLocal (A14, D-12, D-12b), measured by the standard library's threading.local.

What both promise is tested on both: on `threading.local` with threads, on `ThreadLocal` with coroutines and, for the
main programs, with threads.
"""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import weakref

import pytest
from greenlet import greenlet

import coro
from coro.local import ThreadLocal


class Value:
    """Something that weakref can watch."""


def in_thread(function, *args):
    """Call *function* in a thread of its own and return or raise what comes of it."""
    outcome = []

    def body():
        try:
            outcome.append((function(*args), None))
        except Exception as exc:
            outcome.append((None, exc))

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    value, error = outcome.pop()
    if error is not None:
        try:
            raise error
        finally:
            del error
    return value


def in_coroutine(function, *args):
    """The same in a coroutine, and while it lives the caller's values are set aside by others."""
    return coro.spawn(function, *args).result()


@pytest.fixture(params=["threading.local", "coroutines", "coroutines and main", "threads"])
def kind(request, poller):
    """(class, how to call something as somebody else, how to run the test itself)."""

    def directly(function):
        function()

    def in_loop(function):
        coro.run(function)

    def elsewhere_in_loop(function, *args):
        return coro.run(function, *args)

    return {
        "threading.local": (threading.local, in_thread, directly),
        "coroutines": (ThreadLocal, in_coroutine, in_loop),
        "coroutines and main": (ThreadLocal, elsewhere_in_loop, directly),
        "threads": (ThreadLocal, in_thread, directly),
    }[request.param]


@pytest.fixture
def local_class(kind):
    return kind[0]


@pytest.fixture
def elsewhere(kind):
    """Calls a function as somebody else: in another coroutine or thread."""
    return kind[1]


@pytest.fixture
def check(kind, failures):
    """Runs the body of the test."""
    return kind[2]


# -- what threading.local does, too ----------------------------------------------------------------------------------


def test_attributes_are_private_to_each(check, local_class, elsewhere):
    """Set, read, delete; nobody sees anything of the others."""

    def other(local):
        assert not hasattr(local, "x")
        assert local.__dict__ == {}
        local.x = "other"
        local.y = 1
        del local.y
        return local.x, dict(local.__dict__)

    def body():
        local = local_class()
        local.x = "mine"
        assert elsewhere(other, local) == ("other", {"x": "other"})
        assert elsewhere(other, local) == ("other", {"x": "other"})
        assert local.x == "mine"
        assert not hasattr(local, "y")

    check(body)


def test_what_is_not_set_is_an_attribute_error(check, local_class):
    """Read and delete, with name and object in the exception; getattr takes a default."""

    def body():
        local = local_class()
        with pytest.raises(AttributeError, match="zz") as caught:
            _ = local.zz
        assert caught.value.name == "zz"
        with pytest.raises(AttributeError, match="zz"):
            del local.zz
        assert getattr(local, "zz", 5) == 5
        local.zz = 1
        del local.zz
        with pytest.raises(AttributeError):
            _ = local.zz

    check(body)


def test_two_objects_have_nothing_in_common(check, local_class, elsewhere):
    """The same name in both is two values."""

    def body():
        one, two = local_class(), local_class()
        one.x = 1
        assert not hasattr(two, "x")
        two.x = 2
        assert one.x == 1
        assert elsewhere(lambda: (hasattr(one, "x"), hasattr(two, "x"))) == (False, False)

    check(body)


def test_dict_is_that_of_whoever_asks(check, local_class, elsewhere):
    """It is live both ways, vars() and dir() see it, and it can be neither replaced nor deleted."""

    def other(local, theirs):
        assert local.__dict__ is not theirs
        local.__dict__["x"] = "other"
        return local.x

    def body():
        local = local_class()
        local.x = 1
        mine = local.__dict__
        assert mine is vars(local) is local.__dict__
        mine["y"] = 2
        assert local.y == 2
        assert {"x", "y"} <= set(dir(local))
        assert elsewhere(other, local, mine) == "other"
        assert mine == {"x": 1, "y": 2}
        with pytest.raises(AttributeError, match="read-only"):
            local.__dict__ = {}
        with pytest.raises(AttributeError, match="read-only"):
            del local.__dict__
        assert mine == {"x": 1, "y": 2}

    check(body)


def test_constructor_arguments_need_an_init(check, local_class):
    """TypeError for a plain object with arguments; a subclass with __init__ takes them."""

    def body():
        with pytest.raises(TypeError):
            local_class(1)
        with pytest.raises(TypeError):
            local_class(a=1)

        class Plain(local_class):
            pass

        with pytest.raises(TypeError):
            Plain(1)

    check(body)


def test_D_12b_init_of_a_subclass_runs_for_each(check, local_class, elsewhere):
    """Once for each that uses the object, at the first use there, with the constructor's arguments."""
    calls = []

    class Mine(local_class):
        def __init__(self, *args, **kwargs):
            calls.append((args, kwargs))
            self.x = len(calls)
            self.args = args

    def other(local):
        assert local.x == local.x == len(calls)
        assert local.args == (1, 2)
        local.x = "changed"

    def body():
        local = Mine(1, 2, a=3)
        assert len(calls) == 1
        elsewhere(other, local)
        elsewhere(other, local)
        assert local.x == 1

    check(body)

    assert calls == [((1, 2), {"a": 3})] * 3


@pytest.mark.parametrize("use", ["get", "set", "delete", "method"])
def test_D_12b_any_first_use_runs_init(check, local_class, elsewhere, use):
    """Setting and deleting, too."""

    class Mine(local_class):
        def __init__(self):
            self.x = self.y = 1

        def method(self):
            return self.x

    def other(local):
        if use == "get":
            assert local.x == 1
        elif use == "set":
            local.y = 2
        elif use == "delete":
            del local.y
        else:
            assert local.method() == 1
        return local.x

    def body():
        assert elsewhere(other, Mine()) == 1

    check(body)


def test_an_init_that_fails_is_tried_again(check, local_class, elsewhere):
    """Its exception leaves the access; nothing of the failed attempt is kept."""
    attempts = []

    class Mine(local_class):
        def __init__(self):
            attempts.append(1)
            if len(attempts) == 2:
                self.half_done = True
                raise ZeroDivisionError
            self.x = "fine"

    def other(local):
        with pytest.raises(ZeroDivisionError):
            _ = local.x
        assert local.x == "fine"
        assert not hasattr(local, "half_done")

    def body():
        elsewhere(other, Mine())

    check(body)


def test_D_12b_class_attributes_are_defaults(check, local_class, elsewhere):
    """What is set on the object wins, for the one who has set it; deleting it brings the default back."""

    class Mine(local_class):
        x = "default"

    def body():
        local = Mine()
        assert local.x == "default"
        with pytest.raises(AttributeError):
            del local.x
        local.x = "mine"
        assert local.x == "mine"
        assert elsewhere(lambda: local.x) == "default"
        del local.x
        assert local.x == "default"
        assert Mine.x == "default"

    check(body)


def test_methods_and_properties_work_on_the_values_of_the_caller(check, local_class, elsewhere):
    """A property with and without setter and deleter; static and class methods; self is the object."""

    class Mine(local_class):
        @property
        def double(self):
            return 2 * self.x

        @double.setter
        def double(self, value):
            self.x = value // 2

        @double.deleter
        def double(self):
            del self.x

        @property
        def fixed(self):
            return 1

        def me(self):
            return self

        @classmethod
        def kind(cls):
            return cls

        @staticmethod
        def static():
            return "static"

    def other(local):
        local.double = 20
        assert local.x == 10
        return local.double

    def body():
        local = Mine()
        local.double = 4
        assert elsewhere(other, local) == 20
        assert (local.x, local.double) == (2, 4)
        del local.double
        assert not hasattr(local, "x")
        with pytest.raises(AttributeError):
            local.fixed = 2
        with pytest.raises(AttributeError):
            del local.fixed
        assert local.me() is local
        assert local.kind() is Mine
        assert local.static() == "static"

    check(body)


def test_a_data_descriptor_wins_over_the_dict_and_other_descriptors_do_not(check, local_class):
    """As for any object."""

    class NonData:
        def __get__(self, instance, owner):
            return "non-data"

    class SetOnly:
        def __set__(self, instance, value):
            instance.__dict__["stored"] = value

    class Mine(local_class):
        data = property(lambda self: "data")
        non_data = NonData()
        set_only = SetOnly()

    def body():
        local = Mine()
        local.__dict__["data"] = local.__dict__["non_data"] = "dict"
        assert local.data == "data"
        assert local.non_data == "dict"
        del local.non_data
        assert local.non_data == "non-data"
        local.set_only = 5
        assert local.stored == 5

    check(body)


def test_getattr_of_a_subclass_is_the_last_resort(check, local_class):
    """And __setattr__, __getattribute__ and __delattr__ may be overridden with super()."""
    log = []

    class Mine(local_class):
        def __getattr__(self, name):
            return f"made up {name}"

        def __setattr__(self, name, value):
            log.append(name)
            super().__setattr__(name, value)

        def __delattr__(self, name):
            log.append(f"del {name}")
            super().__delattr__(name)

        def __getattribute__(self, name):
            if name == "secret":
                raise AttributeError(name)
            return super().__getattribute__(name)

    def body():
        local = Mine()
        assert local.x == "made up x"
        local.x = 1
        assert local.x == 1
        local.__dict__["secret"] = 1
        assert local.secret == "made up secret"
        del local.x
        assert log == ["x", "del x"]

    check(body)


def test_slots_are_shared(check, local_class, elsewhere):
    """Only the dict is private, as the documentation of threading.local says."""

    class Mine(local_class):
        __slots__ = ("shared",)

    def other(local):
        seen = local.shared
        local.shared = "other"
        local.private = "other"
        return seen

    def body():
        local = Mine()
        local.shared = local.private = "mine"
        assert elsewhere(other, local) == "mine"
        assert local.shared == "other"
        assert local.private == "mine"
        assert local.__dict__ == {"private": "mine"}

    check(body)


def test_a_subclass_may_be_unhashable_and_compare_as_it_likes(check, local_class, elsewhere):
    """Identity is what counts for us."""

    class Mine(local_class):
        __hash__ = None

        def __eq__(self, other):
            return True

    def body():
        one, two = Mine(), Mine()
        one.x = 1
        assert not hasattr(two, "x")
        assert elsewhere(hasattr, one, "x") is False

    check(body)


def test_isinstance_repr_and_weakref_work(check, local_class):
    """It is an ordinary object in every other respect."""

    class Mine(local_class):
        pass

    def body():
        local = Mine()
        assert isinstance(local, local_class)
        assert local.__class__ is Mine
        assert "Mine object at 0x" in repr(local)
        assert weakref.ref(local)() is local
        assert {local: 1}[local] == 1
        assert local == local
        assert local.__doc__ is None

    check(body)


@pytest.mark.parametrize("attempt", [copy.copy, copy.deepcopy, pickle.dumps], ids=["copy", "deepcopy", "pickle"])
def test_it_cannot_be_copied_or_pickled(check, local_class, attempt):
    """Nobody could say whose values to take."""

    def body():
        local = local_class()
        local.x = 1
        with pytest.raises(TypeError):
            attempt(local)

    check(body)


def test_it_has_no_attributes_but_those_that_were_set(check, local_class):
    """Nothing of how it is made gets in the way of a name."""

    def body():
        local = local_class()
        names = ["_storage", "dicts", "args", "values", "key", "__dicts", "__arguments", "_ThreadLocal__x"]
        for name in names:
            assert not hasattr(local, name)
            setattr(local, name, name)
        assert local.__dict__ == {name: name for name in names}

    check(body)


def test_D_12_values_go_with_the_object(check, local_class):
    """At once, without the garbage collector."""

    def body():
        gc.disable()
        try:
            local, value = local_class(), Value()
            local.x = value
            ref = weakref.ref(value)
            del value
            assert ref() is not None
            del local
            assert ref() is None
        finally:
            gc.enable()

    check(body)


def test_values_go_with_the_one_who_set_them(check, local_class, elsewhere):
    """At its end, although the object lives, and although a value refers to the object."""
    refs = []

    def other(local):
        local.x, local.itself, local.me = Value(), local, coro.current()
        refs.append(weakref.ref(local.x))

    def body():
        local = local_class()
        for _ in range(3):
            elsewhere(other, local)
        gc.collect()
        assert [ref() for ref in refs] == [None] * 3

    check(body)


def test_a_cycle_through_the_object_is_collected(check, local_class):
    """A value that refers to the object keeps neither alive."""

    def body():
        local, value = local_class(), Value()
        local.x, value.local = value, local
        refs = weakref.ref(local), weakref.ref(value)
        del local, value
        gc.collect()
        assert [ref() for ref in refs] == [None, None]

    check(body)


def test_D_12_a_new_object_never_shows_values_of_an_old_one(check, local_class, elsewhere):
    """Whatever address it gets."""

    def use(local):
        assert not hasattr(local, "x")
        local.x = 1

    def body():
        for _ in range(50):
            local = local_class()
            use(local)
            elsewhere(use, local)

    check(body)


# -- what only coroutines do -----------------------------------------------------------------------------------------


def test_values_survive_blocking(loop):
    """Two coroutines that take turns see their own values, before and after; so does the one that made the object."""
    local = ThreadLocal()

    def child(value, turn):
        assert not hasattr(local, "x")
        turn()
        with pytest.raises(AttributeError):
            _ = local.x
        local.x = value
        for _ in range(3):
            turn()
            assert local.x == value

    def main():
        local.x = 1
        children = [coro.spawn(child, number, turn) for number, turn in ((2, coro.yield_slice), (3, coro.suspend))]
        while not all(co.dead for co in children):
            coro.yield_slice()
            assert local.x == 1
            if not children[1].scheduled and not children[1].dead:
                children[1].schedule()

    loop(main)


def test_D_12_the_main_program_keeps_its_own_before_in_and_after_the_loop(loop):
    """What it has set stays, and no coroutine sees it."""
    local = ThreadLocal()
    local.x = "main"

    def main():
        assert not hasattr(local, "x")
        local.x = "coroutine"

    for number in range(2):
        loop(main)
        assert local.x == "main"
        assert local.__dict__.pop("number", None) == (number - 1 if number else None)
        local.number = number


def test_the_values_of_a_coroutine_go_at_its_end_even_if_somebody_holds_it(loop):
    """The coroutine object may stay in a list for ever."""
    local = ThreadLocal()
    refs = []

    def body():
        local.x = Value()
        local.x.me = coro.current()
        refs.append(weakref.ref(local.x))
        coro.suspend()

    def main():
        gc.disable()
        try:
            held = [coro.spawn(body), coro.spawn(body)]
            coro.yield_slice()
            held[0].schedule()
            held[1].shutdown()
            coro.yield_slice()
            assert [co.dead for co in held] == [True, True]
            assert [ref() for ref in refs] == [None, None]
        finally:
            gc.enable()

    loop(main)


def test_a_reused_greenlet_does_not_bring_values_along(loop):
    """The next coroutine in the same greenlet begins with nothing."""
    local = ThreadLocal()

    def main():
        for number in range(20):
            assert coro.spawn(lambda: hasattr(local, "x") or setattr(local, "x", 1)).result() is None, number

    loop(main)


def test_coroutines_of_several_threads_share_one_object(poller, failures):
    """Loops in several threads at once, each with its main program and its coroutines."""
    local = ThreadLocal()
    wrong = []

    def child(value):
        local.x = value
        for _ in range(50):
            coro.yield_slice()
            if local.x != value or local.__dict__ != {"x": value}:
                wrong.append((value, local.__dict__))

    def main(number):
        local.x = number
        for co in [coro.spawn(child, (number, n)) for n in range(5)]:
            co.join()
        assert local.x == number

    def body(number):
        local.x = "main", number
        coro.run(main, number)
        if local.x != ("main", number):
            wrong.append(number)

    threads = [threading.Thread(target=body, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert not hasattr(local, "x")


def test_a_foreign_greenlet_has_the_values_of_its_coroutine(loop):
    """One that a library has made on top of a coroutine, blocking there or not."""
    local = ThreadLocal()

    def inside():
        seen = local.x
        coro.yield_slice()
        local.y = 2
        return seen

    def other():
        local.x = "other"
        coro.yield_slice()

    def main():
        local.x = 1
        coro.spawn(other)
        assert greenlet(inside).switch() == 1
        assert local.__dict__ == {"x": 1, "y": 2}

    loop(main)


def test_an_init_may_block(loop):
    """The other coroutine's goes on meanwhile."""

    class Slow(ThreadLocal):
        def __init__(self):
            coro.yield_slice()
            self.owner = coro.current()
            coro.yield_slice()

    def main():
        local = Slow()
        children = [coro.spawn(lambda: local.owner is coro.current()) for _ in range(3)]
        assert [co.result() for co in children] == [True] * 3

    loop(main)


def test_a_thread_without_a_loop_has_values_of_its_own(loop):
    """As a main program; those of the coroutine are not seen."""
    local = ThreadLocal()

    def main():
        local.x = 1
        assert in_thread(hasattr, local, "x") is False
        assert local.x == 1

    loop(main)
