"""FLoRA: clients' factors are stacked and merged, and every round trains a fresh pair.

Wang et al. 2024, "FLoRA: Federated Fine-Tuning Large Language Models with Heterogeneous Low-Rank Adaptations" (arXiv
2409.05976):

    B = [p_1 B_1, ..., p_K B_K],  A = [A_1; ...; A_K],    W_0 ← W_0 + B A = W_0 + Σ_k p_k B_k A_k

and all clients begin the next round with factors drawn anew. Here no base is changed. What was merged so far, M, is
held by components of each layer that take part in the forward pass and that nobody trains (`adapter.merged` of them,
e), so of all that rounds ever stacked the best part of rank e stays:

    M' = [B A + M + Σ_k p_k (B_k A_k − B̂_k Â_k)]_e,    A' = A_0, B' = 0

A' is the seeded A of the untrained adapter in every round, which all sides derive.

Transmits what plain averaging does upwards; downwards the merged components, e (m + n) values a layer. (The paper sends
the stack to everybody, Σ_k r_k (m + n).)
"""

from __future__ import annotations

import numpy as np

from fedpeft.aggregation.factors import Factors, leading
from fedpeft.aggregation.rules.base import LayerRound, Mixed, Rule


class FLoRA(Rule):
    """All that was learnt is merged; the pair begins anew."""

    merges = "must"
    turns_basis = True
    restarts = True
    partial = True

    def mix(self, layer: LayerRound, residual: Factors | None = None) -> Mixed:
        """See `Rule.mix`."""
        fresh = layer.trainable(Factors(np.zeros_like(layer.state.left), layer.seeded))
        return Mixed(layer.with_merged(fresh, leading(layer.exact, layer.merged)))
