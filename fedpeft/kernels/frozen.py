"""The contract of a kernel, and its place in autograd: y = x Wᵀ + b where W and b never change.

Since neither W nor b needs a gradient, the backward pass is one product, gx = gy W, and nothing has to be saved.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch


class FrozenProduct(Protocol):
    """One frozen matrix W, shape (out, in), as a kernel holds it. Plain arithmetic: autograd is not its business.

    A row of the result depends on that row of the input alone, bit by bit, whatever the number of rows: a client's
    result must not depend on who shares its batch.
    """

    bytes: int  # that the kernel holds beside the model's own weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x Wᵀ + b in a new tensor: (rows, in) -> (rows, out), contiguous."""

    def backward(self, gradient: torch.Tensor) -> torch.Tensor:
        """gy W in a new tensor: (rows, out) -> (rows, in), contiguous."""

    def tangent(self, change: torch.Tensor) -> torch.Tensor:
        """dx Wᵀ in a new tensor, what a change of the input changes: (rows, in) -> (rows, out), contiguous."""


class Kernel(Protocol):
    """A way to multiply by frozen matrices (registry kind `kernel`)."""

    def available(self, weight: torch.Tensor) -> str:
        """Empty if it can hold matrices like this one, in dtype and device; else the reason why not."""

    def hold(self, weight: torch.Tensor, bias: torch.Tensor | None) -> FrozenProduct:
        """Take up W, shape (out, in), and b, shape (out,) or None."""


class _FrozenProductFunction(torch.autograd.Function):
    @staticmethod
    def forward(x: torch.Tensor, product: FrozenProduct) -> torch.Tensor:
        return product.forward(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.product = inputs[1]

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return ctx.product.backward(gradients[0].contiguous()), None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        return ctx.product.tangent(tangents[0].contiguous())

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: torch.Tensor, product: FrozenProduct) -> Any:
        rows = x.movedim(in_dims[0], 0)
        return frozen_product(rows, product), 0


def frozen_product(x: torch.Tensor, product: FrozenProduct) -> torch.Tensor:
    """x Wᵀ + b, differentiable in x, forward and backward, also under `torch.func.vmap`: (..., in) -> (..., out)."""
    rows = x.reshape(-1, x.shape[-1])
    y: torch.Tensor = _FrozenProductFunction.apply(rows, product)  # type: ignore[no-untyped-call]
    return y.view(*x.shape[:-1], y.shape[-1])
