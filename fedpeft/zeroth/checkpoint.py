"""A checkpoint: θ_e, the weights after the first e epochs, in the place of these epochs' coefficients.

The model is made epoch by epoch, each with a rounding of its own (`simulations/DIRECTIONS.md`), so who holds θ_e needs
no coefficient from before it, and ends with the same bits. Which coefficients θ_e stands for is told by a chain of
hashes, which goes on from any of its links:

    h_0 = "",    h_{e+1} = SHA-256(h_e ‖ a_e as int32 LE)

In the vector of whoever holds θ_e, the first e epochs have no coefficients but this name: each of the 16 words of h_e
(2 bytes, little-endian) as 2^24 + 2 · word, over and over. No coefficient is as large, and fp32 holds such numbers
exactly, so the vector keeps its shape and type on its whole way.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from fedpeft.types import FloatArray

CHECKPOINT = "zeroth.checkpoint"
"""Under this name a job is given θ_e, shape (d,), where its start names a checkpoint."""

BEYOND = 1 << 24
"""The magnitude that no coefficient reaches."""

_WORDS = 16
LEAST = _WORDS
"""Places that a name needs: fewer coefficients are never replaced."""

Numbers = npt.NDArray[np.int32] | npt.NDArray[np.int64]


def chain(epochs: Numbers, name: bytes = b"") -> bytes:
    """h after these epochs, 32 bytes; `name` itself if there are none.

    Args:
        epochs: their coefficients, shape (n, K), whole.
        name: h before them.
    """
    for own in epochs:
        name = hashlib.sha256(name + own.astype("<i4").tobytes()).digest()
    return name


def stand_in(name: bytes, count: int) -> npt.NDArray[np.int32]:
    """What stands in the place of `count` coefficients, shape (count,), at least `LEAST`."""
    words = np.frombuffer(name, dtype="<u2").astype(np.int32)
    return np.resize(BEYOND + 2 * words, count)


def past_of(coefficients: Numbers, size: int) -> tuple[int, bytes]:
    """How many epochs are replaced by the name of a checkpoint, and that name; 0 and b"" where none is.

    Args:
        coefficients: shape (E·K,), whole, without importances.
        size: K.
    """
    if len(coefficients) < _WORDS or coefficients[0] < BEYOND:
        return 0, b""
    words = coefficients[:_WORDS].astype(np.int64) - BEYOND
    if (words < 0).any() or (words >= 1 << 17).any() or (words % 2).any():
        return 0, b""
    other = np.flatnonzero(coefficients != np.resize(coefficients[:_WORDS], len(coefficients)))
    epochs, rest = divmod(int(other[0]) if other.size else len(coefficients), size)
    return (0, b"") if rest else (epochs, (words // 2).astype("<u2").tobytes())


def digest_of(theta: FloatArray) -> bytes:
    """SHA-256 of θ as little-endian fp32, 32 bytes."""
    return hashlib.sha256(np.ascontiguousarray(theta, dtype="<f4").data).digest()
