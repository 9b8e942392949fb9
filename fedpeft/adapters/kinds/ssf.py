"""SSF (Lian et al. 2022, "Scaling & Shifting Your Features", arXiv 2210.08565): a scale and a shift after every layer.

    y = γ ⊙ f(x) + β        equation (2); γ = 1 and β = 0 at first, so training starts from the base

After training, both are folded into the layer before them, which then costs nothing. So a layer without a
bias, for which the exported folder has no place, gets a scale alone, and one that shares its weight with another, as an
output layer tied to the embedding, gets neither.
"""

from __future__ import annotations

from collections import Counter

import torch

from fedpeft.adapters.base_model import BaseModel
from fedpeft.adapters.flat import FlatAdapter
from fedpeft.adapters.kinds.unfrozen import unfreeze_head, unused
from fedpeft.config import AdapterTable


class ScaleShift(torch.nn.Module):
    """γ ⊙ f(x) + β; γ ⊙ f(x) where f has no bias.

    Args:
        inner: f, a frozen layer with a weight of shape (width, ...).
    """

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        weight = inner.get_parameter("weight")
        self.inner = inner
        self.scale = torch.nn.Parameter(torch.ones(weight.shape[0], device=weight.device))
        shift = torch.zeros(weight.shape[0], device=weight.device)
        self.shift = torch.nn.Parameter(shift) if isinstance(inner.bias, torch.Tensor) else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in) -> (..., width)."""
        y: torch.Tensor = self.inner(x)
        if self.shift is None:
            return y * self.scale.to(y.dtype)
        return torch.addcmul(self.shift.to(y.dtype), y, self.scale.to(y.dtype))

    def fold(self) -> torch.nn.Module:
        """The inner layer, with scale and shift in its weight and bias."""
        inner = self.inner
        weight, bias = inner.get_parameter("weight"), inner.bias
        with torch.no_grad():
            weight.mul_(self.scale.view(-1, *[1] * (weight.ndim - 1)))
            if self.shift is not None:
                assert isinstance(bias, torch.Tensor)
                bias.mul_(self.scale).add_(self.shift)
        return inner


def ssf(base: BaseModel, table: AdapterTable, *, classifier: bool, seed: int) -> FlatAdapter:
    """A scale and a shift after every linear layer and LayerNorm whose weight is its own, and a fresh head whole.

    Args:
        base: loaded; it is changed in place.
        table: only its type counts.
        classifier: the base is a sequence classifier.
        seed: nothing is drawn.
    """
    skipped = unused(base)
    uses = Counter(id(parameter) for _, parameter in base.model.named_parameters(remove_duplicate=False))
    for name, module in list(base.model.named_modules()):
        if (
            type(module) in (torch.nn.Linear, torch.nn.LayerNorm)
            and not f"{name}.".startswith(skipped)
            and uses[id(module.weight)] == 1
        ):
            parent, _, child = name.rpartition(".")
            setattr(base.model.get_submodule(parent), child, ScaleShift(module))
    unfreeze_head(base, classifier=classifier)
    return FlatAdapter(base.model.eval())


def fold(model: torch.nn.Module) -> torch.nn.Module:
    """Fold every scale and shift of `model` into the layer before it, in place."""
    for name, module in list(model.named_modules()):
        if isinstance(module, ScaleShift):
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, module.fold())
    return model
