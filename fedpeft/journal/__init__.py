"""The coordinator's memory: an SQLite event log, the last commits and their snapshots, in the folder of a run.

Whatever the coordinator decides is an event that is on disk before it acts on it. After `kill -9` at any moment the
journal opens again and the last commit is whole. `Journal` writes and reads one run, `list_runs` surveys a folder of
them, and `fedpeft.journal.snapshot` turns arrays into the bytes that a commit keeps.
"""

from fedpeft.journal.commits import Commit
from fedpeft.journal.events import JSON, Event, EventKind, Observer
from fedpeft.journal.headline import Headline, is_share, measured
from fedpeft.journal.journal import Journal
from fedpeft.journal.lock import is_running
from fedpeft.journal.runs import RunState, RunSummary, list_runs
from fedpeft.journal.spread import Spread, spread_of, spreads

__all__ = [
    "JSON",
    "Commit",
    "Event",
    "EventKind",
    "Headline",
    "Journal",
    "Observer",
    "RunState",
    "RunSummary",
    "Spread",
    "is_running",
    "is_share",
    "list_runs",
    "measured",
    "spread_of",
    "spreads",
]
