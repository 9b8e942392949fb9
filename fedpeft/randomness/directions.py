"""Directions of ±1 that are the same bits on every machine, device, library version and number of threads.

Zeroth-order optimisation moves along random vectors z that are never sent: whoever knows the seed makes them again.
Drawn with a framework's own generator, z depends on the device, the processor, the dtype, the version and even on how
many numbers are drawn at once. Here z_i, the sign at position i of the flat vector θ, is a function of a key and i:

    single      bit i of the stream: bit i mod 8 (0 is the lowest) of byte i div 8
    pool word   16 directions at once: direction b is bit b (0 is the lowest) of the 16-bit word i, bytes 2i (low), 2i+1

A bit of 1 stands for +1, of 0 for −1, so E z zᵀ = I. The stream is `keystream`'s, its key from `derive`. Everything is
seekable: any slice is made alone, and equals the same slice of the whole. `simulations/DIRECTIONS.md` is the
specification, with values to test against.

>>> from fedpeft.randomness.streams import derive
>>> key = derive(7, "example")
>>> packed(key, 0, 8), signs(packed(key, 0, 8), 8).tolist()
(array([65], dtype=uint8), [1.0, -1.0, -1.0, -1.0, -1.0, -1.0, 1.0, -1.0])
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fedpeft.randomness.keystream import keystream

Packed = npt.NDArray[np.uint8]
"""Signs, 8 a byte, the first one lowest; bits beyond the last sign mean nothing."""

WORD = 16
"""Directions in a pool word."""

_SIGNS = np.where(np.arange(256)[:, None] >> np.arange(8) & 1, np.float32(1), np.float32(-1)).astype(np.float32)
_PIECE = 1 << 13  # bytes of packed signs at a time: 65,536 weights, which stay in the cache


def packed(key: bytes, begin: int, count: int) -> Packed:
    """Signs `begin` to `begin + count` of a single stream, shape (⌈count/8⌉,).

    Raises:
        ValueError: `begin` is not a multiple of 8.
    """
    if begin % 8:
        raise ValueError(f"begin = {begin} must be a multiple of 8: signs are packed 8 a byte")
    bits = np.empty(-(-count // 8), dtype=np.uint8)
    keystream(key, begin // 8, bits.data)
    return bits


def words(key: bytes, begin: int, count: int) -> npt.NDArray[np.uint16]:
    """Pool words `begin` to `begin + count`, shape (count,), in the machine's byte order."""
    found = np.empty(2 * count, dtype=np.uint8)
    keystream(key, 2 * begin, found.data)
    return found.view("<u2").astype(np.uint16, copy=False)


def packed_of_words(found: npt.NDArray[np.uint16], number: int) -> Packed:
    """One direction of pool words, `number` from 0 to 15, packed as a single stream is."""
    halves = found.astype("<u2", copy=False).view(np.uint8)[number // 8 :: 2]
    return np.packbits(halves & np.uint8(1 << number % 8), bitorder="little")


def signs(bits: Packed, count: int) -> npt.NDArray[np.float32]:
    """Packed signs as +1 and −1, shape (count,), fp32."""
    return np.take(_SIGNS, bits, axis=0).reshape(-1)[:count]


def add_signs(target: npt.NDArray[Any], bits: Packed, scale: float) -> None:
    """target += scale · z, in place; each element is rounded once.

    Args:
        target: shape (n,), fp32 or int32, contiguous.
        bits: packed z, shape (⌈n/8⌉,).
        scale: taken as what the target is of; ±scale is exact, so no machine can round it otherwise.
    """
    table = _SIGNS.astype(target.dtype, copy=False) * target.dtype.type(scale)
    room = np.empty((min(_PIECE, len(bits)), 8), dtype=target.dtype)
    for place in range(0, len(bits), _PIECE):
        part = target[8 * place : 8 * (place + _PIECE)]
        taken = room[: -(-len(part) // 8)]
        np.take(table, bits[place : place + _PIECE], axis=0, out=taken, mode="clip")  # "raise" would make a copy
        part += taken.reshape(-1)[: len(part)]
