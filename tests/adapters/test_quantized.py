"""A base in 8 or 4 bits: what is said where it cannot be had, and, where it can, that gradients are right."""

import importlib.util
import warnings

import numpy as np
import pytest
import torch
from tiny_text import tokenizer, write_run

from fedpeft import api
from fedpeft.adapters import load_base
from fedpeft.adapters.quantized import HEADS, PACKAGES, quantization_of, quantization_options
from fedpeft.config import AdapterTable, load_run_file
from fedpeft.errors import ConfigError, ModelError
from fedpeft.kernels.install import frozen_matrix
from fedpeft.registry import load

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),  # what the two packages say of themselves
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def installed(quantization):
    if importlib.util.find_spec(PACKAGES[quantization]) is None:
        pytest.skip(f"needs the extra fedpeft[quantization]: {PACKAGES[quantization]}")


EACH = pytest.mark.parametrize(("quantization", "least"), [("8bit", 0.98), ("4bit", 0.9), ("int8", 0.99)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A Llama of width 64: NF4 has a scale for every 64 numbers."""
    import transformers

    found = tmp_path_factory.mktemp("llama")
    words = tokenizer()
    config = transformers.LlamaConfig(
        vocab_size=len(words),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=128,
        max_position_embeddings=32,
        pad_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(17)
        transformers.LlamaModel(config).save_pretrained(str(found))
    words.save_pretrained(str(found))
    return str(found)


def lora_on(folder, quantization, labels=None, dtype="fp32"):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        base = load_base(folder, labels=labels, quantization=quantization, dtype=dtype)
    adapter = load("adapter", "lora")(base, AdapterTable(rank=4), classifier=labels is not None, seed=1)
    noise = np.random.default_rng(0).normal(0, 0.05, adapter.layout.size).astype(np.float32)
    adapter.set(adapter.get() + noise)
    return base, adapter


def gradient(adapter):
    ids = torch.tensor([[2, 5, 6, 7, 8, 9], [2, 9, 8, 13, 6, 4]])
    adapter.gradient.zero_()
    found = adapter.model(input_ids=ids, attention_mask=torch.ones_like(ids))
    hidden = found.logits if "logits" in found else found.last_hidden_state
    (hidden.float() * torch.linspace(-1, 1, hidden.shape[-1])).mean().backward()
    return adapter.gradient.clone()


@pytest.mark.parametrize("quantization", sorted(PACKAGES))
def test_without_its_package_the_extra_is_named(quantization, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError) as caught:
        quantization_options(quantization, torch.float32, torch.device("cpu"))
    assert PACKAGES[quantization] in caught.value.message
    assert caught.value.allowed == '"none"'
    assert "fedpeft[quantization]" in caught.value.remedy


def test_what_changes_the_base_itself_contradicts_it(tmp_path):
    with pytest.raises(ConfigError, match=r'"4bit" contradicts adapter\.type = "bitfit"'):
        load_run_file(write_run(tmp_path, model__quantization="4bit", adapter={"type": "bitfit"}))


def test_none_changes_nothing():
    assert quantization_options("none", torch.float32, torch.device("cpu")) == {}
    assert quantization_of(torch.nn.Linear(2, 2)) == ""


@EACH
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_gradients_point_where_those_of_the_whole_base_do(folder, quantization, least, dtype):
    installed(quantization)
    _, plain = lora_on(folder, "none")
    _, adapter = lora_on(folder, quantization, dtype=dtype)
    assert adapter.layout == plain.layout
    assert adapter.theta.dtype == torch.float32
    mine, right = gradient(adapter), gradient(plain)
    assert float(torch.nn.functional.cosine_similarity(mine, right, dim=0)) > least - 0.01 * (dtype == "bf16")
    assert torch.equal(gradient(adapter), mine)  # a second pass: nothing was packed for inference meanwhile
    assert quantization_of(adapter.model).startswith("4 bits" if quantization == "4bit" else "8 bits")


@EACH
def test_its_parameters_are_counted_one_by_one(folder, quantization, least):
    installed(quantization)
    assert load_base(folder, quantization=quantization).parameters == load_base(folder).parameters


@EACH
def test_no_kernel_takes_a_quantised_matrix_and_a_head_stays_whole(folder, quantization, least):
    installed(quantization)
    base, adapter = lora_on(folder, quantization, labels=("sky", "sun"))
    taken = [name for name, module in base.model.named_modules() if frozen_matrix(module) is not None]
    assert all(name.rpartition(".")[2] in (*HEADS, "default", "original_module") or "lora_" in name for name in taken)
    assert adapter.parameters["score.weight"].dtype == torch.float32
    assert gradient(adapter).isfinite().all()


@EACH
def test_a_run_file_asks_for_it(tmp_path, quantization, least):
    installed(quantization)
    plans = []
    config = load_run_file(write_run(tmp_path, model__quantization=quantization))
    result = api.run(config, on_plan=plans.append)
    assert "bits" in plans[0].arithmetic
    again = api.run(load_run_file(write_run(tmp_path, model__quantization=quantization, run__name="again")))
    assert again.adapter_hash == result.adapter_hash
    merged = api.export(result.folder, tmp_path / "merged", merged=True)  # into the weights as they are, not rounded
    assert quantization_of(load_base(str(merged)).model) == ""
