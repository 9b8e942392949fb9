"""An objective in a trainer's hands: made for one client and round, and asked at its end for what it sends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch

from fedpeft.registry import build
from fedpeft.training.objectives import Objective, fitted, half_of
from fedpeft.training.objectives.frozen import Frozen
from fedpeft.training.objectives.plain import Plain
from fedpeft.types import FloatArray, Layout, Plan


def open_objective(
    plan: Plan,
    received: Mapping[str, FloatArray],
    memory: Mapping[str, FloatArray],
    like: torch.Tensor,
    frozen: npt.NDArray[np.bool_] | None = None,
    layout: Layout | None = None,
) -> Objective:
    """The objective of a plan, ready for its first step.

    Args:
        plan: names it.
        received: vectors that came with the broadcast, shape (d,).
        memory: of the client, shape (d,).
        like: θ, shape (d,): the device and size of the vectors that are not there, which are zero.
        frozen: which values are not to move, shape (d,); None: all may.
        layout: of θ, for an objective that tells tensors apart.

    Raises:
        PluginError: there is none of that name, or it refuses its parameters.
    """
    objective: Objective = build("objective", plan.objective, plan.objective_params)
    if layout is not None:
        objective = fitted(objective, layout)
    half = half_of(objective)
    if half is not None:
        half.begin(_tensors(half.receives, received, like), _tensors(half.remembers, memory, like))
    return objective if frozen is None else Frozen(objective, torch.from_numpy(frozen.copy()).to(like.device))


def sent_by(objective: Objective, steps: int) -> dict[str, FloatArray]:
    """What a client half sends after so many steps, each of shape (d,); of any other objective nothing."""
    half = half_of(objective.objective if isinstance(objective, Frozen) else objective)
    if half is None:
        return {}
    return {name: vector.cpu().numpy() for name, vector in half.finish(steps).items()}


def vectors_held(plan: Plan) -> int:
    """How many vectors of θ's size a plan's objective holds for a client at work, for limits of memory.

    Raises:
        PluginError: as `open_objective`.
    """
    objective = build("objective", plan.objective, plan.objective_params)
    if isinstance(objective, Plain):
        return int(bool(plan.frozen))
    half = half_of(objective)
    if half is None:
        return 1  # the start of the round
    return 1 + len(half.receives) + 2 * len(half.remembers) + len(half.sends)


def _tensors(names: Sequence[str], vectors: Mapping[str, FloatArray], like: torch.Tensor) -> dict[str, torch.Tensor]:
    return {
        name: torch.from_numpy(np.array(vectors[name])).to(like) if name in vectors else torch.zeros_like(like)
        for name in names
    }
