"""What clients are given to start from: versioned broadcasts of the adapter.

Version t is the adapter after round t. What clients hold, b_t, is not θ_t but its decoded broadcast; deltas refer to
b_t. A client is sent the difference between the codes of b_t and those of the version it already holds; base 0, the
seeded initial adapter that nobody sends, serves whoever is new or too far behind. Whatever the base, b_t comes out
the same bit by bit, and since each b_t is quantised from θ_t itself, no error accumulates.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from fedpeft.codecs.broadcast import Codes, encode_difference, quantise, zero_codes
from fedpeft.codecs.fp32 import Fp32
from fedpeft.types import FloatArray


class Broadcasts:
    """The versions that clients may refer to, and the frames' bodies made from them.

    Args:
        initial: θ_0, shape (d,); version 0.
        codec: "int8" (versioned codes) or "fp32" (the plain vector, no versions).
        window: versions kept at most, so that memory does not grow with the number of clients.
    """

    def __init__(self, initial: FloatArray, codec: str, window: int = 16) -> None:
        self.initial = initial
        self.codec = codec
        self.window = window
        self.version = 0
        self._theta = initial
        self._codes: dict[int, Codes] = {0: zero_codes(initial.size)}
        self._bodies: dict[int, bytes] = {}

    def publish(self, version: int, theta: FloatArray, held: Iterable[int]) -> None:
        """Make θ, shape (d,), the current version; forget versions that no client holds.

        Args:
            version: the round that ended in θ.
            theta: the committed adapter.
            held: versions that clients acknowledged.
        """
        self.version = version
        self._theta = theta
        self._bodies = {}
        if self.codec == "int8" and version > 0:
            self._codes[version] = quantise(theta - self.initial)
        recent = sorted({*held, version} & self._codes.keys(), reverse=True)[: self.window]
        self._codes = {kept: self._codes[kept] for kept in {0, *recent}}

    def base_for(self, held: int) -> int:
        """The version that a client's delta will refer to: the one it holds, or 0 when that is no longer kept."""
        return held if self.codec == "int8" and held in self._codes else 0

    def body(self, base: int) -> bytes:
        """The current version as a difference from `base`."""
        if base not in self._bodies:
            if self.codec == "fp32":
                self._bodies[base] = Fp32().encode(self._theta)
            else:
                self._bodies[base] = encode_difference(self._codes[self.version], self._codes[base])
        return self._bodies[base]

    def state(self) -> dict[str, npt.NDArray[np.generic]]:
        """The kept codes, for the snapshot: `codes.V` and `exponents.V`, int8."""
        arrays: dict[str, npt.NDArray[np.generic]] = {}
        for version, codes in self._codes.items():
            if version > 0:
                arrays[f"codes.{version}"] = codes.codes
                arrays[f"exponents.{version}"] = codes.exponents
        return arrays

    def restore(self, version: int, theta: FloatArray, state: Mapping[str, npt.NDArray[np.generic]]) -> None:
        """Go back to a committed version."""
        self.version = version
        self._theta = theta
        self._bodies = {}
        self._codes = {0: zero_codes(self.initial.size)}
        for name, array in state.items():
            kind, _, number = name.partition(".")
            if kind == "codes":
                self._codes[int(number)] = Codes(
                    array.astype(np.int8, copy=False), state[f"exponents.{number}"].astype(np.int8, copy=False)
                )
