"""The contract of a pool, and what all pools share."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from fedpeft.types import FloatArray
from fedpeft.zeroth.direction import Direction

PIECE = 1 << 16
"""Weights worked on at a time: all that is needed for them stays in a core's cache."""

SPAN = 1 << 18
"""Weights summed up at a time by a pool that makes its directions one by one: to set up a stream costs little then."""

MOST = 1 << 16
"""Directions of an epoch, at most."""

Coefficients = npt.NDArray[np.int64]


class Pool(Protocol):
    """K directions an epoch over a flat vector of any length (registry kind `pool`).

    Made by `name(size, seed)`; a size that it cannot have is a ValueError.
    """

    size: int
    """K."""

    largest: int
    """The largest |z| in the whole numbers that sums are made of: 1 for signs. A pool that does not say has 1."""

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


def step_of(total: Coefficients | npt.NDArray[np.int32] | npt.NDArray[np.float64], unit: float) -> FloatArray:
    """fl(c · S): the product in fp64, rounded to fp32 once more. Every pool moves weights by this and nothing else."""
    return (total.astype(np.float64) * unit).astype(np.float32)


def check_range(coefficients: Coefficients, largest: int = 1) -> None:
    """Refuse coefficients whose sums might leave int32, in which they are exact.

    Args:
        coefficients: a, shape (K,), whole.
        largest: of the pool; see `Pool`.

    Raises:
        ValueError: largest · Σ_j |a_j| is 2^31 or more.
    """
    total = int(np.abs(coefficients).sum())
    if total * largest >= 2**31:
        times = f" times {largest}, the largest number of a direction," if largest > 1 else ":"
        raise ValueError(f"the coefficients' magnitudes add up to {total}{times} it must be below 2^31")


def check_size(size: int, pool: str) -> None:
    """Refuse what is no number of directions, for a pool that can have any.

    Raises:
        ValueError: the size is not from 1 to 65,536.
    """
    if not 1 <= size <= MOST:
        raise ValueError(f"size = {size} must be from 1 to {MOST} for the pool {pool}")


def used_of(coefficients: Coefficients) -> list[tuple[int, int]]:
    """Number and coefficient of each direction that moved, in the order of numbers."""
    return [(int(number), int(coefficients[number])) for number in np.flatnonzero(coefficients)]


def largest_of(pool: Pool) -> int:
    """`Pool.largest`, 1 where the pool does not say."""
    return int(getattr(pool, "largest", 1))
