"""Signs told by the stream that they are read from: whoever needs them makes them where they are needed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedpeft.randomness.directions import Packed, packed
from fedpeft.randomness.walsh import parities


@dataclass(frozen=True, slots=True)
class SignStream:
    """z[i] = sign `begin + i` of a single stream · H[row, (begin + i) mod period], H the Hadamard matrix."""

    key: bytes
    begin: int  # a multiple of 8
    row: int = 0  # row 0 is all +1: the stream as it is
    period: int = 8  # a power of two, 8 or more

    def packed(self, count: int) -> Packed:
        """The first `count` signs, shape (⌈count/8⌉,)."""
        bits = packed(self.key, self.begin, count)
        if self.row:
            turned = self.turned()
            whole = bits[: len(bits) // len(turned) * len(turned)].reshape(-1, len(turned))
            whole ^= turned
            rest = bits[whole.size :]
            rest ^= turned[: len(rest)]
        return bits

    def turned(self) -> Packed:
        """Which signs the row turns, from the first one on, again and again: shape (period/8,)."""
        flips = np.packbits(parities(self.row, self.period), bitorder="little")
        return np.roll(flips, -(self.begin % self.period // 8))
