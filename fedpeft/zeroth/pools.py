"""The contract of a pool, and what all pools share."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from fedpeft.types import FloatArray
from fedpeft.zeroth.direction import Direction

PIECE = 1 << 16
"""Weights worked on at a time: all that is needed for them stays in a core's cache."""

Coefficients = npt.NDArray[np.int64]


class Pool(Protocol):
    """K directions an epoch over a flat vector of any length (registry kind `pool`).

    Made by `name(size, seed)`; a size that it cannot have is a ValueError.
    """

    size: int
    """K."""

    def direction(self, epoch: int, number: int, begin: int, count: int) -> Direction:
        """Places `begin` to `begin + count` of z_{epoch, number}; `begin` is a multiple of 8."""

    def combine(self, epoch: int, coefficients: Coefficients, weights: FloatArray, unit: float, begin: int = 0) -> None:
        """weights ← fl(weights + fl(c · S)), in place, with S_i = Σ_j a_j z_j[begin + i].

        Args:
            epoch: whose directions.
            coefficients: a, shape (K,), whole; `check_range` has passed.
            weights: shape (n,), fp32, contiguous: the flat vector's places from `begin` on.
            unit: c.
            begin: a multiple of 8.
        """


def step_of(total: Coefficients | npt.NDArray[np.int32], unit: float) -> FloatArray:
    """fl(c · S): the product in fp64, rounded to fp32 once more. Every pool moves weights by this and nothing else."""
    return (total.astype(np.float64) * unit).astype(np.float32)


def check_range(coefficients: Coefficients) -> None:
    """Refuse coefficients whose sums might leave int32, in which they are exact.

    Raises:
        ValueError: Σ_j |a_j| is 2^31 or more.
    """
    total = int(np.abs(coefficients).sum())
    if total >= 2**31:
        raise ValueError(f"the coefficients' magnitudes add up to {total}: it must be below 2^31")
