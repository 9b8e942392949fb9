"""The θ that a round starts from, decoded once for all clients that are sent the same broadcast.

One agent may stand for a thousand clients. Their frames of a round carry a handful of different bodies, one for each
version that somebody holds, so that decoding each frame by itself would do the same work a thousand times.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fedpeft.codecs.broadcast import Int8Downlink
from fedpeft.codecs.downlink import Downlink
from fedpeft.codecs.fp32 import Fp32
from fedpeft.types import FloatArray


@dataclass(frozen=True, slots=True)
class _Decoded:
    body: bytes
    base: Any
    codes: Any
    start: FloatArray


class Starts:
    """Decodes the bodies of broadcasts. Holds one θ for each base of the current version.

    What it returns is shared between clients: nobody may write to it.

    Args:
        initial: θ_0, shape (d,).
        downlink: whose codes versions are; None: int8, of which there then are none.
    """

    def __init__(self, initial: FloatArray, downlink: Downlink | None = None) -> None:
        self.initial = initial
        self.downlink = downlink or Int8Downlink()
        self.zero = self.downlink.zero(initial.size)
        self._version = 0
        self._plain: tuple[bytes, FloatArray] | None = None
        self._decoded: dict[int, _Decoded] = {}

    def plain(self, body: bytes) -> FloatArray:
        """θ, shape (d,), from a body of the codec fp32.

        Raises:
            MalformedPayload: it is none.
        """
        if self._plain is None or self._plain[0] != body:
            self._plain = (body, Fp32().decode(body, self.initial.size))
        return self._plain[1]

    def versioned(self, body: bytes, version: int, number: int, base: Any) -> tuple[Any, FloatArray]:
        """The codes of a version, and its θ, shape (d,).

        Args:
            body: their difference from `base`.
            version: that the body brings; 0 is θ_0.
            number: of the version that `base` is.
            base: what this client holds under that number.

        Raises:
            WrongBase: `base` is not what the body was made for.
            MalformedPayload: the body is malformed.
        """
        if version != self._version:
            self._version = version
            self._decoded.clear()
        known = self._decoded.get(number)
        if known is None or known.body != body or known.base != base:
            codes = self.downlink.decode_difference(body, base)
            start = self.initial + self.downlink.dequantise(codes) if version > 0 else self.initial
            known = self._decoded[number] = _Decoded(body, base, codes, start)
        return known.codes, known.start
