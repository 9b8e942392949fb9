"""The coordinator's whole state at a commit, as parts of a snapshot, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fedpeft.errors import JournalError
from fedpeft.journal import Commit, Journal
from fedpeft.journal.snapshot import pack, unpack
from fedpeft.server.broadcasts import Broadcasts
from fedpeft.server.pruning import Pruning
from fedpeft.server.roster import Roster
from fedpeft.server.scheduling import Scheduling
from fedpeft.strategies import Strategy
from fedpeft.types import FloatArray, Layout


@dataclass(frozen=True, slots=True)
class Restored:
    """Where a run goes on from."""

    round: int
    theta: FloatArray  # shape (d,)


def take(
    theta: FloatArray,
    strategy: Strategy,
    broadcasts: Broadcasts,
    roster: Roster,
    layout: str,
    scheduling: Scheduling | None = None,
    pruning: Pruning | None = None,
) -> dict[str, bytes]:
    """The state after a round, as named parts."""
    parts = {
        "adapter": pack({"theta": theta}, {"layout": layout}),
        "strategy": pack(strategy.state(), {}),
        "broadcasts": pack(broadcasts.state(), {}),
        "roster": pack({}, {"holdings": roster.state()}),
    }
    if scheduling is not None:
        parts["scheduler"] = pack({}, scheduling.state())
    if pruning is not None:
        parts["pruning"] = pack(pruning.state(), {})
    return parts


def restore(
    journal: Journal,
    commit: Commit,
    strategy: Strategy,
    broadcasts: Broadcasts,
    roster: Roster,
    layout: Layout,
    scheduling: Scheduling | None = None,
    pruning: Pruning | None = None,
) -> Restored:
    """Bring strategy, broadcasts, roster, scheduler and the scores of pruning back to a commit.

    A zeroth-order run that goes on for more rounds than it began with may have more epochs: the coefficients of the new
    ones are 0.

    Raises:
        JournalError: a part is missing or corrupt, or was made with another adapter.
    """
    wanted = {"adapter", "strategy", "broadcasts", "roster"}
    wanted |= {"scheduler"} if scheduling is not None else set()
    wanted |= {"pruning"} if pruning is not None else set()
    missing = wanted - commit.snapshot.keys()
    if missing:
        raise JournalError(
            f"the commit of round {commit.round} lacks its {', '.join(sorted(missing))}",
            code="journal.snapshot",
            remedy="restore the run's folder from a backup, or start the run again with --fresh",
        )
    parts: dict[str, tuple[Any, Any]] = {name: unpack(journal.blob(key)) for name, key in commit.snapshot.items()}
    arrays, meta = parts["adapter"]
    if meta["layout"] != layout.digest:
        raise JournalError(
            f"round {commit.round} was committed with another adapter than the run file describes now",
            code="journal.other-adapter",
            remedy="resume with the run file in the run's folder, or start a new run under another name",
        )
    begun = arrays["theta"].size
    theta = _grown(arrays["theta"].astype(np.float32, copy=False), begun, layout.size)
    state = {name: _grown(array, begun, layout.size) for name, array in parts["strategy"][0].items()}
    strategy.restore(state)
    broadcasts.restore(commit.round, theta, parts["broadcasts"][0])
    roster.restore(parts["roster"][1]["holdings"])
    if scheduling is not None:
        scheduling.restore(parts["scheduler"][1])
    if pruning is not None:
        pruning.restore(parts["pruning"][0])
    return Restored(commit.round, theta)


def _grown(array: Any, begun: int, size: int) -> Any:
    """An array of the shared vector's old length, with zeros behind it; any other as it is."""
    return np.pad(array, (0, size - begun)) if array.shape == (begun,) and begun < size else array
