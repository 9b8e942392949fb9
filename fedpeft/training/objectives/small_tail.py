"""HetLoRA's local objective: the last components of every LoRA layer are to become small, so that they can go.

Cho et al. 2024, "Heterogeneous LoRA for Federated Fine-tuning of On-Device Foundation Models" (arXiv 2401.06432). With
B' = B[:, k:] and A' = A[k:, :] the components of a layer from the k-th on:

    h(θ) = F(θ) + λ Σ_layers ‖B'‖_F ‖A'‖_F

    ∂h/∂B' = ∂F/∂B' + λ ‖A'‖_F B' / ‖B'‖_F,    ∂h/∂A' = ∂F/∂A' + λ ‖B'‖_F A' / ‖A'‖_F

The gradient of a norm at 0 is taken as 0: of an untrained layer, whose B is 0, nothing is pulled. The gradient of one
factor is as long as the other factor is, however small its own is. Components above a client's rank are 0, and count
nothing.
"""

from __future__ import annotations

import torch

from fedpeft.aggregation.lora import LoraLayer, lora_layers
from fedpeft.types import Layout


class SmallTail:
    """Add λ times the gradient of ‖B'‖ ‖A'‖ of every LoRA layer.

    Args:
        regularisation: strength λ >= 0; 0 is plain training.
        kept: k >= 0, a whole number: components before the tail.

    Raises:
        ValueError: a parameter out of its range.
    """

    def __init__(self, regularisation: float, kept: float) -> None:
        if not regularisation >= 0:
            raise ValueError(f"regularisation = {regularisation} must be 0 or more")
        if kept % 1 != 0 or kept < 0:
            raise ValueError(f"kept = {kept} must be a whole number, 0 or more")
        self.regularisation, self.kept = regularisation, int(kept)
        self._layers: tuple[LoraLayer, ...] | None = None  # those with a tail

    def fitted(self, layout: Layout) -> SmallTail:
        """See `LayoutObjective.fitted`."""
        made = SmallTail(self.regularisation, self.kept)
        made._layers = tuple(layer for layer in lora_layers(layout, {}) if layer.rank > self.kept)
        return made

    def add_gradient(self, gradient: torch.Tensor, theta: torch.Tensor, start: torch.Tensor) -> None:
        """See `Objective.add_gradient`."""
        if self._layers is None:
            raise RuntimeError("the objective small-tail tells layers apart: it is to be `fitted` to a layout first")
        for layer in self._layers:
            b, a = self._tail(theta, layer)
            b_norm, a_norm = _norm(b), _norm(a)
            to_b, to_a = self._tail(gradient, layer)
            to_b += self.regularisation * a_norm * (b / torch.where(b_norm > 0, b_norm, 1.0))
            to_a += self.regularisation * b_norm * (a / torch.where(a_norm > 0, a_norm, 1.0))

    def _tail(self, vector: torch.Tensor, layer: LoraLayer) -> tuple[torch.Tensor, torch.Tensor]:
        """B', shape (..., m, r - k), and A', shape (..., r - k, n), of a vector of shape (..., d): views of it."""
        b = vector.narrow(-1, layer.b.offset, layer.b.size).view(*vector.shape[:-1], -1, layer.rank)
        a = vector.narrow(-1, layer.a.offset, layer.a.size).view(*vector.shape[:-1], layer.rank, -1)
        return b[..., self.kept :], a[..., self.kept :, :]


def _norm(matrix: torch.Tensor) -> torch.Tensor:
    """‖·‖_F of the last two dimensions, shape (..., 1, 1)."""
    found: torch.Tensor = torch.linalg.vector_norm(matrix, dim=(-2, -1), keepdim=True)
    return found
