"""Who knows the devices beforehand: the best arm of each class under the simulation's own time model.

No scheduler can know this of real devices; in a simulation it is the line that a bandit is measured against. Seconds
T(c, a) of class c are those of the time model without its jitter. What an arm gains nobody knows before the run, so a
form is assumed, and told as parameters:

    G(a) = steps^p · rank^q · (1 - pruning)^s

The defaults are near what runs of one arm for all came to on Banking77 with MiniLM (simulations/SCHEDULING.md).

A synchronous round with n_c devices of each class lasts as long as the slowest of them and no longer than its deadline
D, by which whoever is not back has gained nothing. So the most is gained in a second by the arms a(c), among those that
fit the class's memory, that maximise

    Σ_c n_c G(a(c)) 1{T(c, a(c)) <= D} / min(D, max_c T(c, a(c)))

For a limit L <= D on the seconds of a round each class does best with the largest G among its arms with T <= L, or with
its fastest arm where it has none; the best L is D or one of the finitely many T, and all of them are tried. In
asynchronous rounds nobody waits: each class takes the arm with the largest G / T. Of equal arms the faster is taken. A
class that no arm fits sits out.

The same form tells how much there is to win: `advantage` is that maximum over the one of a single arm for all.

It is an oracle of time, not of learning: a bandit that finds out that rank does not matter on this data may beat it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from fedpeft.scheduling.class_statistics import check_positive
from fedpeft.scheduling.contract import Choice, Request, Scheduler, Setting
from fedpeft.scheduling.fixed import nearest


class Oracle(Scheduler):
    """The best arm of each device class under the known time model.

    Args:
        steps_exponent: p >= 0; 1 says that twice the steps gain twice as much, as long as clients do not drift apart.
        rank_exponent: q >= 0.
        pruning_exponent: s >= 0.
    """

    needs_times = True
    needs_judges = False

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
        self.deadline = setting.deadline_s if self.waits and setting.deadline_s is not None else math.inf  # D
        everything = tuple(range(len(self.grid.arms)))
        self.fits = {name: everything if own.fits is None else own.fits for name, own in self.times.items()}
        self._plays = [name for name in self.times if self.fits[name]]
        exponents = self.steps_exponent, self.rank_exponent, self.pruning_exponent
        self.gains = [
            math.prod(map(math.pow, (arm.steps, arm.rank, 1.0 - arm.pruning), exponents)) for arm in self.grid.arms
        ]
        seconds = {self.times[name].seconds[place] for name in self._plays for place in self.fits[name]}
        limits = sorted({min(one, self.deadline) for one in seconds})
        self.limit = max(limits, key=lambda limit: (self._rate(limit), -limit), default=0.0)  # L, seconds of a round

    def choose(self, request: Request) -> Choice:
        """See `Scheduler.choose`."""
        own = self.times.get(request.device)
        if own is None:
            return Choice(request.offered[0], "a class without a time model")
        place = self._best(own.seconds, request.offered, self.limit)
        return Choice(place, f"{own.seconds[place]:.1f} s by the time model")

    def advantage(self) -> tuple[float, int]:
        """How many times as much its arms gain in a second as the best single arm for all, and the place of that arm.

        A class that the single arm does not fit has the nearest that does, as with `fixed`.
        """
        places = range(len(self.grid.arms))
        fixed = [
            self._rate_of({name: nearest(self.grid, place, self.fits[name]) for name in self._plays})
            for place in places
        ]
        best = max(places, key=lambda place: (fixed[place], -place))
        return self._rate(self.limit) / max(fixed[best], 1e-9), best

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
        return self._rate_of(
            {name: self._best(self.times[name].seconds, self.fits[name], limit) for name in self._plays}
        )

    def _rate_of(self, places: Mapping[str, int]) -> float:
        """What these arms, by device class, gain in a second."""
        own = {name: self.times[name] for name in places}
        parts = [(own[name].clients * self.gains[place], own[name].seconds[place]) for name, place in places.items()]
        if self.waits:
            slowest = max((seconds for _, seconds in parts), default=0.0)
            gained = sum(gain for gain, seconds in parts if seconds <= self.deadline)
            return gained / max(1e-9, min(slowest, self.deadline))
        return sum(gain / max(seconds, 1e-9) for gain, seconds in parts)
