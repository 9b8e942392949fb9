"""A base in bf16: the adapter stays fp32, its gradients point where those of the fp32 base do, and runs say so."""

from __future__ import annotations

import numpy as np
import peft
import pytest
import torch
from tiny_models import NORMS, QUERY_AND_VALUE, Classify, encoder, jobs, linear_names, scattered, together_and_alone
from tiny_text import write_run

from fedpeft import api
from fedpeft.adapters import build_adapter
from fedpeft.config import load_run_file
from fedpeft.kernels import choose_kernel, install
from fedpeft.kernels.attention import register
from fedpeft.kernels.onednn import OneDnn
from fedpeft.training import SequentialTrainer
from fedpeft.training.batched import BatchedTrainer, examine

KINDS = ["bert", "vit", "gpt2", "llama"]


def adapter_of(kind, dtype, config=None, **more):
    config = config or peft.LoraConfig(r=4, target_modules=linear_names(encoder(kind)))
    model = encoder(kind, **({"attn_implementation": register()} if dtype == torch.bfloat16 else {}), **more).to(dtype)
    adapter = build_adapter(model, config, seed=1)
    assert adapter.theta.dtype == torch.float32
    return adapter


def cosine(a, b):
    return float(torch.nn.functional.cosine_similarity(a, b, dim=-1).min())


@pytest.mark.parametrize("kernel", ["torch", "onednn"])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_point_where_those_of_fp32_do(kind, kernel):
    if OneDnn().available(torch.zeros(1, dtype=torch.bfloat16)) and kernel == "onednn":
        pytest.skip("no packed kernel here")
    exact, half = (adapter_of(kind, dtype) for dtype in (torch.float32, torch.bfloat16))
    install(half.model, choose_kernel(kernel, [], dtype=torch.bfloat16, device="cpu").kernel)
    start = scattered(exact.get())
    exact.set(start)
    _, right = together_and_alone(exact, kind, clients=4)
    half.set(start)
    together, alone = together_and_alone(half, kind, clients=4)
    assert together.dtype == torch.float32
    assert cosine(together, alone) > 0.995
    assert cosine(together, right) > 0.995  # weights of this size, and so few of them, are harder than real ones


HEADS = {
    "head": ("bert", lambda: peft.LoraConfig(r=2, target_modules=["query"], modules_to_save=["classifier"])),
    "score": ("llama", lambda: peft.LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["score"])),
    "norms": ("bert", lambda: peft.LNTuningConfig(target_modules=NORMS["bert"])),
    "dora": ("bert", lambda: peft.LoraConfig(r=2, target_modules=["query"], use_dora=True)),
    "ia3": ("bert", lambda: peft.IA3Config(target_modules=QUERY_AND_VALUE["bert"], feedforward_modules=[])),
    "biases": ("bert", lambda: peft.LoraConfig(r=2, target_modules=["query"], bias="all")),
}


@pytest.mark.parametrize("name", HEADS)
def test_other_adapters_and_trained_layers(name):
    kind, config = HEADS[name]
    adapter = adapter_of(kind, torch.bfloat16, config(), head=name in ("head", "score"))
    install(adapter.model, choose_kernel("torch", [], dtype=torch.bfloat16, device="cpu").kernel)
    together, alone = together_and_alone(adapter, kind)
    assert cosine(together, alone) > 0.99
    (job,) = jobs(kind, adapter.get(), 1)
    trouble, _ = examine(adapter, Classify(), job)
    assert trouble == ""


@pytest.mark.parametrize("kind", KINDS)
def test_training_goes_where_the_sequential_trainer_goes(kind):
    adapter = adapter_of(kind, torch.bfloat16)
    work = jobs(kind, scattered(adapter.get()), 3, optimizer="sgd", learning_rate=0.1)
    together = list(BatchedTrainer(adapter, Classify()).run(work))
    alone = list(SequentialTrainer(adapter, Classify()).run(work))
    for mine, right in zip(together, alone, strict=True):
        assert mine.delta.dtype == np.float32
        assert np.linalg.norm(mine.delta - right.delta) < 0.05 * np.linalg.norm(right.delta)
    assert adapter.theta.dtype == torch.float32


@pytest.mark.parametrize("task", ["label-names", "linear-head"])
def test_a_run_file_asks_for_it_and_the_plan_says_so(tmp_path, task):
    plans = []
    config = load_run_file(write_run(tmp_path, model__dtype="bf16", model__task=task))
    result = api.run(config, on_plan=plans.append)
    assert result.rounds == 2
    assert result.federated >= result.zero_shot
    assert "bfloat16" in plans[0].arithmetic
    assert plans[0].trainer.startswith("together")
    other = api.run(load_run_file(write_run(tmp_path, model__task=task, run__name="fp32")))
    assert other.adapter_hash != result.adapter_hash
    assert abs(other.federated - result.federated) <= 0.25
