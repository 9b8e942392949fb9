"""What a task is: how examples become batches, and what the model is asked about them.

A task never sees clients, rounds or θ. Losses come back per example, so that one forward pass may hold the batches of
several clients and still be reduced client by client.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What the model made of a batch of n examples."""

    losses: torch.Tensor  # shape (n,), fp32, differentiable
    scores: Mapping[str, torch.Tensor] = field(default_factory=dict)  # by name, each of shape (n,), e.g. accuracy: 0, 1


class Task(Protocol):
    """The contract of a task (registry kind `task`; see `fedpeft.training.tasks`).

    Two methods are optional. `judge(model, batch, prepared) -> Outcomes` is what evaluation asks instead of `outcomes`,
    where scores cost more than a training step should, e.g. an answer that is generated.
    `summary(means) -> dict[str, float]` turns the means of the scores over all examples, and of `loss`, into the
    metrics that people read, e.g. a perplexity; without it the means are the metrics.
    """

    def encode(self, examples: Any) -> Any:
        """Turn raw examples into a data set with `len`, once (e.g. tokenise)."""

    def select(self, data: Any, indices: Sequence[int]) -> Any:
        """A part of a data set, as a data set."""

    def pool(self, data: Sequence[Any]) -> Any:
        """Several clients' data sets as one, in order; only the centralised comparison asks for it."""

    def batch(self, data: Any, indices: npt.NDArray[np.int64]) -> Any:
        """The examples at `indices` as one batch."""

    def prepare(self, model: torch.nn.Module) -> Any:
        """What stays fixed while a client trains, from the model as the round starts it (e.g. label embeddings)."""

    def outcomes(self, model: torch.nn.Module, batch: Any, prepared: Any) -> Outcomes:
        """Forward pass of one batch."""
