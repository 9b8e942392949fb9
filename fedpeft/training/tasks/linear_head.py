"""Classify a text with a trained linear head on the encoder: the head is part of the adapter and travels with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from fedpeft.training.task import Outcomes
from fedpeft.training.tasks.text import TextBatch, TextEncoder


class LinearHead(TextEncoder):
    """The architecture's own sequence classifier, its head trained from zero.

    Args:
        tokenizer: of the base model.
        label_names: only their number counts here; the signature is that of every text task.
        temperature: not used.
        max_length: tokens that a text is cut to.
    """

    head = True  # needs a sequence classifier

    def __init__(self, tokenizer: Any, label_names: Sequence[str], temperature: float, max_length: int) -> None:
        super().__init__(tokenizer, max_length)
        self.labels = len(label_names)

    def prepare(self, model: torch.nn.Module) -> None:
        """Nothing stays fixed."""

    def outcomes(self, model: torch.nn.Module, batch: TextBatch, prepared: None) -> Outcomes:
        """See `Task.outcomes`."""
        logits = model(**batch.inputs).logits.float()  # (n, labels)
        return Outcomes(
            F.cross_entropy(logits, batch.labels, reduction="none"),
            {"accuracy": (logits.argmax(1) == batch.labels).float()},
        )
