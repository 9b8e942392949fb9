"""Moving a model's weights along directions, in place: no second copy, one bit a weight for each direction of signs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol

import numpy as np
import torch

from fedpeft.randomness.directions import Packed
from fedpeft.training.zeroth.keystream import keystream_on
from fedpeft.types import FloatArray
from fedpeft.zeroth.direction import Direction, Masked, Placed, Signs
from fedpeft.zeroth.sign_stream import SignStream

_PIECE = 1 << 20  # weights at a time on a device
MADE_THERE = 1 << 24
"""Signs from which on a GPU makes them itself. A keystream takes 550 small operations for any number of them to 2^25:
fewer are made here and sent with less work."""


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
    """On an accelerator: packed signs, a bit a weight, are sent there or made there, and unpacked in pieces. They stay
    until the next direction is asked for, since a step moves along one several times in a row.

    Args:
        theta: shape (d,), fp32, contiguous; moved in place.
        made_there: whether signs whose stream is known are made on the device; None: on CUDA, if they are many.
    """

    def __init__(self, theta: torch.Tensor, *, made_there: bool | None = None) -> None:
        self._weights = theta.detach()
        self._device = theta.device
        self._made_there = made_there
        self._shifts = torch.arange(8, dtype=torch.uint8, device=theta.device)
        self._direction: Direction | None = None
        self._bits: dict[int, torch.Tensor] = {}  # of the parts of the direction, by their id

    def add(self, direction: Direction, scale: float) -> None:
        """See `Walk.add`."""
        if direction is not self._direction:
            self._direction, self._bits = direction, {}
        self._move(self._weights, direction, float(np.float32(scale)))

    def _move(self, weights: torch.Tensor, direction: Direction, size: float) -> None:
        if isinstance(direction, Placed):
            self._move(weights[direction.place : direction.place + direction.inner.size], direction.inner, size)
            return
        moves = self._moves(direction, size)
        for place in range(0, len(weights), _PIECE):
            part = weights[place : place + _PIECE]
            part.add_(moves(place, len(part)).to(part.dtype))

    def _moves(self, direction: Direction, size: float) -> Callable[[int, int], torch.Tensor]:
        """What gives fl(size · z) of so many places from a place on."""
        if isinstance(direction, Signs):
            ones = self._kept(direction, partial(self._signs, direction))
            return lambda place, count: torch.where(self._unpacked(ones, place, count), size, -size)
        if isinstance(direction, Masked):
            chosen = self._kept(direction, partial(self._sent, direction.mask))
            inner = self._moves(direction.inner, size)
            # −0 is what changes no weight, not even one that is −0.
            return lambda place, count: torch.where(self._unpacked(chosen, place, count), inner(place, count), -0.0)
        return lambda place, count: torch.from_numpy(direction.values(place, count)).to(self._device) * size

    def _kept(self, part: Direction, make: Callable[[], torch.Tensor]) -> torch.Tensor:
        if id(part) not in self._bits:
            self._bits[id(part)] = make()
        return self._bits[id(part)]

    def _signs(self, direction: Signs) -> torch.Tensor:
        """The packed signs, on the device."""
        made_there = self._made_there
        if made_there is None:  # on MPS, memory is shared with the host: nothing is sent
            made_there = self._device.type == "cuda" and direction.size >= MADE_THERE
        if direction.stream is None or not made_there:
            return self._sent(direction.bits)
        return self._made(direction.stream, direction.size)

    def _made(self, stream: SignStream, count: int) -> torch.Tensor:
        bits = keystream_on(self._device, stream.key, stream.begin // 8, -(-count // 8))
        if stream.row:
            turned = self._sent(stream.turned())
            whole = bits[: len(bits) // len(turned) * len(turned)]
            whole.view(-1, len(turned)).bitwise_xor_(turned)
            rest = bits[len(whole) :]
            rest.bitwise_xor_(turned[: len(rest)])
        return bits

    def _sent(self, bits: Packed) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(bits)).to(self._device)

    def _unpacked(self, bits: torch.Tensor, place: int, count: int) -> torch.Tensor:
        """Bits `place` (a multiple of 8) to `place + count`, shape (count,), bool."""
        ones = bits[place // 8 : -(-(place + count) // 8), None].bitwise_right_shift(self._shifts).bitwise_and(1)
        return ones.reshape(-1)[:count].bool()


def go(walk: Walk, moves: Iterable[tuple[Direction, float]]) -> None:
    """Walk along each direction, so far."""
    for direction, scale in moves:
        walk.add(direction, scale)


def walk_of(theta: torch.Tensor) -> Walk:
    """The way to move weights where they are."""
    return HostWalk(theta) if theta.device.type == "cpu" else DeviceWalk(theta)
