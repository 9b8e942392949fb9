"""Stochastic rounding to whole numbers, with dither from the keystream.

    q_i = ⌊y_i + u_i⌋,    u_i = (k_i + 1/2) / 256,    k_i a byte of the keystream

The key is the hash of the values that are sent: equal values give equal bytes, on every machine. With u uniform on
(0, 1) E q = y would hold exactly. A byte of dither makes of the fraction of y the nearest multiple of 1/256, so the
bias is |E q − y| ≤ 1/512: fractions below 1/512 are always rounded down, those above 511/512 always up.
"""

from __future__ import annotations

import hashlib

import numpy as np

from fedpeft.randomness.keystream import keystream
from fedpeft.types import FloatArray

ROUNDINGS = ("nearest", "dither")


def checked(rounding: str) -> str:
    """The rounding of that name.

    Raises:
        ValueError: it is none of `ROUNDINGS`.
    """
    if rounding not in ROUNDINGS:
        raise ValueError(f'rounding = "{rounding}" must be nearest or dither')
    return rounding


def rounded(scaled: FloatArray, values: FloatArray, rounding: str) -> FloatArray:
    """Whole numbers q.

    Args:
        scaled: y, fp32, of any shape.
        values: what is sent, shape (d,), fp32: its hash is the key of the dither.
        rounding: "nearest", half-way to even, or "dither".
    """
    if rounding == "nearest":
        return np.rint(scaled)
    dither = np.empty(scaled.size, dtype=np.uint8)
    keystream(hashlib.sha256(np.ascontiguousarray(values, dtype="<f4").data).digest(), 0, dither.data)
    # Never 0 or 1: what was on a code stays there, whatever the division lost.
    floor: FloatArray = np.floor(scaled + (dither.reshape(scaled.shape) + np.float32(0.5)) / np.float32(256))
    return floor
