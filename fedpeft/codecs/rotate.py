"""A seeded rotation before a codec: values of very different size become alike, so that a coarse codec loses less.

    y = H D x / √B in blocks of B = 1,024 values,    x̂ = D Hᵀ ŷ / √B

D random signs that both sides derive, H the B × B Hadamard matrix (as QuIP, Chee et al. 2023, arXiv 2307.13304, and
DRIVE, Vargaftik et al. 2021, arXiv 2105.08339). It keeps lengths, so a codec's relative error stays what it is on
Gaussian values even where one value of a block is much larger than the others. Values that are Gaussian already gain
nothing. The last block is filled up with zeros, and a vector of fewer values than B is one block.

    body = d mod 2^32, u32 LE ‖ inner codec of the rotated blocks
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fedpeft.codecs.base import Codec, MalformedPayload, inside, length_of
from fedpeft.randomness.directions import packed, signs
from fedpeft.randomness.streams import derive
from fedpeft.types import FloatArray

BLOCK = 1024

_LARGEST = float(np.finfo(np.float32).max)


class Rotated:
    """See the module.

    Args:
        inner: of the rotated values.
    """

    def __init__(self, inner: Codec) -> None:
        self.inner = inner
        self.name = f"rotate+{inner.name}"
        self._key = derive(0, "codec/rotate")

    def encode(self, values: FloatArray) -> bytes:
        """See `Codec.encode`."""
        blocks = np.zeros(self._padded(values.size), dtype=np.float64)
        blocks[: values.size] = values
        blocks *= self._signs(blocks.size)
        return length_of(values.size) + self.inner.encode(_finite(_turned(blocks, _block(values.size))))

    def decode(self, body: bytes, size: int) -> FloatArray:
        """See `Codec.decode`."""
        padded, length = self._padded(size), length_of(size)
        if not body.startswith(length):
            raise MalformedPayload(self.name, "it is of another number of values", allowed=f"{size}")
        with inside(self.name):
            values = self.inner.decode(body[len(length) :], padded)
        turned = _turned(values.astype(np.float64), _block(size)) * self._signs(padded)
        return _finite(turned[:size])

    def max_bytes(self, size: int) -> int:
        """See `Codec.max_bytes`."""
        return 4 + self.inner.max_bytes(self._padded(size))

    def nominal_bytes(self, size: int) -> int:
        """See `Codec.nominal_bytes`."""
        return 4 + self.inner.nominal_bytes(self._padded(size))

    def _padded(self, size: int) -> int:
        block = _block(size)
        return -(-size // block) * block

    def _signs(self, count: int) -> FloatArray:
        return signs(packed(self._key, 0, count), count)


def _block(size: int) -> int:
    """The block of a vector: B, or the next power of two of a shorter one."""
    return min(BLOCK, 1 << max(0, size - 1).bit_length())


def _turned(values: npt.NDArray[np.float64], block: int) -> npt.NDArray[np.float64]:
    """H x / √B of each block, shape (n,); its own inverse."""
    found, half = values.reshape(-1, block), 1
    while half < block:
        pairs = found.reshape(-1, block // (2 * half), 2, half)
        found = np.stack([pairs[:, :, 0] + pairs[:, :, 1], pairs[:, :, 0] - pairs[:, :, 1]], axis=2)
        found = found.reshape(-1, block)
        half *= 2
    turned: npt.NDArray[np.float64] = found.reshape(-1) / np.sqrt(block)
    return turned


def _finite(values: npt.NDArray[np.float64]) -> FloatArray:
    """As fp32; what a block of the largest numbers adds up to beyond it stays at its end."""
    return np.clip(values, -_LARGEST, _LARGEST).astype(np.float32)
