"""MeZO's step on the client's own θ: with deltas averaged by FedAvg, FedZO.

Malladi et al. 2023 (arXiv 2305.17333), Algorithm 1; Fang et al. 2022, "Communication-Efficient Stochastic Zeroth-Order
Optimization for Federated Learning" (arXiv 2201.09531), Algorithm 1, whose clients take H such steps and send Δ:

    θ ← θ − η Σ_i g_i z_i

FedZO draws z from the unit sphere and multiplies by d; here E z zᵀ = I. Transmits the delta through the run's codec.
State: none.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fedpeft.training.zeroth.walk import walk_of
from fedpeft.types import FloatArray, Plan
from fedpeft.zeroth.direction import Direction


class ZoSgd:
    """See `LocalOptimizer`."""

    draws = 1
    vectors = 0

    def __init__(self, size: int, plan: Plan) -> None:
        self._rate = plan.learning_rate

    def look(self, drawn: Sequence[Sequence[Direction]]) -> list[Direction]:
        """See `LocalOptimizer.look`."""
        return [direction for (direction,) in drawn]

    def move(self, theta: torch.Tensor, directions: Sequence[Direction], scalars: FloatArray) -> None:
        """See `LocalOptimizer.move`."""
        walk = walk_of(theta)
        for direction, scalar in zip(directions, scalars, strict=True):
            if scalar:
                walk.add(direction, -self._rate * float(scalar))
