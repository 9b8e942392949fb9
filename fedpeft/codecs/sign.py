"""One bit a value: its sign, and one scale for all, their mean magnitude.

    x̂_i = s · sign(x_i),    s = Σ_i |x_i| / d

the compressor of EF-signSGD (Karimireddy et al. 2019, arXiv 1901.09847), which needs error feedback on deltas: on
Gaussian values its relative L2 error is √(1 − 2/π) = 0.60. Votes of ±1 it carries exactly.

    body = s, fp32 LE ‖ bits, 8 a byte, the first value lowest: 1 for +s (and for a zero), 0 for −s ‖ a 1 that ends them
"""

from __future__ import annotations

import math
import struct
from typing import ClassVar

import numpy as np

from fedpeft.codecs.base import MalformedPayload
from fedpeft.types import FloatArray


class Sign:
    """1 bit a value and 5 bytes."""

    name: ClassVar[str] = "sign"

    def encode(self, values: FloatArray) -> bytes:
        """See `Codec.encode`."""
        scale = np.abs(values).mean(dtype=np.float64) if values.size else 0.0
        bits: bytes = np.packbits(np.append(values >= 0, True), bitorder="little").tobytes()
        return struct.pack("<f", scale) + bits

    def decode(self, body: bytes, size: int) -> FloatArray:
        """See `Codec.decode`."""
        if len(body) != self.max_bytes(size):
            raise MalformedPayload(self.name, f"{len(body)} bytes", allowed=f"{self.max_bytes(size)} bytes")
        (scale,) = struct.unpack_from("<f", body)
        if not (math.isfinite(scale) and scale >= 0):
            raise MalformedPayload(self.name, f"its scale is {scale}", allowed="a finite number, 0 or more")
        bits = np.unpackbits(np.frombuffer(body, dtype=np.uint8, offset=4), bitorder="little")
        if not bits[size] or bits[size + 1 :].any():
            raise MalformedPayload(self.name, "another number of bits", allowed=f"{size}, a 1 and zeros")
        values: FloatArray = np.where(bits[:size] == 1, scale, -scale).astype(np.float32)
        return values

    def max_bytes(self, size: int) -> int:
        """See `Codec.max_bytes`."""
        return 4 + size // 8 + 1

    nominal_bytes = max_bytes
