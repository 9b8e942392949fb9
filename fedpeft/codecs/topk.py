"""Top-k: the largest share of the values by magnitude; what they are goes through any other codec.

    kept = the ⌈p d⌉ largest |x_i|, of equals the first;    body = places (Golomb–Rice) ‖ inner codec of the kept values

`topk(0.05)+sign` is sparse ternary compression (Sattler et al. 2019, arXiv 1903.02891): a place, a sign, and one scale,
the mean magnitude of what is kept; `compeft` is the same with another scale. Both drop most of a vector: on Gaussian
values a tenth of them leaves a relative error of 0.75 (with signs, 0.76), so error feedback is needed (it is on
wherever deltas are sent), and `int4` or `sign` do better for their bytes above half a bit a value.
"""

from __future__ import annotations

import math

import numpy as np

from fedpeft.codecs.base import Codec, MalformedPayload, inside
from fedpeft.codecs.rice import Places, decode_places, encode_places, most_bytes, places_bytes
from fedpeft.types import FloatArray

_SAMPLE = 1 << 14
"""Values that are put in order to see where the others lie."""


class TopK:
    """See the module.

    Args:
        inner: of the kept values.
        share: p.

    Raises:
        ValueError: share is not above 0 and at most 1.
    """

    def __init__(self, inner: Codec, share: float) -> None:
        if not 0 < share <= 1:
            raise ValueError(f"share = {share} must be above 0 and at most 1")
        self.inner = inner
        self.share = share
        self.name = f"topk({share:g})+{inner.name}"

    def encode(self, values: FloatArray) -> bytes:
        """See `Codec.encode`."""
        places = self._largest(values)
        return encode_places(places, values.size) + self.inner.encode(values[places])

    def decode(self, body: bytes, size: int) -> FloatArray:
        """See `Codec.decode`."""
        count = self.count(size)
        with inside(self.name):
            if len(body) > self.max_bytes(size):
                raise MalformedPayload(self.name, f"{len(body)} bytes", allowed=f"at most {self.max_bytes(size)}")
            places, used = decode_places(body, count, size)
            kept = self.inner.decode(body[used:], count)
        values = np.zeros(size, dtype=np.float32)
        values[places] = kept
        return values

    def max_bytes(self, size: int) -> int:
        """See `Codec.max_bytes`."""
        count = self.count(size)
        return most_bytes(count, size) + self.inner.max_bytes(count)

    def nominal_bytes(self, size: int) -> int:
        """See `Codec.nominal_bytes`."""
        count = self.count(size)
        return places_bytes(count, size) + self.inner.nominal_bytes(count)

    def count(self, size: int) -> int:
        """How many of `size` values are kept."""
        return min(size, math.ceil(self.share * size - 1e-9))  # 0.07 · 100 is 7.000000000000001

    def _largest(self, values: FloatArray) -> Places:
        count, sizes = self.count(values.size), np.abs(values)
        if count == values.size:
            return np.arange(count, dtype=np.int64)
        least = _at_least(sizes, count)
        keep = sizes > least
        equal = np.flatnonzero(sizes == least)
        keep[equal[: count - int(keep.sum())]] = True
        return np.flatnonzero(keep)


def _at_least(sizes: FloatArray, count: int) -> np.float32:
    """The `count`-th largest of them, exactly.

    Of many, a sample tells between which two values it lies, but for one time in 10^8 of random ones: what is above is
    counted, and only what is between is put in order. numpy's own selection among all takes several times as long.
    """
    step = sizes.size // _SAMPLE
    if step > 1:
        sample = np.sort(sizes[::step])
        share = count / sizes.size
        place, slack = (1.0 - share) * sample.size, 6.0 * math.sqrt(sample.size * share * (1.0 - share)) + 1.0
        low, high = sample[max(0, int(place - slack))], sample[min(sample.size - 1, int(place + slack))]
        between = sizes[(sizes >= low) & (sizes <= high)]
        wanted = count - int(np.count_nonzero(sizes > high))
        if 1 <= wanted <= between.size:
            return _selected(between, wanted)
    return _selected(sizes, count)


def _selected(sizes: FloatArray, count: int) -> np.float32:
    found: np.float32 = np.partition(sizes, sizes.size - count)[sizes.size - count]
    return found
