"""The tiny job that all frameworks do: an MLP of 2,762 parameters, 20 examples a client, one step of SGD, the mean."""

from __future__ import annotations

import numpy as np
import torch

FEATURES, HIDDEN, CLASSES, EXAMPLES, RATE = 32, 64, 10, 20, 0.1


class Mlp(torch.nn.Module):
    """Two layers, with the same values everywhere."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.below = torch.nn.Linear(FEATURES, HIDDEN)
        self.above = torch.nn.Linear(HIDDEN, CLASSES)

    def forward(self, x):
        """x of shape (n, 32); logits of shape (n, 10)."""
        return self.above(torch.relu(self.below(x)))


def make_client(number):
    """One client's examples: x of shape (20, 32), y of shape (20,)."""
    rng = np.random.default_rng(number)
    x = rng.standard_normal((EXAMPLES, FEATURES), dtype=np.float32)
    return torch.from_numpy(x), torch.from_numpy(rng.integers(0, CLASSES, EXAMPLES))


def norm(model):
    """L2 norm of all parameters: equal for all who did the same."""
    return float(torch.cat([p.detach().reshape(-1) for p in model.parameters()]).norm())
