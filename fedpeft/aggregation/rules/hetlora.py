"""HetLoRA's aggregation: zero-padded factors, weighted by the norm of what each client holds.

Cho et al. 2024, "Heterogeneous LoRA for Federated Fine-tuning of On-Device Foundation Models" (arXiv 2401.06432),
sparsity-weighted aggregation:

    w_k = ‖B_k A_k‖_F / Σ_j ‖B_j A_j‖_F,    A = Σ_k w_k pad(A_k),    B = Σ_k w_k pad(B_k)

As published it averages values, not differences, so zeros count: components above a small client's rank shrink in every
round that this client is asked in, though nobody trained them towards 0. Weights are taken layer by layer, and examples
do not count. In a round that only small clients answer, what lies above them would be 0 in both factors, with no
gradient ever after: there A starts again from its seeded values. The paper's pruning of a client's own rank is not
here: a device's rank is what the run file says.
"""

from __future__ import annotations

import numpy as np

from fedpeft.aggregation.factors import Factors, norm
from fedpeft.aggregation.rules.base import LayerRound, Mixed, Rule


class HetLoRA(Rule):
    """Zero-padding and norm weights; equal weights where all products are 0."""

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
