"""The ChaCha20 keystream (RFC 8439) of a key, from any byte on: what directions are read from.

    byte n of the stream = byte n mod 64 of block n div 64
    block b              = ChaCha20(key, counter = b mod 2^32, nonce = b div 2^32 as 12 bytes LE)

RFC 8439's counter has 32 bits, so one nonce is good for 256 GiB; the nonce rolls on after that, and a stream has no end
that anybody will reach. Block 0 on is what `Stream` draws from.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

BLOCK = 64
"""Bytes of a ChaCha20 block."""

_PER_NONCE = BLOCK << 32  # bytes under one nonce
_ZEROS = bytes(1 << 18)


def keystream(key: bytes, begin: int, out: bytearray | memoryview) -> None:
    """Write the keystream from byte `begin` on into `out`.

    Args:
        key: 32 bytes, from `derive`.
        begin: 0 or more.
        out: writable, contiguous bytes.

    Raises:
        ValueError: the key is not 32 bytes, or `begin` is negative.
    """
    if begin < 0:
        raise ValueError(f"begin = {begin} must be 0 or more")
    view = memoryview(out).cast("B")
    place = 0
    while place < len(view):
        at = begin + place
        part = view[place : place + min(len(view) - place, _PER_NONCE - at % _PER_NONCE)]
        _under_one_nonce(key, at, part)
        place += len(part)


def _under_one_nonce(key: bytes, begin: int, view: memoryview) -> None:
    block, skip = divmod(begin, BLOCK)
    nonce, counter = divmod(block, 1 << 32)
    # The library takes counter and nonce as one value of 16 bytes.
    start = counter.to_bytes(4, "little") + nonce.to_bytes(12, "little")
    cipher = Cipher(ChaCha20(key, start), mode=None).encryptor()
    if skip:
        cipher.update(_ZEROS[:skip])
    for place in range(0, len(view), len(_ZEROS)):
        part = view[place : place + len(_ZEROS)]
        cipher.update_into(_ZEROS if len(part) == len(_ZEROS) else _ZEROS[: len(part)], part)
