"""FedAdam: Adam on the server, with the mean delta as the gradient.

Reddi et al. 2021, "Adaptive Federated Optimization" (arXiv 2003.00295), Algorithm 2 (see `adaptive.py`) with

    v_t = β2 v_{t−1} + (1 − β2) Δ_t²

For deltas whose rms is about τ the denominator stays near 2τ, and a steady Δ moves θ by η/(2τ) · (1 − β1^t) Δ in round
t. At the default η = 5e-3 and τ = 1e-3 the first ten rounds then go as far as FedAvg's ten (a quarter of its step in
round 1, 1.6 in round 10, 2.5 in the end). Whatever the deltas, at the default β1 and β2 no coordinate moves by more
than 2.4 η in a round: |m_t| / √v_t <= (1 − β1) / √((1 − β2)(1 − β1²/β2)), by Cauchy and Schwarz.

Transmits what FedAvg does. State between rounds: m and v, 8d bytes.
"""

from __future__ import annotations

import numpy as np

from fedpeft.strategies.adaptive import Adaptive
from fedpeft.strategies.parameters import number
from fedpeft.types import FloatArray


class FedAdam(Adaptive):
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
        super().__init__(learning_rate, beta1, tau)
        self.beta2 = np.float32(number("beta2", beta2, least=0, below=1))

    def second_moment(self, v: FloatArray, squared: FloatArray) -> FloatArray:
        """β2 v_{t−1} + (1 − β2) Δ_t²."""
        return self.beta2 * v + (np.float32(1) - self.beta2) * squared
