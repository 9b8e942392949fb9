"""Recording, committing, reading back: what the coordinator relies on."""

from __future__ import annotations

import doctest
import hashlib
import sqlite3
import time

import numpy as np
import pytest

import fedpeft.journal.journal
from fedpeft.errors import JournalError
from fedpeft.journal import EventKind, Journal
from fedpeft.journal.database import FILE


def accept(journal, client, *, round=1, attempt=1):
    return journal.record(EventKind.ACCEPTED, round=round, attempt=attempt, client=client, weight=8.0, bytes=100)


def rows(folder, query):
    with sqlite3.connect(folder / FILE) as connection:
        found = connection.execute(query).fetchall()
    connection.close()
    return found


def test_the_docstring_runs():
    outcome = doctest.testmod(fedpeft.journal.journal)
    assert outcome.attempted > 0
    assert outcome.failed == 0


def test_events_come_back_as_recorded_after_reopening(folder, journal):
    before = time.time()
    recorded = [
        journal.record(EventKind.RUN_STARTED, version="0.1.0", resumed=False),
        journal.record(EventKind.ROUND_OPENED, round=1, attempt=1, cohort=("c00", "c01")),
        accept(journal, "c00"),
        journal.record(
            EventKind.REFUSED, round=1, attempt=1, client="<b>c01\x00é", code="guard.norm", reason="…", bytes=7
        ),
    ]
    journal.close()
    with Journal.open(folder) as again:
        assert list(again.events()) == recorded
        assert (again.run, again.config_toml, again.folder) == ("demo", "[run]\nrounds = 3\n", folder)
    assert [event.seq for event in recorded] == [1, 2, 3, 4]
    assert recorded[1].payload == {"cohort": ["c00", "c01"]}
    assert all(before - 1 <= event.at <= time.time() for event in recorded)


def test_events_by_kind_and_after_a_seq_across_pages(journal, monkeypatch):
    monkeypatch.setattr(fedpeft.journal.journal, "_PAGE", 8)
    for number in range(40):  # five full pages: the last one is not short
        journal.record(EventKind.HELLO if number % 2 else EventKind.FAILED, client=f"c{number}")
    assert [event.seq for event in journal.events()] == list(range(1, 41))
    assert [event.seq for event in journal.events(after=38)] == [39, 40]
    assert [event.seq for event in journal.events(EventKind.HELLO, after=2)] == list(range(4, 41, 2))
    assert list(journal.events(EventKind.EXPORTED)) == []


def test_numbers_that_only_equal_an_integer(journal):
    journal.record(EventKind.ROUND_OPENED, round=np.int64(1), attempt=True, cohort=[])
    journal.commit(np.int64(1), {}, adapter="a1")
    for refused in (1.0, "1", 2**70):
        with pytest.raises(JournalError, match="round = ") as caught:
            journal.record(EventKind.ROUND_OPENED, round=refused, attempt=1, cohort=[])
        assert caught.value.code == "journal.payload"
    with pytest.raises(TypeError):
        journal.commit(2.0, {}, adapter="a2")
    assert [(event.round, event.attempt) for event in journal.events()] == [(1, 1), (1, None)]
    assert journal.last_commit().round == 1


def test_recording_while_reading_ends(journal):
    journal.record(EventKind.HELLO, client="c00")
    for event in journal.events():
        journal.record(EventKind.HELLO, client=event.client)
    assert len(list(journal.events())) == 2


def test_observers_see_each_event_once_it_is_durable(folder, journal):
    seen = []

    def look(event):
        with Journal.read(folder) as reader:
            seen.append((event, list(reader.events())[-1], reader.last_commit()))

    journal.subscribe(look)
    event = accept(journal, "c00")
    commit = journal.commit(1, {"theta": b"1"}, adapter="a1", accepted=1)
    assert [(told, read) for told, read, _ in seen] == [(event, event), (seen[1][1], seen[1][1])]
    assert seen[1][0].kind == EventKind.COMMITTED
    assert [last for *_, last in seen] == [None, commit]


def test_an_observer_that_raises_does_not_undo_the_event(folder, journal):
    def raises(event):
        raise RuntimeError("the bar broke")

    journal.subscribe(raises)
    with pytest.raises(RuntimeError, match="the bar broke"):
        accept(journal, "c00")
    assert [event.client for event in journal.events()] == ["c00"]


def test_an_update_is_counted_once(journal):
    accept(journal, "c00")
    accept(journal, "c01")
    accept(journal, "c00", attempt=2)
    accept(journal, "c00", round=2)
    with pytest.raises(JournalError, match=r"client c00.*round 1, attempt 1") as caught:
        accept(journal, "c00")
    assert caught.value.code == "journal.counted-twice"
    journal.record(EventKind.REFUSED, round=1, attempt=1, client="c00", code="x", reason="y", bytes=1)
    assert [event.seq for event in journal.events()] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("missing", ["round", "attempt", "client"])
def test_an_accepted_update_says_whose_it_is(journal, missing):
    scope = {"round": 1, "attempt": 1, "client": "c00"}
    del scope[missing]
    with pytest.raises(JournalError) as caught:
        journal.record(EventKind.ACCEPTED, **scope, weight=1.0)
    assert caught.value.code == "journal.payload"
    assert list(journal.events()) == []


def test_a_payload_that_cannot_be_kept_leaves_nothing(journal):
    with pytest.raises(JournalError, match="loss = nan"):
        journal.commit(1, {"theta": b"1"}, adapter="a1", loss=float("nan"))
    assert journal.last_commit() is None
    assert list(journal.events()) == []
    assert rows(journal.folder, "SELECT count(*) FROM blob") == [(0,)]


def test_attempts_count_up_per_round_and_survive(folder, journal):
    assert journal.next_attempt(1) == 1
    journal.record(EventKind.ROUND_OPENED, round=1, attempt=1, cohort=[])
    journal.record(EventKind.ROUND_OPENED, round=1, attempt=2, cohort=[])
    journal.record(EventKind.ROUND_SHORT, round=1, attempt=9, accepted=0, needed=1)
    journal.close()
    with Journal.open(folder) as again:
        assert again.next_attempt(1) == 3
        assert again.next_attempt(2) == 1


def test_a_commit_comes_back_whole(folder, journal):
    parts = {"theta": b"\x00\x01" * 50_000, "strategy": b"", "scheduler": b"s"}
    commit = journal.commit(1, parts, adapter="a1", attempt=2, accepted=5, frame_up=10)
    journal.close()
    with Journal.read(folder) as again:
        assert again.last_commit() == commit
        assert {part: again.blob(digest) for part, digest in commit.snapshot.items()} == parts
        (event,) = again.events(EventKind.COMMITTED)
    assert commit.snapshot["scheduler"] == hashlib.sha256(b"s").hexdigest()
    assert (event.round, event.attempt) == (1, 2)
    assert event.payload == {"adapter": "a1", "accepted": 5, "frame_up": 10}


def test_a_commit_without_a_snapshot_is_a_commit(journal):
    assert journal.commit(1, {}, adapter="a1") == journal.last_commit()


@pytest.mark.parametrize("first", [0, 1])
def test_rounds_are_committed_once_each_in_order(journal, first):
    journal.commit(first, {"theta": b"x"}, adapter="a")
    for wrong in (first - 1, first, first + 2):
        with pytest.raises(JournalError, match=f"round {wrong} after round {first}") as caught:
            journal.commit(wrong, {"theta": b"never"}, adapter="b")
        assert caught.value.code == "journal.commit-order"
        assert caught.value.allowed == f"round {first + 1}"
    journal.commit(first + 1, {"theta": b"y"}, adapter="c")
    assert [event.payload["adapter"] for event in journal.events()] == ["a", "c"]
    assert rows(journal.folder, "SELECT count(*) FROM blob") == [(2,)]


@pytest.mark.parametrize("first", [-1, 2])
def test_the_first_commit_is_round_0_or_1(journal, first):
    with pytest.raises(JournalError, match=f"round {first} after no commit"):
        journal.commit(first, {}, adapter="a")


def test_snapshots_of_the_last_two_commits_are_kept_and_shared_parts_once(folder, journal):
    digests = []
    for round in range(1, 5):
        commit = journal.commit(round, {"theta": b"%d" % round, "constant": b"same", "copy": b"same"}, adapter="a")
        digests.append(commit.snapshot["theta"])
    assert journal.blob(digests[2]) == b"3"
    assert journal.blob(digests[3]) == b"4"
    assert journal.blob(commit.snapshot["constant"]) == b"same"
    assert rows(folder, "SELECT count(*) FROM blob") == [(3,)]
    with pytest.raises(JournalError) as caught:
        journal.blob(digests[1])
    assert caught.value.code == "journal.no-blob"
    assert len(list(journal.events(EventKind.COMMITTED))) == 4


def test_the_file_does_not_grow_with_the_number_of_commits(folder, journal):
    for round in range(1, 41):
        journal.commit(round, {"theta": round.to_bytes(1, "big") * 100_000}, adapter="a")
    journal.close()
    assert (folder / FILE).stat().st_size < 600_000


def test_a_reader_sees_a_running_run_and_cannot_write(folder, journal):
    with Journal.read(folder) as reader:
        assert list(reader.events()) == []
        accept(journal, "c00")
        commit = journal.commit(1, {"theta": b"1"}, adapter="a1")
        assert [event.seq for event in reader.events()] == [1, 2]
        assert reader.last_commit() == commit
        for write in (
            lambda: reader.record(EventKind.HELLO, client="c00"),
            lambda: reader.commit(2, {}, adapter="a2"),
        ):
            with pytest.raises(JournalError, match=r"Journal\.read") as caught:
                write()
            assert caught.value.code == "journal.read-only"
    accept(journal, "c01")


def test_a_closed_journal_says_so(journal):
    journal.close()
    journal.close()
    with pytest.raises(JournalError) as caught:
        journal.record(EventKind.HELLO, client="c00")
    assert caught.value.code == "journal.closed"
