"""Every key of an `[adapter]` table arrives at peft or is refused in the run file's words."""

import numpy as np
import peft
import pytest
from tiny_text import save_model, write_run

from fedpeft import api
from fedpeft.adapters import load_base, peft_config
from fedpeft.adapters.configure import unused
from fedpeft.config import AdapterTable, load_run_file, parse_config
from fedpeft.errors import ConfigError, ModelError
from fedpeft.registry import load

RUN = {
    "run": {"name": "x", "rounds": 1},
    "model": {"source": "a"},
    "devices": [{"name": "phone", "clients": 2}],
    "round": {"ask": 1},
}


def test_the_keys_of_lora_are_pefts():
    config = peft_config(
        AdapterTable(
            rank=4,
            alpha=6,
            dropout=0.1,
            target_modules=["query"],
            rank_pattern={"query": 2},
            alpha_pattern={"query": 3},
            modules_to_save=["pooler"],
            use_rslora=True,
            layers_to_transform=[0, 1],
            bias="lora_only",
        )
    )
    assert (config.r, config.lora_alpha, config.lora_dropout) == (4, 6, 0.1)
    assert config.rank_pattern == {"query": 2}
    assert config.alpha_pattern == {"query": 3}
    assert config.modules_to_save == ["pooler"]
    assert config.use_rslora
    assert config.layers_to_transform == [0, 1]
    assert config.bias == "lora_only"


@pytest.mark.parametrize(
    ("kind", "keys"),
    [("dora", {"use_dora": True}), ("rslora", {"use_rslora": True}), ("pissa", {"init_lora_weights": "pissa"})],
)
def test_variants_of_lora_are_its_switches_and_keep_its_defaults(kind, keys):
    config = peft_config(AdapterTable(type=kind))
    assert {key: getattr(config, key) for key in keys} == keys
    assert (config.r, config.lora_alpha, config.target_modules) == (8, 16.0, "all-linear")


def test_our_names_are_what_each_type_calls_them():
    loha = peft_config(AdapterTable(type="loha", rank=3, alpha=5))
    assert (loha.r, loha.alpha) == (3, 5)
    assert peft_config(AdapterTable(type="hira", dropout=0.25)).hira_dropout == 0.25
    assert peft_config(AdapterTable(type="psoft", alpha=7)).psoft_alpha == 7
    assert peft_config(AdapterTable(type="loha", dropout=0.5)).rank_dropout == 0.0  # another thing of a like name


def test_pefts_names_are_understood_too():
    table = AdapterTable(r=4, lora_alpha=6, lora_dropout=0.1)
    assert (table.rank, table.alpha, table.dropout) == (4, 6, 0.1)
    with pytest.raises(ConfigError, match=r"contradicts adapter\.rank = 8"):
        parse_config(RUN | {"adapter": {"r": 4, "rank": 8}}, origin="file")


def test_other_types_keep_pefts_defaults_and_sit_on_all_linear_layers_unless_peft_knows_better():
    assert peft_config(AdapterTable(type="miss")).r == peft.MissConfig().r
    assert peft_config(AdapterTable(type="miss")).target_modules == "all-linear"
    assert peft_config(AdapterTable(type="ia3")).target_modules is None


def test_what_a_type_has_not_is_told():
    assert unused(AdapterTable(type="ia3", rank=8, target_modules=["query"])) == [
        "adapter.rank = 8 is not used: ia3 has no such setting"
    ]
    assert unused(AdapterTable(type="bitfit", alpha=2)) == [
        "adapter.alpha = 2.0 is not used: bitfit has no such setting"
    ]
    assert unused(AdapterTable()) == []
    assert unused(AdapterTable(type="some/where.py:Mine", rank=8)) == []


@pytest.mark.parametrize(
    ("table", "message", "remedy"),
    [
        ({"rank_patern": {}}, "unknown key adapter.rank_patern", 'did you mean "rank_pattern"?'),
        ({"type": "ia3", "use_dora": True}, 'adapter.use_dora = True of adapter.type = "ia3"', "remove"),
        ({"task_type": "SEQ_CLS"}, "unknown key adapter.task_type", ""),
        ({"rank_pattern": 3}, "adapter.rank_pattern = 3 is not allowed", "correct adapter.rank_pattern"),
        ({"init_lora_weights": "pisa"}, "adapter.init_lora_weights = 'pisa' is not allowed", "LoraConfig"),
        ({"type": "boft", "boft_block_size": 2.5}, "boft_block_size = 2.5 is not allowed", "BOFTConfig"),
    ],
)
def test_unknown_keys_and_wrong_values_name_the_key(table, message, remedy):
    with pytest.raises(ModelError) as caught:
        peft_config(AdapterTable(**table))
    assert message in caught.value.message
    assert remedy in caught.value.remedy
    assert caught.value.allowed


def test_an_unknown_key_names_those_of_its_type_by_our_names():
    with pytest.raises(ModelError) as caught:
        peft_config(AdapterTable(type="loha", foo=1))
    assert caught.value.allowed.split(", ")[:3] == ["type", "start", "alpha"]
    assert {"rank", "module_dropout", "target_modules"} <= set(caught.value.allowed.split(", "))
    assert "r" not in caught.value.allowed.split(", ")


@pytest.mark.parametrize(
    "adapter",
    [
        {},
        {"rank": 4},
        {"type": "ia3"},
        {"type": "dora", "rank": 2},
        {"type": "oft", "oft_block_size": 4},
        {"start": "a"},
    ],
)
def test_the_resolved_run_file_says_the_same_again(adapter):
    config = parse_config(RUN | {"adapter": adapter}, origin="file")
    import tomllib

    again = parse_config(tomllib.loads(config.to_toml()), origin="resolved")
    assert again.adapter == config.adapter
    assert (config.adapter.rank == 8) == (adapter == {})


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        ({"type": "xlora"}, 'adapter.type = "xlora" cannot be trained by a federation: it mixes adapters'),
        ({"type": "saved"}, "needs a folder to start from"),
        ({"type": "bitfit", "bias": "all"}, "adapter.bias = 'all' contradicts adapter.type = \"bitfit\""),
        ({"type": "full", "start": "a"}, "adapter.start = 'a' contradicts"),
        ({"weight": float("inf")}, "adapter.weight = inf is not a finite number"),
    ],
)
def test_tables_that_contradict_themselves(adapter, message):
    with pytest.raises(ConfigError) as caught:
        parse_config(RUN | {"adapter": adapter}, origin="file")
    assert message in caught.value.message
    assert caught.value.allowed
    assert caught.value.remedy


def test_a_smaller_rank_needs_components():
    devices = [{"name": "watch", "clients": 2, "rank": 2}]
    with pytest.raises(ConfigError, match=r'contradicts adapter\.type = "ia3"'):
        parse_config(RUN | {"adapter": {"type": "ia3"}, "devices": devices}, origin="file")
    assert parse_config(RUN | {"adapter": {"type": "dora"}, "devices": devices}, origin="file").adapter.rank == 8


def test_heads_and_poolers_are_left_out_by_types_that_cannot_be_told_to(tmp_path):
    """VeRA has no `exclude_modules`: the layers that it sits on are named one by one."""
    folder = str(save_model(tmp_path))
    plain = load("adapter", "vera")(load_base(folder), AdapterTable(type="vera"), classifier=False, seed=1)
    assert not any("pooler" in name for name in plain.parameters)
    assert any("attention.output.dense" in name for name in plain.parameters)
    base = load_base(folder, labels=("sky", "sun"))
    adapter = load("adapter", "vera")(base, AdapterTable(type="vera"), classifier=True, seed=1)
    assert [name for name in adapter.parameters if "classifier" in name] == ["classifier.bias", "classifier.weight"]


def test_a_users_own_exclusions_stand_beside_ours(tmp_path):
    base = load_base(str(save_model(tmp_path)))
    for excluded in (["key", "value"], r".*\.(key|value)"):
        adapter = load("adapter", "lora")(base, AdapterTable(exclude_modules=excluded), classifier=False, seed=1)
        names = set(adapter.parameters)
        assert any("query" in name for name in names)
        assert not any(word in name for name in names for word in (".key.", ".value.", "pooler"))


def test_tokens_alone_train_no_head(tmp_path):
    base = load_base(str(save_model(tmp_path)), labels=("sky", "sun"))
    table = AdapterTable(type="trainable_tokens", token_indices=[3])
    with pytest.raises(ModelError, match="head") as caught:
        load("adapter", "trainable_tokens")(base, table, classifier=True, seed=1)
    assert caught.value.code == "adapter.no-head"


def test_prompts_without_a_number_say_what_is_missing(tmp_path):
    base = load_base(str(save_model(tmp_path)))
    with pytest.raises(ModelError, match=r"adapter\.num_virtual_tokens is missing"):
        load("adapter", "prefix_tuning")(base, AdapterTable(type="prefix_tuning"), classifier=False, seed=1)


@pytest.mark.parametrize(
    ("keys", "trainer"),
    [
        ({"type": "dora"}, "together"),
        ({"type": "ia3"}, "together"),
        ({"type": "vera"}, "together"),
        ({"type": "prefix_tuning", "num_virtual_tokens": 2}, "together"),
        ({"type": "prompt_tuning", "num_virtual_tokens": 2}, "one at a time"),
    ],
)
def test_a_run_file_trains_it_and_exports_it(tmp_path, keys, trainer):
    plans = []
    changes = {f"adapter__{key}": value for key, value in keys.items()}
    result = api.run(load_run_file(write_run(tmp_path, **changes)), on_plan=plans.append)
    assert plans[0].trainer.startswith(trainer)
    assert plans[0].trainable_parameters < 1200
    config = peft.PeftConfig.from_pretrained(str(result.folder / "adapter"))
    assert config.peft_type.value.lower() in (keys["type"], "lora")
    again = api.run(load_run_file(write_run(tmp_path, run__name="again", **changes)))
    assert again.adapter_hash == result.adapter_hash


def test_prompts_cannot_be_merged_and_the_error_says_so(tmp_path):
    changes = {"adapter__type": "prompt_tuning", "adapter__num_virtual_tokens": 2}
    result = api.run(load_run_file(write_run(tmp_path, run__rounds=1, **changes)))
    with pytest.raises(ModelError, match="cannot be merged") as caught:
        api.export(result.folder, tmp_path / "merged", merged=True)
    assert caught.value.remedy
    assert not (tmp_path / "merged").exists()
    api.export(result.folder, tmp_path / "out")
    assert np.isfinite(result.federated)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dora", "vera", "prefix_tuning"])
def test_two_workers_end_in_the_same_adapter_as_one_process(tmp_path, kind):
    keys = {"adapter__num_virtual_tokens": 2} if kind == "prefix_tuning" else {}
    hashes = {
        api.run(
            load_run_file(
                write_run(tmp_path, adapter__type=kind, run__name=f"with{workers}", engine__workers=workers, **keys)
            )
        ).adapter_hash
        for workers in (1, 2)
    }
    assert len(hashes) == 1
