"""Elastic net on the way from θ: FedProx with an L1 term, so that clients leave alone what hardly helps them.

Li et al. 2020, "Federated Optimization in Heterogeneous Networks" (arXiv 1812.06127), equation (2), holds client k near
the round's start w^t with a squared distance. Zou and Hastie 2005, "Regularization and Variable Selection via the
Elastic Net", add the L1 norm to a squared one; here both are of the way that the client goes:

    h_k(w; w^t) = F_k(w) + λ ‖w − w^t‖₁ + μ/2 ‖w − w^t‖²,      ∇h_k ∋ ∇F_k + λ sign(w − w^t) + μ (w − w^t)

A coordinate whose gradient is smaller than λ goes to and fro around its start: its delta is close to 0, and a delta of
few large coordinates is what a sparse codec sends in few bytes. λ = 0 is FedProx, λ = μ = 0 is FedAvg, bit by bit.

This file holds both halves. `ElasticNet` goes to the clients by name, with λ and μ in their plans; a client needs this
very file beside its run file, where the same path names it, and is refused before the round when its file differs.

Transmits what FedAvg does, and two numbers in the plan. State between rounds: none, on either side.

In a run file: `strategy = { name = "../strategies/elastic_net.py:FedElasticNet", l1 = 1e-4, mu = 0.01 }`
"""

from __future__ import annotations

import torch

from fedpeft.strategies import FedAvg
from fedpeft.strategies.parameters import number


class FedElasticNet(FedAvg):
    """The server half: FedAvg that tells its clients λ and μ.

    Args:
        l1: λ >= 0; of the size of a gradient's coordinate, 1e-4 is small for LoRA.
        mu: μ >= 0, as in FedProx.

    Raises:
        ValueError: one of them is negative or not finite.
    """

    objective = "elastic_net.py:ElasticNet"  # relative to this file

    def __init__(self, l1: float = 1e-4, mu: float = 0.01) -> None:
        super().__init__()
        self.objective_params = {"l1": number("l1", l1, least=0), "mu": number("mu", mu, least=0)}


class ElasticNet:
    """The client half: adds λ sign(w − w^t) + μ (w − w^t) to the gradient.

    Args:
        l1: λ >= 0.
        mu: μ >= 0.
    """

    def __init__(self, l1: float, mu: float) -> None:
        self.l1, self.mu = l1, mu

    def add_gradient(self, gradient: torch.Tensor, theta: torch.Tensor, start: torch.Tensor) -> None:
        """See `fedpeft.training.objectives.Objective.add_gradient`; sign(0) is 0, so the first step is free."""
        way = theta - start
        gradient.add_(way, alpha=self.mu).add_(way.sign(), alpha=self.l1)
