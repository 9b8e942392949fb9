"""Plain SGD: MeZO's step (Malladi et al. 2023, arXiv 2305.17333), FedKSeed's (Qin et al. 2024, arXiv 2312.06353).

    Δ_t = −lr · G_t

State: none. One drawn direction moves no weight by more than lr · clip.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fedpeft.zeroth.optimizers import CoefficientOptimizer, Numbers, Vector


class Sgd(CoefficientOptimizer):
    """See `CoefficientOptimizer`."""

    stays = stateless = True

    def step(self, state: Any, gradient: Vector, rate: float) -> tuple[Vector, Any]:
        """See `CoefficientOptimizer.step`."""
        return -rate * gradient, state

    def reach(self, clip: float, drawn: int, size: int) -> float:
        """See `CoefficientOptimizer.reach`."""
        return clip

    def replay(self, numbers: Numbers, scalars: Vector, size: int, rate: float) -> Vector:
        """See `CoefficientOptimizer.replay`: all steps at once."""
        change: Vector = np.zeros(size)
        np.add.at(change, numbers.reshape(-1), scalars.reshape(-1) * -rate)
        return change
