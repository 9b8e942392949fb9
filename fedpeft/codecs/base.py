"""The contract of a codec."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

from fedpeft.errors import ClientFault
from fedpeft.types import Coded, FloatArray, Layout


class MalformedPayload(ClientFault):
    """A body that no honest codec makes."""

    def __init__(self, codec: str, message: str, allowed: str | None = None, code: str = "codec.malformed") -> None:
        super().__init__(f"malformed {codec} payload: {message}", code=code, allowed=allowed)


@contextmanager
def inside(name: str) -> Iterator[None]:
    """What a part of a composed codec refuses is refused by the whole one's name."""
    try:
        yield
    except MalformedPayload as refusal:
        raise MalformedPayload(name, refusal.message, allowed=refusal.allowed) from None


def length_of(size: int) -> bytes:
    """d mod 2^32, u32 LE: what a body begins with if it would else be taken for one of another length."""
    return struct.pack("<I", size & 0xFFFFFFFF)


@runtime_checkable
class Codec(Protocol):
    """Turns a vector into bytes and back (registry kind `codec`). Stateless; error feedback is put around it, unless it
    has an attribute `owes = False`: what it loses is then lost.

    A toy that sends signs and one scale:

    >>> import numpy as np
    >>> class Sign:
    ...     name = "sign"
    ...     def encode(self, values):
    ...         scale = np.abs(values).mean(dtype=np.float32, keepdims=True)
    ...         return scale.astype("<f4").tobytes() + np.packbits(values > 0).tobytes()
    ...     def decode(self, body, size):
    ...         bits = np.unpackbits(np.frombuffer(body, np.uint8, offset=4), count=size)
    ...         return np.frombuffer(body, "<f4", count=1) * (2.0 * bits - 1.0).astype(np.float32)
    ...     def max_bytes(self, size):
    ...         return 4 + (size + 7) // 8
    ...     nominal_bytes = max_bytes
    >>> codec = Sign()
    >>> body = codec.encode(np.array([1.0, -3.0, 2.0], dtype=np.float32))
    >>> len(body), codec.decode(body, 3).tolist()
    (5, [2.0, -2.0, 2.0])
    """

    @property
    def name(self) -> str:
        """What a run file calls it, with its values."""

    def encode(self, values: FloatArray) -> bytes:
        """The bytes of a finite fp32 vector, shape (d,); `values` is not changed."""

    def decode(self, body: bytes, size: int) -> FloatArray:
        """The vector, shape (size,), finite.

        Raises:
            MalformedPayload: the body is of another length or holds what no encoder writes.
        """

    def max_bytes(self, size: int) -> int:
        """The most bytes an honest body of `size` values has; checked before decoding."""

    def nominal_bytes(self, size: int) -> int:
        """The bytes to expect, for the plan before a run."""


@runtime_checkable
class CodedCodec(Codec, Protocol):
    """A codec whose bodies can be folded without decoding them first. Optional: one without `view` is decoded."""

    def view(self, body: bytes, size: int) -> Coded:
        """The body, checked as `decode` checks it; `view(body, size).decode()` has the bits of `decode(body, size)`.

        Raises:
            MalformedPayload: see `Codec.decode`.
        """


@runtime_checkable
class LayoutCodec(Codec, Protocol):
    """A codec that treats each tensor by itself. Optional: one without `fitted` sees a vector and no more.

    Layouts never travel: both sides derive theirs from the model, and the hello compares digests.
    """

    def fitted(self, layout: Layout) -> Codec:
        """This codec for vectors of that layout; as it was made, it takes any vector for one tensor.

        Raises:
            PluginError: nothing can be made of such tensors, e.g. a budget that is too small for them.
        """


def fitted(codec: Codec, layout: Layout) -> Codec:
    """The codec told which tensors the vector is made of, if it asks."""
    fit = getattr(codec, "fitted", None)  # `isinstance` of a protocol looks at all its members, each time
    made: Codec = codec if fit is None else fit(layout)
    return made


@runtime_checkable
class UplinkCodec(Codec, Protocol):
    """A codec whose budget is told in seconds of a device's uplink. Optional, for `codec.up` and `devices.codec`."""

    def on_uplink(self, bits_per_second: float) -> Codec:
        """The codec, named as plans name it, of the updates of a device that sends so many bits a second."""


def on_uplink(codec: Codec, bits_per_second: float) -> Codec:
    """The codec of a device's updates, told how fast the device sends, if it asks."""
    tell = getattr(codec, "on_uplink", None)
    made: Codec = codec if tell is None else tell(bits_per_second)
    return made


def through(codec: Codec, values: FloatArray) -> tuple[bytes, FloatArray]:
    """The body of a vector, and what it decodes to; a codec that knows both at once has a method of that name."""
    known = getattr(codec, "through", None)
    if known is not None:
        both: tuple[bytes, FloatArray] = known(values)
        return both
    body = codec.encode(values)
    return body, codec.decode(body, values.size)
