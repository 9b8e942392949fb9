"""LoRA-FAIR: the plain means, with B̄ corrected so that its product points where the mean of the products does.

Bian et al. 2024, "LoRA-FAIR: Federated LoRA Fine-Tuning with Aggregation and Initialization Refinement" (arXiv
2411.14961), with S the cosine similarity:

    ΔB = argmin  1 − S(ΔW, (B̄ + ΔB) Ā) + λ ‖ΔB‖_F,    B = B̄ + ΔB,    A = Ā

by gradient descent from ΔB = 0, as the paper does. The number of steps is ours, and so is that a step which would not
descend is halved: the gradient grows as B̄ shrinks, and early rounds would overshoot. The paper has one rank for all and
ΔW = Σ_k p_k B_k A_k. Where ranks differ, that mean of truncated products would forget; here ΔW = B A + D, the state and
the clients' differences, which is the same where they do not. The cosine says nothing of the length: what B̄ Ā is too
short stays missing. In factor form each step costs O(m r^2).
"""

from __future__ import annotations

import math

import numpy as np

from fedpeft.aggregation.factors import Factors, Matrix, norm
from fedpeft.aggregation.rules.base import LayerRound, Mixed, Rule


class LoraFair(Rule):
    """Means, then a corrected B.

    Args:
        regularisation: λ >= 0.
        learning_rate: of the descent as it begins, > 0.
        steps: of the descent, halved ones included, >= 1.

    Raises:
        ValueError: a parameter out of its range.
    """

    partial = True

    def __init__(self, regularisation: float = 0.01, learning_rate: float = 0.01, steps: int = 100) -> None:
        if not regularisation >= 0:
            raise ValueError(f"regularisation = {regularisation} must be at least 0")
        if not learning_rate > 0:
            raise ValueError(f"learning_rate = {learning_rate} must be above 0")
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise ValueError(f"steps = {steps!r} must be a whole number, at least 1")
        self.regularisation, self.learning_rate, self.steps = float(regularisation), float(learning_rate), steps

    def mix(self, layer: LayerRound, residual: Factors | None = None) -> Mixed:
        """See `Rule.mix`."""
        b, a = layer.stepped
        aim = layer.exact
        length = norm(aim)
        towards = aim.left @ (aim.right @ a.T)  # ΔW Ā^T, shape (m, r)
        gram = a @ a.T

        def loss(correction: Matrix) -> tuple[float, Matrix]:
            """The objective, and its gradient."""
            moved = b + correction
            along = moved @ gram
            squared = float(np.sum(moved * along))  # ‖(B̄ + ΔB) Ā‖²
            if not (length > 0 and squared > 0):
                return math.inf, correction
            likeness, size = float(np.sum(towards * moved)), float(np.linalg.norm(correction))
            scale = 1.0 / (length * math.sqrt(squared))
            gradient = scale * (likeness / squared * along - towards)
            if size > 0:
                gradient = gradient + self.regularisation / size * correction
            return 1.0 - scale * likeness + self.regularisation * size, gradient

        correction, rate = np.zeros_like(b), self.learning_rate
        value, gradient = loss(correction)
        for _ in range(self.steps if math.isfinite(value) else 0):
            tried = correction - rate * gradient
            then, slope = loss(tried)
            if then < value:
                correction, value, gradient = tried, then, slope
            else:
                rate /= 2
        return Mixed(Factors(b + correction, a))
