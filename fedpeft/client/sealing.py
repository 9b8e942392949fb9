"""A digest beside what a client keeps from round to round, so that flipped bits are found before they are trained on.

A file of damaged bits may still parse, and its numbers may be anything: one that is not finite, once added to every
delta, would make every later one as bad.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np

Arrays: TypeAlias = dict[str, np.ndarray]
"""What a file holds, by name."""

_DIGEST = "sha256"


def sealed(arrays: Mapping[str, np.ndarray]) -> Arrays:
    """The same arrays, and the SHA-256 of their names, types, shapes and bytes: uint8, shape (32,)."""
    return {**arrays, _DIGEST: np.frombuffer(_digest(arrays), np.uint8)}


def unsealed(arrays: Mapping[str, np.ndarray], is_older: Callable[[str], bool]) -> Arrays | None:
    """What `sealed` was given; None where it was given something else.

    Args:
        arrays: as read.
        is_older: whether a name is one that version 0.1 wrote, which had no digests. A file of such names alone counts
            if its numbers are finite: to update a client must not cost it what it remembers.
    """
    rest = {name: array for name, array in arrays.items() if name != _DIGEST}
    if _DIGEST in arrays:
        return rest if arrays[_DIGEST].tobytes() == _digest(rest) else None
    # By name, since a flipped bit in the header may be one of the digest's own name.
    sound = all(is_older(name) and np.isfinite(array).all() for name, array in rest.items())
    return rest if sound else None


def _digest(arrays: Mapping[str, np.ndarray]) -> bytes:
    """SHA-256, 32 bytes."""
    found = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        found.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.digest()


__all__ = ["Arrays", "sealed", "unsealed"]
