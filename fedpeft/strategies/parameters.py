"""One check for the numbers that a run file gives to a strategy."""

from __future__ import annotations

import math


def number(
    name: str, value: float, *, least: float | None = None, above: float | None = None, below: float | None = None
) -> float:
    """The value as a finite float within its range.

    Args:
        name: of the parameter, as the run file spells it.
        value: what was given; whole numbers are taken, booleans and texts are not.
        least: smallest value allowed.
        above: the value must be greater than this.
        below: the value must be less than this.

    Raises:
        ValueError: naming the parameter, its value and its range.
    """
    bounds = [("at least", least), ("above", above), ("below", below)]
    allowed = " and ".join(f"{word} {bound:g}" for word, bound in bounds if bound is not None) or "finite"
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} = {value!r} must be a finite number, {allowed}")
    if (
        (least is not None and value < least)
        or (above is not None and value <= above)
        or (below is not None and value >= below)
    ):
        raise ValueError(f"{name} = {value!r} must be {allowed}")
    return float(value)
