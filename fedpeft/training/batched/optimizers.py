"""The optimizers of all clients at work: clients with like settings share one, each with its own state and step count.

One call then steps every client of a pass, so that a step costs a client little more than its arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fedpeft.registry import load
from fedpeft.training.batched.seat import Seat
from fedpeft.types import Plan


class SeatOptimizers:
    """The state of every seat's optimizer."""

    def __init__(self) -> None:
        self._by_settings: dict[tuple[str | float, ...], torch.optim.Optimizer] = {}

    def add(self, seat: Seat) -> None:
        """Give a seat fresh state."""
        key = _settings(seat.plan)
        optimizer = self._by_settings.get(key)
        if optimizer is None:
            self._by_settings[key] = load("optimizer", seat.plan.optimizer)([seat.theta], seat.plan)
        else:
            optimizer.param_groups[0]["params"].append(seat.theta)

    def drop(self, seat: Seat) -> None:
        """Forget a seat."""
        key = _settings(seat.plan)
        optimizer = self._by_settings[key]
        group = optimizer.param_groups[0]
        group["params"] = [theta for theta in group["params"] if theta is not seat.theta]
        optimizer.state.pop(seat.theta, None)
        if not group["params"]:
            del self._by_settings[key]

    def step(self, seats: Sequence[Seat], gradients: Sequence[torch.Tensor]) -> None:
        """One step of these seats along their gradients, each of shape (d,); all others stay as they are."""
        for seat, gradient in zip(seats, gradients, strict=True):
            seat.theta.grad = gradient
        for key in {_settings(seat.plan) for seat in seats}:
            self._by_settings[key].step()
        for seat in seats:
            seat.theta.grad = None


def _settings(plan: Plan) -> tuple[str | float, ...]:
    """What an optimizer may be built from; one of the user's own may look at steps and batch size, too."""
    return plan.optimizer, plan.learning_rate, plan.weight_decay, plan.steps, plan.batch_size, plan.round
