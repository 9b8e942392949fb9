"""Golomb–Rice codes of places: which k of d values are kept, in little more than the entropy.

The gap g before each kept place is split as g = q · 2^b + r. All quotients stand in one stream, in unary (q zeros and a
one), all remainders in another, b bits each: both are made and read by array operations, without a loop over entries.
With density p = k/d a place costs b + 1/(1 − (1 − p)^{2^b}) bits, at the best b within a few percent of H(p)/p
(Golomb 1966; Rice 1979; as Sattler et al. 2019, arXiv 1903.02891, equation 16, use it).

    places = b, 1 byte ‖ bytes of quotients, u32 LE ‖ quotients ‖ remainders         bits 8 a byte, the first lowest

Behind the last place stands d itself, as if it were kept: so the end is told, and no vector is taken for one of another
length.
"""

from __future__ import annotations

import math
import struct

import numpy as np
import numpy.typing as npt

from fedpeft.codecs.base import MalformedPayload

Places = npt.NDArray[np.int64]

_HEAD = struct.Struct("<BI")
_MOST = 31  # bits of a remainder


def encode_places(places: Places, size: int) -> bytes:
    """Bytes of distinct places, ascending, shape (k,), each below `size`."""
    gaps = np.diff(places, prepend=-1, append=size) - 1
    bits = _best(gaps, size)
    ends = np.cumsum((gaps >> bits) + 1) - 1  # of each quotient, where its one stands
    unary = np.zeros(int(ends[-1]) + 1, dtype=np.uint8)
    unary[ends] = 1
    quotients: bytes = np.packbits(unary, bitorder="little").tobytes()
    octets = gaps.astype("<u4").view(np.uint8).reshape(-1, 4)
    remainders: bytes = np.packbits(
        np.unpackbits(octets, axis=1, count=bits, bitorder="little"), bitorder="little"
    ).tobytes()
    return _HEAD.pack(bits, len(quotients)) + quotients + remainders


def decode_places(body: bytes, count: int, size: int) -> tuple[Places, int]:
    """The places, shape (count,), ascending and below `size`, and the bytes that they took of `body`.

    With b = 0 all places take d + 1 bits, and an encoder takes the b of the fewest: of a body with more bits than that
    none is unpacked. Whatever the bytes say, no more than d + 8 bits ever are.

    Raises:
        MalformedPayload: they are not `count` places, written as `encode_places` writes them.
    """
    if len(body) < _HEAD.size:
        raise _cut("they end in the head")
    bits, length = _HEAD.unpack_from(body)
    ones = count + 1
    rest = -(-ones * bits // 8)
    end = _HEAD.size + length + rest
    if bits > _MOST or length > (size + 1) // 8 + 1 or end > len(body):
        raise _cut(f"{len(body)} bytes do not hold {length} of quotients and {rest} of remainders")
    if 8 * length + ones * bits > size + 8:  # the last byte of quotients may have seven bits that are none
        raise _cut(f"{length} bytes of quotients and {ones} remainders of {bits} bits are more than {size} values take")
    unary = np.unpackbits(np.frombuffer(body, np.uint8, length, _HEAD.size), bitorder="little")
    ends = np.flatnonzero(unary).astype(np.int64)
    used = int(ends[-1]) + 1 if len(ends) else 0
    if len(ends) != ones or -(-used // 8) != length:
        raise _cut(f"{len(ends) - 1} places where {count} are due, or bytes after the last")
    told = np.unpackbits(np.frombuffer(body, np.uint8, rest, _HEAD.size + length), bitorder="little")
    if told[ones * bits :].any():
        raise _cut("bits follow the last remainder")
    remainders = told[: ones * bits].reshape(ones, bits).astype(np.int64) @ (1 << np.arange(bits, dtype=np.int64))
    gaps = ((np.diff(ends, prepend=-1) - 1) << bits) + remainders
    places = np.cumsum(gaps + 1) - 1
    if int(places[-1]) != size:
        raise _cut(f"they are of {int(places[-1])} values, not of {size}")
    return places[:-1], end


def places_bytes(count: int, size: int) -> int:
    """Bytes to expect of `count` random places of `size`."""
    p = count / max(1, size)
    each = min(b + 1 / (1 - (1 - p) ** (1 << b)) if 0 < p < 1 else b + 1 for b in range(_MOST + 1))
    return _HEAD.size + math.ceil((count + 1) * each / 8)


def most_bytes(count: int, size: int) -> int:
    """Bytes at most of `count` places of `size`: with no remainders all quotients take a bit a place."""
    return _HEAD.size + -(-(size + 1) // 8) + 1


def entropy_bits(p: float) -> float:
    """H(p) in bits: what a place of density p costs at least, kept or not.

    >>> round(entropy_bits(0.1), 3)
    0.469
    """
    return -(p * math.log2(p) + (1 - p) * math.log2(1 - p)) if 0 < p < 1 else 0.0


def _best(gaps: Places, size: int) -> int:
    """Of all b, the one that takes the fewest bits, Σ ⌊g / 2^b⌋ + k (b + 1); the smallest of equals.

    One more b saves Σ ⌈⌊g / 2^b⌋ / 2⌉ and costs k. The former falls with b, so the first b that is no worse than the
    next is the best.
    """
    most, quotients = min(max(1, size).bit_length(), _MOST), gaps.copy()
    for b in range(most):
        whole = int(quotients.sum())
        quotients >>= 1
        if whole - int(quotients.sum()) <= len(gaps):
            return b
    return most


def _cut(message: str) -> MalformedPayload:
    return MalformedPayload("rice", f"places: {message}", allowed="the places of the kept values, in full")
