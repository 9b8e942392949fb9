"""The downlink of a zeroth-order federation: which coefficients changed since the version that a client holds.

    tag, 8 bytes  ‖  form, 1 byte  ‖  zstd or not( places ‖ differences )

Differences are whole numbers of 1, 2 or 4 bytes, whichever holds all of them. Places are left out (all of them), a
bitmap, or gaps of 2 bytes; of all these forms the shortest is sent. So eight clients' 200 steps each over a pool of
4,096 cost 2.7 KB (`fedpeft bench scalar_bytes`), and no client is sent more than the whole pool. Version 0 is all
zeros, which nobody sends.

A checkpoint takes the place of the first e epochs, whatever the client held before:

    tag, 8  ‖  3, 1  ‖  e, 4 LE  ‖  bytes of the rest, 4 LE  ‖  h_e, 32  ‖  SHA-256(θ_e), 32  ‖  rest  ‖  θ_e

with `rest` the importances and the later coefficients, as a form and its body above, from zeros, and θ_e as the
difference from θ_0 (`fedpeft.codecs.weights`). The tag is the beginning of h_E (`fedpeft.zeroth.checkpoint`), of
SHA-256(h_E ‖ importances) where there are some: the same for those who hold all coefficients and for those who do not.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import zstandard

from fedpeft.codecs.base import MalformedPayload
from fedpeft.codecs.broadcast import WrongBase
from fedpeft.codecs.weights import unpack
from fedpeft.types import FloatArray
from fedpeft.zeroth.checkpoint import LEAST, chain, digest_of, past_of, stand_in

_DIGEST = 8
_WIDTHS = {1: "<i1", 2: "<i2", 4: "<i4"}
_ALL, _BITMAP, _GAPS = 0, 1, 2  # how places are told
_CHECKPOINT = 3  # the whole form byte
_ABOUT = struct.Struct("<II32s32s")  # of a checkpoint: e, bytes of the rest, h_e, SHA-256(θ_e)
_PACKED = 128  # bit of the form: what follows is zstd
_WINDOW = 2**21


@dataclass(frozen=True, slots=True, eq=False)
class WholeNumbers:
    """Coefficients, or the name of a checkpoint in the place of the first ones."""

    values: npt.NDArray[np.int32]  # shape (n,)
    theta: FloatArray | None = None  # the named θ_e, shape (d,), where it has just come; its name says all about it

    def __eq__(self, other: object) -> bool:
        """Whether two are equal."""
        if not isinstance(other, WholeNumbers):
            return NotImplemented
        return self is other or np.array_equal(self.values, other.values)

    __hash__ = None  # type: ignore[assignment]


class CoefficientDownlink:
    """See `Downlink`.

    Args:
        size: K, directions of an epoch; 0: all coefficients are of one.
        first: how many importances come before them.
        initial: θ_0, shape (d,), without which no checkpoint can be read.
    """

    name: ClassVar[str] = "coefficients"

    def __init__(self, size: int = 0, first: int = 0, initial: FloatArray | None = None) -> None:
        self.size = size
        self.first = first
        self.initial = initial

    def zero(self, size: int) -> WholeNumbers:
        """Version 0."""
        return WholeNumbers(np.zeros(size, dtype=np.int32))

    def quantise(self, values: FloatArray) -> WholeNumbers:
        """The coefficients, which are whole already."""
        return WholeNumbers(np.rint(values).astype(np.int32))

    def dequantise(self, codes: WholeNumbers) -> FloatArray:
        """The coefficients, shape (n,), fp32: exact below 2^24."""
        return codes.values.astype(np.float32)

    def encode_difference(self, new: WholeNumbers, base: WholeNumbers) -> bytes:
        """What a client that holds `base` needs to get `new`, in the shortest form."""
        return self.tag(new) + _shortest(new.values - base.values)  # wraps modulo 2^32, as the sum that undoes it

    def decode_difference(self, body: bytes, base: WholeNumbers) -> WholeNumbers:
        """`new` again, of whatever form; bounded before anything is unpacked.

        Raises:
            WrongBase: `base` is not what the body was made for.
            MalformedPayload: no encoder writes this.
        """
        if len(body) <= _DIGEST:
            raise MalformedPayload("coefficients", f"{len(body)} bytes are too few", allowed=f"more than {_DIGEST}")
        if body[_DIGEST] == _CHECKPOINT and self.initial is not None:
            return self._of_checkpoint(body, base.values.size, self.initial)
        new = replace(base, values=base.values + _read(body[_DIGEST:], base.values.size))
        if self.tag(new) != body[:_DIGEST]:
            raise WrongBase
        return new

    def encode_checkpoint(self, new: WholeNumbers, epochs: int, digest: bytes, packed: bytes) -> bytes:
        """What any client needs to get `new`, with a checkpoint in the place of its first epochs.

        Args:
            new: all coefficients.
            epochs: e, replaced by θ_e.
            digest: SHA-256(θ_e), 32 bytes.
            packed: θ_e, as `fedpeft.codecs.weights.pack` tells it from θ_0.
        """
        own = new.values[self.first :][: epochs * self.size].reshape(epochs, -1)
        rest = _shortest(np.delete(new.values, slice(self.first, self.first + own.size)))
        about = _ABOUT.pack(epochs, len(rest), chain(own), digest)
        return b"".join((self.tag(new), bytes((_CHECKPOINT,)), about, rest, packed))

    def checkpoint_of(self, codes: WholeNumbers) -> bytes:
        """The name h_e of the checkpoint in the place of the first coefficients, 32 bytes; b"" where they are there."""
        values = codes.values[self.first :]
        return past_of(values, self.size or len(values))[1]

    def tag(self, codes: WholeNumbers) -> bytes:
        """What tells these coefficients from others, 8 bytes; a checkpoint's name counts as what it stands for."""
        values, known = codes.values[self.first :], codes.values[: self.first]
        size = self.size or len(values)
        past, name = past_of(values, size)
        name = chain(values[past * size :].reshape(-1, size), name)
        return (hashlib.sha256(name + known.astype("<i4").tobytes()).digest() if self.first else name)[:_DIGEST]

    def _of_checkpoint(self, body: bytes, size: int, initial: FloatArray) -> WholeNumbers:
        """The coefficients, shape (size,), with θ_e."""
        begin = _DIGEST + 1 + _ABOUT.size
        if len(body) < begin:
            raise MalformedPayload("checkpoint", f"{len(body)} bytes are too few", allowed=f"{begin} or more")
        epochs, length, name, digest = _ABOUT.unpack_from(body, _DIGEST + 1)
        replaced = epochs * self.size
        if not LEAST <= replaced <= size - self.first or not 0 < length <= len(body) - begin:
            raise MalformedPayload(
                "checkpoint",
                f"it stands for {epochs} epochs, with {length} bytes of other coefficients",
                allowed=f"at most {(size - self.first) // (self.size or size)} epochs, and as many bytes as there are",
            )
        rest = _read(body[begin : begin + length], size - replaced)
        values = np.concatenate([rest[: self.first], stand_in(name, replaced), rest[self.first :]])
        theta = unpack(body[begin + length :], initial)
        found = digest_of(theta)
        if found != digest:
            raise MalformedPayload(
                "checkpoint", f"θ_{epochs} has the hash {found.hex()[:16]}", allowed=f"{digest.hex()[:16]}, as it says"
            )
        new = WholeNumbers(values, theta)
        if self.tag(new) != body[:_DIGEST] or past_of(values[self.first :], self.size)[0] != epochs:
            raise MalformedPayload("checkpoint", f"its coefficients do not go on from h_{epochs}")
        return new

    def arrays(self, codes: WholeNumbers) -> dict[str, npt.NDArray[np.generic]]:
        """By name, for a disk."""
        return {"coefficients": codes.values}

    def of_arrays(self, arrays: dict[str, npt.NDArray[np.generic]], size: int) -> WholeNumbers | None:
        """What `arrays` gave, with zeros behind it if the run has grown; None if it did not give these."""
        values = arrays.get("coefficients")
        if values is None or len(arrays) != 1 or values.ndim != 1 or values.size > size or values.dtype != np.int32:
            return None
        return WholeNumbers(np.pad(values.astype(np.int32, copy=False), (0, size - values.size)))


def _shortest(difference: npt.NDArray[np.int32]) -> bytes:
    """A difference in its shortest form, with the byte that tells it."""
    places = np.flatnonzero(difference)
    width = _width(difference)
    kind = _WIDTHS[width]
    gaps = np.diff(places, prepend=-1) - 1
    forms = {_ALL: difference.astype(kind).tobytes()}
    told = difference[places].astype(kind).tobytes()
    forms[_BITMAP] = np.packbits(difference != 0, bitorder="little").tobytes() + told
    if gaps.max(initial=0) < 2**16:
        forms[_GAPS] = gaps.astype("<u2").tobytes() + told
    packer = zstandard.ZstdCompressor(level=3)
    bodies = [bytes((form | width << 2,)) + body for form, body in forms.items()]
    bodies += [bytes((form | width << 2 | _PACKED,)) + packer.compress(body) for form, body in forms.items() if body]
    return min(bodies, key=len)


def _read(told: bytes, size: int) -> npt.NDArray[np.int32]:
    """The difference again, shape (size,)."""
    form, raw = told[0], told[1:]
    width, how = form >> 2 & 31, form & 3
    if width not in _WIDTHS or how > _GAPS:
        raise MalformedPayload("coefficients", f"unknown form {form}", allowed="a form of this version")
    if form & _PACKED:
        raw = _unpacked(raw, most=(width + 2) * size + size // 8 + 1)
    return _difference(raw, how, width, size)


def _width(difference: npt.NDArray[np.int32]) -> int:
    low, high = int(difference.min(initial=0)), int(difference.max(initial=0))
    return next(width for width in _WIDTHS if -(1 << 8 * width - 1) <= low and high < 1 << 8 * width - 1)


def _unpacked(raw: bytes, most: int) -> bytes:
    try:
        claims = zstandard.get_frame_parameters(raw)
        if claims.content_size > most or claims.window_size > max(most, _WINDOW):
            raise MalformedPayload("coefficients", f"it claims {claims.content_size} bytes", allowed=f"at most {most}")
        return zstandard.ZstdDecompressor().decompress(raw, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise MalformedPayload("coefficients", f"not one whole zstd frame: {error}") from None


def _difference(raw: bytes, how: int, width: int, size: int) -> npt.NDArray[np.int32]:
    """The difference, shape (size,)."""
    found = np.zeros(size, dtype=np.int32)
    if how == _ALL:
        places, told = np.arange(size), raw
    elif how == _BITMAP:
        bitmap, told = raw[: -(-size // 8)], raw[-(-size // 8) :]
        if len(bitmap) < -(-size // 8):
            raise _cut(raw, size)
        bits = np.unpackbits(np.frombuffer(bitmap, np.uint8), bitorder="little")
        places = np.flatnonzero(bits)
    else:
        count, rest = divmod(len(raw), 2 + width)
        if rest:
            raise _cut(raw, size)
        places = np.cumsum(np.frombuffer(raw[: 2 * count], "<u2").astype(np.int64) + 1) - 1
        told = raw[2 * count :]
    if len(told) != width * len(places) or (len(places) and places[-1] >= size):
        raise _cut(raw, size)
    found[places] = np.frombuffer(told, _WIDTHS[width])
    return found


def _cut(raw: bytes, size: int) -> MalformedPayload:
    return MalformedPayload(
        "coefficients", f"{len(raw)} bytes do not tell {size} coefficients", allowed="places and values in full"
    )
