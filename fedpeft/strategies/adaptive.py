"""What FedAdam, FedYogi and FedAdagrad share: a step along a moving mean, divided by the size of past deltas.

Reddi et al. 2021, "Adaptive Federated Optimization" (arXiv 2003.00295), Algorithm 2, with Δ_t = Σ_k (n_k/n) Δ_k:

    m_t = β1 m_{t−1} + (1 − β1) Δ_t,      m_0 = 0
    v_t = one line of each rule,          v_0 = τ²
    θ_{t+1} = θ_t + η m_t / (√v_t + τ)

As in the paper there is no bias correction: v starts at τ², so it needs none, and m warms up over 1/(1 − β1) rounds.
(Some codebases scale η by √(1 − β2^t)/(1 − β1^t), others start v at 0: either changes the first rounds.)

Choosing η. τ is both the start of √v and the floor of the denominator, so the deltas' rms belongs near τ. That of LoRA
deltas is near 1e-3, the paper's τ; with deltas of another size, scale τ and η with them. The default η of each rule
takes it as far in the first ten rounds of one steady Δ of that size as FedAvg goes.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fedpeft.strategies.base import State
from fedpeft.strategies.fedavg import FedAvg
from fedpeft.strategies.parameters import number
from fedpeft.types import FloatArray


class Adaptive(FedAvg):
    """Algorithm 2 but for the line of v, which a subclass writes.

    Args:
        learning_rate: η, > 0.
        beta1: β1, in [0, 1): how long the direction is remembered.
        tau: τ, > 0: the degree of adaptivity; smaller adapts more.

    Raises:
        ValueError: a parameter out of its range.
    """

    def __init__(self, learning_rate: float, beta1: float, tau: float) -> None:
        super().__init__()
        self.eta = np.float32(number("learning_rate", learning_rate, above=0))
        self.beta1 = np.float32(number("beta1", beta1, least=0, below=1))
        self.tau = np.float32(number("tau", tau, above=0))
        self._m: FloatArray | None = None
        self._v: FloatArray | None = None

    @abstractmethod
    def second_moment(self, v: FloatArray, squared: FloatArray) -> FloatArray:
        """v_t of v_{t−1} and Δ_t², each of shape (d,), fp32: a new array."""

    def step(self, theta: FloatArray, delta: FloatArray) -> FloatArray:
        """One step of Algorithm 2. A round without replies never comes here and leaves m and v alone."""
        m = np.zeros_like(delta) if self._m is None else self._m
        v = np.full_like(delta, self.tau * self.tau) if self._v is None else self._v
        m = self.beta1 * m + (np.float32(1) - self.beta1) * delta
        v = self.second_moment(v, delta * delta)
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
