"""Train less of an adapter: tensors that keep their initial value, which every side derives, and never travel.

FFA-LoRA (Sun et al. 2024, arXiv 2403.12313) freezes every A. It is done after the initial values are drawn: frozen
before it gets an adapter, a model has no A yet to be frozen.
"""

from __future__ import annotations

from collections.abc import Sequence

from fedpeft.adapters.flat import FlatAdapter
from fedpeft.errors import ModelError
from fedpeft.layouts import named


def freeze(adapter: FlatAdapter, frozen: Sequence[str]) -> FlatAdapter:
    """The adapter without the tensors that any of `frozen` is a part of; see `named`. It takes the given one's place.

    Args:
        adapter: with its initial value; not to be used afterwards, unless nothing is frozen.
        frozen: parts of tensors' names.

    Raises:
        ModelError: a part that no tensor has, or nothing left to train.
    """
    if not frozen:
        return adapter
    names = named(adapter.layout, frozen, "frozen")
    if len(names) == len(adapter.layout.tensors):
        raise ModelError(
            f"adapter.frozen = {list(frozen)} leaves nothing to train: all {len(names)} tensors would be frozen",
            code="adapter.empty",
            allowed="parts of the names of some of the tensors",
            remedy="freeze fewer tensors",
        )
    for name, parameter in adapter.parameters.items():
        parameter.data = parameter.data.clone()  # else it would keep the memory of the former θ
        parameter.grad = None
        if name in names:
            parameter.requires_grad_(False)
    return FlatAdapter(adapter.model)
