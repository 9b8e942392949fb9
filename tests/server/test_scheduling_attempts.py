"""A scheduler over crashes, short attempts and missed deadlines: what it knows afterwards."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scheduled_fleet import PRUNED, SETTINGS, Stubborn, choices, fleet, obey, run

from fedpeft.journal import EventKind
from fedpeft.scheduling import ClassTimes, Grid, Setting
from fedpeft.server.scheduling import SchedulingSettings


class Killed(Exception):
    pass


def killed_at(of, kind, count):
    """Run until so many events of a kind are on record."""
    left = [count]

    def kill(event):
        left[0] -= event.kind is kind
        if event.kind is kind and left[0] == 0:
            raise Killed

    of.journal.subscribe(kill)
    with pytest.raises(Killed):
        of.run()
    of.journal.close()


DEADLINE_GRID = Grid(ranks=(8,), ratios=(0.0,), codecs=("fp32",), steps=(16, 24))  # 8 and 12 s; the deadline is 10 s
DEADLINE = SchedulingSettings(DEADLINE_GRID, (100.0, 100.0), full_rank=8)


@pytest.mark.parametrize("name", ["pacing", "ucb", "oracle"])
def test_an_arm_that_always_misses_the_deadline_is_given_up(tmp_path, name):
    times = {"default": ClassTimes(4, (8.0, 12.0))} if name == "oracle" else None
    of = run(fleet(), tmp_path, name, replace(DEADLINE, times=times), run__rounds=20)
    of.run()
    late = [place for number, _, place in choices(of) if number > 10]
    assert late.count(0) >= 0.8 * len(late), late


def stubborn(folder):
    of = run(fleet(), folder, "random", DEADLINE, run__rounds=2, round__attempts=2)
    of.coordinator.state.scheduling.scheduler = Stubborn()
    of.coordinator.state.scheduling.scheduler.begin(Setting(DEADLINE_GRID))
    return of


def test_deadlines_missed_in_an_attempt_that_came_short_are_learned_for_the_next(tmp_path):
    of = stubborn(tmp_path)
    of.run()
    places = [(event.attempt, event.payload["place"]) for event in of.journal.events(EventKind.ARM_CHOSEN)]
    assert places[:8] == [(1, 1)] * 4 + [(2, 0)] * 4
    assert {place for _, place in places[8:]} == {0}
    assert of.coordinator.state.scheduling.scheduler.missed == [[f"c0{k}", 1, 0.5, 0.0] for k in range(4)]


@pytest.mark.parametrize(("kind", "count"), [(EventKind.ARM_REWARDED, 2), (EventKind.ROUND_SHORT, 1)])
def test_a_resumed_run_knows_what_was_missed_before_it_was_killed(tmp_path, kind, count):
    whole = stubborn(tmp_path / "whole")
    whole.run()
    killed_at(stubborn(tmp_path / "parts"), kind, count)
    again = stubborn(tmp_path / "parts")
    again.run()
    known = [scheduling.coordinator.state.scheduling.scheduler.missed for scheduling in (again, whole)]
    assert known[0] == known[1], "each of them once"
    assert dict(last(choices(again))) == dict(last(choices(whole)))


@pytest.mark.parametrize("name", ["ucb", "thompson", "tree", "exp3", "random", "pacing"])
@pytest.mark.parametrize("kind", [EventKind.ARM_CHOSEN, EventKind.ARM_REWARDED, EventKind.COMMITTED])
@pytest.mark.parametrize("settings", [SETTINGS, PRUNED], ids=["whole", "pruned"])
def test_killed_and_resumed_it_makes_the_same_choices(tmp_path, name, kind, settings):
    options = {"run__rounds": 6, "round__ask": 3, "settings": settings}
    whole = run(fleet(), tmp_path / "whole", name, **options)
    theta = whole.run()
    killed_at(run(fleet(), tmp_path / "parts", name, **options), kind, 8 if kind is not EventKind.COMMITTED else 4)
    again = run(fleet(), tmp_path / "parts", name, **options)
    assert (again.run() == theta).all()
    assert dict(last(choices(again))) == dict(last(choices(whole)))
    assert dict(last(again.told(EventKind.ARM_REWARDED, "reward"))) == dict(
        last(whole.told(EventKind.ARM_REWARDED, "reward"))
    )


def last(rows):
    """(round, client) -> value; of a round that was begun twice, the later."""
    return [((number, client), value) for number, client, value in rows]


def test_an_attempt_that_came_to_nothing_taught_nothing(tmp_path):
    """A round that is short in its first attempt makes the choices of one that had the scheduler of before."""
    found, state = fleet(), {}
    found["c00"].train = found["c01"].train = lambda frame: obey(found["c02"])(frame) if frame.attempt > 1 else b""
    of = run(found, tmp_path, round__min_replies=3, run__rounds=1)
    before = of.coordinator.state.scheduling.state()

    def watch(event):
        if event.kind is EventKind.ROUND_SHORT:
            state["after"] = of.coordinator.state.scheduling.state()

    of.journal.subscribe(watch)
    of.run()
    assert of.told(EventKind.ROUND_SHORT)
    assert state["after"] == before
    assert {number for number, _ in of.told(EventKind.ARM_REWARDED)} == {1}
