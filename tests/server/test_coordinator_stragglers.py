"""Devices slower than every deadline: a round never waits for them for ever, and they never starve a run.

In Flower's own loop a straggler beyond the timeout is asked again each round, still computes an old one, and every
round ends with no reply and no error. Here busy clients are left alone, and what they send is late by rule.
"""

from __future__ import annotations

import numpy as np
import pytest
from fake_fleet import FakeFleet, FakeRun, delta_of

from fedpeft.errors import RoundError
from fedpeft.journal import EventKind
from fedpeft.report.history import read_history
from fedpeft.server.inflight import Asked, InFlight
from fedpeft.strategies import FedAvg


def test_late_drop_forgets(tmp_path):
    fleet = FakeFleet(3)
    fleet["c02"].seconds = 15.0
    run = FakeRun(fleet, tmp_path, run__rounds=3, round__deadline_s=10.0)
    for client in ("c00", "c01"):
        fleet[client].seconds = 9.0
    theta = run.run()
    late = run.told(EventKind.LATE, "rule", "age")
    assert late[0] == (2, "c02", "drop", 1)
    assert "c02" not in [client for _, client in run.told(EventKind.ACCEPTED)]
    expected = sum((delta_of(0, n).astype(np.float64) + delta_of(1, n)) / 2 for n in (1, 2, 3))
    np.testing.assert_allclose(theta, expected, atol=1e-6)


def test_late_fold_discounts_by_age_and_folds_once(tmp_path):
    fleet = FakeFleet(3)
    fleet["c02"].seconds = lambda frame: 25.0 if frame.round == 1 else float("inf")
    fleet.delivered_twice = True
    run = FakeRun(fleet, tmp_path, run__rounds=4, round__deadline_s=10.0, round__late="fold", round__late_discount=0.5)
    for client in ("c00", "c01"):
        fleet[client].seconds = 9.0
    theta = run.run()
    assert run.told(EventKind.LATE, "rule", "age") == [(3, "c02", "fold", 2)]
    assert [(n, c) for n, c in run.told(EventKind.ACCEPTED) if c == "c02"] == [(1, "c02")]
    expected = np.zeros(64)
    for number in (1, 2, 3, 4):
        deltas, weights = [delta_of(0, number), delta_of(1, number)], [10.0, 10.0]
        if number == 3:  # two rounds late: a quarter of its weight
            deltas.append(delta_of(2, 1))
            weights.append(2.5)
        expected += np.average(np.array(deltas, dtype=np.float64), axis=0, weights=weights)
    np.testing.assert_allclose(theta, expected, atol=1e-6)


@pytest.mark.parametrize("late", ["drop", "fold"])
def test_one_straggler_never_starves_the_others(tmp_path, late):
    fleet = FakeFleet(3)
    fleet["c02"].seconds = 80.0  # eight deadlines
    run = FakeRun(fleet, tmp_path, run__rounds=30, round__deadline_s=10.0, round__late=late)
    run.run()
    assert run.journal.last_commit().round == 30
    by = [client for _, client in run.told(EventKind.ACCEPTED)]
    assert by.count("c00") == by.count("c01") == 30


def test_a_straggler_slower_than_every_deadline_gets_its_say_with_fold(tmp_path):
    fleet = FakeFleet(3)
    fleet["c02"].seconds = 80.0  # beyond the patience of three deadlines, which therefore grows
    for client in ("c00", "c01"):
        fleet[client].seconds = 9.0
    run = FakeRun(fleet, tmp_path, run__rounds=40, round__deadline_s=10.0, round__late="fold")
    run.run()
    assert "c02" in [client for _, client in run.told(EventKind.ACCEPTED)]


def test_all_slower_than_the_deadline_still_finish_with_fold(tmp_path):
    """Flower's livelock: its loop aggregates nothing, round after round, and says nothing."""
    fleet = FakeFleet(2)
    for client in fleet.clients:
        client.seconds = 14.0
    run = FakeRun(fleet, tmp_path, run__rounds=5, round__deadline_s=8.0, round__late="fold")
    run.run()
    assert run.journal.last_commit().round == 5
    accepted = run.told(EventKind.ACCEPTED)
    assert sorted(accepted) == sorted(set(accepted)), "each client counts once a round"


def test_all_slower_than_the_deadline_is_a_named_error_with_drop(tmp_path):
    fleet = FakeFleet(2)
    for client in fleet.clients:
        client.seconds = 14.0
    run = FakeRun(fleet, tmp_path, run__rounds=5, round__deadline_s=8.0, round__attempts=3)
    with pytest.raises(RoundError, match="no reply within 8 s"):
        run.run()
    assert fleet.clock.now() > 2 * 8, "attempts take time: they are not used up at once while everybody is busy"


def test_an_attempt_waits_for_busy_clients_before_it_gives_up(tmp_path):
    """Too few are free right after a short attempt; a moment later they are."""
    fleet = FakeFleet(3)
    for client in fleet.clients:
        client.seconds = lambda frame: 12.0 if frame.attempt == 1 else 1.0
    run = FakeRun(fleet, tmp_path, run__rounds=1, round__deadline_s=10.0, round__min_replies=3, round__attempts=2)
    run.run()
    assert [n for n, _ in run.told(EventKind.ACCEPTED)] == [1, 1, 1]
    ((*_, seconds),) = run.told(EventKind.ROUND_SHORT, "seconds")
    assert seconds == 10.0
    rounds = read_history(list(run.journal.events())).rounds
    assert sum(row.seconds for row in rounds) == fleet.clock.now(), "no second of the run is missing"


def test_a_late_reply_of_an_earlier_attempt_counts_in_full_and_its_client_is_not_asked_twice(tmp_path):
    fleet = FakeFleet(2)
    for client in fleet.clients:
        client.seconds = lambda frame: 12.0 if frame.attempt == 1 else 1.0
    run = FakeRun(fleet, tmp_path, run__rounds=1, round__deadline_s=10.0, round__min_replies=2, round__late="fold")
    theta = run.run()
    expected = (delta_of(0, 1).astype(np.float64) + delta_of(1, 1)) / 2
    np.testing.assert_allclose(theta, expected, atol=1e-6)
    assert {age for *_, age in run.told(EventKind.LATE, "age")} == {0}
    assert len(run.told(EventKind.ACCEPTED)) == 2


def test_what_arrived_while_the_coordinator_was_busy_is_taken_before_its_client_is_given_up(tmp_path):
    fleet = FakeFleet(3)
    fleet["c02"].seconds = 25.0  # late, within the patience of three deadlines

    class Busy(FedAvg):
        def finish(self):
            fleet.clock.sleep(100.0)  # as a long evaluation on the test set
            return super().finish()

    run = FakeRun(fleet, tmp_path, Busy(), run__rounds=3, round__deadline_s=10.0, round__late="fold")
    run.run()
    assert run.told(EventKind.LATE, "rule", "age") == [(2, "c02", "fold", 1)]
    assert (1, "c02") in run.told(EventKind.ACCEPTED)


def test_a_device_that_went_silent_is_asked_again_after_a_while(tmp_path):
    fleet = FakeFleet(2)
    fleet["c01"].seconds = lambda frame: float("inf") if frame.round == 1 else 9.0
    fleet["c00"].seconds = 9.0
    run = FakeRun(fleet, tmp_path, run__rounds=8, round__deadline_s=10.0)
    run.run()
    rounds = [n for n, client in run.told(EventKind.ACCEPTED) if client == "c01"]
    assert rounds
    assert min(rounds) >= 4, "not before three deadlines have passed"


def test_patience_doubles_each_time_and_a_reply_resets_it():
    table = InFlight()
    ask = lambda now: Asked("c00", "train", 1, 1, now)  # noqa: E731
    table.add("m1", ask(0.0))
    assert table.give_up(30.0, 30.0) == []
    assert [a.client for a in table.give_up(31.0, 30.0)] == ["c00"]
    assert table.busy() == set()
    assert table.pop("m1") is None, "what was given up is unknown"
    table.add("m2", ask(31.0))
    assert table.give_up(31.0 + 60.0, 30.0) == []
    assert table.give_up(31.0 + 61.0, 30.0)
    table.add("m3", ask(100.0))
    assert table.pop("m3") is not None
    assert table.pop("m3") is None, "answered once"
    table.add("m4", ask(200.0))
    assert table.give_up(231.0, 30.0)
