"""A wrapped model, seen as the parts that its trainable tensors work in: what a trainer of many clients must know.

Only this room knows peft's classes; others see a module, the tensors it trains, and of a plain LoRA layer its product.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper

from fedpeft.adapters.flat import FlatAdapter
from fedpeft.types import TensorSpec


@dataclass(frozen=True, slots=True)
class Lora:
    """A plain LoRA layer: y = base(x) + scaling · (dropout(x) Aᵀ) Bᵀ, with A (r, in) and B (out, r)."""

    base: torch.nn.Module
    a: TensorSpec
    b: TensorSpec
    scaling: float
    dropout: torch.nn.Module  # Dropout or Identity


@dataclass(frozen=True, slots=True)
class Part:
    """A module that computes its output from its input and from trainable tensors that all lie inside it."""

    name: str
    module: torch.nn.Module
    tensors: dict[str, TensorSpec]  # the parameter's name inside the module -> its place in θ
    lora: Lora | None = None  # where it is nothing but a plain LoRA layer


def trainable_parts(adapter: FlatAdapter) -> list[Part]:
    """The smallest modules that hold trainable tensors; an adapter layer or a fully trained module counts as one."""
    specs = {id(adapter.parameters[tensor.name]): tensor for tensor in adapter.layout.tensors}
    parts: list[Part] = []
    taken: tuple[str, ...] = ()  # prefix of the part that modules now seen are inside of
    for name, module in adapter.model.named_modules():
        if taken and name.startswith(taken):
            continue
        whole = isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper)
        named = module.named_parameters(recurse=whole, remove_duplicate=False)
        tensors = {key: specs[id(parameter)] for key, parameter in named if id(parameter) in specs}
        if tensors:
            parts.append(Part(name, module, tensors, _plain_lora(module, tensors)))
            if whole:
                taken = (f"{name}.",)
    return parts


def _plain_lora(module: Any, tensors: dict[str, TensorSpec]) -> Lora | None:
    if not isinstance(module, LoraLayer) or len(module.active_adapters) != 1 or module.merged:
        return None
    (active,) = module.active_adapters
    keys = (f"lora_A.{active}.weight", f"lora_B.{active}.weight")
    if set(tensors) != set(keys) or active in module.lora_variant or module.lora_bias.get(active, False):
        return None
    a, b = (tensors[key] for key in keys)
    if len(a.shape) != 2 or len(b.shape) != 2:  # a convolution's
        return None
    return Lora(module.get_base_layer(), a, b, float(module.scaling[active]), module.lora_dropout[active])
