"""A scheduler that would prune everybody: who trains the whole model so that all can be judged."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from scheduled_fleet import PRUNED, Pruner, choices, fleet, pruner, run

from fedpeft.journal import EventKind
from fedpeft.scheduling import ClassTimes


def test_two_of_a_cohort_train_the_whole_model_so_that_all_can_be_judged(tmp_path):
    of = pruner(fleet(), tmp_path, run__rounds=8)
    of.run()
    forced = Counter()
    for event in of.journal.events(EventKind.ARM_CHOSEN):
        if event.round > 1:
            assert (event.payload["place"] == 0) == event.payload["why"].startswith("to judge others: ")
            assert event.payload["probability"] == (1.0 if event.payload["place"] == 0 else 0.5)
            forced[event.client] += event.payload["place"] == 0
    assert sum(forced.values()) == 2 * 7
    assert all(0 < count < 7 for count in forced.values()), forced
    assert len(of.told(EventKind.ARM_REWARDED)) == 4 * 8
    assert all(gain is not None for *_, gain in of.told(EventKind.ARM_REWARDED, "gain"))


@pytest.mark.parametrize("name", ["fixed", "oracle", "random"])
def test_who_learns_nothing_is_left_to_choose(tmp_path, name):
    times = {"default": ClassTimes(4, (8.0, 0.1))} if name == "oracle" else None
    params = {"pruning": 0.5} if name == "fixed" else {}
    of = run(fleet(), tmp_path, name, replace(PRUNED, times=times), params, run__rounds=6)
    of.run()
    assert not any("judge" in why for *_, why in of.told(EventKind.ARM_CHOSEN, "why"))
    if name != "random":
        assert {place for number, _, place in choices(of) if number > 1} == {1}


class Silent(Pruner):
    """Says that it needs no judges, and notes what it is told."""

    needs_judges = False

    def begin(self, setting):
        super().begin(setting)
        self.told = []

    def observe(self, outcomes):
        self.told.append([(one.client, one.place, one.reward, one.seconds, one.offered) for one in outcomes])


def test_seconds_are_told_where_nobody_can_judge(tmp_path):
    scheduler = Silent()
    of = pruner(fleet(2), tmp_path, scheduler, run__rounds=2)
    of.run()
    assert scheduler.told[1] == [(f"c0{k}", 1, None, 2.0, (0, 1)) for k in range(2)]
    assert {number for number, _ in of.told(EventKind.ARM_REWARDED)} == {1}


def test_before_anything_is_pruned_who_fits_a_pruned_arm_alone_sits_out(tmp_path):
    found = fleet()
    found["c03"].info = {"memory_mb": 150}
    of = pruner(found, tmp_path, run__rounds=3)
    of.run()
    asked = [(frame.round, frame.client, frame.plan.pruning) for frame in found.asked]
    assert {client for number, client, _ in asked if number == 1} == {"c00", "c01", "c02"}
    assert {ratio for number, _, ratio in asked if number == 1} == {0.0}
    assert {ratio for number, client, ratio in asked if number > 1 and client == "c03"} == {0.5}
    ((number, client, reason),) = of.told(EventKind.SAT_OUT, "reason")
    assert (number, client) == (1, "c03")
    assert "pruning.start" in reason


def test_an_arm_that_is_not_yet_what_it_says_is_not_learned_of(tmp_path):
    """Half of the ratio in round 2: a quarter, which is no arm of the grid; all of it in round 3."""
    scheduler = Silent()
    of = pruner(fleet(2), tmp_path, scheduler, run__rounds=3, pruning__ramp=2, pruning__every=1)
    of.run()
    assert [len(told) for told in scheduler.told] == [2, 0, 2]
