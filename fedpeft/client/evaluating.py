"""What a client tells of an evaluation on its own held-out examples: metrics, and what no model at all would reach.

On a client whose examples are nearly all of one label, 90 % right may be worth nothing. So beside an accuracy a client
tells two accuracies of always giving the same answer: the most frequent label of its held-out examples, which is the
most that a constant can reach, and of its training examples, which is what a client that only counts would answer.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fedpeft.evaluation import Evaluation


def metrics_of(found: Evaluation, train: Any, test: Any) -> dict[str, float]:
    """The metrics of a reply; what is not finite is left out.

    Args:
        found: the evaluation on `test`.
        train: the client's training data, as `Task.encode` returned it.
        test: its held-out data.
    """
    metrics = {"loss": found.loss, **found.metrics}
    if found.accuracy is not None:
        metrics |= {"accuracy": found.accuracy, **constant_answers(train, test)}
    return {name: float(value) for name, value in metrics.items() if math.isfinite(value)}


def constant_answers(train: Any, test: Any) -> dict[str, float]:
    """Accuracies on `test` of the most frequent label of `test` and of `train`; of equals, the smallest label.

    Both data sets need `labels`, whole numbers of shape (n,); nothing is told where they have none, or no examples.

    >>> from types import SimpleNamespace as Data
    >>> train, test = Data(labels=np.array([2, 2, 0])), Data(labels=np.array([0, 0, 0, 2]))
    >>> constant_answers(train, test)
    {'constant.held_out': 0.75, 'constant.train': 0.25}
    """
    seen, asked = _labels(train), _labels(test)
    if seen is None or asked is None:
        return {}
    best, majority = (values[np.argmax(counts)] for values, counts in map(_counted, (asked, seen)))
    return {
        "constant.held_out": float(np.mean(asked == best)),
        "constant.train": float(np.mean(asked == majority)),
    }


def _labels(data: Any) -> np.ndarray[Any, np.dtype[Any]] | None:
    labels = getattr(data, "labels", None)
    whole = isinstance(labels, np.ndarray) and labels.ndim == 1 and labels.dtype.kind in "iu" and labels.size > 0
    return labels if whole else None


def _counted(labels: np.ndarray[Any, np.dtype[Any]]) -> tuple[Any, Any]:
    return np.unique(labels, return_counts=True)
