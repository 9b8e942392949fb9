"""What is on disk when: the journal is flushed once for many events, and never too late."""

from __future__ import annotations

import pytest
from fake_fleet import FakeFleet, FakeRun

from fedpeft.errors import RoundError
from fedpeft.journal import EventKind, Journal
from fedpeft.server import state


def durable(run):
    """(kind, attempt, client) of all events that somebody else can read."""
    with Journal.read(run.journal.folder) as reader:
        return [(event.kind, event.attempt, event.client) for event in reader.events()]


class Watching(FakeFleet):
    """A fleet that looks at the journal's file before each of its answers."""

    def __init__(self, clients):
        super().__init__(clients)
        self.run = None
        self.at_send, self.at_receive = [], []

    def send(self, messages):
        self.at_send.append(durable(self.run))
        return super().send(messages)

    def receive(self, messages):
        self.at_receive.append(durable(self.run))
        return super().receive(messages)


@pytest.fixture
def fleet():
    return Watching(3)


def test_an_attempt_is_on_disk_before_anybody_hears_of_it(fleet, tmp_path):
    """Its number is in every frame: after a kill, another attempt must have another."""
    fleet.run = run = FakeRun(fleet, tmp_path, run__rounds=2)
    run.run()
    assert [seen[-1] for seen in fleet.at_send] == [
        (EventKind.COMMITTED, None, None),  # the hello
        (EventKind.ROUND_OPENED, 1, None),
        (EventKind.ROUND_OPENED, 1, None),
    ]


def test_replies_are_on_disk_before_the_coordinator_waits_for_more(fleet, tmp_path, monkeypatch):
    monkeypatch.setattr(state, "FLUSH_S", 0.0)
    for seconds, client in enumerate(fleet.clients):
        client.seconds = float(seconds)
    fleet.run = run = FakeRun(fleet, tmp_path, run__rounds=1)
    run.run()
    accepted = [sum(kind is EventKind.ACCEPTED for kind, *_ in seen) for seen in fleet.at_receive]
    assert sorted(set(accepted)) == [0, 1, 2]


def test_on_a_virtual_clock_many_looks_share_a_flush(fleet, tmp_path, monkeypatch):
    """No flush is due within an hour: what a greeting or a round records is on disk when it ends."""
    monkeypatch.setattr(state, "FLUSH_S", 3600.0)
    for seconds, client in enumerate(fleet.clients):
        client.seconds = float(seconds)
    fleet.run = run = FakeRun(fleet, tmp_path, run__rounds=1)
    seen = []
    run.journal.subscribe(lambda event: seen.append((event.kind, durable(run)[-1][0])))
    run.run()
    last = dict(reversed(seen))  # of each kind, what was the last event on disk when it was told first
    assert last[EventKind.HELLO] is EventKind.HELLO
    assert last[EventKind.ASKED] is EventKind.ACCEPTED
    assert last[EventKind.COMMITTED] is EventKind.COMMITTED
    assert [kind for kind, *_ in durable(run)] == [event.kind for event in run.journal.events()]


def test_a_run_that_fails_leaves_all_that_led_to_it_on_disk(fleet, tmp_path):
    for client in fleet.clients:
        client.train = lambda frame: RuntimeError("the battery is empty")
    fleet.run = run = FakeRun(fleet, tmp_path, round__attempts=2)
    with pytest.raises(RoundError):
        run.run()
    kinds = [kind for kind, *_ in durable(run)]
    assert kinds.count(EventKind.FAILED) == 6
    assert kinds.count(EventKind.ROUND_SHORT) == 2
