"""FedYogi: FedAdam whose memory of a coordinate's size grows and shrinks by steps that do not depend on that memory.

Reddi et al. 2021, "Adaptive Federated Optimization" (arXiv 2003.00295), Algorithm 2 (see `adaptive.py`) with

    v_t = v_{t−1} − (1 − β2) Δ_t² sign(v_{t−1} − Δ_t²)

Where deltas shrink, FedAdam forgets the large ones at the rate β2^t whatever comes, and its step grows again; here v
falls by (1 − β2) Δ_t² at most, which is little when Δ_t is little (Zaheer et al. 2018, "Adaptive Methods for Nonconvex
Optimization"). v stays above 0, since it never falls by more than itself. A steady Δ of size τ leaves v at τ²: the
default η is therefore FedAdam's.

Transmits what FedAvg does. State between rounds: m and v, 8d bytes.
"""

from __future__ import annotations

import numpy as np

from fedpeft.strategies.adaptive import Adaptive
from fedpeft.strategies.parameters import number
from fedpeft.types import FloatArray


class FedYogi(Adaptive):
    """Yogi on the server.

    Args:
        learning_rate: η, > 0. The default suits LoRA deltas of rms about 1e-3.
        beta1: β1, in [0, 1): how long the direction is remembered.
        beta2: β2, in [0, 1): how slowly the size of each coordinate is learnt.
        tau: τ, > 0: the degree of adaptivity; smaller adapts more.

    Raises:
        ValueError: a parameter out of its range.
    """

    def __init__(self, learning_rate: float = 5e-3, beta1: float = 0.9, beta2: float = 0.99, tau: float = 1e-3) -> None:
        super().__init__(learning_rate, beta1, tau)
        self.beta2 = np.float32(number("beta2", beta2, least=0, below=1))

    def second_moment(self, v: FloatArray, squared: FloatArray) -> FloatArray:
        """v_{t−1} − (1 − β2) Δ_t² sign(v_{t−1} − Δ_t²)."""
        sign: FloatArray = np.sign(v - squared)
        return v - (np.float32(1) - self.beta2) * squared * sign
