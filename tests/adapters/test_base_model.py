"""Where a base model may come from, and what is said when it cannot be loaded."""

import json
import shutil

import pytest
import torch
from tiny_text import bert_config, gpt2_config, save_model

from fedpeft.adapters import load_base
from fedpeft.errors import ModelError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def refusal(source, **more):
    with pytest.raises(ModelError) as caught:
        load_base(str(source), **more)
    assert str(source) in caught.value.message
    assert caught.value.remedy
    return caught.value


def test_a_folder_is_loaded_frozen_in_fp32_without_dropout(folder):
    base = load_base(str(folder))
    assert not base.model.training
    assert {parameter.dtype for parameter in base.model.parameters()} == {torch.float32}
    assert not any(parameter.requires_grad for parameter in base.model.parameters())
    assert base.parameters == sum(parameter.numel() for parameter in base.model.parameters())
    assert (base.name, base.location, base.fresh) == (str(folder), str(folder), ())


def test_a_package_is_found_by_its_name(folder, tmp_path, monkeypatch):
    package = tmp_path / "carries_a_model"
    shutil.copytree(folder, package / "weights")
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    base = load_base("package:carries_a_model")
    assert base.name == "carries_a_model"
    assert load_base("package:carries_a_model", name="org/name").name == "org/name"
    assert torch.equal(base.model.pooler.dense.weight, load_base(str(folder)).model.pooler.dense.weight)


def test_a_head_starts_from_zero_and_carries_the_label_names(folder):
    base = load_base(str(folder), labels=["sky", "sun", "sea"])
    assert base.fresh == ("classifier",)
    assert not base.model.classifier.weight.any()
    assert not base.model.classifier.bias.any()
    assert base.model.config.label2id == {"sky": 0, "sun": 1, "sea": 2}


def test_a_head_for_these_labels_is_kept_in_whatever_order_the_file_lists_them(tmp_path):
    labels = tuple(f"label {place}" for place in range(12))
    trained = load_base(str(save_model(tmp_path / "plain")), labels=labels)
    with torch.no_grad():
        trained.model.classifier.weight.fill_(0.5)
    trained.model.save_pretrained(str(tmp_path / "trained"))
    trained.tokenizer.save_pretrained(str(tmp_path / "trained"))
    path = tmp_path / "trained" / "config.json"
    config = json.loads(path.read_text())
    config["id2label"] = dict(sorted(config["id2label"].items()))  # as texts: 0, 1, 10, 11, 2, ...
    assert list(config["id2label"])[2] == "10"
    path.write_text(json.dumps(config))
    again = load_base(str(tmp_path / "trained"), labels=labels)
    assert again.fresh == ()
    assert (again.model.classifier.weight == 0.5).all()


def test_layers_before_the_head_are_drawn_from_the_run_s_seed(tmp_path):
    from transformers import BertModel

    source = str(save_model(tmp_path / "model", BertModel(bert_config(), add_pooling_layer=False)))
    loaded = []
    for torch_seed, seed in ((1, 5), (2, 5), (1, 6)):
        torch.manual_seed(torch_seed)
        base = load_base(source, labels=["a", "b"], seed=seed)
        assert base.fresh == ("bert.pooler", "classifier")
        loaded.append(base.model.bert.pooler.dense.weight.detach().clone())
    assert torch.equal(loaded[0], loaded[1])
    assert not torch.equal(loaded[0], loaded[2])
    assert 0.15 < loaded[0].std() < 0.25  # the architecture's initializer_range is 0.2


def test_a_decoder_without_padding_token_pads_with_its_end_of_text(tmp_path):
    from transformers import GPT2Model

    base = load_base(str(save_model(tmp_path / "model", GPT2Model(gpt2_config()), padding=False)), labels=["a", "b"])
    assert base.tokenizer.pad_token_id == base.tokenizer.eos_token_id == base.model.config.pad_token_id == 3


def test_no_padding_and_no_end_of_text(copy):
    path = copy / "tokenizer_config.json"
    table = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in table.items() if k not in ("pad_token", "eos_token")}))
    assert refusal(copy).code == "model.no-padding"


def test_a_folder_without_config_names_one_that_has_it(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "inner")
    error = refusal(tmp_path)
    assert error.code == "model.no-config"
    assert str(tmp_path / "inner") in (error.remedy or "")
    (tmp_path / "empty").mkdir()
    assert "there is one" not in (refusal(tmp_path / "empty").remedy or "")


@pytest.mark.parametrize("source", ["/no/such/folder", "./no/such", "~/no/such"])
def test_a_folder_that_is_not_there(source):
    assert refusal(source).code == "model.no-folder"


def test_a_package_that_is_not_installed_or_carries_no_model():
    error = refusal("package:no_such_package_at_all")
    assert error.code == "model.no-package"
    assert "no-such-package-at-all" in (error.remedy or "")
    assert refusal("package:json").code == "model.no-config"
    assert refusal("package:").code == "model.no-package"


def test_a_hub_id_that_cannot_be_had(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert refusal("no-such-organisation/no-such-model").code == "model.unloadable"


def _cut(copy):
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    "damage",
    [
        lambda copy: (copy / "config.json").write_text("{"),
        lambda copy: (copy / "config.json").write_text("{}"),
        lambda copy: (copy / "config.json").write_text('{"model_type": "no-such-type"}'),
        lambda copy: (copy / "model.safetensors").unlink(),
        _cut,
        lambda copy: (copy / "model.safetensors").write_bytes(b"junk"),
        lambda copy: (copy / "tokenizer.json").write_text("{"),
    ],
    ids=[
        "config-json",
        "config-empty",
        "config-type",
        "no-weights",
        "weights-cut",
        "weights-junk",
        "tokenizer-json",
    ],
)
def test_a_damaged_folder_is_one_error(copy, damage):
    damage(copy)
    error = refusal(copy)
    assert error.code == "model.unloadable"
    assert len(error.message.splitlines()) == 1


def test_a_folder_without_tokenizer_is_not_given_an_empty_one(copy):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (copy / name).unlink()
    assert refusal(copy).code == "model.no-tokenizer"


def test_weights_of_another_size_are_one_error(copy):
    table = json.loads((copy / "config.json").read_text()) | {"intermediate_size": 48}
    (copy / "config.json").write_text(json.dumps(table))
    assert refusal(copy).code == "model.unloadable"


def test_missing_weights_are_not_made_up(copy):
    from safetensors.torch import load_file, save_file

    weights = load_file(copy / "model.safetensors")
    removed = [name for name in weights if "layer.1.attention" in name]
    save_file({k: v for k, v in weights.items() if k not in removed}, copy / "model.safetensors", {"format": "pt"})
    error = refusal(copy)
    assert error.code == "model.incomplete"
    assert "layer.1.attention" in error.message
    assert refusal(copy, labels=["a", "b"]).code == "model.incomplete"


def test_an_architecture_without_a_classifier_is_one_error(tmp_path):
    from tiny_text import tokenizer
    from transformers import SamConfig

    SamConfig().save_pretrained(str(tmp_path))
    tokenizer().save_pretrained(str(tmp_path))
    assert refusal(tmp_path, labels=["a", "b"]).code == "model.unloadable"


@pytest.mark.parametrize(("kind", "positions"), [("Bert", 32), ("Roberta", 30), ("GPT2", 32)])
def test_the_longest_text_that_a_base_takes(tmp_path, kind, positions):
    import transformers

    config = {"Bert": bert_config, "GPT2": gpt2_config}.get(kind)
    if config is None:
        made = transformers.RobertaConfig(**{**bert_config().to_dict(), "pad_token_id": 1, "model_type": "roberta"})
    else:
        made = config()
    base = load_base(str(save_model(tmp_path / "model", getattr(transformers, f"{kind}Model")(made))))
    assert base.positions == positions
    longest = torch.full((1, positions), 7)
    base.model(input_ids=longest)
    with pytest.raises((IndexError, RuntimeError)):
        base.model(input_ids=torch.full((1, positions + 1), 7))


@pytest.mark.parametrize("name", ["gemma2", "llama"])
def test_a_base_in_bf16_has_the_attention_of_its_architecture(tmp_path, name):
    """Gemma 2 caps its scores, which no short cut through softmax(q k) v does; Llama does not."""
    import transformers

    sizes = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 64}
    config = {"gemma2": transformers.Gemma2Config, "llama": transformers.LlamaConfig}[name](**sizes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
        for parameter in model.parameters():
            parameter.data.mul_(8.0)  # so that attention, and its cap, matter
    loaded = load_base(str(save_model(tmp_path, model)), form="causal-lm", dtype="bf16").model
    ids = torch.arange(12).view(1, -1)
    with torch.no_grad():
        expected, found = (one(input_ids=ids).logits.float() for one in (model.to(torch.bfloat16), loaded))
    assert loaded.config._attn_implementation == ("eager" if name == "gemma2" else "fedpeft_short")
    assert (expected - found).norm() < 0.02 * expected.norm()
