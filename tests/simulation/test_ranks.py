"""Smaller ranks need a B that begins at 0: refused where the base would lack it, noted where it was trained."""

import copy
import re

import peft
import pytest
from tiny import run_tiny, tiny_arguments
from tiny_text import save_model, write_run

import fedpeft.api
from fedpeft.adapters.base_model import load_base
from fedpeft.adapters.build import build_adapter
from fedpeft.adapters.export import export_adapter
from fedpeft.config import load_run_file, parse_config
from fedpeft.errors import ConfigError
from fedpeft.journal import EventKind, Journal

BASE = {
    "run": {"name": "x", "rounds": 2},
    "model": {"source": "m"},
    "devices": [{"name": "phone", "clients": 3}],
    "round": {"ask": 2},
}
CUTS = {
    'devices.rank = 2 of class "phone"': {"devices": [{"name": "phone", "clients": 3, "rank": 2}]},
    "scheduler.arms.rank = [2, 8]": {"scheduler": {"name": "random", "arms": {"rank": [2, 8]}}},
    'aggregation.rule = "hetlora" with decay = 0.9': {"aggregation": {"rule": "hetlora", "decay": 0.9}},
}
ELSEWHERE = [
    {"type": "pissa"},
    {"init_lora_weights": "pissa"},
    {"init_lora_weights": "pissa_niter_4"},
    {"init_lora_weights": "olora"},
    {"init_lora_weights": False},
    {"type": "rslora", "init_lora_weights": "orthogonal"},
]


def config(adapter, **more):
    return parse_config({**copy.deepcopy(BASE), "adapter": adapter, **more}, origin="x.toml")


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("adapter", ELSEWHERE, ids=str)
def test_a_smaller_rank_is_refused_where_b_begins_elsewhere(adapter, cut):
    with pytest.raises(ConfigError) as caught:
        config(adapter, **CUTS[cut])
    key = list(adapter)[-1]
    assert caught.value.message.startswith(f"x.toml: {cut} contradicts adapter.{key} = ")
    assert '"lora"' in caught.value.allowed
    assert caught.value.remedy == f"change adapter.{key}, or remove {cut.split(' = ')[0]}"


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("adapter", [{}, {"type": "dora"}, {"init_lora_weights": "gaussian"}], ids=str)
def test_where_b_begins_at_zero_it_may_be_smaller(adapter, cut):
    assert config(adapter, **CUTS[cut])


@pytest.mark.parametrize("more", [{}, {"aggregation": {"rule": "hetlora"}}], ids=str)
def test_pissa_with_one_rank_for_all_stays(more):
    whole = [{"name": "phone", "clients": 3, "rank": 8}]
    assert config({"type": "pissa"}, devices=whole, **more)


def test_an_adapter_of_one_s_own_is_looked_at_too(tmp_path):
    devices = [{"name": "phone", "clients": 3}, {"name": "watch", "clients": 2, "rank": 1}]
    arguments = tiny_arguments(tmp_path, devices=devices)
    arguments["peft_config"] = peft.LoraConfig(r=2, target_modules=["0"], init_lora_weights="pissa")
    with pytest.raises(ConfigError, match=r"devices\.rank = 1 .* init_lora_weights = 'pissa'") as caught:
        fedpeft.simulate(**arguments)
    assert caught.value.remedy == "start from another adapter, or remove devices.rank"
    assert run_tiny(tmp_path, devices=devices, rounds=1).rounds == 1


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"scheduler": {"name": "random", "arms": {"rank": [4, 8]}}}, "scheduler.arms.rank has 8"),
        ({"devices": [{"name": "phone", "clients": 5, "rank": 3}]}, 'devices.rank = 3 of class "phone"'),
        (
            {"scheduler": {"name": "random", "arms": {"rank": [4, 8]}}, "adapter.rank": 8},
            "scheduler.arms.rank has 4, which is more than the rank of the adapter, 2",
        ),
    ],
    ids=str,
)
def test_ranks_are_held_against_the_adapter_that_was_passed(tmp_path, more, named):
    with pytest.raises(ConfigError, match=re.escape(named)):
        run_tiny(tmp_path, **more)
    arguments = tiny_arguments(tmp_path, rounds=1, **more)
    arguments["options"].pop("adapter.rank", None)
    arguments["peft_config"] = peft.LoraConfig(r=8, target_modules=["0"])
    assert fedpeft.simulate(**arguments).rounds == 1


def test_arms_may_have_the_rank_of_an_adapter_that_was_passed_and_is_larger_than_the_default(tmp_path):
    arguments = tiny_arguments(tmp_path, rounds=1, scheduler={"name": "random", "arms": {"rank": [4, 12]}})
    arguments["peft_config"] = peft.LoraConfig(r=12, target_modules=["0"])
    assert fedpeft.simulate(**arguments).rounds == 1
    assert fedpeft.simulate(**arguments, resume=True).rounds == 1


def test_the_adapters_rank_is_all_of_it_where_a_pattern_makes_a_layer_wider(tmp_path):
    """A class of rank 2 is as whole as one that names none, and pissa's query of rank 4 is not cut to 2."""
    devices = [{"name": "phone", "clients": 2}, {"name": "watch", "clients": 2, "rank": 2}]
    adapter = {"type": "pissa", "rank": 2, "target_modules": ["query", "value"], "rank_pattern": {"query": 4}}
    result = fedpeft.api.run(load_run_file(write_run(tmp_path, devices=devices, adapter=adapter)))
    with Journal.read(result.folder) as journal:
        sent = {event.payload["bytes"] for event in journal.events(EventKind.ACCEPTED)}
    assert max(sent) - min(sent) < 16, "of the smaller rank it would be 128 bytes less"


def started(folder, **changes):
    """A run file that starts from a folder of rank 2 with this initial value, and a class of rank 1."""
    lora = peft.LoraConfig(r=2, target_modules=["query"], init_lora_weights=changes.pop("init", True))
    adapter = build_adapter(load_base(str(save_model(folder / "model"))).model, lora, seed=1)
    export_adapter(adapter, folder / "before", base_name="colours")
    devices = [{"name": "phone", "clients": 2}, {"name": "watch", "clients": 1, "rank": changes.pop("rank", 1)}]
    return load_run_file(write_run(folder, devices=devices, adapter={"start": "before"}, **changes))


def test_a_start_that_was_trained_before_is_noted(tmp_path):
    (note,) = [note for note in fedpeft.api.validate(started(tmp_path)).notes if "adapter.start" in note]
    assert note.startswith('devices.rank = 1 of class "watch": adapter.start was trained with all 2 components')


def test_a_start_at_its_own_rank_is_no_news(tmp_path):
    assert not [note for note in fedpeft.api.validate(started(tmp_path, rank=2)).notes if "adapter.start" in note]


def test_a_start_that_the_base_lacks_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"devices\.rank = 1 .* init_lora_weights = 'pissa'"):
        fedpeft.api.validate(started(tmp_path, init="pissa"))
