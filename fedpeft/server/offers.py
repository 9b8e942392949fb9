"""Which arms a client is offered in a round: those that fit its memory, under the ratio that is in force then.

Before `pruning.start`, and while the ramp grows, a client trains more of the model than its arm says
(`fedpeft.pruning.ramp`). So in round t arm (rank, ρ, codec, steps) is played as (rank, ρ(t), codec, steps):

* it must fit with ρ(t). Memory is known of the grid's ratios and of the whole model; of a ratio between two that of the
  smaller, which needs more;
* of arms that are one and the same in a round only the one that says so is offered: before `start` the whole ones, if
  the grid has them. What is drawn with a probability is then what is played;
* what came of it says something of the arm that it was played as, if the grid has that one, and of none otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from fedpeft.pruning.ramp import Ramp
from fedpeft.scheduling import ClassTimes, Grid, Load
from fedpeft.types import ALL_COMPONENTS


@dataclass(frozen=True, slots=True)
class SchedulingSettings:
    """What a coordinator with a scheduler needs beside the run file."""

    grid: Grid
    memory_mb: tuple[float, ...]  # that a client needs for each arm, by place
    full_rank: int = ALL_COMPONENTS  # an arm of this rank or more leaves no component out
    times: Mapping[str, ClassTimes] | None = None  # of a simulated fleet, by device class
    loads: tuple[Load, ...] = ()  # of each arm, by place; empty: not known
    whole_mb: tuple[float, ...] = ()  # as `memory_mb`, before anything is pruned; empty: the same

    def offered(self, memory_mb: int) -> tuple[int, ...]:
        """Places of the arms that fit into so much memory once the whole ratio is in force; 0, not told: all."""
        return tuple(place for place, need in enumerate(self.memory_mb) if not memory_mb or need <= memory_mb)


class Offers:
    """The arms of a run, round by round.

    Args:
        settings: the arms and what they need.
        ramp: from when on, and how fast, clients are pruned.
    """

    def __init__(self, settings: SchedulingSettings, ramp: Ramp) -> None:
        self.settings, self.ramp = settings, ramp
        self.arms = settings.grid.arms
        self._places = {arm: place for place, arm in enumerate(self.arms)}
        self._ratios = sorted(settings.grid.ratios)
        self._fits: dict[tuple[int, float], tuple[int, ...]] = {}

    def of(self, memory_mb: int, number: int) -> tuple[int, ...]:
        """Places of the arms for a client of so much memory in round `number`, ascending; 0, not told: all.

        Looked up once for each size of memory and stage of the ramp: a million clients have few.
        """
        key = memory_mb, self.ramp.ratio(1.0, number)
        if key not in self._fits:
            self._fits[key] = tuple(
                place
                for place in range(len(self.arms))
                if (not memory_mb or self.needs(place, number) <= memory_mb)
                and not self._said_by_another(place, number)
            )
        return self._fits[key]

    def ratio(self, place: int, number: int) -> float:
        """ρ(t) of an arm."""
        return self.ramp.ratio(self.arms[place].pruning, number)

    def played(self, place: int, number: int) -> int | None:
        """The place of what an arm is played as; None where the grid does not have it."""
        return self._places.get(replace(self.arms[place], pruning=self.ratio(place, number)))

    def least(self, number: int) -> float:
        """The smallest ratio that any arm is played with: 0 where some train the whole model."""
        return self.ramp.ratio(self._ratios[0], number)

    def whole(self, place: int, number: int) -> bool:
        """Whether an arm trains the whole model, or as much of it as any."""
        return self.ratio(place, number) == self.least(number)

    def needs(self, place: int, number: int) -> float:
        """Megabytes that an arm needs, at most."""
        below = [ratio for ratio in self._ratios if ratio <= self.ratio(place, number)]
        if below:
            return self.settings.memory_mb[self._places[replace(self.arms[place], pruning=below[-1])]]
        return (self.settings.whole_mb or self.settings.memory_mb)[place]

    def _said_by_another(self, place: int, number: int) -> bool:
        """Whether what the arm is played as is another arm of the grid, which is played as itself."""
        played = self.played(place, number)
        return played is not None and played != place and self.played(played, number) == played


__all__ = ["Offers", "SchedulingSettings"]
