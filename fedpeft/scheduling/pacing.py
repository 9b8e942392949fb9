"""Pacing: learn how long arms take and what they gain, and let the devices of a round be done together.

A bandit that keeps a mean reward for each arm of each device class needs more replies than a federation has: 12 arms
and 3 classes are 36 means, from a dozen noisy replies a round. Here two small models are learned instead, T_k(a) of
`pace_times` for each class and client, and one G(a) of `pace_gains` for all. With them a round is planned as the
`oracle` would, who is told both:

    L* = argmax_L  Σ_k G(a_k(L)) / E max T_k(a_k(L)),       a_k(L) = argmax { G(a) : T_k(a) <= L },
                                                            the fastest arm where there is none

over the clients k heard of so far and the arms that fit their class, the maximum over a cohort of the usual size drawn
from them. L is at most the deadline, and who is expected to miss it gains nothing in that sum. Of the arms with
T_k(a) <= L* client k gets the one of the largest G⁺ = G + β √Var G, an upper bound as in GP-UCB (Srinivas et al. 2010,
arXiv 0912.3995): slow devices what they can do in time, fast ones as much as fits beside them. A share ε of the choices
is drawn from the arms that are in time, an insurance against what the two models cannot express. So exploring costs a
client's gain and nobody's time; with G⁺ in L*, too, whole rounds would be tried out. In asynchronous rounds nobody
waits, and a_k has the largest G⁺(a) / T_k(a).

Before anything is known of a class, an arm is drawn from the lighter half of those that fit, by the larger of its share
of the most bytes and of the most steps that any of them has: else the first round is as long as the heaviest arm on the
slowest device. What it teaches less of heavy arms is left to the optimism of G⁺.

A deadline that was missed is a look at the time of an arm on that device and none at what the arm gains, which is for
all classes: a fast device gains by an arm that is too long for a slow one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fedpeft.scheduling.class_statistics import check_positive, check_share
from fedpeft.scheduling.contract import Choice, Outcome, Request, Scheduler, Setting
from fedpeft.scheduling.pace_gains import GUESS, PaceGains
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
        steps_exponent: p >= 0 of the first guess at gains, steps^p · rank^q · (1 - pruning)^s.
        rank_exponent: q >= 0.
        pruning_exponent: s >= 0.
    """

    def __init__(
        self,
        exploration: float = 0.75,
        random: float = 0.02,
        discount: float = 0.99,
        steps_exponent: float = GUESS[0],
        rank_exponent: float = GUESS[1],
        pruning_exponent: float = GUESS[2],
    ) -> None:
        self.exploration = check_positive("exploration", exploration)
        self.random = check_positive("random", random)
        if self.random > 1:
            raise ValueError(f"random = {random} must be at most 1")
        self.discount = check_share("discount", discount)
        self.steps_exponent = check_positive("steps_exponent", steps_exponent)
        self.rank_exponent = check_positive("rank_exponent", rank_exponent)
        self.pruning_exponent = check_positive("pruning_exponent", pruning_exponent)

    def begin(self, setting: Setting) -> None:
        """See `Scheduler.begin`."""
        super().begin(setting)
        self.waits, self.deadline = setting.synchronous, setting.deadline_s
        self.times = PaceTimes(np.array(setting.loads_or_guess), self.discount)
        exponents = self.steps_exponent, self.rank_exponent, self.pruning_exponent
        self.gains = PaceGains(setting.grid, self.discount, exponents)
        self._replies: dict[str, float] = {}  # device class -> how many, and deadlines missed
        self._fits: dict[str, tuple[int, ...]] = {}  # device class -> places of the arms that fitted it last
        self._cohort = 0.0  # replies and deadlines missed that a commit usually has
        self._limit = 0.0  # L*; 0: nothing is known yet

    def choose(self, request: Request) -> Choice:
        """See `Scheduler.choose`."""
        stream, offered = request.stream(), list(request.offered)
        seconds = self.times.of(request.device, request.client)
        if seconds is None:
            light = self._lighter(offered)
            return Choice(light[stream.below(len(light))], "nothing is known of its class", 1.0 / len(light))
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
        heard = [one for one in outcomes if one.seconds is not None or self.deadline is not None]
        if not heard:
            return
        for one in heard:
            if one.seconds is not None:
                self.times.add(one.client, one.device, one.place, one.seconds)
            elif self.deadline is not None:
                self.times.miss(one.client, one.device, one.place, self.deadline)
            self._replies[one.device] = self._replies.get(one.device, 0.0) + 1.0
            if one.offered:
                self._fits[one.device] = one.offered
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
            "fits": {device: list(self._fits[device]) for device in sorted(self._fits)},
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
        self._fits = {device: tuple(places) for device, places in state["fits"].items()}
        self._plan()

    def _lighter(self, offered: Sequence[int]) -> list[int]:
        """The half of them that is lighter, rounded up: no long wait, whichever of bytes and steps is slow."""
        loads = self.times.features[list(offered), 1:]
        shares = (loads / np.maximum(loads.max(0), 1e-12)).max(1)
        order = np.argsort(shares, kind="stable")[: (len(offered) + 1) // 2]
        return [offered[k] for k in order]

    def _best(self, seconds: Numbers, places: Sequence[int]) -> int:
        """The place of the largest G⁺, or G⁺ / T where nobody waits; of equal ones the fastest."""
        bound = self.gains.mean + self.exploration * self.gains.deviation
        if not self.waits:
            bound = bound / np.maximum(seconds, 1e-9)
        return max(places, key=lambda k: (bound[k], -seconds[k], -k))

    def _plan(self) -> None:
        """L* from what is known now."""
        if not self.waits or not self._replies:
            return
        clients = [  # (n, K): seconds of clients, infinite where an arm does not fit; and how many each stands for
            (np.outer(factors, self._within(device, usual)), np.full(len(factors), count / len(factors)))
            for device, count in sorted(self._replies.items())
            if (usual := self.times.of(device)) is not None and len(factors := self.times.factors(device))
        ]
        seconds = np.concatenate([part for part, _ in clients])
        weights = np.concatenate([part for _, part in clients])
        known = np.minimum(seconds[np.isfinite(seconds)], self._longest)
        limits = np.unique(np.quantile(known, np.linspace(0.0, 1.0, LIMITS)))
        rates = [self._rate(seconds, weights, float(limit)) for limit in limits]
        self._limit = float(limits[int(np.argmax(rates))])

    @property
    def _longest(self) -> float:
        """Seconds that a round may take."""
        return math.inf if self.deadline is None else self.deadline

    def _within(self, device: str, seconds: Numbers) -> Numbers:
        """Seconds of the arms that fit a class, infinite for the others, shape (K,)."""
        within = np.full(len(seconds), np.inf)
        places = list(self._fits.get(device, range(len(seconds))))
        within[places] = seconds[places]
        return within

    def _rate(self, seconds: Numbers, weights: Numbers, limit: float) -> float:
        """What a round of that length gains in a second.

        Args:
            seconds: of clients, infinite where an arm does not fit, shape (n, K).
            weights: how many clients each stands for, shape (n,).
            limit: L.
        """
        gains = np.where(seconds <= limit, self.gains.mean, -np.inf)
        places = np.where(np.isfinite(gains).any(1), gains.argmax(1), seconds.argmin(1))
        took = seconds[np.arange(len(seconds)), places]
        gained = weights @ (self.gains.mean[places] * (took <= self._longest))
        took = np.minimum(took, self._longest)
        order = np.argsort(took, kind="stable")
        below = np.cumsum(weights[order]) / weights.sum()
        slowest = np.diff(below**self._cohort, prepend=0.0) @ took[order]  # E max of so many draws
        return float(gained / max(slowest, 1e-9))
