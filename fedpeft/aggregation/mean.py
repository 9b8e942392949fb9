"""A streaming weighted mean whose bits do not depend on the order of arrival.

Floating-point addition is not associative: whoever sums replies as they arrive gets a model that depends on network
timing. Here each product w·Δ is rounded once to a fixed grid of 2^-44 and summed in integers, which are associative:

    S = Σ_k rint(w_k Δ_k · 2^44),      mean = S · 2^-44 / Σ_k w_k

S can take 105 bits, with deltas up to 2^20 and weights up to 2^40 in sum. Nearly all rounds need far fewer, so there is
one int64 an element, `low`, and a second, `high`, in units of 2^42, only once it is needed:

    S = high · 2^42 + low

Either for a product p of 2^7 or more, which is split as high = rint(p · 2^2), low = rint((p · 2^2 − high) · 2^42), or
after 2047 deltas, before `low` could overflow. S is the same integer however it is split, and the mean is computed from
the one split with 0 <= low < 2^42.

Error of the mean of N deltas with total weight W, before its rounding to fp32:

    |error| <= N/W · 2^-45 + 2^-51 · max |Δ|

For weights of at least one example the first term is at most 3e-14: with |Δ_i| <= 1 the mean is exact to within one
fp32 ulp wherever it is above 1e-6. The weights count as rounded to multiples of 2^-40, none to 0; whole numbers of
examples are exact.

Where some hold only a part of the vector (pruned clients), each coordinate is the mean over those that hold it,

    mean_i = S_i · 2^-44 / Σ_{k holds i} w_k,      0 where nobody does

for which one weight is kept for each distinct part, and added up in the order of the parts' digests.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from fedpeft.aggregation.choice import best_passes
from fedpeft.aggregation.passes import EXACT, Delta, Passes, Sums, passable
from fedpeft.aggregation.portable import chunks, max_abs
from fedpeft.types import Coded, FloatArray, Held

MAX_ABS = 2.0**20
"""Largest |Δ_i|. The update guard's norm limit is far below it."""

MAX_TOTAL_WEIGHT = 2.0**40
"""Largest sum of weights: a million clients with a million examples each."""

UNIT_BITS = 44
"""Products are rounded to multiples of 2^-44."""

HIGH_BITS = 42
"""`high` counts multiples of 2^42 units. |high| stays below 2^63: Σ w |Δ| <= 2^60 is at most 2^62 of them."""

MOST_FOLDS = 2**11 - 1
"""Deltas that `low` takes before it is emptied: each adds less than 2^51 units, and it starts below 2^42."""

WEIGHT_BITS = 40  # weights are rounded to multiples of 2^-40, so that their sum is exact


class WeightedMean:
    """Σ w_k Δ_k / Σ w_k over vectors of one size, added one at a time in any order.

    Any permutation of the same calls of `add` gives the same bits, with numba or without. Holds 8 bytes an element,
    16 after a product of 2^7 or more or 2047 deltas, and no reference to any delta.

    >>> mean = WeightedMean(2)
    >>> mean.add(np.array([1.0, 0.0], dtype=np.float32), weight=30)
    >>> mean.add(np.array([0.0, 4.0], dtype=np.float32), weight=10)
    >>> mean.mean()
    array([0.75, 1.  ], dtype=float32)

    Args:
        size: number of elements d of each delta.
        passes: how to fold; the fastest there is by default. All give the same bits.

    >>> parts = WeightedMean(2)
    >>> parts.add(np.array([1.0, 2.0], dtype=np.float32), weight=30)
    >>> parts.add(np.array([5.0, 0.0], dtype=np.float32), weight=10, held=Held("first", np.array([0])))
    >>> parts.mean()
    array([2., 2.], dtype=float32)

    Raises:
        ValueError: a negative size.
    """

    def __init__(self, size: int, *, passes: Passes | None = None) -> None:
        if size < 0:
            raise ValueError(f"size = {size} must be 0 or more")
        self._passes = passes or best_passes()
        self._low: Sums = np.zeros(size, dtype=np.int64)
        self._high: Sums | None = None
        self._folds = 0  # since `low` was emptied
        self._weight = 0  # in units of 2^-40, exact
        self._count = 0
        self._held: dict[str, Held] = {}  # parts of the vector by digest
        self._held_weights: dict[str, int] = {}  # of those parts, in units of 2^-40

    @property
    def count(self) -> int:
        """How many deltas have been added."""
        return self._count

    @property
    def total_weight(self) -> float:
        """Sum of the weights, each rounded to a multiple of 2^-40."""
        return math.ldexp(self._weight, -WEIGHT_BITS)

    def add(self, delta: FloatArray | Coded, weight: float, held: Held | None = None) -> None:
        """Add one delta. A refused one leaves the mean as it was.

        Args:
            delta: shape (size,), fp32, finite, |Δ_i| <= 2^20; not modified, not kept. Or the same as int8 codes, which
                have the bits of the decoded delta; other codes are decoded.
            weight: > 0; counts as the nearest multiple of 2^-40, and as at least that.
            held: the coordinates that it has anything to say of, and for which alone its weight counts; it is 0
                everywhere else. None: all.

        Raises:
            ValueError: a wrong dtype, shape, value or weight, or one beyond the stated range.
        """
        foldable = self._foldable(delta)
        steps = self._steps(weight)
        if self._folds >= MOST_FOLDS:
            self._carry()
        factor = math.ldexp(steps, UNIT_BITS - WEIGHT_BITS)  # w · 2^44, exact
        largest = self._passes.fold(self._low, foldable, factor)
        if not largest * factor < EXACT:  # NaN too
            self._passes.fold(self._low, foldable, factor, out=True)
            self._fold_large(foldable, factor)
        self._folds += 1
        self._weight += steps
        self._count += 1
        if held is not None:
            self._held[held.digest] = held
            self._held_weights[held.digest] = self._held_weights.get(held.digest, 0) + steps

    def mean(self) -> FloatArray:
        """The mean so far: a new array of shape (size,), fp32; 0 for a coordinate that nobody holds.

        Raises:
            ValueError: nothing has been added.
        """
        if self._count == 0:
            raise ValueError("the mean of no deltas is not defined: add at least one")
        result = np.empty(self._low.size, dtype=np.float32)
        weights = self._weights()
        for start, part in chunks(result):
            these = slice(start, start + part.size)
            low = self._low[these]
            high = low >> HIGH_BITS  # rounds down, so that what stays in `low` is not negative
            if self._high is not None:
                high += self._high[these]
            total = high * 2.0**HIGH_BITS
            total += low & (2**HIGH_BITS - 1)
            total *= math.ldexp(1.0, -UNIT_BITS) / (weights if isinstance(weights, float) else weights[these])
            part[:] = total
        return result

    def _weights(self) -> float | npt.NDArray[np.float64]:
        """By what the sums are divided: one weight, or shape (size,) where some hold only a part; nobody's is inf."""
        if not self._held:
            return self.total_weight
        everywhere = self._weight - sum(self._held_weights.values())
        weights = np.full(self._low.size, math.ldexp(everywhere, -WEIGHT_BITS))
        for digest in sorted(self._held):
            weights[self._held[digest].places] += math.ldexp(self._held_weights[digest], -WEIGHT_BITS)
        weights[weights == 0] = np.inf
        return weights

    def _foldable(self, delta: FloatArray | Coded) -> Delta:
        size = self._low.size
        if isinstance(delta, np.ndarray):
            if delta.dtype != np.float32 or delta.shape != (size,):
                raise ValueError(
                    f"delta is {delta.dtype} of shape {delta.shape}: it must be float32 of shape ({size},)"
                )
        elif delta.size != size:
            raise ValueError(f"delta has {delta.size} codes: it must have {size}")
        return passable(delta)

    def _steps(self, weight: float) -> int:
        if not (math.isfinite(weight) and 0 < weight <= MAX_TOTAL_WEIGHT):
            raise ValueError(f"weight = {weight} must be above 0 and at most {MAX_TOTAL_WEIGHT:g}")
        steps = max(1, round(math.ldexp(weight, WEIGHT_BITS)))  # a positive weight never vanishes
        if math.ldexp(self._weight + steps, -WEIGHT_BITS) > MAX_TOTAL_WEIGHT:
            raise ValueError(
                f"weight = {weight} would take the total from {self.total_weight:g} beyond {MAX_TOTAL_WEIGHT:g}"
            )
        return steps

    def _carry(self) -> None:
        """Move all that is 2^42 units or more from `low` to `high`: the sum is the same integer as before."""
        if self._high is None:
            self._high = np.zeros_like(self._low)
        self._high += self._low >> HIGH_BITS
        self._low &= 2**HIGH_BITS - 1
        self._folds = 0

    def _fold_large(self, delta: Delta, factor: float) -> None:
        """Fold products that a float64 cannot round to whole units: the same integers, from two parts each."""
        largest = 0.0
        for _, part in chunks(delta):
            largest = max_abs(part, largest)
        if not largest <= MAX_ABS:  # NaN too
            raise ValueError(f"delta has an element of size {largest:g}: at most {MAX_ABS:g} can be added")
        if self._high is None:
            self._high = np.zeros_like(self._low)
        for start, part in chunks(delta):
            these = slice(start, start + part.size)
            scaled = part.astype(np.float64)
            scaled *= factor * 2.0**-HIGH_BITS
            whole = np.rint(scaled)
            scaled -= whole  # exact: both are multiples of one ulp, and the difference is at most 1/2
            scaled *= 2.0**HIGH_BITS
            self._high[these] += whole.astype(np.int64)
            self._low[these] += np.rint(scaled, out=scaled).astype(np.int64)
