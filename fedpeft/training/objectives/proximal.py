"""FedProx's local objective: stay near the point the round started from.

Li et al. 2020, "Federated Optimization in Heterogeneous Networks" (arXiv 1812.06127), equation (2):

    h_k(w; w^t) = F_k(w) + μ/2 ‖w − w^t‖²,    ∇h_k = ∇F_k + μ (w − w^t)
"""

from __future__ import annotations

import torch


class Proximal:
    """Add μ (w − w^t) to the gradient.

    Args:
        mu: strength μ ≥ 0; 0 is plain training.

    Raises:
        ValueError: μ is negative.
    """

    def __init__(self, mu: float) -> None:
        if not mu >= 0:
            raise ValueError(f"mu = {mu} must be 0 or more")
        self.mu = mu

    def add_gradient(self, gradient: torch.Tensor, theta: torch.Tensor, start: torch.Tensor) -> None:
        """See `Objective.add_gradient`."""
        gradient.add_(theta - start, alpha=self.mu)
