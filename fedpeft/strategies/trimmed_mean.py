"""Trimmed mean: per coordinate, drop the largest and the smallest deltas and average the rest.

Yin et al. 2018, "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates" (arXiv 1803.01498),
Definition 2: with m replies, U_i the values of coordinate i without the largest and the smallest share β of them,

    trmean_β{Δ_k}_i = 1 / ((1 − 2β) m) · Σ_{x ∈ U_i} x,      θ_{t+1} = θ_t + trmean_β{Δ_k}

A cohort in which at most a share β is malicious cannot push a coordinate beyond what honest clients sent. The mean is
unweighted, as in the paper.

Transmits what FedAvg does. Keeps all replies of a round (`coordinate_wise.py`). State between rounds: none.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from fedpeft.strategies.coordinate_wise import CoordinateWise
from fedpeft.types import FloatArray


class TrimmedMean(CoordinateWise):
    """The coordinate-wise trimmed mean of the deltas, added to θ.

    Args:
        share: β, the share cut off at either end, in [0, 0.5). ⌈β m⌉ of m values are cut, so that small cohorts are
            guarded too, but always at least one value (two, if m is even) is left. 0 is the unweighted mean.

    Raises:
        ValueError: share is outside [0, 0.5).
    """

    def __init__(self, share: float = 0.1) -> None:
        super().__init__()
        if not 0 <= share < 0.5:
            raise ValueError(f"share = {share} must be at least 0 and below 0.5")
        self.share = share

    def fold(self, values: FloatArray) -> npt.NDArray[np.float64]:
        """The mean of what is left between the two ends."""
        m = len(values)
        cut = min(math.ceil(self.share * m - 1e-9), (m - 1) // 2)  # 0.07 · 100 is 7.000000000000001
        mean: npt.NDArray[np.float64] = values[cut : m - cut].mean(axis=0, dtype=np.float64)
        return mean
