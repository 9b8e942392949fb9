"""A peft model's trainable tensors as one flat fp32 vector θ, without copying: the tensors are views into it.

All the federation sees is θ and its layout. Since parameters and gradients are views, `get`, `set`, clipping and the
optimizer each touch one tensor instead of dozens.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from peft import PeftModel, PromptEncoder
from peft.tuners.tuners_utils import BaseTunerLayer

from fedpeft.adapters.precision import compute_in_fp32
from fedpeft.adapters.unreached import call_every_part
from fedpeft.errors import ModelError
from fedpeft.layouts import make_layout
from fedpeft.types import FloatArray


def canonical_name(name: str, adapter: str = "default") -> str:
    """A trainable tensor's name without peft's wrapper prefix and adapter name.

    >>> canonical_name("base_model.model.encoder.layer.0.attention.self.query.lora_A.default.weight")
    'encoder.layer.0.attention.self.query.lora_A.weight'
    >>> canonical_name("base_model.model.classifier.modules_to_save.default.bias")
    'classifier.bias'
    >>> canonical_name("base_model.model.default.defaults.lora_A.default.weight")
    'default.defaults.lora_A.weight'
    """
    parts = name.removeprefix("base_model.model.").removeprefix("base_model.").split(".")
    if "modules_to_save" in parts:
        place = parts.index("modules_to_save")
        return ".".join(parts[:place] + parts[place + 2 :])
    if adapter in parts:  # the last one: a module of the base may bear the same name
        del parts[len(parts) - 1 - parts[::-1].index(adapter)]
    return ".".join(parts)


class FlatAdapter:
    """A model with its trainable parameters laid out in one flat vector.

    Attributes:
        model: the wrapped model, in eval mode.
        layout: where each tensor lies.
        theta: fp32 tensor of shape (d,); the parameters are views into it.
        gradient: fp32 tensor of shape (d,); the parameters' `.grad` are views into it, so zero it, never replace it.
        parameters: the trainable parameters by canonical name, in the layout's order.
        merged: components of every LoRA layer, its last, that trainers leave as they are; 0 unless set.

    Raises:
        ModelError: the model has nothing to train, or two trainable tensors end up under one name.
    """

    def __init__(self, model: Any) -> None:
        call_every_part(model)
        compute_in_fp32(model)
        self.model = model
        self.merged = 0
        named = _trainable(model)
        if not named:
            raise ModelError(
                "the adapter trains nothing: no parameter of the model requires a gradient",
                code="adapter.empty",
                remedy="choose target modules, or leave the parameters that you want trained unfrozen",
            )
        self.layout = make_layout({name: tuple(parameter.shape) for name, parameter in named.items()})
        self.parameters = {tensor.name: named[tensor.name] for tensor in self.layout.tensors}
        self._lay_out()

    def _lay_out(self) -> None:
        """Give θ and its gradient memory of their own where the parameters are, and make the parameters views of it."""
        named = self.parameters
        device = next(iter(named.values())).device
        self.theta = torch.empty(self.layout.size, dtype=torch.float32, device=device)
        self.gradient = torch.zeros_like(self.theta)
        for tensor in self.layout.tensors:
            parameter = named[tensor.name]
            place = slice(tensor.offset, tensor.offset + tensor.size)
            self.theta[place] = parameter.detach().reshape(-1).float()
            parameter.data = self.theta[place].view(tensor.shape)
            parameter.grad = self.gradient[place].view(tensor.shape)

    def move(self, device: torch.device) -> None:
        """Move model and θ to a device, in place: built on the CPU, the initial value is the same on every device.

        A quantised base is already where it computes (`load_base`), and only the adapter goes there.
        """
        if device == self.theta.device:
            return
        if getattr(self.model, "is_quantized", False):
            for parameter in self.parameters.values():
                parameter.grad = None  # it stays behind: the new one is on the new device
                parameter.data = parameter.data.to(device)
        else:
            self.model.to(device)
            self.parameters.update(_trainable(self.model))  # to some devices a model moves by new parameters
        self._lay_out()

    def forget_gradient(self) -> None:
        """Give back the gradient's memory, as large as θ: for who trains without gradients."""
        self.gradient = self.theta.new_empty(0)
        for parameter in self.parameters.values():
            parameter.grad = None

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

    def train(self, mode: bool) -> None:
        """Switch the adapter's own dropout on or off.

        The frozen base stays in eval mode, where its features are at their best; so do fully trained modules
        (`modules_to_save`), whose own dropout belongs to the base's recipe.
        """
        for module in self.model.modules():
            if isinstance(module, PromptEncoder):
                module.train(mode)
            elif isinstance(module, BaseTunerLayer):
                module.training = mode  # some kinds (LoHa, LoKr) ask the layer's own flag
                for name, child in module.named_children():
                    if name != "base_layer":
                        child.train(mode)


def _trainable(model: Any) -> dict[str, torch.nn.Parameter]:
    """The parameters that require a gradient, by canonical name; without an adapter of peft's by their own."""
    adapter = getattr(model, "active_adapter", "default")
    named: dict[str, torch.nn.Parameter] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        canonical = name
        if isinstance(model, PeftModel):
            canonical = canonical_name(name, adapter if isinstance(adapter, str) else "default")
        if canonical in named:
            raise ModelError(
                f'two trainable tensors are both called "{canonical}", the second one is {name}',
                code="adapter.name-clash",
                allowed="one active adapter",
                remedy="pass a model without adapters",
            )
        named[canonical] = parameter
    return named
