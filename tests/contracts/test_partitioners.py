"""What every partitioner must keep. To put one under this contract, add a line to `PARTITIONERS`."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpeft.config import PluginTable
from fedpeft.data.partition import deal
from fedpeft.errors import DataError
from fedpeft.registry import BUILTIN, load


@dataclass(frozen=True)
class Entry:
    name: str
    params: Callable[[int, int], dict] = lambda labels, clients: {}
    classes: Callable[[int, int], int] = lambda drawn, clients: drawn  # how many labels it can deal
    chance: bool = True  # the seed matters

    def table(self, labels: np.ndarray, clients: int) -> PluginTable:
        return PluginTable(name=self.name, **self.params(len(np.unique(labels)), clients))

    def deal(self, labels: np.ndarray, clients: int, seed: int) -> list[np.ndarray]:
        return deal(self.table(labels, clients), labels, clients, seed)


def evenly(labels: int, clients: int) -> dict:
    return {"distribution_array": [[1.0] * clients] * labels}


PARTITIONERS = [
    Entry("iid"),
    Entry("dirichlet"),
    Entry("dirichlet", lambda labels, clients: {"alpha": 0.1, "min_examples": 1}),
    Entry("dirichlet", lambda labels, clients: {"alpha": 100.0}),
    Entry("pathological", classes=lambda drawn, clients: min(drawn, 2 * clients)),
    Entry(
        "pathological",
        lambda labels, clients: {"num_classes_per_partition": labels, "class_assignment_mode": "deterministic"},
    ),
    Entry(
        "pathological",
        lambda labels, clients: {
            "num_classes_per_partition": min(labels, 3),
            "class_assignment_mode": "first-deterministic",
        },
        classes=lambda drawn, clients: max(3, min(drawn, 2 * clients)),
    ),
    Entry("shard"),
    Entry("shard", lambda labels, clients: {"num_shards_per_partition": 5}),
    Entry("shard", lambda labels, clients: {"shard_size": 3}),
    Entry("linear"),
    Entry("square"),
    Entry("exponential"),
    Entry("exponential", lambda labels, clients: {"min_examples": 1}),
    Entry("distribution", evenly),
    Entry("natural-id", classes=lambda drawn, clients: clients, chance=False),
]
every_partitioner = pytest.mark.parametrize("entry", PARTITIONERS, ids=lambda entry: entry.name)


def some_labels(count: int, classes: int) -> np.ndarray:
    return np.arange(count, dtype=np.int64) % classes


def test_every_partitioner_is_on_the_list():
    assert {entry.name for entry in PARTITIONERS} == set(BUILTIN["partitioner"])


@every_partitioner
@settings(max_examples=30, deadline=None)
@given(clients=st.integers(1, 8), extra=st.integers(0, 300), classes=st.integers(5, 20), seed=st.integers(0, 2**64 - 1))
def test_every_example_is_dealt_exactly_once(entry, clients, extra, classes, seed):
    labels = some_labels(40 * clients + extra, entry.classes(classes, clients))
    table = entry.table(labels, clients)
    parts = load("partitioner", entry.name)(labels, clients, seed, **table.params)  # before `deal` sorts and checks
    assert len(parts) == clients
    assert all(part.dtype == np.int64 and part.size > 0 for part in parts)
    assert all(np.array_equal(part, np.sort(part)) for part in parts)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(labels)))


@every_partitioner
def test_the_seed_is_all_the_chance_there_is(entry):
    labels = some_labels(500, entry.classes(10, 5))
    first, again, other = (entry.deal(labels, 5, seed) for seed in (7, 7, 8))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert entry.chance != all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


@every_partitioner
def test_the_labels_are_left_alone(entry):
    labels = some_labels(200, entry.classes(10, 5))
    labels.setflags(write=False)
    entry.deal(labels, 5, 7)
    assert np.array_equal(labels, some_labels(200, entry.classes(10, 5)))


@every_partitioner
def test_more_clients_than_examples_is_an_error_with_a_remedy(entry):
    labels = some_labels(3, 2)
    with pytest.raises(DataError, match=r"client c0\d is left with .*3 examples|2 natural clients") as caught:
        entry.deal(labels, 5, 7)
    assert caught.value.code in {"data.empty-client", "data.natural-clients"}
    assert "client" in str(caught.value.remedy)
