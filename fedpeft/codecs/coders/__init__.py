"""Coders: whole numbers, of which small ones are frequent, to bytes and back without loss (registry kind `coder`)."""

from __future__ import annotations

from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

Symbols = npt.NDArray[np.int32]

LARGEST = 32_767
"""Of a symbol's magnitude."""


class Coder(Protocol):
    """The contract of a coder."""

    name: ClassVar[str]

    def encode(self, symbols: Symbols) -> bytes:
        """The bytes of symbols of magnitude at most `LARGEST`, shape (n,)."""

    def decode(self, body: bytes, size: int) -> Symbols:
        """The symbols, shape (size,), of magnitude at most `LARGEST`.

        Raises:
            MalformedPayload: the body is not what an encoder writes of so many symbols.
        """

    def max_bytes(self, size: int) -> int:
        """The most bytes of `size` symbols."""
