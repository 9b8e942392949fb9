"""Whether what a codec owes grows: error feedback tried out on a small vector, before a run.

With p_t = Δ_t + e_t and e_{t+1} = p_t − C(p_t) a codec that never loses more than there is, ‖x − C(x)‖ ≤ ‖x‖, owes no
more than if nothing had been sent: for independent Δ_t

    E ‖e_T‖² ≤ E ‖Δ_1 + ... + Δ_T‖²

A codec that sends too far, `relax(1.9)+uniform(2)+zstd`, `compeft(0.5,3)`, loses more than there is. What it owes then
leaves that behind, mostly by the same factor in each round: the deltas drown in it. One vector coded once does not
tell, since what is owed is not distributed as a delta is: so the recursion itself is run, on Gaussian Δ_t.
"""

from __future__ import annotations

import numpy as np

from fedpeft.codecs.base import Codec, fitted
from fedpeft.codecs.feedback import compensate
from fedpeft.types import Layout, TensorSpec

ROUNDS = 40
_ENOUGH = 1e3

_SHAPES = ((64, 16), (16, 48), (256,))  # as a LoRA layer's factors and a bias, so that codecs of matrices have some
_ENDS = np.cumsum([int(np.prod(shape)) for shape in _SHAPES]).tolist()
_TENSORS = tuple(
    TensorSpec(f"tensor{place}", shape, end - int(np.prod(shape)))
    for place, (shape, end) in enumerate(zip(_SHAPES, _ENDS, strict=True))
)
_LAYOUT = Layout(_TENSORS, _ENDS[-1], "")


def growth(codec: Codec, rounds: int = ROUNDS) -> float:
    """‖e_T‖ / ‖Δ_1 + ... + Δ_T‖: 1 if nothing had been sent, little for a codec of small error.

    Args:
        codec: not fitted; here it is, to two matrices and a vector of 2,048 values in all.
        rounds: T; fewer are run once 1,000 is passed.

    Raises:
        PluginError: nothing can be made of such tensors, e.g. a budget that is too small for them.
    """
    own, draws = fitted(codec, _LAYOUT), np.random.default_rng(0)
    owed = np.zeros(_LAYOUT.size, dtype=np.float32)
    meant, found = np.zeros(_LAYOUT.size), 0.0
    for _ in range(rounds):
        delta = draws.standard_normal(_LAYOUT.size).astype(np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            _, owed = compensate(own, delta, owed)
            meant += delta
            found = float(np.linalg.norm(owed.astype(np.float64)) / np.linalg.norm(meant))
        if not found <= _ENOUGH:  # or no number
            return max(found, _ENOUGH) if np.isfinite(found) else float("inf")
    return found


def lost_at_once(codec: Codec) -> float:
    """‖x − C(x)‖ / ‖x‖ of the same kind of vector: 1 or more is a reason to look at `growth`.

    Raises:
        PluginError: as `growth`.
    """
    return growth(codec, rounds=1)
