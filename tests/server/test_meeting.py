"""Nodes that are not there at the start, that never answer, or that come back under another number."""

from __future__ import annotations

import math

import pytest
from fake_fleet import FakeClient, FakeFleet, FakeRun

from fedpeft.errors import RoundError
from fedpeft.journal import EventKind


class LateFleet(FakeFleet):
    """Clients appear when their time has come: `comes[node]` in seconds of the clock."""

    def __init__(self, clients: int, comes: dict[int, float]) -> None:
        super().__init__(clients)
        self.comes = comes
        self.gone: set[int] = set()

    def nodes(self):
        now = self.clock.now()
        return [node for node in super().nodes() if self.comes.get(node, 0) <= now and node not in self.gone]


class Silent(FakeClient):
    """Never answers its hello."""

    def takes(self, frame):
        return math.inf


def met(run):
    return [client for _, client in run.told(EventKind.HELLO)]


def cohorts(run):
    return [cohort for _, _, cohort in run.told(EventKind.ROUND_OPENED, "cohort")]


def test_the_first_round_waits_until_all_clients_are_there(tmp_path):
    run = FakeRun(LateFleet(3, {1: 20.0, 2: 40.0}), tmp_path, run__rounds=1, round__deadline_s=1000.0)
    run.run()
    assert cohorts(run) == [["c00", "c01", "c02"]]
    assert run.fleet.clock.now() < 45


def test_after_a_while_it_begins_with_as_many_as_a_round_asks_for(tmp_path):
    fleet = LateFleet(4, {3: math.inf})
    run = FakeRun(fleet, tmp_path, run__rounds=1, round__ask=3, round__gather_s=30.0, round__deadline_s=1000.0)
    run.run()
    assert cohorts(run) == [["c00", "c01", "c02"]]
    assert 30 <= fleet.clock.now() < 35


def test_with_fewer_it_goes_on_waiting_until_the_deadline_of_a_round(tmp_path):
    fleet = LateFleet(4, {2: math.inf, 3: math.inf})
    run = FakeRun(fleet, tmp_path, run__rounds=1, round__ask=3, round__gather_s=30.0, round__deadline_s=100.0)
    run.run()
    assert cohorts(run) == [["c00", "c01"]]
    assert 100 <= fleet.clock.now() < 105


def test_who_comes_between_rounds_takes_part_from_the_next_one_on(tmp_path):
    fleet = LateFleet(3, {2: 31.5})  # rounds take a second each, from 30 on
    run = FakeRun(fleet, tmp_path, run__rounds=9, round__ask=2, round__gather_s=30.0, round__deadline_s=1000.0)
    run.run()
    assert met(run) == ["c00", "c01", "c02"]
    assert all("c02" not in cohort for cohort in cohorts(run)[:2])
    assert any("c02" in cohort for cohort in cohorts(run)[2:])


def test_a_node_that_never_answers_is_named_and_holds_up_the_start_for_a_while_only(tmp_path):
    fleet = FakeFleet(3)
    fleet.clients[1] = Silent(1)
    run = FakeRun(fleet, tmp_path, run__rounds=2, round__ask=2, round__gather_s=5.0, round__deadline_s=1000.0)
    run.run()
    ((_, client, reason),) = run.told(EventKind.HELLO_FAILED, "reason")
    assert client == "node 1"
    assert "no reply within 5 s" in reason
    assert fleet.clock.now() < 10


def test_an_answer_that_comes_after_the_start_is_heard(tmp_path):
    fleet = FakeFleet(3)
    fleet.clients[2].takes = lambda frame: 6.5 if frame.kind.name == "HELLO" else 1.0
    run = FakeRun(fleet, tmp_path, run__rounds=9, round__ask=2, round__gather_s=5.0)
    run.run()
    assert met(run) == ["c00", "c01", "c02"]
    assert "c02" in {client for cohort in cohorts(run) for client in cohort}


def test_a_client_that_comes_back_on_another_node_replaces_the_one_that_is_gone(tmp_path):
    fleet = LateFleet(2, {})

    def leave(event):
        if event.kind is EventKind.COMMITTED and event.round == 1 and len(fleet.clients) == 2:
            fleet.gone.add(1)
            fleet.clients.append(FakeClient(2))
            fleet.clients[2].info = {"client": "c01"}

    run = FakeRun(fleet, tmp_path, run__rounds=3, round__ask=2)
    run.journal.subscribe(leave)
    run.run()
    assert met(run) == ["c00", "c01", "c01"]
    assert run.coordinator.roster.clients["c01"].node == 2
    assert run.told(EventKind.HELLO_FAILED) == []


def test_a_client_that_is_back_before_its_old_node_is_given_up_takes_its_place_when_it_is(tmp_path):
    """A SuperLink takes a node that was killed to be there for another minute."""
    fleet = LateFleet(2, {})

    def leave(event):
        if event.kind is not EventKind.COMMITTED:
            return
        if event.round == 1 and len(fleet.clients) == 2:
            fleet.clients.append(FakeClient(2))
            fleet.clients[2].info = {"client": "c01"}
        if event.round == 3:
            fleet.gone.add(1)

    run = FakeRun(fleet, tmp_path, run__rounds=5, round__ask=2)
    run.journal.subscribe(leave)
    run.run()
    assert run.told(EventKind.HELLO_FAILED, "reason") == [
        (None, "c01", "node 1 already stands for client c01; node 2 is left out")
    ]
    assert met(run) == ["c00", "c01", "c01"]
    assert run.coordinator.roster.clients["c01"].node == 2


def test_nobody_at_all_is_an_error_after_one_deadline(tmp_path):
    fleet = LateFleet(2, {0: math.inf, 1: math.inf})
    run = FakeRun(fleet, tmp_path, round__deadline_s=50.0)
    with pytest.raises(RoundError, match="no node is there") as caught:
        run.run()
    assert "start the clients' nodes" in caught.value.remedy
    assert 50 <= fleet.clock.now() < 55
