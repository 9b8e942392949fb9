"""What clients are given to start from: versioned broadcasts of the adapter.

Version t is the adapter after round t. What clients hold, b_t, is not θ_t but its decoded broadcast; deltas refer to
b_t. A client is sent the difference between the codes of b_t and those of the version it already holds; base 0, the
seeded initial adapter that nobody sends, serves whoever is new or too far behind. Whatever the base, b_t comes out
the same bit by bit, and since each b_t is quantised from θ_t itself, no error accumulates.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fedpeft.codecs.downlink import Downlink
from fedpeft.codecs.fp32 import Fp32
from fedpeft.types import FloatArray


class Broadcasts:
    """The versions that clients may refer to, and the frames' bodies made from them.

    Args:
        initial: θ_0, shape (d,); version 0.
        downlink: makes versioned codes; None: the plain vector in fp32, no versions.
        window: versions kept at most, so that memory does not grow with the number of clients.
    """

    def __init__(self, initial: FloatArray, downlink: Downlink | None, window: int = 16) -> None:
        self.initial = initial
        self.downlink = downlink
        self.window = window
        self.version = 0
        self._theta = initial
        self._codes: dict[int, Any] = {}
        self._forget()
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
        if self.downlink is not None and version > 0:
            self._codes[version] = self.downlink.quantise(theta - self.initial)
        recent = sorted({*held, version} & self._codes.keys(), reverse=True)[: self.window]
        self._codes = {kept: self._codes[kept] for kept in {0, *recent} & self._codes.keys()}

    def base_for(self, held: int) -> int:
        """The version that a client's delta will refer to: the one it holds, or 0 when that is no longer kept."""
        return held if self.downlink is not None and held in self._codes else 0

    def start(self) -> FloatArray:
        """b_t, shape (d,): the current version as clients decode it, bit by bit."""
        if self.downlink is None or self.version == 0:
            return self._theta
        return self.initial + self.downlink.dequantise(self._codes[self.version])

    def body(self, base: int) -> bytes:
        """The current version as a difference from `base`."""
        if base not in self._bodies:
            if self.downlink is None:
                self._bodies[base] = Fp32().encode(self._theta)
            else:
                self._bodies[base] = self.downlink.encode_difference(self._codes[self.version], self._codes[base])
        return self._bodies[base]

    def state(self) -> dict[str, npt.NDArray[np.generic]]:
        """The kept codes, for the snapshot: the downlink's arrays of version V as `NAME.V`."""
        arrays: dict[str, npt.NDArray[np.generic]] = {}
        for version, codes in self._codes.items():
            if version > 0 and self.downlink is not None:
                own = self.downlink.arrays(codes)
                arrays |= {f"{name}.{version}": array for name, array in own.items()}
        return arrays

    def restore(self, version: int, theta: FloatArray, state: Mapping[str, npt.NDArray[np.generic]]) -> None:
        """Go back to a committed version."""
        self.version = version
        self._theta = theta
        self._bodies = {}
        self._forget()
        kept: dict[int, dict[str, npt.NDArray[np.generic]]] = {}
        for name, array in state.items():
            kind, _, number = name.rpartition(".")
            kept.setdefault(int(number), {})[kind] = array
        for held, arrays in kept.items():
            codes = self.downlink.of_arrays(arrays, self.initial.size) if self.downlink is not None else None
            if codes is not None:  # else its clients are given base 0
                self._codes[held] = codes

    def _forget(self) -> None:
        self._codes = {} if self.downlink is None else {0: self.downlink.zero(self.initial.size)}
