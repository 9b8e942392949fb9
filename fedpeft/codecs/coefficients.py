"""The downlink of a zeroth-order federation: which coefficients changed since the version that a client holds.

    first 8 bytes of SHA-256(a as int32 LE)  ‖  form, 1 byte  ‖  zstd or not( places ‖ differences )

Differences are whole numbers of 1, 2 or 4 bytes, whichever holds all of them. Places are left out (all of them), a
bitmap, or gaps of 2 bytes; of all these forms the shortest is sent. So eight clients' 200 steps each over a pool of
4,096 cost 2.7 KB (`fedpeft bench scalar_bytes`), and no client is sent more than the whole pool. Version 0 is all
zeros, which nobody sends.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import zstandard

from fedpeft.codecs.base import MalformedPayload
from fedpeft.codecs.broadcast import WrongBase
from fedpeft.types import FloatArray

_DIGEST = 8
_WIDTHS = {1: "<i1", 2: "<i2", 4: "<i4"}
_ALL, _BITMAP, _GAPS = 0, 1, 2  # how places are told
_PACKED = 128  # bit of the form: what follows is zstd
_WINDOW = 2**21


@dataclass(frozen=True, slots=True, eq=False)
class WholeNumbers:
    """Coefficients."""

    values: npt.NDArray[np.int32]  # shape (n,)

    def __eq__(self, other: object) -> bool:
        """Whether two are equal."""
        if not isinstance(other, WholeNumbers):
            return NotImplemented
        return self is other or np.array_equal(self.values, other.values)

    __hash__ = None  # type: ignore[assignment]

    def tag(self) -> bytes:
        """What tells these coefficients from others, 8 bytes."""
        return hashlib.sha256(self.values.astype("<i4", copy=False).tobytes()).digest()[:_DIGEST]


class CoefficientDownlink:
    """See `Downlink`."""

    name: ClassVar[str] = "coefficients"

    def zero(self, size: int) -> WholeNumbers:
        """Version 0."""
        return WholeNumbers(np.zeros(size, dtype=np.int32))

    def quantise(self, values: FloatArray) -> WholeNumbers:
        """The coefficients, which are whole already."""
        return WholeNumbers(np.rint(values).astype(np.int32))

    def dequantise(self, codes: WholeNumbers) -> FloatArray:
        """The coefficients, shape (n,), fp32: exact below 2^24."""
        return codes.values.astype(np.float32)

    def encode_difference(self, new: WholeNumbers, base: WholeNumbers) -> bytes:
        """What a client that holds `base` needs to get `new`, in the shortest form."""
        difference = new.values - base.values  # wraps modulo 2^32, as does the sum that undoes it
        places = np.flatnonzero(difference)
        width = _width(difference)
        kind = _WIDTHS[width]
        gaps = np.diff(places, prepend=-1) - 1
        forms = {_ALL: difference.astype(kind).tobytes()}
        told = difference[places].astype(kind).tobytes()
        forms[_BITMAP] = np.packbits(difference != 0, bitorder="little").tobytes() + told
        if gaps.max(initial=0) < 2**16:
            forms[_GAPS] = gaps.astype("<u2").tobytes() + told
        packer = zstandard.ZstdCompressor(level=3)
        bodies = [bytes((form | width << 2,)) + body for form, body in forms.items()]
        bodies += [
            bytes((form | width << 2 | _PACKED,)) + packer.compress(body) for form, body in forms.items() if body
        ]
        return new.tag() + min(bodies, key=len)

    def decode_difference(self, body: bytes, base: WholeNumbers) -> WholeNumbers:
        """`new` again; bounded before anything is unpacked.

        Raises:
            WrongBase: `base` is not what the body was made for.
            MalformedPayload: no encoder writes this.
        """
        if len(body) <= _DIGEST:
            raise MalformedPayload("coefficients", f"{len(body)} bytes are too few", allowed=f"more than {_DIGEST}")
        tag, form, raw = body[:_DIGEST], body[_DIGEST], body[_DIGEST + 1 :]
        size = base.values.size
        width, how = form >> 2 & 31, form & 3
        if width not in _WIDTHS or how > _GAPS:
            raise MalformedPayload("coefficients", f"unknown form {form}", allowed="a form of this version")
        if form & _PACKED:
            raw = _unpacked(raw, most=(width + 2) * size + size // 8 + 1)
        new = WholeNumbers(base.values + _difference(raw, how, width, size))
        if new.tag() != tag:
            raise WrongBase
        return new

    def arrays(self, codes: WholeNumbers) -> dict[str, npt.NDArray[np.generic]]:
        """By name, for a disk."""
        return {"coefficients": codes.values}

    def of_arrays(self, arrays: dict[str, npt.NDArray[np.generic]], size: int) -> WholeNumbers | None:
        """What `arrays` gave, with zeros behind it if the run has grown; None if it did not give these."""
        values = arrays.get("coefficients")
        if values is None or len(arrays) != 1 or values.ndim != 1 or values.size > size or values.dtype != np.int32:
            return None
        return WholeNumbers(np.pad(values.astype(np.int32, copy=False), (0, size - values.size)))


def _width(difference: npt.NDArray[np.int32]) -> int:
    low, high = int(difference.min(initial=0)), int(difference.max(initial=0))
    return next(width for width in _WIDTHS if -(1 << 8 * width - 1) <= low and high < 1 << 8 * width - 1)


def _unpacked(raw: bytes, most: int) -> bytes:
    try:
        claims = zstandard.get_frame_parameters(raw)
        if claims.content_size > most or claims.window_size > max(most, _WINDOW):
            raise MalformedPayload("coefficients", f"it claims {claims.content_size} bytes", allowed=f"at most {most}")
        return zstandard.ZstdDecompressor().decompress(raw, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise MalformedPayload("coefficients", f"not one whole zstd frame: {error}") from None


def _difference(raw: bytes, how: int, width: int, size: int) -> npt.NDArray[np.int32]:
    """The difference, shape (size,)."""
    found = np.zeros(size, dtype=np.int32)
    if how == _ALL:
        places, told = np.arange(size), raw
    elif how == _BITMAP:
        bitmap, told = raw[: -(-size // 8)], raw[-(-size // 8) :]
        if len(bitmap) < -(-size // 8):
            raise _cut(raw, size)
        bits = np.unpackbits(np.frombuffer(bitmap, np.uint8), bitorder="little")
        places = np.flatnonzero(bits)
    else:
        count, rest = divmod(len(raw), 2 + width)
        if rest:
            raise _cut(raw, size)
        places = np.cumsum(np.frombuffer(raw[: 2 * count], "<u2").astype(np.int64) + 1) - 1
        told = raw[2 * count :]
    if len(told) != width * len(places) or (len(places) and places[-1] >= size):
        raise _cut(raw, size)
    found[places] = np.frombuffer(told, _WIDTHS[width])
    return found


def _cut(raw: bytes, size: int) -> MalformedPayload:
    return MalformedPayload(
        "coefficients", f"{len(raw)} bytes do not tell {size} coefficients", allowed="places and values in full"
    )
