"""The learning rate over the rounds: which share of `local.learning_rate` each round trains with.

A schedule is a pure function of the round, so a resumed run goes on at the rate where it was. Round n of N, after w
rounds of warm-up, lies at t = (n - w - 1) / (N - w - 1), from 0 to 1:

    warm-up   n / (w + 1)                                     for n <= w, so that round w + 1 is the first at full rate
    constant  1
    linear    1 - (1 - final) t
    cosine    final + (1 - final) (1 + cos π t) / 2           (Loshchilov and Hutter 2017, eq. 5, one cycle)
    step      factor ^ floor((n - w - 1) / every)

Moments of a client's optimizer start afresh in every round, so nothing but the rate is carried over.
"""

from __future__ import annotations

import math
from typing import Protocol, runtime_checkable

from fedpeft.config import RunConfig
from fedpeft.errors import PluginError
from fedpeft.registry import build


@runtime_checkable
class Schedule(Protocol):
    """The contract of a schedule (registry kind `schedule`). One of one's own, in a file that a run file names:

    >>> class Halved:
    ...     '''Half the rate in the second half of the run.'''
    ...     def __call__(self, round: int, rounds: int) -> float:
    ...         return 1.0 if 2 * round <= rounds else 0.5
    >>> [Halved()(n, 4) for n in (1, 2, 3, 4)]
    [1.0, 1.0, 0.5, 0.5]
    """

    def __call__(self, round: int, rounds: int) -> float:
        """The factor of `local.learning_rate` in round `round` of `rounds`, both from 1; finite and not negative."""


class Constant:
    """Full rate, after the warm-up.

    Args:
        warmup: rounds w before the first at full rate.
    """

    def __init__(self, warmup: int = 0) -> None:
        if not _is_count(warmup) or warmup < 0:
            raise ValueError(f"warmup = {warmup!r} must be a whole number of rounds, 0 or more")
        self.warmup = warmup

    def __call__(self, round: int, rounds: int) -> float:
        """See `Schedule`."""
        if round <= self.warmup:
            return round / (self.warmup + 1)
        return self.after(round - self.warmup - 1, rounds - self.warmup - 1)

    def after(self, elapsed: int, last: int) -> float:
        """The factor when `elapsed` of `last` rounds since the warm-up are over; both from 0."""
        return 1.0


class Linear(Constant):
    """Down to `final` on a straight line.

    Args:
        warmup: as of `Constant`.
        final: the factor of the last round, from 0 to 1. At 0 the last round would train nothing.
    """

    def __init__(self, warmup: int = 0, final: float = 0.1) -> None:
        super().__init__(warmup)
        if not 0 <= final <= 1:
            raise ValueError(f"final = {final} must be from 0 to 1")
        self.final = float(final)

    def after(self, elapsed: int, last: int) -> float:
        """See `Constant.after`."""
        return 1.0 - (1.0 - self.final) * _share(elapsed, last)


class Cosine(Linear):
    """Down to `final` on half a cosine; arguments as of `Linear`."""

    def after(self, elapsed: int, last: int) -> float:
        """See `Constant.after`."""
        return self.final + (1.0 - self.final) * (1.0 + math.cos(math.pi * _share(elapsed, last))) / 2


class Step(Constant):
    """Multiplied by `factor` once every so many rounds.

    Args:
        every: rounds of each stair.
        factor: from one stair to the next, above 0 and at most 1.
        warmup: as of `Constant`.
    """

    def __init__(self, every: int, factor: float = 0.5, warmup: int = 0) -> None:
        super().__init__(warmup)
        if not _is_count(every) or every < 1:
            raise ValueError(f"every = {every!r} must be a whole number of rounds, 1 or more")
        if not 0 < factor <= 1:
            raise ValueError(f"factor = {factor} must be above 0 and at most 1")
        self.every, self.factor = every, float(factor)

    def after(self, elapsed: int, last: int) -> float:
        """See `Constant.after`."""
        return self.factor ** (elapsed // self.every)


def load_schedule(config: RunConfig) -> Schedule:
    """The schedule that `local.schedule` names, tried on every round of the run.

    Raises:
        PluginError: there is none of that name, it refuses its parameters, or it gives a round no sound rate.
    """
    name = config.local.schedule.name
    schedule: Schedule = build("schedule", name, config.local.schedule.params)
    for number in range(1, config.run.rounds + 1):
        try:
            found: object = schedule(number, config.run.rounds)
        except Exception as error:
            found = f"{type(error).__name__}: {error}"
        if not isinstance(found, float | int) or not math.isfinite(found) or found < 0:
            raise PluginError(
                f'schedule "{name}" gives round {number} of {config.run.rounds} the factor {found}',
                code="plugin.schedule-factor",
                allowed="a finite number, 0 or more",
                remedy="correct the schedule",
            )
    return schedule


def _share(elapsed: int, last: int) -> float:
    """How much of the way is done; a run of one round has not left its start."""
    return min(1.0, elapsed / last) if last > 0 else 0.0


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
