"""What mixing LoRA factors cost, over seeds: runs of several rules side by side, round by round.

RunRecord.mixing ──> the mean of each round over a group's seeds ──> a table's row, a line of a plot
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from fedpeft.report.points import MIXING
from fedpeft.report.seeds import Group

WORDS = {"mix_distance": "off the dense mean", "mix_carried": "carried over", "mix_discarded": "lost for good"}
"""The figures of `MIXING` in words."""

CAPTION = "in the product of the factors, as shares of what clients changed on average (its Frobenius norm)"


@dataclass(frozen=True, slots=True)
class MixingCost:
    """Of one group: each figure of `MIXING` after every round that all of its runs have, mean over the runs."""

    name: str
    seeds: tuple[int, ...]
    figures: dict[str, tuple[float, ...]]  # rounds 1, 2, ... in order; shares, usually from 0 to 1

    def mean(self, figure: str) -> float:
        """Over all rounds."""
        return fmean(self.figures[figure])

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {"name": self.name, "seeds": self.seeds, **self.figures}


def mixing_costs(groups: Sequence[Group]) -> list[MixingCost]:
    """Of the groups that have any, in their order."""
    return [cost for group in groups if (cost := mixing_cost(group)) is not None]


def mixing_cost(group: Group) -> MixingCost | None:
    """None where a run had no rule, or does not tell."""
    told = {name: [run.mixing.get(name, ()) for run in group.records] for name in MIXING}
    if not all(map(all, told.values())):
        return None
    return MixingCost(group.name, group.seeds, {name: _mean(runs) for name, runs in told.items()})


def _mean(runs: Sequence[Sequence[float]]) -> tuple[float, ...]:
    return tuple(map(fmean, zip(*runs, strict=False)))  # one may have ended earlier than another
