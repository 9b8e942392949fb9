"""An objective of a round in which some of the values are frozen: they have no gradient, and no optimizer moves them.

It comes last, so that what another objective adds to them, or a norm that gradients are clipped to, counts nothing of
them. A decay of weights is undone before the next step looks; what it did after the last one is not sent.
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
        theta.copy_(torch.where(self.places, start, theta))
