"""LoRA-FAIR: the plain means, with B̄ corrected so that its product points where the mean of the products does.

Bian et al. 2024, "LoRA-FAIR: Federated LoRA Fine-Tuning with Aggregation and Initialization Refinement" (arXiv
2411.14961), with S the cosine similarity:

    ΔB = argmin  1 − S(ΔW, (B̄ + ΔB) Ā) + λ ‖ΔB‖_F,    B = B̄ + ΔB,    A = Ā

by gradient descent from ΔB = 0, as the paper does; the number of steps is ours. The paper has one rank for all and
ΔW = Σ_k p_k B_k A_k. Where ranks differ, that mean of truncated products would forget; here ΔW = B A + D, the state and
the clients' differences, which is the same where they do not. The cosine says nothing of the length: what B̄ Ā is too
short stays missing. In factor form each step costs O(m r^2).
"""

from __future__ import annotations

import numpy as np

from fedpeft.aggregation.factors import Factors, norm
from fedpeft.aggregation.rules.base import LayerRound, Mixed, Rule


class LoraFair(Rule):
    """Means, then a corrected B.

    Args:
        regularisation: λ >= 0.
        learning_rate: of the descent, > 0.
        steps: of the descent, >= 1.

    Raises:
        ValueError: a parameter out of its range.
    """

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
        correction = np.zeros_like(b)
        for _ in range(self.steps):
            moved = b + correction
            along = moved @ gram
            squared = float(np.sum(moved * along))  # ‖(B̄ + ΔB) Ā‖²
            if not (length > 0 and squared > 0):
                break
            likeness = float(np.sum(towards * moved))
            gradient = (likeness / squared * along - towards) / (length * np.sqrt(squared))
            size = float(np.linalg.norm(correction))
            if size > 0:
                gradient += self.regularisation / size * correction
            correction = correction - self.learning_rate * gradient
        return Mixed(Factors(b + correction, a))
