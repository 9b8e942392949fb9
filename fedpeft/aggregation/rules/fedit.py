"""FedIT: A and B are averaged each by itself, as any strategy does that knows nothing of LoRA.

Zhang et al. 2023, "Towards Building the Federated GPT: Federated Instruction Tuning" (arXiv 2305.05644): with p_k =
n_k/n

    Ā = Σ_k p_k A_k,    B̄ = Σ_k p_k B_k

The product of the means is not the mean of the products, B̄ Ā ≠ Σ_k p_k B_k A_k: what is missing is the covariance Σ_k
p_k (B_k − B̄)(A_k − Ā), which grows with local steps and with the difference between clients. Here on differences from
what each client was sent, so a component that a client of a smaller rank lacks is left as it was by that client; but
the others' change of it still counts for their share p_k only.

This rule is the strategy's own step, bit by bit; naming it makes the run measure what that loses.
"""

from __future__ import annotations

from fedpeft.aggregation.factors import Factors
from fedpeft.aggregation.rules.base import LayerRound, Mixed, Rule


class FedIT(Rule):
    """The strategy's own step along the mean of the factors."""

    any_step = True
    partial = True

    def mix(self, layer: LayerRound, residual: Factors | None = None) -> Mixed:
        """See `Rule.mix`."""
        return Mixed(layer.stepped)
