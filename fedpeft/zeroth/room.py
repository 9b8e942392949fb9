"""Memory for whole models: large ones lie in a file without a name, whose pages the system may take back at any time.

A device that runs inference has room for the model once. What a replica keeps beside it (θ_0, θ as the epoch began, the
θ that was rebuilt last) is read in passes from front to back, so it may as well lie on a disk. Such pages count as
resident while they are there, and as nobody's when memory is short.
"""

from __future__ import annotations

import os
import tempfile

import numpy as np

from fedpeft.errors import ModelError
from fedpeft.types import FloatArray

LARGE = 1 << 22
"""Weights from which on they go to a file: 16 MB."""


def room(size: int) -> FloatArray:
    """Room for `size` weights, shape (size,), fp32, uninitialised.

    Raises:
        ModelError: the folder for temporary files (TMPDIR) has no room for it.
    """
    if size < LARGE:
        return np.empty(size, dtype=np.float32)
    with tempfile.TemporaryFile(prefix="fedpeft-") as file:  # the mapping outlives it
        _reserve(file.fileno(), 4 * size)
        return np.asarray(np.memmap(file, dtype=np.float32, mode="r+", shape=(size,)))


def _reserve(file: int, size: int) -> None:
    """Take the space now: to write to a page that the disk has no room for would end the process without a word."""
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file, 0, size)
        else:
            os.truncate(file, size)
    except OSError as error:
        raise ModelError(
            f"{size / 1e6:.0f} MB for a copy of the model's weights cannot be had in {tempfile.gettempdir()}: {error}",
            code="zeroth.no-room",
            remedy="free some space there, or set TMPDIR to a folder on a larger disk",
        ) from error


def kept(theta: FloatArray) -> FloatArray:
    """A copy of θ, shape (d,), where `room` is for it."""
    copy = room(theta.size)
    copy[:] = theta
    return copy
