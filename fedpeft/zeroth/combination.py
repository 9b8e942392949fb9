"""A direction that is a sum of many of a pool's: one pass over the weights where the pool replays in one.

What a dense optimizer adds in a step is such a sum. Pools add whole numbers, so the coefficients are rounded to 2^-30
of the sum of their magnitudes: finer than the fp32 of the weights that they move, and meant for those only. The model
that a federation shares is made of coefficients as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedpeft.types import FloatArray
from fedpeft.zeroth.pools import Coefficients, Pool

_FINE = 2.0**30  # units in Σ|c|: with a half more for each of 2^16, sums stay below 2^31


@dataclass(frozen=True, slots=True)
class Combination:
    """Σ_j c_j z_j over the first `size` places; a `Direction`, of any length."""

    pool: Pool
    epoch: int
    steps: Coefficients  # shape (K,)
    unit: float  # c = unit · steps
    size: int

    @classmethod
    def of(cls, pool: Pool, epoch: int, coefficients: npt.NDArray[np.float64], size: int) -> Combination:
        """The sum with these coefficients, shape (K,), finite."""
        most = getattr(pool, "largest", 1)  # of a direction's whole numbers: 1 of signs
        unit = most * float(np.abs(coefficients).sum()) / _FINE
        steps = np.rint(coefficients / (unit or 1.0)).astype(np.int64)
        return cls(pool, epoch, steps, unit, size)

    def add_to(self, weights: FloatArray, scale: float) -> None:
        """See `Direction.add_to`."""
        self.pool.combine(self.epoch, self.steps, weights, self.unit * scale)

    def values(self, begin: int = 0, count: int | None = None) -> FloatArray:
        """See `Direction.values`."""
        found = np.zeros(self.size - begin if count is None else count, dtype=np.float32)
        self.pool.combine(self.epoch, self.steps, found, self.unit, begin)
        return found
