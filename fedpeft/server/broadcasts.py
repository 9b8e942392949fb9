"""What clients are given to start from: versioned broadcasts of the adapter.

Version t is the adapter after round t. What clients hold, b_t, is not θ_t but its decoded broadcast; deltas refer to
b_t. A client is sent the difference between the codes of b_t and those of the version it already holds; base 0, the
seeded initial adapter that nobody sends, serves whoever is new or too far behind. Whatever the base, b_t comes out
the same bit by bit. No error accumulates: each b_t is quantised from θ_t itself, or, with a `SteppingDownlink`, is a
step from b_{t−1} towards θ_t. Steps of the last versions are kept, and a client is sent those that it missed, or the
difference of codes, from what it holds or from base 0: whatever is shortest.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fedpeft.codecs.downlink import Downlink, SteppingDownlink
from fedpeft.codecs.fp32 import Fp32
from fedpeft.server.catch_up import Checkpoints, Told
from fedpeft.types import FloatArray

_SEALED = "sealed"
_STEP = "step"
"""How the names of the snapshot's arrays begin that are no codes."""


class Broadcasts:
    """The versions that clients may refer to, and the frames' bodies made from them.

    Args:
        initial: θ_0, shape (d,); version 0.
        downlink: makes versioned codes; None: the plain vector in fp32, no versions.
        window: versions, and steps, kept at most, so that memory does not grow with the number of clients.
        checkpoints: of a zeroth-order run whose model is rebuilt here; None: nobody is sent one.
    """

    def __init__(
        self,
        initial: FloatArray,
        downlink: Downlink | None,
        window: int = 16,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self.initial = initial
        self.downlink = downlink
        self._stepping = downlink if isinstance(downlink, SteppingDownlink) else None
        self.window = window
        self.checkpoints = checkpoints
        self.version = 0
        self._theta = initial
        self._codes: dict[int, Any] = {}
        self._steps: dict[int, bytes]  # version -> what leads to it from the one before
        self._forget()
        self._bodies: dict[int, bytes] = {}
        self._told: dict[tuple[int, int], Told] = {}

    def publish(self, version: int, theta: FloatArray, held: Iterable[int], out: Collection[int] = ()) -> None:
        """Make θ, shape (d,), the current version; forget versions that no client holds.

        Args:
            version: the round that ended in θ.
            theta: the committed adapter.
            held: versions that clients acknowledged, or will hold.
            out: those of them from which an answer is still out.
        """
        last, self.version = self.version, version
        before = self._codes.get(last)
        self._theta = theta
        self._bodies, self._told = {}, {}
        if self._stepping is not None and version > 0:
            step, self._codes[version] = self._stepping.step(theta - self.initial, before)
            if step is not None:
                self._steps[version] = step
            self._steps = {told: step for told, step in self._steps.items() if told > version - self.window}
        elif self.downlink is not None and version > 0:
            self._codes[version] = self.downlink.quantise(theta - self.initial)
        if self.checkpoints is not None:
            self.checkpoints.publish(version, self._codes[version], before, out)
        recent = sorted({*held, version} & self._codes.keys(), reverse=True)[: self.window]
        self._codes = {kept: self._codes[kept] for kept in {0, *recent} & self._codes.keys()}

    def base_for(self, held: int) -> int:
        """The version that a body refers to: what a client holds, or 0 if that is not kept, or 0 takes fewer bytes."""
        if self.downlink is None or held not in self._codes:
            return 0
        if self._stepping is not None and len(self.body(0)) < len(self.body(held)):
            return 0
        return held

    def told(self, held: int, past: int = 0) -> Told:
        """What a client is sent of the current version, in the shortest form.

        Args:
            held: the version that it holds; 0: none.
            past: epochs for whose coefficients it holds a checkpoint.
        """
        base = self.base_for(held)
        if (base, past) not in self._told:
            self._told[base, past] = self._tell(base, past)
        return self._told[base, past]

    def _tell(self, base: int, past: int) -> Told:
        new, checkpoints = self._codes.get(self.version), self.checkpoints
        if checkpoints is None or new is None:
            return Told(base, self.body(base), "changes" if base else "everything")
        if past and not (base and checkpoints.agree(new, self._codes[base], past)):
            base, past = 0, 0
        body = self.body(base)
        checkpoint = checkpoints.body(new, self._codes[base], len(body))
        if checkpoint is not None:
            return Told(base, checkpoint, "checkpoint", checkpoints.sealed)
        return Told(base, body, "changes" if base else "everything", past)

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
            elif self._stepping is not None:
                steps = self._steps_from(base)
                self._bodies[base] = self._stepping.encode(self._codes[self.version], self._codes[base], steps)
            else:
                self._bodies[base] = self.downlink.encode_difference(self._codes[self.version], self._codes[base])
        return self._bodies[base]

    @property
    def owed(self) -> float | None:
        """‖θ_t − b_t‖ / ‖θ_t − θ_0‖: what clients lack of the current version; None where versions are no steps."""
        if self._stepping is None or self.version == 0:
            return None
        moved = (self._theta - self.initial).astype(np.float64)
        lacking = moved - self._stepping.dequantise(self._codes[self.version])
        length = float(np.sqrt(np.sum(np.square(moved))))
        return float(np.sqrt(np.sum(np.square(lacking)))) / length if length else 0.0

    def state(self) -> dict[str, npt.NDArray[np.generic]]:
        """What is kept, for the snapshot: the downlink's arrays of version V as `NAME.V`, its step as `step.V`; and
        `sealed`, how many epochs are, where some are."""
        arrays: dict[str, npt.NDArray[np.generic]] = {
            f"{_STEP}.{version}": np.frombuffer(step, dtype=np.uint8) for version, step in self._steps.items()
        }
        if self.checkpoints is not None and self.checkpoints.sealed:
            arrays[_SEALED] = np.array([self.checkpoints.sealed])
        for version, codes in self._codes.items():
            if version > 0 and self.downlink is not None:
                own = self.downlink.arrays(codes)
                arrays |= {f"{name}.{version}": array for name, array in own.items()}
        return arrays

    def restore(self, version: int, theta: FloatArray, state: Mapping[str, npt.NDArray[np.generic]]) -> None:
        """Go back to a committed version."""
        self.version = version
        self._theta = theta
        self._bodies, self._told = {}, {}
        self._forget()
        sealed = int(state[_SEALED][0]) if _SEALED in state else 0
        if self.checkpoints is not None:
            self.checkpoints.sealed = sealed
        kept: dict[int, dict[str, npt.NDArray[np.generic]]] = {}
        for name, array in state.items():
            if name == _SEALED:
                continue
            kind, _, number = name.rpartition(".")
            kept.setdefault(int(number), {})[kind] = array
        for held, arrays in kept.items():
            if _STEP in arrays:
                self._steps[held] = arrays.pop(_STEP).tobytes()
            if not arrays:
                continue
            codes = self.downlink.of_arrays(arrays, self.initial.size) if self.downlink is not None else None
            if codes is not None:  # else its clients are given base 0
                self._codes[held] = codes

    def _steps_from(self, base: int) -> list[bytes] | None:
        """The steps from `base` to the current version, in order; None if one of them is not there."""
        wanted = range(base + 1, self.version + 1)
        return [self._steps[told] for told in wanted] if all(told in self._steps for told in wanted) else None

    def _forget(self) -> None:
        self._steps = {}
        self._codes = {} if self.downlink is None else {0: self.downlink.zero(self.initial.size)}
