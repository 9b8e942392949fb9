"""A survey of the runs in a folder, for `fedpeft ls`. One damaged run never hides the others."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from pathlib import Path

from fedpeft.errors import JournalError
from fedpeft.journal.database import FILE
from fedpeft.journal.events import EventKind
from fedpeft.journal.headline import ACCURACY, Headline
from fedpeft.journal.journal import Journal
from fedpeft.journal.lock import is_running


class RunState(StrEnum):
    """How a run stands."""

    FINISHED = "finished"
    INTERRUPTED = "interrupted"  # neither finished nor held by a process: `fedpeft resume` goes on
    RUNNING = "running"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One line of `fedpeft ls`."""

    name: str
    folder: Path
    state: RunState
    rounds_done: int = 0
    rounds_asked: int | None = None  # None where the run file does not say
    accuracy: float | None = None  # of the last evaluation on the test set; 0 to 1
    metric: str = ACCURACY  # the run's headline metric
    value: float | None = None  # of it, in the last evaluation on the test set
    adapter: str | None = None  # sha256 hex of the last commit; None before the first
    error: JournalError | None = None  # why it is unreadable


def list_runs(folder: Path) -> list[RunSummary]:
    """The runs directly inside `folder`, by name; none where the folder is missing.

    A run whose journal cannot be read is listed as `unreadable` with its error.
    """
    if not folder.is_dir():
        return []
    return [_summary(path.parent) for path in sorted(folder.glob(f"*/{FILE}"))]


def _summary(folder: Path) -> RunSummary:
    try:
        with Journal.read(folder) as journal:
            commit = journal.last_commit()
            headline, value = _headline(journal)
            return RunSummary(
                name=folder.name,
                folder=folder,
                state=_state(journal),
                rounds_done=commit.round if commit else 0,
                rounds_asked=_rounds_asked(journal),
                accuracy=value if headline.name == ACCURACY else None,
                metric=headline.name,
                value=value,
                adapter=commit.adapter if commit else None,
            )
    except JournalError as error:
        return RunSummary(name=folder.name, folder=folder, state=RunState.UNREADABLE, error=error)


def _state(journal: Journal) -> RunState:
    if is_running(journal.folder):
        return RunState.RUNNING
    started = max((event.seq for event in journal.events(EventKind.RUN_STARTED)), default=0)
    finished = max((event.seq for event in journal.events(EventKind.RUN_FINISHED)), default=0)
    return RunState.FINISHED if finished > started else RunState.INTERRUPTED


def _headline(journal: Journal) -> tuple[Headline, float | None]:
    """The metric that the run is judged by, and its value in the last evaluation on the test set."""
    tests = [event for event in journal.events(EventKind.EVALUATED) if event.payload.get("split") == "test"]
    headline = Headline.of_events([*islice(journal.events(EventKind.RUN_STARTED), 1), *tests[:1]])
    return headline, headline.value(tests[-1].payload) if tests else None


def _rounds_asked(journal: Journal) -> int | None:
    try:
        rounds = tomllib.loads(journal.config_toml).get("run", {}).get("rounds")
    except tomllib.TOMLDecodeError:
        return None
    return rounds if isinstance(rounds, int) else None
