"""Weights as the difference from others that both sides have, bit by bit: θ_e told to who has θ_0.

    for each piece of 2^20 weights:   length, 4 bytes LE  ‖  zstd( the four planes of bytes of u )
    u = 2δ for δ >= 0, else −2δ − 1;  δ = n(θ_e) − n(θ_0) mod 2^32, signed;  n numbers the fp32 values in their order

Two values that are near each other have near numbers, so the planes of high bytes are mostly 0: what moved by a
millionth of a weight's size costs 1.0 byte, by a hundredth 2.6, and what did not move nothing, in place of 4
(`fedpeft bench catch_up`). Pieces bound the memory on both sides: 16 MB beside the two vectors.
"""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt
import zstandard

from fedpeft.codecs.base import MalformedPayload
from fedpeft.types import FloatArray
from fedpeft.zeroth.room import room

PIECE = 1 << 20
"""Weights told together."""

_LEVEL = 1  # 3 is no shorter here
_WINDOW = 2**23  # bytes; more than level 1 asks for


def pack(new: FloatArray, base: FloatArray) -> bytes:
    """What tells `new` to who has `base`, both of shape (d,), fp32, contiguous."""
    parts = []
    packer = zstandard.ZstdCompressor(level=_LEVEL)
    for place in range(0, len(new), PIECE):
        moved = _number(new[place : place + PIECE]) - _number(base[place : place + PIECE])  # wraps
        folded = ((moved << 1) ^ (moved >> 31)).astype("<i4", copy=False)
        body = packer.compress(np.ascontiguousarray(folded.view(np.uint8).reshape(-1, 4).T).tobytes())
        parts += [struct.pack("<I", len(body)), body]
    return b"".join(parts)


def unpack(raw: bytes, base: FloatArray) -> FloatArray:
    """`new` again, shape (d,), a new array; bounded before anything is unpacked.

    Raises:
        MalformedPayload: no encoder writes this.
    """
    new, at = room(len(base)), 0
    for place in range(0, len(base), PIECE):
        own = base[place : place + PIECE]
        if len(raw) < at + 4:
            raise _malformed(f"it ends after {place} of {len(base)} weights")
        (length,) = struct.unpack_from("<I", raw, at)
        body = raw[at + 4 : at + 4 + length]
        if len(body) < length:
            raise _malformed(f"it ends after {place} of {len(base)} weights")
        at += 4 + length
        planes = np.frombuffer(_unpacked(body, 4 * len(own)), dtype=np.uint8).reshape(4, -1)
        folded = np.ascontiguousarray(planes.T).view("<u4").reshape(-1)
        moved = (folded >> np.uint32(1)).view(np.int32) ^ -(folded & np.uint32(1)).astype(np.int32)
        new[place : place + PIECE] = _value(_number(own) + moved)
    if at != len(raw):
        raise _malformed(f"{len(raw) - at} bytes follow its last weight")
    return new


def _number(values: FloatArray) -> npt.NDArray[np.int32]:
    """The number of each fp32 value in their order."""
    bits = values.view(np.int32)
    return bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))


def _value(numbers: npt.NDArray[np.int32]) -> FloatArray:
    """The value of each number: what undoes `_number` is `_number`."""
    return (numbers ^ ((numbers >> 31) & np.int32(0x7FFFFFFF))).view(np.float32)


def _unpacked(body: bytes, wanted: int) -> bytes:
    try:
        claims = zstandard.get_frame_parameters(body)
        if claims.content_size != wanted or claims.window_size > _WINDOW:
            raise _malformed(f"a piece claims {claims.content_size} bytes", allowed=f"{wanted} bytes")
        return zstandard.ZstdDecompressor().decompress(body, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise _malformed(f"a piece is not one whole zstd frame: {error}") from None


def _malformed(message: str, allowed: str | None = None) -> MalformedPayload:
    return MalformedPayload("checkpoint", message, allowed=allowed)
