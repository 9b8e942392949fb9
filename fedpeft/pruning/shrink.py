"""A smaller model of the same weights: what a pruned client trains, and where its adapter lies in the whole one.

Only the matrices that are cut are new; embeddings, norms and all else are the full model's own tensors. So one more
mask costs a process what its client keeps of those matrices, and no client ever sees the heads and channels that it
does without: their products, activations and gradients are not computed.

The adapter's tensors keep their names and order, and cutting keeps the order of what is left, so that with the places i
of what is held, the smaller θ' is θ[i], entry by entry.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fedpeft.adapters import FlatAdapter
from fedpeft.adapters.cut import cut_linear
from fedpeft.errors import ModelError
from fedpeft.kernels.frozen import Kernel
from fedpeft.kernels.install import install, installed_products, uninstall
from fedpeft.pruning.anatomy import Anatomy, anatomy_of
from fedpeft.pruning.mask import unpack
from fedpeft.pruning.units import Places, Units

KEPT = 4
"""Smaller models that are kept at a time unless a run has more ratios, of the masks used last."""

MOST_UNITS = 400_000
"""Of a model: a mask takes a bit each, and it travels in the header of a frame, which has 64 KiB."""


@dataclass(frozen=True, slots=True, eq=False)
class Shrunk:
    """A smaller model."""

    adapter: FlatAdapter  # of its own θ', shape (k,)
    places: Places  # of θ' in θ, shape (k,)


class Pruner:
    """Makes smaller models of one model.

    Args:
        adapter: the full model; it is not changed.
        kernel: under its frozen matrices; None: torch's own.
        kept: smaller models that are kept at a time; where there are more masks, each is made anew again and again.

    Attributes:
        units: what can be left out.
        magnitudes: L2 norm of each unit's frozen weights, shape (U,).

    Raises:
        ModelError: an architecture or a layer that cannot be cut, or too many heads and channels.
    """

    def __init__(self, adapter: FlatAdapter, kernel: Kernel | None = None, *, kept: int = KEPT) -> None:
        self.adapter = adapter
        self.kernel = kernel
        self._most = kept
        self.anatomy = anatomy_of(adapter.model)
        self.units: Units = self.anatomy.units(adapter)
        if self.units.count > MOST_UNITS:
            raise ModelError(
                f"the model has {self.units.count} heads and channels, and a mask has room for fewer",
                code="pruning.too-many",
                allowed=f"{MOST_UNITS}",
                remedy="remove devices.pruning",
            )
        self.magnitudes = self.anatomy.magnitudes(adapter)
        self._made: OrderedDict[bytes, Shrunk] = OrderedDict()

    def shrunk(self, mask: bytes) -> Shrunk:
        """The model that keeps what `mask` keeps; the same object while it is among the last used.

        Raises:
            ValueError: a mask of another model.
        """
        if mask not in self._made:
            self._made[mask] = self._shrink(mask)
            while len(self._made) > self._most:
                self._made.popitem(last=False)
        self._made.move_to_end(mask)
        return self._made[mask]

    def keeps(self, shrunk: Shrunk) -> bool:
        """Whether a smaller model is still among those used last."""
        return any(known is shrunk for known in self._made.values())

    def _shrink(self, mask: bytes) -> Shrunk:
        places = self.units.held(mask).places
        kept = unpack(mask, self.units.sizes)
        model = _copied(self.adapter.model)
        cut_model(model, self.anatomy, kept, self.kernel)
        smaller = FlatAdapter(model)
        assert smaller.layout.size == len(places)
        return Shrunk(smaller, places.astype(np.int64))


def cut_model(model: Any, anatomy: Anatomy, kept: npt.NDArray[np.bool_], kernel: Kernel | None = None) -> None:
    """Cut a model's matrices in place; those that are cut are new, so whoever shared them keeps the whole ones.

    Args:
        model: with or without LoRA.
        anatomy: of it.
        kept: which units stay, shape (U,), one or more of each group.
        kernel: under its frozen matrices; None: torch's own.
    """
    sides: dict[str, list[torch.Tensor | None]] = {}
    for cut in anatomy.cuts:
        group = anatomy.groups[cut.group]
        own = [place for unit, all_of in enumerate(cut.places) if kept[group.start + unit] for place in all_of]
        sides.setdefault(cut.module, [None, None])[cut.side] = torch.tensor(sorted(own), dtype=torch.int64)
    for name, (rows, columns) in sides.items():
        base = cut_linear(_bare(model, name), rows, columns)
        if kernel is not None:
            install(base, kernel)
    for name, place in anatomy.attentions:
        group = anatomy.groups[place]
        _tell_heads(model.get_submodule(name), int(kept[group.units].sum()), group.size)


def _bare(model: Any, name: str) -> Any:
    """A layer that no kernel holds any more: what it held was of the whole matrix."""
    layer = model.get_submodule(name)
    uninstall(layer)
    return layer


def _copied(model: Any) -> Any:
    """A copy that shares every frozen tensor, and what kernels made of them, with the original."""
    frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    shared: list[Any] = [*frozen, *model.buffers(), *installed_products(model)]
    return copy.deepcopy(model, {id(each): each for each in shared})


def _tell_heads(attention: Any, kept: int, of: int) -> None:
    """Correct what an attention module says of its own width; some read it in their forward pass."""
    for name in ("num_attention_heads", "num_heads", "all_head_size", "split_size"):
        whole = getattr(attention, name, None)
        if whole is not None:
            setattr(attention, name, whole // of * kept)
