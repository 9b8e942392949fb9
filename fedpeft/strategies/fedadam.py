"""FedAdam: Adam on the server, with the mean delta as the gradient.

Reddi et al. 2021, "Adaptive Federated Optimization" (arXiv 2003.00295), Algorithm 2, with Δ_t = Σ_k (n_k/n) Δ_k:

    m_t = β1 m_{t−1} + (1 − β1) Δ_t,      m_0 = 0
    v_t = β2 v_{t−1} + (1 − β2) Δ_t²,     v_0 = τ²
    θ_{t+1} = θ_t + η m_t / (√v_t + τ)

As in the paper there is no bias correction: v starts at τ², so it needs none, and m warms up over 1/(1 − β1) rounds.
(Some codebases scale η by √(1 − β2^t)/(1 − β1^t) while keeping v_0 = τ²: that corrects a bias which is not there.)

Choosing η. τ is both the start of √v and the floor of the denominator, so for deltas whose rms is about τ the
denominator stays near 2τ and a steady Δ moves θ by η/(2τ) · (1 − β1^t) Δ in round t. LoRA deltas have an rms near
1e-3, the paper's τ. At η = 5e-3 the first ten rounds then go as far as FedAvg's ten (a quarter of its step in round
1, 1.6 in round 10, 2.5 in the end). Whatever the deltas, at the default β1 and β2 no coordinate moves by more than
2.4 η in a round: |m_t| / √v_t <= (1 − β1) / √((1 − β2)(1 − β1²/β2)), by Cauchy and Schwarz. With deltas of another
size, scale τ and η with them.

Transmits what FedAvg does. State between rounds: m and v, 8d bytes.
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


class FedAdam(FedAvg):
    """Adam on the server.

    Args:
        learning_rate: η, > 0. The default suits LoRA deltas of rms about 1e-3.
        beta1: β1, in [0, 1): how long the direction is remembered.
        beta2: β2, in [0, 1): how long the size of each coordinate is remembered.
        tau: τ, > 0: the degree of adaptivity; smaller adapts more.

    Raises:
        ValueError: a parameter out of its range.
    """

    def __init__(self, learning_rate: float = 5e-3, beta1: float = 0.9, beta2: float = 0.99, tau: float = 1e-3) -> None:
        super().__init__()
        self.eta = np.float32(number("learning_rate", learning_rate, above=0))
        self.beta1 = np.float32(number("beta1", beta1, least=0, below=1))
        self.beta2 = np.float32(number("beta2", beta2, least=0, below=1))
        self.tau = np.float32(number("tau", tau, above=0))
        self._m: FloatArray | None = None
        self._v: FloatArray | None = None

    def step(self, theta: FloatArray, delta: FloatArray) -> FloatArray:
        """One step of Algorithm 2. A round without replies never comes here and leaves m and v alone."""
        one = np.float32(1)
        m = np.zeros_like(delta) if self._m is None else self._m
        v = np.full_like(delta, self.tau * self.tau) if self._v is None else self._v
        m = self.beta1 * m + (one - self.beta1) * delta
        v = self.beta2 * v + (one - self.beta2) * (delta * delta)
        self._m, self._v = m, v
        root: FloatArray = np.sqrt(v)
        return theta + self.eta * m / (root + self.tau)

    def state(self) -> State:
        """`m` and `v`, each of shape (d,), fp32; empty before the first step."""
        return {} if self._m is None or self._v is None else {"m": self._m.copy(), "v": self._v.copy()}

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """See `Strategy.restore`."""
        arrays = self.read_state(state, {"m": np.float32, "v": np.float32})
        self._m, self._v = (arrays["m"], arrays["v"]) if arrays else (None, None)
