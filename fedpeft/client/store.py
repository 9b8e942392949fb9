"""A client's state on its own disk: the broadcasts it holds and the residual of its codec, each under its version.

The coordinator names in every frame what it counts on; everything else goes. A file is written whole or not at all, so
a crash leaves the version that the coordinator will name next. A file that is damaged is as good as lost: the client
says so and is given a snapshot, or starts with an empty residual.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from fedpeft.codecs.broadcast import Codes, zero_codes
from fedpeft.paths import write_atomically
from fedpeft.types import FloatArray


class ClientStore:
    """Files in one folder.

    Args:
        folder: created when something is first kept.
        size: d, length of every vector.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        self.size = size

    def broadcast(self, version: int) -> Codes | None:
        """The codes of a broadcast; None when it is not held."""
        arrays = self._read(self._path("broadcast", version))
        if arrays is None or set(arrays) != {"codes", "exponents"}:
            return None
        codes, empty = Codes(arrays["codes"], arrays["exponents"]), zero_codes(self.size)
        for held, wanted in ((codes.codes, empty.codes), (codes.exponents, empty.exponents)):
            if held.shape != wanted.shape or held.dtype != wanted.dtype:
                return None
        return codes

    def keep_broadcast(self, version: int, codes: Codes, also: Collection[int]) -> None:
        """Keep a broadcast and forget all others but those in `also`.

        What lies there under this version counts only if it is the same: an earlier run may have left it.
        """
        held = self.broadcast(version)
        if held is None or held.digest() != codes.digest():
            self._write("broadcast", version, {"codes": codes.codes, "exponents": codes.exponents}, also)

    def versions(self) -> tuple[int, ...]:
        """Broadcasts held, oldest first."""
        return self._numbers("broadcast")

    def residual(self, round_number: int) -> FloatArray | None:
        """The residual left by a round, shape (d,); None when there is none."""
        arrays = self._read(self._path("residual", round_number))
        if arrays is None or "residual" not in arrays or arrays["residual"].shape != (self.size,):
            return None
        return arrays["residual"].astype(np.float32, copy=False)

    def keep_residual(self, round_number: int, residual: FloatArray, also: Collection[int]) -> None:
        """Keep a round's residual and forget all others but those in `also`.

        A residual of zeros is kept as no file, and takes away one that an earlier run left under this round.
        """
        if residual.any():
            self._write("residual", round_number, {"residual": residual}, also)
        else:
            self._path("residual", round_number).unlink(missing_ok=True)
            self._forget("residual", {round_number, *also})

    def _path(self, kind: str, number: int) -> Path:
        return self.folder / f"{kind}-{number:06d}.safetensors"

    def _numbers(self, kind: str) -> tuple[int, ...]:
        return tuple(sorted(int(path.stem.split("-")[1]) for path in self.folder.glob(f"{kind}-*.safetensors")))

    def _write(self, kind: str, number: int, arrays: dict[str, np.ndarray], also: Collection[int]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self._path(kind, number), save(arrays))
        self._forget(kind, {number, *also})

    def _forget(self, kind: str, kept: Collection[int]) -> None:
        for other in self._numbers(kind):
            if other not in kept:
                self._path(kind, other).unlink(missing_ok=True)

    @staticmethod
    def _read(path: Path) -> dict[str, np.ndarray] | None:
        try:
            arrays: dict[str, np.ndarray] = load(path.read_bytes())
            return arrays
        except (OSError, SafetensorError, ValueError):
            return None
