"""A bandit over a continuum: the grid as a box of cells, split where it is used; Smooth UCB picks the cell.

FedSpine (Yao et al. 2025, arXiv 2501.02438) lets every device search the plane (pruning ratio, LoRA rank) with a tree
whose cells are split where they are used; a cell is picked by Smooth UCB. Its constants are not public, so these are
fedpeft's own. The box is the whole grid, (rank, pruning, codec, steps) by place in their lists: list as many values as
the continuum is to be fine, in an order in which neighbours are alike. For each device class, over the leaves i of its
tree,

    B(i) = X̄(i) + c sqrt(ln n / N(i)) + ν 2^(-depth(i))                  (the last term as in HOO, Bubeck et al. 2011)
    η    = max(η_min, η_0 / (1 + d sqrt(n)))                             (as Smooth UCT, Heinrich and Silver 2015)
    leaf = argmax_i B(i) with probability η, else drawn with N(i) / n

and the client gets an arm of that leaf that fits it, drawn uniformly. A leaf that was used `split` times is cut in two
in the middle of its longest side, until it is a single arm; N and X̄ of the halves come from the arms seen in them. New
leaves that were not used yet come first. What like devices work on now counts in N and n.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fedpeft.scheduling.class_learner import ClassLearner
from fedpeft.scheduling.class_statistics import Numbers, at_work, check_positive, check_share
from fedpeft.scheduling.contract import Choice, Outcome, Request, Setting


@dataclass(frozen=True, slots=True)
class Cell:
    """A box of arms: places from `low` to below `high` in each of the four lists."""

    low: tuple[int, ...]
    high: tuple[int, ...]
    depth: int = 0

    def holds(self, coordinates: Sequence[int]) -> bool:
        """Whether an arm lies in it."""
        return all(a <= x < b for a, x, b in zip(self.low, coordinates, self.high, strict=True))

    def halves(self) -> tuple[Cell, Cell] | None:
        """Cut in the middle of the longest side, the first of equally long ones; None for a single arm.

        >>> Cell((0, 0), (1, 4)).halves()
        (Cell(low=(0, 0), high=(1, 2), depth=1), Cell(low=(0, 2), high=(1, 4), depth=1))
        """
        sides = [b - a for a, b in zip(self.low, self.high, strict=True)]
        if max(sides) < 2:
            return None
        axis = sides.index(max(sides))
        middle = self.low[axis] + sides[axis] // 2
        high, low = list(self.high), list(self.low)
        high[axis] = low[axis] = middle
        return Cell(self.low, tuple(high), self.depth + 1), Cell(tuple(low), self.high, self.depth + 1)


class Tree(ClassLearner):
    """A tree of cells for each device class.

    Args:
        split: a cell that was used so often is cut in two; a whole number, 1 or more.
        discount: ρ in (0, 1] of counts and rewards, as in `ucb`.
        exploration: c >= 0.
        smoothness: ν >= 0, how much rewards may differ within the whole box.
        greed_first: η_0 in (0, 1], the share of choices by B at the start.
        greed_least: η_min in (0, 1].
        greed_decay: d >= 0.
    """

    def __init__(
        self,
        split: int = 2,
        discount: float = 0.995,
        exploration: float = 0.05,
        smoothness: float = 0.1,
        greed_first: float = 1.0,
        greed_least: float = 0.7,
        greed_decay: float = 0.01,
    ) -> None:
        super().__init__(discount)
        if not isinstance(split, int) or split < 1:
            raise ValueError(f"split = {split!r} must be a whole number, 1 or more")
        self.split = split
        self.exploration = check_positive("exploration", exploration)
        self.smoothness = check_positive("smoothness", smoothness)
        self.greed_first = check_share("greed_first", greed_first)
        self.greed_least = check_share("greed_least", greed_least)
        self.greed_decay = check_positive("greed_decay", greed_decay)

    def begin(self, setting: Setting) -> None:
        """See `Scheduler.begin`."""
        super().begin(setting)
        self._places = np.array(self.grid.coordinates)  # shape (K, 4)
        self._uses: dict[str, Numbers] = {}  # device class -> how often each arm was used, not discounted, shape (K,)
        self._leaves: dict[str, list[Cell]] = {}

    def choose(self, request: Request) -> Choice:
        """See `Scheduler.choose`."""
        stream = request.stream()
        counts, sums = self.seen.of(request.device)
        plays = counts + at_work(request, len(counts))
        offered = np.array(request.offered)
        found = []  # (leaf, the arms in it that fit, N, B)
        total = max(float(plays[offered].sum()), 1.0)
        for leaf in self.leaves(request.device):
            inside = offered[self._within(leaf)[offered]]
            if not len(inside):
                continue
            heard, used = float(counts[inside].sum()), float(plays[inside].sum())
            if used == 0.0:
                found.append((leaf, inside, used, math.inf))
                continue
            mean = float(sums[inside].sum()) / heard if heard else 0.5  # at work and not heard of: taken for usual
            value = mean + self.exploration * math.sqrt(math.log(total) / used) + self.smoothness * 0.5**leaf.depth
            found.append((leaf, inside, used, value))
        greed = max(self.greed_least, self.greed_first / (1.0 + self.greed_decay * math.sqrt(total)))
        best = max(value for *_, value in found)
        if best == math.inf or float(stream.uniform(1)[0]) < greed:
            ties = [item for item in found if item[3] == best]
            leaf, inside, *_ = ties[stream.below(len(ties))]
            why = "new cell" if best == math.inf else f"best of {len(found)} cells, {best:.3f}"
        else:
            shares = np.cumsum([used for *_, used, _ in found])
            drawn = int(np.searchsorted(shares, float(stream.uniform(1)[0]) * shares[-1], side="right"))
            leaf, inside, *_ = found[min(drawn, len(found) - 1)]
            why = f"as often as so far, of {len(found)} cells"
        return Choice(int(inside[stream.below(len(inside))]), f"{why}, depth {leaf.depth}")

    def leaves(self, device: str) -> list[Cell]:
        """The cells of a class, in a fixed order; one for a class that was never seen."""
        whole = Cell((0,) * len(self.grid.axes), tuple(len(axis) for axis in self.grid.axes))
        return self._leaves.get(device, [whole])

    def observe(self, outcomes: Sequence[Outcome]) -> None:
        """See `Scheduler.observe`."""
        super().observe(outcomes)
        for outcome in outcomes:
            if outcome.reward is None:
                continue
            uses = self._uses.setdefault(outcome.device, np.zeros(len(self.grid.arms)))
            uses[outcome.place] += 1.0
            self._leaves[outcome.device] = [
                part for leaf in self.leaves(outcome.device) for part in self._grown(leaf, outcome.place, uses)
            ]

    def state(self) -> dict[str, Any]:
        """See `Scheduler.state`."""
        return {
            "seen": self.seen.state(),
            "uses": {device: self._uses[device].tolist() for device in sorted(self._uses)},
            "leaves": {
                device: [[list(leaf.low), list(leaf.high), leaf.depth] for leaf in self._leaves[device]]
                for device in sorted(self._leaves)
            },
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """See `Scheduler.restore`."""
        if not state:
            return
        self.seen.restore(state["seen"])
        self._uses = {device: np.array(uses, dtype=np.float64) for device, uses in state["uses"].items()}
        self._leaves = {
            device: [Cell(tuple(low), tuple(high), depth) for low, high, depth in leaves]
            for device, leaves in state["leaves"].items()
        }

    def _within(self, leaf: Cell) -> npt.NDArray[np.bool_]:
        """Which arms lie in a cell, shape (K,)."""
        inside: npt.NDArray[np.bool_] = np.all((self._places >= leaf.low) & (self._places < leaf.high), axis=1)
        return inside

    def _grown(self, leaf: Cell, place: int, uses: Numbers) -> list[Cell]:
        """A leaf after arm `place` was used: itself, or its halves."""
        if not leaf.holds(self.grid.coordinates[place]):
            return [leaf]
        halves = leaf.halves() if uses[self._within(leaf)].sum() >= self.split else None
        return list(halves) if halves else [leaf]
