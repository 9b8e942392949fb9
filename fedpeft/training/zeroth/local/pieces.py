"""A pass over θ in pieces, so that no further vector of its size is made on the way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from fedpeft.types import FloatArray
from fedpeft.zeroth.direction import Direction

PIECE = 1 << 16
"""Weights at a time: all that is needed for them stays in a core's cache. A multiple of 8."""


def pieces(size: int) -> Iterator[slice]:
    """Places 0 to `size`, in pieces."""
    for begin in range(0, size, PIECE):
        yield slice(begin, min(begin + PIECE, size))


def estimate(directions: Sequence[Direction], scalars: FloatArray, part: slice) -> FloatArray:
    """The estimate of the gradient, Σ g z, at the places of a piece, fp32, a new array."""
    total = np.zeros(part.stop - part.start, dtype=np.float32)
    for direction, scalar in zip(directions, scalars, strict=True):
        total += np.float32(scalar) * direction.values(part.start, len(total))
    return total


def subtract(theta: torch.Tensor, part: slice, step: FloatArray) -> None:
    """θ ← θ − step at the places of a piece, wherever θ is."""
    theta[part].sub_(torch.from_numpy(step).to(theta.device))
