"""HetLoRA: zero-padded factors, weighted by the norm of what each client holds, of clients that may give up rank.

Cho et al. 2024, "Heterogeneous LoRA for Federated Fine-tuning of On-Device Foundation Models" (arXiv 2401.06432),
sparsity-weighted aggregation:

    w_k = ‖B_k A_k‖_F / Σ_j ‖B_j A_j‖_F,    A = Σ_k w_k pad(A_k),    B = Σ_k w_k pad(B_k)

As published it averages values, not differences, so zeros count: components above a small client's rank shrink in every
round that this client is asked in, though nobody trained them towards 0. Weights are taken layer by layer, and examples
do not count. In a round that only small clients answer, what lies above them would be 0 in both factors, with no
gradient ever after: there A starts again from its seeded values. With `decay` below 1 a client's rank falls as its last
components shrink: `RankDecay` has the equations.
"""

from __future__ import annotations

import numpy as np

from fedpeft.aggregation.factors import Factors, norm
from fedpeft.aggregation.rules.base import LayerRound, Mixed, Rule
from fedpeft.aggregation.rules.rank_decay import RankDecay


class HetLoRA(Rule):
    """Zero-padding and norm weights; equal weights where all products are 0.

    Args:
        decay: γ in (0, 1], of a client's rank where its last components shrink; 1: ranks are what the run file says,
            and the other two count for nothing. The paper has 0.99.
        regularisation: λ >= 0, of the term in each client's loss that shrinks them.
        min_rank: r_min >= 1: what no rank falls below.

    Raises:
        ValueError: a parameter out of its range.
    """

    def __init__(self, decay: float = 1.0, regularisation: float = 0.01, min_rank: int = 1) -> None:
        given = RankDecay(decay, regularisation, min_rank)
        self.rank_decay = given if decay < 1 else None

    def mix(self, layer: LayerRound, residual: Factors | None = None) -> Mixed:
        """See `Rule.mix`."""
        held = []
        for client in layer.trained:
            start = layer.start(client)
            held.append(Factors(start.left + client.delta.left, start.right + client.delta.right))
        norms = np.array([norm(own) for own in held])
        weights = norms / norms.sum() if norms.any() else np.full(len(held), 1.0 / len(held))
        mean = Factors(np.zeros_like(layer.state.left), np.zeros_like(layer.state.right))
        for weight, own in zip(weights, held, strict=True):
            mean.left[:, : own.left.shape[1]] += weight * own.left
            mean.right[: own.right.shape[0]] += weight * own.right
        dead = ~(mean.right.any(axis=1) | mean.left.any(axis=0))
        mean.right[dead] = layer.seeded[dead]
        return Mixed(mean)
