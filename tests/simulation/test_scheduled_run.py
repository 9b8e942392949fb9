"""Whole runs with a scheduler: resumed as uninterrupted, arms that cost what the time model says, plain errors."""

from __future__ import annotations

import re
import tomllib

import pytest
from tiny import Stop, run_tiny, stop_at, tiny_arguments

from fedpeft.config import parse_config, resolve_paths
from fedpeft.errors import FedpeftError
from fedpeft.journal import EventKind, Journal
from fedpeft.report.summary import stored_plan
from fedpeft.scheduling import Arm
from fedpeft.scheduling.alignment import alignments
from fedpeft.simulation.arm_costs import ArmCosts, frozen_values
from fedpeft.simulation.memory import step_megabytes
from fedpeft.simulation.own import own_federation
from fedpeft.types import ALL_COMPONENTS

ARMS = {"rank": [1, 2], "codec": ["int4", "int8"], "steps": [2, 4]}
FLEET = [
    {"name": "fast", "clients": 3, "step_seconds": 0.2, "off_s": 2.0, "on_s": 5.0},
    {"name": "slow", "clients": 2, "step_seconds": 1.0, "hot_factor": 3.0, "heat_s": 10.0, "cool_s": 30.0},
]


def scheduled(name="ucb", arms=ARMS, **params):
    return {"scheduler": {"name": name, "arms": arms, **params}, "devices": FLEET, "evaluation.clients": False}


def options(name="ucb", **more):
    return {key.replace(".", "__"): value for key, value in {**scheduled(name), **more}.items()}


def told(folder, kind, key):
    with Journal.read(folder) as journal:
        return {(event.round, event.client): event.payload[key] for event in journal.events(kind)}


@pytest.mark.parametrize("name", ["ucb", "pacing"])
@pytest.mark.parametrize("kind", [EventKind.ACCEPTED, EventKind.COMMITTED])
def test_killed_and_resumed_it_makes_the_same_choices_on_a_fleet_that_sleeps_and_gets_hot(tmp_path, kind, name):
    """Rewards are made of seconds, so the fleet must find its time and its heat again too."""
    whole = run_tiny(tmp_path / "whole", rounds=6, **options(name))
    with pytest.raises(Stop):
        run_tiny(tmp_path / "parts", rounds=6, observers=[stop_at(kind, 5)], **options(name))
    parts = run_tiny(tmp_path / "parts", rounds=6, resume=True, **options(name))
    assert parts.adapter_hash == whole.adapter_hash
    for event, key in ((EventKind.ARM_CHOSEN, "place"), (EventKind.ARM_REWARDED, "reward")):
        assert told(parts.folder, event, key) == told(whole.folder, event, key)


def test_a_grid_of_the_run_files_own_arm_is_a_run_without_a_scheduler(tmp_path):
    plain = run_tiny(tmp_path / "plain", devices=FLEET)
    one = run_tiny(tmp_path / "one", devices=FLEET, scheduler={"name": "random"})
    assert one.adapter_hash == plain.adapter_hash
    some = run_tiny(tmp_path / "some", devices=FLEET, scheduler={"name": "random", "arms": ARMS})
    assert some.adapter_hash != plain.adapter_hash


def test_the_plan_says_what_there_is_to_win_and_that_one_update_teaches_nothing(tmp_path):
    def notes(folder, **more):
        result = run_tiny(tmp_path / folder, rounds=1, **options("random", **more))
        with Journal.read(result.folder) as journal:
            return " ".join(stored_plan(journal).notes)

    usual, alone = notes("usual"), notes("alone", **{"round.ask": 1, "round.min_replies": 1})
    assert re.search(
        r"gains \d\.\d\d times as much a second as the best one for all \(rank \d, int\d, \d steps\)", usual
    )
    assert "teaches a scheduler nothing" not in usual
    assert "raise round.ask" in alone


@pytest.mark.parametrize("name", ["thompson", "pacing"])
def test_workers_do_not_change_the_choices(tmp_path, name):
    alone = run_tiny(tmp_path / "alone", **options(name))
    shared = run_tiny(tmp_path / "shared", engine__workers=2, **options(name))
    assert alone.adapter_hash == shared.adapter_hash


def test_a_client_of_a_small_rank_is_judged_by_what_it_trains(tmp_path, monkeypatch):
    looks = []

    def watch(given, size):
        looks.extend(given)
        return alignments(given, size)

    monkeypatch.setattr("fedpeft.server.scheduling.alignments", watch)
    result = run_tiny(tmp_path, **options("random"))
    ranks = list(told(result.folder, EventKind.ARM_CHOSEN, "rank").values())
    assert len(looks) == len(ranks)
    small = [one for one in looks if one.holds is not None]
    assert len(small) == ranks.count(1)
    assert small
    for one in small:
        assert 0 < one.holds.sum() < len(one.holds)
        assert not one.delta[~one.holds].any()
    assert all(gain is not None for gain in told(result.folder, EventKind.ARM_REWARDED, "gain").values())


def federation(tmp_path):
    """The tiny federation, with one class of devices."""
    arguments = tiny_arguments(tmp_path)
    own = {key: arguments[key] for key in ("model", "peft_config", "clients", "client_test", "test", "loss", "correct")}
    table = {"run": {"name": "tiny", "rounds": 2}, "model": {"source": "own"}, "round": {"ask": 2}}
    table["devices"] = [{"name": "d", "clients": len(own["clients"]), "step_seconds": 2.0, "up_mbps": 1.0}]
    more = {"metrics": {}, "collate": None, "strategy": None, "base_name": "tiny"}
    return own_federation(**own, **more, table=table, options=arguments["options"])


def test_the_costs_of_an_arm_are_those_of_the_formulas(tmp_path):
    found = federation(tmp_path)
    costs, frozen, trained = ArmCosts(found), 16 * 16 + 16 * 2, 2 * (16 + 16) + 2 * (16 + 2)
    assert (frozen_values(found.adapter.model), costs.trained, costs.full_rank) == (frozen, trained, 2)
    assert costs.step_share(ALL_COMPONENTS) == costs.step_share(2) == 1.0
    assert costs.step_share(1) == pytest.approx((4 * frozen + 3 * trained) / (4 * frozen + 6 * trained))
    whole = step_megabytes(found)  # a smaller rank leaves zeros in vectors of full length
    assert [costs.memory_mb(Arm(rank, 0.0, "int8", 1)) for rank in (1, 2)] == [whole, whole]
    (table,) = found.config.devices
    longer = costs.seconds(table, Arm(1, 0.0, "int8", 5)) - costs.seconds(table, Arm(1, 0.0, "int8", 2))
    assert longer == pytest.approx(3 * 2.0 * costs.step_share(1))
    more = costs.update_bytes("fp32") - costs.update_bytes("int8")
    later = costs.seconds(table, Arm(2, 0.0, "fp32", 1)) - costs.seconds(table, Arm(2, 0.0, "int8", 1))
    assert later == pytest.approx(more * 8 / 1e6)


def test_devices_take_what_their_arm_costs(tmp_path):
    """Seconds of replies grow with the steps of the arm, and with what the codec sends over a slow line."""
    fleet = [{"name": "d", "clients": 5, "step_seconds": 1.0, "up_mbps": 0.001}]
    arms = {"codec": ["int4", "fp32"], "steps": [1, 8]}
    result = run_tiny(tmp_path, rounds=8, devices=fleet, scheduler={"name": "random", "arms": arms})
    seconds = told(result.folder, EventKind.ARM_REWARDED, "seconds")
    steps, codecs = (told(result.folder, EventKind.ARM_REWARDED, key) for key in ("steps", "codec"))

    def mean(number, codec):
        own = [value for key, value in seconds.items() if (steps[key], codecs[key]) == (number, codec)]
        return sum(own) / len(own)

    assert mean(8, "int4") - mean(1, "int4") == pytest.approx(7.0, rel=0.5)
    assert mean(1, "fp32") - mean(1, "int4") > 1.0


@pytest.mark.parametrize(
    ("table", "part"),
    [
        ({"name": "ucb", "arms": {"rank": []}}, "scheduler.arms.rank = [] leaves nothing to choose from"),
        ({"name": "ucb", "arms": {"steps": [2, 2]}}, "scheduler.arms.steps = [2, 2] lists 2 twice"),
        ({"name": "ucb"}, 'scheduler.name = "ucb" has nothing to choose'),
        ({"name": "ucb", "arms": {}}, "scheduler.arms lists one arm, rank 2, int8, 3 steps"),
        ({"name": "tree", "arms": {"codec": ["int4"]}}, "scheduler.arms lists one arm, rank 2, int4"),
        ({"name": "ucb", "arms": {"rank": [1, 4]}}, "scheduler.arms.rank has 4, which is more than adapter.rank"),
        ({"name": "ucb", "arms": {"rank": [2, 99]}}, "99, which is more than adapter.rank"),
        ({"name": "ucb", "arms": {"pruning": [0.0, 1.0]}}, "scheduler.arms.pruning[1] = 1.0"),
        ({"name": "ucb", "arms": {"codec": ["int7"]}}, 'codec "int7" is not known'),
        ({"name": "ucb", "arms": {"steps": list(range(1, 1200))}}, "1199 arms"),
        ({"name": "ubc"}, 'scheduler "ubc" is not known'),
        ({"name": "fixed", "arms": {"steps": [2, 4]}, "steps": 3}, "steps = 3 is not in scheduler.arms.steps"),
        ({"name": "ucb", "arms": {"ranks": [2]}}, "scheduler.arms.ranks"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_arms_that_cannot_be_are_refused_before_anything_is_trained(tmp_path, table, part):
    with pytest.raises(FedpeftError) as caught:
        run_tiny(tmp_path, scheduler=table)
    assert part in caught.value.message
    assert caught.value.remedy
    assert not (tmp_path / "tiny").exists()


@pytest.mark.parametrize(("key", "value"), [("rank", 2), ("codec", "sign"), ("steps", 3), ("pruning", 0.5)])
def test_a_class_cannot_set_what_the_arm_sets(tmp_path, key, value):
    devices = [{"name": "phone", "clients": 4, key: value}]
    with pytest.raises(FedpeftError, match=rf"devices\.{key} = .* contradicts \[scheduler\]"):
        run_tiny(tmp_path, devices=devices, scheduler={"name": "random"})


def test_the_scheduler_that_the_error_shows_says_what_the_classes_said(tmp_path):
    fleet = [
        {"name": "new phone", "clients": 2, "steps": 2, "rank": 1},
        {"name": "tablet", "clients": 1, "codec": "topk(0.5)+sign"},
        {"name": "server", "clients": 2},
    ]
    with pytest.raises(FedpeftError, match=r"devices\.rank = 1") as caught:
        run_tiny(tmp_path, devices=fleet, scheduler={"name": "ucb", "arms": {"steps": [2, 4]}})
    shown = tomllib.loads(caught.value.remedy.partition("\n")[2])["scheduler"]
    assert shown["arms"] == {"rank": [1, 2], "codec": ["int8", "topk(0.5)+sign"], "steps": [2, 3]}
    plain = [{key: table[key] for key in ("name", "clients")} for table in fleet]
    result = run_tiny(tmp_path, devices=plain, scheduler=shown, ask=5, rounds=1)
    arms = {event: told(result.folder, EventKind.ARM_CHOSEN, event) for event in ("device", "rank", "codec", "steps")}
    assert set(zip(*(own.values() for own in arms.values()), strict=True)) == {
        ("new phone", 1, "int8", 2),
        ("tablet", 2, "topk(0.5)+sign", 3),
        ("server", 2, "int8", 3),
    }


def test_a_scheduler_that_learns_nothing_may_have_one_arm_and_the_plan_says_so(tmp_path):
    result = run_tiny(tmp_path, rounds=1, scheduler={"name": "random"})
    with Journal.read(result.folder) as journal:
        notes = stored_plan(journal).notes
    assert any(note.startswith('scheduler "random" has nothing to choose: scheduler.arms is one') for note in notes)


def test_a_run_in_which_no_arm_fits_anybody_is_refused_before_there_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("fedpeft.simulation.arm_costs.step_megabytes", lambda federation: 35.5)
    devices = [{**table, "memory_mb": 10} for table in FLEET]
    with pytest.raises(FedpeftError) as caught:
        run_tiny(tmp_path, **options(devices=devices))
    assert caught.value.code == "config.no-arm-fits"
    assert "devices.memory_mb is 10 at most" in caught.value.message
    assert "devices.memory_mb = 36" in caught.value.allowed
    assert not (tmp_path / "tiny").exists()
    result = run_tiny(tmp_path, rounds=1, **options(devices=[FLEET[0], devices[1]]))
    with Journal.read(result.folder) as journal:
        (note,) = [note for note in stored_plan(journal).notes if "device class slow" in note]
    assert note.endswith(
        "none of scheduler.arms fits into its devices.memory_mb = 10, the smallest needs 36 MB: its clients sit out"
    )


def test_a_misspelt_class_of_an_arm_is_refused_before_the_run(tmp_path):
    told = {"rank": 2, "codec": "int8", "steps": 2, "by_class": {"fats": {"rank": 1}}}
    with pytest.raises(FedpeftError, match=r'scheduler\.by_class: "fats" is no class of devices') as caught:
        run_tiny(tmp_path, **options("fixed", scheduler={"name": "fixed", "arms": ARMS, **told}))
    assert (caught.value.allowed, caught.value.remedy) == ("fast, slow", 'did you mean "fast"?')
    assert not (tmp_path / "tiny").exists()


def test_the_centralised_comparison_makes_as_many_passes_as_the_arms_came_to(tmp_path):
    result = run_tiny(tmp_path, evaluation__centralised=True, **options("random"))
    steps = told(result.folder, EventKind.ARM_CHOSEN, "steps")
    assert result.example_passes == 8 * sum(steps.values())
    assert result.centralised_passes == result.example_passes
    assert result.centralised is not None


def test_the_oracle_needs_the_simulations_clock(tmp_path):
    with pytest.raises(FedpeftError, match="real clock"):
        run_tiny(tmp_path, engine__name="flower", **options("oracle"))
    result = run_tiny(tmp_path, **options("oracle"))
    places, devices = (told(result.folder, EventKind.ARM_CHOSEN, key) for key in ("place", "device"))
    for device in ("fast", "slow"):
        assert len({place for key, place in places.items() if devices[key] == device}) == 1


def test_a_scheduler_and_a_codec_in_files_of_their_own_are_found_beside_the_run_file(tmp_path):
    table = {
        "run": {"name": "x", "rounds": 1},
        "model": {"source": "m"},
        "round": {"ask": 1},
        "devices": [{"name": "d", "clients": 1}],
        "scheduler": {"name": "own/rule.py:Rule", "arms": {"codec": ["int8", "own/codec.py:Mine"]}, "patience": 3},
    }
    config = resolve_paths(parse_config(table, origin="test"), tmp_path)
    assert config.scheduler.name == f"{tmp_path}/own/rule.py:Rule"
    assert config.scheduler.arms.codec == ["int8", f"{tmp_path}/own/codec.py:Mine"]
    assert config.scheduler.params == {"patience": 3}
    table["scheduler"] |= {"name": "fixed", "codec": "own/codec.py:Mine", "by_class": {"d": {"codec": "int8"}}}
    del table["scheduler"]["patience"]
    table |= {"pruning": {"importance": {"name": "own/importance.py:Mine"}}}
    config = resolve_paths(parse_config(table, origin="test"), tmp_path)
    assert config.scheduler.params == {"codec": f"{tmp_path}/own/codec.py:Mine", "by_class": {"d": {"codec": "int8"}}}
    assert config.pruning.importance.name == f"{tmp_path}/own/importance.py:Mine"
    assert parse_config(tomllib.loads(config.to_toml()), origin="again") == config
