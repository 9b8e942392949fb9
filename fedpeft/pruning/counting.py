"""Count the products of a model: what `fedpeft.pruning.cost` is computed from."""

from __future__ import annotations

from typing import Any

from fedpeft.adapters.cut import linear_shape
from fedpeft.kernels.install import frozen_matrix
from fedpeft.pruning.anatomy import Anatomy
from fedpeft.pruning.cost import Arithmetic, Product


def count_products(model: Any, anatomy: Anatomy, tokens: float) -> Arithmetic:
    """The products of a training step.

    Args:
        model: with its adapter.
        anatomy: of it.
        tokens: of a text, on average; 0: not known.
    """
    cuts = {cut.module: cut for cut in anatomy.cuts}
    products, widths = [], []
    for full_name, module in model.named_modules():
        matrix, name = frozen_matrix(module), full_name.removesuffix(".base_layer")
        if matrix is None or ".lora_" in name:
            continue
        cut, layer = cuts.get(name), model.get_submodule(name)
        rank = max((factor.weight.shape[0] for factor in getattr(layer, "lora_A", {}).values()), default=0)
        sides = tuple(matrix.shape) if rank else (0, 0)
        if cut is None:
            products.append(Product(-1, matrix.numel(), sum(sides), 0, rank))
        else:
            products.append(Product(cut.group, matrix.numel(), sides[1 - cut.side], sides[cut.side], rank))
    for _, place in anatomy.attentions:
        behind = next(cut for cut in anatomy.cuts if cut.group == place and cut.side == 1)
        widths.append(linear_shape(model.get_submodule(behind.module))[1])
    return Arithmetic(anatomy.groups, tuple(products), tuple(widths), tokens)
