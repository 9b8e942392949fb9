"""A client's update is the same, bit by bit, whoever shares its passes, and however large these may be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import peft
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_models import QUERY_AND_VALUE, Classify, encoder, examples, linear_names, plan, scattered

from fedpeft.adapters import build_adapter
from fedpeft.kernels import choose_kernel, install
from fedpeft.kernels.onednn import OneDnn
from fedpeft.training import TrainingJob
from fedpeft.training.batched import BatchedTrainer

CLIENTS = 8
KERNELS = ["torch", "onednn"]
MANY = {"max_examples": 30, "deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}


def subject(kind, kernel="torch", *, dtype=torch.float32, dropout=0.0, config=None, head=False):
    """A model with a kernel installed, as every run has one; or without."""
    if kernel == "onednn" and (reason := OneDnn().available(torch.zeros(1, dtype=dtype))):
        pytest.skip(reason)
    model = encoder(kind, head=head).to(dtype)
    config = config or peft.LoraConfig(r=4, target_modules=QUERY_AND_VALUE[kind], lora_dropout=dropout)
    adapter = build_adapter(model, config, seed=1)
    if kernel != "none":
        install(adapter.model, choose_kernel(kernel, [], dtype=dtype, device="cpu").kernel)
    return adapter


def cohort(kind, start, **more):
    """Clients that differ in data, steps, batch size and the lengths of their texts."""
    found = []
    for k in range(CLIENTS):
        rows = examples(kind, 6 + k, seed=k, lengths=(3 + k % 3, 6))
        found.append(TrainingJob(plan(f"c{k}", steps=2 + k % 3, batch_size=(4, 3, 1)[k % 3], **more), start, rows))
    return found


def results(trainer, work):
    found = list(trainer.run(work))
    assert [result.plan for result in found] == [job.plan for job in work]
    return {result.plan.client: result for result in found}


def assert_same(some, reference):
    for client, result in some.items():
        assert result.fault is None
        assert np.array_equal(result.delta, reference[client].delta), client
        for key in ("loss_first", "loss_last"):
            assert result.metrics[key] == pytest.approx(reference[client].metrics[key], rel=1e-6)


def each_alone(adapter, work, task=None):
    alone = {}
    for job in work:
        alone |= results(BatchedTrainer(adapter, task or Classify()), [job])
    assert all(result.delta.any() for result in alone.values())
    return alone


SETTINGS = {
    "sgd": {"optimizer": "sgd", "learning_rate": 0.5},
    "adamw": {"weight_decay": 0.1},
    "fedprox": {"objective": "proximal", "objective_params": {"mu": 0.7}},
    "clipped": {"optimizer": "sgd", "learning_rate": 0.5, "max_grad_norm": 0.01},
}


@pytest.mark.parametrize("kernel", [*KERNELS, "none"])
@pytest.mark.parametrize("kind", ["bert", "vit", "gpt2", "llama"])
def test_of_1_2_5_or_8_clients(kind, kernel):
    adapter = subject(kind, kernel)
    work = cohort(kind, scattered(adapter.get()))
    alone = each_alone(adapter, work)
    for count in (2, 5, 8):
        assert_same(results(BatchedTrainer(adapter, Classify()), work[:count]), alone)
        assert_same(results(BatchedTrainer(adapter, Classify()), work[-count:]), alone)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("name", SETTINGS)
def test_under_any_plan(name, dropout, kernel):
    adapter = subject("bert", kernel, dropout=dropout)
    work = cohort("bert", scattered(adapter.get()), **SETTINGS[name])
    assert_same(results(BatchedTrainer(adapter, Classify()), work), each_alone(adapter, work))


@pytest.mark.parametrize("kernel", KERNELS)
def test_with_a_base_in_bf16(kernel):
    adapter = subject("llama", kernel, dtype=torch.bfloat16)
    work = cohort("llama", scattered(adapter.get()))
    alone = each_alone(adapter, work)
    assert_same(results(BatchedTrainer(adapter, Classify()), work), alone)
    assert all(result.delta.dtype == np.float32 for result in alone.values())


@pytest.mark.parametrize(
    "config",
    [
        peft.LoraConfig(r=4, target_modules=["query"], use_dora=True, lora_dropout=0.2),
        peft.IA3Config(target_modules=["query", "value"], feedforward_modules=[]),
        peft.LNTuningConfig(target_modules=["LayerNorm"]),
        peft.LoraConfig(r=2, target_modules=["query"], bias="all"),
        peft.VeraConfig(r=4, target_modules=["query", "value"]),
    ],
    ids=["dora-dropout", "ia3", "norms", "biases", "vera"],
)
def test_of_other_adapters(config):
    adapter = subject("bert", config=config)
    work = cohort("bert", scattered(adapter.get(), spread=0.02))
    assert_same(results(BatchedTrainer(adapter, Classify()), work), each_alone(adapter, work))


@pytest.mark.parametrize("kernel", KERNELS)
def test_of_odd_sizes(kernel):
    """Where a client's tensors begin in memory then depends on its seat."""
    config = peft.LoraConfig(r=3, target_modules=["query", "dense"], modules_to_save=["classifier"])
    adapter = subject("bert", kernel, config=config, head=True)
    assert adapter.layout.size % 2 == 1
    work = cohort("bert", scattered(adapter.get()), max_grad_norm=0.1)
    assert_same(results(BatchedTrainer(adapter, Classify()), work), each_alone(adapter, work))


@pytest.fixture(scope="module")
def reference():
    """Adapter, jobs and what each gives alone; BERT, all layers, dropout, packed matrices."""
    adapter = subject(
        "bert",
        "onednn",
        config=peft.LoraConfig(r=4, target_modules=linear_names(encoder("bert")), lora_dropout=0.2),
    )
    work = cohort("bert", scattered(adapter.get()))
    return adapter, work, each_alone(adapter, work)


@pytest.mark.slow
@settings(**MANY)
@given(
    order=st.permutations(range(CLIENTS)),
    count=st.integers(1, CLIENTS),
    rows=st.sampled_from([1, 20, 60, 200, 4096]),
    memory=st.sampled_from([0, 60_000, 300_000, 300_000_000]),
)
def test_in_any_order_and_any_size_of_passes(reference, order, count, rows, memory):
    adapter, work, alone = reference
    trainer = BatchedTrainer(adapter, Classify(), rows=rows, memory=memory)
    assert_same(results(trainer, [work[place] for place in order[:count]]), alone)


@pytest.mark.slow
@settings(**MANY)
@given(
    clients=st.lists(
        st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(2, 12), st.integers(2, 9), st.booleans()),
        min_size=2,
        max_size=5,
    )
)
def test_of_any_clients(reference, clients):
    """Steps, batch size, examples, longest text, and whether all of a client's texts are that long."""
    adapter, (first, *_), _ = reference
    work = [
        TrainingJob(
            plan(f"x{k}", steps=steps, batch_size=batch),
            first.start,
            examples("bert", count, seed=k, lengths=(longest if equal else 2, longest)),
        )
        for k, (steps, batch, count, longest, equal) in enumerate(clients)
    ]
    assert_same(results(BatchedTrainer(adapter, Classify()), work), each_alone(adapter, work))


def test_from_different_starts(reference):
    adapter, work, alone = reference
    moved = [replace(job, start=scattered(job.start, seed=k)) if k % 2 else job for k, job in enumerate(work)]
    found = results(BatchedTrainer(adapter, Classify()), moved)
    assert_same(found, each_alone(adapter, moved))
    assert not np.array_equal(found["c1"].delta, alone["c1"].delta)


def test_one_trainer_serves_many_cohorts(reference):
    adapter, work, alone = reference
    trainer = BatchedTrainer(adapter, Classify())
    for part in (work[:3], work[5:], work, work[2:4]):
        assert_same(results(trainer, part), alone)
