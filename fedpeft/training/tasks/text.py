"""Texts as token ids: tokenised once, padded batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fedpeft.data.corpus import TextExamples


@dataclass(frozen=True, slots=True)
class TokenisedTexts:
    """Texts as token ids, with their labels."""

    tokens: tuple[npt.NDArray[np.int64], ...]  # each of shape (length,)
    labels: npt.NDArray[np.int64]  # shape (n,)

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


class TextEncoder:
    """A tokenizer with a length limit.

    Args:
        tokenizer: any `transformers` tokenizer.
        max_length: tokens that a text is cut to.
    """

    def __init__(self, tokenizer: Any, max_length: int) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.padding = int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id)

    def encode(self, examples: TextExamples) -> TokenisedTexts:
        """Tokenise a split."""
        if len(examples) == 0:
            return TokenisedTexts((), examples.labels)
        ids = self.tokenizer(list(examples.texts), truncation=True, max_length=self.max_length)["input_ids"]
        return TokenisedTexts(tuple(np.asarray(row, dtype=np.int64) for row in ids), examples.labels)

    def select(self, data: TokenisedTexts, indices: Sequence[int]) -> TokenisedTexts:
        """The texts at `indices`."""
        return TokenisedTexts(tuple(data.tokens[i] for i in indices), data.labels[list(indices)])

    def pool(self, data: Sequence[TokenisedTexts]) -> TokenisedTexts:
        """All texts of several clients."""
        tokens = tuple(row for part in data for row in part.tokens)
        return TokenisedTexts(tokens, np.concatenate([part.labels for part in data]))

    def batch(self, data: TokenisedTexts, indices: npt.NDArray[np.int64]) -> TextBatch:
        """The texts at `indices`, padded on the right."""
        return TextBatch(self.pad([data.tokens[i] for i in indices]), torch.from_numpy(data.labels[indices]))

    def pad(self, rows: Sequence[npt.NDArray[np.int64]]) -> dict[str, torch.Tensor]:
        """Token ids and mask, each of shape (n, T) with T the longest row."""
        width = max(map(len, rows))
        ids = np.full((len(rows), width), self.padding, dtype=np.int64)
        mask = np.zeros((len(rows), width), dtype=np.int64)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = row
            mask[i, : len(row)] = 1
        return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
