"""Which adapters a run exports: the last or the best one, as `evaluation.keep` says, and the other one beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from fedpeft.config import RunConfig
from fedpeft.errors import JournalError
from fedpeft.journal import Journal
from fedpeft.journal.snapshot import unpack
from fedpeft.paths import run_argument
from fedpeft.server.best import read_best
from fedpeft.types import FloatArray

if TYPE_CHECKING:
    from fedpeft.simulation.federation import Federation

Kept: TypeAlias = Literal["kept", "last", "best"]

ADAPTER, BEST, LAST = "adapter", "adapter-best", "adapter-last"
"""Folders in a run's folder."""


def adapters_to_export(journal: Journal, config: RunConfig, last: FloatArray) -> dict[str, FloatArray]:
    """Folder -> θ, shape (d,). Where no best round was looked for, only `adapter`.

    Args:
        journal: of the run, beside which the best adapter lies.
        config: says which one is `adapter`.
        last: θ of the last round.
    """
    best = read_best(journal.folder) if config.evaluation.watched else None
    if best is None:
        return {ADAPTER: last}
    if config.evaluation.keep == "best":
        return {LAST: last, ADAPTER: best[1]}
    return {BEST: best[1], ADAPTER: last}


def best_round(journal: Journal, config: RunConfig) -> int | None:
    """The best round so far; None where none was looked for."""
    best = read_best(journal.folder) if config.evaluation.watched else None
    return None if best is None else best[0]


def adapter_of(journal: Journal, config: RunConfig, which: Kept = "kept") -> FloatArray:
    """θ, shape (d,), of the last committed round, of the best one, or of the one that `evaluation.keep` says.

    Raises:
        JournalError: nothing is committed yet, or no best round was looked for.
    """
    commit, best = journal.last_commit(), read_best(journal.folder) if config.evaluation.watched else None
    if commit is None:
        raise JournalError(
            f"run {config.run.name} has committed no round yet",
            code="journal.no-commit",
            remedy=f"fedpeft resume {run_argument(config.folder)}",
        )
    if which == "best" and best is None:
        raise JournalError(
            f"run {config.run.name} has no best round: its run file did not look for one",
            code="journal.no-best",
            allowed="the last round",
            remedy='run it with evaluation.keep = "best" or evaluation.patience, or export the last round',
        )
    if best is not None and (which == "best" or (which == "kept" and config.evaluation.keep == "best")):
        return best[1]
    arrays, _ = unpack(journal.blob(commit.snapshot["adapter"]))
    return arrays["theta"].astype(np.float32, copy=False)


def check_base(journal: Journal, federation: Federation) -> None:
    """Refuse to export from another base than the run had: coefficients are steps away from that one and no other.

    Raises:
        JournalError: model, adapter settings or library versions have changed since.
    """
    commit = journal.last_commit()
    if commit is None or federation.replica is None:
        return
    _, meta = unpack(journal.blob(commit.snapshot["adapter"]))
    if meta["layout"] != federation.sharing.shared.digest:
        raise JournalError(
            f"run {journal.run} began from another model than {federation.base_name} gives now: its coefficients would "
            "make something else of it",
            code="journal.other-base",
            remedy=f"take what the run has exported itself: {journal.folder / ADAPTER}; or bring back the model, the "
            "adapter settings and the library versions of that time",
        )


__all__ = ["ADAPTER", "BEST", "LAST", "Kept", "adapter_of", "adapters_to_export", "best_round", "check_base"]
