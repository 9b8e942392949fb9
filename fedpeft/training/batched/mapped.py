"""Any other layer for N clients: its own forward pass, mapped over the clients by `torch.func.vmap`.

Slower than a layer written for the purpose, and right for whatever peft brings: IA3, VeRA, LoHa, DoRA, norms, biases,
fully trained heads. Only the layer is mapped, not the model around it, whose attention masks vmap cannot take.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.func import functional_call, vmap


class Unbatchable(Exception):
    """A layer that cannot serve several clients at once; the message says why."""


def mapped_forward(
    module: torch.nn.Module, tensors: Mapping[str, torch.Tensor], x: torch.Tensor, arguments: tuple[Any, ...]
) -> torch.Tensor:
    """The module's output for all clients.

    Args:
        module: with its own `forward`.
        tensors: parameter's name inside the module -> (N, *its shape).
        x: (examples of all N clients, ...), client after client.
        arguments: what else the module was called with; must be empty.

    Raises:
        Unbatchable: the module takes several inputs, or does not return one tensor with an axis of examples.
    """
    if any(isinstance(argument, torch.Tensor) for argument in arguments):
        raise Unbatchable(f"{type(module).__name__} takes several tensors")
    clients = len(next(iter(tensors.values())))
    rows = x.reshape(clients, -1, *x.shape[1:])

    def one(own: dict[str, torch.Tensor], part: torch.Tensor) -> Any:
        result = functional_call(module, own, (part, *arguments))
        if not isinstance(result, torch.Tensor) or len(result) != len(part):
            raise Unbatchable(f"{type(module).__name__} does not return one tensor, example by example")
        return result

    y: torch.Tensor = vmap(one)({name: tensor.to(_dtype(module, x)) for name, tensor in tensors.items()}, rows)
    return y.reshape(-1, *y.shape[2:])


def _dtype(module: torch.nn.Module, x: torch.Tensor) -> torch.dtype:
    """Adapters keep their own fp32, as peft computes them; a plain layer of a bf16 model computes in bf16."""
    return torch.float32 if x.dtype == torch.float32 or hasattr(module, "base_layer") else x.dtype
