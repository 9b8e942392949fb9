"""ZO-Adam: Adam, weight by weight, on the estimate of the gradient.

As in Zhang et al. 2024, "Revisiting Zeroth-Order Optimization for Memory-Efficient LLM Fine-Tuning: A Benchmark"
(ZO-Bench, arXiv 2402.11592); the rule is that of Kingma and Ba 2015 (arXiv 1412.6980), Algorithm 1, with the estimate
G = Σ_i g_i z_i in the gradient's place and t counted from 1 in every round:

    m ← β_1 m + (1 − β_1) G,    v ← β_2 v + (1 − β_2) G²
    θ ← θ − η · ( m / (1 − β_1^t) ) / ( √( v / (1 − β_2^t) ) + ε )

with β = (0.9, 0.999) and ε = 1e-8. Along one direction of ±1, G² is g² at every weight: v is then one number, which
scales all weights alike. What v knows of single weights comes from several queries a step, or from directions that are
not ±1.

Transmits the delta through the run's codec. State: m and v, 8 bytes a weight.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from fedpeft.training.zeroth.local.pieces import estimate, pieces, subtract
from fedpeft.types import FloatArray, Plan
from fedpeft.zeroth.direction import Direction

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8


class ZoAdam:
    """See `LocalOptimizer`."""

    draws = 1
    vectors = 2

    def __init__(self, size: int, plan: Plan) -> None:
        self._rate = plan.learning_rate
        self._m: FloatArray = np.zeros(size, dtype=np.float32)
        self._v: FloatArray = np.zeros(size, dtype=np.float32)
        self._t = 0

    def look(self, drawn: Sequence[Sequence[Direction]]) -> list[Direction]:
        """See `LocalOptimizer.look`."""
        return [direction for (direction,) in drawn]

    def move(self, theta: torch.Tensor, directions: Sequence[Direction], scalars: FloatArray) -> None:
        """See `LocalOptimizer.move`."""
        self._t += 1
        rate, scale = self._rate / (1 - BETA_1**self._t), 1 / (1 - BETA_2**self._t)
        for part in pieces(len(theta)):
            gradient, m, v = estimate(directions, scalars, part), self._m[part], self._v[part]
            m *= BETA_1
            m += (1 - BETA_1) * gradient
            v *= BETA_2
            v += (1 - BETA_2) * gradient * gradient
            subtract(theta, part, rate * m / (np.sqrt(scale * v) + EPSILON))
