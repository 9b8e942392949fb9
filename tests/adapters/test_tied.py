"""Language models whose output layer is their embedding: what is trained, merged and widened there."""

import numpy as np
import peft
import pytest
import torch
from tiny_language import bpe, decoder

from fedpeft.adapters import BaseModel, build_adapter, export_merged, load_base
from fedpeft.adapters.architecture import architecture
from fedpeft.config import AdapterTable
from fedpeft.errors import ModelError
from fedpeft.registry import load

TOKENS = torch.arange(24).view(2, 12)


def tied(kind, dtype=torch.float32):
    model = decoder(kind, tie_word_embeddings=True).to(dtype)
    return BaseModel(model, bpe(), "org/base", "org/base", form=architecture("causal-lm"))


def shaken(base, kind, **table):
    adapter = load("adapter", kind)(base, AdapterTable(type=kind, **table), classifier=False, seed=5)
    noise = np.random.default_rng(0).normal(0, 0.1, adapter.layout.size).astype(np.float32)
    adapter.set(adapter.get() + noise)
    return adapter


def logits(model):
    with torch.no_grad():
        return model(input_ids=TOKENS).logits


@pytest.mark.parametrize("model", ["llama", "gpt2"])
@pytest.mark.parametrize("kind", ["lora", "vera", "pvera", "ssf"])
def test_the_merged_folder_computes_the_same(tmp_path, model, kind):
    base = tied(model)
    adapter = shaken(base, kind)
    assert not any(name.startswith("lm_head") for name in adapter.parameters)
    wanted = logits(adapter.model)
    export_merged(adapter, tmp_path / "merged", base.tokenizer)
    found = logits(load_base(str(tmp_path / "merged"), form="causal-lm").model)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("target", ["lm_head", "embed_tokens"])
def test_an_adapter_on_a_shared_weight_is_not_merged(tmp_path, target):
    adapter = build_adapter(tied("llama").model, peft.LoraConfig(r=2, target_modules=[target]), seed=1)
    with pytest.raises(ModelError, match=r"shares its weight with (lm_head|model\.embed_tokens)") as caught:
        export_merged(adapter, tmp_path / "merged", None)
    assert caught.value.code == "adapter.unmergeable"


def test_trained_tokens_are_for_both_and_merged(tmp_path):
    base = tied("llama")
    adapter = shaken(base, "trainable_tokens", token_indices=[3, 4], target_modules=["embed_tokens"])
    wanted = logits(adapter.model)
    export_merged(adapter, tmp_path / "merged", base.tokenizer)
    torch.testing.assert_close(logits(load_base(str(tmp_path / "merged"), form="causal-lm").model), wanted)


@pytest.mark.parametrize("model", ["llama", "gpt2"])
def test_all_of_a_model_in_bf16_is_trained_in_fp32(model):
    adapter = shaken(tied(model, torch.bfloat16), "full")
    found = logits(adapter.model)
    assert torch.isfinite(found).all()
    assert {parameter.dtype for parameter in adapter.parameters.values()} == {torch.float32}
