"""Broadcasts by any codec, with error feedback on the server: clients are sent what they still lack, in few bits.

Gruntkowska, Tyurin and Richtárik 2022, "EF21-P and Friends" (arXiv 2209.15218), Algorithm 1: with x^t the server's
model and w^t what all clients hold,

    w^{t+1} = w^t + C(x^{t+1} − w^t).

Here x^t is the adapter θ_t, and w^t is called b_t, the broadcast of version t. Both sides keep b_t − θ_0 as codes of
`Int8Downlink`; with Q the rounding to them, one step, told by the body that C writes, is

    b_t = Q( b_{t−1} + C(θ_t − b_{t−1}) ),        owed: θ_t − b_t.

What C and Q lose is part of the next θ_{t+1} − b_t and goes out later: after any number of rounds

    Σ (b_t − b_{t−1})  +  (θ_T − b_T)  =  θ_T − θ_0.

Clients train from b_t, and their deltas are added to θ_t, which is what the server evaluates, exports and hashes. With
a C that loses less than all of a vector, ‖x − C(x)‖ < ‖x‖, what is owed stays within the loss of a few steps. Where a
step lessens nothing (little more is owed than codes can tell), or takes no fewer bytes than codes made from θ_t alone,
those are taken: b_t = Q(θ_t), which owes the least that codes can.

A step leads to the same b_t from one b_{t−1} only, so whoever missed some is sent them all. Since versions are codes,
there is a second way, exact too: the difference of the codes. A body is the shorter of

    0  ‖  what `Int8Downlink` writes
    1  ‖  first 8 bytes of SHA-256(b_t)  ‖  number of steps, 1 byte  ‖  their lengths, u32 LE each  ‖  the steps
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import ClassVar

import numpy as np

from fedpeft.codecs.base import Codec, MalformedPayload
from fedpeft.codecs.broadcast import Codes, Int8Downlink, WrongBase, dequantise, quantise
from fedpeft.types import FloatArray

_DIFFERENCE, _STEPS = b"\x00", b"\x01"
_HEAD = 9  # bytes before the lengths: tag and number of steps
_MOST_STEPS = 255
_LARGEST = np.finfo(np.float32).max


class FeedbackDownlink(Int8Downlink):
    """See the module, and `SteppingDownlink`.

    Args:
        codec: C.
    """

    name: ClassVar[str] = "feedback"

    def __init__(self, codec: Codec) -> None:
        self.codec = codec

    def step(self, values: FloatArray, last: Codes) -> tuple[bytes | None, Codes]:
        """See `SteppingDownlink.step`: C(θ_t − b_{t−1}), and b_t."""
        with np.errstate(over="ignore"):
            lacking = np.clip(values - dequantise(last), -_LARGEST, _LARGEST)
        body, anew = self.codec.encode(lacking), quantise(values)
        new = self._after(body, last)
        if len(super().encode_difference(anew, last)) <= len(body) or _lack(values, new) >= _lack(values, last):
            return None, anew
        return body, new

    def encode(self, new: Codes, base: Codes, steps: Sequence[bytes] | None) -> bytes:
        """See `SteppingDownlink.encode`: the shorter of the two ways."""
        difference = _DIFFERENCE + super().encode_difference(new, base)
        if steps is None or len(steps) > _MOST_STEPS:
            return difference
        lengths = struct.pack(f"<{len(steps)}I", *map(len, steps))
        told = b"".join((_STEPS, new.tag(), bytes((len(steps),)), lengths, *steps))
        return min(told, difference, key=len)

    def encode_difference(self, new: Codes, base: Codes) -> bytes:
        """See `Downlink.encode_difference`."""
        return self.encode(new, base, None)

    def decode_difference(self, body: bytes, base: Codes) -> Codes:
        """See `Downlink.decode_difference`."""
        form, rest = body[:1], body[1:]
        if form == _DIFFERENCE:
            return super().decode_difference(rest, base)
        if form != _STEPS:
            raise MalformedPayload("broadcast", f"unknown form {form.hex() or 'of no bytes'}", allowed="00 or 01")
        new = base
        for step in self._split(rest, base.codes.size):
            new = self._after(step, new)
        if new.tag() != rest[: _HEAD - 1]:
            raise WrongBase
        return new

    def _after(self, step: bytes, last: Codes) -> Codes:
        """b_t, from C(θ_t − b_{t−1}) and b_{t−1}: the same bits on every side."""
        told = self.codec.decode(step, last.codes.size)
        with np.errstate(over="ignore"):
            return quantise(np.clip(dequantise(last) + told, -_LARGEST, _LARGEST))

    def _split(self, rest: bytes, size: int) -> list[bytes]:
        """The steps of a body, each no longer than the codec makes it."""
        count = rest[_HEAD - 1] if len(rest) >= _HEAD else 0
        start, most = _HEAD + 4 * count, self.codec.max_bytes(size)
        if len(rest) < start:
            raise MalformedPayload("broadcast", f"{len(rest)} bytes are too few", allowed=f"{start} or more")
        lengths = struct.unpack_from(f"<{count}I", rest, _HEAD)
        if max(lengths, default=0) > most or start + sum(lengths) != len(rest):
            raise MalformedPayload(
                "broadcast",
                f"steps of {', '.join(map(str, lengths))} bytes in a body of {len(rest)}",
                allowed=f"lengths of at most {most} bytes that add up",
            )
        return [rest[a:b] for a, b in pairwise(accumulate(lengths, initial=start))]


def _lack(values: FloatArray, codes: Codes) -> float:
    """‖θ_t − b‖², of a b as codes."""
    return float(np.sum(np.square(values.astype(np.float64) - dequantise(codes))))
