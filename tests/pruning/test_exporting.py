"""A pruned model as an ordinary folder: what anybody loads from it computes what the smaller model computed."""

import numpy as np
import pytest
import torch
import transformers
from tiny_models import Classify, examples
from tiny_pruning import made, some_mask
from tiny_text import save_model, tokenizer, write_run

from fedpeft import api
from fedpeft.config import load_run_file
from fedpeft.errors import FedpeftError, ModelError
from fedpeft.pruning.exporting import export_pruned


@pytest.mark.parametrize(
    ("kind", "auto"),
    [("llama", "AutoModelForSequenceClassification"), ("vit", "AutoModelForImageClassification")],
)
def test_the_folder_gives_the_logits_of_the_smaller_model(kind, auto, tmp_path):
    adapter, pruner = made(kind)
    mask, theta = some_mask(pruner), adapter.get()
    smaller = pruner.shrunk(mask)
    smaller.adapter.set(theta[smaller.places])
    task, data = Classify(), examples(kind, 6, seed=4)
    _, inputs, _ = task.batch(data, np.arange(6))
    expected = smaller.adapter.model(**inputs).logits.detach()
    export_pruned(pruner, mask, theta, tmp_path / "model", None)
    loaded = getattr(transformers, auto).from_pretrained(tmp_path / "model").eval()
    assert torch.allclose(loaded(**inputs).logits, expected, rtol=1e-4, atol=1e-5)
    full = sum(parameter.numel() for name, parameter in adapter.model.named_parameters() if ".lora_" not in name)
    assert sum(parameter.numel() for parameter in loaded.parameters()) < 0.8 * full
    assert adapter.model.config.intermediate_size == 64  # the full model's own


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_an_architecture_without_words_for_it_is_refused_by_name(kind, tmp_path):
    adapter, pruner = made(kind)
    with pytest.raises(ModelError, match=f'"{kind}"'):
        export_pruned(pruner, some_mask(pruner), adapter.get(), tmp_path / "model", None)
    assert not (tmp_path / "model").exists()


@pytest.mark.slow
def test_a_run_is_exported_pruned_by_its_own_scores(tmp_path):
    words = tokenizer()
    config = transformers.LlamaConfig(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=64, max_position_embeddings=32, pad_token_id=0,
    )  # fmt: skip
    (tmp_path / "run").mkdir()
    save_model(tmp_path / "run" / "model", transformers.LlamaModel(config))
    changes = {
        "devices": [{"name": "half", "clients": 3, "pruning": 0.5}],
        "adapter__target_modules": "all-linear",
        "model__task": "linear-head",
        "evaluation__clients": False,
    }
    run = load_run_file(write_run(tmp_path / "run", **changes))
    result = api.run(run)
    path = api.export(result.folder, tmp_path / "half", pruned=0.5)
    loaded = transformers.AutoModelForSequenceClassification.from_pretrained(path)
    assert (loaded.config.num_key_value_heads, loaded.config.intermediate_size, loaded.config.head_dim) == (1, 32, 8)
    assert (path / "tokenizer.json").exists()
    with pytest.raises(FedpeftError, match="at most"):
        api.export(result.folder, tmp_path / "none", pruned=0.9)
