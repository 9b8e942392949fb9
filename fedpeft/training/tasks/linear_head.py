"""Classify a text with a trained linear head on the encoder: the head is part of the adapter and travels with it."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from fedpeft.adapters import ArchitectureName
from fedpeft.training.task import Outcomes
from fedpeft.training.tasks.text import TextBatch, TextEncoder


class LinearHead(TextEncoder):
    """The architecture's own sequence classifier, its head trained from zero. `choices` count as in `LabelNames`.

    Args:
        context: of the label names only their number counts.

    Raises:
        ConfigError: `model.max_length` is more than the base can take.
    """

    architecture: ArchitectureName = "sequence-classifier"

    def prepare(self, model: torch.nn.Module) -> None:
        """Nothing stays fixed."""

    def outcomes(self, model: torch.nn.Module, batch: TextBatch, prepared: None) -> Outcomes:
        """See `Task.outcomes`."""
        logits = batch.competing(model(**batch.inputs).logits.float())  # (n, labels)
        return Outcomes(
            F.cross_entropy(logits, batch.labels, reduction="none"),
            {"accuracy": (logits.argmax(1) == batch.labels).float()},
        )
