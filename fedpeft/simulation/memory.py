"""How much memory a client of a run needs, measured on its model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedpeft.simulation.zeroth import make_settings, step_looks
from fedpeft.training.memory import forward_memory, step_memory
from fedpeft.training.steps import StepSettings

if TYPE_CHECKING:
    from fedpeft.simulation.federation import Federation


def step_megabytes(federation: Federation) -> float:
    """Megabytes (1e6 bytes) of one training step at the full rank, for the client with the most examples."""
    config = federation.config
    largest = max(federation.train.values(), key=len)
    about = (federation.adapter, federation.task, largest, config.local.batch_size)
    if config.zeroth is None:
        return step_memory(*about, StepSettings.of(config.local)) / 1e6
    return forward_memory(*about, *step_looks(config), tangents=make_settings(config).slopes) / 1e6
