"""oneDNN's product with matrices packed once, W for the forward pass and Wᵀ for the backward pass.

On AMD processors it runs at more than twice the speed of MKL in the same fp32 arithmetic, since MKL takes its AVX2
path there. Torch has no public way to ask for it, so this file is the one place that calls a private operator;
`available` answers for a torch without it, and `choose_kernel` tests what it computes before anyone relies on it.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F


def bucket(rows: int) -> int:
    """The number of rows that a product of `rows` is padded to: at most an eighth more.

    oneDNN compiles a routine for every number of rows and keeps it, over a megabyte each: texts of all lengths would
    fill hundreds. And a single row goes to a routine that rounds otherwise.
    """
    step = max(16, 1 << max(0, rows.bit_length() - 4))
    return -(-rows // step) * step


def _operators() -> tuple[Any, Any] | None:
    """(reorder, linear), or None where this torch has none."""
    try:
        return torch.ops.mkldnn._reorder_linear_weight.default, torch.ops.mkldnn._linear_pointwise.default
    except (AttributeError, RuntimeError):
        return None


class _PackedProduct:
    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        operators = _operators()
        assert operators is not None
        reorder, self._linear = operators
        self._packed = reorder(weight.contiguous())
        self._transposed = reorder(weight.t().contiguous())
        self._bias = bias
        self.bytes = 2 * weight.numel() * weight.element_size()

    def _product(self, x: torch.Tensor, matrix: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        rows = len(x)
        wanted = bucket(rows)
        if wanted > rows:
            x = F.pad(x, (0, 0, 0, wanted - rows))
        y: torch.Tensor = self._linear(x, matrix, bias, "none", [], "")
        return y[:rows]

    def __deepcopy__(self, memo: dict[int, Any]) -> _PackedProduct:
        return self  # packed memory cannot be copied, and never changes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See `FrozenProduct.forward`."""
        return self._product(x, self._packed, self._bias)

    def backward(self, gradient: torch.Tensor) -> torch.Tensor:
        """See `FrozenProduct.backward`."""
        return self._product(gradient, self._transposed, None)

    def tangent(self, change: torch.Tensor) -> torch.Tensor:
        """See `FrozenProduct.tangent`."""
        return self._product(change, self._packed, None)


class OneDnn:
    """Packed oneDNN products on the CPU, in the weights' own dtype (fp32 or bf16): never a change of precision."""

    def available(self, weight: torch.Tensor) -> str:
        """See `Kernel.available`."""
        if weight.device.type != "cpu":
            return f"the model is on {weight.device.type}, not on the CPU"
        if weight.dtype not in (torch.float32, torch.bfloat16):
            return f"the weights are {str(weight.dtype).removeprefix('torch.')}, not float32 or bfloat16"
        if not torch.backends.mkldnn.is_available() or not torch.backends.mkldnn.enabled:  # type: ignore[no-untyped-call]
            return "this torch is built or run without oneDNN"
        if _operators() is None:
            return f"torch {torch.__version__} has no packed linear operator"
        return ""

    def hold(self, weight: torch.Tensor, bias: torch.Tensor | None) -> _PackedProduct:
        """See `Kernel.hold`."""
        return _PackedProduct(weight.detach(), None if bias is None else bias.detach())
