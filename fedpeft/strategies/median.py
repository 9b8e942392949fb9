"""Median: per coordinate, the middle one of the deltas.

Yin et al. 2018, "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates" (arXiv 1803.01498),
Definition 1, with med the usual one-dimensional median:

    med{Δ_k}_i = med{Δ_{1,i}, ..., Δ_{m,i}},      θ_{t+1} = θ_t + med{Δ_k}

The values of any minority, whatever they are, leave each coordinate between two values of honest clients. It has no
parameter, and of m values looks at one or two: `trimmed-mean` says more of an honest cohort, and less of a bad one.

Transmits what FedAvg does. Keeps all replies of a round (`coordinate_wise.py`). State between rounds: none.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fedpeft.strategies.coordinate_wise import CoordinateWise
from fedpeft.types import FloatArray


class Median(CoordinateWise):
    """The coordinate-wise median of the deltas, added to θ; of an even number, the mean of the two in the middle."""

    def fold(self, values: FloatArray) -> npt.NDArray[np.float64]:
        """The middle of the sorted values."""
        m = len(values)
        middle: npt.NDArray[np.float64] = values[(m - 1) // 2 : m // 2 + 1].mean(axis=0, dtype=np.float64)
        return middle
