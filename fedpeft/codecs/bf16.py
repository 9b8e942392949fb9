"""bfloat16: the upper half of an fp32, rounded to nearest even. 2 bytes a value, fp32's range, 8 bits of precision."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from fedpeft.codecs.two_bytes import TwoBytes
from fedpeft.types import FloatArray

_LARGEST = np.array([0x7F7F0000], dtype=np.uint32).view(np.float32)[0]


class Bf16(TwoBytes):
    """Relative error at most 2^-8 a value, whatever its size; about 0.0017 on Gaussian values."""

    name: ClassVar[str] = "bf16"

    def encode(self, values: FloatArray) -> bytes:
        """See `Codec.encode`."""
        bits = np.ascontiguousarray(np.clip(values, -_LARGEST, _LARGEST), dtype=np.float32).view(np.uint32)
        rounded = (bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))) >> np.uint32(16)
        return rounded.astype("<u2").tobytes()

    def widened(self, body: bytes) -> FloatArray:
        """See `TwoBytes.widened`."""
        return (np.frombuffer(body, dtype="<u2").astype(np.uint32) << np.uint32(16)).view(np.float32)
