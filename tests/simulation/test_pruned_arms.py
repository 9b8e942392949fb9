"""Arms that prune: a scheduler picks the ratio, and everything else is as with `devices.pruning`."""

from __future__ import annotations

import contextlib

import pytest
from tiny import Stop, stop_at
from tiny_text import write_run

from fedpeft import api
from fedpeft.config import load_run_file
from fedpeft.errors import FedpeftError
from fedpeft.journal import EventKind, Journal
from fedpeft.scheduling import Arm

pytestmark = pytest.mark.slow

CHANGES = {
    "devices": [{"name": "phone", "clients": 4}],
    "run__rounds": 4,
    "round__ask": 4,
    "local__steps": 2,
    "adapter__target_modules": "all-linear",
    "pruning": {"start": 2, "every": 2},
    "scheduler": {"name": "random", "arms": {"pruning": [0.0, 0.5], "codec": ["int8", "lgreco(0.33)+zstd"]}},
    "evaluation__clients": False,
}


@pytest.fixture(scope="module")
def run_file(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("arms"), **CHANGES)


@pytest.fixture(scope="module")
def whole_run(run_file):
    return api.run(load_run_file(run_file, {"run.name": "whole"}))


def payloads(folder, kind):
    with Journal.read(folder) as journal:
        return {(event.round, event.client): event.payload for event in journal.events(kind)}


def test_the_arm_is_what_the_client_is_asked_and_a_smaller_model_is_done_sooner(whole_run):
    chosen = payloads(whole_run.folder, EventKind.ARM_CHOSEN)
    asked, accepted = payloads(whole_run.folder, EventKind.ASKED), payloads(whole_run.folder, EventKind.ACCEPTED)
    assert len(accepted) == 16
    assert {arm["pruning"] for arm in chosen.values()} == {0.0, 0.5}
    for key, arm in chosen.items():
        assert asked[key].get("pruning", 0.0) == arm["pruning"]
        assert arm["pruning"] == 0.0 or key[0] >= 2, "before `start` everybody trains the whole, and is told so"
        assert asked[key].get("codec", "int8") == arm["codec"]

    def seconds(ratio):
        own = [accepted[key]["seconds"] for key in accepted if asked[key].get("pruning", 0.0) == ratio]
        return sum(own) / len(own)

    assert seconds(0.5) < 0.8 * seconds(0.0)


def test_stopped_and_resumed_it_makes_the_same_choices_and_the_same_adapter(run_file, whole_run):
    config = load_run_file(run_file, {"run.name": "stopped"})
    with contextlib.suppress(Stop):
        api.run(config, observers=[stop_at(EventKind.COMMITTED, 3)])  # the first is that of round 0
    resumed = api.resume(config.folder)
    assert resumed.adapter_hash == whole_run.adapter_hash
    assert payloads(resumed.folder, EventKind.ARM_CHOSEN) == payloads(whole_run.folder, EventKind.ARM_CHOSEN)


def test_in_every_round_two_train_the_whole_and_everybody_is_judged(run_file):
    """Masks are real here: whose update counts for the whole is told by the one that was sent."""
    result = api.run(load_run_file(run_file, {"run.name": "judged", "scheduler.name": "pacing"}))
    chosen = payloads(result.folder, EventKind.ARM_CHOSEN)
    for number in range(1, 5):
        assert sum(arm["pruning"] == 0.0 for key, arm in chosen.items() if key[0] == number) >= 2
    rewarded = payloads(result.folder, EventKind.ARM_REWARDED)
    assert len(rewarded) == 16
    assert all(arm["gain"] is not None for arm in rewarded.values())
    assert {key: arm["place"] for key, arm in rewarded.items()} == {key: arm["place"] for key, arm in chosen.items()}


def test_an_arm_needs_the_memory_and_the_time_of_its_smaller_model(run_file):
    from fedpeft.simulation.arm_costs import ArmCosts
    from fedpeft.simulation.federation import assemble

    costs = ArmCosts(assemble(load_run_file(run_file)))
    half, whole = (costs.memory_mb(Arm(4, ratio, "int8", 1)) for ratio in (0.5, 0.0))
    assert half < whole
    assert costs.step_share(4, 0.5) < 0.8 * costs.step_share(4)
    assert costs.update_bytes("int8", ratio=0.5) < 0.8 * costs.update_bytes("int8")


def test_devices_that_hold_pruned_models_only_must_be_pruned_from_the_first_round_on(run_file, monkeypatch):
    monkeypatch.setattr("fedpeft.simulation.arm_costs.step_megabytes", lambda federation: 5000.0)
    monkeypatch.setattr("fedpeft.simulation.arm_costs.pruned_megabytes", lambda federation, ratio: 3000.0)
    changes = {"run.name": "small", "scheduler.arms.pruning": [0.5]}
    with pytest.raises(FedpeftError) as caught:
        api.validate(load_run_file(run_file, changes))
    assert caught.value.code == "config.no-arm-fits"
    assert "the smallest needs 5000" in caught.value.message
    assert caught.value.remedy.startswith("prune from the first round on, pruning.start = 1 and pruning.ramp = 0")
    assert api.validate(load_run_file(run_file, {**changes, "pruning.start": 1}))


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"scheduler.arms.pruning": [0.0, 0.9]}, ["scheduler.arms.pruning = 0.9", "heads", "0 to 0.75"]),
        ({"strategy": {"name": "median"}}, ["median", "pruning"]),
        ({"adapter.type": "dora"}, ["scheduler.arms.pruning", "adapter.type"]),
    ],
)
def test_what_cannot_be_pruned_is_refused_by_name(run_file, changes, names):
    with pytest.raises(FedpeftError) as caught:
        api.run(load_run_file(run_file, {**changes, "run.name": "refused"}))
    told = f"{caught.value.message} {caught.value.allowed}"
    for name in names:
        assert name in told
