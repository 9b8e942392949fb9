"""What a zeroth-order run does with the scalars of a round beyond folding them: bounds, and importances.

Both need all scalars of the round, which are few. `ScalarStrategy` stands around the run's strategy and keeps them:

    replies ── accept ──> the strategy (what it cannot take is refused)          kept: places, scalars
    finish  ── bound ──> begin again, accept in the clients' order ──> finish ──> importances of the next round

Bounds (`zeroth.deviations` = k): a scalar further than k · MAD from the median of all scalars of the round is moved to
there, with MAD = median |g − median|, not scaled to a standard deviation (of normal numbers σ is 1.4826 MAD). So who
sends the largest numbers that are allowed counts for no more than an honest client may, whatever `zeroth.clip` is.
Where more than half of the scalars are equal, MAD is 0 and says nothing: nothing is bounded.

Importances (`zeroth.sampling = "importance"`): see `fedpeft.zeroth.importance`. Amplitudes are those of the running
epoch; when the next round belongs to another one they are forgotten, and directions are drawn uniformly again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fedpeft.errors import ClientFault
from fedpeft.server.around import Around
from fedpeft.server.reading import ScalarSettings, ScalarUpdate
from fedpeft.strategies import Strategy
from fedpeft.strategies.base import State
from fedpeft.types import ClientId, FloatArray, Update
from fedpeft.zeroth.importance import numbers_of

_ROUNDS, _SUMS, _COUNTS = "zeroth.rounds", "zeroth.sums", "zeroth.counts"
_NOTHING: FloatArray = np.empty(0, dtype=np.float32)


class ScalarStrategy(Around):
    """The run's strategy, with bounds and importances.

    Args:
        inner: the run's. Importances are coordinates that no update moves, and what it makes of them is not looked at.
        settings: of the run.

    Attributes:
        outlying: clients of whose scalars more than half were beyond the bounds of the round that `finish` ended.
    """

    def __init__(self, inner: Strategy, settings: ScalarSettings) -> None:
        super().__init__(inner)
        self.settings = settings
        self.coordinates = settings.coordinates
        self.outlying: list[ClientId] = []
        self._theta = _NOTHING
        self._replies: dict[tuple[ClientId, int], tuple[ScalarUpdate, float]] = {}
        self._rounds = 0  # finished
        self._forget()

    def begin(self, theta: FloatArray) -> None:
        """See `Strategy.begin`."""
        self._theta, self._replies = theta, {}
        self.inner.begin(theta)

    def accept(self, update: Update, weight: float) -> None:
        """Hand it on at once, so that what the strategy cannot take is refused by name, and keep its scalars."""
        assert isinstance(update, ScalarUpdate)
        self.inner.accept(update, weight)
        self._replies[update.client, update.round] = (replace(update, delta=_NOTHING), weight)

    def finish(self) -> FloatArray:
        """See `Strategy.finish`."""
        replies = [self._replies[key] for key in sorted(self._replies)]
        self._replies, self.outlying = {}, []
        folded = self._bounded(replies) if self.settings.deviations and replies else replies
        after = self.inner.finish()
        if self.coordinates.temperature is None or getattr(after, "shape", None) != self._theta.shape:
            return after  # one that is no adapter is for the coordinator to refuse
        if replies:
            after[: self.coordinates.first] = self._importances(folded)
        return after

    def state(self) -> State:
        """The strategy's, and `zeroth.rounds`, shape (1,), int64, `zeroth.sums`, fp64, and `zeroth.counts`, int64, of
        shape (K,): of |g| along each direction of the epoch. The latter with importances only, from the first round."""
        own = {_ROUNDS: np.array([self._rounds]), _SUMS: self._sums.copy(), _COUNTS: self._counts.copy()}
        return self.inner.state() | (own if self._rounds else {})

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """See `Strategy.restore`."""
        names = {_ROUNDS: np.int64, _SUMS: np.float64, _COUNTS: np.int64}
        own = self.read_state({name: state[name] for name in names if name in state}, names)
        self.inner.restore({name: array for name, array in state.items() if name not in names})
        self._forget()
        self._rounds = 0
        if own:
            self._rounds, self._sums, self._counts = int(own[_ROUNDS][0]), own[_SUMS], own[_COUNTS]

    def _bounded(self, replies: list[tuple[ScalarUpdate, float]]) -> list[tuple[ScalarUpdate, float]]:
        """The replies with their scalars within the bounds, folded anew."""
        low, high = bounds([update.scalars for update, _ in replies], self.settings.deviations)
        kept = []
        self.inner.begin(self._theta)
        for update, weight in replies:
            within = np.clip(update.scalars, low, high)
            beyond = bool(np.count_nonzero(within != update.scalars) * 2 > len(within))
            delta = self.coordinates.moved(update.places, within, update.learning_rate)
            try:
                self.inner.accept(replace(update, delta=delta, scalars=within), weight)
            except ClientFault:  # it was taken as it came, and is left out as what it came to
                beyond = True
            else:
                kept.append((replace(update, scalars=within), weight))
            if beyond:
                self.outlying.append(update.client)
        return kept

    def _importances(self, replies: list[tuple[ScalarUpdate, float]]) -> npt.NDArray[np.int64]:
        """Count a round's scalars, in the clients' order; returns what the next round draws by."""
        self._rounds += 1
        epoch = self.coordinates.epoch(self._rounds)
        for update, _ in replies:
            epochs, numbers = self.coordinates.of_places(update.places)
            own = epochs == epoch  # what comes late may belong to one that is closed
            np.add.at(self._sums, numbers[own], np.abs(update.scalars[own], dtype=np.float64))
            np.add.at(self._counts, numbers[own], 1)
        if self.coordinates.epoch(self._rounds + 1) != epoch:
            self._forget()
        return numbers_of(self._sums, self._counts)

    def _forget(self) -> None:
        self._sums = np.zeros(self.coordinates.size, dtype=np.float64)
        self._counts = np.zeros(self.coordinates.size, dtype=np.int64)


def bounds(scalars: Sequence[FloatArray], deviations: float) -> tuple[float, float]:
    """The median of all scalars ± k · MAD; no bounds where MAD is 0.

    Args:
        scalars: of each client, shape (n_k,), at least one in all.
        deviations: k.
    """
    pooled = np.concatenate(scalars).astype(np.float64)
    middle = float(np.median(pooled))
    spread = deviations * float(np.median(np.abs(pooled - middle)))
    return (middle - spread, middle + spread) if spread > 0 else (-np.inf, np.inf)


def with_scalars(strategy: Strategy, settings: ScalarSettings) -> Strategy:
    """The run's strategy, with what the settings ask for beyond folding."""
    wanted = settings.deviations > 0 or settings.coordinates.temperature is not None
    return ScalarStrategy(strategy, settings) if wanted else strategy
