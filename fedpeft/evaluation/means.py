"""Mean loss and metrics over a data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from fedpeft.adapters import FlatAdapter
from fedpeft.training import Task

LOSS = "loss"
"""The name of the mean loss among the means that a task's `summary` is given."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The result over n examples."""

    accuracy: float | None  # share predicted right; None where the task knows no right or wrong
    loss: float  # mean over the examples
    examples: int
    metrics: Mapping[str, float] = field(default_factory=dict)  # all that the task scores, accuracy among them


def evaluate(
    adapter: FlatAdapter, task: Task, data: Any, *, batch_size: int, on_batch: Callable[[int], None] | None = None
) -> Evaluation:
    """Evaluate the θ that `adapter` holds.

    Examples are taken in order of length where the data set knows lengths, so that batches hold little padding.

    Args:
        adapter: model and θ.
        task: what is asked.
        data: as `task.encode` returned it.
        batch_size: examples a forward pass.
        on_batch: called with the number of examples done, for progress.
    """
    judge = getattr(task, "judge", task.outcomes)
    lengths = getattr(data, "lengths", None)
    order = np.arange(len(data), dtype=np.int64) if lengths is None else np.argsort(lengths, kind="stable")
    sums = {LOSS: 0.0}
    with torch.no_grad():
        prepared = task.prepare(adapter.model)
        for begin in range(0, len(order), batch_size):
            indices = order[begin : begin + batch_size]
            outcomes = judge(adapter.model, task.batch(data, indices), prepared)
            for name, values in {LOSS: outcomes.losses, **outcomes.scores}.items():
                sums[name] = sums.get(name, 0.0) + float(values.double().sum())
            if on_batch is not None:
                on_batch(len(indices))
    if not len(order):
        return Evaluation(None, 0.0, 0)
    means = {name: total / len(order) for name, total in sums.items()}
    summary = getattr(task, "summary", None)
    metrics = {name: value for name, value in (summary(means) if summary else means).items() if name != LOSS}
    return Evaluation(metrics.get("accuracy"), means[LOSS], len(order), metrics)
