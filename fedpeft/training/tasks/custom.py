"""The user's own model and loss, for `fedpeft.simulate`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    """

    def __init__(
        self,
        loss: Callable[[Any, Any], torch.Tensor],
        correct: Callable[[Any, Any], torch.Tensor] | None = None,
        collate: Callable[[list[Any]], Any] | None = None,
    ) -> None:
        self.loss = loss
        self.correct = correct
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
        if losses.ndim == 0:
            losses = losses.expand(count)
        if self.correct is None:
            return Outcomes(losses)
        with torch.no_grad():
            return Outcomes(losses, {"accuracy": self.correct(model, items).float()})
