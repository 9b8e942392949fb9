"""FedProx: FedAvg whose clients are held near the point that the round started from.

Li et al. 2020, "Federated Optimization in Heterogeneous Networks" (arXiv 1812.06127), equation (2): client k minimises,
inexactly,

    h_k(w; w^t) = F_k(w) + μ/2 ‖w − w^t‖²

The server half is FedAvg's. The client half is the local objective "proximal", told to each client in its plan; a
client that lacks it is refused before the round. With μ = 0 this is FedAvg, bit by bit.

Transmits what FedAvg does, and one number (μ) in the plan. State between rounds: none.
"""

from __future__ import annotations

from fedpeft.strategies.fedavg import FedAvg
from fedpeft.strategies.parameters import number


class FedProx(FedAvg):
    """FedAvg with a proximal term on the clients.

    Args:
        mu: strength μ >= 0 of the proximal term. The paper tunes over 0.001, 0.01, 0.1, 1.

    Raises:
        ValueError: μ is negative or not finite.
    """

    objective = "proximal"

    def __init__(self, mu: float = 0.01) -> None:
        super().__init__()
        self.objective_params = {"mu": number("mu", mu, least=0)}
