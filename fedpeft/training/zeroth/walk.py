"""Moving a model's weights along directions, in place: no second copy, one bit a weight for each direction of signs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import numpy as np
import torch

from fedpeft.types import FloatArray
from fedpeft.zeroth.direction import Direction, Signs

_PIECE = 1 << 20  # weights at a time on a device


class Walk(Protocol):
    """θ, and how to move it."""

    def add(self, direction: Direction, scale: float) -> None:
        """θ += scale · z, each weight rounded once."""


class HostWalk:
    """On the CPU, in NumPy.

    Args:
        theta: shape (d,), fp32, contiguous; moved in place.
    """

    def __init__(self, theta: torch.Tensor) -> None:
        self._weights: FloatArray = theta.detach().numpy()

    def add(self, direction: Direction, scale: float) -> None:
        """See `Walk.add`."""
        direction.add_to(self._weights, scale)


class DeviceWalk:
    """On an accelerator: the packed signs go there, a bit a weight, and are unpacked in pieces.

    Args:
        theta: shape (d,), fp32, contiguous; moved in place.
    """

    def __init__(self, theta: torch.Tensor) -> None:
        self._weights = theta.detach()
        self._shifts = torch.arange(8, dtype=torch.uint8, device=theta.device)

    def add(self, direction: Direction, scale: float) -> None:
        """See `Walk.add`."""
        size = float(np.float32(scale))
        if not isinstance(direction, Signs):
            for place in range(0, len(self._weights), _PIECE):
                part = self._weights[place : place + _PIECE]
                moved = torch.from_numpy(direction.values(place, len(part))).to(part.device) * size
                part.add_(moved.to(part.dtype))
            return
        there = torch.from_numpy(np.ascontiguousarray(direction.bits)).to(self._weights.device)
        for place in range(0, len(self._weights), _PIECE):
            part = self._weights[place : place + _PIECE]
            ones = there[place // 8 : (place + _PIECE) // 8, None].bitwise_right_shift(self._shifts).bitwise_and(1)
            moved = torch.where(ones.reshape(-1)[: len(part)].bool(), size, -size)
            part.add_(moved.to(part.dtype))


def go(walk: Walk, moves: Iterable[tuple[Direction, float]]) -> None:
    """Walk along each direction, so far."""
    for direction, scale in moves:
        walk.add(direction, scale)


def walk_of(theta: torch.Tensor) -> Walk:
    """The way to move weights where they are."""
    return HostWalk(theta) if theta.device.type == "cpu" else DeviceWalk(theta)
