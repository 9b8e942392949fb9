"""The passes over an update that every reply costs: its norm, and its fold into a fixed-point accumulator.

There are two implementations. `portable` is NumPy, always there. `compiled` needs numba (`pip install fedpeft[fast]`)
and is several times as fast. Both round each product once, to the same grid, and add integers: a fold has the same bits
by either, so whether numba is installed changes no adapter. `portable` is the reference that tests hold `compiled` to;
`choice` takes one or the other.
"""

from __future__ import annotations

from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from fedpeft.codecs.int8 import Int8Blocks
from fedpeft.types import Coded, FloatArray

Delta: TypeAlias = FloatArray | Int8Blocks
"""What can be folded without a copy: shape (d,), fp32, contiguous and aligned; or the codes of int8."""

Sums: TypeAlias = npt.NDArray[np.int64]

EXACT = 2.0**51
"""`fold` is exact for products |x · factor| below this."""

MAGIC = 1.5 * 2.0**52
"""Adding it to a float64 below 2^51 rounds that to an integer, half to even, which then stands in the low bits."""

MAGIC_BITS = int(np.float64(MAGIC).view(np.int64))


class Passes(Protocol):
    """One implementation."""

    @property
    def name(self) -> str:
        """Of the library that does the work."""

    def fold(self, sums: Sums, delta: Delta, factor: float, *, out: bool = False) -> float:
        """sums ← sums + rint(x · factor), with x the delta: x and factor multiplied in float64, rounded half to even.

        Nothing is checked beforehand, so that the delta is read once. Sums wrap modulo 2^64: whatever was folded in,
        even of NaN or of products beyond `EXACT`, the same call with `out` takes out again, bit by bit.

        Args:
            sums: shape (d,), changed in place.
            delta: d elements, any bits.
            factor: finite.
            out: subtract instead.

        Returns:
            max |x|, NaN or infinity if and only if an element is; of codes, the bound that their scales give.
        """

    def squared_norm(self, delta: Delta) -> float:
        """Σ x² in float64: no overflow for any finite fp32 vector; NaN or infinity if and only if an element is."""


def passable(delta: FloatArray | Coded) -> Delta:
    """The same delta in a form that passes take: copied only if it is strided or unaligned, or in other codes."""
    if isinstance(delta, np.ndarray):
        return np.require(delta, requirements=["C", "A"])
    return delta if isinstance(delta, Int8Blocks) else delta.decode()
