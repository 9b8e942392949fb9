"""The passes in NumPy, a cache-sized chunk at a time: see `fedpeft.aggregation.passes`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from fedpeft.aggregation.passes import MAGIC, MAGIC_BITS, Delta, Sums
from fedpeft.codecs.int8 import Int8Blocks
from fedpeft.types import FloatArray

CHUNK = 1 << 15
"""Elements of a chunk, a multiple of int8's block: its float64 temporary and its sums stay in the L2 cache."""


class Portable:
    """NumPy. Temporaries of one chunk, whatever the size of the delta; codes are decoded a chunk at a time."""

    name: ClassVar[str] = "numpy"

    def fold(self, sums: Sums, delta: Delta, factor: float, *, out: bool = False) -> float:
        """See `Passes.fold`."""
        scratch = np.empty(min(CHUNK, delta.size), dtype=np.float64)
        largest = 0.0
        with np.errstate(over="ignore", invalid="ignore"):  # what cannot be folded is seen by the largest
            for start, part in chunks(delta):
                scaled = scratch[: part.size]
                np.multiply(part, factor, out=scaled, dtype=np.float64)
                scaled += MAGIC
                rounded = scaled.view(np.int64)
                rounded -= MAGIC_BITS
                target = sums[start : start + part.size]
                (np.subtract if out else np.add)(target, rounded, out=target)
                if not isinstance(delta, Int8Blocks):
                    largest = max_abs(part, largest)
        return delta.bound if isinstance(delta, Int8Blocks) else largest

    def squared_norm(self, delta: Delta) -> float:
        """See `Passes.squared_norm`."""
        total = 0.0
        with np.errstate(over="ignore", invalid="ignore"):
            for _, part in chunks(delta):
                wide = part.astype(np.float64)
                total += float(wide @ wide)
        return total


def max_abs(part: FloatArray, so_far: float = 0.0) -> float:
    """max |x| of this part and those before it; NaN stays NaN."""
    return float(np.maximum(so_far, np.maximum(part.max(), -part.min())))


def chunks(delta: Delta) -> Iterator[tuple[int, FloatArray]]:
    """(start, values) of each chunk, fp32; where they had to be decoded, the next chunk overwrites them."""
    decoded = np.empty(min(CHUNK, delta.size), dtype=np.float32) if isinstance(delta, Int8Blocks) else None
    for start in range(0, delta.size, CHUNK):
        if isinstance(delta, Int8Blocks):
            assert decoded is not None
            part = decoded[: min(CHUNK, delta.size - start)]
            delta.decode_from(start, part)
            yield start, part
        else:
            yield start, delta[start : start + CHUNK]
