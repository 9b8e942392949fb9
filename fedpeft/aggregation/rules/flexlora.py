"""FlexLoRA: the mean of the clients' products, formed densely, and its best part by an SVD.

Bai et al. 2024, "Federated Fine-tuning of Large Language Models under Heterogeneous Tasks and Client Resources"
(arXiv 2402.11505), with p_k = n_k/n:

    W = Σ_k p_k B_k A_k = U Σ V^T,    B = U_r Σ_r,    A = V_r^T

Exact but for the cut at r, if all clients have the same rank. Where ranks differ it is a mean of truncated products, so
what lies above a small client's rank fades with every round that this client is asked in. Time and memory are those of
an SVD of a whole m × n matrix for each layer and round; `exact-mix` does neither, and this is the reference it is timed
against.
"""

from __future__ import annotations

import numpy as np

from fedpeft.aggregation.factors import Factors
from fedpeft.aggregation.rules.base import LayerRound, Mixed, Rule


class FlexLoRA(Rule):
    """The best rank-r part of the mean product."""

    turns_basis = True

    def mix(self, layer: LayerRound, residual: Factors | None = None) -> Mixed:
        """See `Rule.mix`."""
        u, s, vt = np.linalg.svd(layer.products().dense(), full_matrices=False)
        rank = layer.state.left.shape[1]
        kept = min(rank, s.size)
        factors = Factors(np.zeros_like(layer.state.left), layer.seeded.copy())
        factors.left[:, :kept], factors.right[:kept] = u[:, :kept] * s[:kept], vt[:kept]
        return Mixed(factors)
