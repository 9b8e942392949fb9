"""Estimators: at which points a step asks for the loss, and what scalars it makes of the answers.

A point is (direction, multiple): the loss is taken at θ + multiple · ε · z_direction, of the directions of this step
counted from 0; direction −1 is θ itself. So one estimator serves a model in whose weights one walks in place, and many
clients' adapters side by side.

An estimator with `slopes = True` asks for no points: it is given the slope zᵀ∇L along each direction, by forward-mode
differentiation, one client after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

Points = Sequence[tuple[int, int]]


class Estimator(Protocol):
    """The contract of an estimator (registry kind `estimator`).

    A toy that looks to one side only, of one direction:

    >>> class OneSided:
    ...     directions = 1
    ...     points = ((-1, 0), (0, 1))
    ...     def scalars(self, losses, epsilon):
    ...         return (losses[1:] - losses[:1]) / epsilon
    >>> OneSided().scalars(np.array([1.0, 1.5]), 0.1)
    array([5.])
    """

    directions: int
    """A step moves along so many."""

    points: Points
    """Where the loss is taken, in this order; neighbours of one direction cost one pass over the weights less."""

    def scalars(self, losses: npt.NDArray[np.float64], epsilon: float) -> npt.NDArray[np.float64]:
        """g for each direction of the step, shape (directions,): the step is −lr · Σ g z.

        Args:
            losses: at the points, shape (len(points),), finite; where `slopes` is True, these, shape (directions,).
            epsilon: ε.
        """


def queries_of(queries: int) -> int:
    """`queries`, checked.

    Raises:
        ValueError: it is not from 1 to 64.
    """
    if not 1 <= queries <= 64:
        raise ValueError(f"queries = {queries} must be from 1 to 64")
    return queries
