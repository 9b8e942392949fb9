"""A strategy around the run's strategy, which does all that is not overridden."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt

from fedpeft.config import RunConfig
from fedpeft.strategies import Strategy
from fedpeft.strategies.base import State
from fedpeft.types import ClientId, ClientInfo, FloatArray, Plan, Update


class Around(Strategy):
    """Hands everything on to another strategy.

    Args:
        inner: the run's.
    """

    def __init__(self, inner: Strategy) -> None:
        self.inner = inner
        self.objective, self.objective_params = inner.objective, inner.objective_params
        self.sends, self.receives = inner.sends, inner.receives
        self.private, self.frozen = inner.private, inner.frozen
        self.asynchronous, self.compares = inner.asynchronous, inner.compares

    def frozen_in(self, round_number: int) -> Sequence[str]:
        """See `Strategy.frozen_in`."""
        return self.inner.frozen_in(round_number)

    def meet(self, clients: int) -> None:
        """See `Strategy.meet`."""
        self.inner.meet(clients)

    def auxiliary(self) -> Mapping[str, FloatArray]:
        """See `Strategy.auxiliary`."""
        return self.inner.auxiliary()

    def came_short(self, cohorts: Sequence[Sequence[ClientId]]) -> None:
        """See `Strategy.came_short`."""
        self.inner.came_short(cohorts)

    def remarks(self, config: RunConfig) -> Sequence[str]:
        """See `Strategy.remarks`."""
        return self.inner.remarks(config)

    def select(self, available: Sequence[ClientInfo], count: int, seed: int) -> list[ClientId]:
        """See `Strategy.select`."""
        return self.inner.select(available, count, seed)

    def plan(self, plan: Plan, client: ClientInfo) -> Plan:
        """See `Strategy.plan`."""
        return self.inner.plan(plan, client)

    def begin(self, theta: FloatArray) -> None:
        """See `Strategy.begin`."""
        self.inner.begin(theta)

    def accept(self, update: Update, weight: float) -> None:
        """See `Strategy.accept`."""
        self.inner.accept(update, weight)

    def finish(self) -> FloatArray:
        """See `Strategy.finish`."""
        return self.inner.finish()

    def state(self) -> State:
        """See `Strategy.state`."""
        return self.inner.state()

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """See `Strategy.restore`."""
        self.inner.restore(state)
