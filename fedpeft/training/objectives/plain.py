"""The task's loss and nothing else."""

from __future__ import annotations

import torch


class Plain:
    """Minimise the mean loss F_k(θ) on the client's own data."""

    def add_gradient(self, gradient: torch.Tensor, theta: torch.Tensor, start: torch.Tensor) -> None:
        """Add nothing."""
