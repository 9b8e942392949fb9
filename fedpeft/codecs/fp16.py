"""Half precision: little-endian IEEE fp16, 2 bytes a value.

Values beyond ±65504 saturate there; below 2^-24 they become 0. Error feedback makes up for both.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from fedpeft.codecs.base import MalformedPayload
from fedpeft.types import FloatArray

_LARGEST = 65504.0


class Fp16:
    """Relative error at most 2^-11 for values in fp16's normal range."""

    name: ClassVar[str] = "fp16"

    def encode(self, values: FloatArray) -> bytes:
        """See `Codec.encode`."""
        return np.clip(values, -_LARGEST, _LARGEST).astype("<f2").tobytes()

    def decode(self, body: bytes, size: int) -> FloatArray:
        """See `Codec.decode`."""
        if len(body) != 2 * size:
            raise MalformedPayload(self.name, f"{len(body)} bytes", allowed=f"{2 * size} bytes")
        values = np.frombuffer(body, dtype="<f2").astype(np.float32)
        if not np.isfinite(values).all():
            raise MalformedPayload(self.name, "it holds NaN or infinity", allowed="finite values")
        return values

    def max_bytes(self, size: int) -> int:
        """See `Codec.max_bytes`."""
        return 2 * size

    nominal_bytes = max_bytes
