"""One choice for each of many, at the least cost, while what the choices weigh stays within a limit.

The multiple-choice knapsack, as a dynamic programme (L-GreCo's, Markov et al. 2022, arXiv 2210.17357, Algorithm 1):

    D_t[b] = min_c D_{t−1}[b − w_tc] + cost_tc        with weights rounded up to whole units, b up to 10,000 of them

What every choice of an item weighs at least is set aside first, exactly, so that only what goes beyond it is rounded.
Rounded up, a limit is never passed; a cheaper choice within less than a unit an item of the limit may be overlooked.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

UNITS = 10_000


def cheapest(costs: npt.NDArray[np.float64], weights: npt.NDArray[np.float64], limit: float) -> list[int] | None:
    """The choice of each item, of equals the first; None where even the lightest pass the limit.

    Args:
        costs: of each item's choices, shape (items, choices), finite.
        weights: likewise, 0 or more. Whole numbers that add up to no more than 10,000 beyond the least are not rounded.
        limit: of the sum of the chosen weights.
    """
    least = weights.min(axis=1)
    room = limit - float(least.sum())
    if room < 0:
        return None
    whole = bool((weights == np.floor(weights)).all())
    unit = float(np.ceil(room / UNITS)) if whole else room / UNITS
    unit = unit or 1.0
    units = int(room / unit)
    with np.errstate(over="ignore"):
        steps = np.minimum(np.ceil((weights - least[:, None]) / unit), units + 1).astype(np.int64)
    total = np.zeros(units + 1)
    chosen = np.zeros((len(costs), units + 1), dtype=np.uint8)
    for item, own in enumerate(costs):
        ways = np.full((len(own), units + 1), np.inf)
        for choice, cost in enumerate(own):
            step = int(steps[item, choice])
            ways[choice, step:] = total[: units + 1 - step] + cost
        chosen[item] = ways.argmin(axis=0)
        total = ways.min(axis=0)
    found, place = [], units
    for item in reversed(range(len(costs))):
        found.append(int(chosen[item, place]))
        place -= int(steps[item, found[-1]])
    return found[::-1]
