"""Classify a text against the *names* of the labels, so that training starts from zero-shot.

    p(y | x) ∝ exp(τ · cos(e(x), e(name_y))),   e(·) = mean over tokens of the last hidden state

(the zero-shot form of CLIP, Radford et al. 2021, with a sentence encoder on both sides). The names' embeddings are
computed with the adapter as the round starts it and stay fixed while a client trains; evaluation recomputes them.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from fedpeft.adapters import ArchitectureName
from fedpeft.kernels import rows_times
from fedpeft.training.placed import device_of, to_device
from fedpeft.training.task import Outcomes, TaskContext
from fedpeft.training.tasks.text import TextBatch, TextEncoder, pad


class LabelNames(TextEncoder):
    """Cosine against label names. Where an example has `choices`, only these labels compete for it.

    Args:
        context: label names in plain words, one text a label; `model.temperature` is τ, which multiplies the cosine.

    Raises:
        ConfigError: `model.max_length` is more than the base can take.
    """

    architecture: ArchitectureName = "encoder"

    def __init__(self, context: TaskContext) -> None:
        super().__init__(context)
        self.temperature = context.model.temperature
        rows = self.tokenizer(list(context.label_names), truncation=True, max_length=self.max_length)["input_ids"]
        self.names = pad([np.asarray(row, dtype=np.int64) for row in rows], self.padding)

    def prepare(self, model: torch.nn.Module) -> torch.Tensor:
        """Embeddings of the label names, shape (labels, hidden), unit length, without gradient."""
        with torch.no_grad():
            return self._embed(model, to_device(self.names, device_of(model)))

    def outcomes(self, model: torch.nn.Module, batch: TextBatch, prepared: torch.Tensor) -> Outcomes:
        """See `Task.outcomes`."""
        cosines = rows_times(self._embed(model, batch.inputs), prepared)  # (n, labels)
        logits = batch.competing(self.temperature * cosines)
        return Outcomes(
            F.cross_entropy(logits, batch.labels, reduction="none"),
            {"accuracy": (logits.argmax(1) == batch.labels).float()},
        )

    def _embed(self, model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        hidden = model(**inputs).last_hidden_state.float()  # (n, T, hidden)
        mask = inputs["attention_mask"].unsqueeze(-1).to(hidden.dtype)
        return F.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)
