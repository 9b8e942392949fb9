"""Block-wise int4: each block of 64 values shares one fp32 scale, its largest magnitude over 7; two codes a byte.

    s_b = max |x_i| / 7 over block b,    q_i = ⌊x_i / s_b + u_i⌋,    x̂_i = s_b · q_i

Rounded to nearest (u_i = 1/2) the relative L2 error is about 0.11 on Gaussian values. `int4(dither)` rounds
stochastically, u_i from 256 places between 0 and 1 (`fedpeft/codecs/dither.py`): then |E x̂ − x| ≤ s_b / 512, so that
the mean over many clients is right to that without error feedback, at a larger error of one client, about 0.15. What
is below s_b / 512, or 1/3,584 of the largest of its block, is always rounded to 0. 4.5 bits a value.

    body = scales, fp32 LE, ⌈d/64⌉ of them ‖ codes q + 8 of 4 bits, the first of two lowest, ⌈d/2⌉ bytes, 0 at the end
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from fedpeft.codecs.base import MalformedPayload
from fedpeft.codecs.dither import checked, rounded
from fedpeft.codecs.int8 import BLOCK, blocks_of
from fedpeft.types import FloatArray

_LEVELS = np.float32(7)
_LARGEST_SCALE = np.nextafter(np.finfo(np.float32).max / _LEVELS, np.float32(0))
_TINY = np.finfo(np.float32).tiny


class Int4:
    """See the module.

    Args:
        rounding: "nearest" or "dither".

    Raises:
        ValueError: another rounding.
    """

    name: ClassVar[str] = "int4"

    def __init__(self, rounding: str = "nearest") -> None:
        self.rounding = checked(rounding)

    def encode(self, values: FloatArray) -> bytes:
        """See `Codec.encode`."""
        blocks = blocks_of(values)
        scales = np.minimum((np.abs(blocks).max(axis=1) / _LEVELS).astype(np.float32), _LARGEST_SCALE)
        scales[scales < _TINY] = 0.0  # it would lose its own precision: such a block is sent as zeros
        safe = np.where(scales > 0, scales, np.float32(1))[:, None]
        codes = rounded((blocks / safe).astype(np.float32, copy=False), values, self.rounding)
        codes = np.clip(codes, -_LEVELS, _LEVELS) * (scales > 0)[:, None]
        nibbles = codes.astype(np.int8).reshape(-1)[: values.size].view(np.uint8) + np.uint8(8)
        if values.size % 2:
            nibbles = np.append(nibbles, np.uint8(0))
        body: bytes = scales.astype("<f4").tobytes() + (nibbles[0::2] | nibbles[1::2] << np.uint8(4)).tobytes()
        return body

    def decode(self, body: bytes, size: int) -> FloatArray:
        """See `Codec.decode`."""
        if len(body) != self.max_bytes(size):
            raise MalformedPayload(self.name, f"{len(body)} bytes", allowed=f"{self.max_bytes(size)} bytes")
        count = -(-size // BLOCK)
        scales = np.frombuffer(body, dtype="<f4", count=count).astype(np.float32)
        if not (np.isfinite(scales).all() and (scales >= 0).all()):
            raise MalformedPayload(self.name, "a scale is negative or not finite", allowed="finite scales, 0 or more")
        codes = _codes(np.frombuffer(body, dtype=np.uint8, offset=4 * count))
        if (codes[:size] == -8).any() or (codes[size:] != -8).any():
            raise MalformedPayload(self.name, "a code is -8, or something follows the last", allowed="-7 to 7")
        with np.errstate(over="ignore"):
            values = blocks_of(codes[:size].astype(np.float32)) * scales[:, None]
        found: FloatArray = values.reshape(-1)[:size].copy()
        if not np.isfinite(found).all():
            raise MalformedPayload(self.name, "a scale times its code overflows", allowed="finite values")
        return found

    def max_bytes(self, size: int) -> int:
        """See `Codec.max_bytes`."""
        return 4 * -(-size // BLOCK) + -(-size // 2)

    nominal_bytes = max_bytes


def _codes(packed: npt.NDArray[np.uint8]) -> npt.NDArray[np.int8]:
    """Both codes of each byte, shape (2 · bytes,)."""
    codes = np.empty(2 * packed.size, dtype=np.uint8)
    codes[0::2], codes[1::2] = packed & np.uint8(15), packed >> np.uint8(4)
    return codes.view(np.int8) - np.int8(8)
