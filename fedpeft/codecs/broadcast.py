"""The versioned downlink: int8 codes of the adapter, sent as the difference from codes that the client holds.

The state that round t publishes is b_t = θ_0 + decode(c_t), with c_t the block-wise int8 codes of θ_t − θ_0. Scales are
powers of two, s_b = 2^k_b with the smallest k_b that keeps the block within ±127, so codes move little while a block's
size stays within a factor of two. A client that holds version v is sent

    zstd( (c_t − c_v) mod 256 ‖ (k_t − k_v) mod 256 )

and gets c_t back exactly. Version 0 is all zeros (θ_0, which both sides derive and nobody sends), so whoever is new or
too far behind is simply given base 0. Whatever the base, b_t is the same bit by bit.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import zstandard

from fedpeft.codecs.base import MalformedPayload
from fedpeft.codecs.int8 import BLOCK, blocks_of
from fedpeft.types import FloatArray

_LEVEL = 3
_LOWEST, _HIGHEST = -126, 120  # exponents k: 2^k and 127 · 2^k are normal fp32 numbers


@dataclass(frozen=True, slots=True, eq=False)
class Codes:
    """An adapter as codes."""

    codes: npt.NDArray[np.int8]  # shape (d,), -127 to 127
    exponents: npt.NDArray[np.int8]  # shape (⌈d/64⌉,)

    def digest(self) -> str:
        """sha256 hex of all codes: equal exactly when the decoded states are."""
        return hashlib.sha256(self.codes.tobytes() + self.exponents.tobytes()).hexdigest()


def zero_codes(size: int) -> Codes:
    """Version 0, of d = `size` values."""
    return Codes(np.zeros(size, dtype=np.int8), np.zeros(-(-size // BLOCK), dtype=np.int8))


def quantise(values: FloatArray) -> Codes:
    """The codes of θ_t − θ_0, shape (d,), fp32 and finite. Values beyond 127 · 2^120 saturate."""
    blocks = blocks_of(values)
    largest = np.abs(blocks).max(axis=1).astype(np.float64)
    with np.errstate(divide="ignore"):
        exact = np.ceil(np.log2(largest / 127.0))
    exponents = np.where(largest > 0, np.clip(exact, _LOWEST, _HIGHEST), 0).astype(np.int8)
    codes = np.clip(np.rint(np.ldexp(blocks, -exponents.astype(np.int32)[:, None])), -127, 127)
    return Codes(codes.astype(np.int8).reshape(-1)[: values.size].copy(), exponents)


def dequantise(codes: Codes) -> FloatArray:
    """decode(c), shape (d,): exact in fp32, since scales are powers of two."""
    blocks = blocks_of(codes.codes.astype(np.float32))
    return np.ldexp(blocks, codes.exponents.astype(np.int32)[:, None]).reshape(-1)[: codes.codes.size]


def encode_difference(new: Codes, base: Codes) -> bytes:
    """What a client that holds `base` needs to get `new`."""
    difference = np.concatenate([new.codes - base.codes, new.exponents - base.exponents])  # int8 wraps modulo 256
    return zstandard.ZstdCompressor(level=_LEVEL).compress(difference.tobytes())


def decode_difference(body: bytes, base: Codes) -> Codes:
    """`new` again.

    The length is known from `base`, so a body that claims or holds anything else is refused before it is unpacked.

    Raises:
        MalformedPayload: not zstd, another length, or codes that `quantise` does not write.
    """
    size, wanted = base.codes.size, base.codes.size + base.exponents.size
    try:
        claimed = zstandard.get_frame_parameters(body).content_size
        if claimed != wanted:
            raise MalformedPayload("broadcast", f"it claims {claimed} bytes", allowed=f"{wanted} bytes")
        # python-zstandard ignores max_output_size where a frame declares its size: the check above is the guard,
        # the bounded read below holds even for a frame that lies.
        with zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(body) as reader:
            raw = reader.read(wanted + 1)
    except zstandard.ZstdError as error:
        raise MalformedPayload("broadcast", f"not zstd: {error}") from None
    if len(raw) != wanted:
        raise MalformedPayload("broadcast", f"it holds {len(raw)} bytes", allowed=f"{wanted} bytes")
    difference = np.frombuffer(raw, dtype=np.int8)
    codes, exponents = base.codes + difference[:size], base.exponents + difference[size:]
    if (codes == -128).any() or (exponents < _LOWEST).any() or (exponents > _HIGHEST).any():
        raise MalformedPayload("broadcast", "codes out of range: was it made for another base?")
    return Codes(codes, exponents)
