"""A peft model's trainable tensors as one flat fp32 vector θ, without copying: the tensors are views into it.

All the federation sees is θ and its layout. Since parameters and gradients are views, `get`, `set`, clipping and the
optimizer each touch one tensor instead of dozens.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch

from fedpeft.errors import ModelError
from fedpeft.types import FloatArray, Layout, TensorSpec


def canonical_name(name: str, adapter: str = "default") -> str:
    """A trainable tensor's name without peft's wrapper prefix and adapter name.

    >>> canonical_name("base_model.model.encoder.layer.0.attention.self.query.lora_A.default.weight")
    'encoder.layer.0.attention.self.query.lora_A.weight'
    >>> canonical_name("base_model.model.classifier.modules_to_save.default.bias")
    'classifier.bias'
    """
    name = name.removeprefix("base_model.model.").removeprefix("base_model.")
    return name.replace(f".modules_to_save.{adapter}", "").replace(f".{adapter}", "")


def make_layout(shapes: dict[str, tuple[int, ...]]) -> Layout:
    """Lay tensors out in sorted name order.

    Args:
        shapes: canonical name -> shape.
    """
    tensors, offset, digest = [], 0, hashlib.sha256()
    for name in sorted(shapes):
        spec = TensorSpec(name, tuple(shapes[name]), offset)
        tensors.append(spec)
        offset += spec.size
        digest.update(f"{name}:{','.join(map(str, spec.shape))};".encode())
    return Layout(tuple(tensors), offset, digest.hexdigest())


class FlatAdapter:
    """A model with its trainable parameters laid out in one flat vector.

    Attributes:
        model: the wrapped model, in eval mode.
        layout: where each tensor lies.
        theta: fp32 tensor of shape (d,); the parameters are views into it.
        gradient: fp32 tensor of shape (d,); the parameters' `.grad` are views into it, so zero it, never replace it.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        adapter = getattr(model, "active_adapter", "default")
        named: dict[str, torch.nn.Parameter] = {}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                named[canonical_name(name, adapter if isinstance(adapter, str) else "default")] = parameter
        if not named:
            raise ModelError(
                "the adapter trains nothing: no parameter of the model requires a gradient",
                code="adapter.empty",
                remedy="choose target modules, or leave the parameters that you want trained unfrozen",
            )
        self.layout = make_layout({name: tuple(parameter.shape) for name, parameter in named.items()})
        device = next(iter(named.values())).device
        self.theta = torch.empty(self.layout.size, dtype=torch.float32, device=device)
        self.gradient = torch.zeros_like(self.theta)
        for tensor in self.layout.tensors:
            parameter = named[tensor.name]
            place = slice(tensor.offset, tensor.offset + tensor.size)
            self.theta[place] = parameter.detach().reshape(-1).float()
            parameter.data = self.theta[place].view(tensor.shape)
            parameter.grad = self.gradient[place].view(tensor.shape)

    def get(self) -> FloatArray:
        """A copy of θ, shape (d,)."""
        return self.theta.detach().cpu().numpy().copy()

    def set(self, theta: FloatArray) -> None:
        """Load θ, shape (d,) fp32, into the model.

        Raises:
            ValueError: another shape.
        """
        if theta.shape != (self.layout.size,):
            raise ValueError(f"theta has shape {theta.shape}, the adapter needs ({self.layout.size},)")
        self.theta.copy_(torch.from_numpy(np.ascontiguousarray(theta, dtype=np.float32)))
