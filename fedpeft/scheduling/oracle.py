"""Who knows the devices beforehand: the best arm of each class under the simulation's own time model.

No scheduler can know this of real devices; in a simulation it is the line that a bandit is measured against. Seconds
T(class, a) are those of the time model without its jitter. What an arm gains nobody knows before the run, so a form is
assumed, and told as parameters:

    G(a) = steps^p · rank^q · (1 - pruning)^s
    T̄ = median over the fleet's devices of T(class, argmax_a G(a) / T(class, a))
    a(class) = argmax_a  G(a) / max(1, T(class, a) / T̄)^β

so T̄ is what a device in the middle of the fleet takes for the arm that gains most per second, and β is that of the
reward. Of equal arms the faster is taken. It is an oracle of time, not of learning: a bandit that finds out that rank
does not matter on this data may well beat it.
"""

from __future__ import annotations

import math
from statistics import median

from fedpeft.scheduling.class_statistics import check_positive
from fedpeft.scheduling.contract import Choice, ClassTimes, Request, Scheduler, Setting


class Oracle(Scheduler):
    """The best arm of each device class under the known time model.

    Args:
        steps_exponent: p >= 0; ½ says that four times the steps gain twice as much.
        rank_exponent: q >= 0.
        pruning_exponent: s >= 0.
    """

    needs_times = True

    def __init__(self, steps_exponent: float = 0.5, rank_exponent: float = 0.1, pruning_exponent: float = 1.0) -> None:
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
        self.slowness, self.times = setting.slowness, setting.times
        exponents = self.steps_exponent, self.rank_exponent, self.pruning_exponent
        self.gains = [
            math.prod(map(math.pow, (arm.steps, arm.rank, 1.0 - arm.pruning), exponents)) for arm in self.grid.arms
        ]
        self.usual = median(self._most_efficient(own) for own in self.times.values() for _ in range(own.clients))

    def choose(self, request: Request) -> Choice:
        """See `Scheduler.choose`."""
        own = self.times.get(request.device)
        if own is None:
            return Choice(request.offered[0], "a class without a time model")
        place = max(request.offered, key=lambda k: (self._value(own.seconds[k], k), -own.seconds[k], -k))
        return Choice(place, f"{own.seconds[place]:.1f} s by the time model")

    def _most_efficient(self, own: ClassTimes) -> float:
        """Seconds of the arm that gains most per second; of equal ones the faster."""
        pairs = zip(self.gains, own.seconds, strict=True)
        return max(pairs, key=lambda pair: (pair[0] / max(pair[1], 1e-9), -pair[1]))[1]

    def _value(self, seconds: float, place: int) -> float:
        relative = seconds / self.usual if self.usual else 1.0
        return self.gains[place] / math.pow(max(1.0, relative), self.slowness)
