"""Momentum in the perturbation, on the coefficients: the idea of ZO-AdaMU (Jiang et al. 2023, "ZO-AdaMU Optimizer:
Adapting Perturbation by the Momentum and Uncertainty in Zeroth-Order Optimization", arXiv 2312.15184).

    d_i = sqrt(1 − s) e_{j(i)} ± sqrt(s) m / |m|₂      what is looked along: Σ_j d_{i,j} z_j; e_{j(i)} while m = 0
    G_t = Σ_i g_i d_i,     Δ_t = −lr · G_t,     m ← β m + G_t

So part of every look goes along where the round has gone so far. The sign changes from direction to direction, or what
was drawn, always with a plus, would pull m one way on average. The paper mixes normal noise with a history that is as
large as the model, anneals s, and divides by a second moment; here the history is K coefficients that scalars replay, s
stays, and there is no second moment. d has length 1 where the drawn direction is new; E g d is no longer the gradient
but leans to m, as in the paper. State: m, K numbers, and the number of steps.

One drawn direction moves no weight by more than lr · clip · |d|₁, and |d|₁ ≤ sqrt(1 − s) + sqrt(s · min(K, drawn)).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedpeft.zeroth.optimizers import CoefficientOptimizer, Numbers, Vector, share_of


@dataclass(frozen=True, slots=True)
class History:
    """AdaMU's state."""

    m: Vector  # shape (K,)
    steps: int = 0


class AdaMU(CoefficientOptimizer):
    """See `CoefficientOptimizer`.

    Args:
        beta: β, from 0 to below 1.
        mix: s, from 0 (plain SGD) to below 1.
    """

    stays = True

    def __init__(self, beta: float = 0.9, mix: float = 0.5) -> None:
        self.beta = share_of("beta", beta)
        self.mix = share_of("mix", mix)

    def begin(self, size: int) -> History:
        """m_0."""
        return History(np.zeros(size))

    def along(self, state: History, numbers: Numbers) -> Sequence[Vector] | None:
        """See `CoefficientOptimizer.along`."""
        length = math.sqrt(float(np.sum(state.m**2)))
        if length == 0.0 or self.mix == 0.0:
            return None
        found = []
        for place, number in enumerate(numbers):
            d = (-1) ** (state.steps + place) * math.sqrt(self.mix) / length * state.m
            d[number] += math.sqrt(1 - self.mix)
            found.append(d)
        return found

    def step(self, state: History, gradient: Vector, rate: float) -> tuple[Vector, History]:
        """See `CoefficientOptimizer.step`."""
        return -rate * gradient, History(self.beta * state.m + gradient, state.steps + 1)

    def reach(self, clip: float, drawn: int, size: int) -> float:
        """See `CoefficientOptimizer.reach`."""
        return clip * (math.sqrt(1 - self.mix) + math.sqrt(self.mix * min(size, drawn)))
