"""What can be pruned: attention heads and channels of the feed-forward layers, numbered through the whole model.

A *unit* is one head, or under grouped-query attention one group of heads with the key and value that they share, or one
channel between the two matrices of a feed-forward layer. A *group* is all units of one kind in one layer: units compete
within their group only, so every layer keeps the same share, and what a step costs follows from the ratio.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from fedpeft.pruning.mask import unpack
from fedpeft.types import Held

Kind: TypeAlias = Literal["heads", "channels"]
Places: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Group:
    """All units of one kind in one layer: those numbered `start` to `start + size - 1`."""

    layer: int
    kind: Kind
    start: int
    size: int

    @property
    def units(self) -> slice:
        """Their numbers."""
        return slice(self.start, self.start + self.size)


@dataclass(frozen=True, slots=True, eq=False)
class Units:
    """The units of a model, and which trained values belong to each.

    >>> heads = Group(layer=0, kind="heads", start=0, size=2)
    >>> units = Units((heads,), np.array([0, 0, 1, 1, -1], dtype=np.int32))
    >>> units.held(np.packbits([False, True]).tobytes()).places
    array([2, 3, 4])
    """

    groups: tuple[Group, ...]
    unit_of: npt.NDArray[np.int32]  # of each trained value, shape (d,); -1: of none, so that everybody holds it

    @property
    def count(self) -> int:
        """U, units of the model."""
        return sum(group.size for group in self.groups)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Units of each group."""
        return tuple(group.size for group in self.groups)

    def held(self, mask: bytes) -> Held:
        """The trained values that a client of this mask holds.

        Raises:
            ValueError: as `unpack`.
        """
        return _held(self, mask)

    def shares(self, scores: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Scores as shares of their group's sum, shape (U,); zero where a group has nothing but zeros."""
        shares = np.zeros(self.count)
        for group in self.groups:
            own = scores[group.units].astype(np.float64)
            total = own.sum()
            if total > 0:
                shares[group.units] = own / total
        return shares


@lru_cache(maxsize=8)  # of d whole numbers each
def _held(units: Units, mask: bytes) -> Held:
    kept = unpack(mask, units.sizes)
    free = units.unit_of < 0
    return Held(hashlib.sha256(mask).hexdigest(), np.flatnonzero(free | kept[np.where(free, 0, units.unit_of)]))
