"""Importance by magnitude: units with small frozen weights go first, a baseline that needs no data.

Han et al. 2015 (arXiv 1506.02626), over whole units: s_u = ‖W_u‖_2 of all frozen rows and columns that a unit owns.
Nothing is measured and nothing is sent, so masks change with the ratio only.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


class Magnitude:
    """See the module."""

    def begin(self, magnitudes: npt.NDArray[np.float64], seed: int) -> npt.NDArray[np.float64]:
        """See `Importance.begin`."""
        return magnitudes
