"""Finished rounds: what a commit is, and how it and its snapshot lie in the tables."""

from __future__ import annotations

import hashlib
import operator
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fedpeft.errors import JournalError
from fedpeft.journal.database import checksum
from fedpeft.journal.diagnosis import corrupt

KEPT_SNAPSHOTS = 2  # commits whose snapshots are kept: the last, and the one before it should the last be damaged


@dataclass(frozen=True, slots=True)
class Commit:
    """A finished round: what the coordinator goes on from."""

    round: int
    adapter: str  # sha256 hex of the adapter's bytes
    snapshot: Mapping[str, str]  # part name -> sha256 hex of its bytes, for `Journal.blob`


def insert_commit(connection: sqlite3.Connection, round: int, snapshot: Mapping[str, bytes], *, adapter: str) -> Commit:
    """Add a commit and its snapshot, and drop the snapshots that are no longer kept. Run it in a transaction.

    Raises:
        JournalError: `journal.commit-order`; the round is not the last one + 1 (for the first commit: not 0 or 1).
    """
    round = operator.index(round) + 0  # 1.0 or True would not match the checksum of what SQLite stores
    (last,) = connection.execute("SELECT max(round) FROM commits").fetchone()
    allowed = (0, 1) if last is None else (last + 1,)
    if round not in allowed:
        raise JournalError(
            f"commit of round {round} after {'no commit' if last is None else f'round {last}'}",
            code="journal.commit-order",
            allowed=f"round {' or '.join(map(str, allowed))}",
            remedy="resume from `last_commit()`; rounds are committed once each, in order",
        )
    parts = {part: hashlib.sha256(content).hexdigest() for part, content in snapshot.items()}
    crc = checksum(round, adapter, sorted(parts.items()))
    connection.execute("INSERT INTO commits (round, adapter, crc) VALUES (?, ?, ?)", (round, adapter, crc))
    for part, digest in parts.items():
        connection.execute(
            "INSERT INTO blob (digest, content) VALUES (?, ?) ON CONFLICT (digest) DO NOTHING",
            (digest, snapshot[part]),
        )
        connection.execute("INSERT INTO snapshot (round, part, digest) VALUES (?, ?, ?)", (round, part, digest))
    connection.execute("DELETE FROM snapshot WHERE round <= ?", (round - KEPT_SNAPSHOTS,))
    connection.execute("DELETE FROM blob WHERE digest NOT IN (SELECT digest FROM snapshot)")
    return Commit(round, adapter, parts)


def select_last_commit(connection: sqlite3.Connection, path: Path) -> Commit | None:
    """The last commit; None before the first.

    Raises:
        JournalError: `journal.corrupt`, naming the round.
    """
    # One statement, so that a reader beside a running run does not mix two commits.
    rows = connection.execute(
        "SELECT round, adapter, crc, part, digest FROM commits LEFT JOIN snapshot USING (round) "
        "WHERE round = (SELECT max(round) FROM commits)"
    ).fetchall()
    if not rows:
        return None
    round, adapter, crc = rows[0][:3]
    parts = {part: digest for *_, part, digest in rows if part is not None}
    if checksum(round, adapter, sorted(parts.items())) != crc:
        raise corrupt(path, f"the commit of round {round} does not match its checksum")
    return Commit(round, adapter, parts)
