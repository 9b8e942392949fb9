"""Exp3: for rewards that follow no distribution at all.

Auer, Cesa-Bianchi, Freund and Schapire 2002, "The Nonstochastic Multiarmed Bandit Problem", Algorithm Exp3, for each
device class; K counts the arms that fit the client:

    p(a) = (1 - γ) w(a) / Σ_b w(b) + γ / K,      w(a) ← w(a) exp(γ (r / p(a)) / K)

K is the same in both, for the paper needs γ r / (p K) <= 1, which the γ / K in p sees to, and takes no shorter steps.
A class whose clients are all offered the same K arms plays the paper's game with these. Where they differ, weights
compete among the arms that are offered (arms that sleep), of which the paper says nothing. Who is offered fewer arms
than fit, to judge others, draws from these and takes its step with the larger K: a shorter one.

Weights are kept as logarithms. All clients of a cohort draw from the weights of the last commit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fedpeft.scheduling.class_statistics import check_share
from fedpeft.scheduling.contract import Choice, Outcome, Request, Scheduler, Setting


class Exp3(Scheduler):
    """Exponential weights for each device class.

    Args:
        mixing: γ in (0, 1], the share of choices that are uniform. The paper's optimal value for n choices falls with
            sqrt(K ln K / n); with few rounds it is large.
    """

    def __init__(self, mixing: float = 0.2) -> None:
        self.mixing = check_share("mixing", mixing)

    def begin(self, setting: Setting) -> None:
        """See `Scheduler.begin`."""
        super().begin(setting)
        self._log_weights: dict[str, npt.NDArray[np.float64]] = {}  # device class -> ln w, shape (K,), largest is 0

    def choose(self, request: Request) -> Choice:
        """See `Scheduler.choose`."""
        count = len(request.offered)
        logs = self._weights(request.device)[list(request.offered)]
        weights = np.exp(logs - logs.max())
        chances = (1.0 - self.mixing) * weights / weights.sum() + self.mixing / count
        found = int(np.searchsorted(np.cumsum(chances), float(request.stream().uniform(1)[0]), side="right"))
        drawn = min(found, count - 1)  # the sum may be a hair under 1
        return Choice(request.offered[drawn], f"drawn with {chances[drawn]:.3f}", float(chances[drawn]))

    def observe(self, outcomes: Sequence[Outcome]) -> None:
        """See `Scheduler.observe`."""
        for outcome in outcomes:
            if outcome.reward is None:
                continue
            logs = self._weights(outcome.device)
            count = len(outcome.offered) or len(logs)
            logs[outcome.place] += self.mixing * outcome.reward / outcome.probability / count
            self._log_weights[outcome.device] = logs - logs.max()

    def state(self) -> dict[str, Any]:
        """See `Scheduler.state`."""
        return {device: self._log_weights[device].tolist() for device in sorted(self._log_weights)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """See `Scheduler.restore`."""
        self._log_weights = {device: np.array(logs, dtype=np.float64) for device, logs in state.items()}

    def _weights(self, device: str) -> npt.NDArray[np.float64]:
        return self._log_weights.get(device, np.zeros(len(self.grid.arms))).copy()
