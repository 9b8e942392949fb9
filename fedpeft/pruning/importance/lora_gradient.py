"""Importance from the gradients of LoRA alone: how much the loss would change without a unit's part of the update.

FedSpine scores heads and channels by gradients of LoRA, which a client has at hand, where gradients of the frozen W
would take as much memory as W; its exact rule is not public. Here the score is the first-order Taylor term (Molchanov
et al. 2019, "Importance Estimation for Neural Network Pruning", arXiv 1906.10771) of the learnt update ΔW = B A, whose
gradient is G = ∂L/∂(BA). A unit owns rows of the matrices before it (query, key, value; into the
feed-forward layer) and columns of the one behind it:

    row i:     Σ_j (BA)_ij G_ij = Σ_r B_ir (∂L/∂B)_ir        column j:   Σ_i (BA)_ij G_ij = Σ_r A_rj (∂L/∂A)_rj

so neither BA nor G is ever made. With the rows and columns of unit u, and the steps τ of a client's round,

    s_u = Σ_τ | Σ_{i in rows(u)} Σ_r B_ir (∂L/∂B)_ir + Σ_{j in columns(u)} Σ_r A_rj (∂L/∂A)_rj |

Costs one product and one sum over θ a step. A unit that no LoRA matrix touches has no score of this kind, and before
the first round nobody has: there the magnitude of the frozen weights stands in.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fedpeft.types import FloatArray


class LoraGradient:
    """See the module."""

    def begin(self, magnitudes: npt.NDArray[np.float64], seed: int) -> npt.NDArray[np.float64]:
        """See `Importance.begin`."""
        return magnitudes

    def contributions(self, theta: FloatArray, gradient: FloatArray) -> FloatArray:
        """θ ⊙ ∂L/∂θ; see `Measured.contributions`."""
        return theta * gradient
