"""Clients of a smaller LoRA rank than the federation's: the first r components of every layer, and zeros for the rest.

A zero pair (row of A, column of B) adds nothing to a layer's output and has no gradient, so it stays zero while the
client trains and its delta is zero there; those zeros are not sent (`fedpeft.pruning.sent`). This is how HetLoRA (Cho
et al. 2024, "Heterogeneous LoRA for Federated Fine-tuning of On-Device Foundation Models", arXiv 2401.06432) truncates
what a client is sent and pads what it sends.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from fedpeft.types import ALL_COMPONENTS, LORA_A, LORA_B, FloatArray, Layout


def truncate(theta: FloatArray, layout: Layout, rank: int, merged: int = 0) -> FloatArray:
    """θ with all but the first `rank` components of every LoRA layer set to zero; `ALL_COMPONENTS`: θ itself.

    The last `merged` components stay too: they stand for a part of the base.
    """
    return theta if rank == ALL_COMPONENTS else theta * _kept(layout, rank, merged)


@lru_cache(maxsize=8)
def _kept(layout: Layout, rank: int, merged: int) -> npt.NDArray[np.float32]:
    """1 where θ is kept, shape (d,)."""
    kept = np.ones(layout.size, dtype=np.float32)
    for tensor in layout.tensors:
        values = kept[tensor.offset : tensor.offset + tensor.size].reshape(tensor.shape)
        if tensor.name.endswith(LORA_A):
            values[rank : len(values) - merged] = 0.0
        elif tensor.name.endswith(LORA_B):
            values[:, rank : values.shape[1] - merged] = 0.0
    return kept
