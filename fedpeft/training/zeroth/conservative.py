"""Conservative steps: of stepping, staying and the opposite step, the one with the least loss on the same batch.

ZO-SGD-Cons of ZO-Bench (Zhang et al. 2024, "Revisiting Zeroth-Order Optimization for Memory-Efficient LLM Fine-Tuning",
arXiv 2402.11592). What is sent is what was done, g, 0 or −g, so nobody else needs to know. It takes an
optimizer that stays where the scalar is 0, and turns round where it is −g.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

MULTIPLES = (1, 0, -1)
"""Of the scalars, in the order of the losses that `best_of` is given: the step, where one is, the opposite."""


def best_of(losses: npt.ArrayLike) -> int:
    """The multiple with the least loss, the earlier one of two; a loss that is not finite is none.

    >>> best_of([2.0, 1.0, 3.0]), best_of([1.0, 1.0, 1.0]), best_of([float("nan")] * 3)
    (0, 1, 0)
    """
    found = np.asarray(losses, dtype=np.float64)
    finite = np.isfinite(found)
    return MULTIPLES[int(np.argmin(np.where(finite, found, np.inf)))] if finite.any() else 0
