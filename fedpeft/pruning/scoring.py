"""A client's score of its units, taken while it trains: see `importance.contract.Measured` for what is added up."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from fedpeft.pruning.importance import Measured
from fedpeft.pruning.units import Places, Units
from fedpeft.types import FloatArray

SCORES = "pruning.scores"
"""Under this name a client's scores travel, and a training result brings them."""


class _Adds(Protocol):
    """An objective, as `fedpeft.training.objectives` has it."""

    def add_gradient(self, gradient: Any, theta: Any, start: Any) -> None: ...


class Scoring:
    """The scores of one client in one round.

    Args:
        importance: what is measured.
        units: of the full model.
        places: of the values that the client trains, in θ, shape (k,); None: all.
    """

    def __init__(self, importance: Measured, units: Units, places: Places | None) -> None:
        owners = units.unit_of if places is None else units.unit_of[places]
        self._importance = importance
        self._units = units
        self._mine = owners >= 0
        self._owners = owners[self._mine]
        self._total = np.zeros(units.count)

    def look(self, theta: Any, gradient: Any) -> None:
        """Take up one step: θ before it and the gradient of the mean loss, tensors of shape (k,)."""
        found = self._importance.contributions(theta.detach().cpu().numpy(), gradient.detach().cpu().numpy())
        sums = np.bincount(self._owners, weights=found[self._mine], minlength=self._units.count)
        self._total += np.abs(sums)

    def shares(self) -> FloatArray:
        """The scores so far as shares of their group's sum, shape (U,), fp32; zero where nothing was measured."""
        return self._units.shares(self._total).astype(np.float32)

    def watching(self, objective: _Adds) -> _Adds:
        """The objective, with a look at every gradient before it adds its own."""
        return _Watching(objective, self)


class _Watching:
    def __init__(self, objective: _Adds, scoring: Scoring) -> None:
        self._objective, self._scoring = objective, scoring

    def add_gradient(self, gradient: Any, theta: Any, start: Any) -> None:
        self._scoring.look(theta, gradient)
        self._objective.add_gradient(gradient, theta, start)
