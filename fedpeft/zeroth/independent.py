"""FedKSeed's pool: K directions drawn independently (Qin et al. 2024, "Federated Full-Parameter Tuning of Billion-Sized
Language Models with Communication Cost under 18 Kilobytes", arXiv 2312.06353).

Sixteen directions share a pool word for each place of the vector. The sum over the sixteen is one look-up in a table of
65,536 whole numbers, so K directions are replayed in K/16 passes of a look-up and an addition.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fedpeft.randomness.directions import WORD, packed_of_words, words
from fedpeft.randomness.streams import derive
from fedpeft.types import FloatArray
from fedpeft.zeroth.direction import Direction, Signs
from fedpeft.zeroth.pools import Coefficients, step_of

_PLACES = 1 << 18
"""Weights summed up at a time: a table is made for each sixteen directions and used for so many look-ups."""

_BITS = (np.arange(256)[:, None] >> np.arange(8) & 1).astype(np.int64)


class IndependentPool:
    """See `Pool`.

    Args:
        size: K, a multiple of 16.
        seed: of the run.

    Raises:
        ValueError: another size.
    """

    largest = 1

    def __init__(self, size: int, seed: int) -> None:
        if size < WORD or size % WORD:
            raise ValueError(f"size = {size} must be a multiple of {WORD} for the pool independent")
        self.size = size
        self.seed = seed

    def direction(self, epoch: int, number: int, begin: int, count: int) -> Direction:
        """See `Pool.direction`."""
        group, place = divmod(number, WORD)
        key, bits = self._key(epoch, group), np.empty(-(-count // 8), dtype=np.uint8)
        for at in range(0, count, _PLACES):  # in pieces: 16 bits are made for each one that is kept
            found = words(key, begin + at, min(_PLACES, count - at))
            bits[at // 8 : (at + _PLACES) // 8] = packed_of_words(found, place)
        return Signs(bits, count)

    def combine(self, epoch: int, coefficients: Coefficients, weights: FloatArray, unit: float, begin: int = 0) -> None:
        """See `Pool.combine`."""
        groups = coefficients.reshape(-1, WORD)
        used = [(self._key(epoch, int(q)), groups[q]) for q in np.flatnonzero(groups.any(axis=1))]
        room = min(_PLACES, len(weights))
        table = np.empty((256, 256), dtype=np.int32)
        total, taken = np.empty(room, dtype=np.int32), np.empty(room, dtype=np.int32)
        for place in range(0, len(weights) if used else 0, _PLACES):
            part = weights[place : place + _PLACES]
            total[:] = 0
            for key, group in used:
                _fill(table, group)
                found = words(key, begin + place, len(part))
                # Every word is in the table: "wrap" is the fastest way not to check it.
                total[: len(part)] += np.take(table, found, out=taken[: len(part)], mode="wrap")
            part += step_of(total[: len(part)], unit)

    def _key(self, epoch: int, group: int) -> bytes:
        return derive(self.seed, "zeroth/independent", epoch, group)


def _fill(table: npt.NDArray[np.int32], group: Coefficients) -> None:
    """Σ_b ±a_b for every word, by its high byte and its low one, from the sums over each byte."""
    low, high = ((2 * _BITS @ half - half.sum()).astype(np.int32) for half in (group[:8], group[8:]))
    np.add(high[:, None], low[None, :], out=table)
