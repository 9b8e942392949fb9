"""The Walsh–Hadamard transform: sums along all rows of a Hadamard matrix at once.

    H[j, i] = (−1)^(number of ones that j and i share in binary),    K × K, K a power of two, H Hᵀ = K I

>>> walsh(np.array([1, 2, 3, 4])).tolist()
[10, -2, -4, 0]
>>> row(5, 8).tolist()
[1, -1, 1, -1, -1, 1, -1, 1]
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def walsh(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """H a, shape (K,), exact in K log2 K additions.

    Args:
        values: a, shape (K,), whole numbers with Σ|a| below 2^63.

    Raises:
        ValueError: K is not a power of two.
    """
    size = len(values)
    if size < 1 or size & (size - 1):
        raise ValueError(f"{size} values: their number must be a power of two")
    found = np.array(values, dtype=np.int64)
    half = 1
    while half < size:
        pairs = found.reshape(-1, 2, half)
        found = np.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], axis=1).reshape(-1)
        half *= 2
    return found


def row(number: int, size: int) -> npt.NDArray[np.int64]:
    """Row `number` of H, shape (K,), +1 and −1."""
    return 1 - 2 * parities(number, size).astype(np.int64)


def parities(number: int, size: int) -> npt.NDArray[np.uint8]:
    """1 where row `number` of H is −1, shape (K,)."""
    shared = np.arange(size, dtype=np.uint32) & np.uint32(number)
    for shift in (16, 8, 4, 2, 1):
        shared ^= shared >> np.uint32(shift)
    return (shared & 1).astype(np.uint8)
