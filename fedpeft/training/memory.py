"""How much memory one client needs, measured on one training step of its own model and batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from fedpeft.adapters import FlatAdapter
from fedpeft.training.task import Task


def step_memory(adapter: FlatAdapter, task: Task, data: Any, batch_size: int) -> int:
    """Bytes that one training step holds: the model, θ with gradient and AdamW's two moments, saved activations.

    The activations are those that autograd really keeps for the longest examples in `data`, counted once per storage;
    memory of the interpreter and of libraries comes on top.
    """
    base = sum(parameter.numel() * parameter.element_size() for parameter in adapter.model.parameters())
    lengths = getattr(data, "lengths", None)
    longest = np.arange(len(data)) if lengths is None else np.argsort(-lengths, kind="stable")
    held: dict[int, int] = {}
    own = {parameter.untyped_storage().data_ptr() for parameter in adapter.model.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            held[storage.data_ptr()] = storage.nbytes()
        return tensor

    prepared = task.prepare(adapter.model)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        task.outcomes(adapter.model, task.batch(data, longest[:batch_size].astype(np.int64)), prepared)
    return int(base + 3 * 4 * adapter.layout.size + sum(held.values()))
