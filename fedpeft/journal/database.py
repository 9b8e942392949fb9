"""The journal's SQLite file: its tables, and how it is made, opened for writing and opened for reading.

WAL with synchronous=FULL: a transaction that returned is on disk, also after a power cut, and readers never wait for
the writer. A new file is built aside and renamed, so that a kill while it is made leaves no half of a journal.
"""

from __future__ import annotations

import json
import os
import sqlite3
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from fedpeft.errors import JournalError
from fedpeft.journal.diagnosis import corrupt, diagnosed, read_only

FILE = "journal.sqlite"
APPLICATION_ID = 0x66707466  # "fptf" in the SQLite header: tells a journal from any other SQLite file
SCHEMA = 1  # in the header as user_version; a new table, column or kind of event takes a new number
_OLDEST_SQLITE = (3, 37)  # STRICT tables

TABLES = """
CREATE TABLE meta (
    key     TEXT PRIMARY KEY,
    value   TEXT NOT NULL,
    crc     INTEGER NOT NULL        -- checksum() of key and value
) STRICT, WITHOUT ROWID;

CREATE TABLE event (
    seq     INTEGER PRIMARY KEY,    -- 1, 2, 3, ...: rows are never changed nor deleted
    at      REAL NOT NULL,          -- unix seconds
    kind    TEXT NOT NULL,
    round   INTEGER,
    attempt INTEGER,
    client  TEXT,
    payload TEXT NOT NULL,          -- JSON object
    crc     INTEGER NOT NULL,       -- checksum() of the other columns in this order
    CHECK (kind <> 'accepted' OR (round IS NOT NULL AND attempt IS NOT NULL AND client IS NOT NULL))
) STRICT;
CREATE INDEX event_by_kind ON event (kind);
CREATE UNIQUE INDEX accepted_once ON event (round, attempt, client) WHERE kind = 'accepted';

CREATE TABLE commits (
    round   INTEGER PRIMARY KEY,
    adapter TEXT NOT NULL,          -- sha256 hex of the adapter's bytes
    crc     INTEGER NOT NULL        -- checksum() of round, adapter and the snapshot's parts with their digests
) STRICT;

CREATE TABLE blob (
    digest  TEXT PRIMARY KEY,       -- sha256 hex of content
    content BLOB NOT NULL
) STRICT;

CREATE TABLE snapshot (             -- the parts of the last two commits
    round   INTEGER NOT NULL REFERENCES commits (round),
    part    TEXT NOT NULL,
    digest  TEXT NOT NULL REFERENCES blob (digest),
    PRIMARY KEY (round, part)
) STRICT, WITHOUT ROWID;
CREATE INDEX snapshot_by_digest ON snapshot (digest);
"""


def make(path: Path, meta: Mapping[str, str]) -> None:
    """Make a journal at `path` with these entries in `meta`, whole or not at all.

    Call it only while holding the run's lock.

    Raises:
        JournalError: as `diagnosed`; `journal.old-sqlite` when Python's SQLite has no STRICT tables.
    """
    _require_sqlite()
    draft = path.with_name(f"{path.name}.new")
    with diagnosed(path):
        # Left by a process that was killed here, or by someone who removed only the main file: SQLite would take a
        # stale log for one of the new file.
        for name in (draft.name, path.name):
            for stale in (f"{name}-journal", f"{name}-wal", f"{name}-shm"):
                path.with_name(stale).unlink(missing_ok=True)
        draft.unlink(missing_ok=True)
        connection = sqlite3.connect(draft, isolation_level=None)
        try:
            connection.execute("PRAGMA synchronous = FULL")
            with transaction(connection):
                for statement in TABLES.split(";\n"):
                    connection.execute(statement)
                connection.executemany(
                    "INSERT INTO meta (key, value, crc) VALUES (?, ?, ?)",
                    ((key, value, checksum(key, value)) for key, value in meta.items()),
                )
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {SCHEMA}")
            connection.execute("PRAGMA journal_mode = WAL")  # now: a kill in the midst of it leaves only a draft
        finally:
            connection.close()
        os.replace(draft, path)
        for folder in (path.parent, path.parent.parent):  # the names of the file and of the run's folder
            _flush(folder)


def open_writable(path: Path) -> sqlite3.Connection:
    """Open for writing, check the stamp and the whole file. Call it only while holding the run's lock.

    Raises:
        JournalError: as `diagnosed`, `journal.newer`, `journal.old-sqlite`.
    """
    _require_sqlite()
    with diagnosed(path):
        connection = _checked(_uri(path, "rw"), path)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            # SQLite opens a file that it may not write as if nothing were wrong: find out now, not in a round.
            with transaction(connection):
                connection.execute(f"PRAGMA user_version = {SCHEMA}")
        except BaseException:
            connection.close()
            raise
    return connection


def open_readable(path: Path) -> sqlite3.Connection:
    """Open for reading only, also while a run writes, also on a read-only file system.

    Raises:
        JournalError: as `diagnosed`, `journal.newer`, `journal.old-sqlite`.
    """
    _require_sqlite()
    with diagnosed(path):
        try:
            return _checked(_uri(path, "ro"), path)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode in _UNFINISHED and os.access(path, os.W_OK) and os.access(path.parent, os.W_OK):
                _roll_back(path)
                return _checked(_uri(path, "ro"), path)
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_CANTOPEN or os.access(path.parent, os.W_OK):
                raise
            # WAL needs a -shm file, which cannot be made in this folder.
            log = path.with_name(f"{path.name}-wal")
            if log.exists() and log.stat().st_size:
                raise read_only(
                    path, "the run was killed, and its -wal file can only be read beside a new file"
                ) from error
        return _checked(_uri(path, "ro") + "&immutable=1", path)


_UNFINISHED = (sqlite3.SQLITE_READONLY_ROLLBACK, sqlite3.SQLITE_READONLY_RECOVERY)


def _roll_back(path: Path) -> None:
    """Let SQLite undo a transaction whose process was killed: a connection that only reads may not."""
    connection = sqlite3.connect(_uri(path, "rw"), uri=True, isolation_level=None, timeout=30)
    try:
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    finally:
        connection.close()


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of the block's statements or none."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # after some errors, e.g. a full disk, SQLite has rolled back by itself
            connection.execute("ROLLBACK")
        raise


def checksum(*values: object) -> int:
    """CRC-32 of the JSON of these values. SQLite's own check sees damaged structure, not a bit flipped in a value."""
    return zlib.crc32(json.dumps(values).encode())


def read_meta(connection: sqlite3.Connection, path: Path) -> dict[str, str]:
    """The entries that `make` was given.

    Raises:
        JournalError: `journal.corrupt`, naming the entry.
    """
    meta: dict[str, str] = {}
    for key, value, crc in connection.execute("SELECT key, value, crc FROM meta"):
        if checksum(key, value) != crc:
            raise corrupt(path, f"entry {key!r} of table meta does not match its checksum")
        meta[key] = value
    return meta


def _uri(path: Path, mode: str) -> str:
    return f"{path.absolute().as_uri()}?mode={mode}"  # as_uri escapes ?, # and %


def _checked(uri: str, path: Path) -> sqlite3.Connection:
    """A connection to what is a whole journal that this version knows."""
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=30)
    try:
        _check_stamp(connection, path)
        _check_whole(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_stamp(connection: sqlite3.Connection, path: Path) -> None:
    """The two numbers in the file's header: is it a journal, and one that this version knows?"""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (schema,) = connection.execute("PRAGMA user_version").fetchone()
    connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()  # PRAGMAs alone do not open the WAL
    if application != APPLICATION_ID or schema < 1:
        raise corrupt(path, f"it is not a fedpeft journal (application id {application}, schema {schema})")
    if schema > SCHEMA:
        raise JournalError(
            f"journal {path} has schema {schema}, written by a newer fedpeft",
            code="journal.newer",
            allowed=f"schema 1 to {SCHEMA}",
            remedy="upgrade fedpeft to the version that wrote it, or a later one",
        )


def _check_whole(connection: sqlite3.Connection, path: Path) -> None:
    """Every page, index and reference. Milliseconds per 10 MB."""
    (report,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if report != "ok":
        raise corrupt(path, report)
    dangling = connection.execute("PRAGMA foreign_key_check").fetchone()
    if dangling:
        raise corrupt(path, f"a row of table {dangling[0]} refers to a missing row of table {dangling[2]}")


def _require_sqlite() -> None:
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise JournalError(
            f"Python's SQLite is {sqlite3.sqlite_version}",
            code="journal.old-sqlite",
            allowed="SQLite 3.37 or later",
            remedy="use a newer build of Python (`python -c 'import sqlite3; print(sqlite3.sqlite_version)'`)",
        )


def _flush(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
