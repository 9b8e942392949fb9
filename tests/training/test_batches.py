"""Batches of any shape of tree are joined example by example, or refused."""

from __future__ import annotations

from collections import OrderedDict, UserDict
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from fedpeft.training.batches import Count, join, signature
from fedpeft.training.tasks.text import TextBatch


class Pair(NamedTuple):
    x: torch.Tensor
    y: torch.Tensor


@dataclass(frozen=True)
class Record:
    inputs: dict
    labels: torch.Tensor
    name: str = "same"


def tensor(start, count=2, width=3):
    return torch.arange(start, start + count * width).view(count, width).float()


TREES = {
    "tensor": lambda k: tensor(k),
    "tuple": lambda k: (tensor(k), torch.tensor([k, k])),
    "list": lambda k: [tensor(k), None],
    "named tuple": lambda k: Pair(tensor(k), torch.tensor([k, k])),
    "dict": lambda k: {"x": tensor(k), "deep": {"y": torch.tensor([k, k])}, "task": "same", "rate": 0.5},
    "ordered dict": lambda k: OrderedDict(x=tensor(k)),
    "mapping of one's own": lambda k: UserDict(x=tensor(k)),
    "data class": lambda k: Record({"x": tensor(k)}, torch.tensor([k, k])),
    "text batch": lambda k: TextBatch(
        {"input_ids": torch.full((2, 3), k), "attention_mask": torch.ones(2, 3)}, torch.tensor([k, k])
    ),
    "counted": lambda k: (Count(2), tensor(k)),
}


def leaves(tree):
    if isinstance(tree, torch.Tensor):
        return [tree]
    if isinstance(tree, dict | UserDict):
        return [leaf for part in tree.values() for leaf in leaves(part)]
    if isinstance(tree, tuple | list):
        return [leaf for part in tree for leaf in leaves(part)]
    if hasattr(tree, "labels"):
        return [*leaves(tree.inputs), tree.labels]
    return []


@pytest.mark.parametrize("name", TREES)
def test_examples_are_joined_in_order_and_the_tree_keeps_its_types(name):
    parts = [TREES[name](k) for k in range(3)]
    assert len({signature(part) for part in parts}) == 1
    joined = join(parts)
    assert type(joined) is type(parts[0])
    for together, *single in zip(leaves(joined), *map(leaves, parts), strict=True):
        assert torch.equal(together, torch.cat(single))
    assert leaves(joined)
    assert join(parts[:1]) is parts[0]


def test_what_is_no_tensor_stays_and_counts_add_up():
    joined = join([TREES["dict"](k) for k in range(3)])
    assert (joined["task"], joined["rate"]) == ("same", 0.5)
    count, _ = join([TREES["counted"](k) for k in range(3)])
    assert count == 6
    assert type(count) is Count


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (tensor(0), tensor(0, count=3)),
        (tensor(0), tensor(0, width=4)),
        (tensor(0), tensor(0).double()),
        ({"x": tensor(0)}, {"y": tensor(0)}),
        ((tensor(0),), [tensor(0)]),
        ({"x": tensor(0), "k": 1}, {"x": tensor(0), "k": 2}),
        ({"x": tensor(0), "k": "a"}, {"x": tensor(0), "k": "b"}),
        ((Count(2), tensor(0)), (Count(3), tensor(0))),
        (Record({}, tensor(0)), TextBatch({}, tensor(0))),
        ((tensor(0), None), (tensor(0), tensor(0))),
    ],
)
def test_other_shapes_types_and_constants_do_not_go_together(one, other):
    assert signature(one) != signature(other)
    assert signature(one) == signature(one)


def test_a_mask_that_hides_something_goes_with_others_that_do():
    """Models take another routine where nothing is hidden, and with it other last bits."""
    full = {"input_ids": torch.ones(2, 3), "attention_mask": torch.ones(2, 3)}
    some = {**full, "attention_mask": torch.tensor([[1.0, 1, 1], [1, 1, 0]])}
    other = {**full, "attention_mask": torch.tensor([[1.0, 0, 0], [1, 1, 1]])}
    assert signature(full) != signature(some) == signature(other)


def test_a_number_for_the_whole_batch_cannot_be_joined():
    with pytest.raises(TypeError, match="without an axis of examples"):
        join([(tensor(0), torch.tensor(0.5))] * 2)


@pytest.mark.parametrize("thing", [np.ones(3), {1, 2}], ids=["array", "set"])
def test_what_cannot_be_compared_is_named(thing):
    with pytest.raises(TypeError, match=f"a batch holds a {type(thing).__name__}"):
        signature({"x": thing})


def test_objects_of_ones_own_never_go_together_by_accident():
    class Graph:
        pass

    assert signature((tensor(0), Graph())) != signature((tensor(0), Graph()))


def test_torch_s_own_collate_gives_what_can_be_joined():
    items = [{"x": np.ones(3, np.float32) * k, "y": k, "z": 0.5} for k in range(6)]
    parts = [default_collate(items[:3]), default_collate(items[3:])]
    assert signature(parts[0]) == signature(parts[1])
    joined = join(parts)
    assert joined["y"].tolist() == [0, 1, 2, 3, 4, 5]
    assert torch.equal(joined["x"], default_collate(items)["x"])
