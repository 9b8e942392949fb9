"""Clients of a smaller rank: what is cut off their start, and that it stays at zero while they train."""

import numpy as np
import peft
import pytest
from tiny_models import QUERY_AND_VALUE, Classify, encoder, examples, plan, scattered

from fedpeft.adapters import build_adapter
from fedpeft.adapters.ranks import truncate
from fedpeft.training import SequentialTrainer, TrainingJob
from fedpeft.training.batched import BatchedTrainer
from fedpeft.types import ALL_COMPONENTS


@pytest.fixture(scope="module")
def adapter():
    return build_adapter(encoder("bert"), peft.LoraConfig(r=4, target_modules=QUERY_AND_VALUE["bert"]), seed=1)


def cut_off(adapter, theta, rank):
    """The components of θ beyond a rank, and those within it."""
    beyond, within = [], []
    for tensor in adapter.layout.tensors:
        values = theta[tensor.offset : tensor.offset + tensor.size].reshape(tensor.shape)
        by_component = values if "lora_A" in tensor.name else values.T
        beyond.append(by_component[rank:].ravel())
        within.append(by_component[:rank].ravel())
    return np.concatenate(beyond), np.concatenate(within)


def test_the_first_components_stay_and_the_others_are_zero(adapter):
    theta = scattered(adapter.get())
    beyond, within = cut_off(adapter, truncate(theta, adapter.layout, 3), 3)
    assert not beyond.any()
    assert np.array_equal(within, cut_off(adapter, theta, 3)[1])
    assert truncate(theta, adapter.layout, ALL_COMPONENTS) is theta
    assert np.array_equal(truncate(theta, adapter.layout, 9), theta)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("trainer", [SequentialTrainer, BatchedTrainer])
def test_what_was_cut_off_is_not_trained(adapter, trainer, optimizer):
    start = scattered(adapter.get())
    work = [
        TrainingJob(
            plan(f"c{rank}", steps=3, rank=rank, optimizer=optimizer, weight_decay=0.1, objective="proximal",
                 objective_params={"mu": 0.5}),
            start,
            examples("bert", 8, seed=rank),
        )
        for rank in (1, 2, 4)
    ]  # fmt: skip
    for result in trainer(adapter, Classify()).run(work):
        beyond, within = cut_off(adapter, result.delta, result.plan.rank)
        assert not beyond.any(), result.plan.client
        assert (within != 0).all(), result.plan.client


def test_a_client_of_rank_2_trains_as_in_a_federation_of_rank_2(adapter):
    """The same A and B, cut: the scaling is that of the federation's rank."""
    start = scattered(adapter.get())
    small = build_adapter(
        encoder("bert"), peft.LoraConfig(r=2, lora_alpha=4, target_modules=QUERY_AND_VALUE["bert"]), seed=1
    )  # alpha / r = 2, as LoraConfig's 8 / 4
    data = examples("bert", 8, seed=3)
    own = cut_off(adapter, start, 2)[1]
    alike = np.zeros(small.layout.size, dtype=np.float32)
    place = 0
    for tensor in small.layout.tensors:
        values = own[place : place + tensor.size]
        place += tensor.size
        values = values.reshape(tensor.shape) if "lora_A" in tensor.name else values.reshape(tensor.shape[::-1]).T
        alike[tensor.offset : tensor.offset + tensor.size] = values.ravel()
    (large_result,) = BatchedTrainer(adapter, Classify()).run(
        [TrainingJob(plan("c0", steps=3, rank=2, optimizer="sgd"), start, data)]
    )
    (small_result,) = BatchedTrainer(small, Classify()).run(
        [TrainingJob(plan("c0", steps=3, optimizer="sgd"), alike, data)]
    )
    assert cut_off(adapter, large_result.delta, 2)[1] == pytest.approx(
        cut_off(small, small_result.delta, 2)[1], abs=1e-6
    )
