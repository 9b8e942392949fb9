"""L-GreCo: for each tensor the codec that suits it, chosen anew for each delta, under one error or one budget for all.

    lgreco(0.1)+ans             the fewest bytes with Σ_t ‖x_t − x̂_t‖² ≤ 0.1² Σ_t ‖x_t‖²
    lgreco(bits=1)+ans          the least Σ_t ‖x_t − x̂_t‖² in at most one bit a value, everything counted
    lgreco(kb=200)+ans          the same in at most 200 kB
    lgreco(seconds=2)+ans       the same in what the device sends in two seconds: kb, once its uplink is known
    lgreco(0.1, seconds=2)+ans  the first, and the last where that is not enough

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

_RANGES = {"error": (0.001, 0.999), "bits": (0.01, 32.0), "kb": (0.01, 1e6), "seconds": (0.001, 1e5)}
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
        error: of all values together, relative, 0.001 to 0.999; 0: as small as the budget allows.
        bits: a value, at most, 0.01 to 32; or
        kb: kilobytes (of 1,000 bytes) an update, at most; or
        seconds: of the uplink of the device that sends, at most (see `on_uplink`).

    Raises:
        ValueError: there is neither an error nor a budget, or there are two budgets, or a value is out of its range.
    """

    around = "coder"

    def __init__(
        self, coder: Coder, error: float = 0.0, bits: float = 0.0, kb: float = 0.0, seconds: float = 0.0
    ) -> None:
        told = {key: value for key, value in (("bits", bits), ("kb", kb), ("seconds", seconds)) if value}
        if len(told) > 1 or not (error or told):
            raise ValueError("give an error, a budget or both: lgreco(0.1), lgreco(bits=1), lgreco(0.1,seconds=2)")
        for key, value in (({"error": error} if error else {}) | told).items():
            least, most = _RANGES[key]
            if not least <= value <= most:
                raise ValueError(f"{key} = {value:g} must be from {least:g} to {most:g}")
        self.error, self.bits, self.kb, self.seconds = error, bits, kb, seconds
        values = [f"{error:g}"] * bool(error) + [f"{key}={value:.10g}" for key, value in told.items()]
        self.name = f"lgreco({','.join(values)})+{coder.name}"
        self._coder = coder

    def on_uplink(self, bits_per_second: float) -> LGreCo:
        """See `UplinkCodec.on_uplink`."""
        if not self.seconds:
            return self
        least, most = _RANGES["kb"]  # a device with time for more has a GB for each update
        kb = min(max(math.floor(self.seconds * bits_per_second / 8) / 1e3, least), most)
        return LGreCo(self._coder, error=self.error, kb=kb)

    def fitted(self, layout: Layout) -> LGreCo:
        """See `LayoutCodec.fitted`.

        Raises:
            PluginError: the budget is too small to send even one of the tensors.
        """
        made = super().fitted(layout)
        budget = made._budget(layout.size)
        if budget is not None and budget < (least := made._least(layout.size)):
            key, told, fewest = (
                ("bits", f"{self.bits:g} bits a value is {budget:,} bytes", math.ceil(8e4 * least / layout.size) / 1e4)
                if self.bits
                else ("kb", f"{self.kb:g} kB is {budget:,} bytes", least / 1e3)
            )
            raise PluginError(
                f'codec "{self.name}": a budget of {told} for {layout.size:,} values in {len(layout.tensors)} tensors, '
                "too few to send one of them",
                code="codec.budget",
                allowed=f"from {fewest:g} {key} on",
                remedy=f"raise {key}, or the seconds that it was made from, or give an error alone: lgreco(0.5)",
            )
        return made

    def encode(self, values: FloatArray) -> bytes:
        """See `Codec.encode`."""
        tensors, ways = self.tensors(values.size), self.levels(values.size)
        bodies = [_bodies(ways, values[_places(tensor)], tensor) for tensor in tensors]
        lost = np.array([[error for _, error in of_tensor] for of_tensor in bodies])
        sizes = np.array([[_told(body) for body, _ in of_tensor] for of_tensor in bodies], dtype=np.float64)
        budget, levels = self._budget(values.size), None
        if self.error:
            levels = cheapest(sizes, lost, self.error**2 * float(lost[:, 0].sum()))
        if budget is not None:
            most = max(budget, self._least(values.size)) - 4
            if levels is None or sizes[np.arange(len(tensors)), levels].sum() > most:
                levels = cheapest(lost, sizes, most)
        assert levels is not None  # what is not sent always fits a budget, and fp32 any error
        chosen = [of_tensor[level][0] for of_tensor, level in zip(bodies, levels, strict=True)]
        sent = [body for body in chosen if body is not None]
        return b"".join([length_of(values.size), bytes(levels), *(_number(len(body)) for body in sent), *sent])

    def decode(self, body: bytes, size: int) -> FloatArray:
        """See `Codec.decode`."""
        tensors, ways = self.tensors(size), self.levels(size)
        place = 4 + len(tensors)
        if len(body) < place or not body.startswith(length_of(size)):
            raise MalformedPayload(self.name, "it is of another number of values or tensors", allowed=f"{size}")
        levels = body[4:place]
        if max(levels, default=0) >= len(ways):
            raise MalformedPayload(self.name, f"level {max(levels)}", allowed=f"below {len(ways)}")
        sent = [tensor for tensor, level in zip(tensors, levels, strict=True) if level]
        lengths, place = self._lengths(body, place, len(sent))
        if place + sum(lengths) != len(body):
            raise MalformedPayload(self.name, f"{len(body)} bytes", allowed=f"{place + sum(lengths)} bytes, as it says")
        values = np.zeros(size, dtype=np.float32)
        for tensor, level, length in zip(sent, levels.replace(b"\x00", b""), lengths, strict=True):
            with inside(self.name):
                values[_places(tensor)] = _of(ways[level], tensor).decode(body[place : place + length], tensor.size)
            place += length
        return values

    def max_bytes(self, size: int) -> int:
        """See `Codec.max_bytes`: the budget, or fp32 throughout, which no choice under an error exceeds."""
        budget = self._budget(size)
        return self._whole(size) if budget is None else max(budget, self._least(size))

    def nominal_bytes(self, size: int) -> int:
        """See `Codec.nominal_bytes`: the budget, or what Gaussian values take if that is less."""
        if not self.error:
            return self.max_bytes(size)
        alone = LGreCo(self._coder, error=self.error)
        values = np.random.default_rng(0).standard_normal(min(size, _SAMPLE)).astype(np.float32)
        if size <= _SAMPLE:
            alone.layout = self.layout
            return min(self.max_bytes(size), len(alone.encode(values)))
        return min(self.max_bytes(size), 4 + 4 * len(self.tensors(size)) + len(alone.encode(values)) * size // _SAMPLE)

    def levels(self, size: int) -> tuple[Codec | None, ...]:
        """What each tensor of a vector of so many values may go through: `ladder` around the error to be expected."""
        budget = self._budget(size)
        bits = self.bits or (8 * budget / max(size, 1) if budget is not None else 32.0)
        return ladder(self._coder, max(self.error, 2.0 ** -min(bits, 32.0)))

    def _budget(self, size: int) -> int | None:
        """Bytes of a body; None: there is none.

        Raises:
            PluginError: it is told in seconds, and nobody said of what uplink.
        """
        if self.seconds:
            raise PluginError(
                f'codec "{self.name}": its seconds are of the uplink of a class of devices, and there is none here',
                code="codec.no-uplink",
                allowed="codec.up and devices.codec; elsewhere lgreco(bits=...), lgreco(kb=...)",
                remedy="give bits or kb in the place of seconds",
            )
        if self.bits or self.kb:
            return min(int(self.bits * size / 8) or round(1e3 * self.kb), self._whole(size))
        return None

    def _whole(self, size: int) -> int:
        """Bytes with every tensor sent in fp32."""
        return 4 + sum(1 + _MOST_LENGTH + 4 * tensor.size for tensor in self.tensors(size))

    def _least(self, size: int) -> int:
        """Bytes with one tensor sent at the level that takes the fewest for it."""
        tensors = self.tensors(size)
        smallest = min(tensors, key=lambda tensor: tensor.size, default=None)
        if smallest is None:
            return 4
        sendable = [_of(way, smallest).max_bytes(smallest.size) for way in self.levels(size)[1:]]
        return 4 + len(tensors) + _MOST_LENGTH + min(sendable)

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


def _bodies(ways: tuple[Codec | None, ...], values: FloatArray, tensor: TensorSpec) -> list[tuple[bytes | None, float]]:
    """With each level: the body and its squared error."""
    wide = values.astype(np.float64)
    found: list[tuple[bytes | None, float]] = [(None, _squared(wide))]
    for way in ways[1:]:
        body, decoded = through(_of(way, tensor), values)
        found.append((body, _squared(wide - decoded)))
    return found


def _of(codec: Codec | None, tensor: TensorSpec) -> Codec:
    """A level's codec for this tensor."""
    assert codec is not None
    return fitted(codec, Layout((replace(tensor, offset=0),), tensor.size, ""))


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
    return float(np.sum(np.square(values)))  # not `@`: BLAS adds up in an order that depends on its threads
