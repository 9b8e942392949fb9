"""Tiny models of `tiny_models` with LoRA on every linear layer, ready to be pruned."""

from __future__ import annotations

from typing import Any

import numpy as np
import peft
import torch
from tiny_models import Classify, encoder, examples, linear_names, scattered

from fedpeft.adapters import FlatAdapter
from fedpeft.adapters.build import build_adapter
from fedpeft.pruning.mask import choose
from fedpeft.pruning.shrink import Pruner


def made(kind: str, seed: int = 1, **more: Any) -> tuple[FlatAdapter, Pruner]:
    """A model of this kind with LoRA on everything, moved off its initial value, and its pruner."""
    model = encoder(kind, head=True)
    adapter = build_adapter(model, peft.LoraConfig(r=4, target_modules=linear_names(model), **more), seed=seed)
    adapter.set(scattered(adapter.get()))
    return adapter, Pruner(adapter)


def some_mask(pruner: Pruner, ratio: float = 0.5, seed: int = 5) -> bytes:
    """Of scores that are drawn."""
    return choose(np.random.default_rng(seed).random(pruner.units.count), pruner.units.sizes, ratio)


def gradient(adapter: FlatAdapter, kind: str) -> tuple[torch.Tensor, Any]:
    """Losses of a batch and the gradient of their mean, shape (d,)."""
    task, data = Classify(), examples(kind, 6, seed=4)
    adapter.gradient.zero_()
    losses = task.outcomes(adapter.model, task.batch(data, np.arange(6)), None).losses
    losses.mean().backward()  # type: ignore[no-untyped-call]
    return losses.detach(), adapter.gradient.numpy().copy()
