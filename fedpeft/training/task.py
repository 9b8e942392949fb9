"""What a task is: how examples become batches, and what the model is asked about them.

A task never sees clients, rounds or θ. Losses come back per example, so that one forward pass may hold the batches of
several clients and still be reduced client by client.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What the model made of a batch of n examples."""

    losses: torch.Tensor  # shape (n,), fp32, differentiable
    correct: torch.Tensor | None  # shape (n,), 1 where the prediction is right; None where there is no right or wrong


class Task(Protocol):
    """The contract of a task (registry kind `task`; see `fedpeft.training.tasks`)."""

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
