"""Pacing: learn how long arms take and what they gain, and let the devices of a round be done together.

A bandit that keeps a mean reward for each arm of each device class needs more replies than a federation has: 12 arms
and 3 classes are 36 means, from a dozen noisy replies a round. Here two small models are learned instead, T_k(a) of
`pace_times` for each class and client, and one G(a) of `pace_gains` for all. With them a round is planned as the
`oracle` would, who is told both:

    L* = argmax_L  Σ_k G⁺(a_k(L)) / E max T_k(a_k(L)),      a_k(L) = argmax { G⁺(a) : T_k(a) <= L },
                                                            the fastest arm where there is none

over the clients k heard of so far, the maximum over a cohort of the usual size drawn from them; G⁺ = G + β √Var G is an
upper bound as in GP-UCB (Srinivas et al. 2010, arXiv 0912.3995). Client k gets a_k(L*): slow devices what they can do
in time, fast ones as much as fits beside them. A share ε of the choices is drawn from the arms that are in time, so
that exploring costs a client's gain and nobody's time; before anything is known of a class, an arm is drawn from all.
In asynchronous rounds nobody waits, and a_k has the largest G⁺(a) / T_k(a).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fedpeft.scheduling.class_statistics import check_positive, check_share
from fedpeft.scheduling.contract import Choice, Outcome, Request, Scheduler, Setting
from fedpeft.scheduling.pace_gains import PaceGains
from fedpeft.scheduling.pace_times import PaceTimes

Numbers = npt.NDArray[np.float64]

LIMITS = 100
"""Lengths of a round that are compared."""


class Pacing(Scheduler):
    """Rounds planned by a learned model of time and gain.

    Args:
        exploration: β >= 0.
        random: ε, the share of choices that are drawn, in [0, 1].
        discount: ρ in (0, 1] of both models.
    """

    def __init__(self, exploration: float = 0.25, random: float = 0.05, discount: float = 0.99) -> None:
        self.exploration = check_positive("exploration", exploration)
        self.random = check_positive("random", random)
        if self.random > 1:
            raise ValueError(f"random = {random} must be at most 1")
        self.discount = check_share("discount", discount)

    def begin(self, setting: Setting) -> None:
        """See `Scheduler.begin`."""
        super().begin(setting)
        self.waits = setting.synchronous
        self.times = PaceTimes(np.array(setting.loads_or_guess), self.discount)
        self.gains = PaceGains(setting.grid, self.discount)
        self._replies: dict[str, float] = {}  # device class -> how many
        self._cohort = 0.0  # replies that a commit usually has
        self._limit = 0.0  # L*; 0: nothing is known yet

    def choose(self, request: Request) -> Choice:
        """See `Scheduler.choose`."""
        stream, offered = request.stream(), list(request.offered)
        seconds = self.times.of(request.device, request.client)
        if seconds is None:
            return Choice(offered[stream.below(len(offered))], "nothing is known of its class", 1.0 / len(offered))
        in_time = [place for place in offered if not self.waits or seconds[place] <= self._limit]
        if not in_time:
            place = min(offered, key=lambda k: (seconds[k], k))
            return Choice(place, f"the fastest, {seconds[place]:.1f} s of {self._limit:.1f}")
        best = self._best(seconds, in_time)
        drawn = float(stream.uniform(1)[0]) < self.random
        place = in_time[stream.below(len(in_time))] if drawn else best
        chance = self.random / len(in_time) + (1.0 - self.random) * (place == best)
        why = "drawn" if drawn else f"gain {self.gains.mean[place]:.2f} ± {self.gains.deviation[place]:.2f}"
        limit = f" of {self._limit:.1f}" if self.waits else ""
        return Choice(place, f"{why}, {seconds[place]:.1f} s{limit}", chance)

    def observe(self, outcomes: Sequence[Outcome]) -> None:
        """See `Scheduler.observe`."""
        heard = [one for one in outcomes if one.seconds is not None]
        if not heard:
            return
        for one in heard:
            self.times.add(one.client, one.device, one.place, one.seconds or 0.0)
            self._replies[one.device] = self._replies.get(one.device, 0.0) + 1.0
        self._cohort = float(len(heard)) if not self._cohort else 0.8 * self._cohort + 0.2 * len(heard)
        self.times.refit()
        told = [(one.place, one.gain) for one in heard if one.gain is not None]
        if told:
            self.gains.add(*zip(*told, strict=True))
        self._plan()

    def state(self) -> dict[str, Any]:
        """See `Scheduler.state`."""
        replies = {device: self._replies[device] for device in sorted(self._replies)}
        return {
            "times": self.times.state(),
            "gains": self.gains.state(),
            "replies": replies,
            "cohort": self._cohort,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """See `Scheduler.restore`."""
        if not state:
            return
        self.times.restore(state["times"])
        self.gains.restore(state["gains"])
        self._cohort = float(state["cohort"])
        self._replies = {device: float(count) for device, count in state["replies"].items()}
        self._plan()

    def _best(self, seconds: Numbers, places: Sequence[int]) -> int:
        """The place of the largest G⁺, or G⁺ / T where nobody waits; of equal ones the fastest."""
        bound = self._bound
        if not self.waits:
            bound = bound / np.maximum(seconds, 1e-9)
        return max(places, key=lambda k: (bound[k], -seconds[k], -k))

    @property
    def _bound(self) -> Numbers:
        upper: Numbers = self.gains.mean + self.exploration * self.gains.deviation
        return upper

    def _plan(self) -> None:
        """L* from what is known now."""
        if not self.waits or not self._replies:
            return
        clients = [  # (n, K): seconds of clients, and how many each stands for
            (np.outer(factors, usual), np.full(len(factors), count / len(factors)))
            for device, count in self._replies.items()
            if (usual := self.times.of(device)) is not None and len(factors := self.times.factors(device))
        ]
        seconds = np.concatenate([part for part, _ in clients])
        weights = np.concatenate([part for _, part in clients])
        limits = np.unique(np.quantile(seconds, np.linspace(0.0, 1.0, LIMITS)))
        rates = [self._rate(seconds, weights, float(limit)) for limit in limits]
        self._limit = float(limits[int(np.argmax(rates))])

    def _rate(self, seconds: Numbers, weights: Numbers, limit: float) -> float:
        """What a round of that length gains in a second.

        Args:
            seconds: of clients, shape (n, K).
            weights: how many clients each stands for, shape (n,).
            limit: L.
        """
        bound = np.where(seconds <= limit, self._bound, -np.inf)
        places = np.where(np.isfinite(bound).any(1), bound.argmax(1), seconds.argmin(1))
        took = seconds[np.arange(len(seconds)), places]
        order = np.argsort(took)
        below = np.cumsum(weights[order]) / weights.sum()
        slowest = np.diff(below**self._cohort, prepend=0.0) @ took[order]  # E max of so many draws
        return float(weights @ self._bound[places] / max(slowest, 1e-9))
