"""The two-point estimator (SPSA), MeZO's.

Malladi et al. 2023, "Fine-Tuning Language Models with Just Forward Passes" (arXiv 2305.17333), Definition 1, averaged
over n directions:

    g_i = ( L(θ + ε z_i) − L(θ − ε z_i) ) / (2 ε n),      i = 1 ... n

2n forward passes a step, n scalars.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fedpeft.training.zeroth.estimators import Points, queries_of


class TwoPoint:
    """See `Estimator`.

    Args:
        queries: n, directions a step, 1 to 64.
    """

    def __init__(self, queries: int = 1) -> None:
        self.directions = queries_of(queries)
        self.points: Points = tuple((number, sign) for number in range(queries) for sign in (1, -1))

    def scalars(self, losses: npt.NDArray[np.float64], epsilon: float) -> npt.NDArray[np.float64]:
        """See `Estimator.scalars`."""
        pairs = losses.reshape(-1, 2)
        return (pairs[:, 0] - pairs[:, 1]) / (2 * epsilon * self.directions)
