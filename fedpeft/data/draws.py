"""Random draws that stay the same on every machine and under every version of Python and NumPy.

Python promises that `random.Random(seed).random()` never changes; it promises that of no other draw, and NumPy of none
of its `Generator`s. So every draw below is made of `random()` alone, and a corpus can be frozen by its hash.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Sequence
from itertools import accumulate
from typing import TypeVar

T = TypeVar("T")


class Draws:
    """One stream of draws. Streams of different names are independent; equal names give equal streams.

    Args:
        seed: of the run, uint64.
        names: what the draws are for, e.g. `"person", 3`.
    """

    def __init__(self, seed: int, *names: str | int) -> None:
        digest = hashlib.sha256(repr((seed, *names)).encode()).digest()
        self._random = random.Random(int.from_bytes(digest[:16], "big")).random

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """A number in [low, high)."""
        return low + (high - low) * self._random()

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self._random() < probability

    def below(self, count: int) -> int:
        """A whole number in [0, count)."""
        return int(self._random() * count)

    def normal(self) -> float:
        """A standard normal number (Box and Muller, 1958)."""
        return math.sqrt(-2.0 * math.log(1.0 - self._random())) * math.cos(2.0 * math.pi * self._random())

    def pick(self, items: Sequence[T]) -> T:
        """One item, each as likely."""
        return items[self.below(len(items))]

    def weighted(self, weights: Sequence[float]) -> int:
        """An index, drawn in proportion to its weight (>= 0, not all 0)."""
        totals = list(accumulate(weights))
        point = self._random() * totals[-1]
        return next((index for index, total in enumerate(totals) if point < total), len(weights) - 1)

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """All items in a random order (Fisher and Yates)."""
        order = list(items)
        for last in range(len(order) - 1, 0, -1):
            other = self.below(last + 1)
            order[last], order[other] = order[other], order[last]
        return order
