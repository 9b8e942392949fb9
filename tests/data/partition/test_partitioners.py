"""What every partitioner must keep; a new one is one line in `PARTITIONERS`."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpeft.config import PluginTable
from fedpeft.data.partition import deal
from fedpeft.data.partition.dirichlet import dirichlet
from fedpeft.data.partition.iid import iid
from fedpeft.errors import DataError

PARTITIONERS = [
    PluginTable(name="iid"),
    PluginTable(name="dirichlet"),
    PluginTable(name="dirichlet", alpha=0.1, min_examples=1),
    PluginTable(name="dirichlet", alpha=100.0),
]
every_partitioner = pytest.mark.parametrize("partition", PARTITIONERS, ids=str)


def some_labels(count: int, classes: int) -> np.ndarray:
    return np.arange(count, dtype=np.int64) % classes


@every_partitioner
@settings(max_examples=30, deadline=None)
@given(clients=st.integers(1, 8), extra=st.integers(0, 300), classes=st.integers(5, 20), seed=st.integers(0, 2**64 - 1))
def test_every_example_is_dealt_exactly_once(partition, clients, extra, classes, seed):
    labels = some_labels(40 * clients + extra, classes)
    parts = PARTITIONER[partition.name](labels, clients, seed, **partition.params)
    assert len(parts) == clients
    assert all(part.dtype == np.int64 and part.size > 0 for part in parts)
    assert all(np.array_equal(part, np.sort(part)) for part in parts)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(labels)))


PARTITIONER = {"iid": iid, "dirichlet": dirichlet}


@every_partitioner
def test_the_seed_is_all_the_chance_there_is(partition):
    labels = some_labels(500, 10)
    first, again, other = (deal(partition, labels, 5, seed) for seed in (7, 7, 8))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


@every_partitioner
def test_more_clients_than_examples_names_a_client(partition):
    with pytest.raises(DataError, match=r"client c0\d is left with no examples.*3 examples") as caught:
        deal(partition, some_labels(3, 2), 5, 7)
    assert caught.value.code == "data.empty-client"
    assert "fewer clients" in str(caught.value)


def test_iid_sizes_differ_by_one_at_most():
    sizes = [len(part) for part in iid(some_labels(23, 4), 5, 7)]
    assert sorted(sizes) == [4, 4, 5, 5, 5]


def label_skew(alpha: float) -> float:
    """Mean over clients of the share of the client's commonest label."""
    labels = some_labels(10_000, 10)
    parts = dirichlet(labels, 10, 7, alpha=alpha)
    return float(np.mean([np.bincount(labels[part]).max() / len(part) for part in parts]))


def test_a_smaller_alpha_is_a_stronger_skew():
    assert label_skew(0.1) > label_skew(1.0) > label_skew(100.0)
    assert label_skew(0.1) > 0.4
    assert label_skew(1e6) == pytest.approx(0.1, abs=0.002)


def test_dirichlet_gives_everyone_min_examples():
    parts = dirichlet(some_labels(400, 4), 10, 7, alpha=0.3, min_examples=15)
    assert min(map(len, parts)) >= 15


def test_dirichlet_gives_up_and_names_the_poorest():
    with pytest.raises(DataError, match=r"client c\d\d is left with .* fewer than min_examples = 39.*alpha = 0.05"):
        dirichlet(some_labels(400, 4), 10, 7, alpha=0.05, min_examples=39)


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan"), float("inf")])
def test_dirichlet_refuses_an_alpha_that_is_none(alpha):
    with pytest.raises(ValueError, match="alpha"):
        dirichlet(some_labels(10, 2), 2, 7, alpha=alpha)


def test_dirichlet_refuses_min_examples_below_one():
    with pytest.raises(ValueError, match="min_examples = 0"):
        dirichlet(some_labels(10, 2), 2, 7, min_examples=0)
