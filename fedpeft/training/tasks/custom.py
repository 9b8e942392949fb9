"""The user's own loss and metrics as a task: `fedpeft.simulate` makes one, and a class of one's own may derive from it.

class Digits(CustomTask):                      # model.task = "my/task.py:Digits"
    architecture, examples = "own", "image"    # with model.source = "my/model.py:build"

    def __init__(self, context):
        super().__init__(loss, correct)

    def encode(self, examples):                # fedpeft.data.ImageExamples -> anything with len and index
        ...
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import ConcatDataset, Subset, TensorDataset, default_collate

from fedpeft.training.batches import Count
from fedpeft.training.task import Outcomes


class CustomTask:
    """A task made of functions.

    Args:
        loss: `(model, batch) -> tensor`, the loss per example, shape (n,), or their mean, shape ().
        correct: `(model, batch) -> tensor of shape (n,)`, 1 where the prediction is right; None: no accuracy.
        collate: a list of items of the data set -> a batch; default: torch's.
        metrics: name -> `(model, batch) -> tensor`, of shape (n,) or their mean, shape (); what is reported is the mean
            over the examples of an evaluation. Training does not ask for them.

    Raises:
        ValueError: a metric is called as what is there already.
    """

    def __init__(
        self,
        loss: Callable[[Any, Any], torch.Tensor],
        correct: Callable[[Any, Any], torch.Tensor] | None = None,
        collate: Callable[[list[Any]], Any] | None = None,
        metrics: Mapping[str, Callable[[Any, Any], torch.Tensor]] | None = None,
    ) -> None:
        self.loss = loss
        self.metrics = dict(metrics or {})
        for name in ("loss", *(["accuracy"] if correct is not None else [])):
            if name in self.metrics:
                raise ValueError(f"metrics: {name!r} is there already; give yours another name")
        if correct is not None:
            self.metrics = {"accuracy": correct, **self.metrics}
        self.collate = collate or default_collate

    def encode(self, examples: Sequence[Any]) -> Sequence[Any]:
        """The data set as it is."""
        return examples

    def select(self, data: Any, indices: Sequence[int]) -> Any:
        """The items at `indices`."""
        return Subset(data, indices)

    def pool(self, data: Sequence[Any]) -> Any:
        """All items of several clients."""
        return ConcatDataset(data)

    def batch(self, data: Any, indices: npt.NDArray[np.int64]) -> Any:
        """The items at `indices`, collated."""
        if type(data) is TensorDataset and self.collate is default_collate:  # the same at once, not item by item
            places = torch.from_numpy(indices)
            return (Count(len(indices)), [tensor[places] for tensor in data.tensors])
        return (Count(len(indices)), self.collate([data[int(i)] for i in indices]))

    def prepare(self, model: torch.nn.Module) -> None:
        """Nothing stays fixed."""

    def outcomes(self, model: torch.nn.Module, batch: Any, prepared: None) -> Outcomes:
        """See `Task.outcomes`. A mean loss counts for each of its examples."""
        count, items = batch
        losses = self.loss(model, items)
        return Outcomes(losses.expand(count) if losses.ndim == 0 else losses)

    def judge(self, model: torch.nn.Module, batch: Any, prepared: None) -> Outcomes:
        """Loss and metrics."""
        count, items = batch
        scores = {name: _of_each(name, metric(model, items), count) for name, metric in self.metrics.items()}
        return Outcomes(self.outcomes(model, batch, prepared).losses, scores)


def _of_each(name: str, values: Any, count: int) -> torch.Tensor:
    """Values of shape (count,); one mean of them counts for each."""
    found = torch.as_tensor(values).float()
    if found.shape not in ((), (count,)):
        raise ValueError(f"metric {name!r} gave a tensor of shape {tuple(found.shape)} for {count} examples")
    return found.expand(count)
