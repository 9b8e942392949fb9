"""Mean loss and metrics over a data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fedpeft.adapters import FlatAdapter
from fedpeft.evaluation.prepared import PreparedOnce
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
    adapter: FlatAdapter,
    task: Task,
    data: Any,
    *,
    batch_size: int,
    on_batch: Callable[[int], None] | None = None,
    prepared: PreparedOnce | None = None,
    losses_only: bool = False,
) -> Evaluation:
    """Evaluate the θ that `adapter` holds.

    Examples are taken in order of length where the data set knows lengths, so that batches hold little padding.

    Args:
        adapter: model and θ.
        task: what is asked.
        data: as `task.encode` returned it.
        batch_size: examples a forward pass.
        on_batch: called with the number of examples done, for progress.
        prepared: keeps what the task prepares from one θ over several calls; default: it is prepared anew.
        losses_only: do not judge: scores that cost more than a forward pass, e.g. of a generated answer, are left out.
    """
    lengths = getattr(data, "lengths", None)
    order = np.arange(len(data), dtype=np.int64) if lengths is None else np.argsort(lengths, kind="stable")
    judged = _judged(task, len(data))[order]
    judge = task.outcomes if losses_only else getattr(task, "judge", task.outcomes)
    sums, counts = {LOSS: 0.0}, {LOSS: 0}
    with torch.no_grad():
        ready = task.prepare(adapter.model) if prepared is None else prepared.get()
        for ask, part in ((judge, order[judged]), (task.outcomes, order[~judged])):
            for begin in range(0, len(part), batch_size):
                indices = part[begin : begin + batch_size]
                outcomes = ask(adapter.model, task.batch(data, indices), ready)
                for name, values in {LOSS: outcomes.losses, **outcomes.scores}.items():
                    sums[name] = sums.get(name, 0.0) + float(values.cpu().double().sum())
                    counts[name] = counts.get(name, 0) + len(indices)
                if on_batch is not None:
                    on_batch(len(indices))
    if not len(order):
        return Evaluation(None, 0.0, 0)
    means = {name: total / counts[name] for name, total in sums.items()}
    if losses_only:
        return Evaluation(None, means[LOSS], len(order))
    summary = getattr(task, "summary", None)
    metrics = {name: value for name, value in (summary(means) if summary else means).items() if name != LOSS}
    return Evaluation(metrics.get("accuracy"), means[LOSS], len(order), metrics)


def _judged(task: Task, examples: int) -> npt.NDArray[np.bool_]:
    """Which examples `Task.judge` is asked about, shape (examples,): all, or `judged` of them, spread evenly."""
    wanted = getattr(task, "judged", examples)
    chosen = np.zeros(examples, dtype=np.bool_)
    if wanted >= examples:
        chosen[:] = True
    else:
        chosen[np.arange(wanted) * examples // max(wanted, 1)] = True
    return chosen
