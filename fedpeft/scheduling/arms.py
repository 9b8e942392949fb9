"""What a client may be told to do in a round: an arm, and the grid of all arms of a run.

An arm has four coordinates. The grid is their product, each coordinate with the values that the run file lists:

    (rank, pruning, codec, steps)  in  ranks × ratios × codecs × step counts

Arms are named by their place in the grid, 0 to K - 1, the last coordinate running fastest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

from fedpeft.types import ALL_COMPONENTS


@dataclass(frozen=True, slots=True)
class Arm:
    """One setting of a client's work."""

    rank: int  # trains the first so many components of each LoRA layer; ALL_COMPONENTS: all
    pruning: float  # share of heads and channels that is left out, in [0, 1)
    codec: str  # of the update
    steps: int  # local optimizer steps

    def __str__(self) -> str:
        rank = [] if self.rank == ALL_COMPONENTS else [f"rank {self.rank}"]
        pruned = [f"pruned {self.pruning:g}"] if self.pruning else []
        return ", ".join([*rank, *pruned, self.codec, f"{self.steps} step{'s' if self.steps > 1 else ''}"])


@dataclass(frozen=True)
class Grid:
    """All arms of a run.

    Lists run from little to much where that has a meaning: the `tree` takes neighbours in a list for alike.

    >>> grid = Grid(ranks=(2, 8), ratios=(0.0,), codecs=("int4", "int8"), steps=(4,))
    >>> len(grid.arms), str(grid.arms[1]), grid.place(Arm(8, 0.0, "int4", 4))
    (4, 'rank 2, int8, 4 steps', 2)
    """

    ranks: tuple[int, ...]
    ratios: tuple[float, ...]
    codecs: tuple[str, ...]
    steps: tuple[int, ...]

    @property
    def axes(self) -> tuple[Sequence[object], ...]:
        """The values of each coordinate, in the order of `Arm`."""
        return self.ranks, self.ratios, self.codecs, self.steps

    @cached_property
    def arms(self) -> tuple[Arm, ...]:
        """All K arms, by place."""
        return tuple(Arm(*values) for values in product(self.ranks, self.ratios, self.codecs, self.steps))

    @cached_property
    def coordinates(self) -> tuple[tuple[int, ...], ...]:
        """Of each arm, the places of its values in the four lists."""
        return tuple(product(*(range(len(axis)) for axis in self.axes)))

    def place(self, arm: Arm) -> int:
        """Where an arm is.

        Raises:
            ValueError: it is not in the grid.
        """
        return self.arms.index(arm)
