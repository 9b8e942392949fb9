"""FedBuff: the server's step over a buffer of updates, each scaled by its staleness.

Nguyen et al. 2022, "Federated Learning with Buffered Asynchronous Aggregation" (arXiv 2106.06639), Algorithm 1, with
server learning rate η_g, server momentum β (as in the paper's experiments), and s(τ) of `round.staleness`:

    Δ̄_t = (1/K) Σ_k s(τ_k) Δ_k,      v_t = β v_{t−1} + Δ̄_t,      θ_{t+1} = θ_t + η_g v_t

The paper counts all clients the same; here each counts with its examples n_k, as everywhere else, unless `uniform`:

    Δ̄_t = Σ_k n_k s(τ_k) Δ_k / Σ_k n_k

What sets it apart from FedAvg in an asynchronous run is the denominator: it has no s(τ). FedAvg's mean is as long as
its deltas however stale they are; here a stale buffer makes a shorter step. With s = 1, as in a synchronous run, it is
FedAvgM, and with β = 0 and η_g = 1 FedAvg, bit by bit.

Transmits what FedAvg does. State between rounds: v, 4d bytes.
"""

from __future__ import annotations

import math

import numpy as np

from fedpeft.strategies.fedavgm import FedAvgM
from fedpeft.types import FloatArray, Update


class FedBuff(FedAvgM):
    """FedAvg over a buffer, damped by staleness.

    Args:
        learning_rate: η_g, > 0.
        momentum: β, in [0, 1).
        uniform: count every update the same, as in the paper, instead of by its examples.

    Raises:
        ValueError: a parameter out of its range.
    """

    def __init__(self, learning_rate: float = 1.0, momentum: float = 0.0, uniform: bool = False) -> None:
        super().__init__(momentum=momentum, learning_rate=learning_rate)
        if not isinstance(uniform, bool):
            raise ValueError(f"uniform = {uniform!r} must be true or false")
        self.uniform = uniform
        self._full: list[float] = []  # n_k, as the guard let it pass
        self._folded: list[float] = []  # n_k s(τ_k)

    def begin(self, theta: FloatArray) -> None:
        """See `Strategy.begin`."""
        super().begin(theta)
        self._full, self._folded = [], []

    def accept(self, update: Update, weight: float) -> None:
        """See `Strategy.accept`."""
        full = 1.0 if self.uniform else update.weight
        folded = weight / update.weight if self.uniform else weight
        super().accept(update, folded)
        self._full.append(full)
        self._folded.append(folded)

    def step(self, theta: FloatArray, delta: FloatArray) -> FloatArray:
        """Scale the mean by Σ n_k s(τ_k) / Σ n_k, then step as FedAvgM does. Sums in any order have the same bits."""
        share = np.float32(math.fsum(self._folded) / math.fsum(self._full))
        return super().step(theta, delta if share == 1 else share * delta)
