"""How soon a run was how good: seconds of the rounds until a metric first reached a target, paired by seed.

Seconds are those of the coordinator's clock, summed over committed rounds and over their attempts that came short:
whoever causes those pays for them. A simulation's devices take them on its virtual clock, so a laptop compares fleets.
A metric is known where it was evaluated; between two evaluations it is taken to move evenly. The later of them alone
would favour whoever's rounds are short: it looks more often. A mean over the runs that reached
the target would flatter whoever reached it seldom: it is told only where all runs of a group did, and a pair counts
where both did.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fedpeft.errors import ConfigError
from fedpeft.journal.headline import SMALLER_IS_BETTER, Headline, is_share
from fedpeft.report.record import RunRecord
from fedpeft.report.seeds import Group
from fedpeft.report.statistics import MeanInterval, mean_interval


@dataclass(frozen=True, slots=True)
class Target:
    """A value that a metric is to reach."""

    metric: str
    value: float  # in the metric's own unit: accuracies from 0 to 1

    def reached(self, found: float, headline: Headline) -> bool:
        """Whether a value is as good.

        Args:
            found: of the metric.
            headline: of the run, which says which way it goes; of another metric its name does.
        """
        larger = headline.larger_is_better if headline.name == self.metric else self.metric not in SMALLER_IS_BETTER
        return found >= self.value if larger else found <= self.value


@dataclass(frozen=True, slots=True)
class TimeToTarget:
    """A group of runs against one target."""

    name: str
    seeds: tuple[int, ...]
    seconds: tuple[float | None, ...]  # of each run; None: not reached
    mean: MeanInterval | None  # of the seconds; None unless all runs reached it
    against: str  # the first group's name
    speedup: MeanInterval | None
    """Of ln(seconds of the first group / own), over the seeds where both reached it; None without any, or where one was
    there before training."""

    @property
    def reached(self) -> int:
        """How many runs did."""
        return sum(one is not None for one in self.seconds)

    @property
    def times(self) -> tuple[float, float | None, float | None] | None:
        """How many times as fast as the first group: geometric mean, and the ends of its 95 % interval."""
        if self.speedup is None:
            return None
        low, high = (None if end is None else math.exp(end) for end in (self.speedup.low, self.speedup.high))
        return math.exp(self.speedup.mean), low, high

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "reached": self.reached, "times_as_fast": self.times}


def parse_target(text: str) -> Target:
    """`accuracy=0.85` -> a target.

    Raises:
        ConfigError: the text is not of that form.

    >>> parse_target("accuracy=0.85")
    Target(metric='accuracy', value=0.85)
    """
    name, _, told = text.partition("=")
    try:
        value = float(told)
    except ValueError:
        value = math.nan
    if not name.strip() or not math.isfinite(value):
        raise ConfigError(
            f'--target "{text}" is not a metric and a value',
            code="config.target",
            allowed="e.g. accuracy=0.85 (accuracies from 0 to 1) or loss=0.5",
            remedy="write it so",
        )
    if is_share(name.strip()) and not 0 <= value <= 1:
        raise ConfigError(
            f'--target "{text}": {name.strip()} goes from 0 to 1',
            code="config.target",
            allowed="0 to 1",
            remedy=f"{name.strip()}={value / 100:g} is {value:g} %" if 1 < value <= 100 else "correct it",
        )
    return Target(name.strip(), value)


def seconds_to(run: RunRecord, target: Target) -> float | None:
    """Seconds of the rounds until the target was first reached, on straight lines between evaluations; None: never.

    Raises:
        ConfigError: the run has not measured the metric on its test set.
    """
    known = [item for item in run.tests if target.metric in item.metrics]
    if not known:
        names = sorted({name for item in run.tests for name in item.metrics})
        raise ConfigError(
            f"--target {target.metric}: {run.name} has no such metric on a test set of the coordinator",
            code="config.target",
            allowed=", ".join(names) or "runs that were evaluated on the coordinator's test set",
            remedy="name one of these" if names else "name runs with a test set",
        )
    headline = Headline.of({run.metric: 0.0}, run.metric, run.larger_is_better)
    before: tuple[float, float] | None = None
    for item in known:
        value = item.metrics[target.metric]
        if target.reached(value, headline):
            return item.seconds if before is None else _crossing(before, (item.seconds, value), target.value)
        before = item.seconds, value
    return None


def _crossing(before: tuple[float, float], after: tuple[float, float], value: float) -> float:
    """When the straight line between two (seconds, value) meets a value between them."""
    share = (value - before[1]) / (after[1] - before[1])
    return before[0] + share * (after[0] - before[0]) if math.isfinite(share) else after[0]


def times_to(groups: Sequence[Group], target: Target) -> list[TimeToTarget]:
    """Every group against the target and, seed by seed, against the first group."""
    found: list[TimeToTarget] = []
    first: dict[int, float | None] = {}
    for group in groups:
        every = [seconds_to(one, target) for one in group.records]
        own = dict(zip(group.seeds, every, strict=True))
        first = first or own
        reached = [seconds for seconds in every if seconds is not None]
        pairs = [(first.get(seed), seconds) for seed, seconds in own.items()]
        both = [(theirs, ours) for theirs, ours in pairs if theirs is not None and ours is not None]
        told = all(theirs > 0 and ours > 0 for theirs, ours in both)  # who is there before training is no times as fast
        ratios = [math.log(theirs / ours) for theirs, ours in both] if told else []
        found.append(
            TimeToTarget(
                group.name,
                group.seeds,
                tuple(every),
                mean_interval(reached) if len(reached) == len(every) else None,
                groups[0].name,
                mean_interval(ratios),
            )
        )
    return found
