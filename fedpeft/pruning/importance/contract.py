"""The contract of an importance, with and without something that clients measure."""

from __future__ import annotations

from typing import Any, Protocol, TypeGuard, runtime_checkable

import numpy as np
import numpy.typing as npt

from fedpeft.types import FloatArray


class Importance(Protocol):
    """Scores units: heads and channels, U in all (registry kind `importance`).

    A toy that keeps those with the lowest numbers:

    >>> class FirstOnes:
    ...     def begin(self, magnitudes, seed):
    ...         return -np.arange(magnitudes.size, dtype=np.float64)
    >>> from fedpeft.pruning.mask import choose
    >>> choose(FirstOnes().begin(np.ones(4), seed=7), [4], 0.5).hex()  # 1100 0000
    'c0'
    """

    def begin(self, magnitudes: npt.NDArray[np.float64], seed: int) -> npt.NDArray[np.float64]:
        """Scores before anything is measured, shape (U,), finite; higher is kept.

        Args:
            magnitudes: L2 norm of the frozen weights of each unit, shape (U,).
            seed: the run's.
        """


@runtime_checkable
class Measured(Importance, Protocol):
    """One that clients measure while they train. Each sends its scores as shares of their group's sum, in fp16.

    So what its `begin` gives must not be below 0: it is put into shares as well, until something is measured.
    """

    def contributions(self, theta: FloatArray, gradient: FloatArray) -> FloatArray:
        """What each trained value adds to the score of its unit in one step.

        A step's score of a unit is the magnitude of the sum over its values; a round's is the sum over its steps.

        Args:
            theta: the trained values before the step, shape (k,).
            gradient: of the mean loss, not clipped, shape (k,).

        Returns:
            shape (k,), fp32.
        """


def is_measured(importance: Any) -> TypeGuard[Measured]:
    """Whether clients have something to measure for it."""
    return isinstance(importance, Measured)
