"""The adapter of the best round, kept in the run's folder beside the journal, whose snapshots are of the last rounds.

It is written before the next round is committed. A run that is killed in between still has that adapter in its last
commit, and writes it when it goes on: the file is never older than the journal's verdict for longer than that.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fedpeft.errors import JournalError
from fedpeft.journal.diagnosis import diagnosed
from fedpeft.journal.snapshot import pack, unpack
from fedpeft.paths import write_atomically
from fedpeft.types import FloatArray

FILE = "best.safetensors"


def keep_best(folder: Path, number: int, theta: FloatArray, layout: str) -> None:
    """Write θ, shape (d,), of round `number`; `layout` is the digest of its layout.

    Raises:
        JournalError: the folder cannot be written.
    """
    with diagnosed(folder / FILE):
        write_atomically(folder / FILE, pack({"theta": theta}, {"round": number, "layout": layout}))


def read_best(folder: Path) -> tuple[int, FloatArray] | None:
    """The round and its θ, shape (d,); None where no best round was looked for.

    Raises:
        JournalError: the file is damaged.
    """
    path = folder / FILE
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    arrays, meta = unpack(content)
    if "theta" not in arrays or "round" not in meta:
        raise JournalError(
            f"{path} is not the adapter of a run's best round",
            code="journal.snapshot",
            remedy="restore the run's folder from a backup, or start the run again with --fresh",
        )
    return int(meta["round"]), arrays["theta"].astype(np.float32, copy=False)
