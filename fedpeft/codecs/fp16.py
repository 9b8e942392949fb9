"""Half precision: little-endian IEEE fp16, 2 bytes a value.

Values beyond ±65504 saturate there; below 2^-24 they become 0. Error feedback makes up for both.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from fedpeft.codecs.two_bytes import TwoBytes
from fedpeft.types import FloatArray

_LARGEST = 65504.0


class Fp16(TwoBytes):
    """Relative error at most 2^-11 for values in fp16's normal range."""

    name: ClassVar[str] = "fp16"

    def encode(self, values: FloatArray) -> bytes:
        """See `Codec.encode`."""
        return np.clip(values, -_LARGEST, _LARGEST).astype("<f2").tobytes()

    def widened(self, body: bytes) -> FloatArray:
        """See `TwoBytes.widened`."""
        return np.frombuffer(body, dtype="<f2").astype(np.float32)
