"""Local optimizers over the flat vector θ: one tensor, whatever the number of layers."""

from __future__ import annotations

import torch

from fedpeft.types import Plan


def adamw(theta: torch.Tensor, plan: Plan) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019) with β = (0.9, 0.999) and fresh moments in every round."""
    return torch.optim.AdamW([theta], lr=plan.learning_rate, weight_decay=plan.weight_decay, foreach=False)


def sgd(theta: torch.Tensor, plan: Plan) -> torch.optim.Optimizer:
    """Plain SGD, without momentum."""
    return torch.optim.SGD([theta], lr=plan.learning_rate, weight_decay=plan.weight_decay, foreach=False)
