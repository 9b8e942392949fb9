"""A direction: along which way a step looks, z, in whatever form its pool makes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fedpeft.randomness.directions import Packed, add_signs, signs
from fedpeft.types import FloatArray
from fedpeft.zeroth.sign_stream import SignStream

_PIECE = 1 << 16  # numbers made at a time: they stay in the cache
_ALL_BITS = -(np.arange(256, dtype=np.int32)[:, None] >> np.arange(8, dtype=np.int32) & 1)  # -1 has all bits


class Direction(Protocol):
    """z over `size` places of the flat vector, E z zᵀ = I where it is not zero by construction."""

    @property
    def size(self) -> int:
        """Number of places, n."""

    def add_to(self, weights: FloatArray, scale: float) -> None:
        """weights ← fl(weights + fl(scale · z)), in place; weights of which z is zero by construction are left alone.

        Args:
            weights: shape (n,), fp32, contiguous.
            scale: taken as fp32.
        """

    def values(self, begin: int = 0, count: int | None = None) -> FloatArray:
        """z at places `begin` (a multiple of 8) to `begin + count` (all that follow if None), fp32, a new array."""


class Signs:
    """±1, a bit each: packed, or made of their stream when the bits are first asked for.

    Args:
        bits: shape (⌈size/8⌉,); None: made of the stream.
        size: n.
        stream: what the bits are, where it is known: a device may make them itself.
    """

    __slots__ = ("_bits", "size", "stream")

    def __init__(self, bits: Packed | None, size: int, stream: SignStream | None = None) -> None:
        self._bits = bits
        self.size = size
        self.stream = stream

    @property
    def bits(self) -> Packed:
        """Shape (⌈size/8⌉,)."""
        if self._bits is None:
            assert self.stream is not None
            self._bits = self.stream.packed(self.size)
        return self._bits

    def add_to(self, weights: FloatArray, scale: float) -> None:
        """See `Direction.add_to`."""
        add_signs(weights, self.bits, scale)

    def values(self, begin: int = 0, count: int | None = None) -> FloatArray:
        """See `Direction.values`."""
        count = self.size - begin if count is None else count
        return signs(self.bits[begin // 8 : -(-(begin + count) // 8)], count)


@dataclass(frozen=True, slots=True)
class Numbers:
    """Real numbers, made a piece at a time whenever they are asked for: kept, they would be as large as the weights."""

    make: Callable[[int, int], FloatArray]  # places `begin` to `begin + count`, fp32, a new array
    size: int

    def add_to(self, weights: FloatArray, scale: float) -> None:
        """See `Direction.add_to`."""
        for place in range(0, self.size, _PIECE):
            part = weights[place : place + _PIECE]
            moved = self.make(place, len(part))
            moved *= np.float32(scale)
            part += moved

    def values(self, begin: int = 0, count: int | None = None) -> FloatArray:
        """See `Direction.values`."""
        return self.make(begin, self.size - begin if count is None else count)


@dataclass(frozen=True, slots=True)
class Placed:
    """A direction of some neighbouring places; zero elsewhere."""

    inner: Direction
    place: int  # of the first one that moves, a multiple of 8
    size: int

    def add_to(self, weights: FloatArray, scale: float) -> None:
        """See `Direction.add_to`."""
        self.inner.add_to(weights[self.place : self.place + self.inner.size], scale)

    def values(self, begin: int = 0, count: int | None = None) -> FloatArray:
        """See `Direction.values`."""
        count = self.size - begin if count is None else count
        found = np.zeros(count, dtype=np.float32)
        first, end = max(begin, self.place), min(begin + count, self.place + self.inner.size)
        if first < end:
            found[first - begin : end - begin] = self.inner.values(first - self.place, end - first)
        return found


@dataclass(frozen=True, slots=True)
class Masked:
    """A direction of chosen places; zero elsewhere."""

    inner: Direction
    mask: Packed  # shape (⌈size/8⌉,); 1 where it moves, the first place lowest

    @property
    def size(self) -> int:
        """n."""
        return self.inner.size

    def add_to(self, weights: FloatArray, scale: float) -> None:
        """See `Direction.add_to`."""
        for place in range(0, self.size, _PIECE):
            part = weights[place : place + _PIECE]
            moved = self.inner.values(place, len(part))
            moved *= np.float32(scale)
            moved += part
            move_chosen(part, moved, self.mask[place // 8 : (place + _PIECE) // 8])

    def values(self, begin: int = 0, count: int | None = None) -> FloatArray:
        """See `Direction.values`."""
        found = self.inner.values(begin, self.size - begin if count is None else count)
        bits = found.view(np.int32)
        bits &= chosen(self.mask, begin, len(found))
        return found


def chosen(mask: Packed, begin: int, count: int) -> npt.NDArray[np.int32]:
    """Of places `begin` (a multiple of 8) to `begin + count` of a mask: all bits where it is 1, none where it is 0."""
    return np.take(_ALL_BITS, mask[begin // 8 : -(-(begin + count) // 8)], axis=0).reshape(-1)[:count]


def move_chosen(weights: FloatArray, moved: FloatArray, mask: Packed) -> None:
    """weights ← moved where the mask is 1, in place; by their bits: a copy under a mask costs several times as much.

    Args:
        weights: shape (n,), fp32, contiguous.
        moved: shape (n,), fp32, contiguous; overwritten.
        mask: shape (⌈n/8⌉,).
    """
    for place in range(0, len(weights), _PIECE):
        old, new = (values[place : place + _PIECE].view(np.int32) for values in (weights, moved))
        new ^= old
        new &= chosen(mask, place, len(old))
        old ^= new
