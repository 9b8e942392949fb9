"""The forward estimator: one loss at θ serves all directions of a step.

As DeComFL's (Li et al. 2025, "Achieving Dimension-Free Communication in Federated Learning via Zeroth-Order
Optimization", arXiv 2405.15861), over n directions:

    g_i = ( L(θ + ε z_i) − L(θ) ) / (ε n),      i = 1 ... n

n + 1 forward passes a step, n scalars; its error is of order ε, that of `two-point` of order ε².
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fedpeft.training.zeroth.estimators import Points, queries_of


class Forward:
    """See `Estimator`.

    Args:
        queries: n, directions a step, 1 to 64.
    """

    def __init__(self, queries: int = 4) -> None:
        self.directions = queries_of(queries)
        self.points: Points = ((-1, 0), *((number, 1) for number in range(queries)))

    def scalars(self, losses: npt.NDArray[np.float64], epsilon: float) -> npt.NDArray[np.float64]:
        """See `Estimator.scalars`."""
        found: npt.NDArray[np.float64] = (losses[1:] - losses[0]) / (epsilon * self.directions)
        return found
