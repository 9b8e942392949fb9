"""FedAdagrad: each coordinate's step shrinks with all that it has moved so far.

Reddi et al. 2021, "Adaptive Federated Optimization" (arXiv 2003.00295), Algorithm 2 (see `adaptive.py`) with

    v_t = v_{t−1} + Δ_t²

and β1 = 0, as in the paper's experiments. A steady Δ of size τ moves θ by η / (1 + √(1 + t)) in round t: steps fall off
as 1/√t and never stop. At the default η = 3.4e-3 and τ = 1e-3 the first ten rounds go as far as FedAvg's ten (1.4 of
its step in round 1, 0.8 in round 10).

Transmits what FedAvg does. State between rounds: m and v, 8d bytes.
"""

from __future__ import annotations

from fedpeft.strategies.adaptive import Adaptive
from fedpeft.types import FloatArray


class FedAdagrad(Adaptive):
    """Adagrad on the server.

    Args:
        learning_rate: η, > 0. The default suits LoRA deltas of rms about 1e-3.
        beta1: β1, in [0, 1): how long the direction is remembered; 0 in the paper.
        tau: τ, > 0: the degree of adaptivity; smaller adapts more.

    Raises:
        ValueError: a parameter out of its range.
    """

    def __init__(self, learning_rate: float = 3.4e-3, beta1: float = 0.0, tau: float = 1e-3) -> None:
        super().__init__(learning_rate, beta1, tau)

    def second_moment(self, v: FloatArray, squared: FloatArray) -> FloatArray:
        """v_{t−1} + Δ_t²."""
        return v + squared
