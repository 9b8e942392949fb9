"""Tiny models of `tiny_models` with LoRA on every linear layer, ready to be pruned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import peft
import torch
from tiny_models import Classify, encoder, examples, linear_names, scattered

from fedpeft.adapters import FlatAdapter
from fedpeft.adapters.build import build_adapter
from fedpeft.pruning.mask import choose, unpack
from fedpeft.pruning.shrink import Pruner


def made(kind: str, seed: int = 1, sizes: Mapping[str, Any] | None = None, **more: Any) -> tuple[FlatAdapter, Pruner]:
    """A model of this kind, of these sizes, with LoRA on everything, moved off its initial value, and its pruner."""
    model = encoder(kind, head=True, **(sizes or {}))
    adapter = build_adapter(model, peft.LoraConfig(r=4, target_modules=linear_names(model), **more), seed=seed)
    adapter.set(scattered(adapter.get()))
    return adapter, Pruner(adapter)


def some_mask(pruner: Pruner, ratio: float = 0.5, seed: int = 5) -> bytes:
    """Of scores that are drawn."""
    return choose(np.random.default_rng(seed).random(pruner.units.count), pruner.units.sizes, ratio)


def silence(pruner: Pruner, mask: bytes) -> list[Any]:
    """Let the full model's pruned heads and channels have no output: what leaves them is multiplied by zero."""
    kept = unpack(mask, pruner.units.sizes)
    hooks = []
    for cut in pruner.anatomy.cuts:
        if cut.side == 1:
            start, layer = pruner.anatomy.groups[cut.group].start, pruner.adapter.model.get_submodule(cut.module)
            stays = torch.ones(sum(map(len, cut.places)))
            for unit, places in enumerate(cut.places, start=start):
                stays[list(places)] = float(kept[unit])
            hooks.append(layer.register_forward_pre_hook(lambda m, inputs, stays=stays: (inputs[0] * stays,)))
    return hooks


def gradient(adapter: FlatAdapter, kind: str) -> tuple[torch.Tensor, Any]:
    """Losses of a batch and the gradient of their mean, shape (d,)."""
    task, data = Classify(), examples(kind, 6, seed=4)
    adapter.gradient.zero_()
    losses = task.outcomes(adapter.model, task.batch(data, np.arange(6)), None).losses
    losses.mean().backward()  # type: ignore[no-untyped-call]
    return losses.detach(), adapter.gradient.numpy().copy()
