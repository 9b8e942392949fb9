"""Sign: every step along a direction has the length lr, whatever the slope (ZO-signSGD, Liu et al. 2019, "signSGD via
Zeroth-Order Oracle", ICLR, as ZO-Bench, Zhang et al. 2024, arXiv 2402.11592, does it: sign(g) · z).

    Δ_t = −lr · sign(G_t)

The coordinator takes the sign: scalars come with their size, and a tie or a skipped step is a 0 that stays.
`zeroth.scalars = "sign"` sends the signs alone. State: none. One drawn direction moves no weight by more than lr.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fedpeft.zeroth.optimizers import CoefficientOptimizer, Vector


class Sign(CoefficientOptimizer):
    """See `CoefficientOptimizer`."""

    stays = stateless = True

    def step(self, state: Any, gradient: Vector, rate: float) -> tuple[Vector, Any]:
        """See `CoefficientOptimizer.step`."""
        return -rate * np.sign(gradient), state

    def reach(self, clip: float, drawn: int, size: int) -> float:
        """See `CoefficientOptimizer.reach`."""
        return 1.0
