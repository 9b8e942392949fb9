"""Which adapters a run exports: the last or the best one, as `evaluation.keep` says, and the other one beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np

from fedpeft.config import RunConfig
from fedpeft.errors import ConfigError, JournalError
from fedpeft.journal import Commit, Journal
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


def check_which(which: str) -> None:
    """Refuse what names no adapter of a run.

    Raises:
        ConfigError: `which` is none of the three.
    """
    if which not in get_args(Kept):
        raise ConfigError(
            f"which = {which!r} is no adapter of a run",
            code="config.which",
            allowed=", ".join(get_args(Kept)),
            remedy="name one of these",
        )


def newest_commit(journal: Journal, config: RunConfig) -> Commit:
    """The last commit: what is read of a run that may be going on is read of one commit.

    Raises:
        JournalError: nothing is committed yet.
    """
    commit = journal.last_commit()
    if commit is None:
        raise JournalError(
            f"run {config.run.name} has committed no round yet",
            code="journal.no-commit",
            remedy=f"fedpeft resume {run_argument(config.folder)}",
        )
    return commit


def adapter_of(journal: Journal, config: RunConfig, commit: Commit, which: Kept = "kept") -> tuple[int, FloatArray]:
    """A round and what is shared after it, shape (s,): the commit's, the best one's, or what `evaluation.keep` says.

    Raises:
        JournalError: no best round was looked for.
    """
    best = read_best(journal.folder) if config.evaluation.watched else None
    if which == "best" and best is None:
        raise JournalError(
            f"run {config.run.name} has no best round: its run file did not look for one",
            code="journal.no-best",
            allowed="the last round",
            remedy='run it with evaluation.keep = "best" or evaluation.patience, or export the last round',
        )
    if best is not None and (which == "best" or (which == "kept" and config.evaluation.keep == "best")):
        return best
    arrays, _ = unpack(journal.blob(commit.snapshot["adapter"]))
    return commit.round, arrays["theta"].astype(np.float32, copy=False)


def layout_of(journal: Journal, commit: Commit) -> str:
    """Digest of the layout that a commit's adapter has."""
    return str(unpack(journal.blob(commit.snapshot["adapter"]))[1]["layout"])


def check_base(journal: Journal, federation: Federation, layout: str) -> None:
    """Refuse to go on from another base than the run had: its adapter would not fit, or stand for something else.

    Args:
        journal: of the run.
        federation: assembled again.
        layout: from `layout_of`. Where coefficients are kept, steps away from that base and no other, it tells of the
            base's adapter too; else of names and shapes only.

    Raises:
        JournalError: model, adapter settings, labels or library versions have changed since.
    """
    if layout != federation.sharing.shared.digest:
        raise JournalError(
            f"run {journal.run} began from another model, or with other labels, than {federation.base_name} and its "
            "data give now: what it has trained does not fit",
            code="journal.other-base",
            remedy=f"take what the run has exported itself: {journal.folder / ADAPTER}; or bring back the model, the "
            "data's labels, the adapter settings and the library versions of that time",
        )


__all__ = [
    "ADAPTER",
    "BEST",
    "LAST",
    "Kept",
    "adapter_of",
    "adapters_to_export",
    "best_round",
    "check_base",
    "check_which",
    "layout_of",
    "newest_commit",
]
