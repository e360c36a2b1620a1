"""Ticks, POSIX time and the objects that stand for moments (B4, C3, D-32, D-44, D-45)."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

import coro
from coro.clocks import tsc_time
from coro.clocks.tsc_time import TSC, Posix, fPosix, uPosix

CLASSES = [TSC, Posix, uPosix, fPosix]
NAMES = {"ticks": int, "posix_sec": int, "posix_usec": int, "posix_fsec": float}
TICKS = st.integers(-(10**20), 10**20)
SECOND = 10**9  # ticks

each_class = pytest.mark.parametrize("kind", CLASSES)


@pytest.fixture(autouse=True)
def relation():
    """The relation of the clocks is taken before each test and not within it."""
    tsc_time.update_time_relation()


def at(kind, sec, fraction=0):
    """The moment of a POSIX time in seconds, and ticks beyond it."""
    return kind(tsc_time.sec_to_ticks(sec) + fraction)


# -- numbers ---------------------------------------------------------------------------------------------------------


def test_a_tick_is_a_nanosecond_of_the_clock_that_coro_sleeps_by():
    """rdtsc(), now_raw_tsc() and coro.get_now() are the same clock."""
    first, second, third = tsc_time.rdtsc(), coro.get_now(), tsc_time.now_raw_tsc()

    assert first <= second <= third
    assert tsc_time.ticks_per_sec == coro.ticks_per_sec == SECOND
    assert tsc_time.ticks_per_usec == coro.ticks_per_usec == 1000


def test_now_is_what_the_system_says():
    """In seconds, microseconds and as a float.  The relation is good to far less than a tenth of a second."""
    for now, scale in (
        (tsc_time.now_raw_posix_sec, 1),
        (tsc_time.now_raw_posix_usec, 10**6),
        (tsc_time.now_raw_posix_fsec, 1),
        (tsc_time.get_kernel_usec, 10**6),
    ):
        before = time.time()
        value = now() / scale
        after = time.time()
        assert before - 1.1 < value < after + 0.1


@given(TICKS)
def test_D_44_conversions_are_exact(number):
    """There and back again, for any number, also one before the machine was started or before 1970."""
    assert tsc_time.ticks_to_usec(tsc_time.usec_to_ticks(number)) == number
    assert tsc_time.ticks_to_sec(tsc_time.sec_to_ticks(number)) == number
    assert 0 <= number - tsc_time.usec_to_ticks(tsc_time.ticks_to_usec(number)) < 1000
    assert 0 <= number - tsc_time.sec_to_ticks(tsc_time.ticks_to_sec(number)) < SECOND


@given(st.floats(-1e9, 4e9))
def test_D_44_conversions_of_floats_are_good_to_a_microsecond(seconds):
    """There and back again."""
    assert tsc_time.ticks_to_fsec(tsc_time.fsec_to_ticks(seconds)) == pytest.approx(seconds, abs=2e-6)


def test_D_44_the_epoch_is_the_epoch():
    """POSIX time 0 is the first second of 1970, whenever the machine was started."""
    assert at(Posix, 0).mkstr_utc("%Y-%m-%d %H:%M:%S") == "1970-01-01 00:00:00"
    assert at(Posix, -1, SECOND - 1).mkstr_utc("%Y-%m-%d %H:%M:%S") == "1969-12-31 23:59:59"


def test_the_safe_conversions_leave_0_alone():
    """Any other number is converted."""
    assert tsc_time.usec_to_ticks_safe(0) == tsc_time.ticks_to_usec_safe(0) == 0
    assert tsc_time.usec_to_ticks_safe(10**15) == tsc_time.usec_to_ticks(10**15)
    assert tsc_time.ticks_to_usec_safe(5) == tsc_time.ticks_to_usec(5)


def test_the_relation_is_taken_when_the_clock_was_set(monkeypatch):
    """Until update_time_relation() is called, a tick keeps its date; then it has the date that the system says."""
    tick = tsc_time.rdtsc()
    before = tsc_time.ticks_to_usec(tick)
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + 3600 * SECOND)

    assert tsc_time.ticks_to_usec(tick) == before
    tsc_time.update_time_relation()
    assert tsc_time.ticks_to_usec(tick) - before == pytest.approx(3600 * 10**6, abs=10**6)


def test_the_relation_is_taken_anew_after_an_interval(monkeypatch):
    """By the first conversion after it, without any coroutine that does so."""
    tick = tsc_time.rdtsc()
    before = tsc_time.ticks_to_usec(tick)
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + 3600 * SECOND)
    monkeypatch.setattr(tsc_time, "tick_update_interval", 0)

    assert tsc_time.ticks_to_usec(tick) - before == pytest.approx(3600 * 10**6, abs=10**6)


def test_D_32_running_a_loop_leaves_the_module_time_alone(loop):
    """time.time is the standard one before, in and after the loop."""
    before = dict(vars(time))

    def main():
        coro.sleep_relative(0.001)
        return dict(vars(time))

    assert loop(main) == before
    assert vars(time) == before


# -- objects ---------------------------------------------------------------------------------------------------------


@each_class
def test_an_object_says_what_the_module_time_says(kind):
    """ctime, localtime, gmtime and strftime, of the same second."""
    moment = kind.now()
    second = moment.as_posix_sec()

    assert moment.ctime() == time.ctime(second)
    assert len(moment.ctime()) == 24
    assert moment.localtime() == time.localtime(second)
    assert moment.gmtime() == time.gmtime(second)
    assert moment.mkstr_local("%c %Z") == time.strftime("%c %Z", time.localtime(second))
    assert moment.mkstr_utc("%c") == time.strftime("%c", time.gmtime(second))
    assert repr(moment) == f"<{kind.__name__}: {time.ctime(second)}>"


@each_class
def test_an_object_is_kept_as_a_tick_which_cannot_be_changed(kind):
    """Only ints are ticks."""
    moment = kind(5)

    assert moment.tsc == 5
    with pytest.raises(AttributeError):
        moment.tsc = 6
    with pytest.raises(TypeError, match=r"a tick is an int, not 1\.5"):
        kind(1.5)


@pytest.mark.parametrize(("kind", "name"), list(itertools.product(CLASSES, NAMES)))
def test_the_constructors_agree_with_the_conversions(kind, name):
    """All sixteen of them."""
    make = getattr(tsc_time, f"{kind.__name__}_from_{name}")
    convert = {
        "ticks": lambda n: n,
        "posix_sec": tsc_time.sec_to_ticks,
        "posix_usec": tsc_time.usec_to_ticks,
        "posix_fsec": tsc_time.fsec_to_ticks,
    }[name]
    number = NAMES[name](1234567890)

    moment = make(number)

    assert type(moment) is kind
    assert moment.tsc == convert(number)


@pytest.mark.parametrize(
    ("name", "kind"), [("tsc", TSC), ("posix_sec", Posix), ("posix_usec", uPosix), ("posix_fsec", fPosix)]
)
def test_now_and_mktime_make_objects(name, kind):
    """now_tsc() and its likes, and mktime_tsc() and its likes, which turn a local time back."""
    before = tsc_time.rdtsc()
    now = getattr(tsc_time, f"now_{name}")()
    after = tsc_time.rdtsc()
    made = getattr(tsc_time, f"mktime_{name}")

    assert type(now) is kind
    assert before <= now.tsc <= after
    assert type(made(now.localtime())) is kind
    assert made(now.localtime()).localtime() == now.localtime()
    assert made(tuple(now.localtime())).as_posix_sec() == now.as_posix_sec()
    with pytest.raises(TypeError, match="a struct_time or a tuple of nine numbers"):
        made(5)
    with pytest.raises(ValueError, match="nine numbers, not 2"):
        made((2000, 1))
    with pytest.raises(ValueError, match="four digits"):
        made((99, 1, 1, 0, 0, 0, 0, 0, 0))


@pytest.mark.parametrize(("kind", "unit"), [(Posix, SECOND), (uPosix, 1000), (fPosix, SECOND)])
def test_an_object_counts_in_its_own_unit(kind, unit):
    """int() and float(), comparison with numbers on either side, and the hash of the number it is equal to."""
    moment = at(kind, 1000, 250_000_000)
    value = {Posix: 1000, uPosix: 1_000_250_000, fPosix: 1000.25}[kind]

    assert (int(moment), float(moment)) == (int(value), float(value))
    assert moment == value
    assert value == moment
    assert moment != value + 1
    assert hash(moment) == hash(value)
    assert value - 1 < moment < value + 1
    assert value - 0.5 <= moment <= value + 0.5
    assert not moment > value
    assert not value > moment
    assert moment >= value
    assert moment != "text"
    assert moment != None  # noqa: E711 - that is the comparison meant
    with pytest.raises(TypeError):
        assert moment < None


def test_a_TSC_counts_in_ticks():
    """Its unit is the tick itself."""
    assert int(TSC(7)) == 7
    assert TSC(7) == 7 < TSC(8)
    assert hash(TSC(7)) == hash(7)
    assert (TSC(7) + 3).tsc == 10


def test_two_of_one_class_are_compared_in_their_unit():
    """So two Posix of one second are equal, and have one hash; two TSC of that second are not."""
    one, other = (at(Posix, 1000, fraction) for fraction in (1, 2))
    assert one == other
    assert not one < other
    assert hash(one) == hash(other)
    assert TSC(one.tsc) != TSC(other.tsc)
    assert TSC(one.tsc) < TSC(other.tsc)


def test_different_classes_are_ordered_by_their_ticks():
    """Equal they never are, since their hashes differ."""
    for first, second in itertools.permutations(CLASSES, 2):
        assert at(first, 1000) < at(second, 1001)
        assert at(first, 1000) <= at(second, 1000)
        assert at(second, 1001) > at(first, 1000)
        assert at(second, 1000) >= at(first, 1000)
        assert at(first, 1000) != at(second, 1000)


@each_class
def test_units_can_be_added_and_subtracted(kind):
    """On either side of a plus; as int and as float; the result is another object of the class."""
    unit = {TSC: 1, Posix: SECOND, uPosix: 1000, fPosix: SECOND}[kind]
    moment = kind(50)

    for result, ticks in (
        (moment + 3, 50 + 3 * unit),
        (3 + moment, 50 + 3 * unit),
        (moment - 3, 50 - 3 * unit),
        (moment + 10**12, 50 + 10**12 * unit),
        (moment + 2.0, 50 + 2 * unit),
        (moment - 2.0, 50 - 2 * unit),
    ):
        assert type(result) is kind
        assert result.tsc == ticks
    assert moment.tsc == 50


@each_class
def test_D_45_the_difference_of_two_objects_is_a_number_of_units(kind):
    """Of one class only: for others it would not be clear which unit."""
    first, second = at(kind, 1000), at(kind, 1060)

    difference = {TSC: 60 * SECOND, uPosix: 60 * 10**6}.get(kind, 60)
    assert second - first == difference
    assert first - second == -difference
    with pytest.raises(TypeError):
        first - at(CLASSES[CLASSES.index(kind) - 1], 1000)


@each_class
def test_D_45_what_makes_no_sense_is_a_type_error(kind):
    """A number less a moment, the sum of two moments, and anything with a text."""
    moment = kind(50)

    for nonsense in (
        lambda: 5 - moment,
        lambda: moment + moment,
        lambda: moment + "5",
        lambda: "5" + moment,
        lambda: moment - "5",
        lambda: moment < "5",
    ):
        with pytest.raises(TypeError):
            nonsense()


@pytest.mark.parametrize("seconds", [600, 365 * 86400])
def test_times_in_the_past_convert_like_any_other(seconds):
    """Ten minutes and a year before now, which may be before the machine was started."""
    now = int(time.time())

    for kind in CLASSES:
        past = kind.from_posix_sec(now - seconds)
        assert past.as_posix_sec() == now - seconds
        assert past.as_posix_usec() == (now - seconds) * 10**6
        assert past.as_posix_fsec() == now - seconds
        assert past.localtime() == time.localtime(now - seconds)
