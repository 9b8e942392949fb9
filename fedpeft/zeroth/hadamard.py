"""A pool that is replayed in one pass over the weights, whatever K is: a randomly signed Hadamard frame.

    z_j[i] = D[i] · H[j, i mod K],      D a single stream, fresh for each epoch; H the K × K Hadamard matrix

so Σ_j a_j z_j = D ⊙ tile(H a) (H is symmetric): one Walsh–Hadamard transform of K numbers and one pass. The directions
are ±1 and, over each full run of K places, exactly orthogonal. Within a tensor of fewer than K weights two of them may
coincide, so they serve whole vectors, not single small tensors.

FedKSeed (Qin et al. 2024, arXiv 2312.06353) rebuilds the model with K passes; its pool is `independent`. As there, one
pool confines the run to K dimensions until the epoch ends.
"""

from __future__ import annotations

import numpy as np

from fedpeft.randomness.directions import packed, signs
from fedpeft.randomness.streams import derive
from fedpeft.randomness.walsh import walsh
from fedpeft.types import FloatArray
from fedpeft.zeroth.direction import Direction, Signs
from fedpeft.zeroth.pools import PIECE, Coefficients, step_of
from fedpeft.zeroth.sign_stream import SignStream


class HadamardPool:
    """See `Pool`.

    Args:
        size: K, a power of two from 8 to 65,536.
        seed: of the run.

    Raises:
        ValueError: another size.
    """

    largest = 1

    def __init__(self, size: int, seed: int) -> None:
        if not 8 <= size <= PIECE or size & (size - 1):
            raise ValueError(f"size = {size} must be a power of two from 8 to {PIECE} for the pool hadamard")
        self.size = size
        self.seed = seed

    def direction(self, epoch: int, number: int, begin: int, count: int) -> Direction:
        """See `Pool.direction`."""
        return Signs(None, count, SignStream(self._key(epoch), begin, number, self.size))

    def combine(self, epoch: int, coefficients: Coefficients, weights: FloatArray, unit: float, begin: int = 0) -> None:
        """See `Pool.combine`."""
        steps = np.roll(step_of(walsh(coefficients), unit), -(begin % self.size))
        tiled = np.tile(steps, -(-min(PIECE, max(len(weights), 1)) // self.size))
        bits, zeros = packed(self._key(epoch), begin, len(weights)), bool((steps == 0).any())
        for place in range(0, len(weights), PIECE):
            part = weights[place : place + PIECE]
            signed = signs(bits[place // 8 : (place + PIECE) // 8], len(part))
            signed *= tiled[: len(part)]
            if zeros:
                signed += np.float32(0)  # −0 becomes +0: where S is 0, +0 is added, whatever the sign
            part += signed

    def _key(self, epoch: int) -> bytes:
        return derive(self.seed, "zeroth/hadamard", epoch)
