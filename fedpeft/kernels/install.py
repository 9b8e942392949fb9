"""Put a kernel under the frozen linear layers of a model, and take it away again.

A layer keeps its class, its parameters and its place in the model; only the way it multiplies changes. So whatever
wraps it (peft's adapters among them) goes on as before.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from fedpeft.kernels.frozen import FrozenProduct, Kernel, frozen_product
from fedpeft.kernels.native import Native

_PRODUCT = "_fedpeft_product"


def install(model: torch.nn.Module, kernel: Kernel) -> int:
    """Hold every frozen matrix of `model` in the kernel; returns the bytes that it holds beside the model's own.

    Frozen matrices are those of `torch.nn.Linear` and of GPT-2's `Conv1D` whose weight needs no gradient; a bias that
    does is added to the product. Change no matrix while the kernel is installed: `uninstall` first.
    """
    uninstall(model)
    total = 0
    for module in model.modules():
        matrix = frozen_matrix(module)
        if matrix is None or "forward" in vars(module) or kernel.available(matrix):
            continue  # a forward pass of the module's own is somebody else's, e.g. one that moves weights about
        bias = bias_of(module)
        if bias is not None and bias.requires_grad:
            product = kernel.hold(matrix, None)
            vars(module)["forward"] = partial(_plus_bias, module=module, product=product)
        else:
            product = kernel.hold(matrix, bias)
            vars(module)["forward"] = partial(frozen_product, product=product)
        vars(module)[_PRODUCT] = product
        total += product.bytes
    return total


def uninstall(model: torch.nn.Module) -> None:
    """Give every layer its own forward pass back."""
    for module in model.modules():
        if vars(module).pop(_PRODUCT, None) is not None:
            vars(module).pop("forward", None)


def _plus_bias(x: torch.Tensor, module: Any, product: FrozenProduct) -> torch.Tensor:
    """With the bias that the module has at the moment: training changes it."""
    y = frozen_product(x, product)
    bias: torch.Tensor = module.bias
    return y + bias.to(y.dtype)


def installed_products(model: torch.nn.Module) -> list[FrozenProduct]:
    """What a kernel holds under the layers of a model. It never changes, so a copy of the model may share it."""
    return [vars(module)[_PRODUCT] for module in model.modules() if _PRODUCT in vars(module)]


def held_product(module: torch.nn.Module) -> FrozenProduct | None:
    """The product of a frozen linear layer: by the kernel installed under it, else by torch; None for other modules."""
    matrix = frozen_matrix(module)
    bias = bias_of(module) if matrix is not None else None
    if matrix is None or (bias is not None and bias.requires_grad):
        return None
    installed: FrozenProduct | None = vars(module).get(_PRODUCT)
    if installed is None and "forward" in vars(module):
        return None
    return installed or Native().hold(matrix, bias)


def frozen_matrix(module: Any) -> torch.Tensor | None:
    """W, shape (out, in), of a linear layer where it is frozen; None for any other module.

    Subclasses do something of their own in `forward` (quantised layers among them) and are left alone.
    """
    conv1d = type(module).__name__ == "Conv1D" and type(module).__module__.startswith("transformers.")
    if not conv1d and type(module) is not torch.nn.Linear:
        return None
    weight: torch.Tensor = module.weight
    if weight.requires_grad or not weight.is_floating_point() or type(weight) is not torch.nn.Parameter:
        return None  # of another class: what torchao quantised calls itself fp32
    return weight.detach().t() if conv1d else weight.detach()


def bias_of(module: Any) -> torch.Tensor | None:
    """b, shape (out,), of a linear layer, if it has one."""
    bias: torch.Tensor | None = module.bias
    return bias
