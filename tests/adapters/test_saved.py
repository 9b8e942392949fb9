"""Federated training goes on from a peft folder: its type, its settings, its values; what contradicts it is named."""

import json

import numpy as np
import peft
import pytest
import torch
from tiny_text import gpt2_config, save_model, write_run

from fedpeft import api
from fedpeft.adapters import export_adapter, load_base
from fedpeft.config import AdapterTable, load_run_file
from fedpeft.errors import ModelError
from fedpeft.registry import load

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft asks transformers

LABELS = ("sky", "sun")


def made(base, folder, *, classifier=False, **keys):
    """An adapter away from its initial value, and its folder."""
    table = AdapterTable(**keys)
    adapter = load("adapter", table.type)(base, table, classifier=classifier, seed=3)
    theta = adapter.get() + np.random.default_rng(0).normal(0, 0.1, adapter.layout.size).astype(np.float32)
    adapter.set(theta)
    return theta, export_adapter(adapter, folder, base_name="org/base")


def start(base, folder, *, classifier=False, **keys):
    table = AdapterTable(start=str(folder), **keys)
    return load("adapter", table.type)(base, table, classifier=classifier, seed=9)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(save_model(tmp_path_factory.mktemp("base")))


def test_settings_and_values_are_the_folders(folder, tmp_path):
    keys = {"rank": 3, "alpha": 5, "target_modules": ["query", "value"], "rank_pattern": {"value": 2}}
    theta, out = made(load_base(folder), tmp_path / "out", **keys)
    adapter = start(load_base(folder), out)
    np.testing.assert_array_equal(adapter.get(), theta)
    assert adapter.model.active_peft_config.lora_alpha == 5
    assert not adapter.model.active_peft_config.inference_mode
    assert all(parameter.requires_grad for parameter in adapter.parameters.values())


def test_keys_that_agree_are_taken(folder, tmp_path):
    _, out = made(load_base(folder), tmp_path / "out", type="dora", rank=3, target_modules=["value", "query"])
    start(load_base(folder), out, type="dora", rank=3, target_modules=["query", "value"], use_dora=True)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"rank": 4}, "adapter.rank = 4 contradicts adapter.start, whose folder says 3"),
        ({"type": "ia3"}, "adapter.type = 'ia3' contradicts adapter.start, whose folder says 'lora'"),
        ({"type": "dora"}, "adapter.type = 'dora' contradicts"),
        ({"target_modules": ["key"]}, "adapter.target_modules = ['key'] contradicts"),
        ({"use_rslora": True}, "adapter.use_rslora = True contradicts adapter.start, whose folder says False"),
        ({"foo": 1}, "adapter.foo = 1 contradicts adapter.start, whose folder says 'nothing of the kind'"),
    ],
)
def test_keys_that_contradict_the_folder_are_named(folder, tmp_path, keys, message):
    _, out = made(load_base(folder), tmp_path / "out", rank=3, target_modules=["query"])
    with pytest.raises(ModelError) as caught:
        start(load_base(folder), out, **keys)
    assert message in caught.value.message
    assert caught.value.remedy.startswith("remove adapter.")


def test_a_head_comes_along_and_one_that_is_missing_starts_as_the_bases(folder, tmp_path):
    base = load_base(folder, labels=LABELS)
    theta, out = made(base, tmp_path / "out", classifier=True, rank=2)
    again = start(load_base(folder, labels=LABELS), out, classifier=True)
    np.testing.assert_array_equal(again.get(), theta)
    _, bare = made(load_base(folder), tmp_path / "bare", rank=2)
    adapter = start(load_base(folder, labels=LABELS), bare, classifier=True)
    assert not adapter.parameters["classifier.weight"].any()
    assert adapter.parameters["classifier.weight"].requires_grad


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda out: (out / "adapter_config.json").unlink(), "it has no adapter_config.json"),
        (lambda out: (out / "adapter_config.json").write_text("{"), "cannot read its adapter_config.json"),
        (lambda out: (out / "adapter_model.safetensors").unlink(), "it has no adapter_model.safetensors"),
        (lambda out: (out / "adapter_model.safetensors").write_bytes(b"x" * 99), "its weights cannot be read"),
    ],
)
def test_a_spoilt_folder_says_what_is_wrong(folder, tmp_path, spoil, message):
    _, out = made(load_base(folder), tmp_path / "out", rank=2)
    spoil(out)
    with pytest.raises(ModelError, match=message):
        start(load_base(folder), out)


def test_pickled_weights_are_not_read(folder, tmp_path):
    _, out = made(load_base(folder), tmp_path / "out", rank=2)
    (out / "adapter_model.safetensors").unlink()
    torch.save({"x": torch.zeros(1)}, out / "adapter_model.bin")
    with pytest.raises(ModelError, match=r"it has no adapter_model\.safetensors") as caught:
        start(load_base(folder), out)
    assert "unpickled" in caught.value.allowed


def test_a_folder_that_is_not_there_and_one_a_level_too_high(folder, tmp_path):
    with pytest.raises(ModelError, match="there is no such folder"):
        start(load_base(folder), tmp_path / "nowhere")
    made(load_base(folder), tmp_path / "run" / "adapter", rank=2)
    with pytest.raises(ModelError) as caught:
        start(load_base(folder), tmp_path / "run")
    assert f"there is one in {tmp_path / 'run' / 'adapter'}" in caught.value.remedy


def test_an_adapter_of_another_model_does_not_fit(folder, tmp_path):
    from transformers import GPT2Model

    _, out = made(load_base(folder), tmp_path / "out", rank=2, target_modules=["query"])
    other = load_base(str(save_model(tmp_path / "gpt2", GPT2Model(gpt2_config()))))
    with pytest.raises(ModelError):
        start(other, out)
    config = json.loads((out / "adapter_config.json").read_text())
    (out / "adapter_config.json").write_text(json.dumps(config | {"target_modules": ["query", "key"]}))
    with pytest.raises(ModelError, match=r"does not fit this model: it lacks .*key\.lora_A"):
        start(load_base(folder), out)
    (out / "adapter_config.json").write_text(json.dumps(config | {"r": 3}))
    with pytest.raises(ModelError, match="does not fit this model: size mismatch"):
        start(load_base(folder), out)
    (out / "adapter_config.json").write_text(json.dumps(config | {"layers_to_transform": [0]}))
    with pytest.raises(ModelError, match="no place for"):
        start(load_base(folder), out)


def test_what_peft_does_not_save_cannot_be_started_from(folder, tmp_path):
    keys = {"num_virtual_tokens": 2, "encoder_hidden_size": 8}
    _, out = made(load_base(folder), tmp_path / "out", type="p_tuning", **keys)
    with pytest.raises(ModelError, match="p_tuning peft saves what its network made"):
        start(load_base(folder), out)


def test_a_folder_that_peft_itself_wrote(folder, tmp_path):
    model = peft.get_peft_model(load_base(folder).model, peft.LoraConfig(r=2, target_modules=["query"]))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    model.save_pretrained(str(tmp_path / "theirs"))
    adapter = start(load_base(folder), tmp_path / "theirs")
    assert adapter.layout.size == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert np.linalg.norm(adapter.get()) == pytest.approx(
        float(torch.cat([p.detach().flatten() for p in model.parameters() if p.requires_grad]).norm()), rel=1e-6
    )


def test_a_second_run_goes_on_where_the_first_one_ended(tmp_path):
    first = api.run(load_run_file(write_run(tmp_path, run__rounds=3, local__learning_rate=0.05)))
    second = api.run(
        load_run_file(write_run(tmp_path, run__name="second", adapter={"start": f"runs/{first.folder.name}/adapter"}))
    )
    assert second.zero_shot == first.federated
    assert "start = " in (second.folder / "run.toml").read_text()
    assert api.resume(second.folder).adapter_hash == second.adapter_hash  # finished: left as it is, but assembled
