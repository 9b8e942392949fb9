"""What pools share whose directions have nothing in common: a replay is a pass over the weights for each that moved."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy.typing as npt

from fedpeft.types import FloatArray
from fedpeft.zeroth.direction import Direction
from fedpeft.zeroth.pools import SPAN, Coefficients, check_size, step_of, used_of

Used = list[tuple[int, int]]
"""Numbers of the directions that moved, with their coefficients."""


class OneByOnePool(ABC):
    """See `Pool`.

    Args:
        size: K, 1 to 65,536.
        seed: of the run.

    Raises:
        ValueError: another size.
    """

    name: ClassVar[str]
    largest: int = 1
    parts: ClassVar[int] = 1
    """`total` counts in such a part of z."""

    def __init__(self, size: int, seed: int) -> None:
        check_size(size, self.name)
        self.size = size
        self.seed = seed

    @abstractmethod
    def direction(self, epoch: int, number: int, begin: int, count: int) -> Direction:
        """See `Pool.direction`."""

    @abstractmethod
    def total(self, epoch: int, used: Used, begin: int, count: int) -> npt.NDArray[Any]:
        """parts · Σ_j a_j z_j at `count` places from `begin` on, shape (count,), int32 or fp64."""

    def combine(self, epoch: int, coefficients: Coefficients, weights: FloatArray, unit: float, begin: int = 0) -> None:
        """See `Pool.combine`."""
        used = used_of(coefficients)
        for place in range(0, len(weights) if used else 0, SPAN):
            part = weights[place : place + SPAN]
            part += step_of(self.total(epoch, used, begin + place, len(part)), unit / self.parts)
