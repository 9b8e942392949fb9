"""Batches where the model is: tasks make them on the CPU, and this is the one place that moves them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fedpeft.training.task import Task


def placed(task: Any, device: torch.device) -> Any:
    """The task with its batches on `device`; the task itself where that is the CPU."""
    return task if device.type == "cpu" else Placed(task, device)


class Placed:
    """A task whose batches are on a device; all else is the task's own.

    Args:
        task: any.
        device: the model's.
    """

    def __init__(self, task: Task, device: torch.device) -> None:
        self._task = task
        self._device = device

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # a copy that is being made has no task yet
            raise AttributeError(name)
        return getattr(self._task, name)

    def batch(self, data: Any, indices: npt.NDArray[np.int64]) -> Any:
        """See `Task.batch`."""
        return to_device(self._task.batch(data, indices), self._device)


def to_device(tree: Any, device: torch.device) -> Any:
    """The same tree of mappings, sequences and data classes, with every tensor in it on `device`."""
    if isinstance(tree, torch.Tensor):
        return tree.to(device)
    if isinstance(tree, Mapping):
        moved = {key: to_device(part, device) for key, part in tree.items()}
        return moved if type(tree) is dict else type(tree)(moved)  # type: ignore[call-arg]
    if is_dataclass(tree) and not isinstance(tree, type):
        own = [field.name for field in fields(tree) if field.init]
        return replace(tree, **{name: to_device(getattr(tree, name), device) for name in own})
    if isinstance(tree, tuple | list):
        parts = [to_device(part, device) for part in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return tree


def device_of(model: torch.nn.Module) -> torch.device:
    """Where a model computes."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


__all__: Sequence[str] = ["Placed", "device_of", "placed", "to_device"]
