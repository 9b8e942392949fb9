"""How a metric spreads over clients: a mean hides whom the model serves badly."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from fedpeft.journal.headline import Headline, measured


@dataclass(frozen=True, slots=True)
class Spread:
    """A metric over n clients. Quartiles are interpolated between order statistics (Hyndman and Fan 1996, type 7)."""

    clients: int  # n
    examples: int  # over all of them
    mean: float  # each client counts the same
    weighted: float  # each example counts the same
    min: float
    lower_quartile: float
    median: float
    upper_quartile: float
    max: float
    worst: float  # mean of the worst tenth of the clients, rounded up

    def row(self) -> tuple[float, ...]:
        """As tables show it: mean, weighted, worst, min, lower quartile, median, upper quartile, max."""
        quartiles = (self.lower_quartile, self.median, self.upper_quartile)
        return (self.mean, self.weighted, self.worst, self.min, *quartiles, self.max)

    def to_payload(self) -> dict[str, float]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def from_payload(cls, payload: Mapping[str, Any]) -> Spread:
        """What `to_payload` wrote; keys of newer versions are dropped."""
        return cls(**{name: payload[name] for name in cls.__dataclass_fields__})


def spread_of(values: Sequence[float], examples: Sequence[int], *, larger_is_better: bool = True) -> Spread | None:
    """The spread of a metric; None without clients.

    Args:
        values: of each client, finite.
        examples: behind each value, > 0.
        larger_is_better: says which end is the worst.

    >>> spread = spread_of([0.2, 0.4, 0.6, 1.0], [10, 10, 10, 70])
    >>> round(spread.mean, 3), round(spread.weighted, 3), round(spread.lower_quartile, 3), spread.worst
    (0.55, 0.82, 0.35, 0.2)
    """
    if not values:
        return None
    ordered = sorted(values)
    badly = ordered if larger_is_better else ordered[::-1]
    total = sum(examples)
    return Spread(
        clients=len(ordered),
        examples=total,
        mean=fmean(ordered),
        weighted=math.fsum(value * count for value, count in zip(values, examples, strict=True)) / total,
        min=ordered[0],
        lower_quartile=_quantile(ordered, 0.25),
        median=_quantile(ordered, 0.5),
        upper_quartile=_quantile(ordered, 0.75),
        max=ordered[-1],
        worst=fmean(badly[: -(-len(ordered) // 10)]),
    )


def spreads(payloads: Iterable[Mapping[str, Any]], headline: Headline) -> dict[str, Spread]:
    """Metric -> its spread over the clients, given the payloads of their evaluations; `constant.*` are metrics too."""
    answers = [payload for payload in payloads if payload["examples"] > 0]
    named = [measured(p) | {f"constant.{key}": value for key, value in p.get("constant", {}).items()} for p in answers]
    result: dict[str, Spread] = {}
    for name in dict.fromkeys(name for values in named for name in values):
        direction = headline if name == headline.name else Headline.of({name: 0.0})
        spread = spread_of(
            [values[name] for values in named if name in values],
            [payload["examples"] for payload, values in zip(answers, named, strict=True) if name in values],
            larger_is_better=direction.larger_is_better,
        )
        if spread is not None:
            result[name] = spread
    return result


def _quantile(ordered: Sequence[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])
