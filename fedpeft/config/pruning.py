"""`[pruning]`: which heads and channels pruned device classes do without, and from when on; `devices.pruning`: who."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from fedpeft.config.table import Natural, PluginTable, Positive, Table
from fedpeft.explain import Contradiction

if TYPE_CHECKING:
    from fedpeft.config.run_config import RunConfig

PRUNABLE = ("lora", "rslora", "pissa")
"""Values of `adapter.type` whose factors can be cut with the matrices that they are on."""


class PruningTable(Table):
    """`[pruning]`: of clients whose device class, or arm, has a pruning ratio above 0."""

    importance: PluginTable = PluginTable(name="lora-gradient")  # lora-gradient | magnitude | random
    start: Positive = 2  # the first round in which anything is pruned; before it, all clients train the full model
    ramp: Natural = 0  # a choice n rounds after `start` takes (n + 1)/ramp of devices.pruning, at most all; 0 = all
    every: Positive = 5  # rounds that a choice of heads and channels holds
    smoothing: float = Field(0.5, ge=0, lt=1)  # β: scores ← β · scores + (1 − β) · those of the round


def is_pruned(config: RunConfig) -> bool:
    """Whether any client may be pruned."""
    arms = [] if config.scheduler is None else config.scheduler.arms.pruning
    return any(ratio > 0 for ratio in (*arms, *(device.pruning for device in config.devices)))


def check_pruning(config: RunConfig) -> None:
    """Refuse what pruned clients cannot do.

    Raises:
        Contradiction: names the key, its value, what is allowed and what to do.
    """
    if not is_pruned(config):
        return
    rules: list[tuple[bool, str, object, str, str]] = [
        (config.zeroth is not None, "[zeroth]", "there", "its directions are of the whole adapter", "no such table"),
        (
            config.adapter.type not in PRUNABLE,
            "adapter.type",
            config.adapter.type,
            "its tensors cannot be cut with the base's matrices",
            ", ".join(PRUNABLE),
        ),
        (
            bool(config.adapter.private),
            "adapter.private",
            config.adapter.private,
            "what stays on a client is not mapped to the heads and channels that it holds",
            "[]",
        ),
        (
            config.model.quantization != "none",
            "model.quantization",
            config.model.quantization,
            "packed matrices cannot be cut",
            '"none"',
        ),
    ]
    told = "devices.pruning" if config.scheduler is None else "scheduler.arms.pruning"
    for wrong, key, value, why, allowed in rules:
        if wrong:
            raise Contradiction(
                f"{told} contradicts {key} = {value!r}: {why}",
                allowed=f"{key} = {allowed}" if not key.startswith("[") else allowed,
                remedy=f"change {key}, or remove {told}",
            )
