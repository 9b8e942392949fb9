"""Importances and bounds on a round's scalars, as a coordinator keeps them: late replies, restarts, attackers."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from fake_fleet import FakeFleet, FakeRun, answer

from fedpeft.codecs.fp32 import Fp32
from fedpeft.errors import ClientFault, PluginError
from fedpeft.journal import EventKind
from fedpeft.registry import build
from fedpeft.server.reading import ScalarReading, ScalarSettings, ScalarUpdate
from fedpeft.server.scalars import ScalarStrategy, bounds, with_scalars
from fedpeft.strategies import FedAvg, FedAvgM
from fedpeft.types import ClientId
from fedpeft.wire.frame import FrameKind
from fedpeft.zeroth.coordinates import Coordinates

K, STEPS, LR, CLIP = 32, 20, 0.01, 1000.0
IMPORTANCE = ScalarSettings(Coordinates(K, 3, 3, LR / 256, 1, 1, temperature=10.0), CLIP)


def sending(make):
    def train(frame):
        body = Fp32().encode(np.asarray(make(frame), dtype=np.float32))
        return answer(frame, FrameKind.UPDATE, body=body, codec="fp32", weight=10.0)

    return train


def run_of(fleet, folder, settings, strategy=None, **options):
    options = {"run__rounds": 6, "local__steps": STEPS, "local__learning_rate": LR, **options}
    return FakeRun(fleet, folder, strategy, settings, **options)


# --- importances ---


def looking(clients=3, settings=IMPORTANCE):
    """Clients that draw their directions from what they are sent, and measure g = j + 1 along direction j."""
    fleet, coordinates = FakeFleet(clients, size=settings.coordinates.length), settings.coordinates

    def measured(frame):
        (sent,) = [
            f for f in fleet.asked if (f.round, f.attempt, f.client) == (frame.round, frame.attempt, frame.client)
        ]
        start = Fp32().decode(sent.body, coordinates.length)
        _, numbers = coordinates.of_places(coordinates.drawn(frame.plan, start))
        return numbers + 1

    for client in fleet.clients:
        client.train = sending(measured)
    return fleet


def times_looked(theta, settings=IMPORTANCE):
    """How often each direction was, as the mean over the updates of each round, shape (epochs, K)."""
    moved = -theta.reshape(-1, K)[1:].astype(np.float64)
    return moved / (256 * np.arange(1, K + 1))


def test_both_sides_draw_the_same(tmp_path):
    """Had the coordinator drawn another direction for any scalar, no whole number of looks would explain the sum."""
    run = run_of(looking(), tmp_path, IMPORTANCE)
    times = 3 * times_looked(run.run())
    np.testing.assert_allclose(times, np.rint(times), atol=1e-3)
    assert np.rint(times).sum(axis=1).tolist() == [3 * 3 * STEPS, 3 * 3 * STEPS, 0]


def test_directions_of_large_scalars_are_looked_along_more_often(tmp_path):
    times = times_looked(run_of(looking(), tmp_path, IMPORTANCE).run())[0]
    assert times[K // 2 :].sum() > 2 * times[: K // 2].sum()


def test_a_new_epoch_begins_uniformly(tmp_path):
    fleet = looking()
    run_of(fleet, tmp_path, IMPORTANCE).run()
    sent = {f.round: Fp32().decode(f.body, IMPORTANCE.coordinates.length)[:K] for f in fleet.asked}
    assert [bool(sent[number].any()) for number in range(1, 7)] == [False, True, True, False, True, True]
    assert set(sent[2][sent[2] > 0]) <= {np.rint(16 * math.log2(j + 1)) + 512 for j in range(K)}


@pytest.mark.parametrize("mode", ["late", "async"])
def test_answers_to_older_versions_are_read_by_what_those_clients_drew_from(mode, tmp_path):
    fleet = looking(4)
    fleet["c03"].seconds = 25.0  # more than two rounds
    for number, client in enumerate(fleet.clients[:3]):
        client.seconds = 7.0 + number
    options = {"round__mode": "async", "round__ask": 4, "round__buffer": 2, "round__staleness": "constant"}
    if mode == "late":
        options = {"round__ask": 3, "round__over_select": 1, "round__late": "fold", "round__late_discount": 1.0}
    run = run_of(fleet, tmp_path, IMPORTANCE, run__rounds=9, **options)
    theta = run.run()
    ages = [age for *_, age in run.told(EventKind.ACCEPTED, "age")]
    assert max(ages) >= 2
    assert run.told(EventKind.REFUSED) == []
    times = 12 * times_looked(theta)  # a round is a mean of 2, 3 or 4 updates
    np.testing.assert_allclose(times, np.rint(times), atol=5e-3)
    assert np.rint(times).sum() == 12 * 9 * STEPS


def test_the_order_of_arrival_changes_nothing(tmp_path):
    thetas = []
    for seconds in ((1.0, 2.0, 3.0), (3.0, 1.0, 2.0)):
        fleet = looking()
        for client, takes in zip(fleet.clients, seconds, strict=True):
            client.seconds = takes
            client.train = sending(
                lambda frame, node=client.node: np.sin(np.arange(STEPS) * (node + 1) + frame.round) * 5
            )
        settings = ScalarSettings(IMPORTANCE.coordinates, CLIP, deviations=1.5)
        thetas.append(run_of(fleet, tmp_path / str(seconds[0]), settings).run())
    assert (thetas[0] == thetas[1]).all()


@pytest.mark.parametrize("deviations", [0.0, 2.0])
@pytest.mark.parametrize("cut", [1, 2, 3, 4])
def test_a_killed_run_goes_on_bit_by_bit(cut, deviations, tmp_path):
    settings = ScalarSettings(IMPORTANCE.coordinates, CLIP, deviations=deviations)
    whole = run_of(looking(), tmp_path / "whole", settings, FedAvgM()).run()
    first = run_of(looking(), tmp_path / "cut", settings, FedAvgM(), run__rounds=cut)
    first.run()
    first.journal.close()
    assert (run_of(looking(), tmp_path / "cut", settings, FedAvgM()).run() == whole).all()


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("fedavg", {}),
        ("fedavgm", {}),
        ("fedbuff", {}),
        ("fedadam", {"learning_rate": 400.0}),
        ("fedyogi", {"learning_rate": 400.0}),
        ("fedadagrad", {"learning_rate": 400.0}),
        ("median", {}),
        ("trimmed-mean", {}),
        ("sign-vote", {}),
        ("flower:FedMedian", {}),
    ],
)
def test_importances_are_the_same_under_every_strategy(name, params, tmp_path):
    """They are made of scalars, not of what the strategy makes of them."""
    fleet = looking()
    run_of(fleet, tmp_path, IMPORTANCE, build("strategy", name, params), run__rounds=3).run()
    sent = {f.round: Fp32().decode(f.body, IMPORTANCE.coordinates.length)[:K] for f in fleet.asked}
    plain = looking()
    run_of(plain, tmp_path / "plain", IMPORTANCE, run__rounds=3).run()
    for frame in plain.asked:
        assert (Fp32().decode(frame.body, IMPORTANCE.coordinates.length)[:K] == sent[frame.round]).all()


def test_what_no_plan_can_name_any_more_is_forgotten():
    reading = ScalarReading("fp32", ScalarSettings(IMPORTANCE.coordinates, CLIP, digest=lambda vector: "ab" * 32))
    for version in range(50):
        reading.published(version, np.full(IMPORTANCE.coordinates.length, version, dtype=np.float32), {3, version - 1})
    assert set(reading._importances) == set(reading._fingerprints) == {3, 48, 49}
    assert (reading._importances[3] == 3).all()


def test_a_state_of_another_strategy_is_refused():
    subject = ScalarStrategy(FedAvg(), IMPORTANCE)
    with pytest.raises(PluginError, match="cannot go on from a saved state"):
        subject.restore({"v": np.zeros(3, dtype=np.float32)})
    with pytest.raises(PluginError, match="cannot go on from a saved state"):
        subject.restore({"zeroth.rounds": np.array([3])})


def test_a_plain_run_has_its_strategy_as_it_is():
    rule, plain = FedAvg(), Coordinates(K, 1, 0, LR / 256, 1, 1)
    assert with_scalars(rule, ScalarSettings(plain, CLIP)) is rule


# --- bounds ---

LARGE = Coordinates(4096, 1, 0, LR / 256, 1, 1)


def scalars_of(node, number):
    return np.random.default_rng([node, number]).normal(0, 5, STEPS).astype(np.float32)


def attacked(folder, deviations, bad=True, rounds=1):
    """Eight clients, of whom the last sends ± the largest number that is allowed."""
    fleet = FakeFleet(8, size=LARGE.length)
    for client in fleet.clients:
        client.train = sending(lambda frame, node=client.node: scalars_of(node, frame.round))
    if bad:
        fleet["c07"].train = sending(lambda frame: CLIP * (-1.0) ** np.arange(STEPS))
    settings = ScalarSettings(LARGE, CLIP, deviations=deviations)
    run = run_of(fleet, folder, settings, run__rounds=rounds)
    return run, run.run()


def test_an_attacker_moves_the_model_no_further_than_an_honest_client_could(tmp_path):
    places = {node: LARGE.draw(1, f"c{node:02d}", STEPS) for node in range(8)}
    alone = np.setdiff1d(places[7], np.concatenate([places[node] for node in range(7)]))
    times = np.bincount(places[7], minlength=LARGE.length)[alone]
    assert len(alone) > STEPS / 2
    largest = max(np.abs(scalars_of(node, 1)).max() for node in range(7))
    _, honest = attacked(tmp_path / "honest", 0.0, bad=False)
    _, plain = attacked(tmp_path / "plain", 0.0)
    _, bounded = attacked(tmp_path / "bounded", 2.5)
    assert (np.abs(plain[alone]) >= 256 * CLIP / 8 * (times % 2)).all()  # what ± cancels aside
    assert (np.abs(bounded[alone]) <= 256 * largest / 8 * times).all()
    assert np.linalg.norm(plain - honest) > 30 * np.linalg.norm(bounded - honest)
    assert np.linalg.norm(bounded) < 1.5 * np.linalg.norm(honest)


def test_whoever_is_mostly_beyond_is_named_in_the_commit(tmp_path):
    run, _ = attacked(tmp_path, 3.0, rounds=3)
    commits = [event.payload.get("outlying") for event in run.journal.events(EventKind.COMMITTED)]
    assert commits == [None, ["c07"], ["c07"], ["c07"]]
    run, _ = attacked(tmp_path / "honest", 3.0, bad=False)
    assert all("outlying" not in event.payload for event in run.journal.events(EventKind.COMMITTED))


def test_bounds_are_the_median_and_the_median_deviation_of_all_replies():
    pooled = [np.array([1.0, 2.0, 3.0], dtype=np.float32), np.array([5.0, 100.0], dtype=np.float32)]
    assert bounds(pooled, 2.0) == (3.0 - 2 * 2.0, 3.0 + 2 * 2.0)  # |g − 3| = 2, 1, 0, 2, 97
    assert bounds([np.array([0.0, 0.0, 0.0, 7.0], dtype=np.float32)], 3.0) == (-math.inf, math.inf)


def test_bounds_wide_enough_change_no_bit(tmp_path):
    _, plain = attacked(tmp_path / "plain", 0.0, bad=False)
    _, wide = attacked(tmp_path / "wide", 1e6, bad=False)
    assert (plain == wide).all()


@pytest.mark.parametrize(("name", "safe"), [("fedavg", False), ("median", True), ("trimmed-mean", True)])
def test_robust_rules_leave_every_direction_between_two_honest_clients(name, safe, tmp_path):
    """All look along the same; one of eight sends ± the largest number that is allowed."""
    shared = replace(LARGE, shared=True)
    fleet = FakeFleet(8, size=LARGE.length)
    for client in fleet.clients:
        client.train = sending(lambda frame, node=client.node: scalars_of(node, frame.round))
    fleet["c07"].train = sending(lambda frame: CLIP * (-1.0) ** np.arange(STEPS))
    settings = ScalarSettings(shared, CLIP)
    theta = run_of(fleet, tmp_path, settings, build("strategy", name, {}), run__rounds=1).run()
    places = shared.draw(1, "", STEPS)
    honest = np.array([shared.moved(places, scalars_of(node, 1), LR) for node in range(7)])
    assert ((honest.min(0) <= theta) & (theta <= honest.max(0))).all() == safe
    assert np.count_nonzero(theta) == len(set(places))


class Picky(FedAvg):
    """Takes no delta of more than so many units in all."""

    most = 1000.0

    def accept(self, update, weight):
        if np.abs(update.delta).sum() > self.most:
            raise ClientFault(f"client {update.client}: too much", code="test.picky")
        super().accept(update, weight)


def update_of(client, scalars, places):
    scalars, places = np.array(scalars, dtype=np.float32), np.array(places)
    delta = LARGE.moved(places, scalars, LR)
    return ScalarUpdate(ClientId(client), 1, delta, 1.0, places=places, scalars=scalars, learning_rate=LR)


def test_what_the_strategy_cannot_take_is_refused_as_it_comes():
    subject = ScalarStrategy(Picky(), ScalarSettings(LARGE, CLIP, deviations=2.0))
    subject.begin(np.zeros(LARGE.length, dtype=np.float32))
    with pytest.raises(ClientFault, match="client c00: too much"):
        subject.accept(update_of("c00", [50.0], [3]), 1.0)
    assert (subject.finish() == 0).all()


def test_what_it_cannot_take_once_it_is_bounded_costs_that_client_alone():
    """Three times 3 and once −9 along one direction cancel; within −2.7 and 4.5 they no longer do."""
    subject = ScalarStrategy(Picky(), ScalarSettings(LARGE, CLIP, deviations=2.0))
    subject.inner.most = 500.0
    subject.begin(np.zeros(LARGE.length, dtype=np.float32))
    subject.accept(update_of("c00", [3.0, -9.0, 3.0, 3.0], [7, 7, 7, 7]), 1.0)
    for client in ("c01", "c02", "c03"):
        subject.accept(update_of(client, [0.9, 1.0, -1.0, -0.9], [10, 11, 10, 11]), 1.0)
    after = subject.finish()
    assert subject.outlying == ["c00"]
    assert after[7] == 0
    assert after[[10, 11]].any()
