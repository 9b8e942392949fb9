"""Public randomness, the same bits on every machine, library version and number of threads.

A key is derived from the run's seed and a label; a stream is the ChaCha20 keystream (RFC 8439) under that key, from
block 0 with a zero nonce, read as little-endian uint64. Sampling, initialisation and data order come from here. Privacy
noise and masks never do: whoever knows the seed knows every draw.

    key = SHA-256("fedpeft/1" ‖ seed as u64 LE ‖ field(label) ‖ field(part) ...)
    field(text)   = 0x00 ‖ length as u32 LE ‖ UTF-8
    field(number) = 0x01 ‖ two's complement, 16 bytes LE

Every field tells its own length, so no two lists of parts are hashed as the same bytes.

The library takes RFC 8439's block counter (u32 LE) and nonce (12 bytes) as one "nonce" of 16 bytes: all zeros here.
Each key is used for one stream only, so no nonce is ever needed to tell two apart.
"""

from __future__ import annotations

import hashlib
from operator import index

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

_DOMAIN = b"fedpeft/1"


def derive(seed: int, label: str, *parts: int | str) -> bytes:
    """A 32-byte key; different (seed, label, parts) give different inputs to the hash.

    Args:
        seed: 0 to 2^64 - 1.
        label: what the stream is for.
        parts: what tells this stream from its siblings, e.g. the round and the client. 7 and "7" are different parts.

    Raises:
        TypeError: a part is neither text nor a whole number.
        ValueError: the seed is out of range, or a number does not fit 128 bits.
    """
    seed = index(seed)
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed = {seed} must be from 0 to 2^64 - 1")
    digest = hashlib.sha256(_DOMAIN + seed.to_bytes(8, "little"))
    for part in (label, *parts):
        if isinstance(part, str):
            text = part.encode()
            digest.update(b"\x00" + len(text).to_bytes(4, "little") + text)
        else:
            number = index(part)  # refuses 1.5, which int() would quietly make 1
            if not -(2**127) <= number < 2**127:
                raise ValueError(f"part {number} of stream {label!r} must fit 128 bits")
            digest.update(b"\x01" + number.to_bytes(16, "little", signed=True))
    return digest.digest()


def derive_seed(seed: int, label: str, *parts: int | str) -> int:
    """A uint64 seed for something that takes a number: the first 8 bytes of the key, LE. Errors as `derive`."""
    return int.from_bytes(derive(seed, label, *parts)[:8], "little")


class Stream:
    """A keystream to draw from; each draw moves it on.

    Drawing 3 numbers and then 2 gives the same as drawing 5. One stream is good for 256 GiB (2^32 blocks).

    >>> stream = Stream(derive(7, "example", 1, "c03"))
    >>> stream.sample(10, 3), stream.below(6)
    ([4, 7, 6], 2)

    Args:
        key: 32 bytes, from `derive`.

    Raises:
        ValueError: the key is not 32 bytes.
    """

    def __init__(self, key: bytes) -> None:
        self._keystream = Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor()

    def uint64(self, n: int) -> npt.NDArray[np.uint64]:
        """n uniform 64-bit numbers, shape (n,)."""
        return np.frombuffer(self._keystream.update(bytes(8 * n)), dtype="<u8").astype(np.uint64)

    def uniform(self, n: int) -> npt.NDArray[np.float64]:
        """n numbers in [0, 1) on the grid of 2^-53, shape (n,)."""
        return (self.uint64(n) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def below(self, n: int) -> int:
        """A number from 0 to n - 1, exactly uniform (by rejection).

        Raises:
            ValueError: n is not from 1 to 2^64.
        """
        if not 1 <= n <= 2**64:
            raise ValueError(f"n = {n} must be from 1 to 2^64")
        limit = 2**64 - 2**64 % n
        while True:
            draw = int(self.uint64(1)[0])
            if draw < limit:
                return draw % n

    def permutation(self, n: int) -> npt.NDArray[np.int64]:
        """The numbers from 0 to n - 1 in random order, shape (n,): sorted by 64-bit draws, redrawn should two tie."""
        while True:
            draws = self.uint64(n)
            order = np.argsort(draws, kind="stable").astype(np.int64)
            if n < 2 or (np.diff(draws[order]) > 0).all():
                return order

    def sample(self, n: int, k: int) -> list[int]:
        """k distinct numbers of range(n); their order is part of the draw.

        Raises:
            ValueError: k is negative or above n.
        """
        if not 0 <= k <= n:
            raise ValueError(f"k = {k} must be from 0 to n = {n}")
        return [int(i) for i in self.permutation(n)[:k]]
