"""What a client tells of an evaluation."""

from types import SimpleNamespace

import numpy as np
import pytest

from fedpeft.client.evaluating import constant_answers, metrics_of
from fedpeft.evaluation import Evaluation


def data(*labels):
    return SimpleNamespace(labels=np.array(labels, dtype=np.int64))


def test_one_answer_is_the_most_frequent_label_of_either_set():
    assert constant_answers(data(1, 1, 2), data(2, 2, 2, 1)) == {"constant.held_out": 0.75, "constant.train": 0.25}
    assert constant_answers(data(3), data(0, 0))["constant.train"] == 0.0, "a label that was never asked"
    assert constant_answers(data(1, 0), data(0, 1)) == {"constant.held_out": 0.5, "constant.train": 0.5}


@pytest.mark.parametrize(
    "other", [[], [1, 2], SimpleNamespace(labels=["a"]), data(), SimpleNamespace(labels=np.array([0.5]))]
)
def test_without_labels_there_is_no_such_figure(other):
    assert constant_answers(data(1), other) == constant_answers(other, data(1)) == {}


def test_metrics_that_are_not_finite_stay_at_home():
    found = Evaluation(0.5, float("inf"), 2, {"accuracy": 0.5, "perplexity": float("inf"), "chrf": 0.25})
    assert metrics_of(found, data(1), data(1, 2)) == {
        "accuracy": 0.5,
        "chrf": 0.25,
        "constant.held_out": 0.5,
        "constant.train": 0.5,
    }
    assert metrics_of(Evaluation(None, 1.0, 2, {}), data(1), data(1)) == {"loss": 1.0}, (
        "no accuracy, nothing to compare"
    )
