"""Asynchronous rounds over scripted clients: who trains when, what a stale update counts, and nobody is waited for."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from fake_fleet import FakeFleet, FakeRun, delta_of, refuse

from fedpeft.errors import ConfigError, RoundError
from fedpeft.journal import EventKind
from fedpeft.server.inflight import Asked, InFlight
from fedpeft.strategies import FedAvg, FedBuff
from fedpeft.types import Incoming


def buffered(fleet, folder, strategy=None, **options):
    return FakeRun(fleet, folder, strategy, round__mode="async", **options)


def uneven_fleet():
    """c00 and c01 answer every second; c02 after 2.5 s, when two commits have been made."""
    fleet = FakeFleet(3)
    fleet["c02"].seconds = 2.5
    return fleet


def mean_of(*replies, over=None):
    """Σ w Δ / Σ w over (w, node, round); `over` replaces the denominator."""
    total = over or sum(weight for weight, *_ in replies)
    return sum(weight * delta_of(node, number).astype(np.float64) for weight, node, number in replies) / total


def commits(run, *keys):
    return [
        tuple(event.payload[key] for key in keys) for event in run.journal.events(EventKind.COMMITTED) if event.round
    ]


def test_each_commit_is_so_many_updates_weighted_by_their_staleness(tmp_path):
    run = buffered(uneven_fleet(), tmp_path, round__buffer=2, run__rounds=4)
    theta = run.run()
    old, older = 2**-0.5, 3**-0.5
    expected = (
        mean_of((1, 0, 1), (1, 1, 1))
        + mean_of((1, 0, 2), (1, 1, 2))
        + mean_of((older, 2, 1), (1, 0, 3))  # c01 answers at 3 s too, and the buffer is full
        + mean_of((old, 1, 3), (1, 0, 4))
    )
    np.testing.assert_allclose(theta, expected, atol=1e-6)
    assert commits(run, "accepted", "seconds") == [(2, 1.0)] * 4
    assert commits(run, "staleness_mean", "staleness_max") == [(0, 0), (0, 0), (1, 2), (0.5, 1)]
    assert run.told(EventKind.LATE) == []


def test_fedbuff_divides_by_what_the_updates_would_count_if_fresh(tmp_path):
    run = buffered(uneven_fleet(), tmp_path, FedBuff(), round__buffer=2, run__rounds=3)
    theta = run.run()
    fresh = mean_of((1, 0, 1), (1, 1, 1)) + mean_of((1, 0, 2), (1, 1, 2))
    np.testing.assert_allclose(theta, fresh + mean_of((3**-0.5, 2, 1), (1, 0, 3), over=2), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "weight"),
    [
        ({"round__staleness": "constant"}, 1),
        ({"round__staleness_exponent": 2.0}, 1 / 9),
        ({"round__staleness_exponent": 0.0}, 1),
        ({"round__max_staleness": 2}, 3**-0.5),
    ],
    ids=["constant", "square", "exponent-0", "just-young-enough"],
)
def test_the_staleness_weight_is_that_of_the_run_file(tmp_path, options, weight):
    run = buffered(uneven_fleet(), tmp_path, round__buffer=2, run__rounds=3, **options)
    theta = run.run()
    fresh = mean_of((1, 0, 1), (1, 1, 1)) + mean_of((1, 0, 2), (1, 1, 2))
    np.testing.assert_allclose(theta, fresh + mean_of((weight, 2, 1), (1, 0, 3)), atol=1e-6)


def test_an_update_that_is_too_old_is_dropped_by_name_and_its_client_goes_on(tmp_path):
    run = buffered(uneven_fleet(), tmp_path, round__buffer=2, run__rounds=8, round__max_staleness=1)
    run.run()
    assert run.told(EventKind.LATE, "rule", "age")[0] == (3, "c02", "drop", 2)
    assert max(stale for (stale,) in commits(run, "staleness_max")) <= 1
    assert [client for _, client in run.told(EventKind.ASKED)].count("c02") >= 2


def test_so_many_clients_are_training_at_any_time_and_none_twice_from_a_version(tmp_path):
    fleet = FakeFleet(12)
    for client in fleet.clients:
        client.seconds = 1.0 + 0.7 * client.node
    run = buffered(fleet, tmp_path, round__ask=5, round__buffer=3, run__rounds=30)
    out: dict[str, int] = {}
    most = Counter()

    def watch(event):
        if event.kind is EventKind.ASKED:
            assert event.client not in out, "asked while it was still training"
            out[event.client] = event.round
            most[len(out)] += 1
        elif event.kind is EventKind.ACCEPTED:
            assert out.pop(event.client) == event.round

    run.journal.subscribe(watch)
    run.run()
    assert max(most) == 5
    asked = run.told(EventKind.ASKED)
    assert len(asked) == len(set(asked)), "(round, client) names one piece of work"
    assert {version for *_, version in run.told(EventKind.ASKED, "version")} == set(range(30))
    assert all(version == number - 1 for number, _, version in run.told(EventKind.ASKED, "version"))
    assert commits(run, "accepted") == [(3,)] * 30


def test_a_residual_is_named_only_once_its_update_is_committed(tmp_path):
    """A client that is asked between its update's fold and the commit would compensate with a residual of the past."""
    fleet = FakeFleet(6)
    for client in fleet.clients:
        client.seconds = 0.6 + 0.5 * client.node
    run = buffered(fleet, tmp_path, round__ask=4, round__buffer=3, run__rounds=20)
    open_buffer, settled = {}, {}

    def watch(event):
        if event.kind is EventKind.ACCEPTED:
            open_buffer[event.client] = event.round
        elif event.kind is EventKind.COMMITTED:
            settled.update(open_buffer)
            open_buffer.clear()
        elif event.kind is EventKind.ASKED:
            assert event.client not in open_buffer
            frame = next(f for f in fleet.asked if (f.client, f.round) == (event.client, event.round))
            assert frame.plan.feedback == settled.get(event.client, -1)

    run.journal.subscribe(watch)
    run.run()
    assert len(settled) == 6


def test_versions_that_clients_in_training_hold_are_not_forgotten(tmp_path):
    """The downlink of a slow client refers to the version that it holds, though others have moved on."""
    run = buffered(uneven_fleet(), tmp_path, round__buffer=2, run__rounds=8, codec__down="int8")
    run.run()
    bases = [(number, base) for number, client, base in run.told(EventKind.ASKED, "base") if client == "c02"]
    assert bases == [(1, 0), (4, 0), (7, 3)], "asked in round 4 it holds version 0, in round 7 version 3"


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_all_slower_than_the_deadline_still_count(tmp_path, mode):
    """Flower's livelock: 14 s to train, 8 s of patience, 5 rounds, 2 nodes. See tests/flower/test_stock_livelock.py."""
    fleet = FakeFleet(2)
    for client in fleet.clients:
        client.seconds = 14.0
    options = {"round__late": "fold"} if mode == "sync" else {}
    run = FakeRun(fleet, tmp_path, run__rounds=5, round__deadline_s=8.0, round__mode=mode, **options)
    theta = run.run()
    assert run.journal.last_commit().round == 5
    folded = run.told(EventKind.ACCEPTED)
    assert {client for _, client in folded} == {"c00", "c01"}
    assert len(folded) >= 5
    assert np.linalg.norm(theta) > 0.1


def test_a_device_slower_than_every_patience_gets_its_say(tmp_path):
    fleet = FakeFleet(3)
    fleet["c02"].seconds = 80.0  # patience is 30 s, then 60, then 120
    for client in ("c00", "c01"):
        fleet[client].seconds = 9.0
    run = buffered(fleet, tmp_path, run__rounds=60, round__buffer=2, round__deadline_s=10.0)
    run.run()
    assert "c02" in [client for _, client in run.told(EventKind.ACCEPTED)]
    assert [client for _, client in run.told(EventKind.ABANDONED)][:2] == ["c02", "c02"]


def test_silent_devices_cost_a_deadline_at_most_and_lend_their_place(tmp_path):
    fleet = FakeFleet(6)
    for client in fleet.clients[:3]:
        client.seconds = float("inf")
    run = buffered(fleet, tmp_path, run__rounds=12, round__ask=3, round__buffer=2, round__deadline_s=10.0)
    run.run()
    assert run.journal.last_commit().round == 12
    assert max(seconds for (seconds,) in commits(run, "seconds")) <= 10.5
    assert sum(accepted == 2 for (accepted,) in commits(run, "accepted")) >= 6


def test_a_fleet_of_silence_is_a_named_error(tmp_path):
    fleet = FakeFleet(2)
    for client in fleet.clients:
        client.seconds = float("inf")
    run = buffered(fleet, tmp_path, run__rounds=3, round__deadline_s=10.0, round__attempts=2)
    with pytest.raises(RoundError, match=r"got 0 usable replies in attempt 2.*client c00: no reply to round 1"):
        run.run()


def test_a_client_that_refuses_is_not_asked_again_from_the_same_version(tmp_path):
    fleet = FakeFleet(3)
    fleet["c02"].train = lambda frame: refuse(frame, "client.test", "not today")
    run = buffered(fleet, tmp_path, run__rounds=4, round__buffer=2)
    run.run()
    refused = [number for number, client in run.told(EventKind.REFUSED)]
    assert refused == sorted(set(refused))
    assert len(refused) >= 3, "and it is asked again from the next"


def test_too_few_clients_for_the_buffer_make_a_smaller_commit(tmp_path):
    fleet = FakeFleet(3)
    fleet["c02"].train = lambda frame: refuse(frame, "client.test", "never")
    run = buffered(fleet, tmp_path, run__rounds=3, round__buffer=3)
    run.run()
    assert commits(run, "accepted") == [(2,)] * 3
    assert fleet.clock.now() < 5, "at once: nobody else could be asked"


def test_one_seed_gives_one_adapter(tmp_path):
    def once(name):
        fleet = FakeFleet(9)
        for client in fleet.clients:
            client.seconds = 0.7 + 0.45 * client.node
        run = buffered(fleet, tmp_path / name, round__ask=4, round__buffer=2, run__rounds=12)
        return run.run().tobytes(), run.told(EventKind.ASKED)

    assert once("a") == once("b")


@pytest.mark.parametrize("moment", [1, 7, 20, 33])
def test_a_killed_coordinator_goes_on_soundly_from_its_last_commit(tmp_path, moment):
    class Killed(Exception):
        pass

    def fleet():
        made = FakeFleet(6)
        for client in made.clients:
            client.seconds = 0.6 + 0.5 * client.node
        return made

    options = {"round__ask": 4, "round__buffer": 3, "run__rounds": 12}
    run = buffered(fleet(), tmp_path, **options)
    left = [moment]

    def kill(event):
        left[0] -= event.kind is EventKind.ACCEPTED
        if left[0] == 0:
            raise Killed

    run.journal.subscribe(kill)
    with pytest.raises(Killed):
        run.run()
    done = run.journal.last_commit().round
    run.journal.close()

    second = fleet()
    again = buffered(second, tmp_path, **options)
    theta = again.run()
    assert again.journal.last_commit().round == 12
    assert np.isfinite(theta).all()
    assert commits(again, "accepted") == [(3,)] * 12
    assert all(frame.round > done for frame in second.asked), "nothing of before is waited for or asked for"
    first = [frame for frame in second.asked if frame.round == done + 1]
    assert all(frame.version == done for frame in first)
    assert {frame.attempt for frame in first} <= {1, 2}


def test_what_trains_at_the_end_is_evaluated_all_the_same(tmp_path):
    fleet = uneven_fleet()
    fleet["c02"].seconds = 60.0
    run = buffered(fleet, tmp_path, round__buffer=2, run__rounds=3, evaluation__clients=True, round__deadline_s=100.0)
    run.run()
    assert sorted(client for number, client in run.told(EventKind.CLIENT_EVALUATED) if number == 3) == [
        "c00",
        "c01",
        "c02",
    ]


@pytest.mark.parametrize("tells", [True, False], ids=["the transport tells", "as it is received"])
def test_a_device_is_no_slower_because_its_reply_waits_in_a_full_buffer(tmp_path, tells):
    """Three reply at 2 s, two make a commit, the clients are evaluated for 20 s: the third took 2 s like the others."""
    fleet = FakeFleet(3)
    fleet.tells_arrival = tells
    for client in fleet.clients:
        client.seconds, client.evaluating = 2.0, 20.0
    options = {"evaluation__clients": True, "evaluation__clients_every": 1, "round__deadline_s": 100.0}
    run = buffered(fleet, tmp_path, round__buffer=2, run__rounds=3, **options)
    run.run()
    took = run.told(EventKind.ACCEPTED, "seconds", "age")
    assert took[:3] == [(1, "c00", 2.0, 0), (1, "c01", 2.0, 0), (1, "c02", 2.0, 1)]
    assert fleet.clock.now() > 40.0


def test_a_device_is_no_slower_because_nobody_looked_while_others_were_evaluated(tmp_path):
    fleet = FakeFleet(4)
    for client in fleet.clients:
        client.seconds, client.evaluating = 2.0, 20.0
    fleet["c03"].seconds = 3.7
    options = {"evaluation__clients": True, "evaluation__clients_every": 1, "round__deadline_s": 100.0}
    run = buffered(fleet, tmp_path, round__buffer=2, run__rounds=6, **options)
    run.run()
    took = {(client, seconds) for _, client, seconds in run.told(EventKind.ACCEPTED, "seconds")}
    assert took == {("c00", 2.0), ("c01", 2.0), ("c02", 2.0), ("c03", 3.7)}


def test_a_rule_that_needs_one_version_is_refused_by_name(tmp_path):
    class Cohort(FedAvg):
        asynchronous = False

    with pytest.raises(ConfigError, match="Cohort needs replies that all started from the same version"):
        buffered(FakeFleet(2), tmp_path, Cohort())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"round__mode": "async", "round__over_select": 1, "round__ask": 1}, "round.over_select = 1 contradicts"),
        ({"round__mode": "async", "round__late": "fold"}, 'round.late = "fold" contradicts'),
        ({"round__mode": "async", "round__buffer": 4}, r"round.buffer = 4, but \[\[devices\]\] has only 3 clients"),
        ({"round__mode": "async", "round__buffer": 2, "round__min_replies": 3}, "is more than round.buffer = 2"),
    ],
)
def test_what_an_asynchronous_round_cannot_do_is_a_contradiction(tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        FakeRun(FakeFleet(3), tmp_path, **options)


def test_replies_that_are_here_are_neither_asked_for_again_nor_lost():
    """A transport delivers each reply once; Flower's answers a second question with an error."""
    table = InFlight()
    for number in range(3):
        table.add(f"m{number}", Asked(f"c{number}", "train", 1, 1, float(number)))
    table.keep([Incoming("m1", b"x")])
    assert table.messages() == ["m0", "m2"]
    assert table.busy() == {"c0", "c1", "c2"}
    assert table.asked_since(1.0) == 2
    assert table.overdue(1.0) == {"c0"}
    assert table.next_kept() == Incoming("m1", b"x")
    assert table.next_kept() is None
    table.add("m3", replace(table.pop("m1"), round=4))
    assert table.versions() == {0, 3}
