"""Cut rows and columns out of a linear layer, with the LoRA factors on it: the layer becomes physically smaller.

Of y = x Wᵀ + b + s (x Aᵀ) Bᵀ, W (out, in), A (r, in), B (out, r), keeping some outputs keeps rows of W, b and B, and
keeping some inputs columns of W and A. GPT-2's `Conv1D` holds Wᵀ and is cut the other way round.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer

from fedpeft.errors import ModelError

Kept = torch.Tensor  # int64 indices that are kept, increasing


def linear_shape(layer: Any) -> tuple[int, int]:
    """(out, in) of a linear layer, or of one with LoRA on it.

    Raises:
        ModelError: it is neither `torch.nn.Linear` nor `Conv1D` in fp32 or bf16, or its adapter is not plain LoRA.
    """
    return _shape(_base_of(layer))


def base_matrix(layer: Any) -> torch.Tensor:
    """W of such a layer, shape (out, in). Errors as `linear_shape`."""
    base = _base_of(layer)
    weight: torch.Tensor = base.weight.detach()
    return weight.t() if _is_conv1d(base) else weight


def cut_linear(layer: Any, rows: Kept | None, columns: Kept | None) -> Any:
    """Keep some outputs (`rows`) and inputs (`columns`) of a layer, in place; None: all. Returns its base layer.

    Its parameters are new tensors, so whoever shared the old ones keeps them. Errors as `linear_shape`.
    """
    base = _base_of(layer)
    if _is_conv1d(base):
        base.weight = _kept(base.weight, columns, rows)
        base.nx, base.nf = base.weight.shape
    else:
        base.weight = _kept(base.weight, rows, columns)
        base.out_features, base.in_features = base.weight.shape
    if base.bias is not None:
        base.bias = _kept(base.bias, rows)
    if base is not layer:
        for name in layer.lora_A:
            a, b = layer.lora_A[name], layer.lora_B[name]
            a.weight = _kept(a.weight, None, columns)
            b.weight = _kept(b.weight, rows, None)
            a.in_features, b.out_features = a.weight.shape[1], b.weight.shape[0]
            if b.bias is not None:
                b.bias = _kept(b.bias, rows)
        layer.out_features, layer.in_features = _shape(base)
    return base


def _base_of(layer: Any) -> Any:
    """The layer itself, or what is under plain LoRA."""
    base = layer.get_base_layer() if isinstance(layer, BaseTunerLayer) else layer
    if type(base) is not torch.nn.Linear and not _is_conv1d(base):
        raise _refused(f"a {type(base).__name__}", "torch.nn.Linear and Conv1D in fp32 or bf16")
    if base is not layer and not (isinstance(layer, LoraLayer) and not layer.lora_variant and not layer.merged):
        raise _refused(f"a {type(base).__name__} with an adapter that is not plain LoRA", "lora, rslora, pissa")
    return base


def _refused(found: str, allowed: str) -> ModelError:
    return ModelError(
        f"pruning cannot cut {found}",
        code="pruning.layer",
        allowed=allowed,
        remedy="train another type of adapter, or remove devices.pruning",
    )


def _is_conv1d(layer: Any) -> bool:
    return type(layer).__name__ == "Conv1D" and type(layer).__module__.startswith("transformers.")


def _shape(base: Any) -> tuple[int, int]:
    first, second = base.weight.shape
    return (second, first) if _is_conv1d(base) else (first, second)


def _kept(parameter: torch.nn.Parameter, *kept: Kept | None) -> torch.nn.Parameter:
    """A new parameter with only what is kept along each dimension."""
    values = parameter.detach()
    for dimension, indices in enumerate(kept):
        if indices is not None:
            values = values.index_select(dimension, indices.to(values.device))
    return torch.nn.Parameter(values.contiguous(), requires_grad=parameter.requires_grad)
