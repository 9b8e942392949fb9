"""A streaming weighted mean whose bits do not depend on the order of arrival.

Floating-point addition is not associative: whoever sums replies as they arrive gets a model that depends on network
timing. Here each product w·Δ is rounded once to a fixed grid and summed in integers, which are associative.

One int64 cannot hold both a huge weight and a tiny delta, so a sum has two limbs, with the product p = w·Δ:

    coarse = rint(p · 2^h)                        grid 2^-h,       |sum| <= 2^62 + 2^23
    fine   = rint((p · 2^h − coarse) · 2^38)      grid 2^-(h+38),  |sum| <= 2^61
    Σp ≈ (Σ coarse + Σ fine · 2^-38) · 2^-h       with 2^h = 2^62 / (max_abs · max_total_weight), rounded down

Error of the mean of N deltas with total weight W, before its rounding to fp32:

    |error| <= N/W · 2^-(h+39) + 2^-50 · max |Δ|

With the default range h = 2: for weights of at least one example the first term is at most 2^-41 (5e-13), so with
|Δ_i| <= 1 the mean is exact to within one fp32 ulp wherever it is above 1e-5, and to within 1e-12 below that. The
weights count as rounded to multiples of 2^-20, none to 0; whole numbers of examples are exact.
"""

from __future__ import annotations

import math

import numpy as np

from fedpeft.types import FloatArray

MAX_ABS = 2.0**20
"""Default largest |Δ_i|. The update guard's norm limit is far below it."""

MAX_TOTAL_WEIGHT = 2.0**40
"""Default largest sum of weights: a million clients with a million examples each."""

MAX_COUNT = 2**24
"""Most deltas that one mean can take: the fine sum then stays below 2^61."""

WEIGHT_BITS = 20  # weights are rounded to multiples of 2^-20, so that their sum is exact
_FINE_BITS = 38
_CHUNK = 1 << 15  # elements; float64 temporaries of a chunk stay in the L2 cache


class WeightedMean:
    """Σ w_k Δ_k / Σ w_k over vectors of one size, added one at a time in any order.

    Any permutation of the same calls of `add` gives the same bits. Holds 16 bytes an element, whatever the number of
    deltas, and no reference to any of them.

    >>> mean = WeightedMean(2)
    >>> mean.add(np.array([1.0, 0.0], dtype=np.float32), weight=30)
    >>> mean.add(np.array([0.0, 4.0], dtype=np.float32), weight=10)
    >>> mean.mean()
    array([0.75, 1.  ], dtype=float32)

    Args:
        size: number of elements d of each delta.
        max_abs: largest |Δ_i| that will be added; fixes the grid together with `max_total_weight`.
        max_total_weight: largest sum of weights.

    Raises:
        ValueError: a negative size, or a limit outside 2^-60 to 2^60.
    """

    def __init__(self, size: int, *, max_abs: float = MAX_ABS, max_total_weight: float = MAX_TOTAL_WEIGHT) -> None:
        if size < 0:
            raise ValueError(f"size = {size} must be 0 or more")
        for name, value in (("max_abs", max_abs), ("max_total_weight", max_total_weight)):
            if not 2.0**-60 <= value <= 2.0**60:
                raise ValueError(f"{name} = {value} must be from 2^-60 to 2^60")
        self.max_abs = float(max_abs)
        self.max_total_weight = float(max_total_weight)
        self._exponent = 62 - math.ceil(math.log2(self.max_abs) + math.log2(self.max_total_weight))  # h
        self._coarse = np.zeros(size, dtype=np.int64)
        self._fine = np.zeros(size, dtype=np.int64)
        self._weight = 0  # in units of 2^-20, exact
        self._count = 0

    @property
    def count(self) -> int:
        """How many deltas have been added."""
        return self._count

    @property
    def total_weight(self) -> float:
        """Sum of the weights, each rounded to a multiple of 2^-20."""
        return math.ldexp(self._weight, -WEIGHT_BITS)

    @property
    def resolution(self) -> float:
        """The fine grid on which each w·Δ_i is rounded, 2^-(h+38)."""
        return math.ldexp(1.0, -self._exponent - _FINE_BITS)

    def add(self, delta: FloatArray, weight: float) -> None:
        """Add one delta. Everything is checked first: a refused delta leaves the mean as it was.

        Args:
            delta: shape (size,), fp32, finite, |Δ_i| <= max_abs; not modified, not kept.
            weight: > 0; counts as the nearest multiple of 2^-20, and as at least 2^-20.

        Raises:
            ValueError: a wrong dtype, shape, value or weight, or one beyond the stated range.
        """
        steps = self._check(delta, weight)
        self._weight += steps
        self._count += 1
        factor = math.ldexp(steps, self._exponent - WEIGHT_BITS)  # w · 2^h, exact
        for start in range(0, delta.size, _CHUNK):
            part = slice(start, start + _CHUNK)
            scaled = delta[part].astype(np.float64)
            scaled *= factor
            coarse = np.rint(scaled)
            scaled -= coarse  # exact: both are multiples of one ulp, and the difference is at most 1/2
            scaled *= 2.0**_FINE_BITS
            self._coarse[part] += coarse.astype(np.int64)
            self._fine[part] += np.rint(scaled, out=scaled).astype(np.int64)

    def mean(self) -> FloatArray:
        """The mean so far: a new array of shape (size,), fp32.

        Raises:
            ValueError: nothing has been added.
        """
        if self._count == 0:
            raise ValueError("the mean of no deltas is not defined: add at least one")
        result = np.empty(self._coarse.size, dtype=np.float32)
        for start in range(0, result.size, _CHUNK):
            part = slice(start, start + _CHUNK)
            total = self._fine[part] * 2.0**-_FINE_BITS
            total += self._coarse[part]
            total *= math.ldexp(1.0, -self._exponent) / self.total_weight
            result[part] = total
        return result

    def _check(self, delta: FloatArray, weight: float) -> int:
        size = self._coarse.size
        if delta.dtype != np.float32 or delta.shape != (size,):
            raise ValueError(f"delta is {delta.dtype} of shape {delta.shape}: it must be float32 of shape ({size},)")
        if not (math.isfinite(weight) and 0 < weight <= self.max_total_weight):
            raise ValueError(f"weight = {weight} must be above 0 and at most {self.max_total_weight:g}")
        steps = max(1, round(math.ldexp(weight, WEIGHT_BITS)))  # a positive weight never vanishes
        if math.ldexp(self._weight + steps, -WEIGHT_BITS) > self.max_total_weight:
            raise ValueError(
                f"weight = {weight} would take the total from {self.total_weight:g} beyond {self.max_total_weight:g}"
            )
        if self._count >= MAX_COUNT:
            raise ValueError(f"{self._count} deltas have been added, which is the most that one mean can take")
        largest = max(float(delta.max()), -float(delta.min())) if size else 0.0
        if not largest <= self.max_abs:  # NaN fails too: max and min pass it on
            raise ValueError(f"delta has an element of size {largest:g}: at most {self.max_abs:g} can be added")
        return steps
