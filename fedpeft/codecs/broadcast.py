"""The versioned downlink: int8 codes of the adapter, sent as the difference from codes that the client holds.

The state that round t publishes is b_t = θ_0 + decode(c_t), with c_t the block-wise int8 codes of θ_t − θ_0. Scales are
powers of two, s_b = 2^k_b with the smallest k_b that keeps the block within ±127, so codes move little while a block's
size stays within a factor of two. A client that holds version v is sent

    first 8 bytes of SHA-256(c_t ‖ k_t)  ‖  zstd( (c_t − c_v) mod 256 ‖ (k_t − k_v) mod 256 )

and gets c_t back exactly. The digest tells a client whose disk was mixed up or damaged that what it holds is not
version v, before it trains from garbage. Version 0 is all zeros (θ_0, which both sides derive and nobody sends), so
whoever is new or too far behind is simply given base 0. Whatever the base, b_t is the same bit by bit.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import zstandard

from fedpeft.codecs.base import MalformedPayload
from fedpeft.codecs.int8 import BLOCK, blocks_of
from fedpeft.types import FloatArray

_LEVEL = 3
_WINDOW = 2**21  # bytes; the most that level 3 asks for
_DIGEST = 8  # bytes
_LOWEST, _HIGHEST = -126, 120  # exponents k: 2^k and 127 · 2^k are normal fp32 numbers


@dataclass(frozen=True, slots=True, eq=False)
class Codes:
    """An adapter as codes: value i is codes[i] · 2^exponents[i // 64]."""

    codes: npt.NDArray[np.int8]  # shape (d,), -127 to 127
    exponents: npt.NDArray[np.int8]  # shape (⌈d/64⌉,), -126 to 120

    def __eq__(self, other: object) -> bool:
        """Whether two have equal codes and exponents."""
        if not isinstance(other, Codes):
            return NotImplemented
        if self is other:
            return True
        return np.array_equal(self.codes, other.codes) and np.array_equal(self.exponents, other.exponents)

    def digest(self) -> str:
        """SHA-256 of codes and exponents, hex: equal codes, and so equal states, have equal digests."""
        return hashlib.sha256(self.codes.tobytes() + self.exponents.tobytes()).hexdigest()

    def tag(self) -> bytes:
        """The start of the digest, 8 bytes: what a body says of the codes that it leads to."""
        return bytes.fromhex(self.digest())[:_DIGEST]


class WrongBase(MalformedPayload):
    """A difference that does not lead to the codes that were sent: the base is not the one it was made for."""

    def __init__(self) -> None:
        super().__init__(
            "broadcast",
            "the result has another digest: the base held here is not the one that it was made for",
            code="codec.wrong-base",
        )


def zero_codes(size: int) -> Codes:
    """Version 0, of d = `size` values."""
    return Codes(np.zeros(size, dtype=np.int8), np.zeros(-(-size // BLOCK), dtype=np.int8))


def quantise(values: FloatArray) -> Codes:
    """The codes of θ_t − θ_0, shape (d,), fp32 and finite. Values beyond 127 · 2^120 saturate."""
    blocks = blocks_of(values)
    largest = np.abs(blocks).max(axis=1).astype(np.float64)
    # largest / 127 = m · 2^e with m in [0.5, 1): ⌈log2⌉ without a logarithm, which differs between machines.
    mantissa, exponent = np.frexp(largest / 127.0)
    exponents = np.where(largest > 0, np.clip(exponent - (mantissa == 0.5), _LOWEST, _HIGHEST), 0).astype(np.int8)
    codes = np.clip(np.rint(np.ldexp(blocks, -exponents.astype(np.int32)[:, None])), -127, 127)
    return Codes(codes.astype(np.int8).reshape(-1)[: values.size].copy(), exponents)


def dequantise(codes: Codes) -> FloatArray:
    """decode(c), shape (d,): exact in fp32, since scales are powers of two."""
    blocks = blocks_of(codes.codes.astype(np.float32))
    return np.ldexp(blocks, codes.exponents.astype(np.int32)[:, None]).reshape(-1)[: codes.codes.size]


def encode_difference(new: Codes, base: Codes) -> bytes:
    """What a client that holds `base` needs to get `new`."""
    difference = np.concatenate([new.codes - base.codes, new.exponents - base.exponents])  # int8 wraps modulo 256
    return new.tag() + zstandard.ZstdCompressor(level=_LEVEL).compress(difference.tobytes())


def decode_difference(body: bytes, base: Codes) -> Codes:
    """`new` again.

    The length is known from `base`, so a body that claims or holds anything else is refused before it is unpacked.

    Raises:
        WrongBase: `base` is not what the body was made for.
        MalformedPayload: not zstd, another length, or codes that `quantise` does not write.
    """
    size, wanted = base.codes.size, base.codes.size + base.exponents.size
    tag, packed = body[:_DIGEST], body[_DIGEST:]
    try:
        claims = zstandard.get_frame_parameters(packed)
        if claims.content_size != wanted:  # a size that is not declared reads as 2^64 - 1
            raise MalformedPayload("broadcast", f"it claims {claims.content_size} bytes", allowed=f"{wanted} bytes")
        if claims.window_size > max(wanted, _WINDOW):
            raise MalformedPayload("broadcast", f"a window of {claims.window_size} bytes", allowed=f"{_WINDOW} bytes")
        # python-zstandard ignores max_output_size where a frame declares its size, and allocates what it declares: the
        # check above is the guard. A frame that lies about its size, is cut, or is followed by more bytes is an error.
        raw = zstandard.ZstdDecompressor().decompress(packed, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise MalformedPayload("broadcast", f"not one whole zstd frame: {error}") from None
    difference = np.frombuffer(raw, dtype=np.int8)
    new = Codes(base.codes + difference[:size], base.exponents + difference[size:])
    if new.tag() != tag:
        raise WrongBase
    if (new.codes == -128).any() or (new.exponents < _LOWEST).any() or (new.exponents > _HIGHEST).any():
        raise MalformedPayload("broadcast", "codes or exponents out of range", allowed="what `quantise` writes")
    return new


class Int8Downlink:
    """See `Downlink`."""

    name: ClassVar[str] = "int8"
    zero = staticmethod(zero_codes)
    quantise = staticmethod(quantise)
    dequantise = staticmethod(dequantise)
    encode_difference = staticmethod(encode_difference)
    decode_difference = staticmethod(decode_difference)

    def arrays(self, codes: Codes) -> dict[str, npt.NDArray[np.generic]]:
        """`codes` and `exponents`, int8."""
        return {"codes": codes.codes, "exponents": codes.exponents}

    def of_arrays(self, arrays: dict[str, npt.NDArray[np.generic]], size: int) -> Codes | None:
        """What `arrays` gave; None if it did not give these."""
        shapes = {"codes": (size,), "exponents": (-(-size // BLOCK),)}
        if set(arrays) != set(shapes):
            return None
        if any(arrays[name].shape != shape or arrays[name].dtype != np.int8 for name, shape in shapes.items()):
            return None
        return Codes(*(arrays[name].astype(np.int8, copy=False) for name in shapes))
