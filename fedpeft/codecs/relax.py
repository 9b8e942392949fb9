"""Over-relaxation: what a codec keeps goes further than it says, so that what it leaves behind arrives sooner.

    x̂ = ω C(x),    0 < ω < 2

A codec of few values sends of each a length that loses the least. What it does not send waits as error feedback, and a
run of few rounds ends before all of it has had its turn. A step that is too long is made up for by the same error
feedback, as in successive over-relaxation (Young 1954): where C(x) is a projection or the best multiple of what it
points to, ⟨x, C(x)⟩ = ‖C(x)‖² and

    ‖x − ω C(x)‖² = ‖x‖² − ω (2 − ω) ‖C(x)‖²

so with any ω between 0 and 2 less is owed than there was, and what is owed stays bounded. ω = 1.5 keeps three quarters
of what ω = 1 gains on that square, and moves half as far again. Where C(x) is neither, as of a coarse uniform step,
what is owed may grow without end: that is tried out before a run, and refused (`fedpeft/codecs/growth.py`). Without
error feedback it would be a longer step and no more, so a run without it refuses the stage, unless `forget` before it
says that this is meant.

    body = that of the inner codec
"""

from __future__ import annotations

import numpy as np

from fedpeft.codecs.base import Codec, fitted, inside, on_uplink, through
from fedpeft.codecs.searching import is_searching
from fedpeft.types import FloatArray, Layout

_LARGEST = float(np.finfo(np.float32).max)


class Relaxed:
    """See the module.

    Args:
        inner: C, any codec that has nothing left to search.
        factor: ω, above 0 and below 2.

    Raises:
        ValueError: factor is out of its range, or the codec inside searches for a scale itself.
    """

    whole = True

    def __init__(self, inner: Codec, factor: float) -> None:
        if not 0 < factor < 2:
            raise ValueError(f"factor = {factor:g} must be above 0 and below 2")
        if is_searching(inner):
            raise ValueError(f'"{inner.name}" searches for a scale of its own')
        self.inner = inner
        self.factor = factor
        self.name = f"relax({factor:g})+{inner.name}"
        self.owes = getattr(inner, "owes", True)
        self.max_bytes = inner.max_bytes
        self.nominal_bytes = inner.nominal_bytes

    def encode(self, values: FloatArray) -> bytes:
        """See `Codec.encode`."""
        return self.inner.encode(values)

    def decode(self, body: bytes, size: int) -> FloatArray:
        """See `Codec.decode`."""
        with inside(self.name):
            return self._further(self.inner.decode(body, size))

    def through(self, values: FloatArray) -> tuple[bytes, FloatArray]:
        """See `codecs.base.through`."""
        body, decoded = through(self.inner, values)
        return body, self._further(decoded)

    def fitted(self, layout: Layout) -> Relaxed:
        """See `LayoutCodec.fitted`."""
        return Relaxed(fitted(self.inner, layout), self.factor)

    def on_uplink(self, bits_per_second: float) -> Relaxed:
        """See `UplinkCodec.on_uplink`."""
        return Relaxed(on_uplink(self.inner, bits_per_second), self.factor)

    def _further(self, decoded: FloatArray) -> FloatArray:
        longer = decoded.astype(np.float64) * self.factor
        return np.clip(longer, -_LARGEST, _LARGEST).astype(np.float32)
