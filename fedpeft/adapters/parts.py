"""A wrapped model, seen as the parts that its trainable tensors work in: what a trainer of many clients must know.

Only this room knows peft's classes; others see a module, the tensors it trains, and of a plain LoRA layer its product.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import Embedding, MultiheadAttention, ParamWrapper, _ConvNd
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper

from fedpeft.adapters.flat import FlatAdapter
from fedpeft.types import TensorSpec

_NOT_ONE_MATRIX = (Embedding, MultiheadAttention, ParamWrapper, _ConvNd)
"""LoRA layers that do something else with A and B than multiply; those on quantised matrices are not among them."""


@dataclass(frozen=True, slots=True)
class Lora:
    """A plain LoRA layer: y = base(x) + scaling · (dropout(x) Aᵀ) Bᵀ, with A (r, in) and B (out, r)."""

    base: torch.nn.Module
    a: TensorSpec | torch.Tensor  # where A lies in θ; A itself, (r, in), where it is frozen and every client's
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
    """The smallest modules that hold trainable tensors, none of them inside another.

    An adapter layer or a fully trained module counts as one; so does whatever reads a tensor of its own, with all that
    is inside it.
    """
    specs = {id(adapter.parameters[tensor.name]): tensor for tensor in adapter.layout.tensors}
    parts: list[Part] = []
    taken: tuple[str, ...] = ()  # prefix of the part that modules now seen are inside of
    for name, module in adapter.model.named_modules():
        if taken and name.startswith(taken):
            continue
        whole = isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper)
        if not whole and not any(id(parameter) in specs for parameter in module.parameters(recurse=False)):
            continue
        named = module.named_parameters(remove_duplicate=False)
        tensors = {key: specs[id(parameter)] for key, parameter in named if id(parameter) in specs}
        if tensors:
            parts.append(Part(name, module, tensors, _plain_lora(module, tensors)))
            taken = (f"{name}." if name else "",)
    return parts


def _plain_lora(module: Any, tensors: dict[str, TensorSpec]) -> Lora | None:
    if not isinstance(module, LoraLayer) or isinstance(module, _NOT_ONE_MATRIX):
        return None
    if len(module.active_adapters) != 1 or module.merged or module.disable_adapters:
        return None
    (active,) = module.active_adapters
    keys = (f"lora_A.{active}.weight", f"lora_B.{active}.weight")
    if set(tensors) not in (set(keys), {keys[1]}):
        return None
    if active in module.lora_variant or module.lora_bias.get(active, False):
        return None
    a = tensors[keys[0]] if keys[0] in tensors else module.get_parameter(keys[0])
    b, scaling = tensors[keys[1]], float(module.scaling[active])
    return Lora(module.get_base_layer(), a, b, scaling, module.lora_dropout[active])
