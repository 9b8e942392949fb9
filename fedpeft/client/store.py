"""A client's state on its own disk: the broadcasts it holds, the residual of its codec, and what it remembers beside it
(of a client half, of a private part), each under its version; in a zeroth-order run also the θ_e that broadcasts name.

The coordinator names in every frame what it counts on; everything else goes. A file is written whole or not at all, so
a crash leaves the version that the coordinator will name next. A file that is damaged, by one bit, is as good as lost:
the client says so and is given a snapshot, or starts with an empty residual, or begins its memory anew.

Versions and rounds are numbered anew in each run, so a client that serves several has a folder for each:

    client/broadcast-000007.safetensors, ...            of the run that this device's own run file names
    client/run-1f3b09ac5d7e2468/broadcast-000003...     of another; its name may be of any characters, so it is hashed
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from fedpeft.client.sealing import Arrays, sealed, unsealed
from fedpeft.codecs.broadcast import Int8Downlink
from fedpeft.codecs.downlink import Downlink
from fedpeft.paths import remove_drafts, write_atomically
from fedpeft.types import FloatArray
from fedpeft.zeroth.checkpoint import digest_of

_VECTOR = "vector."
"""Before the names of a memory's vectors, which are a plug-in's."""

OTHER_RUNS = 3
"""Runs beside its own whose state a client keeps: those that were served last. That of an older one is lost."""


class ClientStore:
    """Files in one folder.

    Args:
        folder: created when something is first kept; nobody else writes to it.
        size: d, length of every vector.
        flush: what is kept outlives a power cut. Without it, it outlives the process only, as a simulated client's
            state may: after a power cut some of it counts as lost.
        downlink: whose codes broadcasts are; default: int8.
        run: name of the run whose state this is.
    """

    def __init__(
        self, folder: Path, size: int, *, flush: bool = True, downlink: Downlink | None = None, run: str = ""
    ) -> None:
        self.folder = folder
        self.run = run
        self.downlink = downlink or Int8Downlink()
        self.size = size
        self.flush = flush
        self._prefix = os.path.join(folder, "")
        self._held: dict[str, set[int]] = {}  # numbers on disk by kind, once they have been looked up
        self._tidy = False  # drafts of killed writes were removed
        self._other: ClientStore | None = None  # of the other run that was served last
        self._make_room: Callable[[], None] = lambda: None  # before this folder is made

    def of(self, run: str) -> ClientStore:
        """Where this client's state of a run is kept: here, or in a folder inside."""
        if run == self.run:
            return self
        if self._other is None or self._other.run != run:
            folder = self.folder / f"run-{hashlib.sha256(run.encode()).hexdigest()[:16]}"
            self._other = ClientStore(folder, self.size, flush=self.flush, downlink=self.downlink, run=run)
            self._other._make_room = self._forget_runs
        return self._other

    def _forget_runs(self) -> None:
        """Make room for one more run: whoever coordinates makes up its name, and could fill the disk with them."""
        others = sorted(self.folder.glob("run-*"), key=_last_written, reverse=True)
        for folder in others[OTHER_RUNS - 1 :]:
            shutil.rmtree(folder, ignore_errors=True)

    def broadcast(self, version: int) -> Any | None:
        """The codes of a broadcast; None when it is not held."""
        arrays = self._read("broadcast", version)
        return None if arrays is None else self.downlink.of_arrays(arrays, self.size)

    def keep_broadcast(self, version: int, codes: Any, also: Collection[int]) -> None:
        """Keep a broadcast and forget all others but those in `also`.

        What lies there under this version counts only if it is the same: an earlier run may have left it.
        """
        held = self.broadcast(version) if version in self._numbers("broadcast") else None
        if held is None or held != codes:
            self._write("broadcast", version, self.downlink.arrays(codes), also)

    def look_again(self) -> None:
        """Forget what was seen on disk: another process has served this client meanwhile."""
        self._held.clear()
        self._tidy = False
        self._other = None

    def versions(self) -> tuple[int, ...]:
        """Broadcasts held, oldest first."""
        self._held.pop("broadcast", None)
        return tuple(sorted(self._numbers("broadcast")))

    def checkpoint(self, name: bytes) -> FloatArray | None:
        """θ_e, shape (d',), of the checkpoint of that name, 32 bytes; None when there is none, or it is damaged."""
        arrays = self._read("checkpoint", _number(name)) or {}
        if not {"theta", "name", "sha256"} <= arrays.keys() or arrays["theta"].dtype != np.float32:
            return None
        theta: FloatArray = arrays["theta"]
        sound = arrays["name"].tobytes() == name and arrays["sha256"].tobytes() == digest_of(theta)
        return theta if sound else None

    def keep_checkpoint(self, name: bytes, theta: FloatArray, also: Collection[bytes]) -> None:
        """Keep a checkpoint, before the broadcast that names it, and forget all others but those in `also`."""
        about = {"name": np.frombuffer(name, np.uint8), "sha256": np.frombuffer(digest_of(theta), np.uint8)}
        self._write("checkpoint", _number(name), {"theta": theta, **about}, {_number(other) for other in also})

    def forget_checkpoints(self, but: Collection[bytes]) -> None:
        """Forget all checkpoints but those of these names."""
        self._forget("checkpoint", {_number(name) for name in but})

    def residual(self, round_number: int) -> FloatArray | None:
        """The residual left by a round, shape (d,), zeros if nothing is owed; None if there is none or it is lost."""
        arrays = self._kept("residual", round_number, lambda name: name in ("residual", "round"))
        if arrays is None or "residual" not in arrays:
            return None
        # A file is written over an old one: should a power cut have left the old content, its round gives it away.
        if "round" in arrays and arrays["round"].tolist() != [round_number]:  # files of version 0.1 have none
            return None
        residual = arrays["residual"]
        if residual.shape == (0,):
            return np.zeros(self.size, dtype=np.float32)
        return residual.astype(np.float32, copy=False) if residual.shape == (self.size,) else None

    def keep_residual(self, round_number: int, residual: FloatArray, also: Collection[int]) -> None:
        """Keep a round's residual and forget all others but those in `also`.

        A residual of zeros is kept as one of no values: a short file, which tells it from one that is lost.
        """
        told = residual if residual.any() else residual[:0]
        self._keep("residual", round_number, {"residual": told}, also)

    def memory(self, round_number: int) -> dict[str, FloatArray] | None:
        """The vectors kept under a round, by name, as they were given; None if there are none or they are lost."""
        arrays = self._kept("memory", round_number, lambda name: name == "round" or name.startswith(_VECTOR))
        if arrays is None or "round" not in arrays or arrays.pop("round").tolist() != [round_number]:
            return None
        return {name.removeprefix(_VECTOR): array for name, array in arrays.items() if array.dtype == np.float32}

    def keep_memory(self, round_number: int, vectors: Mapping[str, FloatArray], also: Collection[int]) -> None:
        """Keep vectors, fp32, under a round and forget all others but those in `also`."""
        self._keep("memory", round_number, {_VECTOR + name: vector for name, vector in vectors.items()}, also)

    def _kept(self, kind: str, round_number: int, is_older: Callable[[str], bool]) -> Arrays | None:
        """What `_keep` was given, and the round; None where it is not there, or is another bit by bit."""
        if round_number not in self._numbers(kind):
            return None
        arrays = self._read(kind, round_number)
        return None if arrays is None else unsealed(arrays, is_older)

    def _keep(self, kind: str, round_number: int, arrays: Arrays, also: Collection[int]) -> None:
        """Keep arrays under a round, with their digest, and forget all others of this kind but those in `also`."""
        arrays = arrays | {"round": np.array([round_number], dtype=np.int64)}
        self._write(kind, round_number, sealed(arrays), also)

    def _path(self, kind: str, number: int) -> str:
        # Text, not a Path: with tiny models the joining alone would cost more than the reading.
        return f"{self._prefix}{kind}-{number:06d}.safetensors"

    def _numbers(self, kind: str) -> set[int]:
        """What lies on disk of a kind."""
        held = self._held.get(kind)
        if held is None:
            found = self.folder.glob(f"{kind}-*.safetensors")
            numbers = (path.stem.removeprefix(f"{kind}-") for path in found)
            held = self._held[kind] = {int(number) for number in numbers if number.isdecimal()}  # not "000001 copy"
        return held

    def _write(self, kind: str, number: int, arrays: Arrays, also: Collection[int]) -> None:
        if not self._tidy:  # by whom writes alone: others may read this folder meanwhile, to export from it
            remove_drafts(self.folder)
            self._tidy = True
        path, content, held = Path(self._path(kind, number)), save(arrays), self._numbers(kind)
        old = min(held.difference(also, {number}), default=None)
        reuse = None if old is None else Path(self._path(kind, old))
        held.discard(-1 if old is None else old)
        try:
            write_atomically(path, content, flush=self.flush, reuse=reuse)
        except FileNotFoundError:  # no folder, or a draft taken away by a process that was started beside this one
            if not self.folder.exists():
                self._make_room()
                self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(path, content, flush=self.flush)
        held.add(number)
        self._forget(kind, {number, *also})

    def _forget(self, kind: str, kept: Collection[int]) -> None:
        held = self._numbers(kind)
        for other in held.difference(kept):
            with suppress(FileNotFoundError):
                os.unlink(self._path(kind, other))
            held.discard(other)

    def _read(self, kind: str, number: int) -> Arrays | None:
        try:
            with open(self._path(kind, number), "rb") as file:
                arrays: Arrays = load(file.read())
            return arrays
        except (OSError, SafetensorError, ValueError):
            return None


def _last_written(folder: Path) -> float:
    """When something in a folder was last kept; 0 if another process has just removed it."""
    try:
        return folder.stat().st_mtime
    except OSError:
        return 0.0


def _number(name: bytes) -> int:
    """Under which number a checkpoint lies: the first 6 bytes of its name."""
    return int.from_bytes(name[:6], "big")
