"""What an update adds to the step that its cohort agrees on: the gain that arms are judged by.

Of client k with delta Δ_k and weight w_k, among those whose replies a commit folds in,

    gain_k = ⟨Δ_k, m_k⟩ / ‖m_k‖,      m_k,i = Σ_j ŵ_j Δ̂_j,i / Σ_j ŵ_j      over j ∈ W, j ≠ k, that hold coordinate i
    Δ̂_j = Δ_j min(1, N / ‖Δ_j‖),      ŵ_j = min(w_j, w̄)

is the length of Δ_k along what the others want. Their noise and their own data's taste point everywhere and cancel;
what all have in common adds up. A coordinate that few train, of a high rank, counts as much as one that all train. W
are those that trained the whole model, for a pruned client's update is the gradient of another function: pruned clients
agree with each other more than with anybody's progress. Where nobody else trained the whole model there is no gain to
be told: a scheduler that lets pruned clients judge each other prunes ever more.

N and w̄ are the medians over W of ‖Δ_j‖ (of updates that are not 0) and of w_j; of an even number the lower. A judge
speaks no louder than a usual one, however long an update it sends and however many examples it claims: m is told by its
direction alone, so honest updates lose nothing by it. One liar among n judges thus unsays what one other says. What it
cannot be kept from is praising its own arm: its own gain is of its update as it is.

A client's training loss says much less: between its first and its last batch lie other examples. Of 544 replies to arms
drawn at random on Banking77, this gain told steps, rank and pruning apart and the fall of the loss none of them: the
table and its commands are in simulations/SCHEDULING.md. And it is of the delta as decoded, so what a codec loses
counts.

It is taken on `SAMPLE` coordinates drawn from the run's seed, 64 kB a client, scaled to all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median_low

import numpy as np
import numpy.typing as npt

from fedpeft.randomness.streams import Stream, derive
from fedpeft.types import FloatArray

Numbers = npt.NDArray[np.float64]

SAMPLE = 16_384


def sampled(size: int, seed: int) -> npt.NDArray[np.int64]:
    """Coordinates of a vector to look at, ascending; all of a short one.

    Args:
        size: d.
        seed: of the run.
    """
    if size <= SAMPLE:
        return np.arange(size)
    drawn = Stream(derive(seed, "alignment")).uniform(SAMPLE)
    return np.unique((drawn * size).astype(np.int64))


@dataclass(frozen=True, slots=True)
class Look:
    """What alignment sees of an update."""

    delta: FloatArray  # at the sampled coordinates, shape (n,)
    weight: float  # w_k > 0
    whole: bool  # whether it is of the whole model, or as much of it as any arm trains
    holds: npt.NDArray[np.bool_] | None = None  # which of the coordinates it was trained at; None: all


def alignments(looks: Sequence[Look], size: int) -> list[float | None]:
    """Each client's gain, a length as ‖Δ‖ is; None where no other trained the whole model, or none of them moved.

    Args:
        looks: in an order that does not depend on arrival.
        size: d.
    """
    if not looks:
        return []
    count = len(looks[0].delta)
    sums, weights, holders = (np.zeros(count) for _ in range(3))
    bound = _Bound([one for one in looks if one.whole])
    for one in looks:
        if one.whole:
            bound.add(one, 1.0, sums, weights, holders)
    scale = math.sqrt(size / max(1, count))
    found: list[float | None] = []
    for one in looks:
        parts = sums, weights, holders
        if one.whole:
            parts = sums.copy(), weights.copy(), holders.copy()
            bound.add(one, -1.0, *parts)
        wanted = np.divide(parts[0], parts[1], out=np.zeros(count), where=parts[2] > 0.5)
        length = float(np.linalg.norm(wanted))
        found.append(scale * float(one.delta.astype(np.float64) @ wanted) / length if length > 0 else None)
    return found


class _Bound:
    """How much one judge may say: N and w̄.

    Args:
        judges: W.
    """

    def __init__(self, judges: Sequence[Look]) -> None:
        lengths = [length for one in judges if (length := _length(one)) > 0]
        self.length = median_low(lengths) if lengths else 0.0
        self.weight = median_low([one.weight for one in judges]) if judges else 0.0

    def add(self, one: Look, sign: float, sums: Numbers, weights: Numbers, holders: Numbers) -> None:
        """Count a judge in, or out again."""
        holds = np.ones(len(sums)) if one.holds is None else one.holds.astype(np.float64)
        weight, length = min(one.weight, self.weight), _length(one)
        shorter = min(1.0, self.length / length) if length > 0 else 1.0
        sums += sign * weight * shorter * one.delta
        weights += sign * weight * holds
        holders += sign * holds


def _length(one: Look) -> float:
    return float(np.linalg.norm(one.delta.astype(np.float64)))
