"""A measurement against the one before it: what became worse or better by more than both scatter.

Where a figure has a contender, their ratio is compared, not the figure: both were timed side by side, so a machine
that was busier today changes neither.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log

from fedpeft.bench.figure import Figure, ratio_of
from fedpeft.bench.results import Measurement

LEAST = 0.05
"""A relative change below this is never news: medians of the same code on a shared machine differ by as much."""

UNSAMPLED = 0.10
"""The spread that is taken for a figure with a single sample."""


@dataclass(frozen=True, slots=True)
class Change:
    """A figure of ours that moved beyond the spread of both measurements."""

    subject: str
    figure: str  # group and name
    against: str  # the contender whose ratio was compared; empty: the value itself was
    before: float
    now: float
    unit: str  # of before and now; "×" for a ratio
    worse: bool

    def text(self) -> str:
        """One line: `round: training: 1.9 → 2.4 s (worse)`."""
        beside = f" against {self.against}" if self.against else ""
        change = f"{self.before:.3g} → {self.now:.3g} {self.unit}"
        return f"{self.subject}: {self.figure}{beside}: {change} ({'worse' if self.worse else 'better'})"


def comparable(before: Measurement, now: Measurement) -> str:
    """Why two measurements cannot be compared; empty when they can."""
    if before.quick != now.quick:
        return "one of them was quick"
    if (before.machine.processor, before.machine.cores) != (now.machine.processor, now.machine.cores):
        return f"the one before was taken on another machine ({before.machine.processor}, {before.machine.cores} cores)"
    if before.given != now.given:
        return f"the one before was given {before.given}" if before.given else f"the one before had no {now.given}"
    if before.failure or now.failure:
        return "one of them failed"
    return ""


def changes(before: Measurement, now: Measurement) -> list[Change]:
    """Figures of ours that are in both and moved; empty as well when the two cannot be compared."""
    if comparable(before, now):
        return []
    found = []
    elders, own = _by_name(before), _by_name(now)
    for key, figure in own.items():
        elder = elders.get(key)
        if figure.role != "own" or elder is None or elder.unit != figure.unit:
            continue
        group, name = key
        title = f"{group}, {name}" if group else name
        named = [goal.against for goal in figure.goals if goal.against]
        rivals = [rival for rival in named if (group, rival) in own and (group, rival) in elders]
        if rivals:
            for rival in rivals:
                pair = (elder, elders[group, rival], figure, own[group, rival])
                change = _change(ratio_of(*pair[:2]), ratio_of(*pair[2:]), _room(*pair))
                if change is not None:
                    then, here = change
                    found.append(Change(now.subject, title, rival, then, here, "×", worse=here < then))
            continue
        change = _change(elder.value, figure.value, _room(elder, figure))
        if change is not None:
            then, here = change
            worse = here > then if figure.better == "lower" else here < then
            found.append(Change(now.subject, title, "", then, here, figure.unit, worse))
    return found


def _by_name(measurement: Measurement) -> dict[tuple[str, str], Figure]:
    return {(figure.group, figure.name): figure for figure in measurement.figures}


def _room(*figures: Figure) -> float:
    """The relative change that the figures' own scatter explains."""
    return max(LEAST, sum(UNSAMPLED if figure.spread is None else figure.spread for figure in figures))


def _change(before: float | None, now: float | None, room: float) -> tuple[float, float] | None:
    """Both values when they differ by more than `room`; of what is not positive no relative change can be told."""
    if before is None or now is None or before <= 0 or now <= 0 or abs(log(now / before)) <= room:
        return None
    return before, now
