"""What codecs of two bytes a value share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from fedpeft.codecs.base import MalformedPayload
from fedpeft.types import FloatArray


class TwoBytes(ABC):
    """See `Codec`; `encode` is the format's own."""

    name: ClassVar[str]

    @abstractmethod
    def widened(self, body: bytes) -> FloatArray:
        """The values of a body of whole ones, fp32, a new array."""

    def decode(self, body: bytes, size: int) -> FloatArray:
        """See `Codec.decode`."""
        if len(body) != 2 * size:
            raise MalformedPayload(self.name, f"{len(body)} bytes", allowed=f"{2 * size} bytes")
        values = self.widened(body)
        if not np.isfinite(values).all():
            raise MalformedPayload(self.name, "it holds NaN or infinity", allowed="finite values")
        return values

    def max_bytes(self, size: int) -> int:
        """See `Codec.max_bytes`."""
        return 2 * size

    nominal_bytes = max_bytes
