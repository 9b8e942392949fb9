"""FedAvgM: FedAvg with momentum on the server.

Hsu et al. 2019, "Measuring the Effects of Non-Identical Data Distribution for Federated Visual Classification"
(arXiv 1909.06335), section 4.3, v ← βv + Δw and w ← w − v, where the paper's Δw is minus our mean delta
Δ_t = Σ_k (n_k/n) Δ_k:

    v_t = β v_{t−1} + Δ_t,    v_0 = 0
    θ_{t+1} = θ_t + η v_t

Δ_t enters undamped in every round (some codebases write (1 − β)Δ_t after the first round, which changes the step by
1 − β from round 2 on). So a steady Δ grows to a step of η/(1 − β) Δ: 10 Δ at the defaults. Lower η when that is too
long. β = 0 and η = 1 is FedAvg, bit by bit.

Transmits what FedAvg does. State between rounds: v, 4d bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fedpeft.strategies.base import State
from fedpeft.strategies.fedavg import FedAvg
from fedpeft.strategies.parameters import number
from fedpeft.types import FloatArray


class FedAvgM(FedAvg):
    """FedAvg with server momentum.

    Args:
        momentum: β, in [0, 1).
        learning_rate: η, > 0.

    Raises:
        ValueError: a parameter out of its range.
    """

    def __init__(self, momentum: float = 0.9, learning_rate: float = 1.0) -> None:
        super().__init__()
        self.beta = np.float32(number("momentum", momentum, least=0, below=1))
        self.eta = np.float32(number("learning_rate", learning_rate, above=0))
        self._v: FloatArray | None = None

    def step(self, theta: FloatArray, delta: FloatArray) -> FloatArray:
        """v_t = β v_{t−1} + Δ_t, then θ_t + η v_t. A round without replies never comes here and leaves v alone."""
        self._v = delta if self._v is None else self.beta * self._v + delta
        return theta + self.eta * self._v

    def state(self) -> State:
        """`v`: the momentum, shape (d,), fp32; empty before the first step."""
        return {} if self._v is None else {"v": self._v.copy()}

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """See `Strategy.restore`."""
        arrays = self.read_state(state, {"v": np.float32})
        self._v = arrays["v"] if arrays else None
