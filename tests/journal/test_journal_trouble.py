"""Each way in which a journal cannot be used is a named error, and what was committed is still there afterwards."""

from __future__ import annotations

import os
import random
import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedpeft.errors import JournalError
from fedpeft.journal import EventKind, Journal, database
from fedpeft.journal.lock import take_lock

OPENERS = [Journal.open, Journal.read]
openers = pytest.mark.parametrize("opener", OPENERS, ids=["open", "read"])


def code_of(action):
    with pytest.raises(JournalError) as caught:
        action()
    assert caught.value.remedy
    return caught.value.code


def create(folder):
    return Journal.create(folder, run="demo", config_toml="")


def fill(folder, rounds=3):
    """A closed journal of some rounds; its bytes are returned."""
    with create(folder) as journal:
        for round in range(1, rounds + 1):
            for client in range(10):
                journal.record(EventKind.ACCEPTED, round=round, attempt=1, client=f"c{client:02}", weight=3.0)
            journal.commit(round, {"theta": bytes([round]) * 9000, "strategy": b"state"}, adapter=f"a{round}")
    return (folder / database.FILE).read_bytes()


def everything(opener, folder):
    with opener(folder) as journal:
        commit = journal.last_commit()
        parts = {part: journal.blob(digest) for part, digest in commit.snapshot.items()}
        return journal.run, journal.config_toml, commit, parts, list(journal.events())


# Missing, existing, in use


@openers
def test_a_missing_journal(opener, folder):
    assert code_of(lambda: opener(folder)) == "journal.missing"
    assert not folder.exists()


def test_an_existing_run_is_not_written_over(folder, journal):
    journal.record(EventKind.HELLO, client="c00")
    journal.close()
    with pytest.raises(JournalError, match=f"fedpeft resume {re.escape(str(folder))}") as caught:
        create(folder)  # which does not lie under ./runs
    assert caught.value.code == "journal.exists"
    assert "--fresh" in (caught.value.remedy or "")
    with Journal.open(folder) as again:
        assert len(list(again.events())) == 1


def test_one_writer_per_run(folder, journal):
    assert code_of(lambda: Journal.open(folder)) == "journal.in-use"
    assert code_of(lambda: create(folder)) == "journal.in-use"
    journal.close()
    Journal.open(folder).close()


def test_a_look_at_the_lock_does_not_turn_a_writer_away(folder, journal):
    journal.close()
    looking = take_lock(folder)
    threading.Timer(0.05, looking.release).start()
    Journal.open(folder).close()


def test_a_writer_that_fails_to_open_lets_go_of_the_lock(folder):
    content = fill(folder)
    (folder / database.FILE).write_bytes(b"x" * 5000)
    assert code_of(lambda: Journal.open(folder)) == "journal.corrupt"
    (folder / database.FILE).write_bytes(content)
    Journal.open(folder).close()


def test_another_program_that_locks_the_database(folder, journal):
    journal.close()
    with Journal.open(folder) as again:
        again._connection.execute("PRAGMA busy_timeout = 0")
        other = sqlite3.connect(folder / database.FILE, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        assert code_of(lambda: again.record(EventKind.HELLO, client="c00")) == "journal.in-use"
        other.execute("ROLLBACK")
        other.close()
        assert again.record(EventKind.HELLO, client="c00").seq == 1


# A creation that was cut short


def test_a_creation_that_dies_leaves_nothing_in_the_way(folder, monkeypatch):
    def dies(source, target):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", dies)
        with pytest.raises(KeyboardInterrupt):
            create(folder)
    assert code_of(lambda: Journal.read(folder)) == "journal.missing"
    create(folder).close()


KILLED_WHILE_IT_WRITES = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA journal_mode = DELETE")
connection.execute("PRAGMA cache_size = 1")
connection.execute("BEGIN IMMEDIATE")
connection.execute("CREATE TABLE half (content BLOB)")
connection.executemany("INSERT INTO half VALUES (randomblob(4000))", [()] * 200)
os._exit(9)
"""


@pytest.mark.parametrize("look", [Journal.read, Journal.open])
def test_what_a_kill_left_half_written_is_undone_by_whoever_opens_it(folder, look):
    """A rollback journal, as older versions left when they were killed in the midst of turning to WAL."""
    Journal.create(folder, run="demo", config_toml="").close()
    file = folder / database.FILE
    assert subprocess.run([sys.executable, "-c", KILLED_WHILE_IT_WRITES, str(file)], check=False).returncode == 9
    assert file.with_name(f"{file.name}-journal").stat().st_size > 0
    with look(folder) as journal:
        assert journal.run == "demo"
    connection = sqlite3.connect(file)
    assert "half" not in [name for (name,) in connection.execute("SELECT name FROM sqlite_schema")]
    connection.close()


def test_a_new_journal_never_changes_its_mode_in_place(folder):
    with Journal.create(folder, run="demo", config_toml=""):
        pass
    connection = sqlite3.connect(folder / database.FILE)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()
    path = folder.parent / "made" / database.FILE
    path.parent.mkdir()
    database.make(path, {"run": "x"})
    assert path.read_bytes()[18:20] == b"\x02\x02", "the header of a file in WAL mode"
    assert [item.name for item in path.parent.iterdir()] == [database.FILE]


def test_the_log_of_a_removed_journal_is_not_taken_for_the_new_ones(folder):
    with create(folder) as journal:
        journal.commit(1, {"theta": b"old"}, adapter="old")
        log = (folder / f"{database.FILE}-wal").read_bytes()
    (folder / database.FILE).unlink()
    (folder / f"{database.FILE}-wal").write_bytes(log)
    with create(folder) as journal:
        assert journal.last_commit() is None
        assert list(journal.events()) == []


# Not a journal, damaged, from the future


@openers
@pytest.mark.parametrize("content", [b"", b"plain text, long enough to be looked at" * 50], ids=["empty", "text"])
def test_a_file_that_is_no_database(opener, folder, content):
    folder.mkdir(parents=True)
    (folder / database.FILE).write_bytes(content)
    assert code_of(lambda: opener(folder)) == "journal.corrupt"


@openers
def test_somebody_elses_database(opener, folder):
    folder.mkdir(parents=True)
    other = sqlite3.connect(folder / database.FILE)
    other.execute("CREATE TABLE t (x)")
    other.close()
    with pytest.raises(JournalError, match="not a fedpeft journal") as caught:
        opener(folder)
    assert caught.value.code == "journal.corrupt"


@openers
def test_a_newer_schema(opener, folder):
    fill(folder)
    newer = sqlite3.connect(folder / database.FILE)
    newer.execute(f"PRAGMA user_version = {database.SCHEMA + 1}")
    newer.close()
    with pytest.raises(JournalError, match=f"schema {database.SCHEMA + 1}") as caught:
        opener(folder)
    assert caught.value.code == "journal.newer"


@openers
def test_an_old_sqlite(opener, folder, monkeypatch):
    fill(folder)
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 26, 0))
    assert code_of(lambda: opener(folder)) == "journal.old-sqlite"


@openers
def test_a_truncated_file(opener, folder):
    content = fill(folder)
    (folder / database.FILE).write_bytes(content[: len(content) // 2])
    assert code_of(lambda: opener(folder)) == "journal.corrupt"


@openers
@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b"\x03" * 64, b"\x03" * 63 + b"\x02", "snapshot part"),
        (b'{"weight":3.0}', b'{"weight":9.0}', "event"),
        (b"c07", b"c17", "index|event"),
    ],
    ids=["snapshot", "payload", "client"],
)
def test_changed_values_are_noticed_and_named(opener, folder, old, new, said):
    content = fill(folder)
    at = content.rindex(old)
    (folder / database.FILE).write_bytes(content[:at] + new + content[at + len(old) :])
    with pytest.raises(JournalError, match=said) as caught:
        everything(opener, folder)
    assert caught.value.code == "journal.corrupt"


@openers
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE commits SET adapter = 'a9' WHERE round = 3", "commit of round 3"),
        ("UPDATE snapshot SET part = 'other' WHERE round = 3 AND part = 'strategy'", "commit of round 3"),
        ("UPDATE meta SET value = 'rounds = 9' WHERE key = 'config_toml'", "config_toml"),
        ("DELETE FROM meta WHERE key = 'run'", "meta"),
        ("UPDATE event SET at = at + 1 WHERE seq = 4", "event 4"),
        ("DELETE FROM event WHERE seq = 4", "event 4 is missing"),
        ("DELETE FROM blob", "table snapshot refers to a missing row of table blob"),
    ],
)
def test_an_edited_table_is_noticed_and_named(opener, folder, change, said):
    fill(folder)
    editor = sqlite3.connect(folder / database.FILE)
    with editor:
        editor.execute(change)
    editor.close()
    with pytest.raises(JournalError, match=said) as caught:
        everything(opener, folder)
    assert caught.value.code == "journal.corrupt"


def test_a_flipped_bit_is_harmless_or_a_named_error(folder):
    content = fill(folder)
    expected = everything(Journal.read, folder)
    draw = random.Random(1)
    outcomes = set()
    for number in range(200):
        # Half of them in the first pages, where the table definitions are.
        at = draw.randrange(len(content) if number % 2 else 3 * 4096)
        bad = bytearray(content)
        bad[at] ^= 1 << draw.randrange(8)
        for left in folder.glob(f"{database.FILE}-*"):
            left.unlink()
        (folder / database.FILE).write_bytes(bad)
        try:
            assert everything(OPENERS[number % 4 // 2], folder) == expected, f"bit flipped in byte {at}"
            outcomes.add("harmless")
        except JournalError as error:
            outcomes.add(error.code)
    assert {"harmless", "journal.corrupt"} <= outcomes <= {"harmless", "journal.corrupt", "journal.newer"}


# No room


def test_a_full_database_loses_nothing(folder, journal):
    commit = journal.commit(1, {"theta": b"x" * 1000}, adapter="a1")
    (pages,) = journal._connection.execute("PRAGMA page_count").fetchone()
    journal._connection.execute(f"PRAGMA max_page_count = {pages + 5}")
    assert code_of(lambda: journal.commit(2, {"theta": b"y" * 200_000}, adapter="a2")) == "journal.disk-full"
    assert journal.last_commit() == commit
    journal._connection.execute("PRAGMA max_page_count = 1000000")
    journal.commit(2, {"theta": b"y" * 200_000}, adapter="a2")
    journal.close()
    assert [event.round for event in everything(Journal.open, folder)[-1]] == [1, 2]


@pytest.fixture
def mount(tmp_path) -> Iterator:
    """Mount something at a folder; skips where that is not allowed."""
    mounted: list[Path] = []

    def mount(target, *arguments):
        target.mkdir(parents=True, exist_ok=True)
        if target not in mounted:
            try:
                subprocess.run(["mount", *arguments, str(target)], check=True, capture_output=True)
            except (OSError, subprocess.CalledProcessError) as error:
                pytest.skip(f"cannot mount: {error}")
            mounted.append(target)
        else:
            subprocess.run(["mount", *arguments, str(target)], check=True, capture_output=True)

    yield mount
    for target in reversed(mounted):
        subprocess.run(["umount", "-l", str(target)], check=True)


@pytest.mark.system
def test_a_full_disk_loses_nothing(tmp_path, mount):
    disk = tmp_path / "disk"
    mount(disk, "-t", "tmpfs", "-o", "size=2m", "tmpfs")
    filler, folder = disk / "filler", disk / "demo"

    def occupy():
        with filler.open("ab", buffering=0) as file:
            try:
                while True:
                    file.write(b"\0" * 4096)
            except OSError:
                pass

    occupy()
    assert code_of(lambda: create(folder)) == "journal.disk-full"
    filler.unlink()
    with create(folder) as journal:
        journal.commit(1, {"theta": b"1" * 100_000}, adapter="a1")
        occupy()
        assert code_of(lambda: journal.commit(2, {"theta": b"2" * 300_000}, adapter="a2")) == "journal.disk-full"
        assert (
            code_of(lambda: [journal.record(EventKind.HELLO, client="c00") for _ in range(1000)]) == "journal.disk-full"
        )
        written = [event.seq for event in journal.events()]
        filler.unlink()
        assert journal.record(EventKind.HELLO, client="c01").seq == written[-1] + 1
        journal.commit(2, {"theta": b"2" * 300_000}, adapter="a2")
        occupy()
    assert code_of(lambda: Journal.open(folder)) == "journal.disk-full"
    filler.unlink()
    _, _, commit, parts, events = everything(Journal.open, folder)
    assert (commit.round, parts) == (2, {"theta": b"2" * 300_000})
    assert [event.seq for event in events] == list(range(1, written[-1] + 3))
    occupy()  # now the log is gone, and there is no room for a new one
    assert code_of(lambda: Journal.open(folder)) == "journal.disk-full"
    assert code_of(lambda: Journal.read(folder)) == "journal.disk-full"


# No permission to write


def test_a_database_that_turns_read_only(journal):
    journal.record(EventKind.HELLO, client="c00")
    journal._connection.execute("PRAGMA query_only = ON")
    assert code_of(lambda: journal.record(EventKind.HELLO, client="c01")) == "journal.read-only"
    assert code_of(lambda: journal.commit(1, {}, adapter="a1")) == "journal.read-only"
    journal._connection.execute("PRAGMA query_only = OFF")
    assert journal.record(EventKind.HELLO, client="c01").seq == 2


@pytest.mark.system
def test_a_read_only_mount_can_be_read_but_not_resumed(tmp_path, mount):
    source, view = tmp_path / "source", tmp_path / "view"
    fill(source / "clean")
    expected = everything(Journal.read, source / "clean")
    for left in (source / "clean").glob(f"{database.FILE}-*"):
        left.unlink()
    running = create(source / "killed")
    running.commit(1, {"theta": b"1"}, adapter="a1")
    copy = source / "copied-while-running"
    copy.mkdir()
    for name in (database.FILE, f"{database.FILE}-wal"):
        (copy / name).write_bytes((source / "killed" / name).read_bytes())
    running.close()
    mount(view, "--bind", str(source))
    mount(view, "-o", "remount,bind,ro")

    assert everything(Journal.read, view / "clean") == expected
    assert code_of(lambda: Journal.open(view / "clean")) == "journal.read-only"
    assert code_of(lambda: create(view / "new")) == "journal.read-only"
    assert code_of(lambda: Journal.read(view / copy.name)) == "journal.read-only"
    assert everything(Journal.read, copy)[2].adapter == "a1"
