"""Base and adapter on the run's device, and how much of it a pass may take."""

from __future__ import annotations

import torch

from fedpeft.adapters import FlatAdapter
from fedpeft.adapters.device import choose_device
from fedpeft.config import RunConfig

ROWS_ON_CUDA = 16
"""How many times as many rows a pass may have on a GPU: what limits it on a CPU are caches."""

SHARE_OF_CUDA = 4
"""A pass may take the so many-th part of a GPU's memory: the base and other workers want some, too."""


def settle_device(config: RunConfig, adapter: FlatAdapter) -> RunConfig:
    """Move the adapter and its model to the device of the run file; "auto" leaves a model where its user has put it.

    Returns:
        the run file with the device in the place of "auto", so that a resumed run computes as it began. On Ray it
        stays: each actor looks for the GPU that the cluster gives it.

    Raises:
        ConfigError: there is no such device.
    """
    model = config.model
    if model.device != "auto" or adapter.theta.device.type == "cpu":
        adapter.move(choose_device(model.device))
    if config.engine.name in ("ray", "flower"):
        return config
    return config.model_copy(update={"model": model.model_copy(update={"device": str(adapter.theta.device)})})


def anywhere(config: RunConfig, *, whole_weights: bool) -> RunConfig:
    """The run file for exporting what was trained, on a machine that may have another device than the run had.

    Args:
        config: as the run has kept it.
        whole_weights: load the base as it is, not quantised: its weights are to be written.
    """
    changes = {"device": "auto"} | ({"quantization": "none"} if whole_weights else {})
    return config.model_copy(update={"model": config.model.model_copy(update=changes)})


def pass_limits(config: RunConfig, device: torch.device) -> tuple[int, int]:
    """Rows and bytes of a pass of several clients: the run file's, and more on a GPU.

    The bytes follow from the GPU's size, not from what is free: two runs on one kind of GPU make the same passes.
    """
    engine = config.engine
    rows, memory = engine.rows, engine.memory_mb * 1_000_000
    if device.type != "cuda":
        return rows, memory
    whole = torch.cuda.get_device_properties(device).total_memory
    return ROWS_ON_CUDA * rows, max(memory, whole // SHARE_OF_CUDA)
