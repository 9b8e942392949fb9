"""Local optimizers over flat vectors θ: one tensor a client, whatever the number of layers.

An optimizer is a function `(thetas, plan) -> torch.optim.Optimizer` that treats each tensor on its own and leaves those
alone whose gradient is None. It is given one tensor of shape (d,) for every client that trains under such a plan.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fedpeft.types import Plan


def adamw(thetas: Sequence[torch.Tensor], plan: Plan) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019) with β = (0.9, 0.999) and fresh moments in every round."""
    return torch.optim.AdamW(list(thetas), lr=plan.learning_rate, weight_decay=plan.weight_decay, fused=True)


def sgd(thetas: Sequence[torch.Tensor], plan: Plan) -> torch.optim.Optimizer:
    """Plain SGD, without momentum."""
    return torch.optim.SGD(list(thetas), lr=plan.learning_rate, weight_decay=plan.weight_decay, fused=True)
