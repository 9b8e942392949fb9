"""Nearly normal numbers that are exact: how many of sixteen random bits are ones.

    z[i] = (popcount of word i − 8) / 2,      word i: 16 bits of a stream of the direction's own

Mean 0, variance 16/4/4 = 1, values −4, −3.5, ..., 4; the fourth moment is 2.875, a normal number's 3. Twice z is whole,
so sums stay exact in integers and the model has the same bits everywhere. Replay is a pass over the weights for each
direction that moved.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt

from fedpeft.randomness.directions import words
from fedpeft.randomness.streams import derive
from fedpeft.types import FloatArray
from fedpeft.zeroth.direction import Direction, Numbers
from fedpeft.zeroth.one_by_one import OneByOnePool, Used

_ONES = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1).astype(np.int8)
_TWICE = (_ONES[:, None] + _ONES[None, :] - 8).astype(np.int8).reshape(-1)  # 2z of every word


class NearGaussianPool(OneByOnePool):
    """See `Pool`."""

    name = "near-gaussian"
    largest = 8
    parts = 2  # sums are of 2z

    def direction(self, epoch: int, number: int, begin: int, count: int) -> Direction:
        """See `Pool.direction`."""
        return Numbers(partial(_values, self._key(epoch, number), begin), count)

    def total(self, epoch: int, used: Used, begin: int, count: int) -> npt.NDArray[np.int32]:
        """See `OneByOnePool.total`."""
        total, moved = np.zeros(count, dtype=np.int32), np.empty(count, dtype=np.int32)
        for number, own in used:
            total += np.multiply(_twice(self._key(epoch, number), begin, count), own, out=moved, dtype=np.int32)
        return total

    def _key(self, epoch: int, number: int) -> bytes:
        return derive(self.seed, "zeroth/near-gaussian", epoch, number)


def _twice(key: bytes, begin: int, count: int) -> npt.NDArray[np.int8]:
    """2z, shape (count,)."""
    return np.take(_TWICE, words(key, begin, count), mode="wrap")  # every word is there: the fastest way not to check


def _values(key: bytes, first: int, begin: int, count: int) -> FloatArray:
    """z at places `first + begin` on, shape (count,)."""
    found = _twice(key, first + begin, count).astype(np.float32)
    found *= np.float32(0.5)
    return found
