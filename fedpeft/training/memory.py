"""How much memory one client needs, measured on one training step of its own model and batch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from fedpeft.adapters import FlatAdapter
from fedpeft.training.checkpointing import blocks
from fedpeft.training.steps import PLAIN, StepSettings
from fedpeft.training.storage import storages
from fedpeft.training.task import Task


def step_memory(adapter: FlatAdapter, task: Task, data: Any, batch_size: int, settings: StepSettings = PLAIN) -> int:
    """Bytes that one training step holds: the model, θ with gradient and AdamW's two moments, saved activations.

    The activations are those that autograd really keeps for the longest examples in `data`, counted once per storage;
    memory of the interpreter and of libraries comes on top. Of micro-batches only one is there at a time; with
    checkpointing, every block's input and all that the largest block keeps.
    """
    own = {address: size for parameter in adapter.model.parameters() for address, size in storages(parameter)}
    lengths = getattr(data, "lengths", None)
    longest = np.arange(len(data)) if lengths is None else np.argsort(-lengths, kind="stable")
    indices = longest[: -(-batch_size // settings.accumulate)].astype(np.int64)
    kept = _Kept(set(own), blocks(adapter.model) if settings.checkpointing else [])
    prepared = task.prepare(adapter.model)
    with kept.watching(), settings.forward(adapter.theta.device):
        task.outcomes(adapter.model, task.batch(data, indices), prepared)
    return int(sum(own.values()) + 3 * 4 * adapter.layout.size + kept.bytes)


def forward_memory(
    adapter: FlatAdapter,
    task: Task,
    data: Any,
    batch_size: int,
    directions: int = 1,
    vectors: int = 0,
    *,
    tangents: bool = False,
) -> int:
    """Bytes that one zeroth-order step holds: the model, one bit a trained weight for each direction, what an optimizer
    keeps, and the inputs and outputs of the hungriest module, which are there at the same time.

    Args:
        adapter: the model.
        task: what is trained.
        data: the client's examples; the longest are taken.
        batch_size: examples a step.
        directions: of a step.
        vectors: of θ's size that the client's optimizer keeps.
        tangents: by forward-mode differentiation: 4 more bytes a trained weight, and activations twice.
    """
    own = {address: size for parameter in adapter.model.parameters() for address, size in storages(parameter)}
    lengths = getattr(data, "lengths", None)
    longest = np.arange(len(data)) if lengths is None else np.argsort(-lengths, kind="stable")
    most = 0

    def watch(module: torch.nn.Module, inputs: Any, output: Any) -> None:
        nonlocal most
        tensors = [tensor for tensor in (*inputs, output) if isinstance(tensor, torch.Tensor)]
        most = max(most, sum({address: size for tensor in tensors for address, size in storages(tensor)}.values()))

    hooks = [module.register_forward_hook(watch) for module in adapter.model.modules()]
    try:
        with torch.no_grad():
            batch = task.batch(data, longest[:batch_size].astype(np.int64))
            task.outcomes(adapter.model, batch, task.prepare(adapter.model))
    finally:
        for hook in hooks:
            hook.remove()
    beside = 4 * adapter.layout.size + most if tangents else 0
    return int(sum(own.values()) + (directions / 8 + 4 * vectors) * adapter.layout.size + most + beside)


class _Kept:
    """What autograd keeps in one forward pass: by storage, and by the block that it belongs to."""

    def __init__(self, own: set[int], checkpointed: Sequence[torch.nn.Module]) -> None:
        self._own = own
        self._blocks = checkpointed
        self._current: int | None = None  # place of the block that is computed now
        self._held: dict[int | None, dict[int, int]] = {None: {}}  # by block; outside of all: None

    @property
    def bytes(self) -> int:
        """All that is outside of checkpointed blocks, and the largest of those."""
        inside = [sum(held.values()) for place, held in self._held.items() if place is not None]
        return sum(self._held[None].values()) + max(inside, default=0)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """In here one forward pass is watched."""
        hooks = []
        for place, block in enumerate(self._blocks):
            hooks.append(block.register_forward_pre_hook(partial(self._enter, place), with_kwargs=True))
            hooks.append(block.register_forward_hook(self._leave))
        try:
            with torch.autograd.graph.saved_tensors_hooks(self._keep, lambda tensor: tensor):
                yield
        finally:
            for hook in hooks:
                hook.remove()

    def _enter(self, place: int, block: torch.nn.Module, inputs: Any, named: Any) -> None:
        for tensor in [*inputs, *named.values()]:
            if isinstance(tensor, torch.Tensor):
                self._keep(tensor)  # the block's input is kept in any case
        self._current = place

    def _leave(self, block: torch.nn.Module, inputs: Any, output: Any) -> None:
        self._current = None

    def _keep(self, tensor: torch.Tensor) -> torch.Tensor:
        for address, size in storages(tensor):
            if address not in self._own and address not in self._held[None]:
                self._held.setdefault(self._current, {})[address] = size
        return tensor
