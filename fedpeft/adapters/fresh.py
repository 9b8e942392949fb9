"""Seeded values for what a checkpoint lacks: a classifier's head, or a pooler."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import torch

from fedpeft.randomness.streams import Stream, derive


def strange_layers(model: Any, absent: Collection[str], encoder: str) -> list[str]:
    """Layers with absent parameters that a sound checkpoint holds: all but a pooler and a classifier's head.

    Args:
        model: of `transformers`.
        absent: names of parameters that the checkpoint lacks.
        encoder: prefix of the parameters that are no head's, e.g. "bert."; empty where the model has no head.
    """
    return [layer for layer in _layers(model, absent) if layer.startswith(encoder) and "pooler" not in layer.split(".")]


def initialise(model: Any, absent: Collection[str], encoder: str, seed: int) -> tuple[str, ...]:
    """Give absent parameters a value, equally on every machine; returns the modules that hold them.

    Of a classifier the last layer starts from zero: all labels alike. Layers before it are uniform with the standard
    deviation that the architecture uses; their biases and norms keep transformers' zeros and ones.

    Args:
        model: as there.
        absent: as there; or of a head that is for other labels.
        encoder: as there.
        seed: of the run.
    """
    layers = _layers(model, absent)
    spread = math.sqrt(3.0) * float(getattr(model.config, "initializer_range", 0.02))
    with torch.no_grad():
        for key, tensor in model.named_parameters():
            if key not in absent:
                continue
            if encoder and key.rpartition(".")[0] == layers[-1]:
                tensor.zero_()
            elif tensor.ndim > 1:
                draw = 2.0 * Stream(derive(seed, "fresh", key)).uniform(tensor.numel()) - 1.0
                tensor.copy_(torch.from_numpy(spread * draw).view(tensor.shape))
            else:
                tensor.fill_(0.0 if key.endswith("bias") else 1.0)
    return tuple(dict.fromkeys(_whole(layer, encoder) for layer in layers))


def _layers(model: Any, absent: Collection[str]) -> list[str]:
    """In the order of the architecture: the last one is the output layer."""
    return list(dict.fromkeys(key.rpartition(".")[0] for key, _ in model.named_parameters() if key in absent))


def _whole(layer: str, encoder: str) -> str:
    """The module to be trained and saved as one: `bert.pooler` of `bert.pooler.dense`, `classifier` of its layers."""
    head, pooler, _ = layer.partition("pooler")
    return head + pooler if layer.startswith(encoder) else layer.split(".")[0]
