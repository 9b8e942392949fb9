"""Memory for whole models: large ones lie in a file without a name, whose pages the system may take back at any time.

A device that runs inference has room for the model once. What a replica keeps beside it (θ_0, θ as the epoch began, the
θ that was rebuilt last) is read in passes from front to back, so it may as well lie on a disk. Such pages count as
resident while they are there, and as nobody's when memory is short.
"""

from __future__ import annotations

import tempfile

import numpy as np

from fedpeft.types import FloatArray

LARGE = 1 << 22
"""Weights from which on they go to a file: 16 MB."""


def room(size: int) -> FloatArray:
    """Room for `size` weights, shape (size,), fp32, uninitialised."""
    if size < LARGE:
        return np.empty(size, dtype=np.float32)
    with tempfile.TemporaryFile(prefix="fedpeft-") as file:  # the mapping outlives it
        file.truncate(4 * size)
        return np.asarray(np.memmap(file, dtype=np.float32, mode="r+", shape=(size,)))


def kept(theta: FloatArray) -> FloatArray:
    """A copy of θ, shape (d,), where `room` is for it."""
    copy = room(theta.size)
    copy[:] = theta
    return copy
