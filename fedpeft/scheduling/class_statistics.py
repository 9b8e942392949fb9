"""What has been seen of each arm, device class by device class.

A federation has few rounds and a client is seen a few times at most, so nothing is kept of one client: its second visit
is chosen by what its whole class has shown, its own first visit among it. Classes share nothing with each other.

With discount ρ < 1 an observation fades by ρ with every later one of its class (Garivier and Moulines 2011):

    N(a) = Σ_s ρ^(t-s) 1{a_s = a},      X̄(a) = Σ_s ρ^(t-s) r_s 1{a_s = a} / N(a)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fedpeft.scheduling.contract import Outcome, Request

Numbers = npt.NDArray[np.float64]


class ClassStatistics:
    """Discounted counts and reward sums.

    Args:
        arms: K, how many there are.
        discount: ρ in (0, 1]; 1 forgets nothing.
    """

    def __init__(self, arms: int, discount: float = 1.0) -> None:
        self.arms = arms
        self.discount = discount
        self._counts: dict[str, Numbers] = {}  # device class -> N, shape (K,)
        self._sums: dict[str, Numbers] = {}  # device class -> N · X̄, shape (K,)

    def of(self, device: str) -> tuple[Numbers, Numbers]:
        """(N, N · X̄) of a class, each of shape (K,); zeros for one that was never seen. Not to be modified."""
        nothing = np.zeros(self.arms)
        return self._counts.get(device, nothing), self._sums.get(device, nothing)

    def add(self, outcomes: Sequence[Outcome]) -> None:
        """Observe, in this order, what has a reward."""
        for outcome in outcomes:
            if outcome.reward is None:
                continue
            counts = self._counts.setdefault(outcome.device, np.zeros(self.arms))
            sums = self._sums.setdefault(outcome.device, np.zeros(self.arms))
            counts *= self.discount
            sums *= self.discount
            counts[outcome.place] += 1.0
            sums[outcome.place] += outcome.reward

    def state(self) -> dict[str, Any]:
        """As JSON values; floats come back bit by bit."""
        return {
            device: {"counts": self._counts[device].tolist(), "sums": self._sums[device].tolist()}
            for device in sorted(self._counts)
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        self._counts = {device: np.array(own["counts"], dtype=np.float64) for device, own in state.items()}
        self._sums = {device: np.array(own["sums"], dtype=np.float64) for device, own in state.items()}


def at_work(request: Request, arms: int) -> Numbers:
    """How many like devices are at work on each arm now, shape (K,).

    A cohort is asked at once. Without counting who is out, all devices of a class would get one and the same arm, and
    a round would teach one thing. So they count as plays whose reward is not known yet.
    """
    out = np.zeros(arms)
    for place, count in request.out.items():
        out[place] = count
    return out


def best_of(values: Numbers, offered: Sequence[int], request: Request) -> int:
    """The offered arm of the highest value; ties are drawn, by the request's seed."""
    own = values[list(offered)]
    ties = np.flatnonzero(own == own.max())
    return offered[int(ties[0] if len(ties) == 1 else ties[request.stream().below(len(ties))])]


def check_share(name: str, value: float) -> float:
    """`value` as a float in (0, 1].

    Raises:
        ValueError: it is not.
    """
    if not 0 < value <= 1:
        raise ValueError(f"{name} = {value} must be above 0 and at most 1")
    return float(value)


def check_positive(name: str, value: float) -> float:
    """`value` as a float >= 0.

    Raises:
        ValueError: it is negative.
    """
    if not value >= 0:
        raise ValueError(f"{name} = {value} must be 0 or more")
    return float(value)
