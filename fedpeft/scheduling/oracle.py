"""Who knows the devices beforehand: the best arm of each class under the simulation's own time model.

No scheduler can know this of real devices; in a simulation it is the line that a bandit is measured against. Seconds
T(c, a) of class c are those of the time model without its jitter. What an arm gains nobody knows before the run, so a
form is assumed, and told as parameters:

    G(a) = steps^p · rank^q · (1 - pruning)^s

The defaults are near what runs of one arm for all came to on Banking77 with MiniLM (simulations/SCHEDULING.md).

A synchronous round with n_c devices of each class lasts as long as the slowest of them, so the most is gained in a
second by the arms a(c) that maximise

    Σ_c n_c G(a(c)) / max_c T(c, a(c))

For a limit L on the seconds of a round each class does best with the largest G among its arms with T <= L, or with its
fastest arm where it has none; the best L is one of the finitely many T, and all of them are tried. In asynchronous
rounds nobody waits: each class takes the arm with the largest G / T. Of equal arms the faster is taken.

The same form tells how much there is to win: `advantage` is that maximum over the one of a single arm for all.

It is an oracle of time, not of learning: a bandit that finds out that rank does not matter on this data may beat it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from fedpeft.scheduling.class_statistics import check_positive
from fedpeft.scheduling.contract import Choice, Request, Scheduler, Setting


class Oracle(Scheduler):
    """The best arm of each device class under the known time model.

    Args:
        steps_exponent: p >= 0; 1 says that twice the steps gain twice as much, as long as clients do not drift apart.
        rank_exponent: q >= 0.
        pruning_exponent: s >= 0.
    """

    needs_times = True

    def __init__(self, steps_exponent: float = 0.9, rank_exponent: float = 0.5, pruning_exponent: float = 1.5) -> None:
        self.steps_exponent = check_positive("steps_exponent", steps_exponent)
        self.rank_exponent = check_positive("rank_exponent", rank_exponent)
        self.pruning_exponent = check_positive("pruning_exponent", pruning_exponent)

    def begin(self, setting: Setting) -> None:
        """See `Scheduler.begin`.

        Raises:
            ValueError: the times of the arms are not known.
        """
        super().begin(setting)
        if not setting.times:
            raise ValueError("it needs a simulated fleet: of real devices nobody knows the times beforehand")
        self.times, self.waits = setting.times, setting.synchronous
        exponents = self.steps_exponent, self.rank_exponent, self.pruning_exponent
        self.gains = [
            math.prod(map(math.pow, (arm.steps, arm.rank, 1.0 - arm.pruning), exponents)) for arm in self.grid.arms
        ]
        limits = sorted({seconds for own in self.times.values() for seconds in own.seconds})
        self.limit = max(limits, key=lambda limit: (self._rate(limit), -limit))  # L, seconds of a round

    def choose(self, request: Request) -> Choice:
        """See `Scheduler.choose`."""
        own = self.times.get(request.device)
        if own is None:
            return Choice(request.offered[0], "a class without a time model")
        place = self._best(own.seconds, request.offered, self.limit)
        return Choice(place, f"{own.seconds[place]:.1f} s by the time model")

    def advantage(self) -> tuple[float, int]:
        """How many times as much its arms gain in a second as the best single arm for all, and the place of that arm.

        Memory is left out: every class is taken to have room for every arm.
        """
        places = range(len(self.grid.arms))
        fixed = [self._rate_of(dict.fromkeys(self.times, place)) for place in places]
        best = max(places, key=lambda place: (fixed[place], -place))
        own = {device: self._best(times.seconds, places, self.limit) for device, times in self.times.items()}
        return self._rate_of(own) / max(fixed[best], 1e-9), best

    def _best(self, seconds: Sequence[float], offered: Sequence[int], limit: float) -> int:
        """A class's best arm in a round of `limit` seconds; in asynchronous rounds, its best anyhow."""
        if not self.waits:
            return max(offered, key=lambda k: (self.gains[k] / max(seconds[k], 1e-9), -seconds[k], -k))
        in_time = [place for place in offered if seconds[place] <= limit]
        if not in_time:
            return min(offered, key=lambda k: (seconds[k], k))
        return max(in_time, key=lambda k: (self.gains[k], -seconds[k], -k))

    def _rate(self, limit: float) -> float:
        """What a round with that limit gains in a second."""
        everything = range(len(self.grid.arms))
        return self._rate_of({device: self._best(own.seconds, everything, limit) for device, own in self.times.items()})

    def _rate_of(self, places: Mapping[str, int]) -> float:
        """What these arms, by device class, gain in a second."""
        parts = [
            (own.clients * self.gains[places[name]], own.seconds[places[name]]) for name, own in self.times.items()
        ]
        if self.waits:
            return sum(gain for gain, _ in parts) / max(1e-9, *(seconds for _, seconds in parts))
        return sum(gain / max(seconds, 1e-9) for gain, seconds in parts)
