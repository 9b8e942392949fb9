"""HetLoRA's local objective: its gradient is that of the term in its docstring, and it shrinks what it names."""

from dataclasses import replace

import numpy as np
import peft
import pytest
import torch
from tiny_models import plan

from fedpeft.adapters import build_adapter
from fedpeft.errors import PluginError
from fedpeft.layouts import make_layout
from fedpeft.registry import build
from fedpeft.training import SequentialTrainer, TrainingJob
from fedpeft.training.objectives import fitted
from fedpeft.training.objectives.open import open_objective
from fedpeft.training.tasks.custom import CustomTask

LAYOUT = make_layout({
    "classifier.bias": (3,),
    "conv.lora_A.weight": (4, 2, 3, 3), "conv.lora_B.weight": (5, 4, 1, 1),
    "narrow.lora_A.weight": (2, 7), "narrow.lora_B.weight": (5, 2),
    "wide.lora_A.weight": (4, 7), "wide.lora_B.weight": (6, 4),
})  # fmt: skip


def random(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def places(layout=LAYOUT):
    return {tensor.name: slice(tensor.offset, tensor.offset + tensor.size) for tensor in layout.tensors}


def term(theta, kept):
    """Σ ‖B[:, kept:]‖ ‖A[kept:, :]‖, as one would write it."""
    total, at = 0.0, places()
    for name, rank in (("conv", 4), ("narrow", 2), ("wide", 4)):
        a = theta[at[f"{name}.lora_A.weight"]].reshape(rank, -1)[kept:]
        b = theta[at[f"{name}.lora_B.weight"]].reshape(-1, rank)[:, kept:]
        if a.numel():
            total = total + b.norm() * a.norm()
    return total


def small_tail(kept, regularisation=0.3):
    return fitted(build("objective", "small-tail", {"regularisation": regularisation, "kept": kept}), LAYOUT)


@pytest.mark.parametrize("kept", [0, 1, 2.0, 3])
def test_the_gradient_is_that_of_the_term(kept):
    theta = random(LAYOUT.size, seed=2).requires_grad_()
    (0.3 * term(theta, int(kept))).backward()
    before = random(LAYOUT.size, seed=3)
    gradient = before.clone()
    small_tail(kept).add_gradient(gradient, theta.detach(), theta.detach())
    assert torch.allclose(gradient - before, theta.grad, atol=1e-12)


def test_where_nobody_has_a_tail_nothing_is_added():
    gradient = random(LAYOUT.size, seed=1)
    before = gradient.clone()
    small_tail(4).add_gradient(gradient, random(LAYOUT.size, seed=2), random(LAYOUT.size, seed=2))
    assert torch.equal(gradient, before)


@pytest.mark.parametrize("zero", [["wide.lora_B.weight"], ["wide.lora_A.weight"], list(places())])
def test_the_gradient_of_a_norm_at_0_is_0(zero):
    theta, at = random(LAYOUT.size, seed=2).float(), places()
    for name in zero:
        theta[at[name]] = 0.0
    gradient = torch.zeros(LAYOUT.size)
    small_tail(2).add_gradient(gradient, theta, theta)
    assert torch.isfinite(gradient).all()
    assert not gradient[at["wide.lora_A.weight"]].any() or not gradient[at["wide.lora_B.weight"]].any()
    for name in zero:
        assert not gradient[at[name]].any(), name


def test_it_is_for_one_client_or_many():
    theta, gradient = random(3, LAYOUT.size, seed=1), random(3, LAYOUT.size, seed=2)
    many, objective = gradient.clone(), small_tail(1)
    objective.add_gradient(many, theta, theta)
    for client in range(3):
        one = gradient[client].clone()
        objective.add_gradient(one, theta[client], theta[client])
        assert torch.allclose(one, many[client], atol=1e-14)


def test_without_a_layout_it_says_so():
    objective = open_objective(
        replace(plan("c0"), objective="small-tail", objective_params={"regularisation": 0.1, "kept": 1}),
        {}, {}, torch.zeros(LAYOUT.size),
    )  # fmt: skip
    with pytest.raises(RuntimeError, match="fitted"):
        objective.add_gradient(torch.zeros(LAYOUT.size), torch.zeros(LAYOUT.size), torch.zeros(LAYOUT.size))


@pytest.mark.parametrize(
    "params",
    [
        {"regularisation": -0.1, "kept": 1},
        {"regularisation": float("nan"), "kept": 1},
        {"regularisation": 0.1, "kept": -1},
        {"regularisation": 0.1, "kept": 1.5},
        {"regularisation": 0.1, "kept": float("nan")},
        {"regularisation": 0.1, "kept": float("inf")},
        {"regularisation": 0.1},
    ],
)
def test_a_number_out_of_its_range_is_refused(params):
    with pytest.raises(PluginError) as caught:
        build("objective", "small-tail", params)
    assert caught.value.code == "plugin.objective-parameter"


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_training_with_it_shrinks_the_tail_and_leaves_what_is_above_the_rank_alone(optimizer):
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(8, 8))
    adapter = build_adapter(model, peft.LoraConfig(r=4, target_modules=["0"]), seed=3)
    start = np.random.default_rng(1).normal(0, 0.3, adapter.layout.size).astype(np.float32)
    x = torch.randn(12, 8)
    data = [(x[i], (x[i, 0] > 0).long()) for i in range(12)]

    def each(model, batch):
        return torch.nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")

    def trained(**more):
        job = TrainingJob(plan("c0", rank=3, steps=20, optimizer=optimizer, **more), start, data)
        (result,) = SequentialTrainer(adapter, CustomTask(each)).run([job])
        at = places(adapter.layout)
        theta = start + result.delta
        moved_a = result.delta[at["0.lora_A.weight"]].reshape(4, -1)
        moved_b = result.delta[at["0.lora_B.weight"]].reshape(-1, 4)
        assert not moved_a[3].any()
        assert not moved_b[:, 3].any()
        a = theta[at["0.lora_A.weight"]].reshape(4, -1)[2:3]
        b = theta[at["0.lora_B.weight"]].reshape(-1, 4)[:, 2:3]
        return np.linalg.norm(b @ a)

    pulled = trained(objective="small-tail", objective_params={"regularisation": 1.0, "kept": 2.0})
    assert pulled < 0.5 * trained()
