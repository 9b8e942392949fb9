"""Which passes a process uses: NumPy's at first, numba's once there has been enough work to pay for loading them.

Loading numba takes about as long as NumPy needs for 2^29 elements. Whoever changes over after that much work never
spends more than about twice the time of the better choice, and a small run does not wait for a compiler. Both have the
same bits, so nobody sees the change but the clock.
"""

from __future__ import annotations

import functools

from fedpeft.aggregation.passes import Delta, Passes, Sums
from fedpeft.aggregation.portable import Portable

ENOUGH = 2**29
"""Elements passed over before numba is looked for: about 0.5 s of NumPy's passes."""


class Changeover:
    """NumPy's passes for the first `enough` elements; then those of numba, if it is installed."""

    def __init__(self, enough: int = ENOUGH) -> None:
        self._passes: Passes = Portable()
        self._left: float = enough

    @property
    def name(self) -> str:
        """Of the passes in use."""
        return self._passes.name

    def fold(self, sums: Sums, delta: Delta, factor: float, *, out: bool = False) -> float:
        """See `Passes.fold`."""
        return self._after(delta.size).fold(sums, delta, factor, out=out)

    def squared_norm(self, delta: Delta) -> float:
        """See `Passes.squared_norm`."""
        return self._after(delta.size).squared_norm(delta)

    def _after(self, size: int) -> Passes:
        self._left -= size
        if self._left < 0:
            self._left = float("inf")  # asked once
            try:
                from fedpeft.aggregation.compiled import Compiled
            except ImportError:  # numba is not installed, or not made for this NumPy
                return self._passes
            self._passes = Compiled()
        return self._passes


@functools.cache
def best_passes() -> Passes:
    """The passes of this process."""
    return Changeover()
