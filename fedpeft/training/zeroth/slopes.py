"""Slopes of the loss along directions, by forward-mode differentiation: dual numbers through the model's forward pass.

    L(θ + t z) at t = 0:  its value, and its derivative zᵀ∇L, in one pass that keeps nothing

Frozen products know their tangents (`fedpeft.kernels`). Fused attention does not, so it is computed as plain products
here; models that compute attention themselves ("eager") are as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.autograd import forward_ad
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from fedpeft.adapters import FlatAdapter
from fedpeft.errors import ModelError
from fedpeft.training.task import Task
from fedpeft.zeroth.direction import Direction


def slopes_along(
    adapter: FlatAdapter, task: Task, batch: Any, prepared: Any, directions: Sequence[Direction]
) -> tuple[float, npt.NDArray[np.float64]]:
    """The mean loss of a batch, and its slope along each direction, shape (directions,).

    Args:
        adapter: holds θ, which is not moved; a direction in fp32 lies beside it, 4 bytes a weight.
        task: what is trained.
        batch: from `task.batch`.
        prepared: from `task.prepare`; a constant here.
        directions: z.

    Raises:
        ModelError: a part of the model has no forward-mode derivative.
    """
    model, loss, found = _Losses(adapter.model, task), float("nan"), np.empty(len(directions))
    for number, direction in enumerate(directions):
        z = torch.from_numpy(direction.values()).to(adapter.theta.device)
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), forward_ad.dual_level():
            try:
                losses = functional_call(model, _duals(adapter, z), (batch, prepared))
            except NotImplementedError as error:
                lines = str(error).strip().splitlines() or [type(error).__name__]
                raise ModelError(
                    f'zeroth.estimator.name = "forward-gradient": a part of the model has no forward-mode derivative: '
                    f"{lines[0][:200]}",
                    code="model.no-forward-mode",
                    allowed="a model all of whose operators on the way from the trained weights to the loss have one",
                    remedy='set zeroth.estimator = { name = "two-point" }, which asks for values only',
                ) from error
            values, tangents = forward_ad.unpack_dual(losses)  # type: ignore[no-untyped-call]
            loss = float(values.cpu().double().mean())  # not every device has fp64
            found[number] = 0.0 if tangents is None else float(tangents.cpu().double().mean())
    return loss, found


class _Losses(torch.nn.Module):
    """A task's losses as a module's output, so that `functional_call` can give the model other tensors."""

    def __init__(self, model: torch.nn.Module, task: Task) -> None:
        super().__init__()
        self.model = model
        self._task = task

    def forward(self, batch: Any, prepared: Any) -> torch.Tensor:
        return self._task.outcomes(self.model, batch, prepared).losses


def _duals(adapter: FlatAdapter, z: torch.Tensor) -> dict[str, torch.Tensor]:
    """θ's tensors with z's as their tangents, by their names in `_Losses`; neither is copied."""
    names = {id(parameter): name for name, parameter in adapter.model.named_parameters()}
    duals = {}
    for tensor in adapter.layout.tensors:
        parameter = adapter.parameters[tensor.name]
        tangent = z[tensor.offset : tensor.offset + tensor.size].view(tensor.shape)
        dual = forward_ad.make_dual(parameter.detach(), tangent)  # type: ignore[no-untyped-call]
        duals[f"model.{names[id(parameter)]}"] = dual
    return duals
