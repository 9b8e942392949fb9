"""Pruned clients from the run file to the adapter: what moves, how long it takes, and that it can be repeated."""

from __future__ import annotations

import contextlib
import hashlib

import pytest
from tiny import Stop, stop_at
from tiny_text import write_run

from fedpeft import api
from fedpeft.config import load_run_file
from fedpeft.errors import FedpeftError
from fedpeft.journal import EventKind, Journal
from fedpeft.pruning.mask import kept_units
from fedpeft.report.history import describe
from fedpeft.simulation.codecs import update_bytes
from fedpeft.simulation.federation import assemble

pytestmark = pytest.mark.slow

DEVICES = [
    {"name": "whole", "clients": 2},
    {"name": "half", "clients": 2, "pruning": 0.5},
]
CHANGES = {
    "devices": DEVICES,
    "run__rounds": 4,
    "round__ask": 4,
    "local__steps": 3,
    "adapter__target_modules": "all-linear",
    "pruning": {"start": 2, "every": 2, "smoothing": 0.5},
    "evaluation__clients": False,
}


@pytest.fixture(scope="module")
def run_file(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("pruned"), **CHANGES)


@pytest.fixture(scope="module")
def whole_run(run_file):
    return api.run(load_run_file(run_file, {"run.name": "whole"}))


def events(folder, kind):
    with Journal.read(folder) as journal:
        return list(journal.events(kind))


def test_masks_are_in_the_journal_and_hold_between_plans(whole_run):
    asked = events(whole_run.folder, EventKind.ASKED)
    masks = {(event.round, event.payload.get("pruning"), event.payload.get("mask")) for event in asked}
    by_round = {number: [found for at, *found in masks if at == number] for number in range(1, 5)}
    assert by_round[1] == [[None, None]]
    for number in (2, 3, 4):
        assert sorted(ratio or 0 for ratio, _ in by_round[number]) == [0, 0.5]
        assert len(by_round[number]) == 2  # one mask for all clients of a class
    assert set(map(tuple, by_round[2])) == set(map(tuple, by_round[3]))


def test_the_journal_says_who_kept_which_heads(run_file, whole_run):
    made = events(whole_run.folder, EventKind.MASK_MADE)
    masks = {event.payload["mask"]: kept_units(event.payload) for event in made}
    assert len(made) == len(masks)  # each once
    asked = [event for event in events(whole_run.folder, EventKind.ASKED) if "mask" in event.payload]
    assert {event.payload["mask"] for event in asked} == masks.keys()
    for event in made:
        assert event.seq < min(other.seq for other in asked if other.payload["mask"] == event.payload["mask"])
        assert hashlib.sha256(bytes.fromhex(event.payload["bits"])).hexdigest() == event.payload["mask"]
        assert event.payload["pruning"] == 0.5
        assert describe(event) == f"{event.payload['mask'][:12]} keeps 34 of 68 heads and channels (pruning 0.5)"
    for kept in masks.values():
        assert [(layer, kind) for layer, kind in kept] == [
            (layer, kind) for layer in (0, 1) for kind in ("heads", "channels")
        ]
        assert [len(units) for units in kept.values()] == [1, 16, 1, 16]


def test_a_run_that_goes_on_does_not_tell_a_mask_twice(run_file, whole_run):
    config = load_run_file(run_file, {"run.name": "told"})
    with contextlib.suppress(Stop):
        api.run(config, observers=[stop_at(EventKind.ASKED, 6)])  # in round 2
    api.resume(config.folder)
    told = [
        [event.payload for event in events(folder, EventKind.MASK_MADE)] for folder in (config.folder, whole_run.folder)
    ]
    assert told[0] == told[1]


def test_a_pruned_client_sends_less_and_is_done_sooner(whole_run):
    asked = {(event.round, event.client): event.payload for event in events(whole_run.folder, EventKind.ASKED)}
    small, large, quick, slow = [], [], [], []
    for event in events(whole_run.folder, EventKind.ACCEPTED):
        pruned = "mask" in asked[event.round, event.client]
        (small if pruned else large).append(event.payload["bytes"])
        if event.round > 1:
            (quick if pruned else slow).append(event.payload["seconds"])
    assert len(small) == 6
    assert max(small) < 0.8 * min(large)
    assert sum(quick) / len(quick) < 0.8 * sum(slow) / len(slow)


def test_stopped_between_two_plans_and_resumed_it_ends_in_the_same_adapter(run_file, whole_run):
    for number in (2, 3):
        with contextlib.suppress(Stop):
            config = load_run_file(run_file, {"run.name": f"stopped-{number}"})
            api.run(config, observers=[stop_at(EventKind.COMMITTED, number + 1)])  # the first is that of round 0
        ended = api.resume(config.folder)
        assert ended.adapter_hash == whole_run.adapter_hash


def test_two_workers_end_in_the_same_adapter(run_file, whole_run):
    result = api.run(load_run_file(run_file, {"run.name": "workers", "engine.workers": 2}))
    assert result.adapter_hash == whole_run.adapter_hash


def test_a_ratio_that_leaves_nothing_out_is_no_pruning(run_file):
    devices = [{**table, "pruning": 0.001} if "pruning" in table else table for table in DEVICES]
    plain = [{key: value for key, value in table.items() if key != "pruning"} for table in DEVICES]
    hashes = [
        api.run(load_run_file(run_file, {"run.name": name, "devices": table})).adapter_hash
        for name, table in (("nothing", devices), ("plain", plain))
    ]
    assert hashes[0] == hashes[1]


def test_the_plan_says_what_a_pruned_step_needs_and_when_nobody_is_pruned(run_file):
    plan = api.validate(load_run_file(run_file, {"run.name": "plan"}))
    (note,) = [note for note in plan.notes if "device class half" in note]
    assert "without 50% of the heads and channels" in note
    needed = {device.name: device.memory_mb_needed for device in plan.devices}
    assert needed["half"] < needed["whole"]
    plain = [{"name": "whole", "clients": 4}]
    forgotten = api.validate(load_run_file(run_file, {"run.name": "plan", "devices": plain}))
    assert any("nobody is pruned" in note for note in forgotten.notes)


@pytest.mark.parametrize(("start", "ramp", "words"), [(50, 0, "nobody is pruned"), (3, 2, "does without 25% of")])
def test_the_plan_says_how_far_pruning_comes_in_the_rounds_that_there_are(run_file, start, ramp, words):
    changes = {"run.name": "plan", "pruning.start": start, "pruning.ramp": ramp}
    plan = api.validate(load_run_file(run_file, changes))
    (note,) = [note for note in plan.notes if words in note]
    assert "pruning.start = 50 is after the last round, run.rounds = 4" in note or "of devices.pruning = 0.5" in note
    assert not any("without 50%" in note for note in plan.notes)
    needed = {device.name: device.memory_mb_needed for device in plan.devices}
    assert (needed["half"] < needed["whole"]) == (start < 50)


@pytest.mark.parametrize("trainer", ["batched", "sequential"])
@pytest.mark.parametrize("importance", ["magnitude", "random"])
def test_other_scores_need_nothing_from_the_clients(run_file, importance, trainer):
    name = f"{importance}-{trainer}"
    changes = {"run.name": name, "pruning.importance": {"name": importance}, "engine.trainer": trainer, "run.rounds": 2}
    result = api.run(load_run_file(run_file, changes))
    masks = {event.payload.get("mask") for event in events(result.folder, EventKind.ASKED)}
    assert len(masks) == 2


def test_rolora_folds_what_pruned_clients_send_of_the_factor_whose_turn_it_is(run_file):
    result = api.run(load_run_file(run_file, {"run.name": "rolora", "strategy.name": "rolora"}))
    accepted = events(result.folder, EventKind.ACCEPTED)
    pruned = {
        (event.round, event.client) for event in events(result.folder, EventKind.ASKED) if "mask" in event.payload
    }
    assert {2, 3} <= {event.round for event in accepted if (event.round, event.client) in pruned}
    assert not events(result.folder, EventKind.REFUSED)


def test_asynchronous_rounds_fold_updates_of_old_masks(run_file):
    changes = {
        "run.name": "async",
        "round.mode": "async",
        "strategy.name": "fedbuff",
        "round.ask": 4,
        "round.buffer": 2,
    }
    result = api.run(load_run_file(run_file, {**changes, "pruning.every": 1}))
    masks = {event.payload.get("mask") for event in events(result.folder, EventKind.ASKED)}
    assert len(masks) > 1
    assert not events(result.folder, EventKind.REFUSED)


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"strategy.name": "median"}, ["median", "partial = True"]),
        ({"strategy.name": "scaffold"}, ["scaffold", "beside"]),
        ({"strategy.name": "fedsa"}, ["fedsa"]),
        ({"adapter.type": "ia3", "adapter.rank": None}, ["adapter.type", "ia3"]),
        ({"adapter.private": ["lora_B"]}, ["adapter.private"]),
        ({"devices": [{"name": "d", "clients": 4, "pruning": 0.8}]}, ["0.8", '"d"', "heads", "0 to 0.75"]),
        ({"devices": [{"name": "d", "clients": 4, "pruning": 1.0}]}, ["devices", "pruning"]),
        ({"pruning.importance": {"name": "lora-gradiant"}}, ["lora-gradiant", "did you mean"]),
        ({"pruning.importance": {"name": "lora-gradient", "power": 2}}, ["power"]),
    ],
)
def test_what_pruned_clients_cannot_do_is_refused_by_name(run_file, changes, names):
    with pytest.raises(FedpeftError) as error:
        api.validate(load_run_file(run_file, {"run.name": "refused", **changes}))
    assert all(name in str(error.value) for name in names), str(error.value)


def test_the_plan_counts_what_pruned_clients_send(run_file, whole_run):
    asked = {(event.round, event.client): event.payload for event in events(whole_run.folder, EventKind.ASKED)}
    sent = {True: [], False: []}
    for event in events(whole_run.folder, EventKind.ACCEPTED):
        sent["mask" in asked[event.round, event.client]].append(event.payload["bytes"])
    envelopes = sent[False][0] - update_bytes(assemble(load_run_file(run_file)), "int8")  # losses, counts, a name
    told = api.validate(load_run_file(run_file)).update_bytes
    assert told == pytest.approx(sum(sent[True] + sent[False]) / 16 - envelopes, abs=1)
