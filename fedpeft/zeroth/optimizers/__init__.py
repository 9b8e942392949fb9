"""Optimizers of the coefficients: how the scalars of a client's steps move the K coefficients of an epoch.

    G_t = Σ_i g_{t,i} e_{j(t,i)}        what step t measured, shape (K,): 0 but where a direction was drawn
    a_t = a_{t−1} + Δ_t(G_1 ... G_t)    Δ = −lr · G for plain SGD

Nothing of an optimizer is sent. Both sides know which directions were drawn, so scalars say all: the client walks by
them, the coordinator replays them in fp64, and what it finds is what counts. State begins at zero in every round and is
one client's own; what lasts over rounds is the strategy's (`fedavgm`, `fedadam`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]


class CoefficientOptimizer(ABC):
    """The contract of an optimizer, with what most of them share (registry kind `coefficient_optimizer`).

    An optimizer has no state of its own: `begin` makes one, `step` returns the next. A toy that halves every step:

    >>> class Half(CoefficientOptimizer):
    ...     stays = stateless = True
    ...     def step(self, state, gradient, rate):
    ...         return -0.5 * rate * gradient, state
    ...     def reach(self, clip, drawn, size):
    ...         return 0.5 * clip
    >>> Half().replay(np.array([[1], [1], [3]]), np.array([[2.0], [1.0], [4.0]]), size=4, rate=0.1).tolist()
    [0.0, -0.15000000000000002, 0.0, -0.2]
    """

    stays: bool = False
    """A step whose scalars are all 0 moves nothing, and one of −g is the opposite of one of g."""

    stateless: bool = False
    """A step depends on its own scalars alone."""

    def begin(self, size: int) -> Any:
        """The state before the first step; K = `size`."""
        return None

    @abstractmethod
    def step(self, state: Any, gradient: Vector, rate: float) -> tuple[Vector, Any]:
        """Δ_t, shape (K,), and the next state; neither argument is changed.

        Args:
            state: from `begin`, or from the step before.
            gradient: G_t, shape (K,).
            rate: lr. Δ is proportional to it.
        """

    @abstractmethod
    def reach(self, clip: float, drawn: int, size: int) -> float:
        """How far one drawn direction can move the coefficients until the round ends, Σ_t Σ_j |Δ_{t,j}| ÷ lr, at most.

        Args:
            clip: of a scalar's magnitude.
            drawn: directions in the whole round.
            size: K.
        """

    def ahead(self, state: Any) -> Vector | None:
        """How far before the coefficients the next step looks from, shape (K,); None: from where they are."""
        return None

    def along(self, state: Any, numbers: Numbers) -> Sequence[Vector] | None:
        """The directions that a step looks along, each as its coefficients, shape (K,); None: the drawn ones.

        Args:
            state: before the step.
            numbers: of the directions that were drawn, shape (n,).
        """
        return None

    def replay(self, numbers: Numbers, scalars: Vector, size: int, rate: float) -> Vector:
        """What a client's round adds to the coefficients, shape (K,).

        Args:
            numbers: of the drawn directions, shape (steps, n).
            scalars: g, shape (steps, n).
            size: K.
            rate: lr; divided by the unit, the result counts in units.
        """
        course = Course(self, size, rate)
        for drawn, own in zip(numbers, scalars, strict=True):
            course.take(drawn, own)
        return course.moved


class Course:
    """One client's round, step by step.

    Args:
        optimizer: of the coefficients.
        size: K.
        rate: lr.

    Attributes:
        moved: what was added to the coefficients so far, shape (K,).
    """

    def __init__(self, optimizer: CoefficientOptimizer, size: int, rate: float) -> None:
        self.optimizer = optimizer
        self.rate = rate
        self.moved: Vector = np.zeros(size)
        self._state = optimizer.begin(size)
        self._ahead = optimizer.ahead(self._state)

    def along(self, numbers: Numbers) -> Sequence[Vector] | None:
        """See `CoefficientOptimizer.along`, of the next step."""
        return self.optimizer.along(self._state, numbers)

    def trial(self, numbers: Numbers, scalars: Vector) -> Vector:
        """What the next step would add to the coefficients, shape (K,); it is not taken."""
        return self.optimizer.step(self._state, self._gradient(numbers, scalars), self.rate)[0]

    def take(self, numbers: Numbers, scalars: Vector) -> Vector:
        """Take a step; returns by how much the place moved that steps look from, shape (K,).

        Args:
            numbers: of the drawn directions, shape (n,).
            scalars: g, shape (n,).
        """
        change, self._state = self.optimizer.step(self._state, self._gradient(numbers, scalars), self.rate)
        self.moved = self.moved + change
        before, self._ahead = self._ahead, self.optimizer.ahead(self._state)
        return change if self._ahead is None or before is None else change + self._ahead - before

    def _gradient(self, numbers: Numbers, scalars: Vector) -> Vector:
        gradient: Vector = np.zeros(len(self.moved))
        along = self.along(numbers)
        if along is None:
            np.add.at(gradient, numbers, scalars)
        else:
            for direction, scalar in zip(along, scalars, strict=True):
                gradient += float(scalar) * direction
        return gradient


def share_of(name: str, value: float) -> float:
    """A decay such as β, checked.

    Raises:
        ValueError: it is not from 0 to below 1.
    """
    if not 0 <= value < 1:
        raise ValueError(f"{name} = {value} must be from 0 to below 1")
    return value
