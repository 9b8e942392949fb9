"""The plug-in surface of a strategy, and what every strategy gets for nothing: seeded sampling and the client half."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from fedpeft.config import RunConfig
from fedpeft.errors import PluginError
from fedpeft.randomness.streams import Stream, derive
from fedpeft.types import ClientId, ClientInfo, FloatArray, Plan, Update

State = dict[str, npt.NDArray[Any]]
"""What a strategy keeps from round to round: numeric arrays by name, as the snapshot stores them."""


class Strategy(ABC):
    """Whom to ask, for what, and how to fold the answers.

    The coordinator calls, in each round, `begin`, `select`, `plan` once per client, `accept` once per reply that
    passed the guard, `finish`; between rounds `state`, and `restore` after a restart. A round that too few clients
    answer is attempted again from `begin`, without `finish`. Subclass, write three methods, name the class in a run
    file as `strategy.name = "my/rule.py:PlainMean"`:

    >>> import numpy as np
    >>> from fedpeft.types import ClientId, Update
    >>> class PlainMean(Strategy):
    ...     '''Every client counts the same, however many examples it has.'''
    ...     def begin(self, theta):
    ...         self.theta, self.total, self.count = theta, np.zeros(theta.shape, dtype=np.float64), 0
    ...     def accept(self, update, weight):
    ...         self.total += update.delta
    ...         self.count += 1
    ...     def finish(self):
    ...         return (self.theta + self.total / max(self.count, 1)).astype(np.float32)
    >>> rule = PlainMean()
    >>> rule.begin(np.zeros(2, dtype=np.float32))
    >>> rule.accept(Update(ClientId("c00"), 1, np.array([1, 2], dtype=np.float32), weight=900), weight=900)
    >>> rule.accept(Update(ClientId("c01"), 1, np.array([3, 0], dtype=np.float32), weight=100), weight=100)
    >>> rule.finish()
    array([2., 1.], dtype=float32)

    `FedAvg` is the base to take when the rule is a step along the weighted mean.
    """

    objective: str = "plain"
    """Registered name of the local objective: this strategy's client half."""

    objective_params: Mapping[str, float] = MappingProxyType({})
    """Parameters of the local objective."""

    sends: Sequence[str] = ()
    """Names of the vectors that go down beside θ: what the local objective receives."""

    receives: Sequence[str] = ()
    """Names of the vectors that each update brings beside its delta: what the local objective sends."""

    private: Sequence[str] = ()
    """Parts of tensors' names, e.g. `lora_B`: those tensors stay on each client, which trains its own."""

    frozen: Sequence[str] = ()
    """Parts of tensors' names: those tensors keep the initial value that both sides derive, and never travel."""

    def frozen_in(self, round_number: int) -> Sequence[str]:
        """Parts of tensors' names, e.g. `lora_A`: those are neither trained nor sent in this round; here none.

        It depends on the round's number alone, from 1. One that freezes anything must be `partial`: updates bring
        what moved, and with late or stale ones it is not the same of all.
        """
        return ()

    def meet(self, clients: int) -> None:  # noqa: B027 (most strategies have no use for it)
        """Be told, before each `begin`, how many clients take part in the run; here it is not asked for."""

    def came_short(self, cohorts: Sequence[Sequence[ClientId]]) -> None:  # noqa: B027
        """Be told, before each `begin`, whom the attempts of this round that came short had asked, in their order.

        That is all that outlives such an attempt, after a restart as well; here it is not asked for. In asynchronous
        rounds a cohort is empty.
        """

    def auxiliary(self) -> Mapping[str, FloatArray]:
        """The vectors of `sends` as they are now, each of shape (d,), fp32, finite; one that is left out is zero.

        Called after `begin`, once for each round.
        """
        return {}

    def remarks(self, config: RunConfig) -> Sequence[str]:
        """What to know before a run of this file, one sentence each, e.g. that a key does not suit this strategy."""
        return ()

    asynchronous: bool = True
    """Whether it folds updates that started from different versions, each by its weight: `round.mode = "async"`."""

    partial: bool = False
    """Whether it folds updates of clients that hold only some coordinates (`Update.held`): pruned ones."""

    compares: bool = False
    """Whether it looks at what clients say of the same coordinate, as a median or a vote does. In a zeroth-order run
    they say something of the same directions only with `zeroth.draws = "round"`, so it is refused without."""

    def select(self, available: Sequence[ClientInfo], count: int, seed: int) -> list[ClientId]:
        """Choose the cohort: here uniformly, without replacement.

        What is noted here of a cohort is the attempt's: `begin` forgets it, `finish` makes it part of the state.

        Args:
            available: the clients that can be asked now, each once, in any order; the draw does not depend on it.
            count: how many are wanted, >= 0.
            seed: of this round and attempt, uint64; equal seeds give equal cohorts.

        Returns:
            Distinct ids from `available`: `count` of them, or all when there are fewer.

        Raises:
            ValueError: count is negative.
        """
        if count < 0:
            raise ValueError(f"count = {count} must be 0 or more")
        ids = sorted(info.client for info in available)
        stream = Stream(derive(seed, "select"))
        return [ids[index] for index in stream.sample(len(ids), min(count, len(ids)))]

    def plan(self, plan: Plan, client: ClientInfo) -> Plan:
        """Set what this strategy owns in one client's plan: here the local objective. All else stays as it was."""
        return replace(plan, objective=self.objective, objective_params=dict(self.objective_params))

    @abstractmethod
    def begin(self, theta: FloatArray) -> None:
        """Start a round, or another attempt at one: whatever an attempt without `finish` left behind is forgotten.

        Args:
            theta: the adapter that the round starts from, shape (d,), fp32; not to be modified.
        """

    @abstractmethod
    def accept(self, update: Update, weight: float) -> None:
        """Take one reply. Called at most once per client and round, in order of arrival, which must not matter.

        Args:
            update: delta of shape (d,), fp32, finite; not to be modified, nor kept unless the rule needs all replies.
            weight: what the guard lets it count, > 0; less than the client's claim if it is late or stale.

        Raises:
            ClientFault: this rule cannot take the reply. The client is refused, and the round goes on as if it had
                sent nothing; any other error ends the run.
        """

    @abstractmethod
    def finish(self) -> FloatArray:
        """End the round.

        Returns:
            The new adapter, shape (d,), fp32, sharing no memory with what `begin` was given. With no accepted update
            it equals that, and the strategy's state stays as it was.
        """

    def state(self) -> State:
        """A copy of what this strategy keeps between rounds; empty when there is nothing (yet)."""
        return {}

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Go on from what `state` returned, bit by bit as if there had been no interruption.

        Raises:
            PluginError: the state is not one that this strategy wrote (code `strategy.state`).
        """
        self.read_state(state, {})

    def read_state(self, state: Mapping[str, npt.NDArray[Any]], dtypes: Mapping[str, type]) -> State | None:
        """Copies of the arrays of a saved state, checked by name and dtype: what `restore` is written with.

        Args:
            state: as a snapshot gave it back.
            dtypes: the arrays that this strategy writes, by name.

        Returns:
            The arrays, or None when the state is empty: nothing was kept yet.

        Raises:
            PluginError: other names or dtypes (code `strategy.state`).
        """
        if not state:
            return None
        found = {name: array.dtype.name for name, array in state.items()}
        wanted = {name: np.dtype(dtype).name for name, dtype in dtypes.items()}
        if found != wanted:
            raise PluginError(
                f"strategy {type(self).__name__} cannot go on from a saved state with the arrays {found}",
                code="strategy.state",
                allowed=f"the arrays {wanted}, or none" if wanted else "no arrays: this strategy keeps no state",
                remedy="resume with the strategy that the run was started with, or start a fresh run",
            )
        return {name: np.array(array) for name, array in state.items()}
