"""What is special about each partitioner; what all must keep is in tests/contracts/test_partitioners.py."""

import numpy as np
import pytest

from fedpeft.data.partition.dirichlet import dirichlet
from fedpeft.data.partition.distribution import distribution
from fedpeft.data.partition.iid import iid
from fedpeft.data.partition.natural_id import natural_id
from fedpeft.data.partition.pathological import MODES, pathological
from fedpeft.data.partition.shard import shard
from fedpeft.data.partition.sizes import exponential, linear, square
from fedpeft.errors import DataError


def some_labels(count: int, classes: int) -> np.ndarray:
    return np.arange(count, dtype=np.int64) % classes


def held(labels: np.ndarray, parts: list[np.ndarray]) -> list[set[int]]:
    return [set(labels[part].tolist()) for part in parts]


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


@pytest.mark.parametrize("partitioner", [dirichlet, linear, square, exponential])
def test_min_examples_below_one_is_refused(partitioner):
    with pytest.raises(ValueError, match="min_examples = 0"):
        partitioner(some_labels(10, 2), 2, 7, min_examples=0)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("k", [2, 3, 10])
def test_pathological_clients_have_k_labels_and_all_labels_have_clients(mode, k):
    labels = some_labels(1000, 10)
    found = held(labels, pathological(labels, 12, 7, num_classes_per_partition=k, class_assignment_mode=mode))
    assert [len(labels) for labels in found] == [k] * 12
    assert set.union(*found) == set(range(10))
    if mode == "deterministic":
        assert found == [{(client + i) % 10 for i in range(k)} for client in range(12)]
    elif mode == "first-deterministic":
        assert all(client % 10 in labels for client, labels in enumerate(found))


def test_pathological_shares_a_label_out_evenly():
    labels = some_labels(103, 1)
    assert [len(part) for part in pathological(labels, 5, 7, num_classes_per_partition=1)] == [21, 21, 21, 20, 20]


def test_pathological_needs_a_place_for_each_label():
    with pytest.raises(DataError, match="4 clients of 2 labels have 8 places for 77 labels") as caught:
        pathological(some_labels(1000, 77), 4, 7)
    assert caught.value.remedy == "set data.partition.num_classes_per_partition to at least 20"
    with pytest.raises(DataError, match=r'"deterministic" leaves label number \d to no client'):
        pathological(some_labels(100, 10), 6, 7, num_classes_per_partition=4, class_assignment_mode="deterministic")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"num_classes_per_partition": 0}, "from 1 to 10"),
        ({"num_classes_per_partition": 11}, "num_classes_per_partition = 11 must be from 1 to 10"),
        ({"class_assignment_mode": "randm"}, "must be one of random, deterministic, first-deterministic"),
    ],
)
def test_pathological_refuses(params, message):
    with pytest.raises(ValueError, match=message):
        pathological(some_labels(100, 10), 20, 7, **params)


def test_two_shards_each_are_the_fedavg_papers_split():
    labels = some_labels(60_000, 10)
    parts = shard(labels, 100, 7)
    assert {len(part) for part in parts} == {600}
    assert max(map(len, held(labels, parts))) <= 2  # ten labels of 20 whole shards each
    assert len({frozenset(labels) for labels in held(labels, parts)}) > 20


def test_shards_of_a_size():
    parts = shard(some_labels(95, 5), 4, 7, shard_size=10)  # nine shards of 10, one of 5
    assert sum(map(len, parts)) == 95
    assert sorted(-(-len(part) // 10) for part in parts) == [2, 2, 3, 3]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"shard_size": 0}, "shard_size = 0"),
        ({"num_shards_per_partition": 0}, "num_shards_per_partition = 0"),
        ({"shard_size": 1, "num_shards_per_partition": 1}, "give one of them"),
    ],
)
def test_shard_refuses(params, message):
    with pytest.raises(ValueError, match=message):
        shard(some_labels(100, 10), 5, 7, **params)


def test_shards_too_large_to_go_round():
    with pytest.raises(DataError, match="client c02 is left with no examples: 100 examples in 2 shards") as caught:
        shard(some_labels(100, 10), 5, 7, shard_size=50)
    assert caught.value.remedy == "use fewer clients, or smaller shards"


@pytest.mark.parametrize(
    ("partitioner", "sizes"),
    [
        (linear, [100, 200, 300, 400]),
        (square, [33, 133, 300, 534]),  # of 1000: 33.3, 133.3, 300, 533.3
        (exponential, [32, 87, 237, 644]),  # 32.06, 87.14, 236.88, 643.91
    ],
)
def test_sizes_follow_their_rule(partitioner, sizes):
    found = [len(part) for part in partitioner(some_labels(1000, 3), 4, 7)]
    assert sum(found) == 1000
    assert np.allclose(found, sizes, atol=1)
    assert found == sorted(found)


def test_the_smallest_clients_are_lifted_to_min_examples():
    sizes = [len(part) for part in exponential(some_labels(1000, 3), 30, 7, min_examples=5)]
    assert sizes[:20] == [5] * 20
    assert sum(sizes) == 1000


def test_distribution_deals_by_its_array():
    labels = some_labels(300, 3)
    parts = distribution(labels, 2, 7, distribution_array=[[1, 0], [0.25, 0.75], [3, 1]])
    assert [np.bincount(labels[part], minlength=3).tolist() for part in parts] == [[100, 25, 75], [0, 75, 25]]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        ([[1, 0]], r"shape \(1, 2\); 3 labels and 2 clients need 3 rows of 2 numbers"),
        ([[1, 0], [1], [1, 1]], "rows of different lengths"),
        ([[1, 0], [0, 0], [1, 1]], "more than zeros"),
        ([[1, 0], [-1, 2], [1, 1]], "finite numbers >= 0"),
    ],
)
def test_distribution_refuses(array, message):
    with pytest.raises(ValueError, match=message):
        distribution(some_labels(30, 3), 2, 7, distribution_array=array)


def test_natural_clients_hold_all_that_is_theirs():
    writers = np.array([2, 0, 1, 0, 2, 2])
    assert [part.tolist() for part in natural_id(writers, 3, 7)] == [[1, 3], [2], [0, 4, 5]]


@pytest.mark.parametrize("clients", [2, 4])
def test_as_many_clients_as_the_data_have(clients):
    with pytest.raises(DataError, match=f"3 natural clients, and the clients of .* add up to {clients}") as caught:
        natural_id(np.array([2, 0, 1]), clients, 7)
    assert caught.value.allowed == "3 clients over all [[devices]]"
