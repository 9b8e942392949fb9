"""Layers of torch that compute past their parts: what is put on such a part would never be felt.

`nn.MultiheadAttention` reads the weight of its output layer and never calls it. In eval mode without gradients of the
base, where adapters are trained, an `nn.TransformerEncoderLayer` reads the weights of all its parts at once (torch's
fast path). The first is refused, the second switched off.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer

from fedpeft.errors import ModelError


def call_every_part(model: torch.nn.Module) -> None:
    """Switch torch's fast path off, for the process, where `model` has layers that would take it."""
    if any(isinstance(module, torch.nn.TransformerEncoderLayer) for module in model.modules()):
        torch.backends.mha.set_fastpath_enabled(False)


def unreached(model: torch.nn.Module) -> list[str]:
    """Names of the layers whose weights are read by the module around them."""
    return [
        f"{name}.out_proj" if name else "out_proj"
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.MultiheadAttention)
    ]


def leave_out_unreached(model: torch.nn.Module, config: Any) -> None:
    """Where peft's `config` says "all-linear", all but those; in place."""
    names = unreached(model)
    if not names or getattr(config, "target_modules", None) != "all-linear":
        return
    if not hasattr(config, "exclude_modules"):
        linear = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
        config.target_modules = sorted(set(linear) - set(names))
    elif isinstance(config.exclude_modules, str):
        config.exclude_modules = "|".join([f"({config.exclude_modules})", *map(re.escape, names)])
    else:
        config.exclude_modules = sorted({*(config.exclude_modules or ()), *names})


def check_reached(model: torch.nn.Module) -> None:
    """Refuse an adapter on a layer that is never called. One on the attention as a whole, which peft has, is felt.

    Raises:
        ModelError: names the layer.
    """
    for name in unreached(model):
        around = name.rpartition(".")[0]
        outside = model.get_submodule(around.rpartition(".")[0]) if around else model
        if isinstance(model.get_submodule(name), BaseTunerLayer) and not isinstance(outside, BaseTunerLayer):
            raise ModelError(
                f"adapter.target_modules: an adapter on {name} would train nothing: torch's MultiheadAttention reads "
                "that layer's weight and never calls it",
                code="adapter.unreached",
                allowed="any layer that is called",
                remedy="leave it out of adapter.target_modules",
            )
