"""Count sketch: signed sums of values thrown together at random, fewer than there are values; through any codec.

    y_b = Σ_{i: h(i) = b} s_i x_i / √n_b,    x̂_i = s_i y_h(i) / √n_h(i)        n_b = values in bucket b

with one row of w = ⌈c d⌉ buckets h(i) and signs s_i (Charikar, Chen & Farach-Colton 2002; FetchSGD, Rothchild et al.
2020, arXiv 2007.07682, sends such sums). y is linear in x, and x̂ its orthogonal projection: of any vector of flat
values the relative error is √(1 − c (1 − e^(−1/c))), 0.95 at a tenth, 0.75 at a half, and never above 1 of any vector;
so error feedback works. A few large values among small ones, which a sketch of several rows finds by its medians, are
`topk`'s to send, since here each client's body is decoded by itself. Like `dare`, it costs no places and treats all
values alike; unlike it, it never enlarges.

h and s are drawn from the keystream under a nonce that the body names, the hash of the values, so that another round's
loss is another one. Hence no two clients share a nonce, and their sums cannot be added up before they are decoded, as
FetchSGD's are: the coordinator decodes each body and adds vectors. What y's being linear gives here is the projection.

    body = d mod 2^32, u32 LE ‖ nonce, 8 bytes: the first of SHA-256 of the values ‖ inner codec of y
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
import numpy.typing as npt

from fedpeft.codecs.base import Codec, MalformedPayload, inside, length_of
from fedpeft.randomness.keystream import keystream
from fedpeft.types import FloatArray

_NONCE = 8
_HEAD = 4 + _NONCE
_LARGEST = float(np.finfo(np.float32).max)


class Sketch:
    """See the module.

    Args:
        inner: of the sums.
        share: c, buckets per value.

    Raises:
        ValueError: share is below 0.001 or above 1.
    """

    def __init__(self, inner: Codec, share: float) -> None:
        if not 0.001 <= share <= 1:
            raise ValueError(f"share = {share:g} must be from 0.001 to 1")
        self.inner = inner
        self.share = share
        self.name = f"sketch({share:g})+{inner.name}"

    def encode(self, values: FloatArray) -> bytes:
        """See `Codec.encode`."""
        nonce = hashlib.sha256(np.ascontiguousarray(values, dtype="<f4").data).digest()[:_NONCE]
        buckets, factors = self._hashes(nonce, values.size)
        sums = np.bincount(buckets, weights=values * factors, minlength=self._buckets(values.size))
        return length_of(values.size) + nonce + self.inner.encode(np.clip(sums, -_LARGEST, _LARGEST).astype(np.float32))

    def decode(self, body: bytes, size: int) -> FloatArray:
        """See `Codec.decode`."""
        if len(body) < _HEAD or not body.startswith(length_of(size)):
            raise MalformedPayload(self.name, "it is of another number of values", allowed=f"{size}")
        with inside(self.name):
            sums = self.inner.decode(body[_HEAD:], self._buckets(size))  # checked before anything is drawn
        buckets, factors = self._hashes(body[4:_HEAD], size)
        return np.clip(sums[buckets] * factors, -_LARGEST, _LARGEST).astype(np.float32)

    def max_bytes(self, size: int) -> int:
        """See `Codec.max_bytes`."""
        return _HEAD + self.inner.max_bytes(self._buckets(size))

    def nominal_bytes(self, size: int) -> int:
        """See `Codec.nominal_bytes`."""
        return _HEAD + self.inner.nominal_bytes(self._buckets(size))

    def _buckets(self, size: int) -> int:
        return math.ceil(self.share * size - 1e-9)

    def _hashes(self, nonce: bytes, size: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Of each value its bucket h, and s / √n of that bucket, both of shape (d,)."""
        drawn = np.empty(4 * size, dtype=np.uint8)
        keystream(hashlib.sha256(b"fedpeft/sketch" + nonce).digest(), 0, drawn.data)
        draws = drawn.view("<u4")
        count = self._buckets(size)
        buckets = ((draws >> np.uint32(1)).astype(np.uint64) * np.uint64(count) >> np.uint64(31)).astype(np.int64)
        signs = 1.0 - 2.0 * (draws & np.uint32(1))
        crowds = np.bincount(buckets, minlength=count)
        return buckets, signs / np.sqrt(crowds)[buckets]
