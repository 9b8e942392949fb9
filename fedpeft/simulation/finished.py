"""What a run has trained, with its federation assembled again: to export it, or to evaluate it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from fedpeft.config import RunConfig
from fedpeft.errors import ConfigError, PluginError
from fedpeft.journal import Commit, EventKind, Journal
from fedpeft.report.evaluations import whole_evaluations
from fedpeft.report.summary import stored_config
from fedpeft.simulation.federation import Federation, assemble, load_strategy
from fedpeft.simulation.kept import ADAPTER, Kept, adapter_of, check_base, check_which, layout_of, newest_commit
from fedpeft.simulation.own import OWN_OBJECTS
from fedpeft.simulation.parts import private_parts
from fedpeft.simulation.personal import own_adapter
from fedpeft.simulation.placing import anywhere
from fedpeft.simulation.pruned_export import scores_of
from fedpeft.types import ClientId, FloatArray


@dataclass(frozen=True, slots=True)
class Finished:
    """A run's adapter."""

    federation: Federation
    theta: FloatArray  # shape (d,)
    scores: npt.NDArray[Any] | None  # of heads and channels, shape (U,); None: the run pruned nobody
    round: int  # after which the adapter was that; 0: untrained
    committed: int  # rounds
    recorded: Mapping[str, Any] | None  # what the run itself found of it, on the whole of the same data, if it looked


def config_of(journal: Journal) -> RunConfig:
    """A run's file as its journal keeps it, with the folder that it lies in now.

    Raises:
        ConfigError: it was written by a version with other keys.
    """
    config = stored_config(journal)
    run = config.run.model_copy(update={"folder": str(journal.folder.resolve().parent)})
    return config.model_copy(update={"run": run})


@dataclass(frozen=True, slots=True)
class Taken:
    """What is read of a run's journal at once: of one commit, though the run may be going on."""

    commit: Commit
    round: int  # after which the shared part was that
    shared: FloatArray  # shape (s,)
    layout: str  # its digest
    scores: npt.NDArray[Any] | None  # of heads and channels, shape (U,); None: the run pruned nobody
    recorded: Mapping[str, Any] | None


def take(journal: Journal, config: RunConfig, which: Kept, client: str | None) -> Taken:
    """Read the adapter that is asked for; arguments as `reopen`.

    Raises:
        ConfigError: `which` is none of the three, or the best one of a client's own tensors, which are the last ones.
        JournalError: nothing is committed yet, no best round was looked for, or the run is damaged.
    """
    check_which(which)
    if client is not None and private_parts(config, load_strategy(config)):
        if which == "best":
            raise ConfigError(
                f'which = "best" contradicts client = "{client}": of its own tensors a client keeps the last ones only',
                code="config.export",
                allowed='which = "last" for a client',
                remedy="leave out one of them",
            )
        which = "last"
    commit = newest_commit(journal, config)
    number, shared = adapter_of(journal, config, commit, which)
    found = _recorded(journal, number, client)
    return Taken(commit, number, shared, layout_of(journal, commit), scores_of(journal, commit), found)


def reopen(
    folder: Path,
    *,
    which: Kept = "kept",
    client: str | None = None,
    whole_weights: bool = False,
    taken: Taken | None = None,
) -> Finished:
    """Load a run's model and data again, and the adapter that is asked for.

    Args:
        folder: of the run. It may be going on: all that is read of it is of one commit.
        which: adapter: of the "last" committed round, of the "best" one, or the one that `evaluation.keep` says.
        client: whose own tensors, in a run that keeps tensors private; they are those of the last commit.
        whole_weights: load the base as it is, not quantised.
        taken: what `take` read before; then `which` is not asked for.

    Raises:
        ConfigError: the run was made of Python objects; or as `take`.
        JournalError: there is no such client, model or data have changed so that the adapter does not fit; or as
            `take`.
    """
    with Journal.read(folder) as journal:
        config = config_of(journal)
        if config.model.source == OWN_OBJECTS:
            raise ConfigError(
                f"run {config.run.name} was made of Python objects: there is no run file to build its model from",
                code="config.own-objects",
                remedy=f"take what the run has exported itself: {folder / ADAPTER}",
            )
        taken = taken or take(journal, config, which, client)
        federation = _assembled(anywhere(config, whole_weights=whole_weights))
        check_base(journal, federation, taken.layout)
        if client is None:
            own = federation.whole(taken.shared)
        else:
            own = own_adapter(federation, journal, taken.commit, ClientId(client), taken.shared)
        return Finished(federation, own, taken.scores, taken.round, taken.commit.round, taken.recorded)


def _assembled(config: RunConfig) -> Federation:
    """With the run's own kernel, which rounds as the run did; where that one does not go, with the best that does."""
    try:
        return assemble(config)
    except (ConfigError, PluginError) as error:
        if error.code not in ("config.kernel", "plugin.unknown-kernel"):
            raise
    return assemble(config.model_copy(update={"engine": config.engine.model_copy(update={"kernel": "auto"})}))


def _recorded(journal: Journal, number: int, client: str | None) -> Mapping[str, Any] | None:
    """What a run found after a round on its whole test set, or on a client's held-out examples."""
    if client is not None:
        known = [e for e in journal.events(EventKind.CLIENT_EVALUATED) if (e.round, e.client) == (number, client)]
        return known[-1].payload if known else None
    events = list(journal.events(EventKind.EVALUATED))
    for split in ("best", "test"):
        for event in whole_evaluations(events, split):
            if event.round == number and event.payload.get("whole", True):
                return event.payload
    return None
