"""Batches go where the model is, whatever they are made of; on the CPU nothing is wrapped."""

from collections import namedtuple
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from tiny_models import Classify, examples

from fedpeft.training.batches import Count
from fedpeft.training.placed import device_of, placed, to_device

META = torch.device("meta")  # holds shapes and no numbers: the one device that every torch has beside the CPU
Pair = namedtuple("Pair", "x y")


@dataclass(frozen=True)
class Batch:
    inputs: dict
    labels: torch.Tensor
    name: str


def test_every_tensor_of_a_tree_moves_and_nothing_else_changes():
    one = torch.ones(2)
    tree = Batch({"a": one, "b": [one, (one, 3)], "c": Pair(one, None), "n": Count(2)}, one, "batch")
    moved = to_device(tree, META)
    assert type(moved) is Batch
    assert moved.labels.is_meta
    assert moved.inputs["a"].is_meta
    assert moved.inputs["b"][0].is_meta
    assert moved.inputs["b"][1][0].is_meta
    assert moved.inputs["b"][1][1] == 3
    assert type(moved.inputs["c"]) is Pair
    assert moved.inputs["c"].x.is_meta
    assert moved.inputs["c"].y is None
    assert type(moved.inputs["n"]) is Count
    assert moved.name == "batch"
    assert not one.is_meta


def test_a_task_on_the_cpu_is_itself():
    task = Classify()
    assert placed(task, torch.device("cpu")) is task


def test_a_placed_task_moves_its_batches_and_hands_on_the_rest():
    task = Classify()
    task.headline = "accuracy"
    elsewhere = placed(task, META)
    _, inputs, labels = elsewhere.batch(examples("bert", 4, seed=1), np.arange(2))
    assert labels.is_meta
    assert all(tensor.is_meta for tensor in inputs.values())
    assert elsewhere.headline == "accuracy"
    assert not hasattr(elsewhere, "judge")
    with pytest.raises(AttributeError):
        elsewhere.nonsense


def test_a_model_is_where_its_parameters_are():
    assert device_of(torch.nn.Linear(2, 2, device=META)) == META
    assert device_of(torch.nn.Identity()) == torch.device("cpu")
