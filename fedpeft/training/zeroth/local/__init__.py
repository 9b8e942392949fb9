"""Optimizers of a client that sends a delta: how θ moves by what was measured, weight by weight.

    drawn ── look ──> directions ── two looks or more ──> losses ── estimator ──> g ── move ──> θ, and on

Their state is as large as θ and cannot be replayed from scalars: it lives on one client for one round, in the memory of
its host, and is never sent. So these runs are not portable as those by scalars are: what is shared is θ itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from fedpeft.types import FloatArray
from fedpeft.zeroth.direction import Direction


class LocalOptimizer(Protocol):
    """The contract of such an optimizer (registry kind `zeroth_optimizer`).

    Made by `name(size, plan)` for one client and round, with d and a `Plan`: its learning rate and steps. Weight decay
    is not its matter: θ is multiplied by 1 − learning rate · weight decay before each `move`.

    A toy that goes by signs, and its first step:

    >>> class Signwise:
    ...     draws, vectors = 1, 0
    ...     def __init__(self, size, plan):
    ...         self.rate = plan.learning_rate
    ...     def look(self, drawn):
    ...         return [direction for (direction,) in drawn]
    ...     def move(self, theta, directions, scalars):
    ...         for direction, scalar in zip(directions, scalars):
    ...             direction.add_to(theta.numpy(), -self.rate * np.sign(scalar))
    >>> theta, z = torch.zeros(3), Signs(np.array([0b101], dtype=np.uint8), 3)
    >>> one = Signwise(3, Plan("run", 1, 0, "c00", seed=0, steps=1, batch_size=1, learning_rate=0.5))
    >>> one.move(theta, one.look([(z,)]), np.array([7.0], dtype=np.float32))
    >>> theta.tolist()
    [-0.5, 0.5, -0.5]
    """

    draws: int
    """Directions of the pool that go into one along which is looked."""

    vectors: int
    """Of θ's size, fp32, that it keeps: 4 bytes a weight each."""

    def look(self, drawn: Sequence[Sequence[Direction]]) -> list[Direction]:
        """The directions of the next step; asked twice before a `move`, it answers the same.

        Args:
            drawn: for each of them `draws` directions of the pool, over all d places.
        """

    def move(self, theta: torch.Tensor, directions: Sequence[Direction], scalars: FloatArray) -> None:
        """One step of θ, in place. A step whose losses are not finite never comes here.

        Args:
            theta: shape (d,), fp32, contiguous, where the step began.
            directions: from `look`.
            scalars: g along each of them, shape (len(directions),): Σ g z is the estimate of the gradient.
        """
