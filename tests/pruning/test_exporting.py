"""A pruned model as a folder, ordinary or with a loader: what is loaded computes what the smaller model computed."""

import json
import re
import shutil

import numpy as np
import peft
import pytest
import safetensors.torch
import torch
import transformers
from tiny_models import Classify, examples, scattered
from tiny_pruning import made, silence, some_mask
from tiny_text import save_model, tokenizer, write_run

import fedpeft
from fedpeft import api
from fedpeft.adapters.build import build_adapter
from fedpeft.cli.main import Session, perform
from fedpeft.config import load_run_file
from fedpeft.errors import FedpeftError, ModelError
from fedpeft.pruning.exporting import export_pruned, needs_loader
from fedpeft.pruning.shrink import Pruner


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


def silenced(kind, pruner, mask, inputs):
    """Logits of the full model, its adapter in place, whose pruned heads and channels have no output."""
    hooks = silence(pruner, mask)
    logits = pruner.adapter.model(**inputs).logits.detach()
    for hook in hooks:
        hook.remove()
    return logits


@pytest.mark.parametrize(("kind", "ratio"), [("bert", 0.5), ("gpt2", 0.5), ("bert", 0.25), ("llama", 0.25)])
def test_an_architecture_without_words_for_it_comes_with_a_loader(kind, ratio, tmp_path):
    """Llama has words, but refuses three heads of four in a width of 32."""
    adapter, pruner = made(kind, sizes={"num_key_value_heads": 4} if kind == "llama" else None)
    mask = some_mask(pruner, ratio)
    _, inputs, _ = Classify().batch(examples(kind, 6, seed=4), np.arange(6))
    expected = silenced(kind, pruner, mask, inputs)
    assert not torch.allclose(expected, adapter.model(**inputs).logits, rtol=1e-3)
    full = sum(parameter.numel() for name, parameter in adapter.model.named_parameters() if ".lora_" not in name)
    folder = export_pruned(pruner, mask, adapter.get(), tmp_path / "model", tokenizer())
    assert needs_loader(folder)
    assert {path.suffix for path in folder.iterdir()} == {".json", ".safetensors", ".md"}
    before = torch.get_rng_state()
    loaded = fedpeft.load_pruned(folder)
    assert torch.equal(torch.get_rng_state(), before)
    assert type(loaded) is type(adapter.model.get_base_model())
    assert not loaded.training
    assert torch.allclose(loaded(**inputs).logits, expected, rtol=1e-4, atol=1e-5)
    assert sum(parameter.numel() for parameter in loaded.parameters()) < (0.8 if ratio == 0.5 else 0.95) * full
    layers = json.loads((folder / "pruning.json").read_text())["layers"]
    kept = [number for layer in layers for kind in ("heads", "channels") for number in told(layer[kind])]
    assert kept == np.unpackbits(np.frombuffer(mask, np.uint8))[: pruner.units.count].tolist()
    assert str(tmp_path) not in (folder / "config.json").read_text()


def told(group):
    return [int(number in group["kept"]) for number in range(group["of"])]


def test_a_language_model_s_tied_head_is_written_once_and_it_writes_on(tmp_path):
    torch.manual_seed(3)
    config = transformers.GPT2Config(
        vocab_size=40, n_layer=2, n_head=4, n_embd=32, n_positions=32, initializer_range=0.2
    )
    model = transformers.GPT2LMHeadModel(config).requires_grad_(False).eval()
    adapter = build_adapter(model, peft.LoraConfig(r=2, target_modules=["c_attn", "c_fc", "c_proj"]), seed=1)
    adapter.set(scattered(adapter.get()))
    pruner = Pruner(adapter)
    mask, inputs = some_mask(pruner), {"input_ids": torch.arange(12).reshape(2, 6)}
    expected = silenced("gpt2", pruner, mask, inputs)
    folder = export_pruned(pruner, mask, adapter.get(), tmp_path, None)
    assert "lm_head.weight" not in safetensors.torch.load_file(folder / "pruned.safetensors")
    loaded = fedpeft.load_pruned(folder)
    assert loaded.lm_head.weight is loaded.transformer.wte.weight
    assert torch.allclose(loaded(**inputs).logits, expected, rtol=1e-4, atol=1e-5)
    more = loaded.generate(**inputs, max_new_tokens=3, do_sample=False, pad_token_id=0)
    again = loaded(input_ids=more[:, :-1]).logits[:, -1].argmax(-1)
    assert torch.equal(more[:, -1], again)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    _, pruner = made("bert")
    folder = tmp_path_factory.mktemp("exported")
    return export_pruned(pruner, some_mask(pruner), pruner.adapter.get(), folder, None)


def changed(table, *path, value):
    for key in path[:-1]:
        table = table[key]
    table[path[-1]] = value


@pytest.mark.parametrize(
    ("file", "path", "value", "says"),
    [
        ("pruning.json", ("format",), "fedpeft-pruned-2", "format 'fedpeft-pruned-2'"),
        ("pruning.json", ("architecture",), "logging", "architecture 'logging'"),
        ("pruning.json", ("architecture",), "GPT2Model", "model_type 'bert'"),
        ("pruning.json", ("layers",), [], "which heads of layer 0"),
        ("pruning.json", ("layers", 1, "heads", "kept"), [1, 4], "which heads of layer 1"),
        ("pruning.json", ("layers", 1, "heads", "kept"), [True], "which heads of layer 1"),
        ("pruning.json", ("layers", 0, "channels", "kept"), [], "which channels of layer 0"),
        ("pruning.json", ("layers", 0, "channels", "of"), 32, "which channels of layer 0"),
        ("pruning.json", ("layers", 0, "heads", "kept"), [0, 1, 2], "layer.0.attention"),
        ("config.json", ("model_type",), "t5", "model_type 't5'"),
        ("config.json", ("num_attention_heads",), 5, "makes no BertForSequenceClassification"),
        ("config.json", ("num_hidden_layers",), "many", "makes no BertForSequenceClassification"),
        ("config.json", ("num_labels",), 4, "classifier"),
        ("config.json", (), None, "config.json cannot be read"),
        ("pruning.json", (), None, "pruning.json cannot be read"),
        ("pruned.safetensors", (), None, "pruned.safetensors cannot be read"),
    ],
)
def test_a_bad_folder_is_one_error(exported, tmp_path, file, path, value, says):
    folder = shutil.copytree(exported, tmp_path / "folder")
    if path:
        table = json.loads((folder / file).read_text())
        if path == ("num_labels",):
            table["id2label"] = {str(i): str(i) for i in range(value)}
            table["label2id"] = {str(i): i for i in range(value)}
        changed(table, *path, value=value)
        (folder / file).write_text(json.dumps(table))
    else:
        (folder / file).write_bytes(b"\xff{")
    with pytest.raises(ModelError, match=re.escape(says)) as caught:
        fedpeft.load_pruned(folder)
    assert caught.value.code == "pruning.folder"
    assert str(folder) in caught.value.message


def test_weights_that_lack_a_tensor_and_folders_that_are_none(exported, tmp_path):
    folder = shutil.copytree(exported, tmp_path / "folder")
    tensors = safetensors.torch.load_file(folder / "pruned.safetensors")
    del tensors["classifier.bias"]
    safetensors.torch.save_file(tensors, folder / "pruned.safetensors")
    with pytest.raises(ModelError, match=r"lacks classifier\.bias"):
        fedpeft.load_pruned(folder)
    with pytest.raises(ModelError, match=r"pruning\.json cannot be read"):
        fedpeft.load_pruned(tmp_path / "nowhere")


def test_nothing_that_the_folder_names_is_fetched_or_run(exported, tmp_path):
    folder = shutil.copytree(exported, tmp_path / "folder")
    table = json.loads((folder / "config.json").read_text())
    table |= {"attn_implementation": "somebody/kernels", "auto_map": {"AutoModel": "evil.py--Model"}}
    (folder / "config.json").write_text(json.dumps(table))
    assert fedpeft.load_pruned(str(folder)).config._attn_implementation == "sdpa"


def test_what_an_earlier_export_left_is_not_taken_for_this_one(tmp_path):
    _, pruner = made("llama")
    (tmp_path / "pruning.json").write_text("{}")
    export_pruned(pruner, some_mask(pruner), pruner.adapter.get(), tmp_path, None)
    assert not needs_loader(tmp_path)


@pytest.mark.slow
def test_the_command_line_says_which_kind_was_written_and_how_to_load_it(tmp_path, capsys):
    changes = {"adapter__target_modules": "all-linear", "model__task": "linear-head", "evaluation__clients": False}
    result = api.run(load_run_file(write_run(tmp_path / "run", **changes)))
    path = tmp_path / "half"
    assert perform(["export", str(result.folder), "--to", str(path), "--pruned", "0.5"], Session()) == 0
    out, err = capsys.readouterr()
    assert out == f"{path}\n"
    assert f'fedpeft.load_pruned("{path}")' in err
    loaded = fedpeft.load_pruned(path)
    words = transformers.AutoTokenizer.from_pretrained(path)("the sky is here", return_tensors="pt")
    assert loaded(input_ids=words["input_ids"]).logits.shape == (1, 2)
    assert loaded.bert.encoder.layer[0].intermediate.dense.out_features == 16
    assert (
        perform(["export", str(result.folder), "--to", str(path), "--pruned", "0.5", "--format", "json"], Session())
        == 0
    )
    assert json.loads(capsys.readouterr().out)["load"] == "fedpeft.load_pruned"


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
