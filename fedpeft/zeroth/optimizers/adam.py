"""Adam on the coefficients (Kingma and Ba 2015, arXiv 1412.6980, Algorithm 1; ZO-Bench's zo_adam has it per weight):

    m_t = β1 m_{t−1} + (1 − β1) G_t          v_t = β2 v_{t−1} + (1 − β2) G_t²      elementwise
    Δ_t = −lr · ( m_t / (1 − β1^t) ) / ( sqrt( v_t / (1 − β2^t) ) + eps )

It is dense: coefficients that are not drawn decay, and move on by what is left of their m. Where K is much more than a
round's steps most are drawn once, and then Adam is a sign with momentum. State: m and v, 2K numbers.

The bound: of each draw at step s, √v_t ≥ sqrt(1 − β2) β2^((t−s)/2) |G_s|, so what it adds to m_t moves its coefficient
by at most lr · (1 − β1)/sqrt(1 − β2) · r^(t−s), r = β1/√β2, times the bias correction. For r < 1 the sum is finite,
and it does not depend on the clip. With the defaults it is about 32 learning rates for each drawn direction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fedpeft.zeroth.optimizers import CoefficientOptimizer, Vector, share_of


@dataclass(frozen=True, slots=True)
class Moments:
    """Adam's state."""

    m: Vector  # shape (K,)
    v: Vector  # shape (K,)
    t: int = 0


class Adam(CoefficientOptimizer):
    """See `CoefficientOptimizer`.

    Args:
        beta1: β1, from 0 to below 1.
        beta2: β2, from above β1² to below 1: else the step of what was drawn once would grow.
        eps: added to the root, above 0.

    Raises:
        ValueError: one is out of its range.
    """

    def __init__(self, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8) -> None:
        self.beta1 = share_of("beta1", beta1)
        self.beta2 = share_of("beta2", beta2)
        if not beta2 > beta1**2:
            raise ValueError(f"beta2 = {beta2} must be above beta1² = {beta1**2:g}, or undrawn coefficients run away")
        if not eps > 0:
            raise ValueError(f"eps = {eps} must be above 0")
        self.eps = eps

    def begin(self, size: int) -> Moments:
        """m_0 and v_0."""
        return Moments(np.zeros(size), np.zeros(size))

    def step(self, state: Moments, gradient: Vector, rate: float) -> tuple[Vector, Moments]:
        """See `CoefficientOptimizer.step`."""
        t = state.t + 1
        m = self.beta1 * state.m + (1 - self.beta1) * gradient
        v = self.beta2 * state.v + (1 - self.beta2) * gradient**2
        size = np.sqrt(v / (1 - self.beta2**t)) + self.eps
        return -rate * (m / (1 - self.beta1**t)) / size, Moments(m, v, t)

    def reach(self, clip: float, drawn: int, size: int) -> float:
        """See `CoefficientOptimizer.reach`."""
        t = np.arange(1, max(drawn, 1) + 1)
        correction = float((np.sqrt(1 - self.beta2**t) / (1 - self.beta1**t)).max())
        ratio = self.beta1 / math.sqrt(self.beta2)
        return correction * (1 - self.beta1) / math.sqrt(1 - self.beta2) / (1 - ratio)
