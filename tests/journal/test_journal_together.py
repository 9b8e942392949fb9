"""Events that share a flush: durable and told together, kept when something else goes wrong, lost whole in a kill."""

from __future__ import annotations

import pytest

from fedpeft.errors import JournalError
from fedpeft.journal import EventKind, Journal


def accept(journal, client):
    return journal.record(EventKind.ACCEPTED, round=1, attempt=1, client=client, weight=8.0)


def durable(folder):
    """The clients of all events that somebody else can read."""
    with Journal.read(folder) as reader:
        return [event.client for event in reader.events()]


def test_a_block_is_durable_and_told_at_its_end(folder, journal):
    told = []
    journal.subscribe(lambda event: told.append((event.client, durable(folder))))
    with journal.together():
        events = [accept(journal, "c00"), accept(journal, "c01")]
        assert [event.client for event in journal.events()] == ["c00", "c01"], "the writer sees its own"
        assert durable(folder) == []
        assert told == []
    assert told == [("c00", ["c00", "c01"]), ("c01", ["c00", "c01"])]
    assert [event.seq for event in events] == [1, 2]
    accept(journal, "c02")
    assert told[-1] == ("c02", ["c00", "c01", "c02"]), "outside of a block, at once again"


def test_flush_within_a_block(folder, journal):
    with journal.together():
        accept(journal, "c00")
        journal.flush()
        assert durable(folder) == ["c00"]
        accept(journal, "c01")
        journal.flush(every_s=3600.0)
        assert durable(folder) == ["c00"], "the last flush was less than an hour ago"
        journal.flush(every_s=0.0)
        assert durable(folder) == ["c00", "c01"]


def test_blocks_in_a_block_belong_to_it(folder, journal):
    with journal.together():
        with journal.together():
            accept(journal, "c00")
        assert durable(folder) == []
    assert durable(folder) == ["c00"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_what_was_recorded_before_an_error_is_kept(folder, journal, error):
    told = []
    journal.subscribe(lambda event: told.append(event.client))

    def work():
        with journal.together():
            accept(journal, "c00")
            raise error

    with pytest.raises(error):
        work()
    assert durable(folder) == told == ["c00"]


def test_a_refused_event_takes_no_other_with_it(folder, journal):
    with journal.together():
        accept(journal, "c00")
        for bad, code in (({"client": "c00"}, "journal.counted-twice"), ({"weight": float("nan")}, "journal.payload")):
            with pytest.raises(JournalError) as caught:
                journal.record(EventKind.ACCEPTED, **{"round": 1, "attempt": 1, "client": "c09", **bad})
            assert caught.value.code == code
        accept(journal, "c01")
    assert durable(folder) == ["c00", "c01"]
    assert [event.seq for event in journal.events()] == [1, 2]


def test_a_commit_makes_what_came_before_it_durable_in_order(folder, journal):
    told = []
    journal.subscribe(lambda event: told.append(event.kind))
    with journal.together():
        accept(journal, "c00")
        journal.commit(1, {"theta": b"1"}, adapter="a1")
        assert told == [EventKind.ACCEPTED, EventKind.COMMITTED]
    with Journal.read(folder) as reader:
        assert [event.kind for event in reader.events()] == told
        assert reader.last_commit().round == 1


def test_a_commit_that_is_refused_leaves_what_came_before_it(folder, journal):
    with journal.together():
        accept(journal, "c00")
        with pytest.raises(JournalError, match="commit of round 7"):
            journal.commit(7, {}, adapter="a7")
        accept(journal, "c01")
    assert durable(folder) == ["c00", "c01"]


def test_a_disk_that_fails_in_a_block_loses_it_whole_and_the_numbers_go_on(folder, journal):
    told = []
    journal.subscribe(lambda event: told.append(event.client))
    accept(journal, "c00")
    (pages,) = journal._connection.execute("PRAGMA page_count").fetchone()
    journal._connection.execute(f"PRAGMA max_page_count = {pages}")

    def work():
        with journal.together():
            for number in range(1, 2000):
                accept(journal, f"c{number}")

    with pytest.raises(JournalError) as caught:
        work()
    assert caught.value.code == "journal.disk-full"
    journal._connection.execute("PRAGMA max_page_count = 1000000")
    assert told == durable(folder)
    assert accept(journal, "again").seq == len(durable(folder)) == len(told)


def test_an_observer_may_record_too(folder, journal):
    def answer(event):
        if event.kind is EventKind.ACCEPTED:
            journal.record(EventKind.EXPORTED, path=event.client)

    journal.subscribe(answer)
    with journal.together():
        accept(journal, "c00")
        accept(journal, "c01")
    with Journal.read(folder) as reader:
        assert [event.payload.get("path") for event in reader.events()] == [None, None, "c00", "c01"]


def test_a_view_has_nothing_to_flush(folder, journal):
    with Journal.read(folder) as view, pytest.raises(JournalError) as caught:
        view.flush()
    assert caught.value.code == "journal.read-only"
