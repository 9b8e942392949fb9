"""An objective of a round in which some of the values are frozen: they have no gradient, and no optimizer moves them.

It comes last, so that what another objective adds to them, or a norm that gradients are clipped to, counts nothing of
them. A decay of weights is undone behind each step (`hold`), so that no forward pass sees it.
"""

from __future__ import annotations

import torch

from fedpeft.training.objectives import Objective


class Frozen:
    """Another objective, on the values that move.

    Args:
        objective: of the plan.
        places: those that do not move, shape (d,), bool.
    """

    def __init__(self, objective: Objective, places: torch.Tensor) -> None:
        self.objective = objective
        self.places = places

    def add_gradient(self, gradient: torch.Tensor, theta: torch.Tensor, start: torch.Tensor) -> None:
        """See `Objective.add_gradient`."""
        self.objective.add_gradient(gradient, theta, start)
        gradient.masked_fill_(self.places, 0.0)


def hold(objective: object, theta: torch.Tensor, start: torch.Tensor | None) -> None:
    """Put what an objective freezes back to where it started, behind a step of the optimizer.

    Args:
        objective: of the plan; one that freezes nothing leaves θ as it is.
        theta: shape (d,).
        start: θ as the round started, shape (d,).
    """
    if isinstance(objective, Frozen) and start is not None:
        theta.copy_(torch.where(objective.places, start, theta))
