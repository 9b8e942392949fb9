"""Every kind of adapter that peft brings: three clients in one pass get the gradients that plain peft gives each alone.

A new kind is one line in `ADAPTERS`.
"""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import peft
import pytest
import torch
from tiny_models import (
    NORMS,
    QUERY_AND_VALUE,
    Classify,
    assert_close,
    encoder,
    jobs,
    linear_names,
    scattered,
    together_and_alone,
)

from fedpeft.adapters import build_adapter
from fedpeft.training import SequentialTrainer
from fedpeft.training.batched import BatchedTrainer, examine
from fedpeft.training.choice import choose_trainer
from fedpeft.training.zeroth.batched import BatchedZerothTrainer
from fedpeft.training.zeroth.check import examine_losses
from fedpeft.training.zeroth.estimators.two_point import TwoPoint
from fedpeft.training.zeroth.record import ZerothSettings
from fedpeft.zeroth.coordinates import Coordinates
from fedpeft.zeroth.hadamard import HadamardPool
from fedpeft.zeroth.replica import Replica

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),  # what peft says of its own kinds
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

EVERYWHERE = ("bert", "vit", "gpt2", "llama")
NO_CONV1D = ("bert", "vit", "llama")


def on(kind, config, **more):
    return config(target_modules=QUERY_AND_VALUE[kind], **more)


def lora(kind, **more):
    return on(kind, peft.LoraConfig, **{"r": 4, **more})


ADAPTERS = {  # name -> (where peft allows it, kind of model -> configuration)
    "lora": (EVERYWHERE, lora),
    "lora-all-linear": (EVERYWHERE, lambda kind: peft.LoraConfig(r=4, target_modules=linear_names(encoder(kind)))),
    "rslora": (EVERYWHERE, lambda kind: lora(kind, use_rslora=True)),
    "ranks": (
        EVERYWHERE,
        lambda kind: lora(
            kind, rank_pattern={QUERY_AND_VALUE[kind][0]: 2}, alpha_pattern={QUERY_AND_VALUE[kind][-1]: 3}
        ),
    ),
    "lora-dropout": (EVERYWHERE, lambda kind: lora(kind, lora_dropout=0.3)),
    "pissa": (EVERYWHERE, lambda kind: lora(kind, init_lora_weights="pissa")),
    "dora": (EVERYWHERE, lambda kind: lora(kind, use_dora=True)),
    "dora-dropout": (("bert",), lambda kind: lora(kind, use_dora=True, lora_dropout=0.3)),
    "bias-all": (EVERYWHERE, lambda kind: lora(kind, bias="all")),
    "bias-lora-only": (EVERYWHERE, lambda kind: lora(kind, bias="lora_only")),
    "lora-bias": (("bert",), lambda kind: lora(kind, lora_bias=True)),
    "tokens": (("bert", "gpt2", "llama"), lambda kind: lora(kind, trainable_token_indices=[3, 7, 11])),
    "embedding": (("bert",), lambda kind: peft.LoraConfig(r=4, target_modules=["word_embeddings", "query"])),
    "convolution": (("vit",), lambda kind: peft.LoraConfig(r=4, target_modules=["projection", "q_proj"])),
    "ia3": (EVERYWHERE, lambda kind: on(kind, peft.IA3Config, feedforward_modules=[])),
    "ia3-feedforward": (("bert",), lambda kind: on(kind, peft.IA3Config, feedforward_modules=["value"])),
    "norms": (EVERYWHERE, lambda kind: peft.LNTuningConfig(target_modules=NORMS[kind])),
    "vera": (EVERYWHERE, lambda kind: on(kind, peft.VeraConfig, r=4)),
    "loha": (NO_CONV1D, lambda kind: on(kind, peft.LoHaConfig, r=2)),
    "loha-dropout": (("bert",), lambda kind: on(kind, peft.LoHaConfig, r=2, module_dropout=0.5, rank_dropout=0.2)),
    "lokr": (NO_CONV1D, lambda kind: on(kind, peft.LoKrConfig, r=2)),
    "oft": (NO_CONV1D, lambda kind: on(kind, peft.OFTConfig, r=0, oft_block_size=4)),
    "boft": (NO_CONV1D, lambda kind: on(kind, peft.BOFTConfig, boft_block_size=4)),
    "hra": (NO_CONV1D, lambda kind: on(kind, peft.HRAConfig, r=2)),
    "miss": (NO_CONV1D, lambda kind: on(kind, peft.MissConfig, r=2)),
    "fourierft": (EVERYWHERE, lambda kind: on(kind, peft.FourierFTConfig, n_frequency=10)),
    "waveft": (("bert",), lambda kind: on(kind, peft.WaveFTConfig, n_frequency=16)),
    "c3a": (("bert",), lambda kind: on(kind, peft.C3AConfig, block_size=8)),
    "randlora": (("bert", "gpt2"), lambda kind: on(kind, peft.RandLoraConfig, r=2)),
    "road": (("bert",), lambda kind: on(kind, peft.RoadConfig, group_size=16)),
    "shira": (("bert",), lambda kind: on(kind, peft.ShiraConfig, r=2)),
    "vblora": (("bert",), lambda kind: on(kind, peft.VBLoRAConfig, r=2, num_vectors=8, vector_length=8, topk=2)),
    "delora": (("bert",), lambda kind: on(kind, peft.DeloraConfig, r=2)),
    "gralora": (("bert", "gpt2"), lambda kind: on(kind, peft.GraloraConfig, r=4, gralora_k=2)),
    "hira": (("bert", "gpt2"), lambda kind: on(kind, peft.HiraConfig, r=2)),
    "peanut": (("bert",), lambda kind: on(kind, peft.PeanutConfig)),
    "psoft": (("bert",), lambda kind: on(kind, peft.PsoftConfig, r=2)),
    "pvera": (("bert", "gpt2"), lambda kind: on(kind, peft.PveraConfig, r=4)),
    "tinylora": (("bert",), lambda kind: on(kind, peft.TinyLoraConfig)),
    "unilora": (("bert",), lambda kind: on(kind, peft.UniLoraConfig)),
    "lily": (("bert",), lambda kind: on(kind, peft.LilyConfig)),
    "glora": (("bert",), lambda kind: on(kind, peft.GloraConfig)),
    "beft": (("bert",), lambda kind: on(kind, peft.BeftConfig)),
    "deft": (("bert",), lambda kind: on(kind, peft.DeftConfig)),
    "adamss": (("bert",), lambda kind: on(kind, peft.AdamssConfig)),
}
LAST_BITS = {"glora", "adamss", "convolution"}
"""Kinds whose own arithmetic rounds otherwise when mapped over another number of clients; the run's plan says so."""

EACH = [(name, kind) for name, (kinds, _) in ADAPTERS.items() for kind in kinds]


def adapter_of(name, kind, **more):
    config = ADAPTERS[name][1](kind) if isinstance(name, str) else name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return build_adapter(encoder(kind, **more), config, seed=1)


@pytest.mark.parametrize(("name", "kind"), EACH, ids=lambda value: value)
def test_gradients_together_are_those_of_each_alone(name, kind):
    adapter = adapter_of(name, kind)
    together, alone = together_and_alone(adapter, kind)
    assert_close(adapter, together, alone)
    assert not torch.allclose(alone[0], alone[1], rtol=0.01)  # the clients are not one and the same


@pytest.mark.parametrize(("name", "kind"), [(name, kinds[0]) for name, (kinds, _) in ADAPTERS.items()])
def test_the_check_at_start_lets_it_pass_and_leaves_no_trace(name, kind):
    adapter = adapter_of(name, kind)
    (job,) = jobs(kind, adapter.get(), 1)
    before = adapter.get()
    trouble, note = examine(adapter, Classify(), job)
    assert trouble == ""
    assert bool(note) == (name in LAST_BITS)
    assert np.array_equal(adapter.get(), before)
    assert not adapter.gradient.any()
    assert not any("forward" in vars(module) for module in adapter.model.modules())
    assert not any(module.training for module in adapter.model.modules())


@pytest.mark.parametrize(("name", "kind"), [(name, kinds[0]) for name, (kinds, _) in ADAPTERS.items()])
def test_losses_without_gradients_together_are_those_of_each_alone(name, kind):
    """The zeroth-order trainer's own check at start, over the same kinds; dropout is off there."""
    adapter = adapter_of(name, kind)
    (job,) = jobs(kind, adapter.get(), 1)
    coordinates = Coordinates(size=16, epochs=1, refresh=0, unit=1e-6, directions=1, seed=1)
    replica = Replica(adapter.get(), HadamardPool(16, 1), coordinates)
    trainer = BatchedZerothTrainer(adapter, Classify(), replica, ZerothSettings(TwoPoint(), 1e-3, 1e3))
    trouble, note = examine_losses(trainer, replace(job, start=np.zeros(16, dtype=np.float32)))
    assert trouble == ""
    assert not note or name in LAST_BITS
    assert not any("forward" in vars(module) for module in adapter.model.modules())


@pytest.mark.parametrize("kind", EVERYWHERE)
def test_a_fully_trained_head(kind):
    head = "classifier" if kind in ("bert", "vit") else "score"
    config = lora(kind, modules_to_save=[head])
    adapter = adapter_of(config, kind, head=True)
    assert any(head in tensor.name for tensor in adapter.layout.tensors)
    together, alone = together_and_alone(adapter, kind)
    assert_close(adapter, together, alone)


def test_a_kind_that_cannot_go_together_goes_one_by_one_and_the_plan_says_why():
    """Peft makes a prompt once for a whole batch, whoever its examples belong to."""
    adapter = adapter_of(peft.PromptTuningConfig(num_virtual_tokens=3), "bert")
    (job,) = jobs("bert", adapter.get(), 1)
    choice = choose_trainer("batched", adapter, Classify(), job)
    assert not choice.together
    assert "one at a time: prompt_encoder.default.embedding sees an input of shape (1, 3) for 2 clients" in choice.note


@pytest.mark.parametrize("name", ["lora-all-linear", "lora-dropout", "dora-dropout", "loha-dropout", "norms", "ia3"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_whole_trainings_agree_with_the_sequential_trainer(name, optimizer):
    adapter = adapter_of(name, "bert")
    rate = 0.2 if optimizer == "sgd" else 1e-3
    work = jobs("bert", scattered(adapter.get()), 3, optimizer=optimizer, learning_rate=rate, steps=4)
    together = list(BatchedTrainer(adapter, Classify()).run(work))
    alone = list(SequentialTrainer(adapter, Classify()).run(work))
    for mine, right in zip(together, alone, strict=True):
        assert mine.plan == right.plan
        # Adam divides by a gradient's own size: where that is nearly 0, rounding decides the sign of a step
        tolerance = 1e-5 if optimizer == "sgd" else 1e-2
        assert np.linalg.norm(mine.delta - right.delta) <= tolerance * np.linalg.norm(right.delta)
        assert mine.metrics["loss_last"] == pytest.approx(right.metrics["loss_last"], rel=1e-5)
