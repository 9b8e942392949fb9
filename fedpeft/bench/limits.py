"""What the machine can do at most, measured beside what is judged by it: matrix products and memory, on one core.

A training step of a frozen model is bounded below by its matrix products: for each linear layer one forward product and
one for the gradient with respect to its input. A pass over updates is bounded by reading them once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

Layer: TypeAlias = tuple[int, int, int]
"""Outputs, inputs, how many of them: one kind of frozen linear layer."""

MINILM: tuple[Layer, ...] = ((384, 384, 24), (1536, 384, 6), (384, 1536, 6))
"""The linear layers of all-MiniLM-L6's encoder: 10.6M weights."""

Kernel: TypeAlias = Literal["torch fp32", "oneDNN fp32", "torch bf16"]

KERNELS: tuple[Kernel, ...] = ("torch fp32", "oneDNN fp32", "torch bf16")


def products(kernel: Kernel, rows: int, layers: Sequence[Layer]) -> Callable[[], None]:
    """The matrix products of one training step, and nothing else.

    Args:
        kernel: "oneDNN fp32" multiplies by weights that were packed beforehand, with true fp32 products.
        rows: tokens of the step.
        layers: of the model.

    Raises:
        RuntimeError, AttributeError: this build of torch does not have the kernel.
    """
    pairs = [_pair(kernel, rows, outputs, inputs) for outputs, inputs, _ in layers]
    counts = [count for _, _, count in layers]

    def step() -> None:
        for (forward, backward), count in zip(pairs, counts, strict=True):
            for _ in range(count):
                forward()
                backward()

    return step


def operations(rows: int, layers: Sequence[Layer]) -> int:
    """Floating-point operations of `products`: a multiply and an add a weight and row, forward and back."""
    return sum(4 * rows * outputs * inputs * count for outputs, inputs, count in layers)


def _pair(kernel: Kernel, rows: int, outputs: int, inputs: int) -> tuple[Callable[[], object], Callable[[], object]]:
    weight, x, gradient = torch.randn(outputs, inputs), torch.randn(rows, inputs), torch.randn(rows, outputs)
    if kernel == "oneDNN fp32":
        pack, multiply = torch.ops.mkldnn._reorder_linear_weight, torch.ops.mkldnn._linear_pointwise
        there, back = pack(weight, rows), pack(weight.t().contiguous(), rows)
        return (
            lambda: multiply(x, there, None, "none", [], ""),
            lambda: multiply(gradient, back, None, "none", [], ""),
        )
    if kernel == "torch bf16":
        weight, x, gradient = weight.bfloat16(), x.bfloat16(), gradient.bfloat16()
    transposed = weight.t()
    return lambda: torch.mm(x, transposed), lambda: torch.mm(gradient, weight)


class Memory:
    """Streams over a buffer that no cache holds.

    Args:
        size: bytes; several times the last-level cache.
    """

    def __init__(self, size: int = 2**28) -> None:
        self.size = size
        self._source = np.random.default_rng(0).standard_normal(size // 4, dtype=np.float32)
        self._target: npt.NDArray[np.float32] = np.zeros_like(self._source)

    def read(self) -> None:
        """Every byte is read once."""
        float(torch.from_numpy(self._source).sum())

    def copy(self) -> None:
        """Every byte is read once and written once."""
        np.copyto(self._target, self._source)

    def add(self) -> None:
        """y ← y + a·x in fp32, one pass: two reads and a write."""
        torch.from_numpy(self._target).add_(torch.from_numpy(self._source), alpha=0.5)
