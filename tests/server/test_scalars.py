"""Importances, as a coordinator keeps them: over late replies, restarts and epochs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from fake_fleet import FakeFleet, FakeRun, answer

from fedpeft.codecs.fp32 import Fp32
from fedpeft.errors import PluginError
from fedpeft.journal import EventKind
from fedpeft.registry import build
from fedpeft.server.reading import ScalarReading, ScalarSettings, ScalarUpdate
from fedpeft.server.scalars import ScalarStrategy, with_scalars
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


def counted(*replies, rounds=1):
    """The state after so many rounds, of which the last had these replies: (client, scalar, place)."""
    subject = ScalarStrategy(FedAvg(), IMPORTANCE)
    for number in range(1, rounds + 1):
        subject.begin(np.zeros(IMPORTANCE.coordinates.length, dtype=np.float32))
        for client, scalar, place in replies if number == rounds else [("c00", 1.0, IMPORTANCE.coordinates.begin(0))]:
            scalars, places = np.array([scalar], dtype=np.float32), np.array([place])
            delta = IMPORTANCE.coordinates.moved(places, scalars, LR)
            about = {"places": places, "scalars": scalars, "learning_rate": LR}
            subject.accept(ScalarUpdate(ClientId(client), number, delta, 1.0, **about), 1.0)
        after = subject.finish()
    return subject.state(), after[:K]


def test_amplitudes_are_summed_in_the_clients_order():
    """1 + 2^-53 + 2^-53 is 1 from the left, and more from the right."""
    place = IMPORTANCE.coordinates.begin(0) + 5
    replies = [("c00", 1.0, place), ("c01", 2.0**-53, place), ("c02", 2.0**-53, place)]
    sums = [counted(*order)[0]["zeroth.sums"][5] for order in (replies, replies[::-1], replies[1:] + replies[:1])]
    assert sums == [1.0, 1.0, 1.0]
    assert 2.0**-53 + 2.0**-53 + 1.0 > 1.0


def test_scalars_of_a_closed_epoch_are_no_longer_counted():
    begin = IMPORTANCE.coordinates.begin
    state, numbers = counted(("c00", 8.0, begin(1) + 2), ("c01", 900.0, begin(0) + 9), rounds=4)
    assert state["zeroth.counts"].tolist() == [0, 0, 1] + [0] * (K - 3)
    assert numbers.tolist() == [0, 0, 16 * 3 + 512] + [0] * (K - 3)


def test_what_no_plan_can_name_any_more_is_forgotten():
    reading = ScalarReading(ScalarSettings(IMPORTANCE.coordinates, CLIP, digest=lambda vector: "ab" * 32))
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
