"""How events become durable: one by one, or several with one flush of the disk.

A flush costs milliseconds on a disk that keeps its word, and a round of a thousand clients records two thousand events.
Events that nobody acts upon may therefore share a transaction (`Journal.together`). Observers are told once it is on
disk and not before, so what anybody has seen is there after a crash either way.
"""

from __future__ import annotations

import json
import math
import operator
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from fedpeft.errors import JournalError
from fedpeft.journal.database import checksum
from fedpeft.journal.events import JSON, Event, EventKind, encode_payload
from fedpeft.types import ClientId

_INSERT = "INSERT INTO event (seq, at, kind, round, attempt, client, payload, crc) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"


class Writer:
    """The writing half of a journal; there is one for each run, since the run's lock admits one process.

    Args:
        connection: open for writing, in autocommit mode.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.settled_at = -math.inf  # time.monotonic()
        self._connection = connection
        self._held: list[Event] = []  # in the open transaction: not durable yet, nobody told
        (self._last,) = connection.execute("SELECT coalesce(max(seq), 0) FROM event").fetchone()
        self._settled: int = self._last  # the last event that is durable

    def append(
        self,
        kind: EventKind,
        round: int | None,
        attempt: int | None,
        client: ClientId | None,
        payload: Mapping[str, JSON],
    ) -> Event:
        """Write one event into the open transaction, or open one.

        Raises:
            JournalError: as `Journal.record`; what was written before stays.
        """
        text = encode_payload(kind, payload)
        try:
            row = (self._last + 1, time.time(), EventKind(kind), _whole(round), _whole(attempt), client, text)
            self._begin().execute(_INSERT, (*row, checksum(*row)))
            # What a reader will see, not what was passed: a tuple has become a list.
            event = Event(*row[:-1], json.loads(text))
            self._held.append(event)
            self._last += 1
        except BaseException as error:
            # A signal may fall between the row and the note of it; after an error of the disk, nothing is left of it.
            if not (self._held and self._connection.in_transaction and isinstance(error, Exception)):
                self.discard()
            if isinstance(error, sqlite3.IntegrityError | TypeError | ValueError | OverflowError):
                raise _misfit(error, kind, round, attempt, client) from error
            raise
        return event

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """What the block writes, or nothing of it. Settle what came before; settle this behind it."""
        try:
            yield self._begin()
        except BaseException:
            self.discard()
            raise

    def settle(self) -> list[Event]:
        """Make what was written durable; returns its events, which nobody has been told of yet."""
        if not self._connection.in_transaction:
            return []
        try:
            self._connection.execute("COMMIT")
        except BaseException:
            self.discard()
            raise
        self.settled_at = time.monotonic()
        self._settled = self._last
        settled, self._held = self._held, []
        return settled

    def discard(self) -> None:
        """Forget what is not durable."""
        if self._connection.in_transaction:  # after some errors, e.g. a full disk, SQLite has rolled back by itself
            self._connection.execute("ROLLBACK")
        self._held.clear()
        self._last = self._settled

    def _begin(self) -> sqlite3.Connection:
        if not self._connection.in_transaction:
            self._connection.execute("BEGIN IMMEDIATE")
        return self._connection


def _misfit(
    error: Exception, kind: EventKind, round: int | None, attempt: int | None, client: ClientId | None
) -> JournalError:
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_CONSTRAINT_UNIQUE:
        return JournalError(
            f"client {client}: an update for round {round}, attempt {attempt} was accepted before",
            code="journal.counted-twice",
            allowed="one accepted update per client and attempt",
            remedy="drop the second reply",
        )
    return JournalError(
        f"event {kind}: round = {round!r}, attempt = {attempt!r}, client = {client!r} do not fit: {error}",
        code="journal.payload",
        allowed="integers for round and attempt, Unicode text for client; an accepted update has all three",
        remedy="record the event with them",
    )


def _whole(number: int | None) -> int | None:
    # SQLite would store 1.0 and True as 1, and the checksum of what is read would differ.
    return None if number is None else operator.index(number) + 0
