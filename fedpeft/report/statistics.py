"""Mean and interval over a handful of runs.

Runs that differ in nothing but their seed are draws from one distribution; with n of them, mean ± t · s / sqrt(n) holds
the true mean in 95 % of the cases (Student 1908), s the sample's standard deviation and t the quantile of Student's
distribution with n - 1 degrees of freedom. It is exact where the runs are normally distributed, and wide where there
are few of them: with n = 3, t is 4.3. A difference of two columns is taken run by run, because both columns of a run
share data, initialisation and cohorts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

# Two-sided 95 % quantiles of Student's t for 1 to 30 degrees of freedom.
_T95 = (
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281,
    2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860,
    2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423,
)  # fmt: skip
_Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class MeanInterval:
    """Mean of n runs and its 95 % interval."""

    n: int
    mean: float
    deviation: float | None  # of the sample, s; None for one run
    half: float | None  # half the width of the interval; None for one run

    @property
    def low(self) -> float | None:
        """The lower end."""
        return None if self.half is None else self.mean - self.half

    @property
    def high(self) -> float | None:
        """The upper end."""
        return None if self.half is None else self.mean + self.half


def mean_interval(values: Sequence[float]) -> MeanInterval | None:
    """Mean and 95 % t interval; None without values, and no interval for one.

    >>> found = mean_interval([1.0, 2.0, 3.0])
    >>> found.mean, found.deviation, round(found.half, 3)  # 4.3027 · 1 / sqrt(3)
    (2.0, 1.0, 2.484)
    """
    if not values:
        return None
    if len(values) == 1:
        return MeanInterval(1, values[0], None, None)
    deviation = stdev(values)
    half = student_t95(len(values) - 1) * deviation / math.sqrt(len(values))
    return MeanInterval(len(values), fmean(values), deviation, half)


def student_t95(freedom: int) -> float:
    """The two-sided 95 % quantile of Student's t.

    Above 30 degrees of freedom by the expansion of Abramowitz and Stegun 26.7.5 to its second term, within 1e-4.

    Raises:
        ValueError: fewer than 1 degree of freedom.
    """
    if freedom < 1:
        raise ValueError(f"freedom = {freedom} must be 1 or more")
    if freedom <= len(_T95):
        return _T95[freedom - 1]
    z = _Z95
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
