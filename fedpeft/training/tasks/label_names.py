"""Classify a text against the *names* of the labels, so that training starts from zero-shot.

    p(y | x) ∝ exp(τ · cos(e(x), e(name_y))),   e(·) = mean over tokens of the last hidden state

(the zero-shot form of CLIP, Radford et al. 2021, with a sentence encoder on both sides). The names' embeddings are
computed with the adapter as the round starts it and stay fixed while a client trains; evaluation recomputes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from fedpeft.kernels import rows_times
from fedpeft.training.task import Outcomes
from fedpeft.training.tasks.text import TextBatch, TextEncoder


class LabelNames(TextEncoder):
    """Cosine against label names.

    Args:
        tokenizer: of the base model.
        label_names: plain words, one text a label.
        temperature: τ, multiplies the cosine.
        max_length: tokens that a text is cut to.
    """

    head = False  # needs the bare encoder

    def __init__(self, tokenizer: Any, label_names: Sequence[str], temperature: float, max_length: int) -> None:
        super().__init__(tokenizer, max_length)
        self.temperature = temperature
        rows = tokenizer(list(label_names), truncation=True, max_length=max_length)["input_ids"]
        self.names = self.pad([torch.tensor(row).numpy() for row in rows])

    def prepare(self, model: torch.nn.Module) -> torch.Tensor:
        """Embeddings of the label names, shape (labels, hidden), unit length, without gradient."""
        with torch.no_grad():
            return self._embed(model, self.names)

    def outcomes(self, model: torch.nn.Module, batch: TextBatch, prepared: torch.Tensor) -> Outcomes:
        """See `Task.outcomes`."""
        logits = self.temperature * rows_times(self._embed(model, batch.inputs), prepared)  # (n, labels)
        return Outcomes(
            F.cross_entropy(logits, batch.labels, reduction="none"),
            {"accuracy": (logits.argmax(1) == batch.labels).float()},
        )

    def _embed(self, model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        hidden = model(**inputs).last_hidden_state.float()  # (n, T, hidden)
        mask = inputs["attention_mask"].unsqueeze(-1).to(hidden.dtype)
        return F.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)
