"""What arms gain, learned from replies of all device classes together: a Gaussian process over the grid.

What an arm gains depends on the model and the data, hardly on who computes it, so all classes learn one G(a). A reply
is a noisy look at it, y_i = S_t G(a_i) + noise, with S_t what a usual arm gains in that round: gains shrink as the
model learns. G is a guess times what the replies say of it,

    G(a) = g(a) r(a),      g(a) = steps^p · rank^q · (1 - pruning)^s,      r ~ GP(1, A² k)

    k(a, a') = exp(-½ (¼ (log₂ steps/steps')² + ¼ (log₂ rank/rank')² + 4 (pruning - pruning')²)) · ½^[codec ≠ codec']

so arms that are alike learn from each other, and what was never tried is taken for what the guess says. Where its
exponents come from and what it is worth stands in simulations/SCHEDULING.md.

S_t minimises Σ_i |y_i - S G(a_i)|, a median of y / G weighted by G, and a look counts as no more than 3 σ off: one
reply, however mad, is one of many. Only n(a) and Σ y / S_t of each arm are kept, fading by ρ with every reply; the
posterior of r is a linear system of size K (Rasmussen and Williams 2006, 2.25 and 2.26), and σ² of the noise is the
mean square of what it leaves unexplained.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fedpeft.scheduling.arms import Grid

Numbers = npt.NDArray[np.float64]

AMPLITUDE = 0.7
"""A: how wrong the guess may be; a factor between a third and three is within two deviations."""

SMOOTHING = 0.5
"""Of S_t: the weight of the newest commit."""

FAR = 3.0
"""A look that is more than so many σ off counts as so many."""

GUESS = (0.9, 0.5, 1.5)
"""(p, q, s) unless told otherwise."""


class PaceGains:
    """Expected gains of arms, relative to each other.

    Args:
        grid: the arms.
        discount: ρ in (0, 1].
        exponents: (p, q, s) of the guess; zeros guess nothing.
    """

    def __init__(self, grid: Grid, discount: float, exponents: tuple[float, float, float] = GUESS) -> None:
        self.discount = discount
        ranks = np.array([float(arm.rank) for arm in grid.arms])
        steps = np.array([float(arm.steps) for arm in grid.arms])
        kept = np.array([1.0 - arm.pruning for arm in grid.arms])
        codecs = np.array([grid.codecs.index(arm.codec) for arm in grid.arms])
        p, q, s = exponents
        self.guess: Numbers = steps**p * ranks**q * kept**s
        self.guess /= self.guess.mean()
        far = (_apart(np.log2(steps)) / 2) ** 2 + (_apart(np.log2(ranks)) / 2) ** 2 + (_apart(kept) / 0.5) ** 2
        self._kernel = AMPLITUDE**2 * np.exp(-0.5 * far) * np.where(_apart(codecs) == 0, 1.0, 0.5)
        self.mean = self.guess.copy()  # of G
        self.deviation = AMPLITUDE * self.guess  # of what is not known of G
        self._counts = np.zeros(len(ranks))  # n(a)
        self._sums = np.zeros(len(ranks))  # Σ y / S
        self._scale = 0.0  # S; 0 before the first commit
        self._noise = 1.0  # σ²

    def add(self, places: Sequence[int], gains: Sequence[float]) -> None:
        """The replies of one commit: their arms, and y."""
        arms, y = np.array(places, dtype=np.intp), np.array(gains, dtype=np.float64)
        expected = self.mean[arms]
        scale = max(_median(y / expected, expected), 0.0)
        self._scale = scale if not self._scale else (1 - SMOOTHING) * self._scale + SMOOTHING * scale
        if self._scale <= 0.0:
            return
        far = FAR * math.sqrt(self._noise)
        looks = expected + np.clip(y / self._scale - expected, -far, far)
        left = float(np.mean((looks - expected) ** 2))
        self._noise = 0.8 * self._noise + 0.2 * left
        for place, look in zip(arms, looks, strict=True):
            self._counts *= self.discount
            self._sums *= self.discount
            self._counts[place] += 1.0
            self._sums[place] += look
        self.refit()

    def refit(self) -> None:
        """The posterior of G, from n(a) and Σ y / S."""
        seen = np.flatnonzero(self._counts > 0)
        if not len(seen):
            return
        guess, counts = self.guess[seen], self._counts[seen]
        means = self._sums[seen] / counts / guess  # of r
        noise = self._noise / counts / guess**2
        cross = self._kernel[:, seen]  # (K, seen)
        solved = np.linalg.solve(cross[seen] + np.diag(noise), np.column_stack([means - 1.0, cross.T]))
        ratio = 1.0 + cross @ solved[:, 0]
        spread = np.diag(self._kernel) - np.einsum("ks,sk->k", cross, solved[:, 1:])
        self.mean = self.guess * np.maximum(ratio, 0.01)
        self.deviation = self.guess * np.sqrt(np.maximum(spread, 0.0))

    def state(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "counts": self._counts.tolist(),
            "sums": self._sums.tolist(),
            "scale": self._scale,
            "noise": self._noise,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        self._counts, self._sums = np.array(state["counts"]), np.array(state["sums"])
        self._scale, self._noise = float(state["scale"]), float(state["noise"])
        self.refit()


def _median(values: Numbers, weights: Numbers) -> float:
    """The weighted median; in the middle of two where both are."""
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weights[order])
    half = 0.5 * below[-1]
    first, last = np.searchsorted(below, half, side="left"), np.searchsorted(below, half, side="right")
    return float(values[order][[first, min(last, len(values) - 1)]].mean())


def _apart(values: npt.NDArray[Any]) -> Numbers:
    """|x_i - x_j|, shape (K, K)."""
    apart: Numbers = np.abs(values[:, None] - values[None, :]).astype(np.float64)
    return apart
