"""Where the LoRA layers lie in a flat vector: pairs of tensors `NAME.lora_A.weight` and `NAME.lora_B.weight`.

Layers may differ in rank and scaling (peft's `rank_pattern`, `alpha_pattern`). A of a convolution, shape (r, in,
height, width), counts as the matrix (r, in · height · width). What else is trained (a classifier, biases, DoRA's
magnitudes) belongs to no pair.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from fedpeft.aggregation.factors import Factors, factors_of
from fedpeft.types import LORA_A, LORA_B, FloatArray, Layout, TensorSpec


@dataclass(frozen=True, slots=True)
class LoraLayer:
    """One pair: ΔW = scaling · B A."""

    name: str  # of the layer, e.g. `encoder.layer.0.attention.self.query`
    a: TensorSpec
    b: TensorSpec
    scaling: float  # α/r, or α/√r of rslora

    @property
    def rank(self) -> int:
        """Components r."""
        return self.a.shape[0]

    def copy(self, vector: FloatArray, rank: int | None = None) -> tuple[FloatArray, FloatArray]:
        """B, shape (m, r), and A, shape (r, n), of a flat vector, fp32; only the first `rank` components."""
        m, r = self.b.shape[0], self.rank
        a = vector[self.a.offset : self.a.offset + self.a.size].reshape(r, -1)[:rank]
        b = vector[self.b.offset : self.b.offset + self.b.size].reshape(m, r)[:, :rank]
        return b.copy(), a.copy()

    def read(self, vector: FloatArray, rank: int | None = None) -> Factors:
        """The same in float64."""
        return factors_of(*self.copy(vector, rank))

    def sides(self, vector: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Of a flat vector whose values are one along each row of B and each column of A: those of the rows, shape
        (m,), and of the columns, shape (n,)."""
        b, a = self.b.offset, self.a.offset
        return vector[b : b + self.b.size : self.rank], vector[a : a + self.a.size // self.rank]

    def write(self, vector: FloatArray, factors: Factors) -> None:
        """Put B and A of the whole rank into a flat vector, in place."""
        vector[self.a.offset : self.a.offset + self.a.size] = factors.right.reshape(-1)
        vector[self.b.offset : self.b.offset + self.b.size] = factors.left.reshape(-1)


def lora_layers(layout: Layout, scalings: Mapping[str, float]) -> tuple[LoraLayer, ...]:
    """All pairs of a layout, in its order.

    Args:
        layout: of the flat vector.
        scalings: by layer name; 1 where one is missing.
    """
    tensors = {tensor.name: tensor for tensor in layout.tensors}
    found = []
    for tensor in layout.tensors:
        name = tensor.name.removesuffix(LORA_A)
        other = tensors.get(name + LORA_B)
        if name == tensor.name or other is None or len(other.shape) < 2 or len(tensor.shape) < 2:
            continue
        if other.shape[1] == tensor.shape[0] and other.size == other.shape[0] * other.shape[1]:
            found.append(LoraLayer(name, tensor, other, scalings.get(name, 1.0)))
    return tuple(found)
