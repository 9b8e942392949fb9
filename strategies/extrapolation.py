"""FedExP: the server steps further along the mean delta, the more the clients disagree.

Jhunjhunwala, Wang and Joshi 2023, "FedExP: Speeding up Federated Averaging via Extrapolation" (arXiv 2301.09604),
Algorithm 1, with M the number of replies and Δ̄ their unweighted mean:

    η_g = max( 1,  Σ_k ‖Δ_k‖² / (2 M (‖Δ̄‖² + ε)) ),      θ_{t+1} = θ_t + η_g Δ̄

Deltas that point all the same way have Σ‖Δ_k‖² = M ‖Δ̄‖², hence η_g = 1: FedAvg. Where they cancel one another, ‖Δ̄‖²
is a small part of that, and the step grows. Near the optimum of clients that want different things Δ̄ goes to 0 while
the Δ_k do not, and only ε keeps the step from growing without bound: the paper tunes it, in units of ‖Δ̄‖². Should the
last rounds swing to and fro, raise it.

The equation takes it that all Δ_k start from θ_t: then it is the clients that disagree. Stale ones also differ by where
they started, and would stretch the step for that, so this is no rule for asynchronous rounds. A late reply that
`round.late` folds in counts by its discount s_k throughout: Σ s_k ‖Δ_k‖², M = Σ s_k, Δ̄ = Σ s_k Δ_k / M.

Transmits what FedAvg does. Memory: FedAvg's; of each delta its squared norm is kept. State between rounds: none.

In a run file: `strategy = { name = "../strategies/extrapolation.py:FedExP", epsilon = 1e-3 }`
"""

from __future__ import annotations

import math

import numpy as np

from fedpeft.aggregation.guard import l2_norm
from fedpeft.strategies import FedAvg
from fedpeft.strategies.parameters import number
from fedpeft.types import FloatArray, Update


class FedExP(FedAvg):
    """FedAvg, unweighted, with an extrapolated step.

    Args:
        epsilon: ε > 0, in units of a squared norm.
        largest: η_g is cut to this, >= 1; the paper has no limit.

    Raises:
        ValueError: a parameter out of its range.
    """

    asynchronous = False
    partial = False  # ‖Δ_k‖² of a client that holds a part is not to be compared with ‖Δ̄‖² of the whole

    def __init__(self, epsilon: float = 1e-3, largest: float = 100.0) -> None:
        super().__init__()
        self.epsilon = number("epsilon", epsilon, above=0)
        self.largest = number("largest", largest, least=1)
        self._squares: list[float] = []  # s_k ‖Δ_k‖² of this round
        self._shares: list[float] = []  # s_k: 1, or the discount of a late reply

    def begin(self, theta: FloatArray) -> None:
        """See `Strategy.begin`."""
        super().begin(theta)
        self._squares, self._shares = [], []

    def accept(self, update: Update, weight: float) -> None:
        """Fold the delta, one client as much as another, and note its length."""
        share = weight / update.weight
        super().accept(update, share)
        self._squares.append(share * l2_norm(update.delta) ** 2)
        self._shares.append(share)

    def step(self, theta: FloatArray, delta: FloatArray) -> FloatArray:
        """θ + η_g Δ̄; `math.fsum` makes η_g the same in any order of arrival."""
        mean_square = math.fsum(self._squares) / math.fsum(self._shares)
        spread = mean_square / (2 * (l2_norm(delta) ** 2 + self.epsilon))
        eta = np.float32(min(max(1.0, spread), self.largest))
        return theta + eta * delta
