"""SPSA with gradient correction: Nesterov's look ahead, on the coefficients.

Oh et al. 2023, "BlackVIP: Black-Box Visual Prompting for Robust Transfer Learning" (arXiv 2303.14773):

    m_{t+1} = β m_t − lr · G(a_t + β m_t),      a_{t+1} = a_t + m_{t+1}

The losses of a step are taken around the place that momentum alone would lead to. State: m, K numbers, in steps of lr.
One drawn direction moves no weight by more than lr · clip / (1 − β), as with `momentum`.
"""

from __future__ import annotations

from fedpeft.zeroth.optimizers import Vector
from fedpeft.zeroth.optimizers.momentum import Momentum


class SpsaGc(Momentum):
    """See `CoefficientOptimizer`; β and the bound are those of `Momentum`."""

    def step(self, state: Vector, gradient: Vector, rate: float) -> tuple[Vector, Vector]:
        """See `CoefficientOptimizer.step`."""
        m = self.beta * state - rate * gradient
        return m, m

    def ahead(self, state: Vector) -> Vector:
        """β m_t."""
        return self.beta * state
