"""The model that everybody rebuilds from the coefficients: the same bits on every machine, proved by its hash."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fedpeft.types import FloatArray
from fedpeft.zeroth.blocks import BlockPool
from fedpeft.zeroth.checkpoint import chain, digest_of, past_of
from fedpeft.zeroth.combination import Combination
from fedpeft.zeroth.coordinates import Coordinates
from fedpeft.zeroth.direction import Direction
from fedpeft.zeroth.optimizers import Vector
from fedpeft.zeroth.pools import Pool, check_range, largest_of
from fedpeft.zeroth.room import kept
from fedpeft.zeroth.sparse import SparsePool


class Replica:
    """θ as a function of the coefficients.

    Keeps the last result, θ as the last epoch began, and a checkpoint: of two coefficient vectors that differ in the
    newest epoch only, the second costs one epoch's pass. Each is known by its link of the chain of hashes (see
    `fedpeft.zeroth.checkpoint`), so a vector that names θ_e costs no more than one that has all coefficients, and θ of
    both is one array.

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
        self._epoch_start: tuple[bytes, FloatArray] = (b"", initial)  # h of the epochs before, θ
        self._checkpoint: tuple[bytes, FloatArray] = (b"", initial)  # h of its epochs, θ
        self._last: tuple[bytes, FloatArray, str] | None = None  # h of all epochs, θ, its hash once it was asked for

    def theta(self, coefficients: FloatArray) -> FloatArray:
        """θ, shape (d,), fp32; shared between calls: not to be modified.

        Args:
            coefficients: of all epochs, or of the first so many, shape (e·K,), e <= E, behind the importances where
                there are any; rounded to whole numbers.

        Raises:
            ValueError: their sums would not be exact, or they name a checkpoint other than that of `begin_from`.
        """
        rows = self._rows(coefficients)
        links = self._links(rows)
        if self._last is None or self._last[0] != links[-1]:
            self._last = (links[-1], self._rebuilt(rows, links), "")
        return self._last[1]

    def begin_from(self, coefficients: FloatArray, theta: FloatArray) -> None:
        """Be given the θ_e that a vector of coefficients names, shape (d,); not copied. The one before it is let go."""
        self._checkpoint = (self._links(self._rows(coefficients))[0], theta)

    def after(self, coefficients: FloatArray, epochs: int) -> FloatArray:
        """θ_e after the first e = `epochs` epochs, shape (d,), which is kept as a checkpoint; not to be modified."""
        rows = self._rows(coefficients)[:epochs]
        links = self._links(rows, whole=True)
        self._checkpoint = (links[-1], self._replayed(rows, links))
        return self._checkpoint[1]

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

    def _rows(self, coefficients: FloatArray) -> np.ndarray:
        """Coefficients as whole numbers, shape (e, K)."""
        whole = np.rint(coefficients[self.coordinates.first :]).astype(np.int64)
        return whole.reshape(-1, self.coordinates.size)

    def _links(self, rows: np.ndarray, *, whole: bool = False) -> list[bytes]:
        """The chain of hashes from the checkpoint that is named, or from h_0, to the newest epoch that moved.

        Args:
            rows: shape (e, K).
            whole: to the last one, moved or not.
        """
        past, name = past_of(rows.reshape(-1), self.coordinates.size)
        moved = np.flatnonzero(rows.any(axis=1))
        links = [name]
        for row in rows[past : len(rows) if whole else int(moved[-1]) + 1 if moved.size else 0]:
            links.append(chain(row[None], links[-1]))
        return links

    def _rebuilt(self, rows: np.ndarray, links: Sequence[bytes]) -> FloatArray:
        """θ of all that moved; as the newest epoch begins it is kept."""
        if len(links) == 1:
            return self._replayed(rows, links)
        if self._epoch_start[0] != links[-2]:
            self._epoch_start = (links[-2], self._replayed(rows, links[:-1]))
        theta = kept(self._epoch_start[1])
        past, _ = past_of(rows.reshape(-1), self.coordinates.size)
        newest = past + len(links) - 2
        self._move(theta, newest, rows[newest])
        return theta

    def _replayed(self, rows: np.ndarray, links: Sequence[bytes]) -> FloatArray:
        """θ at the last of these links, from the newest one at which it is known; not to be modified.

        Args:
            rows: coefficients, shape (e, K).
            links: of the epochs that are replayed, from the named checkpoint, or from h_0.
        """
        known = {b"": self.initial} | dict((self._checkpoint, self._epoch_start))
        if self._last is not None:
            known[self._last[0]] = self._last[1]
        begin = next((at for at in reversed(range(len(links))) if links[at] in known), None)
        if begin is None:
            raise ValueError(f"the start is made from checkpoint {links[0].hex()[:16]}, which is not here")
        theta = known[links[begin]]
        past, _ = past_of(rows.reshape(-1), self.coordinates.size)
        moved = [at for at in range(past + begin, past + len(links) - 1) if rows[at].any()]
        if moved:
            theta = kept(theta)
        for epoch in moved:
            self._move(theta, epoch, rows[epoch])
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
    return digest_of(theta).hex()
