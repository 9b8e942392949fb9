"""Texts as token ids: tokenised once, padded batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fedpeft.data import TextExamples
from fedpeft.errors import ConfigError
from fedpeft.training.task import TaskContext


@dataclass(frozen=True, slots=True)
class TokenisedTexts:
    """Texts as token ids, with their labels."""

    tokens: tuple[npt.NDArray[np.int64], ...]  # each of shape (length,)
    labels: npt.NDArray[np.int64]  # shape (n,)
    choices: npt.NDArray[np.bool_] | None = None  # shape (n, labels): which may be answered; None: all

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens per text, shape (n,): evaluation sorts by it so that batches hold little padding."""
        return np.array([len(ids) for ids in self.tokens], dtype=np.int64)


@dataclass(frozen=True, slots=True)
class TextBatch:
    """n texts padded to one length T."""

    inputs: dict[str, torch.Tensor]  # input_ids, attention_mask: int64 of shape (n, T)
    labels: torch.Tensor  # int64 of shape (n,)
    choices: torch.Tensor | None = None  # bool of shape (n, labels); None: any label may be the answer

    def competing(self, logits: torch.Tensor) -> torch.Tensor:
        """The logits, shape (n, labels), with those of labels that an example cannot have at -∞."""
        return logits if self.choices is None else logits.masked_fill(~self.choices, -torch.inf)


class TextEncoder:
    """A tokenizer with a length limit, and labels.

    Args:
        context: tokenizer, label names and `model.max_length` count here.

    Raises:
        ConfigError: `model.max_length` is more than the base can take.
    """

    examples = "text"

    def __init__(self, context: TaskContext) -> None:
        check_length(context)
        self.tokenizer = context.tokenizer
        self.max_length = context.model.max_length
        self.labels = len(context.label_names)
        self.padding = padding_of(context.tokenizer)

    def encode(self, examples: TextExamples) -> TokenisedTexts:
        """Tokenise a split."""
        choices = self._mask(examples.choices)
        if len(examples) == 0:
            return TokenisedTexts((), examples.labels, choices)
        ids = self.tokenizer(list(examples.texts), truncation=True, max_length=self.max_length)["input_ids"]
        return TokenisedTexts(tuple(np.asarray(row, dtype=np.int64) for row in ids), examples.labels, choices)

    def select(self, data: TokenisedTexts, indices: Sequence[int]) -> TokenisedTexts:
        """The texts at `indices`."""
        places = list(indices)
        choices = None if data.choices is None else data.choices[places]
        return TokenisedTexts(tuple(data.tokens[i] for i in places), data.labels[places], choices)

    def pool(self, data: Sequence[TokenisedTexts]) -> TokenisedTexts:
        """All texts of several clients."""
        tokens = tuple(row for part in data for row in part.tokens)
        choices = None
        if any(part.choices is not None for part in data):
            free = [np.ones((len(part), self.labels), dtype=np.bool_) for part in data]
            choices = np.concatenate(
                [
                    part.choices if part.choices is not None else all_of_them
                    for part, all_of_them in zip(data, free, strict=True)
                ]
            )
        return TokenisedTexts(tokens, np.concatenate([part.labels for part in data]), choices)

    def batch(self, data: TokenisedTexts, indices: npt.NDArray[np.int64]) -> TextBatch:
        """The texts at `indices`, padded on the right."""
        choices = None if data.choices is None else torch.from_numpy(data.choices[indices])
        inputs = pad([data.tokens[i] for i in indices], self.padding)
        return TextBatch(inputs, torch.from_numpy(data.labels[indices]), choices)

    def _mask(self, choices: Sequence[Sequence[int]] | None) -> npt.NDArray[np.bool_] | None:
        if choices is None:
            return None
        mask = np.zeros((len(choices), self.labels), dtype=np.bool_)
        for row, allowed in zip(mask, choices, strict=True):
            row[list(allowed)] = True
        return mask


def pad(
    rows: Sequence[npt.NDArray[np.int64]], padding: int, *, multiple: int = 1, most: int | None = None
) -> dict[str, torch.Tensor]:
    """Token ids and mask, each int64 of shape (n, T) with T the longest row.

    Args:
        rows: token ids.
        padding: the id to the right of a short row.
        multiple: T is rounded up to one of it, so that batches of several clients more often have one shape ...
        most: ... but not beyond this, where the longest row is shorter.
    """
    longest = max(map(len, rows))
    width = -(-longest // multiple) * multiple
    if most is not None:
        width = max(longest, min(width, most))
    ids = np.full((len(rows), width), padding, dtype=np.int64)
    mask = np.zeros((len(rows), width), dtype=np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}


def padding_of(tokenizer: Any) -> int:
    """The id that fills rows up: the padding token's, else the end of text's."""
    return int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id)


def check_length(context: TaskContext) -> None:
    """Refuse texts longer than the base can take, before one of them meets the end of its position table.

    Raises:
        ConfigError: `model.max_length` is more than that.
    """
    longest = context.model.max_length
    room = None if context.positions is None else context.positions - context.prompts
    if room is not None and longest > room:
        beside = f", of which the adapter's vectors take {context.prompts}" if context.prompts else ""
        raise ConfigError(
            f"model.max_length = {longest} is more than the {context.positions} positions of {context.model.source}"
            f"{beside}",
            code="config.max-length",
            allowed=f"1 to {room}",
            remedy="lower model.max_length, or name a base for longer texts",
        )
