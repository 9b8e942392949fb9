"""Block-wise perturbation: a direction moves one of B parts of the vector and leaves the others as they are.

    direction j moves block j mod B, along the inner pool's direction j div B at the block's own places

A step then sees the slope along d/B weights alone, and leaves the others without its noise. Who draws directions at
random draws blocks at random. Since a block has places of its own, K/B inner directions serve all of them, and a
`hadamard` pool is still replayed in one pass.
"""

from __future__ import annotations

import numpy as np

from fedpeft.types import FloatArray
from fedpeft.zeroth.direction import Direction, Placed
from fedpeft.zeroth.pools import Coefficients, Pool, largest_of


class BlockPool:
    """See `Pool`. Block b are places 8 ⌊b n/B⌋ to 8 ⌊(b + 1) n/B⌋ of the d there are, with n = ⌈d/8⌉.

    Args:
        inner: of K/B directions.
        blocks: B.
        places: d, of the whole vector.

    Raises:
        ValueError: there are fewer than eight places a block.
    """

    def __init__(self, inner: Pool, blocks: int, places: int) -> None:
        if not 1 <= blocks <= places // 8:
            raise ValueError(f"blocks = {blocks} must be from 1 to {places // 8}: an eighth of {places} weights")
        self.inner = inner
        self.blocks = blocks
        self.places = places
        self.size = inner.size * blocks
        self.largest = largest_of(inner)

    def direction(self, epoch: int, number: int, begin: int, count: int) -> Direction:
        """See `Pool.direction`."""
        first, end = self._within(number % self.blocks, begin, count)
        own = self.inner.direction(epoch, number // self.blocks, first, end - first)
        return Placed(own, first - begin, count)

    def combine(self, epoch: int, coefficients: Coefficients, weights: FloatArray, unit: float, begin: int = 0) -> None:
        """See `Pool.combine`; a block none of whose directions moved is left as it is."""
        for block in range(self.blocks):
            own = np.ascontiguousarray(coefficients[block :: self.blocks])
            first, end = self._within(block, begin, len(weights))
            if first < end and own.any():
                self.inner.combine(epoch, own, weights[first - begin : end - begin], unit, first)

    def _within(self, block: int, begin: int, count: int) -> tuple[int, int]:
        """Where a block begins and ends among the `count` places from `begin` on; `begin` twice where it has none."""
        eighths = -(-self.places // 8)
        first, end = (8 * (edge * eighths // self.blocks) for edge in (block, block + 1))
        first, end = max(first, begin), min(end, self.places, begin + count)
        return (first, end) if first < end else (begin, begin)
