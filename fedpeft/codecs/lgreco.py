"""L-GreCo: for each tensor the codec that suits it, chosen anew for each delta, under one error or one budget for all.

    lgreco(0.1)+ans        the fewest bytes with Σ_t ‖x_t − x̂_t‖² ≤ 0.1² Σ_t ‖x_t‖²
    lgreco(bits=1)+ans     the least Σ_t ‖x_t − x̂_t‖² in at most one bit a value, everything counted

Markov et al. 2022, "L-GreCo: Layerwise-Adaptive Gradient Compression" (arXiv 2210.17357). Every tensor is encoded with
every codec of `ladder`, what that takes and what it loses is measured, and a dynamic programme chooses (`knapsack`).
The paper sums errors and plans every hundred steps for ranks alone; here squared errors, which do add up, are planned
with for each delta, and codecs of every kind compete: a tensor of few directions goes as a low rank, a flat one through
a uniform step and the coder behind the `+`, one that hardly moved not at all, until error feedback has made it large.
A round's choice travels with it:

    body = d mod 2^32, u32 LE ‖ level of each tensor, u8: its place in `ladder` (0: it is not sent)
           ‖ bytes of each tensor that is sent, LEB128 ‖ their bodies

Encoding runs sixteen codecs over everything; decoding only those that were chosen.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from fedpeft.codecs.base import Codec, MalformedPayload, fitted, inside, length_of, through
from fedpeft.codecs.coders import Coder
from fedpeft.codecs.fp32 import Fp32
from fedpeft.codecs.int4 import Int4
from fedpeft.codecs.int8 import Int8
from fedpeft.codecs.knapsack import cheapest
from fedpeft.codecs.lowrank import LowRank
from fedpeft.codecs.sign import Sign
from fedpeft.codecs.tensors import PerTensor
from fedpeft.codecs.topk import TopK
from fedpeft.codecs.uniform import Uniform
from fedpeft.errors import PluginError
from fedpeft.types import FloatArray, Layout, TensorSpec

_SAMPLE = 20_000
_STEPS = (2.83, 2.0, 1.41, 1.0, 0.71, 0.5, 0.25, 0.125)
_MOST_LENGTH = 5  # bytes of a LEB128 number below 2^35


def ladder(coder: Coder, error: float) -> tuple[Codec | None, ...]:
    """What a tensor may go through, in the order of the wire; None: not sent.

    A uniform step of √12 · error is what loses that error on tensors of equal size; those around it are for others.
    """
    ranks = [LowRank(Int4(), rank) for rank in (1, 2, 4, 8)]
    steps = [Uniform(coder, min(max(math.sqrt(12) * error * factor, 0.001), 16.0)) for factor in _STEPS]
    return (None, *ranks, TopK(Sign(), 0.02), Sign(), *steps, Int8(), Fp32())


class LGreCo(PerTensor):
    """See the module.

    Args:
        coder: behind uniform steps.
        error: of all values together, relative, 0.001 to 0.999; or
        bits: a value, at most, 0.01 to 32; one of the two.

    Raises:
        ValueError: both or neither are given, or one is out of its range.
    """

    around = "coder"

    def __init__(self, coder: Coder, error: float = 0.0, bits: float = 0.0) -> None:
        if bool(error) == bool(bits):
            raise ValueError("one of error and bits must be given: lgreco(error=0.1), or lgreco(bits=1)")
        if error and not 0.001 <= error <= 0.999:
            raise ValueError(f"error = {error:g} must be from 0.001 to 0.999")
        if bits and not 0.01 <= bits <= 32:
            raise ValueError(f"bits = {bits:g} must be from 0.01 to 32")
        self.error = error
        self.bits = bits
        self.name = f"lgreco({f'bits={bits:g}' if bits else f'{error:g}'})+{coder.name}"
        self._coder = coder
        self._levels = ladder(coder, error or 2**-bits)

    def fitted(self, layout: Layout) -> LGreCo:
        """See `LayoutCodec.fitted`.

        Raises:
            PluginError: the budget is too small to send even one of the tensors.
        """
        made = super().fitted(layout)
        if self.bits and self._budget(layout.size) < (least := made._least(layout.size)):
            raise PluginError(
                f'codec "{self.name}": a budget of {self.bits:g} bits a value is {self._budget(layout.size):,} bytes '
                f"for {layout.size:,} values in {len(layout.tensors)} tensors, too few to send one of them",
                code="codec.budget",
                allowed=f"from {math.ceil(8e4 * least / layout.size) / 1e4:g} bits on",
                remedy="raise bits, or give an error in its place: lgreco(0.5)",
            )
        return made

    def encode(self, values: FloatArray) -> bytes:
        """See `Codec.encode`."""
        tensors = self.tensors(values.size)
        bodies = [self._bodies(values[_places(tensor)], tensor) for tensor in tensors]
        lost = np.array([[error for _, error in of_tensor] for of_tensor in bodies])
        sizes = np.array([[_told(body) for body, _ in of_tensor] for of_tensor in bodies], dtype=np.float64)
        if self.bits:
            levels = cheapest(lost, sizes, max(self._budget(values.size), self._least(values.size)) - 4)
        else:
            levels = cheapest(sizes, lost, self.error**2 * float(lost[:, 0].sum()))
        assert levels is not None  # what is not sent always fits a budget, and fp32 any error
        chosen = [of_tensor[level][0] for of_tensor, level in zip(bodies, levels, strict=True)]
        sent = [body for body in chosen if body is not None]
        return b"".join([length_of(values.size), bytes(levels), *(_number(len(body)) for body in sent), *sent])

    def decode(self, body: bytes, size: int) -> FloatArray:
        """See `Codec.decode`."""
        tensors = self.tensors(size)
        place = 4 + len(tensors)
        if len(body) < place or not body.startswith(length_of(size)):
            raise MalformedPayload(self.name, "it is of another number of values or tensors", allowed=f"{size}")
        levels = body[4:place]
        if max(levels, default=0) >= len(self._levels):
            raise MalformedPayload(self.name, f"level {max(levels)}", allowed=f"below {len(self._levels)}")
        sent = [tensor for tensor, level in zip(tensors, levels, strict=True) if level]
        lengths, place = self._lengths(body, place, len(sent))
        if place + sum(lengths) != len(body):
            raise MalformedPayload(self.name, f"{len(body)} bytes", allowed=f"{place + sum(lengths)} bytes, as it says")
        values = np.zeros(size, dtype=np.float32)
        for tensor, level, length in zip(sent, levels.replace(b"\x00", b""), lengths, strict=True):
            with inside(self.name):
                values[_places(tensor)] = self._level(level, tensor).decode(body[place : place + length], tensor.size)
            place += length
        return values

    def max_bytes(self, size: int) -> int:
        """See `Codec.max_bytes`: fp32 throughout, since whatever is chosen takes no more; or the budget."""
        most = 4 + sum(1 + _MOST_LENGTH + 4 * tensor.size for tensor in self.tensors(size))
        return min(most, max(self._budget(size), self._least(size))) if self.bits else most

    def nominal_bytes(self, size: int) -> int:
        """See `Codec.nominal_bytes`: the budget, or what Gaussian values take."""
        if self.bits:
            return self.max_bytes(size)
        values = np.random.default_rng(0).standard_normal(min(size, _SAMPLE)).astype(np.float32)
        if size <= _SAMPLE:
            return len(self.encode(values))
        unfitted = LGreCo(self._coder, error=self.error)
        return 4 + 4 * len(self.tensors(size)) + len(unfitted.encode(values)) * size // _SAMPLE

    def _bodies(self, values: FloatArray, tensor: TensorSpec) -> list[tuple[bytes | None, float]]:
        """With each level: the body and its squared error."""
        wide = values.astype(np.float64)
        found: list[tuple[bytes | None, float]] = [(None, _squared(wide))]
        for level in range(1, len(self._levels)):
            body, decoded = through(self._level(level, tensor), values)
            found.append((body, _squared(wide - decoded)))
        return found

    def _level(self, level: int, tensor: TensorSpec) -> Codec:
        codec = self._levels[level]
        assert codec is not None
        return fitted(codec, Layout((replace(tensor, offset=0),), tensor.size, ""))

    def _budget(self, size: int) -> int:
        return int(self.bits * size / 8)

    def _least(self, size: int) -> int:
        """Bytes with one tensor sent at the level that takes the fewest for it."""
        tensors = self.tensors(size)
        smallest = min(tensors, key=lambda tensor: tensor.size, default=None)
        if smallest is None:
            return 4
        levels = range(1, len(self._levels))
        return (
            4
            + len(tensors)
            + _MOST_LENGTH
            + min(self._level(level, smallest).max_bytes(smallest.size) for level in levels)
        )

    def _lengths(self, body: bytes, place: int, count: int) -> tuple[list[int], int]:
        """So many LEB128 numbers, and where they end."""
        found = []
        for _ in range(count):
            number = 0
            for shift in range(0, 7 * _MOST_LENGTH, 7):
                if place >= len(body):
                    raise MalformedPayload(self.name, "it ends in the lengths of its parts")
                byte = body[place]
                place += 1
                number |= (byte & 127) << shift
                if byte < 128:
                    break
            if byte >= 128 or (byte == 0 and shift):
                raise MalformedPayload(self.name, "a length that no encoder writes", allowed="LEB128 without padding")
            found.append(number)
        return found, place


def _number(number: int) -> bytes:
    """LEB128: seven bits a byte, the lowest first, the highest bit set on all but the last."""
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])


def _told(body: bytes | None) -> int:
    """Bytes that a tensor takes, its level and its length counted."""
    return 1 if body is None else 1 + len(_number(len(body))) + len(body)


def _places(tensor: TensorSpec) -> slice:
    return slice(tensor.offset, tensor.offset + tensor.size)


def _squared(values: npt.NDArray[np.float64]) -> float:
    return float(values @ values)
