"""LoRA layers whose update is not the product B A alone: their components cannot be cut or mixed by B and A.

Of experts (peft's `target_parameters`) A stacks and B interleaves a pair for each of them; a grouped convolution has a
pair for each group; some of peft's variants put another trained matrix between the two, or hold one of them in blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from peft.tuners.lora import LoraLayer

from fedpeft.adapters.flat import FlatAdapter
from fedpeft.errors import ModelError

_PRODUCTS = ("Dora", "ALora", "QALora", "Arrow", "Velora", "_DoraConv")
"""Beginnings of the names of peft's variants whose update is B A of what the layer sees, or scaled by more."""


def no_products(adapter: FlatAdapter) -> dict[str, str]:
    """Layer's name -> what its update is instead, in words; empty where every LoRA layer has its B A."""
    found = {name: why for name, module in adapter.model.named_modules() if (why := _instead(module))}
    return {name.removeprefix("base_model.model."): why for name, why in found.items()}


def check_products(adapter: FlatAdapter, needed_by: Callable[[], str]) -> None:
    """Refuse an adapter with such layers.

    Args:
        adapter: as it was built.
        needed_by: the key, and its value, that cuts or mixes components; asked only where there is such a layer; empty
            where there is none.

    Raises:
        ModelError: names key and layer.
    """
    odd = no_products(adapter)
    if odd and (key := needed_by()):
        name, why = next(iter(odd.items()))
        raise ModelError(
            f"{key} takes a LoRA layer for the product of its lora_B and lora_A, and {name} {why}",
            code="adapter.no-product",
            allowed="layers whose update is B A, e.g. those of target_modules on linear layers",
            remedy=f"remove {key.split(' = ', maxsplit=1)[0]}, or leave that layer out of the adapter",
        )


def _instead(module: Any) -> str:
    if not isinstance(module, LoraLayer):
        return ""
    if getattr(module, "num_experts", 1) > 1:
        return f"holds {module.num_experts} pairs, of an expert each (adapter.target_parameters)"
    if getattr(module.get_base_layer(), "groups", 1) > 1:
        return f"is a convolution of {module.get_base_layer().groups} groups, with a pair each"
    for variant in module.lora_variant.values():
        kind = type(variant).__name__
        if not kind.startswith(_PRODUCTS):
            return f"is peft's {kind}, which does more with them"
    return ""
