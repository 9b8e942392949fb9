"""What a benchmark returns: measured figures, what each should reach, and whether it did.

>>> peer = Figure.of("HF peft, one client at a time", [0.2, 0.21, 0.19], "s", group="a step", role="peer")
>>> own = Figure.of("fedpeft", [0.1, 0.11, 0.1], "s", group="a step", goals=[Goal(1.8, against=peer.name)])
>>> [verdict] = verdicts([peer, own])
>>> verdict.ratio, verdict.met
(2.0, True)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Literal, TypeAlias

Better: TypeAlias = Literal["lower", "higher"]
Role: TypeAlias = Literal["own", "peer", "limit"]


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure should reach, or only what it is to be compared with."""

    at: float | None = None  # with `against` the least ratio, else the bound of the value itself; None = only shown
    against: str = ""  # name of another figure of the same group
    why: str = ""  # what stands in the way where it is missed, as far as that is known


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number.

    Attributes:
        name: what was measured, e.g. the contender; unique in its group.
        value: the median of `samples`, or the one number there is; None: it could not be measured, and `note` says why.
        unit: of value and samples, e.g. "ms", "GB/s".
        group: figures of one group share unit and plot, e.g. "a client step of 8 × 64 tokens, fp32".
        better: which way is better.
        role: ours, a peer's, or a limit of the machine measured in the same run (a line in the plot).
        samples: repeats, in the order in which they were taken.
        goals: what it should reach.
        note: how to read it, in a few words.
        across: a second measure of the same thing, as its name and value: a group of such figures is drawn as points.
    """

    name: str
    value: float | None
    unit: str
    group: str = ""
    better: Better = "lower"
    role: Role = "own"
    samples: tuple[float, ...] = ()
    goals: tuple[Goal, ...] = ()
    note: str = ""
    across: tuple[str, float] | None = None

    @classmethod
    def of(
        cls,
        name: str,
        samples: Sequence[float] | float,
        unit: str,
        *,
        group: str = "",
        better: Better = "lower",
        role: Role = "own",
        goals: Iterable[Goal] = (),
        note: str = "",
        across: tuple[str, float] | None = None,
    ) -> Figure:
        """A figure from its repeats, or from a single number.

        Raises:
            ValueError: no sample, or one that is not finite.
        """
        taken = (float(samples),) if isinstance(samples, (int, float)) else tuple(map(float, samples))
        if not taken or not all(map(math.isfinite, taken)):
            raise ValueError(f"{name}: samples are {list(taken)}; at least one is needed, and all finite")
        return cls(name, median(taken), unit, group, better, role, taken, tuple(goals), note, across)

    @classmethod
    def missing(
        cls,
        name: str,
        reason: object,
        unit: str,
        *,
        group: str = "",
        better: Better = "lower",
        role: Role = "peer",
        goals: Iterable[Goal] = (),
    ) -> Figure:
        """A figure that could not be measured, e.g. of a peer that is not installed."""
        return cls(name, None, unit, group, better, role, (), tuple(goals), f"missing: {reason}")

    @property
    def quartiles(self) -> tuple[float, float] | None:
        """First and third quartile of the samples; None with fewer than two."""
        if len(self.samples) < 2:
            return None
        first, _, third = quantiles(self.samples, n=4, method="inclusive")
        return first, third

    @property
    def spread(self) -> float | None:
        """Half the distance of the quartiles as a share of the value; None where there is nothing to tell it from."""
        if self.quartiles is None or not self.value:
            return None
        first, third = self.quartiles
        return (third - first) / 2 / abs(self.value)


@dataclass(frozen=True, slots=True)
class Verdict:
    """One goal of one figure, judged."""

    figure: Figure
    goal: Goal
    ratio: float | None  # how many times as good as `goal.against`; None without one, or where a figure is missing
    met: bool | None  # None: nothing to reach, or a figure is missing


def ratio_of(figure: Figure, other: Figure) -> float | None:
    """How many times as good `figure` is as `other`, from their medians; above 1 it is the better one."""
    if figure.value is None or other.value is None:
        return None
    below, above = (figure.value, other.value) if figure.better == "lower" else (other.value, figure.value)
    return above / below if below else None


def verdicts(figures: Sequence[Figure]) -> list[Verdict]:
    """All goals of all figures, in order.

    Raises:
        ValueError: two figures of a group share a name, or a goal names a figure that its group lacks.
    """
    known: dict[tuple[str, str], Figure] = {}
    for figure in figures:
        if known.setdefault((figure.group, figure.name), figure) is not figure:
            raise ValueError(f'two figures of the group "{figure.group}" are called "{figure.name}"')
    return [_judge(figure, goal, known) for figure in figures for goal in figure.goals]


def _judge(figure: Figure, goal: Goal, known: dict[tuple[str, str], Figure]) -> Verdict:
    if not goal.against:
        if goal.at is None or figure.value is None:
            return Verdict(figure, goal, None, None)
        met = figure.value <= goal.at if figure.better == "lower" else figure.value >= goal.at
        return Verdict(figure, goal, None, met)
    if (figure.group, goal.against) not in known:
        raise ValueError(f'"{figure.name}" is to be compared with "{goal.against}", which its group does not hold')
    ratio = ratio_of(figure, known[figure.group, goal.against])
    return Verdict(figure, goal, ratio, None if ratio is None or goal.at is None else ratio >= goal.at)
