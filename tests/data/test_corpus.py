"""The corpus keeps its shapes and says which client or label is wrong."""

import numpy as np
import pytest

from fedpeft.data import ClientData, Corpus, TextExamples, client_ids
from fedpeft.errors import DataError

TWO = TextExamples(("a", "b"), np.array([0, 1]))
NONE = TWO.take([])


def corpus_of(clients: dict[str, ClientData], names: tuple[str, ...] = ("x", "y")) -> Corpus:
    return Corpus(names, clients, test=TWO, description="toy")


def test_take_keeps_order_and_repeats():
    taken = TWO.take([1, 0, 1])
    assert taken.texts == ("b", "a", "b")
    assert taken.labels.tolist() == [1, 0, 1]
    assert taken.labels.dtype == np.int64
    assert len(taken) == 3
    assert len(NONE) == 0
    with pytest.raises(IndexError):
        TWO.take([2])


def test_labels_are_a_read_only_copy():
    given = np.array([0, 1])
    examples = TextExamples(("a", "b"), given)
    given[0] = 1
    assert examples.labels.tolist() == [0, 1]
    with pytest.raises(ValueError, match="read-only"):
        examples.labels[0] = 1


def test_one_label_for_each_text():
    with pytest.raises(DataError, match=r"2 texts came with labels of shape \(3,\)"):
        TextExamples(("a", "b"), np.array([0, 1, 1]))


def test_a_client_without_training_examples_is_named():
    with pytest.raises(DataError, match="client c01 is left with no training examples") as caught:
        corpus_of({"c00": ClientData(TWO, NONE), "c01": ClientData(NONE, TWO)})
    assert caught.value.code == "data.empty-client"


def test_a_label_out_of_range_is_named_with_its_owner():
    high = TextExamples(("a",), np.array([2]))
    with pytest.raises(DataError, match="client c00 has label 2, and there are 2 label names"):
        corpus_of({"c00": ClientData(high, NONE)})
    with pytest.raises(DataError, match="the test set has label 1, and there are 1 label names"):
        corpus_of({}, names=("x",))


def test_label_names_are_unique():
    with pytest.raises(DataError, match="label name 'x' comes twice"):
        corpus_of({}, names=("x", "x"))


@pytest.mark.parametrize(
    ("count", "first", "last"), [(1, "c00", "c00"), (20, "c00", "c19"), (100, "c00", "c99"), (101, "c000", "c100")]
)
def test_client_ids_sort_as_they_count(count, first, last):
    ids = client_ids(count)
    assert (ids[0], ids[-1], len(ids)) == (first, last, count)
    assert sorted(ids) == list(ids)
