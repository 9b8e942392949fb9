"""A scheduler in asynchronous rounds: what it learns, its books, its judges."""

from __future__ import annotations

import pytest
from scheduled_fleet import fleet, pruner, run

from fedpeft.journal import EventKind


def test_asynchronous_rounds_learn_too(tmp_path):
    of = run(fleet(5), tmp_path, round__mode="async", round__ask=4, round__buffer=2, run__rounds=8)
    of.run()
    rewarded = of.told(EventKind.ARM_REWARDED, "reward")
    assert len(rewarded) == 16
    assert of.coordinator.state.scheduling.scheduler.state() != {}


def books(of):
    """What a scheduler has on its books, and what is really out."""
    scheduling, inflight = of.coordinator.state.scheduling, of.coordinator.state.inflight
    noted = sum((sum(counts.values()) for counts in scheduling._at_work.values()), 0)
    return len(scheduling._out), noted, {(one.round, one.attempt, one.client) for one in inflight.out()}


@pytest.mark.parametrize("bad", ["refused", "too old"])
def test_a_choice_that_nothing_will_be_learned_of_is_off_the_books(tmp_path, bad):
    """In asynchronous rounds whose reply is of no use is asked again at once, and so is never seen idle."""
    found = fleet(5)
    options = {"round__mode": "async", "round__ask": 4, "round__buffer": 2, "run__rounds": 30}
    if bad == "refused":
        found["c01"].train = lambda frame: b"rubbish"
    else:
        found["c01"].seconds = lambda frame: 12.0
        options |= {"round__max_staleness": 1, "round__deadline_s": 1000.0}
    of = run(found, tmp_path, **options)
    of.run()
    assert len(of.told(EventKind.REFUSED if bad == "refused" else EventKind.LATE)) > 1
    known, noted, out = books(of)
    assert known == noted <= len(out)


def test_in_asynchronous_rounds_two_judge_however_many_replies_are_refused(tmp_path):
    found = fleet(6)
    for client in ("c04", "c05"):
        found[client].train = lambda frame: b"rubbish"
    of = pruner(found, tmp_path, round__mode="async", round__ask=6, round__buffer=4, run__rounds=40)
    of.run()
    assert any(number > 20 and "judge" in why for number, _, why in of.told(EventKind.ARM_CHOSEN, "why"))
    assert len([number for number, _ in of.told(EventKind.ARM_REWARDED) if number > 20]) > 40  # of 80
