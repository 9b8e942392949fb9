"""Local objectives: the client half of a strategy, registered by name so that a plan can ask for one.

An objective adds to the gradient of the task's mean loss. It sees flat vectors, shape (d,), so the same code serves one
client or, with a leading axis, many.
"""

from __future__ import annotations

from typing import Protocol

import torch


class Objective(Protocol):
    """The contract of a local objective (registry kind `objective`); its constructor takes `Plan.objective_params`."""

    def add_gradient(self, gradient: torch.Tensor, theta: torch.Tensor, start: torch.Tensor) -> None:
        """Add this objective's gradient at θ to `gradient`, in place.

        Args:
            gradient: shape (..., d), fp32.
            theta: current parameters, shape (..., d).
            start: the parameters that the round started from, shape (..., d).
        """


__all__ = ["Objective"]
