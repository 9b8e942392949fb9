"""Which values a client sends in a round, where it is not all.

Those that its mask leaves it, that are not frozen in the round, that belong to one of the components which its rank
lets it train, and to none that nobody trains. Both sides derive it from the client's plan, so an update carries no
indices. Heads and channels are whole rows of B and whole columns of A, and components whole rows of A and columns of B,
so what is left of a tensor is a tensor, and codecs that treat each by itself are told which.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from fedpeft.errors import ModelError
from fedpeft.layouts import axis_of, make_layout, named
from fedpeft.pruning.units import Units
from fedpeft.types import ALL_COMPONENTS, Held, Layout, Plan


@dataclass(frozen=True, slots=True, eq=False)
class Portion:
    """What the client of a plan sends."""

    places: Held | None  # in the shared vector, in the order of the update's values; None: all
    held: Held | None  # for which alone the update counts; None: all, since what a smaller rank leaves out is unchanged
    layout: Layout  # of the update's values, as tensors
    size: int  # how many


class Sent:
    """What clients send of one vector.

    Args:
        layout: of the shared vector, d values.
        units: heads and channels, where clients may be pruned.
        merged: components of every LoRA layer, its last, that nobody trains.
    """

    def __init__(self, layout: Layout, units: Units | None = None, merged: int = 0) -> None:
        self.all = layout
        self.units = units
        self.merged = merged
        self.portion = lru_cache(maxsize=16)(self._portion)
        """(mask, frozen parts of names, rank) -> `Portion`; raises as `of`."""

    def of(self, plan: Plan) -> Portion:
        """What the client of a plan sends.

        Raises:
            ValueError: a mask of another model.
            ModelError: a part of a name that no tensor has, or all tensors are frozen.
        """
        portion: Portion = self.portion(plan.mask, plan.frozen, plan.rank)
        return portion

    def check(self, turns: Iterable[Sequence[str]]) -> None:
        """See whether rounds may freeze these tensors.

        Args:
            turns: parts of names, of some rounds.

        Raises:
            ModelError: as `of`.
        """
        for parts in dict.fromkeys(map(tuple, turns)):
            self.portion(b"", parts, ALL_COMPONENTS)

    def _portion(self, mask: bytes, frozen: tuple[str, ...], rank: int) -> Portion:
        layout = self._tensors(mask, frozen, rank)
        if layout.size == self.all.size:
            return Portion(None, None, layout, layout.size)
        held = self._kept(mask, ~still_places(self.all, frozen, self.merged), f"{self.merged} {frozen}")
        moving = ~still_places(self.all, frozen, self.merged, rank)
        places = self._kept(mask, moving, f"{self.merged} {frozen} {rank}")
        assert layout.size == len(places.places)
        everything = len(held.places) == self.all.size
        return Portion(places, None if everything else held, layout, len(places.places))

    def _kept(self, mask: bytes, moving: npt.NDArray[np.bool_], name: str) -> Held:
        """Those that move, and that a mask leaves."""
        places = np.flatnonzero(moving & self._left(mask))
        return Held(hashlib.sha256(name.encode() + b"\0" + mask).hexdigest(), places)

    def _left(self, mask: bytes) -> npt.NDArray[np.bool_]:
        """What a mask leaves, shape (d,)."""
        left = np.ones(self.all.size, dtype=bool)
        if mask:
            assert self.units is not None
            left[:] = False
            left[self.units.held(mask).places] = True
        return left

    def _tensors(self, mask: bytes, frozen: tuple[str, ...], rank: int) -> Layout:
        """Of what moves, and a mask leaves."""
        still, shapes, left = named(self.all, frozen, "frozen"), {}, self._left(mask)
        for tensor in self.all.tensors:
            own = left[tensor.offset : tensor.offset + tensor.size].reshape(tensor.shape)
            shape, axis = _extents(own) if mask else list(tensor.shape), axis_of(tensor)
            if axis is not None:
                shape[axis] = min(rank, shape[axis] - self.merged)
            if tensor.name not in still:
                shapes[tensor.name] = tuple(shape)
        if not shapes:
            raise ModelError(
                f"a round that freezes {', '.join(frozen)} leaves nothing to train: that is all {len(still)} tensors",
                code="adapter.nothing-trained",
                allowed="parts of the names of some of the tensors",
                remedy="freeze fewer of them in one round",
            )
        return make_layout(shapes)


def _extents(kept: npt.NDArray[np.bool_]) -> list[int]:
    """The shape of what is left of a tensor, along each of its axes."""
    axes = range(kept.ndim)
    return [int(kept.any(axis=tuple(other for other in axes if other != axis)).sum()) for axis in axes]


@lru_cache(maxsize=16)
def still_places(
    layout: Layout, frozen: tuple[str, ...], merged: int = 0, rank: int = ALL_COMPONENTS
) -> npt.NDArray[np.bool_]:
    """Which values no step moves. Not to be modified.

    Args:
        layout: of the vector, d values.
        frozen: parts of tensors' names: all of these.
        merged: of every LoRA layer, its last components.
        rank: of every LoRA layer, what comes after so many components.

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
        elif axis is not None:
            np.moveaxis(values, axis, 0)[min(rank, tensor.shape[axis] - merged) :] = True
    places.flags.writeable = False
    return places


__all__ = ["Portion", "Sent", "still_places"]
