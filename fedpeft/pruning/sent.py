"""Which values a client sends in a round, where it is not all.

Those that its mask leaves it, that are not frozen in the round, and that belong to no merged component.

Both sides derive it from the client's plan, so an update carries no indices.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from fedpeft.errors import ModelError
from fedpeft.layouts import axis_of, make_layout, named, without_merged
from fedpeft.pruning.units import Units
from fedpeft.types import Held, Layout, Plan


class Sent:
    """What the clients of plans send of one vector.

    Args:
        layout: of the shared vector, d values.
        units: heads and channels, where clients may be pruned.
        merged: components of every LoRA layer, its last, that nobody trains.

    Attributes:
        tensors: frozen parts of names -> the layout of what moves; raises ModelError as `held` does.
    """

    def __init__(self, layout: Layout, units: Units | None = None, merged: int = 0) -> None:
        self.all = layout
        self.units = units
        self.merged = merged
        self._held = lru_cache(maxsize=8)(self._make_held)
        self.tensors = lru_cache(maxsize=8)(self._tensors)

    def held(self, plan: Plan) -> Held | None:
        """The places in the shared vector; None: all.

        Raises:
            ValueError: a mask of another model.
            ModelError: a part of a name that no tensor has, or all tensors are frozen.
        """
        return self._held(plan.mask, plan.frozen) if plan.mask or plan.frozen or self.merged else None

    def layout(self, plan: Plan) -> Layout | None:
        """What is sent, as tensors; None: what a mask leaves is a run of values.

        Raises:
            ModelError: as `held`.
        """
        return None if plan.mask else self.tensors(plan.frozen)

    def check(self, turns: Iterable[Sequence[str]]) -> None:
        """See whether rounds may freeze these tensors.

        Args:
            turns: parts of names, of some rounds.

        Raises:
            ModelError: as `held`.
        """
        for parts in dict.fromkeys(map(tuple, turns)):
            self.tensors(parts)

    def _make_held(self, mask: bytes, frozen: tuple[str, ...]) -> Held:
        if not frozen and not self.merged:
            assert self.units is not None
            return self.units.held(mask)
        moving = ~still_places(self.all, frozen, self.merged)
        if not moving.any():
            self.tensors(frozen)  # says so
        digest = hashlib.sha256(f"{self.merged}\0".encode() + "\0".join(frozen).encode())
        if mask:
            assert self.units is not None
            kept = np.zeros_like(moving)
            kept[self.units.held(mask).places] = True
            moving &= kept
            digest.update(mask)
        return Held(digest.hexdigest(), np.flatnonzero(moving))

    def _tensors(self, frozen: tuple[str, ...]) -> Layout:
        trained = without_merged(self.all, self.merged) if self.merged else self.all
        if not frozen:
            return trained
        still = named(self.all, frozen, "frozen")
        moving = {tensor.name: tensor.shape for tensor in trained.tensors if tensor.name not in still}
        if not moving:
            raise ModelError(
                f"a round that freezes {', '.join(frozen)} leaves nothing to train: that is all {len(still)} tensors",
                code="adapter.nothing-trained",
                allowed="parts of the names of some of the tensors",
                remedy="freeze fewer of them in one round",
            )
        return make_layout(moving)


@lru_cache(maxsize=8)
def still_places(layout: Layout, frozen: tuple[str, ...], merged: int = 0) -> npt.NDArray[np.bool_]:
    """Which values no step moves: of frozen tensors, and of components that nobody trains. Not to be modified.

    Args:
        layout: of the vector, d values.
        frozen: parts of tensors' names.
        merged: of every LoRA layer, its last components.

    Returns:
        bool, shape (d,).

    Raises:
        ModelError: a part that no tensor has.
    """
    still, places = named(layout, frozen, "frozen"), np.zeros(layout.size, dtype=bool)
    for tensor in layout.tensors:
        values = places[tensor.offset : tensor.offset + tensor.size].reshape(tensor.shape)
        axis = axis_of(tensor)
        if tensor.name in still:
            values[...] = True
        elif merged and axis is not None:
            np.moveaxis(values, axis, 0)[-merged:] = True
    places.flags.writeable = False
    return places


__all__ = ["Sent", "still_places"]
