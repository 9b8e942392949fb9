"""The forward gradient: the slope along a direction itself, by one forward-mode pass, without an ε.

Baydin et al. 2022, "Gradients without Backpropagation" (arXiv 2202.08587), Definition 1, averaged over n directions;
Spry (Panchal et al. 2024, arXiv 2405.15551) federates it:

    g_i = z_iᵀ ∇L(θ) / n,      i = 1 ... n

A pass carries a tangent beside every value, so it costs more than two plain passes; nothing is kept for a backward one.
The tangent of the trained weights is z in fp32: 4 bytes a weight where the other estimators need a bit. The loss must
have a derivative; `zeroth.perturbation` means nothing. n passes a step, n scalars.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fedpeft.training.zeroth.estimators import Points, queries_of


class ForwardGradient:
    """See `Estimator`.

    Args:
        queries: n, directions a step, 1 to 64.
    """

    slopes = True
    points: Points = ()

    def __init__(self, queries: int = 1) -> None:
        self.directions = queries_of(queries)

    def scalars(self, losses: npt.NDArray[np.float64], epsilon: float) -> npt.NDArray[np.float64]:
        """See `Estimator.scalars`."""
        return losses / self.directions
