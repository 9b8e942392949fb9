"""The plain kernel: torch's own matrix product on the model's own weights. Works everywhere, holds nothing."""

from __future__ import annotations

import torch
import torch.nn.functional as F

ROWS = 16
"""Of a product at least. Fewer go to other routines, which round otherwise: one row in torch, up to three in MKL."""


def _enough(rows: torch.Tensor) -> torch.Tensor:
    """The rows, and zeros below them if they are few."""
    return rows if len(rows) >= ROWS else F.pad(rows, (0, 0, 0, ROWS - len(rows)))


class _NativeProduct:
    bytes = 0

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self.weight = weight
        self.bias = bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See `FrozenProduct.forward`."""
        return F.linear(_enough(x), self.weight, self.bias)[: len(x)]

    def backward(self, gradient: torch.Tensor) -> torch.Tensor:
        """See `FrozenProduct.backward`."""
        return torch.mm(_enough(gradient), self.weight)[: len(gradient)]

    def tangent(self, change: torch.Tensor) -> torch.Tensor:
        """See `FrozenProduct.tangent`."""
        return F.linear(_enough(change), self.weight)[: len(change)]


class Native:
    """`torch.nn.functional.linear`: MKL in fp32 and oneDNN in bf16 on x86, cuBLAS on a GPU."""

    def available(self, weight: torch.Tensor) -> str:
        """Always."""
        return ""

    def hold(self, weight: torch.Tensor, bias: torch.Tensor | None) -> _NativeProduct:
        """See `Kernel.hold`."""
        return _NativeProduct(weight, bias)
