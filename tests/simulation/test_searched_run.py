"""Runs whose clients search what their codec leaves open, on examples that they put aside."""

from __future__ import annotations

import numpy as np
import pytest
from quadratic import run_quadratic
from tiny import Stop, run_tiny, stop_at, tiny_arguments
from tiny_text import write_run

from fedpeft import api
from fedpeft.codecs.compeft import ALPHAS, DENSITIES
from fedpeft.config import load_run_file, parse_config
from fedpeft.journal import EventKind, Journal
from fedpeft.simulation.arm_costs import ArmCosts
from fedpeft.simulation.codecs import codec_notes
from fedpeft.simulation.federation import assemble
from fedpeft.simulation.own import own_federation
from fedpeft.simulation.validation import put_aside, search_steps
from fedpeft.strategies import FedAvg, FedSA, RoLoRA
from fedpeft.training.tasks.custom import CustomTask

SEARCHED = {"codec__up": "compeft", "codec__validation": 0.25}


def accepted(folder):
    with Journal.read(folder) as journal:
        return [(event.client, event.payload) for event in journal.events(EventKind.ACCEPTED)]


def test_every_update_is_searched_and_the_journal_says_what_was_chosen(tmp_path):
    result = run_tiny(tmp_path, **SEARCHED)
    assert not result.refused
    updates = accepted(result.folder)
    assert len(updates) == 12
    for _, payload in updates:
        assert payload["chosen"]["density"] in DENSITIES
        assert payload["chosen"]["alpha"] in ALPHAS
        assert payload["weight"] == 18, "6 of 24 are put aside, and carry no weight"
    assert len({tuple(payload["chosen"].values()) for _, payload in updates}) > 1


@pytest.mark.slow
def test_interrupted_and_resumed_is_as_uninterrupted_and_so_with_workers(tmp_path):
    whole = run_tiny(tmp_path / "whole", **SEARCHED)
    with pytest.raises(Stop):
        run_tiny(tmp_path / "parts", observers=[stop_at(EventKind.ACCEPTED, 7)], **SEARCHED)
    assert run_tiny(tmp_path / "parts", resume=True, **SEARCHED).adapter_hash == whole.adapter_hash
    assert run_tiny(tmp_path / "workers", engine__workers=2, **SEARCHED).adapter_hash == whole.adapter_hash
    assert run_tiny(tmp_path / "told", codec__up="compeft(0.2)", codec__validation=0.25).adapter_hash != (
        whole.adapter_hash
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"strategy": FedSA()},
        {"strategy": RoLoRA()},
        {"adapter__private": ["2"]},
        {"codec__up": "forget+compeft"},
        {"codec__up": "compeft(alpha=1)"},
        {"round__mode": "async", "round__buffer": 2},
        {"zeroth__sends": "delta", "zeroth__size": 64, "local__optimizer": "sgd"},
    ],
    ids=["fedsa", "rolora", "private", "forget", "one of two", "async", "zeroth order"],
)
def test_it_goes_with_whatever_trains(tmp_path, options):
    result = run_tiny(tmp_path, **{**SEARCHED, **options})
    assert not result.refused
    assert all(payload["chosen"] for _, payload in accepted(result.folder))


@pytest.mark.slow
def test_it_goes_with_smaller_models_and_ranks(tmp_path):
    classes = [{"pruning": 0.5}, {"rank": 1}, {}]
    changes = {
        "devices": [{"name": f"d{place}", "clients": 1, **own} for place, own in enumerate(classes)],
        "round__ask": 3,
        "adapter__target_modules": "all-linear",
        "evaluation__clients": False,
        "codec": {"up": "compeft", "validation": 0.25},
    }
    result = api.run(load_run_file(write_run(tmp_path, **changes)))
    assert not result.refused
    updates = accepted(result.folder)
    assert len(updates) == 6
    assert all(payload["chosen"] for _, payload in updates)


def test_by_class_and_by_arm(tmp_path):
    devices = [{"name": "tablet", "clients": 2}, {"name": "phone", "clients": 3, "codec": "compeft"}]
    result = run_tiny(tmp_path / "class", devices=devices, ask=5, rounds=2, codec__validation=0.25)
    assert {"chosen" in payload for _, payload in accepted(result.folder) if "codec" not in payload} == {False}
    assert {"chosen" in payload for _, payload in accepted(result.folder) if "codec" in payload} == {True}
    arms = {"name": "random", "arms": {"codec": ["int8", "compeft"]}}
    result = run_tiny(tmp_path / "arm", scheduler=arms, codec__validation=0.25)
    for _, payload in accepted(result.folder):
        assert ("chosen" in payload) == (payload.get("codec") == "compeft")


def test_a_client_with_one_example_trains_on_it_and_sends_unsearched(tmp_path):
    result = run_quadratic(tmp_path, FedAvg(), rounds=2, **SEARCHED)
    assert all("chosen" not in payload and payload["weight"] == 1 for _, payload in accepted(result.folder))


def texts(data):
    return [tuple(tokens) for tokens in data.tokens]


def test_a_run_file_s_clients_put_aside_the_same_examples_wherever_it_is_assembled(tmp_path):
    path = write_run(tmp_path, codec={"up": "compeft", "validation": 0.25})
    first, second = (assemble(load_run_file(path)) for _ in range(2))
    whole = assemble(load_run_file(path, {"codec.validation": 0.0, "codec.up": "int8"}))
    for client, data in whole.train.items():
        left, aside = first.train[client], first.validation[client]
        assert len(left) + len(aside) == len(data)
        assert sorted(texts(left) + texts(aside)) == sorted(texts(data))
        assert texts(second.validation[client]) == texts(aside)
    assert api.run(load_run_file(path)).rounds == 2


# --- the split ---


def config_of(share, clients, seed=3):
    table = {
        "run": {"name": "x", "rounds": 1, "seed": seed},
        "model": {"source": "m"},
        "devices": [{"name": "d", "clients": len(clients)}],
        "round": {"ask": 1},
        "codec": {"validation": share},
    }
    return parse_config(table, origin="test")


def split(share, clients, seed=3):
    parts = put_aside(config_of(share, clients, seed), CustomTask(lambda model, batch: None), clients)
    return [{client: list(data) for client, data in part.items()} for part in parts]


def test_what_is_put_aside_is_drawn_from_the_seed_and_the_client_s_name():
    examples = list(range(40))
    train, aside = split(0.25, {"a": examples, "b": examples})
    assert [len(aside[client]) for client in "ab"] == [10, 10]
    assert aside["a"] != aside["b"]
    for client in "ab":
        assert sorted([*train[client], *aside[client]]) == examples
    assert split(0.25, {"a": examples, "c": [1]})[1]["a"] == aside["a"], "whoever else there is"
    assert split(0.25, {"a": examples}, seed=4)[1]["a"] != aside["a"]


@pytest.mark.parametrize(("count", "aside"), [(1, 0), (2, 1), (3, 2), (4, 2)])
def test_who_has_little_keeps_one_to_train_on(count, aside):
    train, kept = split(0.5, {"a": list(range(count))})
    assert (len(train["a"]), len(kept.get("a", []))) == (count - aside, aside)


def test_without_a_share_nobody_s_data_is_touched():
    data = {"a": [1, 2, 3]}
    train, aside = put_aside(config_of(0.0, data), CustomTask(lambda model, batch: None), data)
    assert train["a"] is data["a"]
    assert aside == {}


# --- what the plan and the simulated devices know of it ---


def federation_of(folder, **options):
    arguments = tiny_arguments(folder, **options)
    table = {
        "run": {"name": "tiny", "rounds": 4},
        "model": {"source": "python-objects", "name": "tiny"},
        "devices": [{"name": "default", "clients": len(arguments["clients"])}],
        "round": {"ask": 3},
    }
    names = ("model", "peft_config", "clients", "loss", "test", "correct", "client_test", "options")
    about = {"metrics": {}, "collate": None, "strategy": None, "base_name": "tiny", "table": table}
    return own_federation(**{name: arguments[name] for name in names}, **about)


def test_the_plan_says_what_is_put_aside_and_what_for(tmp_path):
    (note,) = codec_notes(federation_of(tmp_path, **SEARCHED))
    assert note.startswith("30 of 120 training examples are put aside: each update is searched on its client's own")
    (note,) = codec_notes(federation_of(tmp_path, codec__validation=0.25))
    assert note.startswith("30 of 120 training examples are put aside (codec.validation = 0.25), and no codec of this")


@pytest.mark.parametrize(
    ("codec", "grows"), [("compeft(0.05,6)", True), ("compeft(0.05,1)", False), ("forget+compeft(0.05,6)", False)]
)
def test_the_plan_warns_of_a_codec_whose_error_feedback_would_grow(tmp_path, codec, grows):
    notes = codec_notes(federation_of(tmp_path, codec__up=codec))
    assert [f'{codec}" may lose more than there is' in note for note in notes] == [True] * grows


def test_a_search_takes_a_simulated_device_time(tmp_path):
    federation = federation_of(tmp_path, **SEARCHED)
    assert search_steps(federation, "int8", 6) == search_steps(federation, "compeft", 0) == 0
    assert search_steps(federation, "compeft", 6) == pytest.approx(15 * 0.35 * 6 / 8)
    seconds = {}
    for name, codec in (("searched", "compeft"), ("told", "compeft(0.2,1)")):
        result = run_tiny(tmp_path / name, codec__up=codec, codec__validation=0.25, rounds=1)
        seconds[name] = np.mean([payload["seconds"] for _, payload in accepted(result.folder)])
    assert seconds["searched"] > seconds["told"] * 1.5
    arms = {"name": "random", "arms": {"codec": ["compeft", "compeft(0.2,1)"]}}
    costs = ArmCosts(federation := federation_of(tmp_path, scheduler=arms, codec__validation=0.25))
    (searched, told), table = federation.scheduling.grid.arms, federation.config.devices[0]
    assert costs.seconds(table, searched) > costs.seconds(table, told) * 1.5
