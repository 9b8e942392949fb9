"""What one step looks along, and how to come from where it looked last to where the next step looks from."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from fedpeft.zeroth.direction import Direction
from fedpeft.zeroth.optimizers import Numbers, Vector
from fedpeft.zeroth.replica import Replica

Moves = list[tuple[Direction, float]]
"""Directions to walk along, and how far."""


class Look:
    """The directions of one step.

    Args:
        replica: knows the pool's directions.
        epoch: of the step.
        numbers: of the directions that were drawn, shape (n,).
        along: what is looked along instead, as coefficients, each of shape (K,); None: the drawn ones.
        size: d.
    """

    def __init__(
        self, replica: Replica, epoch: int, numbers: Numbers, along: Sequence[Vector] | None, size: int
    ) -> None:
        self._replica = replica
        self._epoch = epoch
        self._numbers = numbers
        self._along = along
        self._size = size

    @cached_property
    def directions(self) -> list[Direction]:
        """n of them; made when they are first asked for."""
        if self._along is not None:
            return [self._combination(own) for own in self._along]
        begin = self._replica.coordinates.begin(self._epoch)
        return [self._replica.direction(begin + int(number), self._size) for number in self._numbers]

    def moves(self, change: Vector, back: Sequence[float] | None = None) -> Moves:
        """The way there: along the step's own directions where that is all, else along one combination.

        Args:
            change: of the place that steps look from, in coefficients, shape (K,).
            back: how far θ stands along each of the step's directions now, which is undone; None: nowhere.
        """
        offsets = [0.0] * len(self._numbers) if back is None else back
        if self._along is None:
            rest, scales = change.copy(), []
            for number, offset in zip(self._numbers, offsets, strict=True):
                scales.append(float(rest[number]) - offset)
                rest[number] = 0.0
            if not rest.any():
                return [(own, scale) for own, scale in zip(self.directions, scales, strict=True) if scale]
        total = change.copy()
        if self._along is None:
            np.subtract.at(total, self._numbers, offsets)
        else:
            for own, offset in zip(self._along, offsets, strict=True):
                total -= offset * own
        return [(self._combination(total), 1.0)] if total.any() else []

    def _combination(self, coefficients: Vector) -> Direction:
        return self._replica.combination(self._epoch, coefficients, self._size)
