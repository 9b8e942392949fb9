"""What codecs of one bit a value share: signs, and a scale for each group of values, their mean magnitude.

body = scales, fp32 LE, one a group ‖ bits, 8 a byte, the first value lowest: 1 for +s (and for a zero), 0 for −s
       ‖ a 1 that ends them
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt

from fedpeft.codecs.base import MalformedPayload
from fedpeft.randomness.directions import signs
from fedpeft.types import FloatArray


class ScaledSigns(ABC):
    """See `Codec`; which values share a scale is the codec's own."""

    name: str

    @abstractmethod
    def lengths(self, size: int) -> npt.NDArray[np.int64]:
        """Values in each group, in order, shape (g,): of all `size` values."""

    @abstractmethod
    def groups(self, size: int) -> int:
        """g, found without memory for so many."""

    @abstractmethod
    def means(self, magnitudes: FloatArray) -> npt.NDArray[np.float64]:
        """The mean of each group, shape (g,), of magnitudes of shape (d,)."""

    def encode(self, values: FloatArray) -> bytes:
        """See `Codec.encode`."""
        scales: bytes = self.means(np.abs(values)).astype("<f4").tobytes()
        bits: bytes = np.packbits(np.append(values >= 0, True), bitorder="little").tobytes()
        return scales + bits

    def decode(self, body: bytes, size: int) -> FloatArray:
        """See `Codec.decode`."""
        if len(body) != self.max_bytes(size):
            raise MalformedPayload(self.name, f"{len(body)} bytes", allowed=f"{self.max_bytes(size)} bytes")
        scales = np.frombuffer(body, "<f4", self.groups(size)).astype(np.float32)
        wrong = np.flatnonzero(~(np.isfinite(scales) & (scales >= 0)))
        if wrong.size:
            raise MalformedPayload(
                self.name, f"its scale {wrong[0]} is {scales[wrong[0]]}", allowed="finite numbers, 0 or more"
            )
        bits = np.frombuffer(body, np.uint8, offset=4 * scales.size)
        if bits[-1] >> size % 8 != 1:
            raise MalformedPayload(self.name, "another number of bits", allowed=f"{size}, a 1 and zeros")
        values = signs(bits, size)
        values *= scales if scales.size == 1 else np.repeat(scales, self.lengths(size))
        return values

    def max_bytes(self, size: int) -> int:
        """See `Codec.max_bytes`."""
        return 4 * self.groups(size) + size // 8 + 1

    def nominal_bytes(self, size: int) -> int:
        """See `Codec.nominal_bytes`."""
        return self.max_bytes(size)
