"""An asynchronous run on the virtual clock, with a model: one seed gives one adapter, and a killed run ends soundly."""

from __future__ import annotations

from collections import Counter

import pytest
from tiny import Stop, run_tiny, stop_at

from fedpeft.journal import EventKind, Journal
from fedpeft.registry import build

DEVICES = [
    {"name": "fast", "clients": 3, "step_seconds": 0.2},
    {"name": "slow", "clients": 3, "step_seconds": 1.1},
]
OPTIONS = {
    "clients": 6,
    "rounds": 8,
    "ask": 4,
    "round__mode": "async",
    "round__buffer": 2,
    "devices": DEVICES,
    "evaluation__every": 4,
}


def run(folder, **options):
    return run_tiny(folder, **{**OPTIONS, **options})


def events(result, kind):
    with Journal.read(result.folder) as journal:
        return list(journal.events(kind))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that nothing interrupts."""
    return run(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize(
    "options",
    [{}, {"engine__lookahead": 1}, {"engine__workers": 2}, {"engine__wire": True}],
    ids=["again", "one-at-a-time", "two-workers", "through-the-wire"],
)
def test_one_seed_gives_one_adapter(tmp_path, whole, options):
    assert run(tmp_path, **options).adapter_hash == whole.adapter_hash


def test_the_fast_are_folded_more_often_and_the_slow_are_folded(whole):
    devices = {event.client: event.payload["device"] for event in events(whole, EventKind.HELLO)}
    folded = Counter(devices[event.client] for event in events(whole, EventKind.ACCEPTED))
    assert folded["fast"] + folded["slow"] == 16
    assert folded["fast"] > folded["slow"] > 0
    ages = [event.payload["age"] for event in events(whole, EventKind.ACCEPTED)]
    assert max(ages) > 0


def test_every_client_is_evaluated_at_the_end_though_some_are_training(whole):
    assert len(whole.client_accuracy_after) == 6


@pytest.mark.parametrize("strategy", ["fedavgm", "fedadam", "fedbuff"])
def test_strategies_that_fold_a_stream_can_be_asynchronous(tmp_path, strategy):
    result = run(tmp_path, strategy=build("strategy", strategy, {}), rounds=3)
    assert result.finished
    assert result.rounds == 3
    assert len({event.payload["adapter"] for event in events(result, EventKind.COMMITTED)}) == 4


@pytest.mark.parametrize(("kind", "count"), [(EventKind.ASKED, 2), (EventKind.ACCEPTED, 7), (EventKind.COMMITTED, 5)])
def test_a_run_that_was_killed_ends_soundly(tmp_path, whole, kind, count):
    with pytest.raises(Stop):
        run(tmp_path, observers=[stop_at(kind, count)])
    result = run(tmp_path, resume=True)
    assert result.finished
    assert result.rounds == 8
    commits = events(result, EventKind.COMMITTED)
    assert [event.payload["accepted"] for event in commits] == [0] + [2] * 8
    assert events(result, EventKind.REFUSED) == []
    assert events(result, EventKind.FAILED) == []
    assert result.federated >= 0.6  # and it has learned what it should: 0.77 without the interruption


def test_nobody_waits_for_the_slowest(tmp_path, whole):
    """As many updates as 4 rounds of 4, in less time of the devices' clock."""
    waiting = run(tmp_path, round__mode="sync", rounds=4)
    seconds = [sum(event.payload["seconds"] for event in events(one, EventKind.COMMITTED)) for one in (whole, waiting)]
    assert len(events(waiting, EventKind.ACCEPTED)) == len(events(whole, EventKind.ACCEPTED)) == 16
    assert seconds[0] < 0.6 * seconds[1], seconds


def test_it_is_not_the_synchronous_run(tmp_path, whole):
    assert run(tmp_path, round__mode="sync", round__ask=2).adapter_hash != whole.adapter_hash
