"""A direction: along which way a step looks, z, in whatever form its pool makes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from fedpeft.randomness.directions import Packed, add_signs, signs
from fedpeft.types import FloatArray


class Direction(Protocol):
    """z over `size` places of the flat vector, E z zᵀ = I where it is not zero by construction."""

    @property
    def size(self) -> int:
        """Number of places, n."""

    def add_to(self, weights: FloatArray, scale: float) -> None:
        """weights ← fl(weights + fl(scale · z)), in place.

        Args:
            weights: shape (n,), fp32, contiguous.
            scale: taken as fp32.
        """

    def values(self, begin: int = 0, count: int | None = None) -> FloatArray:
        """z at places `begin` (a multiple of 8) to `begin + count` (all that follow if None), fp32, a new array."""


@dataclass(frozen=True, slots=True)
class Signs:
    """±1, a bit each."""

    bits: Packed  # shape (⌈size/8⌉,)
    size: int

    def add_to(self, weights: FloatArray, scale: float) -> None:
        """See `Direction.add_to`."""
        add_signs(weights, self.bits, scale)

    def values(self, begin: int = 0, count: int | None = None) -> FloatArray:
        """See `Direction.values`."""
        count = self.size - begin if count is None else count
        return signs(self.bits[begin // 8 : -(-(begin + count) // 8)], count)
