"""Mean loss and accuracy over a data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from fedpeft.adapters import FlatAdapter
from fedpeft.training import Task


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The result over n examples."""

    accuracy: float | None  # share predicted right; None where the task knows no right or wrong
    loss: float  # mean over the examples
    examples: int


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
    lengths = getattr(data, "lengths", None)
    order = np.arange(len(data), dtype=np.int64) if lengths is None else np.argsort(lengths, kind="stable")
    loss, right, judged = 0.0, 0.0, True
    with torch.no_grad():
        prepared = task.prepare(adapter.model)
        for begin in range(0, len(order), batch_size):
            indices = order[begin : begin + batch_size]
            outcomes = task.outcomes(adapter.model, task.batch(data, indices), prepared)
            loss += float(outcomes.losses.double().sum())
            if outcomes.correct is None:
                judged = False
            else:
                right += float(outcomes.correct.sum())
            if on_batch is not None:
                on_batch(len(indices))
    count = max(len(order), 1)
    return Evaluation(right / count if judged and len(order) else None, loss / count, len(order))
