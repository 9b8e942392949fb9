"""ComPEFT: the largest values as signs and one scale, its density and its scale chosen by the loss on held-out data.

    x̂_i = α · σ · sign(x_i) for the ⌈k d⌉ largest |x_i|, else 0,        σ = √(Σ_i x_i² / d), of all d values

Yadav et al. 2023, "ComPEFT: Compression for Communicating Parameter Efficient Updates via Sparsification and
Quantization" (arXiv 2311.13171). Its σ is the standard deviation; here it is taken about 0, not about the mean, so that
a constant vector arrives too: a delta's mean is small beside it. What is left out of the name is searched, over the
paper's grid, where there is data to judge by (`codecs.searching`):

    compeft            k in 0.05, 0.1, 0.2, 0.3, 0.5 and α in 0.5, 1, 2, 3, 4, 5, 6, 8, 10
    compeft(0.1)       k = 0.1, α is searched
    compeft(alpha=2)   α = 2, k is searched
    compeft(0.1,2)     both are told: nothing is searched, and no data is needed

With one density the decoded vectors lie on a line, along which a smooth loss has one valley. So for each density in
turn, the sparsest first, α goes downhill on its grid from where the last one ended, until both neighbours cost no less:
three looks, and one more for each step, so some 15 of the 45 pairs. The first density starts at the α nearest to that
of least squared error. A loss with several valleys along a line may be left in another than the lowest. Of equal costs
the sparsest is taken.

Where nothing can be judged, k is 0.2, the middle of the grid, and the scale m, the mean magnitude of what is kept: that
of least squared error. So it is where no pair is admitted: with error feedback α σ ≤ 2 m, which is ‖x − x̂‖ ≤ ‖x‖ (see
`SearchingCodec`).

    body = place of k in the densities, u8 ‖ the body of `topk(k)+sign`, with α σ for its scale

0.34, 0.58, 0.94, 1.2 and 1.5 bits a value with the five densities.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fedpeft.codecs.base import MalformedPayload, inside
from fedpeft.codecs.searching import Found, Judge
from fedpeft.codecs.sign import Sign
from fedpeft.codecs.topk import TopK
from fedpeft.types import FloatArray

DENSITIES = (0.05, 0.1, 0.2, 0.3, 0.5)
"""Of which the search chooses k."""

ALPHAS = (0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
"""Of which it chooses α."""

_MOST_ALPHA = 100.0
_LARGEST = float(np.finfo(np.float32).max)
_SIGN = Sign()


def compeft(density: float | None = None, alpha: float | None = None) -> Compeft:
    """The codec of a run file's name.

    Args:
        density: k, the share of the values that is kept, above 0 and at most 1; None: searched.
        alpha: α, above 0 and at most 100; None: searched.

    Raises:
        ValueError: a value is out of its range.
    """
    if density is not None and not 0 < density <= 1:
        raise ValueError(f"density = {density} must be above 0 and at most 1")
    if alpha is not None and not 0 < alpha <= _MOST_ALPHA:
        raise ValueError(f"alpha = {alpha} must be above 0 and at most {_MOST_ALPHA:g}")
    return (SearchedCompeft if density is None or alpha is None else Compeft)(density, alpha)


class Compeft:
    """Signs of the largest values and one scale; see the module.

    Args:
        density: k; None: it may be any of `DENSITIES`, and is 0.2 where nothing is searched.
        alpha: α; None: where nothing is searched, that of least squared error.
    """

    def __init__(self, density: float | None, alpha: float | None) -> None:
        told = [] if density is None else [f"{density:g}"]
        told += [] if alpha is None else [f"{alpha:g}" if told else f"alpha={alpha:g}"]
        self.name = f"compeft({','.join(told)})" if told else "compeft"
        self.densities = DENSITIES if density is None else (density,)
        self.alpha = alpha
        self._levels = tuple(TopK(_SIGN, share) for share in self.densities)
        self._middle = len(self.densities) // 2

    def encode(self, values: FloatArray) -> bytes:
        """See `Codec.encode`."""
        return self.through(values)[0]

    def through(self, values: FloatArray) -> tuple[bytes, FloatArray]:
        """See `codecs.base.through`."""
        kept = self._kept(self._middle, values)
        scale = kept.mean if self.alpha is None else _scale(self.alpha, deviation(values))
        return kept.body(scale), kept.decoded(scale)

    def decode(self, body: bytes, size: int) -> FloatArray:
        """See `Codec.decode`."""
        if not body or body[0] >= len(self._levels):
            found = f"density {body[0]}" if body else "no bytes"
            raise MalformedPayload(self.name, found, allowed=f"a density below {len(self._levels)}")
        with inside(self.name):
            return self._levels[body[0]].decode(body[1:], size)

    def max_bytes(self, size: int) -> int:
        """See `Codec.max_bytes`."""
        return 1 + max(level.max_bytes(size) for level in self._levels)

    def nominal_bytes(self, size: int) -> int:
        """See `Codec.nominal_bytes`: of what is sent unsearched."""
        return 1 + self._levels[self._middle].nominal_bytes(size)

    def _kept(self, level: int, values: FloatArray) -> _Kept:
        """The largest values at one density; only their scale is left to choose."""
        topk = self._levels[level]
        body = topk.encode(values)
        place = len(body) - _SIGN.max_bytes(topk.count(values.size))  # of the scale: it leads what `sign` writes
        (mean,) = struct.unpack_from("<f", body, place)
        head, tail = bytes([level]) + body[:place], body[place + 4 :]
        signs = topk.decode(_with_scale(body[:place], 1.0, tail), values.size)
        return _Kept(head, tail, signs, mean)


class SearchedCompeft(Compeft):
    """The same where k, α or both are left open."""

    @property
    def alphas(self) -> Sequence[float]:
        """What α is chosen of, rising."""
        return ALPHAS if self.alpha is None else (self.alpha,)

    @property
    def looks(self) -> int:
        """See `SearchingCodec.looks`."""
        return min(3, len(self.alphas)) * len(self.densities)

    def search(self, values: FloatArray, judge: Judge, *, owed: bool) -> Found:
        """See `SearchingCodec.search`."""
        sigma = deviation(values)
        least, place, found = math.inf, -1, None
        for level, density in enumerate(self.densities):
            kept = self._kept(level, values)
            scales = [_scale(alpha, sigma) for alpha in self.alphas]
            scales = [scale for scale in scales if not owed or scale <= 2 * kept.mean]
            if not scales:
                continue
            if place < 0:
                place = int(np.argmin([abs(scale - kept.mean) for scale in scales]))
            place, cost = downhill(_costs(kept, scales, judge), len(scales), min(place, len(scales) - 1))
            if cost < least:
                scale, least = scales[place], cost
                choice = {"density": density, "alpha": self.alphas[place]}
                found = Found(kept.body(scale), kept.decoded(scale), choice)
        return found or self._unsearched(values, sigma)

    def _unsearched(self, values: FloatArray, sigma: float) -> Found:
        body, decoded = self.through(values)
        scale = float(np.abs(decoded).max(initial=0))
        return Found(body, decoded, {"density": self.densities[self._middle], "alpha": scale / sigma if sigma else 0.0})


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    """All of a body but its scale."""

    head: bytes
    tail: bytes
    signs: FloatArray  # +1 and −1 where a value is kept, else 0, shape (d,)
    mean: float  # m, the mean magnitude of what is kept

    def body(self, scale: float) -> bytes:
        return _with_scale(self.head, scale, self.tail)

    def decoded(self, scale: float) -> FloatArray:
        return self.signs * np.float32(scale)


def deviation(values: FloatArray) -> float:
    """σ, about 0; in units of the largest value, so that no square overflows or vanishes."""
    largest = float(np.abs(values).max(initial=0))
    return largest * float(np.sqrt(np.mean(np.square(values / largest, dtype=np.float64)))) if largest else 0.0


def downhill(cost: Callable[[int], float], count: int, start: int) -> tuple[int, float]:
    """The place from which both neighbours cost no less, and its cost; of two neighbours the cheaper is taken.

    Args:
        cost: of each of `count` places; asked once for a place.
        count: 1 or more.
        start: where to begin.

    >>> asked = []
    >>> downhill(lambda place: asked.append(place) or (place - 5) ** 2, 9, 3), asked
    ((5, 0), [3, 2, 4, 5, 6])
    """
    known: dict[int, float] = {}

    def of(place: int) -> float:
        if place not in known:
            known[place] = cost(place)
        return known[place]

    here, last = start, of(start)
    while True:
        near = [place for place in (here - 1, here + 1) if 0 <= place < count]
        best = min(near, key=of, default=here)
        if not of(best) < last:
            return here, last
        here, last = best, of(best)


def _costs(kept: _Kept, scales: Sequence[float], judge: Judge) -> Callable[[int], float]:
    def cost(place: int) -> float:
        found = judge(kept.decoded(scales[place]))
        return found if math.isfinite(found) else math.inf

    return cost


def _scale(alpha: float, sigma: float) -> float:
    """α σ as fp32 has it, finite."""
    return float(np.float32(min(alpha * sigma, _LARGEST)))


def _with_scale(head: bytes, scale: float, tail: bytes) -> bytes:
    return head + struct.pack("<f", scale) + tail
