"""The passes compiled by numba, one read of the update each: see `fedpeft.aggregation.passes`.

Importing this needs numba, and compiles for this processor; the machine code is kept beside this file or in the user's
cache, so that later processes only load it. No `fastmath` in the folds: a fused multiply-add or a reordered product
would give other bits than NumPy does. Only the order of the norm's additions is the compiler's.

An int8 block is scaled, rounded and added in registers: no fp32 copy of the update is ever in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numba
import numpy as np
import numpy.typing as npt
from numba import types

from fedpeft.aggregation import passes
from fedpeft.aggregation.passes import Delta, Sums
from fedpeft.codecs.int8 import BLOCK, Int8Blocks
from fedpeft.types import FloatArray

_MAGIC = np.float64(passes.MAGIC)
_MAGIC_BITS = np.int64(passes.MAGIC_BITS)
_MAGNITUDE = np.uint32(0x7FFFFFFF)  # all bits of an fp32 but its sign: they order magnitudes, with NaN above infinity

_SUMS = types.Array(types.int64, 1, "C")
_FP32 = types.Array(types.float32, 1, "C", readonly=True)  # read-only, so that both kinds of array are taken
_CODES = types.Array(types.int8, 1, "C", readonly=True)


def _fold(sums: Sums, x: FloatArray, factor: float, flip: int) -> np.uint32:
    """`flip` is 0 to add and -1 to subtract, since −q = (q ^ −1) − (−1): no branch and no multiplication."""
    largest = np.uint32(0)
    for i in range(x.size):
        value = np.float32(x[i])
        largest = max(largest, value.view(np.uint32) & _MAGNITUDE)
        rounded = np.float64(np.float64(value) * factor + _MAGIC).view(np.int64) - _MAGIC_BITS
        sums[i] += (rounded ^ flip) - flip
    return largest


def _fold_int8(sums: Sums, scales: FloatArray, codes: npt.NDArray[np.int8], factor: float, flip: int) -> None:
    """The last, shorter block has a loop of its own: one of fixed length is what the compiler turns into vectors."""
    whole = codes.size // BLOCK
    for b in range(whole):
        scale = scales[b]
        for i in range(BLOCK):
            value = np.float32(scale * np.float32(codes[b * BLOCK + i]))
            rounded = np.float64(np.float64(value) * factor + _MAGIC).view(np.int64) - _MAGIC_BITS
            sums[b * BLOCK + i] += (rounded ^ flip) - flip
    for i in range(whole * BLOCK, codes.size):
        value = np.float32(scales[whole] * np.float32(codes[i]))
        rounded = np.float64(np.float64(value) * factor + _MAGIC).view(np.int64) - _MAGIC_BITS
        sums[i] += (rounded ^ flip) - flip


def _squared_norm(x: FloatArray) -> float:
    total = 0.0
    for i in range(x.size):
        value = np.float64(x[i])
        total += value * value
    return total


def _squared_norm_int8(scales: FloatArray, codes: npt.NDArray[np.int8]) -> float:
    """Σ_b s_b² Σ q²: the inner sum is a whole number below 2^24, so exact in fp32."""
    whole = codes.size // BLOCK
    total = 0.0
    for b in range(whole):
        inner = np.float32(0)
        for i in range(BLOCK):
            code = np.float32(codes[b * BLOCK + i])
            inner += code * code
        total += np.float64(scales[b]) * np.float64(scales[b]) * np.float64(inner)
    for i in range(whole * BLOCK, codes.size):
        value = np.float64(scales[whole]) * np.float64(codes[i])
        total += value * value
    return total


def _compile(function: Callable[..., Any], signature: Any, **options: Any) -> Callable[..., Any]:
    try:
        compiled: Callable[..., Any] = numba.njit(signature, cache=True, **options)(function)
    except RuntimeError:  # neither this folder nor the user's cache can be written
        compiled = numba.njit(signature, **options)(function)
    return compiled


class Compiled:
    """numba."""

    name: ClassVar[str] = "numba"

    def __init__(self) -> None:
        scalars = (types.float64, types.int64)
        reorder = {"fastmath": {"reassoc"}}
        self._fold = _compile(_fold, types.uint32(_SUMS, _FP32, *scalars))
        self._fold_int8 = _compile(_fold_int8, types.void(_SUMS, _FP32, _CODES, *scalars))
        self._squared_norm = _compile(_squared_norm, types.float64(_FP32), **reorder)
        self._squared_norm_int8 = _compile(_squared_norm_int8, types.float64(_FP32, _CODES), **reorder)

    def fold(self, sums: Sums, delta: Delta, factor: float, *, out: bool = False) -> float:
        """See `Passes.fold`."""
        flip = -1 if out else 0
        if isinstance(delta, Int8Blocks):
            self._fold_int8(sums, delta.scales, delta.codes, factor, flip)
            return delta.bound
        bits = self._fold(sums, delta, factor, flip)
        return float(np.uint32(bits).view(np.float32))

    def squared_norm(self, delta: Delta) -> float:
        """See `Passes.squared_norm`."""
        if isinstance(delta, Int8Blocks):
            total = self._squared_norm_int8(delta.scales, delta.codes)
        else:
            total = self._squared_norm(delta)
        return float(total)
