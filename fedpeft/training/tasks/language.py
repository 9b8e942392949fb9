"""What the tasks of language models share: token ids with a part that is learnt, next-token loss, perplexity.

    loss of an example = mean over its learnt tokens of  -log p(token | tokens before it)
    perplexity = exp(Σ losses of tokens / Σ tokens)   over all learnt tokens of a data set

Within a client's batch each example counts alike, however long it is; in the perplexity each token does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from fedpeft.adapters import ArchitectureName
from fedpeft.training.losses import IGNORED
from fedpeft.training.output_layer import OutputLayer
from fedpeft.training.task import Outcomes, TaskContext
from fedpeft.training.tasks.text import check_length, pad, padding_of

MULTIPLE = 8
"""Batches are this many tokens wide, or a multiple of it: padding costs little, and more clients share a pass."""


@dataclass(frozen=True, slots=True)
class LanguageExamples:
    """Texts or chats as token ids."""

    tokens: tuple[npt.NDArray[np.int64], ...]  # each of shape (length,)
    begins: npt.NDArray[np.int64]  # shape (n,): the first token that is learnt; those before it are only read

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens, shape (n,)."""
        return np.array([len(ids) for ids in self.tokens], dtype=np.int64)


@dataclass(frozen=True, slots=True)
class LanguageBatch:
    """n texts padded to one length T."""

    inputs: dict[str, torch.Tensor]  # input_ids, attention_mask: int64 of shape (n, T)
    labels: torch.Tensor  # int64 of shape (n, T): the token itself where it is learnt, else IGNORED


class LanguageTask:
    """Next-token loss over the learnt part of each example; `encode` is left to the tasks.

    Args:
        context: tokenizer and `model.max_length` count here.

    Raises:
        ConfigError: `model.max_length` is more than the base can take.
    """

    architecture: ArchitectureName = "causal-lm"
    examples = "prompt"
    headline = "perplexity"
    larger_is_better = False

    def __init__(self, context: TaskContext) -> None:
        check_length(context)
        self.tokenizer = context.tokenizer
        self.max_length = context.model.max_length
        self.padding = padding_of(context.tokenizer)
        self._output: OutputLayer | None = None

    def select(self, data: LanguageExamples, indices: Sequence[int]) -> LanguageExamples:
        """The examples at `indices`."""
        return LanguageExamples(tuple(data.tokens[i] for i in indices), data.begins[list(indices)])

    def pool(self, data: Sequence[LanguageExamples]) -> LanguageExamples:
        """All examples of several clients."""
        tokens = tuple(row for part in data for row in part.tokens)
        return LanguageExamples(tokens, np.concatenate([part.begins for part in data]))

    def batch(self, data: LanguageExamples, indices: npt.NDArray[np.int64]) -> LanguageBatch:
        """The examples at `indices`, padded on the right."""
        inputs = pad([data.tokens[i] for i in indices], self.padding, multiple=MULTIPLE, most=self.max_length)
        places = torch.arange(inputs["input_ids"].shape[1])
        learnt = (places >= torch.from_numpy(data.begins[indices]).unsqueeze(1)) & (inputs["attention_mask"] == 1)
        return LanguageBatch(inputs, inputs["input_ids"].masked_fill(~learnt, IGNORED))

    def prepare(self, model: torch.nn.Module) -> OutputLayer:
        """How this model's output layer is best used; looked at once.

        Raises:
            ModelError: the model is not causal.
        """
        if self._output is None or self._output.model is not model:
            self._output = OutputLayer(model)
        return self._output

    def outcomes(self, model: torch.nn.Module, batch: LanguageBatch, prepared: OutputLayer) -> Outcomes:
        """See `Task.outcomes`. The scores `tokens` and `nats` are for `summary`."""
        losses = prepared.losses(batch.inputs, batch.labels)
        with torch.no_grad():
            tokens = (batch.labels[:, 1:] != IGNORED).sum(1).float()
            return Outcomes(losses, {"tokens": tokens, "nats": losses.detach() * tokens})

    def summary(self, means: Mapping[str, float]) -> dict[str, float]:
        """Perplexity of the means of `nats` and `tokens`; other scores as they are."""
        others = {name: value for name, value in means.items() if name not in ("tokens", "nats")}
        if not means["tokens"]:
            return others
        return {"perplexity": math.exp(min(means["nats"] / means["tokens"], 700.0)), **others}  # e^709 is the end
