"""What an update adds to the step that its cohort agrees on: the gain that arms are judged by.

Of client k with delta Δ_k and weight w_k, among those whose replies a commit folds in,

    gain_k = ⟨Δ_k, m_k⟩ / ‖m_k‖,      m_k = Σ_{j ∈ W, j ≠ k} w_j Δ_j

is the length of Δ_k along what the others want. Their noise and their own data's taste point everywhere and cancel;
what all have in common adds up. W are those that trained the whole model, for a pruned client's update is the gradient
of another function: pruned clients agree with each other more than with anybody's progress. Where fewer than two are
whole, all are W.

A client's training loss says much less: between its first and its last batch lie other examples. On Banking77 (80
clients, steps of 8 questions, arms drawn at random) the fall of the loss had no relation to steps, rank or pruning that
480 replies could show; this gain was 4 times as large for 8 steps as for 2, and 0.4 as large for clients that were
pruned by half, as is the progress of runs in which all are (simulations/SCHEDULING.md). And it is of the delta as
decoded, so what a codec loses counts.

It is taken on `SAMPLE` coordinates drawn from the run's seed, 64 kB a client, scaled to all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fedpeft.randomness.streams import Stream, derive
from fedpeft.types import FloatArray

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


def alignments(
    deltas: Sequence[FloatArray], weights: Sequence[float], whole: Sequence[bool], size: int
) -> list[float | None]:
    """Each client's gain; None where there is nobody to agree with.

    Args:
        deltas: at the sampled coordinates, shape (n,) each, in an order that does not depend on arrival.
        weights: w_k > 0.
        whole: whether it trained the whole model.
        size: d.
    """
    if not len(deltas):
        return []
    some = sum(whole) >= 2
    agreed = np.zeros(len(deltas[0]))
    for delta, weight, full in zip(deltas, weights, whole, strict=True):
        if full or not some:
            agreed += weight * delta.astype(np.float64)
    scale = math.sqrt(size / max(1, len(agreed)))
    found: list[float | None] = []
    for delta, weight, full in zip(deltas, weights, whole, strict=True):
        own = delta.astype(np.float64)
        others = agreed - weight * own if full or not some else agreed
        length = float(np.linalg.norm(others))
        found.append(scale * float(own @ others) / length if length > 0 else None)
    return found
