"""The model that everybody rebuilds from the coefficients: the same bits on every machine, proved by its hash."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np

from fedpeft.types import FloatArray
from fedpeft.zeroth.blocks import BlockPool
from fedpeft.zeroth.combination import Combination
from fedpeft.zeroth.coordinates import Coordinates
from fedpeft.zeroth.direction import Direction
from fedpeft.zeroth.optimizers import Vector
from fedpeft.zeroth.pools import Pool, check_range, largest_of
from fedpeft.zeroth.room import kept
from fedpeft.zeroth.sparse import SparsePool


class Replica:
    """θ as a function of the coefficients.

    Keeps the last result, and θ as the last epoch began: of two coefficient vectors that differ in the newest epoch
    only, the second costs one epoch's pass.

    Args:
        initial: θ_0, shape (d,), fp32; not copied, so it may be mapped from a file.
        pool: whose directions.
        coordinates: which coefficient is which.
        rules: how scalars are measured, in words that both sides share; part of the identity.

    Attributes:
        identity: of θ_0, of the pool, by samples of its directions, and of the rules: equal on both sides, or a client
            would build another model, or mean something else by its scalars. Samples are of the pool that parts of the
            vector are taken from: which part is for the rules to say.
    """

    def __init__(self, initial: FloatArray, pool: Pool, coordinates: Coordinates, rules: str = "") -> None:
        self.initial = initial
        self.pool = pool
        self.coordinates = replace(coordinates, largest=largest_of(pool))
        drawn = _drawn(pool)
        samples = drawn.direction(0, 0, 0, 512).values(), drawn.direction(1, drawn.size - 1, 64, 512).values()
        self.identity = f"{_sha(np.concatenate(samples))}:{_sha(initial)}:{rules}"
        self._epoch_start: tuple[bytes, FloatArray] = (b"", initial)  # coefficients of the epochs before, θ
        self._last: tuple[bytes, FloatArray, str] | None = None  # coefficients, θ, its hash once it was asked for

    def theta(self, coefficients: FloatArray) -> FloatArray:
        """θ, shape (d,), fp32; shared between calls: not to be modified.

        Args:
            coefficients: of all epochs, or of the first so many, shape (e·K,), e <= E, behind the importances where
                there are any; rounded to whole numbers.

        Raises:
            ValueError: their sums would not be exact.
        """
        whole = np.rint(coefficients[self.coordinates.first :]).astype(np.int64)
        name = whole.tobytes()
        if self._last is None or self._last[0] != name:
            self._last = (name, self._rebuilt(whole), "")
        return self._last[1]

    def digest(self, coefficients: FloatArray) -> str:
        """SHA-256 of θ as little-endian fp32, hex."""
        theta = self.theta(coefficients)
        assert self._last is not None
        name, _, known = self._last
        if not known:
            self._last = (name, theta, _sha(theta))
        return self._last[2]

    def direction(self, place: int, size: int) -> Direction:
        """The first `size` places of the direction at a place of the coefficients."""
        epoch, number = divmod(place - self.coordinates.first, self.coordinates.size)
        return self.pool.direction(epoch, number, 0, size)

    def combination(self, epoch: int, coefficients: Vector, size: int) -> Direction:
        """The first `size` places of the sum of an epoch's directions with these coefficients, shape (K,)."""
        return Combination.of(self.pool, epoch, coefficients, size)

    def _rebuilt(self, whole: np.ndarray) -> FloatArray:
        by_epoch = whole.reshape(-1, self.coordinates.size)
        moved = np.flatnonzero(by_epoch.any(axis=1))
        if not moved.size:
            return self.initial
        newest = int(moved[-1])
        before = by_epoch[:newest].tobytes()
        if self._epoch_start[0] != before:
            closed = self.initial if newest == 0 else kept(self.initial)
            for epoch in moved[:-1]:
                self._move(closed, int(epoch), by_epoch[epoch])
            self._epoch_start = (before, closed)
        theta = kept(self._epoch_start[1])
        self._move(theta, newest, by_epoch[newest])
        return theta

    def _move(self, theta: FloatArray, epoch: int, coefficients: np.ndarray) -> None:
        check_range(coefficients, self.coordinates.largest)
        self.pool.combine(epoch, coefficients, theta, self.coordinates.unit)


def _drawn(pool: Pool) -> Pool:
    """The pool whose directions move all weights, under those that take parts of them."""
    while isinstance(pool, BlockPool | SparsePool):
        pool = pool.inner
    return pool


def fingerprint(digest: str) -> int:
    """The first 48 bits of a hash in hex: a whole number that a metric, a float64, holds exactly."""
    return int(digest[:12], 16)


def _sha(theta: FloatArray) -> str:
    return hashlib.sha256(np.ascontiguousarray(theta, dtype="<f4").data).hexdigest()
