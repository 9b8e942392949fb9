"""Sparse MeZO: only the weights of the smallest magnitude move.

Liu et al. 2024, "Sparse MeZO: Less Parameters for Better Performance in Zeroth-Order LLM Fine-Tuning"
(arXiv 2402.15751), with m the mask of the weights that lie below a threshold of their layer:

    ẑ = m ⊙ z,      m_i = 1 where |θ_i| ≤ h

Its authors take m anew from θ in each step. Here m is that of θ_0, tensor by tensor, for the whole run, since replay in
one pass needs one mask, and both sides can make it.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from fedpeft.randomness.directions import Packed
from fedpeft.types import FloatArray, Layout
from fedpeft.zeroth.direction import Direction, Masked, move_chosen
from fedpeft.zeroth.pools import Coefficients, Pool, largest_of

_PLACES = 1 << 22
"""Weights replayed at a time, in a copy: what a pool prepares for each call is shared by so many."""


class SparsePool:
    """See `Pool`.

    Args:
        inner: whose directions, over all places.
        mask: of the whole vector, from `smallest`.
    """

    def __init__(self, inner: Pool, mask: Packed) -> None:
        self.inner = inner
        self.mask = mask
        self.size = inner.size
        self.largest = largest_of(inner)

    def direction(self, epoch: int, number: int, begin: int, count: int) -> Direction:
        """See `Pool.direction`."""
        own = self.mask[begin // 8 : -(-(begin + count) // 8)]
        return Masked(self.inner.direction(epoch, number, begin, count), own)

    def combine(self, epoch: int, coefficients: Coefficients, weights: FloatArray, unit: float, begin: int = 0) -> None:
        """See `Pool.combine`; weights outside of the mask are left as they are."""
        for place in range(0, len(weights), _PLACES):
            part = weights[place : place + _PLACES]
            moved = part.copy()
            self.inner.combine(epoch, coefficients, moved, unit, begin + place)
            move_chosen(part, moved, self.mask[(begin + place) // 8 : -(-(begin + place + len(part)) // 8)])


def smallest(theta: FloatArray, layout: Layout, share: float) -> Packed:
    """Of each tensor the ⌈share · n⌉ weights of the smallest magnitude, the first ones where they tie; all of a tensor
    whose magnitudes are equal, as LoRA's B is all 0 and a norm's gain all 1: there magnitude tells nothing.

    Args:
        theta: θ_0, shape (d,).
        layout: where each tensor lies.
        share: s, over 0 to 1.

    Returns:
        m, shape (⌈d/8⌉,), packed, the first place lowest.
    """
    mask = np.zeros(-(-layout.size // 8), dtype=np.uint8)
    for tensor in layout.tensors:
        lead = np.zeros(tensor.offset % 8, dtype=np.bool_)
        own = _smallest_of(np.abs(theta[tensor.offset : tensor.offset + tensor.size]), share)
        bits = np.packbits(np.concatenate([lead, own]), bitorder="little")
        mask[tensor.offset // 8 : tensor.offset // 8 + len(bits)] |= bits
    return mask


def _smallest_of(magnitudes: FloatArray, share: float) -> npt.NDArray[np.bool_]:
    count = math.ceil(share * len(magnitudes))
    if count >= len(magnitudes) or magnitudes.min() == magnitudes.max():
        return np.ones(len(magnitudes), dtype=np.bool_)
    bound = np.partition(magnitudes, count - 1)[count - 1]
    kept: npt.NDArray[np.bool_] = magnitudes < bound
    kept[np.flatnonzero(magnitudes == bound)[: count - np.count_nonzero(kept)]] = True
    return kept
