"""Bounds on a round's scalars, and robust rules: what an attacker can do among eight, in numbers."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from fake_fleet import FakeFleet, FakeRun, answer

from fedpeft.codecs.fp32 import Fp32
from fedpeft.errors import ClientFault
from fedpeft.journal import EventKind
from fedpeft.registry import build
from fedpeft.server.reading import ScalarSettings, ScalarUpdate
from fedpeft.server.scalars import ScalarStrategy, bounds
from fedpeft.strategies import FedAvg
from fedpeft.types import ClientId
from fedpeft.wire.frame import FrameKind
from fedpeft.zeroth.coordinates import Coordinates

STEPS, LR, CLIP = 20, 0.01, 1000.0
LARGE = Coordinates(4096, 1, 0, LR / 256, 1, 1)


def sending(make):
    def train(frame):
        body = Fp32().encode(np.asarray(make(frame), dtype=np.float32))
        return answer(frame, FrameKind.UPDATE, body=body, codec="fp32", weight=10.0)

    return train


def run_of(fleet, folder, settings, strategy=None, **options):
    options = {"local__steps": STEPS, "local__learning_rate": LR, **options}
    return FakeRun(fleet, folder, strategy, settings, **options)


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
