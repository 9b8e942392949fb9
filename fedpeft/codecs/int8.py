"""Block-wise int8: each block of 64 values shares one fp32 scale, its largest magnitude over 127.

    s_b = max |x_i| / 127 over block b,    q_i = round(x_i / s_b),    x̂_i = s_b · q_i

(absmax quantisation as in Dettmers et al. 2022, arXiv 2110.02861, with linear codes). 8.5 bits a value. On Gaussian
values the relative L2 error is about 0.006. `int8(dither)` rounds stochastically (`fedpeft/codecs/dither.py`): then
|E x̂ − x| ≤ s_b / 512, so that the mean over many clients is right to that without error feedback, at a larger error of
one client, about 0.008. An fp16 scale would save 0.25 bit a value, but underflows for deltas below
1e-5, which late rounds do reach.

    body = scales, fp32 LE, ⌈d/64⌉ of them ‖ codes, int8, d of them
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from fedpeft.codecs.base import MalformedPayload
from fedpeft.codecs.dither import checked, rounded
from fedpeft.types import FloatArray

BLOCK = 64

_LARGEST_SCALE = np.nextafter(np.finfo(np.float32).max / np.float32(127), np.float32(0))


@dataclass(frozen=True, slots=True)
class Int8Blocks:
    """A vector as the codec sends it: x̂_i = s_b · q_i, rounded to fp32, with b = ⌊i/64⌋."""

    scales: FloatArray  # s, shape (⌈d/64⌉,), >= 0
    codes: npt.NDArray[np.int8]  # q, shape (d,), -127 to 127

    @property
    def size(self) -> int:
        """Number of elements d."""
        return self.codes.size

    @property
    def bound(self) -> float:
        """At least max |x̂_i|: the largest scale times 127, as fp32. What the encoder writes reaches it."""
        with np.errstate(over="ignore"):
            return float(np.float32(127) * self.scales.max(initial=np.float32(0)))

    def decode(self) -> FloatArray:
        """x̂, a new array of shape (d,), fp32."""
        values = np.empty(self.size, dtype=np.float32)
        self.decode_from(0, values)
        return values

    def decode_from(self, start: int, out: FloatArray) -> None:
        """Write x̂[start : start + out.size] into `out`, shape (n,), fp32; `start` is a multiple of 64."""
        codes = self.codes[start : start + out.size]
        scales = self.scales[start // BLOCK : -(-(start + out.size) // BLOCK)]
        whole = out.size - out.size % BLOCK
        with np.errstate(over="ignore"):
            np.multiply(
                codes[:whole].reshape(-1, BLOCK), scales[: whole // BLOCK, None], out=out[:whole].reshape(-1, BLOCK)
            )
            np.multiply(codes[whole:], scales[whole // BLOCK :], out=out[whole:])


class Int8:
    """8.5 bits a value, relative error about 0.006.

    Args:
        rounding: "nearest" or "dither".

    Raises:
        ValueError: another rounding.
    """

    name: ClassVar[str] = "int8"

    def __init__(self, rounding: str = "nearest") -> None:
        self.rounding = checked(rounding)

    def encode(self, values: FloatArray) -> bytes:
        """See `Codec.encode`."""
        blocks = blocks_of(values)
        scales = (np.abs(blocks).max(axis=1) / np.float32(127)).astype(np.float32)
        # Rounded up, the largest scale times 127 would be infinite.
        np.minimum(scales, _LARGEST_SCALE, out=scales)
        # A scale below fp32's normal range would lose its own precision: such a block is sent as zeros.
        scales[scales < np.finfo(np.float32).tiny] = 0.0
        safe = np.where(scales > 0, scales, np.float32(1))[:, None]
        codes = rounded((blocks / safe).astype(np.float32, copy=False), values, self.rounding)
        codes = np.clip(codes, -127, 127) * (scales > 0)[:, None]
        body: bytes = scales.astype("<f4").tobytes() + codes.astype(np.int8).reshape(-1)[: values.size].tobytes()
        return body

    def decode(self, body: bytes, size: int) -> FloatArray:
        """See `Codec.decode`."""
        return self.view(body, size).decode()

    def view(self, body: bytes, size: int) -> Int8Blocks:
        """See `CodedCodec.view`; the codes are not copied."""
        if len(body) != self.max_bytes(size):
            raise MalformedPayload(self.name, f"{len(body)} bytes", allowed=f"{self.max_bytes(size)} bytes")
        count = -(-size // BLOCK)
        scales = np.frombuffer(body, dtype="<f4", count=count).astype(np.float32)
        codes = np.frombuffer(body, dtype=np.int8, offset=4 * count)
        if not (np.isfinite(scales).all() and (scales >= 0).all()):
            raise MalformedPayload(self.name, "a scale is negative or not finite", allowed="finite scales, 0 or more")
        if size and codes.min() == -128:
            raise MalformedPayload(self.name, "a code is -128", allowed="-127 to 127")
        blocks = Int8Blocks(scales, codes)
        # Only a scale that no delta of a sane size has can overflow: all others are spared the look at each product.
        if (scales > _LARGEST_SCALE).any() and not np.isfinite(blocks.decode()).all():
            raise MalformedPayload(self.name, "a scale times its code overflows", allowed="finite values")
        return blocks

    def max_bytes(self, size: int) -> int:
        """See `Codec.max_bytes`."""
        return 4 * -(-size // BLOCK) + size

    nominal_bytes = max_bytes


def blocks_of(values: FloatArray) -> FloatArray:
    """Values in rows of one block, shape (⌈d/64⌉, 64), the last padded with zeros."""
    padding = -values.size % BLOCK
    padded = np.concatenate([values, np.zeros(padding, dtype=values.dtype)]) if padding else values
    return padded.reshape(-1, BLOCK)
