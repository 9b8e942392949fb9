"""The vector as it is: little-endian fp32, 4 bytes a value."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from fedpeft.codecs.base import MalformedPayload
from fedpeft.types import FloatArray


class Fp32:
    """Lossless."""

    name: ClassVar[str] = "fp32"

    def encode(self, values: FloatArray) -> bytes:
        """See `Codec.encode`."""
        return values.astype("<f4", copy=False).tobytes()

    def decode(self, body: bytes, size: int) -> FloatArray:
        """See `Codec.decode`."""
        if len(body) != 4 * size:
            raise MalformedPayload(self.name, f"{len(body)} bytes", allowed=f"{4 * size} bytes")
        values = np.frombuffer(body, dtype="<f4").astype(np.float32)
        if not np.isfinite(values).all():
            raise MalformedPayload(self.name, "it holds NaN or infinity", allowed="finite values")
        return values

    def max_bytes(self, size: int) -> int:
        """See `Codec.max_bytes`."""
        return 4 * size

    nominal_bytes = max_bytes
