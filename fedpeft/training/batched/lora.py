"""A plain LoRA layer for N clients: one frozen product over all rows, two thin products a client.

    y_n = x_n Wᵀ + b + s · (x_n A_nᵀ) B_nᵀ        x_n (rows of client n, in), A_n (r, in), B_n (out, r)

Frozen product and LoRA branch are one step of autograd, which keeps x, A, B and x Aᵀ only and adds the branch in place.
Clients of a smaller rank fill up with zeros: their gradients are zero too, so zeros stay zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from fedpeft.adapters.parts import Lora
from fedpeft.kernels import FrozenProduct, frozen_product


class _LoraFunction(torch.autograd.Function):
    """In the backward pass B goes in with r in front: MKL multiplies such thin matrices faster, in fp32.

    With r in front everywhere a little more could be saved, but then last bits depend on a client's place in a pass.
    """

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, product: FrozenProduct, scaling: float
    ) -> torch.Tensor:
        y = product.forward(x)
        inner = torch.bmm(_rows(x, a), a.transpose(1, 2))  # (N, rows, r)
        _rows(y, a).baddbmm_(inner, b.transpose(1, 2), alpha=scaling)
        ctx.save_for_backward(x, a, b, inner)
        ctx.product, ctx.scaling = product, scaling
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        x, a, b, inner = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        above = _rows(gradient, a)  # (N, rows, out)
        below = torch.bmm(above, b.transpose(1, 2).contiguous().transpose(1, 2)).mul_(ctx.scaling)  # (N, rows, r)
        for_b = torch.bmm(inner.transpose(1, 2), above).mul_(ctx.scaling).transpose(1, 2)  # made as (N, r, out)
        for_a = for_x = None
        if ctx.needs_input_grad[1]:
            for_a = torch.bmm(below.transpose(1, 2), _rows(x, a))
        if ctx.needs_input_grad[0]:
            for_x = ctx.product.backward(gradient)
            _rows(for_x, a).baddbmm_(below, a)
        return for_x, for_a, for_b, None, None


def _rows(matrix: torch.Tensor, clients: torch.Tensor) -> torch.Tensor:
    """(all rows, width) -> (N, rows of a client, width)."""
    return matrix.view(len(clients), -1, matrix.shape[-1])


def lora_forward(
    x: torch.Tensor,
    a: torch.Tensor,
    b: torch.Tensor,
    lora: Lora,
    product: FrozenProduct | None,
    generators: Sequence[torch.Generator],
) -> torch.Tensor:
    """The layer's output.

    Args:
        x: (examples of all N clients, ..., in), client after client.
        a: (N, r, in), fp32; (r, in) where it is frozen and every client's.
        b: (N, out, r), fp32.
        lora: the layer.
        product: the base's frozen matrix; None: the base layer is called as it is (e.g. a quantised one).
        generators: one a client, for dropout.
    """
    flat = x.reshape(-1, x.shape[-1])
    a, b = a.to(x.dtype), b.to(x.dtype)
    if a.ndim == 2:
        a = a.expand(len(b), *a.shape)
    rate = float(getattr(lora.dropout, "p", 0.0)) if lora.dropout.training else 0.0
    if product is not None and rate == 0.0:
        y: torch.Tensor = _LoraFunction.apply(flat, a, b, product, lora.scaling)  # type: ignore[no-untyped-call]
        return y.view(*x.shape[:-1], y.shape[-1])
    y = lora.base(x) if product is None else frozen_product(x, product)
    rows = flat.view(len(a), -1, x.shape[-1])
    if rate > 0.0:
        rows = rows * _dropout_mask(rows, rate, generators)
    branch = torch.bmm(torch.bmm(rows, a.transpose(1, 2)), b.transpose(1, 2))
    return y + (lora.scaling * branch).view(*x.shape[:-1], -1).to(y.dtype)


def _dropout_mask(rows: torch.Tensor, rate: float, generators: Sequence[torch.Generator]) -> torch.Tensor:
    """0 or 1/(1-rate), shape of `rows`; every client draws from its own generator, as it would alone."""
    mask = torch.empty_like(rows)
    for own, generator in zip(mask, generators, strict=True):
        own.bernoulli_(1.0 - rate, generator=generator)
    return mask.div_(1.0 - rate)
