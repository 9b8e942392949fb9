"""Trained modules of a bf16 base compute in fp32: what is trained, and its gradient, is never rounded to 8 bits.

Adapter layers of peft see to that themselves. A module of the base that is trained whole (a classifier's head, a norm)
gets its inputs in fp32 and gives its output back in the base's dtype.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch


def compute_in_fp32(model: torch.nn.Module) -> None:
    """Let every module of `model` that holds trainable numbers of less than fp32 compute in fp32; in place.

    A linear layer of which only the bias is trained keeps its products in the base's dtype: its kernel adds the bias.
    """
    before = {id(parameter): parameter.dtype for parameter in model.parameters()}  # two modules may share one
    for module in model.modules():
        own = dict(module.named_parameters(recurse=False))
        trained = [parameter for parameter in own.values() if parameter.requires_grad]
        low = {before[id(parameter)] for parameter in trained} - {torch.float32, torch.float64}
        weight = own.get("weight")
        if not low or (weight is not None and not weight.requires_grad and weight.ndim == 2):
            continue
        (dtype,) = low
        for parameter in own.values():
            parameter.data = parameter.data.float()
        if not any(True for _ in module.children()):  # layers inside it may be frozen ones, which take the base's dtype
            module.register_forward_pre_hook(_widen)
        module.register_forward_hook(partial(_narrow, dtype=dtype))


def _widen(module: torch.nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(x.float() if isinstance(x, torch.Tensor) and x.is_floating_point() else x for x in inputs)


def _narrow(module: torch.nn.Module, inputs: Any, output: Any, dtype: torch.dtype) -> Any:
    return output.to(dtype) if isinstance(output, torch.Tensor) else output
