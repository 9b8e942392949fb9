"""The ChaCha20 keystream (RFC 8439) in a tensor's own integer operations, on whatever device the signs are needed.

The bits are those of `fedpeft.randomness.keystream`, which is the faster one on a CPU. Here all blocks are worked on at
once: word r·4 + c of block n is row c, column n of the r-th of four tensors, so that a round over all columns, or over
all diagonals once the tensors are rolled, is a handful of operations. int32 wraps as RFC 8439's additions do.
"""

from __future__ import annotations

import struct

import torch

from fedpeft.randomness.keystream import BLOCK

_BLOCKS = 1 << 16
"""At a time: 4 MB of keystream, and five times as much while it is made."""


def keystream_on(device: torch.device, key: bytes, begin: int, count: int) -> torch.Tensor:
    """Bytes `begin` to `begin + count` of a key's stream, shape (count,), uint8.

    Args:
        device: little-endian, as all that torch knows are.
        key: 32 bytes, from `derive`.
        begin: 0 or more.
        count: 0 or more.

    Raises:
        ValueError: the key is not 32 bytes, or `begin` is negative.
    """
    if len(key) != 32:
        raise ValueError(f"the key has {len(key)} bytes: it must have 32")
    if begin < 0:
        raise ValueError(f"begin = {begin} must be 0 or more")
    found = torch.empty(count, dtype=torch.uint8, device=device)
    place = 0
    while place < count:
        block, skip = divmod(begin + place, BLOCK)
        nonce, counter = divmod(block, 1 << 32)
        blocks = min(_BLOCKS, (1 << 32) - counter, -(-(skip + count - place) // BLOCK))
        taken = min(count - place, BLOCK * blocks - skip)
        found[place : place + taken] = _made(device, key, nonce, counter, blocks)[skip : skip + taken]
        place += taken
    return found


def _made(device: torch.device, key: bytes, nonce: int, counter: int, count: int) -> torch.Tensor:
    """Blocks `counter` to `counter + count` under one nonce, shape (64 count,), uint8."""
    first = struct.pack("<I", counter) + nonce.to_bytes(12, "little")
    words = torch.tensor(struct.unpack("<16i", b"expand 32-byte k" + key + first), dtype=torch.int32).to(device)
    start = words[:, None].repeat(1, count)
    start[12] += torch.arange(count, dtype=torch.int32, device=device)
    a, b, c, d = (start[row : row + 4].clone() for row in (0, 4, 8, 12))
    for _ in range(10):
        _quarter_rounds(a, b, c, d)  # of the columns
        b, c, d = b.roll(-1, 0), c.roll(-2, 0), d.roll(-3, 0)
        _quarter_rounds(a, b, c, d)  # of the diagonals
        b, c, d = b.roll(1, 0), c.roll(2, 0), d.roll(3, 0)
    start += torch.cat((a, b, c, d))
    return start.t().contiguous().view(torch.uint8).reshape(-1)


def _quarter_rounds(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor, d: torch.Tensor) -> None:
    """RFC 8439, section 2.1, of four at a time, in place."""
    a += b
    _turn(d, a, 16)
    c += d
    _turn(b, c, 12)
    a += b
    _turn(d, a, 8)
    c += d
    _turn(b, c, 7)


def _turn(word: torch.Tensor, other: torch.Tensor, by: int) -> None:
    """word ← (word ⊕ other) <<< by, in place; >> of an int32 draws the sign in, so what it draws in is cut off."""
    word.bitwise_xor_(other)
    low = word.bitwise_right_shift(32 - by).bitwise_and_((1 << by) - 1)
    word.bitwise_left_shift_(by).bitwise_or_(low)
