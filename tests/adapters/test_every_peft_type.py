"""Every type of peft that a run file may name, on four architectures: it is a federated adapter in every respect.

θ is the trainable part; what is set is what comes back; training lowers the loss; equal updates average to themselves;
another machine with the same seed and θ computes the same; and so does whoever loads the exported folder with peft.

A new type is one line in `SETTINGS` if it needs settings to fit models of width 32, and one in `NOT_ON` if peft brings
it for some architectures only.
"""

import json
import warnings

import numpy as np
import peft
import pytest
import torch
from tiny_models import NORMS, Classify, encoder, examples, jobs, scattered

from fedpeft.adapters import export_adapter
from fedpeft.adapters.base_model import BaseModel
from fedpeft.aggregation import WeightedMean
from fedpeft.codecs.int8 import Int8
from fedpeft.config import AdapterTable
from fedpeft.config.adapter import LORA_VARIANTS, NOT_FEDERATED
from fedpeft.errors import ModelError
from fedpeft.registry import PEFT_TYPES, load
from fedpeft.training import SequentialTrainer
from fedpeft.training.choice import choose_trainer

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),  # what peft says of its own types
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),  # peft asks transformers for it
]

MODELS = ("bert", "vit", "gpt2", "llama")
SETTINGS = {
    "boft": {"boft_block_size": 4},
    "c3a": {"block_size": 8},
    "delora": {"delora_lambda": 1},  # with 15, a step from B = 0 leaps: it trains directions, whatever their length
    "fourierft": {"n_frequency": 10},
    "gralora": {"rank": 4, "gralora_k": 2},
    "miss": {"rank": 4},
    "oft": {"oft_block_size": 4},
    "p_tuning": {"num_virtual_tokens": 3, "encoder_hidden_size": 16},
    "prefix_tuning": {"num_virtual_tokens": 3},
    "prompt_tuning": {"num_virtual_tokens": 3},
    "psoft": {"rank": 4},
    "road": {"group_size": 16},
    "shira": {"rank": 2},
    "trainable_tokens": {"token_indices": [3, 7, 11]},
    "vblora": {"num_vectors": 8, "vector_length": 8, "topk": 2},
    "waveft": {"n_frequency": 16},
}
LINEAR_ONLY = (
    *("adamss", "boft", "c3a", "delora", "glora", "hra", "lily", "loha", "lokr", "miss", "oft", "peanut", "psoft"),
    *("road", "shira", "supertuning"),
)
NOT_ON = {
    **dict.fromkeys(LINEAR_ONLY, ("gpt2",)),  # GPT-2's layers are of a class of their own
    "beft": ("vit", "gpt2"),  # peft knows no modules for them; they can be named
    "ia3": ("vit",),
    **dict.fromkeys(("prompt_tuning", "prefix_tuning", "p_tuning", "trainable_tokens"), ("vit",)),  # it has no tokens
}
LAST_BITS = ("adamss", "glora")
ALONE = ("prompt_tuning", "p_tuning")
NOT_FROM_THE_BASE = ("prompt_tuning", "prefix_tuning", "p_tuning", "c3a", "fourierft", "vblora")
"""Types that change the output before any training, with peft's own initial values."""
CUT = {"prompt_tuning": 3, "p_tuning": 3}
"""Whose exported model gives so many hidden states more, those of the prompts, first."""


def each():
    """Type and architecture; one architecture a type is fast, so that `make check` sees every type."""
    for place, kind in enumerate((*LORA_VARIANTS, *PEFT_TYPES)):
        fit = [model for model in MODELS if model not in NOT_ON.get(kind, ())]
        for model in fit:
            yield pytest.param(kind, model, marks=() if model == fit[place % len(fit)] else pytest.mark.slow)


EACH = list(each())


def table_of(kind, model, **more):
    own = {"target_modules": NORMS[model]} if kind == "ln_tuning" else {}
    return AdapterTable(type=kind, **own, **SETTINGS.get(kind, {}), **more)


def make(kind, model, *, head=False, seed=3, **more):
    fresh = (("classifier",) if model in ("bert", "vit") else ("score",)) if head else ()
    base = BaseModel(encoder(model, head=head), None, "org/base", "", fresh)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load("adapter", kind)(base, table_of(kind, model, **more), classifier=head, seed=seed)


def outputs(net, model):
    _, inputs, _ = Classify().batch(examples(model, 4, seed=5), np.arange(4))
    with torch.no_grad():
        found = net(**inputs)
    return found.logits if "logits" in found else found.last_hidden_state


@pytest.mark.parametrize(("kind", "model"), EACH)
def test_theta_is_all_that_is_trained_and_comes_back_as_it_was_set(kind, model):
    adapter = make(kind, model)
    trainable = [parameter for parameter in adapter.model.parameters() if parameter.requires_grad]
    assert adapter.layout.size == sum(parameter.numel() for parameter in trainable)
    theta = scattered(adapter.get())
    adapter.set(theta)
    assert np.array_equal(adapter.get(), theta)
    assert np.array_equal(np.sort(theta), np.sort(np.concatenate([p.detach().numpy().reshape(-1) for p in trainable])))


@pytest.mark.parametrize(("kind", "model"), EACH)
def test_training_lowers_the_loss_of_its_batch(kind, model):
    adapter, task = make(kind, model), Classify()
    (job,) = jobs(model, adapter.get(), 1, steps=4, batch_size=10, optimizer="sgd", learning_rate=1e-3)
    (result,) = SequentialTrainer(adapter, task).run([job])
    assert result.delta.any()
    batch = task.batch(job.data, np.arange(10))
    losses = []
    for theta in (job.start, job.start + result.delta):
        adapter.set(theta)
        with torch.no_grad():
            losses.append(float(task.outcomes(adapter.model, batch, None).losses.double().mean()))
    assert losses[1] < losses[0]


@pytest.mark.parametrize("kind", [*LORA_VARIANTS, *PEFT_TYPES])
def test_the_mean_of_equal_updates_is_the_update(kind):
    adapter = make(kind, "bert")
    (job,) = jobs("bert", adapter.get(), 1)
    (result,) = SequentialTrainer(adapter, Classify()).run([job])
    codec = Int8()
    sent = codec.decode(codec.encode(result.delta), result.delta.size)
    mean = WeightedMean(adapter.layout.size)
    for weight in (3.0, 11.0, 2.0):
        mean.add(sent, weight)
    np.testing.assert_allclose(mean.mean(), sent, rtol=1e-6, atol=1e-9)
    assert np.linalg.norm(sent - result.delta) < 0.02 * np.linalg.norm(result.delta)


@pytest.mark.parametrize(("kind", "model"), EACH)
def test_seed_and_theta_are_the_whole_adapter_and_its_folder_computes_the_same(kind, model, tmp_path):
    adapter = make(kind, model)
    adapter.set(scattered(adapter.get()))
    wanted = outputs(adapter.model, model)
    other = make(kind, model)  # on another machine, with the same seed
    assert other.layout.digest == adapter.layout.digest
    other.set(adapter.get())
    torch.testing.assert_close(outputs(other.model, model), wanted, rtol=0, atol=0)
    folder = export_adapter(adapter, tmp_path / "out", base_name="org/base")
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == "org/base"
    loaded = outputs(peft.PeftModel.from_pretrained(encoder(model), str(folder)).eval(), model)
    torch.testing.assert_close(loaded[:, CUT.get(kind, 0) :], wanted, rtol=1e-4, atol=1e-5)
    if kind != "p_tuning":  # peft saves what its network makes, not the network
        again = make("saved", model, start=str(folder))
        assert again.layout.digest == adapter.layout.digest
        np.testing.assert_allclose(again.get(), adapter.get(), rtol=1e-6)


@pytest.mark.parametrize("kind", [kind for kind in (*LORA_VARIANTS, *PEFT_TYPES) if kind not in NOT_FROM_THE_BASE])
def test_the_untrained_adapter_computes_what_the_base_does(kind):
    torch.testing.assert_close(
        outputs(make(kind, "bert").model, "bert"), outputs(encoder("bert"), "bert"), rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize(("kind", "model"), EACH)
def test_clients_are_trained_together_or_the_plan_says_why_not(kind, model):
    adapter = make(kind, model)
    (job,) = jobs(model, adapter.get(), 1)
    choice = choose_trainer("batched", adapter, Classify(), job)
    assert choice.together == (kind not in ALONE)
    if not choice.together:
        assert "clients are trained one at a time" in choice.note
    elif kind not in LAST_BITS:
        assert choice.note == ""


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kind", ["lora", "dora", "ia3", "vera", "prefix_tuning"])
def test_a_fresh_head_is_trained_whole_beside_it_and_travels(kind, model, tmp_path):
    if model in NOT_ON.get(kind, ()):
        pytest.skip("peft has it for other architectures")
    adapter = make(kind, model, head=True)
    assert any(name.startswith(("classifier.", "score.")) for name in adapter.parameters)
    assert not any(name.startswith(("classifier.", "score.")) and "lora" in name for name in adapter.parameters)
    adapter.set(scattered(adapter.get()))
    folder = export_adapter(adapter, tmp_path / "out", base_name="org/base")
    loaded = peft.PeftModel.from_pretrained(encoder(model, head=True), str(folder)).eval()
    torch.testing.assert_close(outputs(loaded, model), outputs(adapter.model, model), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", sorted(NOT_FEDERATED))
def test_what_does_not_average_is_refused_by_name_and_reason(kind):
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    with pytest.raises(ValueError, match=f'"{kind}" cannot be trained by a federation: it') as caught:
        AdapterTable(type=kind)
    assert NOT_FEDERATED[kind] in str(caught.value)
    config = object.__new__(PEFT_TYPE_TO_CONFIG_MAPPING[getattr(peft.PeftType, kind.upper())])
    config.peft_type = getattr(peft.PeftType, kind.upper())
    from fedpeft.adapters import build_adapter

    with pytest.raises(ModelError, match="cannot be trained by a federation") as refused:
        build_adapter(encoder("bert"), config, seed=1)
    assert refused.value.code == "adapter.kind"


def test_every_type_of_this_peft_is_either_offered_or_refused():
    known = {kind.value.lower() for kind in peft.PeftType}
    assert known == {"lora", *PEFT_TYPES, *NOT_FEDERATED}


@pytest.mark.parametrize("kind", ["prompt_tuning", "p_tuning"])
@pytest.mark.parametrize("model", ["gpt2", "llama"])
def test_prompts_in_front_of_a_decoders_classifier_are_refused(kind, model):
    with pytest.raises(ModelError, match="padding") as caught:
        make(kind, model, head=True)
    assert "prefix_tuning" in str(caught.value.remedy)


def test_prompts_leave_one_hidden_state_a_token():
    for kind in ("prompt_tuning", "p_tuning", "prefix_tuning"):
        assert outputs(make(kind, "bert").model, "bert").shape == outputs(encoder("bert"), "bert").shape
