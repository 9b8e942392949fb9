"""Any other layer for N clients: its own forward pass, with each client's own tensors in it.

Slower than a layer written for the purpose, and right for whatever peft brings: IA3, VeRA, LoHa, DoRA, norms, biases,
fully trained heads. Only the layer is mapped, not the model around it, whose attention masks vmap cannot take.

`mapped_forward` takes all clients through it at once, by `torch.func.vmap`. What vmap refuses (random draws such as
DoRA's dropout, assignments in place, branches on values) goes through `single_forward`, one client after the other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.func import functional_call, vmap


class Unbatchable(Exception):
    """A layer that cannot serve several clients at once; the message says why."""


def dense_forward(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """A linear layer whose weight, shape (N, out, in), is each client's own; its bias (N, out), or shared (out,)."""
    rows = x.reshape(len(weight), -1, x.shape[-1])
    y = torch.bmm(rows, weight.transpose(1, 2))
    if bias is not None:
        y = y + (bias if bias.ndim == 1 else bias.unsqueeze(1))
    return y.view(*x.shape[:-1], y.shape[-1])


def mapped_forward(
    module: torch.nn.Module, tensors: Mapping[str, torch.Tensor], x: torch.Tensor, arguments: tuple[Any, ...]
) -> torch.Tensor:
    """The module's output for all clients, computed at once.

    Args:
        module: with its own `forward`.
        tensors: parameter's name inside the module -> (N, *its shape).
        x: (examples of all N clients, ...), client after client.
        arguments: what else the module was called with; no tensors.

    Raises:
        Unbatchable: the module takes several inputs, or does not return one tensor with an axis of examples.
        RuntimeError: vmap cannot take this module.
    """
    _refuse_tensors(module, arguments)
    clients = len(next(iter(tensors.values())))
    rows = x.reshape(clients, -1, *x.shape[1:])

    def one(own: dict[str, torch.Tensor], part: torch.Tensor) -> torch.Tensor:
        return _checked(module, functional_call(module, own, (part, *arguments)), part)

    y: torch.Tensor = vmap(one)(dict(tensors), rows)
    return y.reshape(-1, *y.shape[2:])


def single_forward(
    module: torch.nn.Module,
    tensors: Mapping[str, torch.Tensor],
    x: torch.Tensor,
    arguments: tuple[Any, ...],
    generators: Sequence[torch.Generator],
) -> torch.Tensor:
    """As `mapped_forward`, one client after the other; each draws from its own generator, as it would alone.

    Args:
        module: as there.
        tensors: as there.
        x: as there.
        arguments: as there.
        generators: one a client, for whatever the module draws from torch's default generator.
    """
    _refuse_tensors(module, arguments)
    columns = {name: tensor.unbind() for name, tensor in tensors.items()}
    outputs = []
    for place, (part, generator) in enumerate(zip(x.chunk(len(generators)), generators, strict=True)):
        own = {name: column[place] for name, column in columns.items()}
        with _drawing_from(generator):
            outputs.append(_checked(module, functional_call(module, own, (part, *arguments)), part))
    return torch.cat(outputs)


def _refuse_tensors(module: torch.nn.Module, arguments: tuple[Any, ...]) -> None:
    if any(isinstance(argument, torch.Tensor) for argument in arguments):
        raise Unbatchable(f"{type(module).__name__} takes several tensors")


def _checked(module: torch.nn.Module, result: Any, part: torch.Tensor) -> torch.Tensor:
    if not isinstance(result, torch.Tensor) or result.ndim == 0 or len(result) != len(part):
        raise Unbatchable(f"{type(module).__name__} does not return one tensor, example by example")
    return result


@contextlib.contextmanager
def _drawing_from(generator: torch.Generator) -> Iterator[None]:
    """Torch's default generator of this device goes on where `generator` stands, and `generator` where it stops."""
    if generator.device.type == "cpu":
        default = torch.default_generator
    elif generator.device.type == "cuda":
        default = torch.cuda.default_generators[generator.device.index or 0]
    else:
        raise Unbatchable(f"random numbers of several clients cannot be told apart on {generator.device.type}")
    before = default.get_state()
    default.set_state(generator.get_state())
    try:
        yield
    finally:
        generator.set_state(default.get_state())
        default.set_state(before)
