"""DARE: keep a random share of the values and enlarge it, so that the mean over many clients is right.

    x̂_i = x_i / p with probability p, else 0;    E x̂ = x

Yu et al. 2024, "Language Models are Super Mario" (arXiv 2311.03099): drop and rescale. Which values are kept is drawn
from the keystream under a nonce that the body names, so no place is sent. One client's relative error is √((1 − p)/p),
3 at a tenth: an unbiased codec of so large an error must not be given error feedback, which would feed it to itself.

    body = d mod 2^32, u32 LE ‖ nonce, 8 bytes: the first of SHA-256 of the values ‖ how many are kept, u32 LE
           ‖ inner codec of the kept values, enlarged

Of how many values the inner body is stands in the body, since what the nonce draws is known only once all d are drawn:
that is done for a body whose inner part is sound, and what it says must then be what was drawn.
"""

from __future__ import annotations

import hashlib
import struct

import numpy as np

from fedpeft.codecs.base import Codec, MalformedPayload, inside, length_of
from fedpeft.codecs.rice import Places
from fedpeft.randomness.keystream import keystream
from fedpeft.types import FloatArray

_NONCE = 8
_HEAD = 4 + _NONCE + 4
_LARGEST = float(np.finfo(np.float32).max)


class Dare:
    """See the module.

    Args:
        inner: of the kept values.
        share: p, in steps of 2^-16.

    Raises:
        ValueError: share is below 0.001 or above 1.
    """

    first = True
    owes = False

    def __init__(self, inner: Codec, share: float) -> None:
        if not 0.001 <= share <= 1:
            raise ValueError(f"share = {share} must be from 0.001 to 1")
        self.inner = inner
        self.share = share
        self.name = f"dare({share:g})+{inner.name}"
        self._below = round(share * 65_536)

    def encode(self, values: FloatArray) -> bytes:
        """See `Codec.encode`."""
        nonce = hashlib.sha256(np.ascontiguousarray(values, dtype="<f4").data).digest()[:_NONCE]
        kept = values[self._kept(nonce, values.size)]
        enlarged = np.clip(kept.astype(np.float64) * (65_536 / self._below), -_LARGEST, _LARGEST).astype(np.float32)
        return length_of(values.size) + nonce + struct.pack("<I", kept.size) + self.inner.encode(enlarged)

    def decode(self, body: bytes, size: int) -> FloatArray:
        """See `Codec.decode`."""
        if len(body) < _HEAD or not body.startswith(length_of(size)):
            raise MalformedPayload(self.name, "it is of another number of values", allowed=f"{size}")
        (count,) = struct.unpack_from("<I", body, 4 + _NONCE)
        if count > size:
            raise MalformedPayload(self.name, f"{count} of {size} values are kept", allowed=f"at most {size}")
        with inside(self.name):
            kept = self.inner.decode(body[_HEAD:], count)  # checked before anything is drawn
        places = self._kept(body[4 : 4 + _NONCE], size)
        if len(places) != count:
            raise MalformedPayload(self.name, f"{count} values are kept", allowed=f"the {len(places)} that it draws")
        values = np.zeros(size, dtype=np.float32)
        values[places] = kept
        return values

    def max_bytes(self, size: int) -> int:
        """See `Codec.max_bytes`."""
        return _HEAD + self.inner.max_bytes(size)

    def nominal_bytes(self, size: int) -> int:
        """See `Codec.nominal_bytes`."""
        return _HEAD + self.inner.nominal_bytes(round(size * self._below / 65_536))

    def _kept(self, nonce: bytes, size: int) -> Places:
        draws = np.empty(2 * size, dtype=np.uint8)
        keystream(hashlib.sha256(b"fedpeft/dare" + nonce).digest(), 0, draws.data)
        return np.flatnonzero(draws.view("<u2") < self._below)
