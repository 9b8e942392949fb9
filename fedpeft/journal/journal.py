"""One run's journal: record events, commit rounds, read both back."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock

from fedpeft.errors import JournalError
from fedpeft.journal import database
from fedpeft.journal.commits import KEPT_SNAPSHOTS, Commit, insert_commit, select_last_commit
from fedpeft.journal.diagnosis import corrupt, diagnosed, read_only
from fedpeft.journal.events import JSON, Event, EventKind, Observer
from fedpeft.journal.lock import take_lock
from fedpeft.journal.writing import Writer
from fedpeft.paths import run_argument
from fedpeft.types import ClientId

_PAGE = 512  # events fetched at a time


class Journal:
    """The event log and the commits of one run, in `FOLDER/journal.sqlite`.

    One process writes, held to it by `FOLDER/lock`; any number read. Use a journal on the thread that opened it.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp()) / "demo"
    >>> with Journal.create(folder, run="demo", config_toml="[run]") as journal:
    ...     journal.subscribe(lambda event: print(event.seq, event.kind, event.client))
    ...     _ = journal.record(EventKind.ROUND_OPENED, round=1, attempt=journal.next_attempt(1), cohort=["c00"])
    ...     _ = journal.record(EventKind.ACCEPTED, round=1, attempt=1, client=ClientId("c00"), weight=8.0)
    ...     _ = journal.commit(1, {"theta": b"bytes of the adapter"}, adapter="5e1f", accepted=1)
    1 round_opened None
    2 accepted c00
    3 committed None
    >>> with Journal.read(folder) as journal:
    ...     last = journal.last_commit()
    ...     print(last.round, journal.blob(last.snapshot["theta"]))
    1 b'bytes of the adapter'
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: FileLock | None) -> None:
        """Use `create`, `open` or `read` instead."""
        self._path = path
        self._connection: sqlite3.Connection | None = connection
        self._lock = lock  # None: read-only
        self._observers: list[Observer] = []
        self._together = False
        with self._database() as opened:
            meta = database.read_meta(opened, path)
            self._writer = Writer(opened)
        if not {"run", "config_toml"} <= meta.keys():
            raise corrupt(path, f"table meta has only {sorted(meta)}")
        self._run: str = meta["run"]
        self._config_toml: str = meta["config_toml"]

    @classmethod
    def create(cls, folder: Path, *, run: str, config_toml: str) -> Self:
        """Begin a run's journal in `folder`, which is made if it is missing, and take the run's lock.

        Args:
            folder: the run's folder, `runs/NAME`.
            run: the run's name.
            config_toml: the resolved run file, kept for `resume` and for the report.

        Raises:
            JournalError: `journal.exists`, `journal.in-use`, `journal.disk-full`, `journal.read-only`.
        """
        path = folder / database.FILE
        with diagnosed(path):
            folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            lock = take_lock(folder)
            stack.callback(lock.release)
            if path.exists():
                raise JournalError(
                    f"run folder {folder} already holds a run",
                    code="journal.exists",
                    allowed="a folder without a journal",
                    remedy=f"`fedpeft resume {run_argument(folder)}` goes on with it; or choose another name with "
                    "--set run.name=NAME, or replace it with --fresh (from Python: fresh=True)",
                )
            database.make(path, {"run": run, "config_toml": config_toml})
            return cls._writable(path, lock, stack)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Go on writing: take the run's lock, and check the schema stamp and the integrity of the whole file.

        Raises:
            JournalError: `journal.missing`, `journal.in-use`, `journal.corrupt`, `journal.newer`, `journal.read-only`,
                `journal.disk-full`.
        """
        path = _existing(folder)
        with ExitStack() as stack:
            lock = take_lock(folder)
            stack.callback(lock.release)
            return cls._writable(path, lock, stack)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """A view that cannot write and takes no lock; each call sees what the running run has made durable so far.

        Checks the whole file as `open` does.

        Raises:
            JournalError: `journal.missing`, `journal.corrupt`, `journal.newer`.
        """
        path = _existing(folder)
        with ExitStack() as stack:
            connection = database.open_readable(path)
            stack.callback(connection.close)
            journal = cls(path, connection, lock=None)
            stack.pop_all()
            return journal

    @classmethod
    def _writable(cls, path: Path, lock: FileLock, stack: ExitStack) -> Self:
        connection = database.open_writable(path)
        stack.callback(connection.close)
        journal = cls(path, connection, lock)
        stack.pop_all()  # from here on `close` lets go of both
        return journal

    @property
    def run(self) -> str:
        """The run's name."""
        return self._run

    @property
    def config_toml(self) -> str:
        """The resolved run file that the run began with, or goes on with since `extend`."""
        return self._config_toml

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self._path.parent

    def subscribe(self, observer: Observer) -> None:
        """Call `observer` with each event from now on, once it is durable."""
        self._observers.append(observer)

    def record(
        self,
        kind: EventKind,
        /,
        *,
        round: int | None = None,
        attempt: int | None = None,
        client: ClientId | None = None,
        **payload: JSON,
    ) -> Event:
        """Append one event; it is on disk when this returns, or, in a block of `together`, with the next flush.

        Raises:
            JournalError: `journal.payload` (not JSON, or not finite); `journal.counted-twice` (an update of the same
                client was accepted in this attempt before); `journal.read-only`, `journal.disk-full` and the like, and
                then nothing was written.
        """
        with self._writing() as writer:
            event = writer.append(kind, round, attempt, client, payload)
            settled = [] if self._together else writer.settle()
        self._notify(settled)
        return event

    @contextmanager
    def together(self) -> Iterator[None]:
        """Let the events of the block share flushes of the disk: `flush` in it, and one at its end, whatever ended it.

        For events that nobody acts upon. A process that is killed in the block loses those since the last flush; no
        observer has seen them.
        """
        if self._together:
            yield
            return
        self._together = True
        try:
            yield
        finally:
            self._together = False
            self.flush()

    def flush(self, *, every_s: float = 0.0) -> None:
        """Make what was recorded durable and tell the observers, unless that was done less than `every_s` ago.

        Raises:
            JournalError: as `record`; nothing since the last flush was written then.
        """
        if time.monotonic() - self._writer.settled_at < every_s:
            return
        with self._writing() as writer:
            settled = writer.settle()
        self._notify(settled)

    def extend(self, config_toml: str) -> None:
        """Keep the run file of a run that goes on with more rounds in place of the one that it began with.

        Raises:
            JournalError: `journal.read-only`, `journal.disk-full` and the like, and then nothing was written.
        """
        with self._writing() as writer, writer.transaction() as connection:
            connection.execute(
                "UPDATE meta SET value = ?, crc = ? WHERE key = 'config_toml'",
                (config_toml, database.checksum("config_toml", config_toml)),
            )
        self._config_toml = config_toml

    def next_attempt(self, round: int) -> int:
        """The number for a new attempt at this round: 1 + the highest that was opened."""
        with self._database() as connection:
            (highest,) = connection.execute(
                "SELECT coalesce(max(attempt), 0) FROM event WHERE kind = ? AND round = ?",
                (EventKind.ROUND_OPENED, round),
            ).fetchone()
        return int(highest) + 1

    def commit(
        self, round: int, snapshot: Mapping[str, bytes], *, adapter: str, attempt: int | None = None, **payload: JSON
    ) -> Commit:
        """Finish a round in one transaction: the snapshot, the commit and the `committed` event, or nothing of them.

        Snapshots older than the last two commits are dropped.

        Args:
            round: the last committed round + 1. A run's first commit may be round 0 (the untrained adapter) or 1.
            snapshot: part name -> bytes; all that a resumed run needs.
            adapter: sha256 hex of the adapter's bytes.
            attempt: the attempt that succeeded.
            payload: the other keys of the `committed` event.

        Raises:
            JournalError: `journal.commit-order`, and as for `record`.
        """
        self.flush()
        with self._writing() as writer:
            with writer.transaction() as connection:
                commit = insert_commit(connection, round, snapshot, adapter=adapter)
                writer.append(EventKind.COMMITTED, round, attempt, None, {"adapter": adapter, **payload})
            settled = writer.settle()
        self._notify(settled)
        return commit

    def last_commit(self) -> Commit | None:
        """The round to go on from; None before the first commit."""
        with self._database() as connection:
            return select_last_commit(connection, self._path)

    def blob(self, digest: str) -> bytes:
        """The bytes with this sha256, checked against it.

        Raises:
            JournalError: `journal.no-blob`, `journal.corrupt`.
        """
        with self._database() as connection:
            row = connection.execute("SELECT content FROM blob WHERE digest = ?", (digest,)).fetchone()
        if row is None:
            raise JournalError(
                f"journal {self._path} has no snapshot part {digest}",
                code="journal.no-blob",
                allowed=f"the digests of the last {KEPT_SNAPSHOTS} commits",
                remedy="ask for a part of `last_commit().snapshot`",
            )
        content: bytes = row[0]
        found = hashlib.sha256(content).hexdigest()
        if found != digest:
            raise corrupt(self._path, f"snapshot part {digest} has changed: its bytes now hash to {found}")
        return content

    def events(self, kind: EventKind | None = None, *, after: int = 0) -> Iterator[Event]:
        """Events in order, those of one kind or all, from the one behind seq `after` to the last one there is now.

        Holds at most a few hundred in memory, and no lock in between.

        Raises:
            JournalError: `journal.corrupt`, naming the event.
        """
        with self._database() as connection:
            (last,) = connection.execute("SELECT coalesce(max(seq), 0) FROM event").fetchone()
        columns = "SELECT seq, at, kind, round, attempt, client, payload, crc FROM event WHERE seq > ? AND seq <= ?"
        while True:
            with self._database() as connection:
                if kind is None:
                    rows = connection.execute(f"{columns} ORDER BY seq LIMIT {_PAGE}", (after, last)).fetchall()
                else:
                    rows = connection.execute(
                        f"{columns} AND kind = ? ORDER BY seq LIMIT {_PAGE}", (after, last, kind)
                    ).fetchall()
            for row in rows:
                if kind is None and row[0] != after + 1:
                    raise corrupt(self._path, f"event {after + 1} is missing")
                after = row[0]
                yield self._event(*row)
            if len(rows) < _PAGE:
                return

    def close(self) -> None:
        """Let go of the file and of the run's lock. Closing twice is fine."""
        try:
            if self._connection is not None:
                with diagnosed(self._path):
                    self._connection.close()
        finally:
            self._connection = None
            if self._lock is not None:
                self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _event(
        self,
        seq: int,
        at: float,
        kind: str,
        round: int | None,
        attempt: int | None,
        client: ClientId | None,
        payload: str,
        crc: int,
    ) -> Event:
        if database.checksum(seq, at, kind, round, attempt, client, payload) != crc:
            raise corrupt(self._path, f"event {seq} does not match its checksum")
        return Event(seq, at, EventKind(kind), round, attempt, client, json.loads(payload))

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        if self._connection is None:
            raise JournalError(
                f"journal {self._path} is closed",
                code="journal.closed",
                remedy="open it again with Journal.open or Journal.read",
            )
        with diagnosed(self._path):
            yield self._connection

    @contextmanager
    def _writing(self) -> Iterator[Writer]:
        if self._lock is None:
            raise read_only(self._path, "it was opened with Journal.read")
        with self._database():
            yield self._writer

    def _notify(self, settled: Iterable[Event]) -> None:
        for event in settled:
            for observer in self._observers:
                observer(event)


def _existing(folder: Path) -> Path:
    path = folder / database.FILE
    if not path.is_file():
        raise JournalError(
            f"run folder {folder} holds no journal ({path} does not exist)",
            code="journal.missing",
            remedy="name the folder of a run; `fedpeft ls` lists them, `fedpeft run FILE` begins one",
        )
    return path
