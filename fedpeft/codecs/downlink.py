"""The contract of a versioned downlink: the shared vector as codes, told as a difference from those a client holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from fedpeft.types import FloatArray


class Downlink(Protocol):
    """Codes of θ_t − θ_0. Whatever the base, the codes of a version come out the same bit by bit.

    Codes compare with `==`. Version 0 is `zero`, which both sides derive and nobody sends.
    """

    name: ClassVar[str]

    def zero(self, size: int) -> Any:
        """The codes of version 0."""

    def quantise(self, values: FloatArray) -> Any:
        """The codes of θ_t − θ_0, shape (d,), fp32 and finite."""

    def dequantise(self, codes: Any) -> FloatArray:
        """What codes stand for, shape (d,)."""

    def encode_difference(self, new: Any, base: Any) -> bytes:
        """What a client that holds `base` needs to get `new`."""

    def decode_difference(self, body: bytes, base: Any) -> Any:
        """`new` again.

        Raises:
            WrongBase: `base` is not what the body was made for.
            MalformedPayload: no encoder writes this; it is bounded before anything is unpacked.
        """

    def arrays(self, codes: Any) -> dict[str, npt.NDArray[np.generic]]:
        """Codes as arrays by name, for a disk."""

    def of_arrays(self, arrays: dict[str, npt.NDArray[np.generic]], size: int) -> Any | None:
        """What `arrays` gave; None if it did not give these."""


@runtime_checkable
class SteppingDownlink(Downlink, Protocol):
    """A downlink whose versions are made from one another: version t by a step from version t − 1. Optional."""

    def step(self, values: FloatArray, last: Any) -> tuple[bytes | None, Any]:
        """The step from the codes `last` towards θ_t − θ_0, shape (d,), fp32 and finite; and where it leads.

        None for a version that is made from θ_t alone, because a step would not be worth it.
        """

    def encode(self, new: Any, base: Any, steps: Sequence[bytes] | None) -> bytes:
        """What a client that holds `base` needs to get `new`: the steps between them, in order, or what is shorter.

        `steps` is None where one of them is not there. `decode_difference` reads it.
        """
