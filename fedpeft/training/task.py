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

from fedpeft.adapters import BaseModel
from fedpeft.config import GenerationTable, ModelTable


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What the model made of a batch of n examples."""

    losses: torch.Tensor  # shape (n,), fp32, differentiable
    scores: Mapping[str, torch.Tensor] = field(default_factory=dict)  # by name, each of shape (n,), e.g. accuracy: 0, 1


@dataclass(frozen=True, slots=True)
class TaskContext:
    """All that a run file's task is made from: what is known once data and base model are loaded."""

    model: ModelTable  # max_length, temperature, ...
    label_names: tuple[str, ...] = ()  # plain words; empty where the data has no labels
    tokenizer: Any = None  # of the base; None where it reads no text
    processor: Any = None  # of the base's images; None where it reads none
    positions: int | None = None  # the longest input of the base, in tokens; None: unknown, or no limit
    generation: GenerationTable = field(default_factory=GenerationTable)
    prompts: int = 0  # of these positions, how many the adapter's vectors in front of a text take

    @classmethod
    def of(
        cls,
        base: BaseModel,
        label_names: Sequence[str] = (),
        *,
        generation: GenerationTable | None = None,
        model: ModelTable | None = None,
        prompts: int = 0,
        **keys: Any,
    ) -> TaskContext:
        """The context of a loaded base.

        Args:
            base: from `load_base`.
            label_names: of the data.
            generation: default: its defaults.
            model: the `[model]` table; default: one with `keys`, e.g. `max_length=128`.
            prompts: vectors that the adapter puts in front of a text.
            keys: of a `[model]` table, where none is given.
        """
        return cls(
            model or ModelTable(source=base.location, **keys),
            tuple(label_names),
            base.tokenizer,
            base.processor,
            base.positions,
            generation or GenerationTable(),
            prompts,
        )


class Task(Protocol):
    """The contract of a task (registry kind `task`; see `fedpeft.training.tasks`).

    A class that a run file names is called with a `TaskContext` and has two class attributes: `architecture`, the form
    of model that it needs ("encoder", "sequence-classifier", "causal-lm", "image-classifier", or "own" for a module of
    one's own), and `examples`, which examples `encode` is given ("text", the default, "prompt" or "image": see
    `fedpeft.data.examples`).

    Four more are optional. `judge(model, batch, prepared) -> Outcomes` is what evaluation asks instead of `outcomes`,
    where scores cost more than a training step should, e.g. an answer that is generated; `judged: int` limits it to so
    many examples of a data set, spread evenly, and of the others `outcomes` is asked. `summary(means) ->
    dict[str, float]` turns the means of the scores, each over the examples that have it, and of `loss`, into the
    metrics that people read, e.g. a perplexity; without it the means are the metrics. `headline` names the metric that
    people look at first (default: accuracy, else the first), and `larger_is_better` says which way it should go
    (default: known by the name: a loss, a perplexity or an error should fall, anything else rise).
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
