"""Fair sampling: FedAvg that asks, in every round, the clients that it has asked least often.

Uniform sampling (McMahan et al. 2017, Algorithm 1, "S_t ← random set of m clients") leaves some clients out for long:
with 3 of 30 asked a round, 30 rounds never ask about (1 − 1/10)^30 · 30 ≈ 1.3 of them. Here, with a_k the number of
times that client k was asked,

    S_t = the m available clients with the smallest (a_k, u_k),      u_k a seeded random order,

so that among clients that are always there no two counts differ by more than one. A client that joins late is asked
until it has caught up. Being asked counts, not answering: a client that never answers cannot take a place each round.
For the same reason a_k counts the attempts of the round that came short, of which the coordinator tells: it has them
from the journal, so a run that is killed between two attempts goes on with the same cohorts.

Transmits what FedAvg does. State between rounds: each client's id and count, about 12 bytes a client.

In a run file: `strategy = { name = "../strategies/fair_sampling.py:FairSampling" }`
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fedpeft.strategies import FedAvg
from fedpeft.strategies.base import State
from fedpeft.types import ClientId, ClientInfo, FloatArray


class FairSampling(FedAvg):
    """FedAvg whose cohort is made of the clients asked least often, ties broken by the seed."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: Counter[str] = Counter()  # client -> how often it was asked up to the last round
        self._short: Counter[str] = Counter()  # and in those attempts of this round that came short
        self._now: Counter[str] = Counter()  # and in this attempt

    def came_short(self, cohorts: Sequence[Sequence[ClientId]]) -> None:
        """See `Strategy.came_short`."""
        self._short = Counter(client for cohort in cohorts for client in cohort)

    def begin(self, theta: FloatArray) -> None:
        """See `Strategy.begin`."""
        super().begin(theta)
        self._now = Counter()

    def select(self, available: Sequence[ClientInfo], count: int, seed: int) -> list[ClientId]:
        """See `Strategy.select`."""
        if count < 0:
            raise ValueError(f"count = {count} must be 0 or more")
        shuffled = super().select(available, len(available), seed)  # all of them, in a seeded order
        asked = self.asked + self._short + self._now
        cohort = sorted(shuffled, key=lambda client: asked[client])[:count]  # stable: ties keep that order
        self._now.update(cohort)
        return cohort

    def step(self, theta: FloatArray, delta: FloatArray) -> FloatArray:
        """θ + Δ. A round without replies never comes here, and counts for nobody."""
        self.asked += self._short + self._now
        self._short, self._now = Counter(), Counter()
        return super().step(theta, delta)

    def state(self) -> State:
        """`clients`: the ids in UTF-8, one a line, uint8. `asked`: their counts, int64, in the same order."""
        if not self.asked:
            return {}
        clients = sorted(self.asked)
        return {
            "clients": np.frombuffer("\n".join(clients).encode(), dtype=np.uint8).copy(),
            "asked": np.array([self.asked[client] for client in clients], dtype=np.int64),
        }

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """See `Strategy.restore`."""
        arrays = self.read_state(state, {"clients": np.uint8, "asked": np.int64})
        self.asked, self._short, self._now = Counter(), Counter(), Counter()
        if arrays:
            clients = arrays["clients"].tobytes().decode().split("\n")
            self.asked.update(dict(zip(clients, arrays["asked"].tolist(), strict=True)))
