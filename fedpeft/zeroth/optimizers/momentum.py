"""Momentum on the coefficients (Polyak's heavy ball, as `torch.optim.SGD` writes it):

    m_t = β m_{t−1} + G_t,      Δ_t = −lr · m_t

State: m, K numbers. One drawn direction moves the coefficients by lr · |g| · (1 + β + β² + ...), so no weight by more
than lr · clip / (1 − β).
"""

from __future__ import annotations

import numpy as np

from fedpeft.zeroth.optimizers import CoefficientOptimizer, Vector, share_of


class Momentum(CoefficientOptimizer):
    """See `CoefficientOptimizer`.

    Args:
        beta: β, from 0 to below 1.
    """

    def __init__(self, beta: float = 0.9) -> None:
        self.beta = share_of("beta", beta)

    def begin(self, size: int) -> Vector:
        """m_0."""
        return np.zeros(size)

    def step(self, state: Vector, gradient: Vector, rate: float) -> tuple[Vector, Vector]:
        """See `CoefficientOptimizer.step`."""
        m = self.beta * state + gradient
        return -rate * m, m

    def reach(self, clip: float, drawn: int, size: int) -> float:
        """See `CoefficientOptimizer.reach`."""
        return clip / (1 - self.beta)
