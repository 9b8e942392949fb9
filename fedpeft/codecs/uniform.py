"""A uniform step and an entropy coder: near the rate–distortion bound of Gaussian values, at any rate.

    Δ = min(step · rms(x), max |x_i|),    q_i = round(x_i / Δ),    x̂_i = Δ · q_i

Entropy-coded scalar quantisation (Gish & Pierce 1968): above a bit or so the coded q take about a quarter of a bit a
value more than the bound err = 2^-bits allows any code. LoRA deltas of AdamW are nearly Gaussian, so this is the codec
for them. `uniform(0.8)+ans`; `+zstd` needs no package and is a little larger. A larger step is fewer bytes.

    body = Δ, fp32 LE ‖ the coder's bytes of q
"""

from __future__ import annotations

import math
import struct

import numpy as np

from fedpeft.codecs.base import MalformedPayload, inside
from fedpeft.codecs.coders import LARGEST, Coder, Symbols
from fedpeft.types import FloatArray

_TINY = float(np.finfo(np.float32).tiny)
_LARGEST_STEP = float(np.finfo(np.float32).max) / (LARGEST + 1)
_SAMPLE = 20_000


class Uniform:
    """See the module.

    Args:
        coder: of q.
        step: in units of the values' root mean square, 0.001 to 16.

    Raises:
        ValueError: step is not in that range.
    """

    around = "coder"

    def __init__(self, coder: Coder, step: float) -> None:
        if not 0.001 <= step <= 16:
            raise ValueError(f"step = {step} must be from 0.001 to 16")
        self.coder = coder
        self.step = step
        self.name = f"uniform({step:g})+{coder.name}"

    def encode(self, values: FloatArray) -> bytes:
        """See `Codec.encode`."""
        delta, symbols = self._symbols(values)
        return struct.pack("<f", delta) + self.coder.encode(symbols)

    def through(self, values: FloatArray) -> tuple[bytes, FloatArray]:
        """See `codecs.base.through`: coders lose nothing, so none is asked to decode."""
        delta, symbols = self._symbols(values)
        return struct.pack("<f", delta) + self.coder.encode(symbols), symbols.astype(np.float32) * np.float32(delta)

    def _symbols(self, values: FloatArray) -> tuple[float, Symbols]:
        """Δ and q."""
        largest = float(np.abs(values).max(initial=0))
        # In units of the largest, so that no square overflows or vanishes.
        rms = largest * float(np.sqrt(np.mean(np.square(values / largest, dtype=np.float64)))) if largest else 0.0
        # At most the largest: it at least arrives, also where all are of one size.
        delta = float(np.float32(min(max(self.step * rms, largest / LARGEST), largest, _LARGEST_STEP)))
        if delta < _TINY:  # it would lose its own precision: all is sent as zeros
            return 0.0, np.zeros(values.size, dtype=np.int32)
        return delta, np.clip(np.rint(values / np.float32(delta)), -LARGEST, LARGEST).astype(np.int32)

    def decode(self, body: bytes, size: int) -> FloatArray:
        """See `Codec.decode`."""
        if not 4 <= len(body) <= self.max_bytes(size):
            raise MalformedPayload(self.name, f"{len(body)} bytes", allowed=f"4 to {self.max_bytes(size)} bytes")
        (delta,) = struct.unpack_from("<f", body)
        if not (math.isfinite(delta) and 0 <= delta <= _LARGEST_STEP):
            raise MalformedPayload(self.name, f"its step is {delta}", allowed=f"0 to {_LARGEST_STEP:.3g}")
        with inside(self.name):
            symbols: Symbols = self.coder.decode(body[4:], size)
        return symbols.astype(np.float32) * np.float32(delta)

    def max_bytes(self, size: int) -> int:
        """See `Codec.max_bytes`."""
        return 4 + self.coder.max_bytes(size)

    def nominal_bytes(self, size: int) -> int:
        """See `Codec.nominal_bytes`: measured on Gaussian values."""
        if not size:
            return 4 + self.coder.max_bytes(0)
        values = np.random.default_rng(0).standard_normal(min(size, _SAMPLE))
        return 4 + len(self.coder.encode(np.rint(values / self.step).astype(np.int32))) * size // values.size
