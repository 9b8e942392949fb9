"""One model for N clients: inside `serving`, every part that holds trainable tensors works with each client's own.

Nothing of the model's forward pass is copied or changed: a part gets another `forward` for the length of a pass.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch

from fedpeft.adapters import FlatAdapter
from fedpeft.adapters.parts import Part, trainable_parts
from fedpeft.kernels import held_product
from fedpeft.training.batched.lora import lora_forward
from fedpeft.training.batched.mapped import Unbatchable, dense_forward, mapped_forward, single_forward


class _Rows(torch.autograd.Function):
    """A tensor of every client, shape (N, *shape), whose gradient is added to its place in the flat gradient."""

    @staticmethod
    def forward(ctx: Any, anchor: torch.Tensor, values: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        ctx.gradient = gradient
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        ctx.gradient.add_(gradients[0])
        return None, None, None


class ClientAxis:
    """A FlatAdapter's model with an axis of clients.

    Args:
        adapter: its own θ is neither read nor written.
    """

    def __init__(self, adapter: FlatAdapter) -> None:
        self.adapter = adapter
        self.parts = trainable_parts(adapter)
        self._singly: set[str] = set()  # names of parts that vmap cannot take
        size, device = adapter.layout.size, adapter.theta.device
        self._theta = torch.empty((0, size), device=device)
        self._gradient = torch.empty((0, size), device=device)
        self._kernels: dict[str, Any] = {}  # part's name -> the forward pass that a kernel gave its module
        self._anchor = torch.zeros((), device=device, requires_grad=True)  # makes autograd follow Θ's tensors
        self.rows = 0  # of the widest input of a part in the last pass, over all clients

    def rows_of(self, clients: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Θ and its gradient for a pass of N clients, each (N, d); the memory is used again by the next pass."""
        if clients > len(self._theta):
            self._theta = self._theta.new_zeros((clients, self._theta.shape[1]))
            self._gradient = torch.zeros_like(self._theta)
        return self._theta[:clients], self._gradient[:clients]

    def _tensors(self, clients: int) -> dict[str, torch.Tensor]:
        """Tensors of shape (N, *shape), views into Θ."""
        tensors = {}
        for tensor in self.adapter.layout.tensors:
            place = (slice(clients), slice(tensor.offset, tensor.offset + tensor.size))
            values = self._theta[place].view(clients, *tensor.shape)
            gradient = self._gradient[place].view(clients, *tensor.shape)
            tensors[tensor.name] = _Rows.apply(self._anchor, values, gradient)  # type: ignore[no-untyped-call]
        return tensors

    @contextlib.contextmanager
    def serving(self, clients: int, generators: Sequence[torch.Generator]) -> Iterator[None]:
        """In here a forward pass of the model takes the examples of N clients, client after client.

        Args:
            clients: N; `rows_of(N)` holds their θ.
            generators: one a client, for dropout.
        """
        tensors, self.rows = self._tensors(clients), 0
        self._kernels = {part.name: vars(part.module).get("forward") for part in self.parts}
        try:
            for part in self.parts:
                vars(part.module)["forward"] = self._forward(part, tensors, clients, generators)
            yield
        finally:
            for part in self.parts:
                self._give_back(part)

    def _give_back(self, part: Part) -> None:
        """The forward pass that the module had before: a kernel's, or its class's."""
        kernel = self._kernels[part.name]
        if kernel is None:
            vars(part.module).pop("forward", None)
        else:
            vars(part.module)["forward"] = kernel

    def _forward(
        self, part: Part, tensors: dict[str, torch.Tensor], clients: int, generators: Sequence[torch.Generator]
    ) -> Callable[..., torch.Tensor]:
        own = {key: tensors[tensor.name] for key, tensor in part.tensors.items()}
        if part.lora is not None:
            call = partial(
                lora_forward,
                a=part.lora.a if isinstance(part.lora.a, torch.Tensor) else tensors[part.lora.a.name],
                b=tensors[part.lora.b.name],
                lora=part.lora,
                product=held_product(part.lora.base),
                generators=generators,
            )
        elif type(part.module) is torch.nn.Linear and "weight" in own:
            call = partial(dense_forward, weight=own["weight"], bias=own.get("bias", part.module.bias))
        else:
            call = partial(self._mapped, part, own, generators)

        def forward(*inputs: Any, **named: Any) -> torch.Tensor:
            if named or not inputs:
                raise Unbatchable(f"{part.name} is called with keywords: {', '.join(named)}")
            x, *arguments = inputs
            if not isinstance(x, torch.Tensor) or x.ndim == 0:
                raise Unbatchable(f"{part.name} sees a {type(x).__name__}, not examples")
            if len(x) % clients:
                raise Unbatchable(f"{part.name} sees an input of shape {tuple(x.shape)} for {clients} clients")
            self.rows = max(self.rows, x.numel() // (x.shape[-1] if x.is_floating_point() else 1))
            return call(x) if not arguments else self._mapped(part, own, generators, x, *arguments)

        return forward

    def _mapped(
        self,
        part: Part,
        own: dict[str, torch.Tensor],
        generators: Sequence[torch.Generator],
        x: torch.Tensor,
        *arguments: Any,
    ) -> torch.Tensor:
        ours = vars(part.module)["forward"]
        self._give_back(part)  # the module's own forward pass is what is mapped
        try:
            if part.name not in self._singly:
                try:
                    return mapped_forward(part.module, own, x, arguments)
                except (RuntimeError, ValueError, TypeError):  # vmap's own; if it is the module's, it comes again below
                    self._singly.add(part.name)
            return single_forward(part.module, own, x, arguments, generators)
        finally:
            vars(part.module)["forward"] = ours
