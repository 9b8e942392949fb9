"""Importance by lot: one draw for the whole run, the baseline that any score must beat."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fedpeft.randomness.streams import Stream, derive


class Random:
    """Uniform scores from the run's seed, the same in every round."""

    def begin(self, magnitudes: npt.NDArray[np.float64], seed: int) -> npt.NDArray[np.float64]:
        """See `Importance.begin`."""
        return Stream(derive(seed, "pruning-random")).uniform(magnitudes.size)
