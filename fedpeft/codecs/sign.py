"""One bit a value: its sign, and one scale for all, their mean magnitude; or one for each block.

    x̂_i = s · sign(x_i),    s = Σ_i |x_i| / d

the compressor of EF-signSGD (Karimireddy et al. 2019, arXiv 1901.09847), which needs error feedback on deltas: on
Gaussian values its relative L2 error is √(1 − 2/π) = 0.60. Votes of ±1 it carries exactly.

`sign(64)` has a scale of its own for each block of 64 values, 1.5 bits a value in all: for values whose size changes
from place to place. Behind a stage the blocks are of what the stage hands on: `topk(0.1)+sign(64)` is a ternary vector
with a scale for each 64 that are kept. One scale a tensor: `bitdelta`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fedpeft.codecs.scaled_signs import ScaledSigns
from fedpeft.types import FloatArray

_LARGEST_BLOCK = 65_536


class Sign(ScaledSigns):
    """1 bit a value and 5 bytes; with blocks, 4 bytes a block.

    Args:
        block: values that share a scale; 0: all do.

    Raises:
        ValueError: block is no whole number from 8 to 65,536, and not 0.
    """

    name = "sign"

    def __init__(self, block: float = 0) -> None:
        if block and not (8 <= block <= _LARGEST_BLOCK and block == int(block)):
            raise ValueError(f"block = {block:g} must be a whole number from 8 to {_LARGEST_BLOCK:,}, or 0")
        self.block = int(block)
        if self.block:
            self.name = f"sign({self.block})"

    def groups(self, size: int) -> int:
        """See `ScaledSigns.groups`."""
        return -(-size // self.block) if self.block else 1

    def lengths(self, size: int) -> npt.NDArray[np.int64]:
        """See `ScaledSigns.lengths`."""
        lengths = np.full(self.groups(size), self.block or size, dtype=np.int64)
        lengths[-1:] -= int(lengths.sum()) - size
        return lengths

    def means(self, magnitudes: FloatArray) -> npt.NDArray[np.float64]:
        """See `ScaledSigns.means`."""
        if not self.block or not magnitudes.size:
            mean = magnitudes.mean(dtype=np.float64) if magnitudes.size else 0.0
            return np.full(self.groups(magnitudes.size), mean)
        starts = np.arange(0, magnitudes.size, self.block)
        means: npt.NDArray[np.float64] = np.add.reduceat(magnitudes, starts, dtype=np.float64)
        return means / self.lengths(magnitudes.size)
