"""Devices that are off for a while and devices that get hot, and both the same after a restart."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fedpeft.config import DeviceTable
from fedpeft.journal import Event, EventKind
from fedpeft.simulation.devices import Device
from fedpeft.simulation.fleet import Fleet

CLIENT = "c00"


def fleet(seed=1, **keys):
    return Fleet({CLIENT: Device(DeviceTable(name="d", clients=1, **keys), 1.0)}, seed)


def event(kind, number, client=None, **payload):
    return Event(1, 0.0, kind, number, 1, client, payload)


def worked(found, number, seconds, lasted=None):
    """A round in which the client was at work for so long."""
    found.observe(event(EventKind.ACCEPTED, number, CLIENT, seconds=seconds))
    found.observe(event(EventKind.COMMITTED, number, seconds=seconds if lasted is None else lasted))


def test_a_device_that_is_never_off_takes_what_it_takes():
    assert fleet().until_done(CLIENT, 123.0, 45.0) == 45.0
    assert fleet(off_s=5.0).until_done(CLIENT, 0.0, math.inf) == math.inf


def slow(found, now, seconds, step=1e-3):
    """The same, by walking through time."""
    elapsed = done = 0.0
    while done < seconds - step / 2:
        done += step * is_on(found, now + elapsed)
        elapsed += step
    return elapsed


def is_on(found, now):
    """Whether a moment's work is done at once."""
    return found.until_done(CLIENT, now, 1e-9) < 1e-6


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("seconds", [0.5, 2.0, 7.3])
def test_work_waits_while_the_device_is_off(seed, seconds):
    found = fleet(seed, on_s=2.0, off_s=1.0)
    for now in (0.0, 0.7, 1.9, 2.4):
        assert found.until_done(CLIENT, now, seconds) == pytest.approx(slow(found, now, seconds), abs=0.02)


def test_devices_begin_anywhere_in_their_cycle():
    moments = [is_on(fleet(seed, on_s=1.0, off_s=1.0), 0.0) for seed in range(60)]
    assert 15 < sum(moments) < 45


@given(st.floats(0, 1e5), st.floats(0, 1e4), st.floats(0, 100))
def test_more_work_never_ends_sooner_and_never_before_it_could(now, seconds, more):
    found = fleet(on_s=50.0, off_s=20.0)
    took = found.until_done(CLIENT, now, seconds)
    assert took >= seconds
    assert found.until_done(CLIENT, now, seconds + more) >= took - 1e-6


def test_a_device_gets_hot_at_work_and_cools_down_at_rest():
    found = fleet(hot_factor=3.0, heat_s=100.0, cool_s=50.0)
    assert found.slowdown(CLIENT, 0.0) == 1.0
    worked(found, 1, 100.0)
    hot = found.slowdown(CLIENT, 100.0)
    assert hot == pytest.approx(1 + 2 * (1 - math.exp(-1)))
    assert found.slowdown(CLIENT, 150.0) == pytest.approx(1 + 2 * (1 - math.exp(-1)) * math.exp(-1))
    for number in range(2, 60):
        worked(found, number, 100.0)
    assert found.slowdown(CLIENT, 5900.0) == pytest.approx(3.0, abs=1e-6)


def test_what_was_not_committed_heats_nothing():
    found = fleet(hot_factor=3.0)
    for end in (EventKind.ROUND_SHORT, EventKind.RUN_STARTED):
        found.observe(event(EventKind.ACCEPTED, 1, CLIENT, seconds=500.0))
        found.observe(event(end, 1))
    worked(found, 1, 0.0)
    assert found.slowdown(CLIENT, 0.0) == 1.0


def test_the_time_of_the_run_goes_on_after_a_restart():
    """Two sessions whose clocks began elsewhere find the same moment."""
    first, second = fleet(), fleet()
    for found in (first, second):
        worked(found, 1, 12.5)
        worked(found, 2, 7.5)
    assert first.now(1000.3) == second.now(0.1) == 20.0
    assert first.now(1001.8) == second.now(1.6) == 21.5


def test_an_attempt_that_came_short_took_its_time_in_this_session_and_in_the_next():
    first, second = fleet(), fleet()
    worked(first, 1, 12.5)
    assert first.now(100.0) == 12.5
    first.observe(event(EventKind.ROUND_SHORT, 2, seconds=50.0))
    worked(second, 1, 12.5)
    second.observe(event(EventKind.ROUND_SHORT, 2, seconds=50.0))
    second.observe(event(EventKind.RUN_STARTED, None))
    assert first.now(150.0) == second.now(0.0) == 62.5
    assert first.now(151.0) == second.now(1.0) == 63.5
    for found, clock in ((first, 160.0), (second, 10.0)):
        worked(found, 2, 8.0)
        assert found.now(clock) == 70.5, "time never goes back"
    older = fleet()
    older.observe(event(EventKind.ROUND_SHORT, 1))
    assert older.now(7.0) == 0.0, "journals of older versions do not tell"


def test_a_late_answer_to_an_attempt_that_came_short_is_work_of_that_time():
    found = fleet(hot_factor=3.0, heat_s=100.0, cool_s=50.0)
    found.observe(event(EventKind.ROUND_SHORT, 1, seconds=30.0))
    found.observe(event(EventKind.ACCEPTED, 1, CLIENT, seconds=40.0))
    found.observe(Event(1, 0.0, EventKind.COMMITTED, 1, 2, None, {"seconds": 20.0}))
    heat = 1 - math.exp(-0.4)
    assert found.slowdown(CLIENT, 40.0) == pytest.approx(1 + 2 * heat), "it was done at 40 s"
    assert found.slowdown(CLIENT, 50.0) == pytest.approx(1 + 2 * heat * math.exp(-0.2))


def test_a_device_that_is_faster_when_hot_is_refused():
    with pytest.raises(ValidationError, match="hot_factor"):
        fleet(hot_factor=0.5)
