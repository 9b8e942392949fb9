"""What can be trained beside LoRA: biases, and scales and shifts; what is exported computes the same."""

import numpy as np
import pytest
import safetensors.torch
import torch
from tiny_text import gpt2_config, save_model

from fedpeft.adapters import BaseModel, export_adapter, export_merged, load_base
from fedpeft.adapters.architecture import architecture
from fedpeft.config import AdapterTable
from fedpeft.errors import ModelError
from fedpeft.kernels import choose_kernel, install
from fedpeft.registry import load

LABELS = ("sky", "sun", "sea")


def make(kind, folder, labels=None):
    base = load_base(str(save_model(folder)), labels=labels, seed=5)
    return base, load("adapter", kind)(base, AdapterTable(type=kind), classifier=labels is not None, seed=5)


def logits(model, tokenizer):
    rows = tokenizer(["the sky is here", "a lemon", "my gold is"], padding=True, return_tensors="pt")
    with torch.no_grad():
        found = model(input_ids=rows["input_ids"], attention_mask=rows["attention_mask"])
    return found.logits if hasattr(found, "logits") else found.last_hidden_state


def shaken(adapter):
    adapter.set(adapter.get() + np.random.default_rng(0).normal(0, 0.1, adapter.layout.size).astype(np.float32))
    return adapter


def test_bitfit_trains_every_bias_and_nothing_else(tmp_path):
    base, adapter = make("bitfit", tmp_path)
    names = {tensor.name for tensor in adapter.layout.tensors}
    assert names == {n for n, _ in base.model.named_parameters() if n.endswith("bias") and "pooler" not in n}
    assert adapter.layout.size == sum(base.model.get_parameter(name).numel() for name in names)


def test_ssf_starts_from_the_base(tmp_path):
    plain = load_base(str(save_model(tmp_path)))
    before = logits(plain.model, plain.tokenizer)
    base, adapter = make("ssf", tmp_path)
    torch.testing.assert_close(logits(adapter.model, base.tokenizer), before)
    assert all(tensor.name.endswith((".scale", ".shift")) for tensor in adapter.layout.tensors)
    assert any("LayerNorm" in tensor.name for tensor in adapter.layout.tensors)


@pytest.mark.parametrize("kind", ["full", "bitfit", "ssf", "lora", "vera"])
def test_a_pooler_in_a_module_of_ones_own_is_trained(kind):
    model = torch.nn.ModuleDict({name: torch.nn.Linear(9, 9) for name in ("body", "pooler")}).requires_grad_(False)
    base = BaseModel(model, None, "own", "own", form=architecture("own"))
    adapter = load("adapter", kind)(base, AdapterTable(type=kind), classifier=False, seed=5)
    assert {name.split(".")[0] for name in adapter.parameters} - {"vera_A", "vera_B"} == {"body", "pooler"}


@pytest.mark.parametrize("kind", ["bitfit", "ssf"])
def test_a_head_is_trained_whole(tmp_path, kind):
    _, adapter = make(kind, tmp_path, LABELS)
    names = {tensor.name for tensor in adapter.layout.tensors}
    assert {"classifier.weight", "classifier.bias"} <= names


@pytest.mark.parametrize("labels", [None, LABELS])
@pytest.mark.parametrize("kind", ["bitfit", "ssf"])
def test_the_merged_model_computes_the_same(tmp_path, kind, labels):
    base, adapter = make(kind, tmp_path / "base", labels)
    install(adapter.model, choose_kernel("torch", [], dtype=torch.float32, device="cpu").kernel)
    shaken(adapter)
    wanted = logits(adapter.model, base.tokenizer)
    export_merged(adapter, tmp_path / "merged", base.tokenizer)
    merged = load_base(str(tmp_path / "merged"), labels=labels)
    assert not merged.fresh
    torch.testing.assert_close(logits(merged.model, merged.tokenizer), wanted)


def test_the_exported_biases_load_as_the_card_says(tmp_path):
    base, adapter = make("bitfit", tmp_path / "base")
    wanted = logits(shaken(adapter).model, base.tokenizer)
    folder = export_adapter(adapter, tmp_path / "out", base_name="org/base")
    card = (folder / "README.md").read_text()
    assert "org/base" in card
    assert "load_state_dict" in card
    plain = load_base(str(tmp_path / "base"))
    plain.model.load_state_dict(safetensors.torch.load_file(folder / "trained.safetensors"), strict=False)
    torch.testing.assert_close(logits(plain.model, plain.tokenizer), wanted)


def test_the_card_of_scales_and_shifts_says_how_to_fold_them(tmp_path):
    _, adapter = make("ssf", tmp_path / "base")
    folder = export_adapter(adapter, tmp_path / "out", base_name="org/base")
    assert "--merged" in (folder / "README.md").read_text()


def test_a_model_without_biases_is_refused(tmp_path):
    import transformers

    model = transformers.GPT2Model(gpt2_config())
    for module in model.modules():
        if isinstance(getattr(module, "bias", None), torch.nn.Parameter):
            del module.bias
            module.bias = None
    base = load_base(str(save_model(tmp_path)))
    object.__setattr__(base, "model", model.requires_grad_(False))
    with pytest.raises(ModelError, match="nothing"):
        load("adapter", "bitfit")(base, AdapterTable(type="bitfit"), classifier=False, seed=0)
