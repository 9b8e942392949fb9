"""FedEx-LoRA: the plain means of the factors, and what their product lacks of the mean product is merged.

Singhal et al. 2024, "FedEx-LoRA: Exact Aggregation for Federated and Efficient Fine-Tuning of Foundation Models" (arXiv
2410.09432):

    Ā = Σ_k p_k A_k,    B̄ = Σ_k p_k B_k,    ΔW_res = Σ_k p_k B_k A_k − B̄ Ā,    W_0 ← W_0 + ΔW_res

Here no base is changed. What was merged so far, M, is held by components of each layer that take part in the forward
pass and that nobody trains (`adapter.merged` of them, e):

    M' = [B A + M + D − B̄ Ā]_e,    D = Σ_k p_k (B_k A_k − B̂_k Â_k)

which is the paper's sum where nothing is cut off, and knows what to do with clients of smaller ranks: their differences
count. As ΔW_res of a round has up to Σ_k r_k + r components, M of few is an approximation from the first rounds on; the
journal tells what it leaves out.

Transmits what plain averaging does upwards; downwards the merged components too, e (m + n) values a layer.
"""

from __future__ import annotations

from fedpeft.aggregation.factors import Factors, leading, stacked
from fedpeft.aggregation.rules.base import LayerRound, Mixed, Rule


class FedEx(Rule):
    """Means in front, the rest of the mean product merged."""

    merges = "must"
    partial = True

    def mix(self, layer: LayerRound, residual: Factors | None = None) -> Mixed:
        """See `Rule.mix`."""
        head = layer.trainable(layer.stepped)
        rest = stacked([layer.exact, head.scaled(-1.0)])
        return Mixed(layer.with_merged(head, leading(rest, layer.merged)))
