"""The plain kernel: torch's own matrix product on the model's own weights. Works everywhere, holds nothing."""

from __future__ import annotations

import torch
import torch.nn.functional as F


class _NativeProduct:
    bytes = 0

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self.weight = weight
        self.bias = bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See `FrozenProduct.forward`."""
        if len(x) == 1:  # torch hands a single row to another routine, which rounds otherwise
            return F.linear(x.expand(2, -1), self.weight, self.bias)[:1]
        return F.linear(x, self.weight, self.bias)

    def backward(self, gradient: torch.Tensor) -> torch.Tensor:
        """See `FrozenProduct.backward`."""
        if len(gradient) == 1:
            return torch.mm(gradient.expand(2, -1), self.weight)[:1]
        return torch.mm(gradient, self.weight)


class Native:
    """`torch.nn.functional.linear`: MKL in fp32 and oneDNN in bf16 on x86, cuBLAS on a GPU."""

    def available(self, weight: torch.Tensor) -> str:
        """Always."""
        return ""

    def hold(self, weight: torch.Tensor, bias: torch.Tensor | None) -> _NativeProduct:
        """See `Kernel.hold`."""
        return _NativeProduct(weight, bias)
