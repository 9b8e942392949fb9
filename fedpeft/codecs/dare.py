"""DARE: keep a random share of the values and enlarge it, so that the mean over many clients is right.

    x̂_i = x_i / p with probability p, else 0;    E x̂ = x

Yu et al. 2024, "Language Models are Super Mario" (arXiv 2311.03099): drop and rescale. Which values are kept is drawn
from the keystream under a nonce that the body names, so no place is sent. One client's relative error is √((1 − p)/p),
3 at a tenth: an unbiased codec of so large an error must not be given error feedback, which would feed it to itself.

    body = nonce, 8 bytes: the first of SHA-256 of the values ‖ inner codec of the kept values, enlarged
"""

from __future__ import annotations

import hashlib

import numpy as np

from fedpeft.codecs.base import Codec, MalformedPayload, inside
from fedpeft.codecs.rice import Places
from fedpeft.randomness.keystream import keystream
from fedpeft.types import FloatArray

_NONCE = 8
_MOST_PER_BYTE = 512  # kept values: no codec packs them closer
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
        enlarged = values[self._kept(nonce, values.size)].astype(np.float64) * (65_536 / self._below)
        return nonce + self.inner.encode(np.clip(enlarged, -_LARGEST, _LARGEST).astype(np.float32))

    def decode(self, body: bytes, size: int) -> FloatArray:
        """See `Codec.decode`."""
        least = max(_NONCE, int(self.share * size) // _MOST_PER_BYTE)  # checked before anything is drawn
        if len(body) < least:
            raise MalformedPayload(self.name, f"{len(body)} bytes", allowed=f"at least {least}")
        places = self._kept(body[:_NONCE], size)
        values = np.zeros(size, dtype=np.float32)
        with inside(self.name):
            values[places] = self.inner.decode(body[_NONCE:], len(places))
        return values

    def max_bytes(self, size: int) -> int:
        """See `Codec.max_bytes`."""
        return _NONCE + self.inner.max_bytes(size)

    def nominal_bytes(self, size: int) -> int:
        """See `Codec.nominal_bytes`."""
        return _NONCE + self.inner.nominal_bytes(round(size * self._below / 65_536))

    def _kept(self, nonce: bytes, size: int) -> Places:
        draws = np.empty(2 * size, dtype=np.uint8)
        keystream(hashlib.sha256(b"fedpeft/dare" + nonce).digest(), 0, draws.data)
        return np.flatnonzero(draws.view("<u2") < self._below)
