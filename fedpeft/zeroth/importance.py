"""Which directions are looked along more often: those along which the loss changed more (FedKSeed-Pro).

Qin et al. 2024, "Federated Full-Parameter Tuning of Billion-Sized Language Models with Communication Cost under 18
Kilobytes" (arXiv 2312.06353): with amp_j the mean |g| over all scalars of direction j, and temperature τ (the paper's
rule is τ = 1),

    p = softmax( τ · (amp − min amp) / (max amp − min amp) ),      so p_max / p_min = e^τ

What is published are amplitudes, as whole numbers on a scale of sixteenths of an octave: b = 16 · log2(amp) + 512, and
0 for a direction that this epoch has not used, which counts with the mean amplitude. (The authors' code begins each
history with a 0.0 instead, which halves the amplitude of a direction used once.) From there on everything is whole
numbers, so that a client draws what the coordinator draws: `simulations/DIRECTIONS.md` is the specification. A number
changes only when its direction was used, so that what clients are sent grows with what has happened.
"""

from __future__ import annotations

from decimal import Context, Decimal, localcontext
from functools import cache

import numpy as np
import numpy.typing as npt

MOST = 1 << 16
"""Directions that can be drawn so: a sum of so many weights, times 53 bits, is computed exactly in 64."""

HIGHEST = 1023
"""Of a published number."""

_STEPS = 16  # of an octave
_ONE = 512  # the number of amplitude 1
_OCTAVE = np.array(
    (
        *(1048576, 1004120, 961548, 920782, 881744, 844361, 808563, 774282),
        *(741455, 710020, 679917, 651091, 623487, 597053, 571740, 547500),
    ),
    dtype=np.int64,
)
"""2^(20 − i/16), rounded."""

Numbers = npt.NDArray[np.int64]


def numbers_of(sums: npt.NDArray[np.float64], counts: Numbers) -> Numbers:
    """What is published of amplitudes, shape (K,), from 0 to `HIGHEST`.

    Args:
        sums: of |g| along each direction, shape (K,).
        counts: how many scalars that were, shape (K,).
    """
    found = np.zeros(len(sums), dtype=np.int64)
    used = counts > 0
    with np.errstate(divide="ignore"):  # an amplitude of 0 is the lowest
        scale = np.rint(_STEPS * np.log2(sums[used] / counts[used])) + _ONE
    found[used] = np.clip(scale, 1, HIGHEST).astype(np.int64)
    return found


def weights_of(numbers: Numbers, temperature: float) -> Numbers:
    """How often each direction is drawn, up to a common factor, shape (K,): from 2^20 e^−τ to 2^20.

    Args:
        numbers: as they were published, shape (K,).
        temperature: τ.
    """
    table, used = _table(temperature), numbers > 0
    if not used.any():
        return np.full(len(numbers), table[0], dtype=np.int64)
    below = numbers.max() - numbers
    amplitudes = _OCTAVE[below % _STEPS] >> (below // _STEPS)
    amplitudes[~used] = amplitudes[used].sum() // used.sum()
    low = amplitudes.min()
    spread = max(int(amplitudes.max() - low), 1)
    found: Numbers = table[(255 * (amplitudes - low) + spread // 2) // spread]
    return found


def draw(numbers: Numbers, uniform: npt.NDArray[np.uint64], temperature: float) -> Numbers:
    """Directions, shape (n,): of each draw u the first j with u/2^53 < C_j / C_{K−1}, C the weights' running sums.

    Equal weights give ⌊u K / 2^53⌋.

    Args:
        numbers: as they were published, shape (K,), K <= `MOST`.
        uniform: u, shape (n,), below 2^53.
        temperature: τ.
    """
    sums = np.cumsum(weights_of(numbers, temperature)).astype(np.uint64)
    high, low = uniform >> np.uint64(26), uniform & np.uint64(2**26 - 1)
    scaled = (high * sums[-1] + (low * sums[-1] >> np.uint64(26))) >> np.uint64(27)  # ⌊u C_{K−1} / 2^53⌋
    found: Numbers = np.searchsorted(sums, scaled, side="right").astype(np.int64)
    return found


@cache
def _table(temperature: float) -> Numbers:
    """2^20 e^(τ (w/255 − 1)), rounded, for w from 0 to 255: in decimals, since libraries differ in exp's last bit."""
    with localcontext(Context(prec=50)):
        rate = Decimal(temperature)
        found = [(2**20 * (rate * (w - 255) / 255).exp()).to_integral_value() for w in range(256)]
    return np.array([int(value) for value in found], dtype=np.int64)
