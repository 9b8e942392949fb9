"""What a coordinator takes for scalars, and what it refuses by name; a bad client costs itself, not the round."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from fake_fleet import FakeFleet, FakeRun, answer

from fedpeft.codecs.fp16 import Fp16
from fedpeft.codecs.fp32 import Fp32
from fedpeft.errors import RoundError
from fedpeft.journal import EventKind
from fedpeft.server.reading import ScalarSettings
from fedpeft.wire.frame import FrameKind
from fedpeft.zeroth.coordinates import Coordinates
from fedpeft.zeroth.optimizers.adam import Adam
from fedpeft.zeroth.optimizers.adamu import AdaMU
from fedpeft.zeroth.optimizers.momentum import Momentum
from fedpeft.zeroth.optimizers.sign import Sign
from fedpeft.zeroth.optimizers.spsa_gc import SpsaGc

K, STEPS, LR = 32, 10, 0.01
UNIT = LR / 256
COORDINATES = Coordinates(size=K, epochs=3, refresh=1, unit=UNIT, directions=1, seed=1)
SETTINGS = ScalarSettings(COORDINATES, clip=50.0)


def scalars_of(node, number):
    return (np.sin(np.arange(STEPS) * (node + 1) + number) * 5).astype(np.float32)


def fleet_of(clients=3, codec=Fp32):
    fleet = FakeFleet(clients, size=COORDINATES.length)
    for client in fleet.clients:
        client.train = sending(lambda frame, node=client.node: scalars_of(node, frame.round), codec)
    return fleet


def sending(make, codec=Fp32, **more):
    def train(frame):
        body = codec().encode(np.asarray(make(frame), dtype=np.float32))
        return answer(frame, FrameKind.UPDATE, body=body, codec=codec.name, weight=10.0, **more)

    return train


def run_of(fleet, folder, settings=SETTINGS, **options):
    options = {"run__rounds": 2, "local__steps": STEPS, "local__learning_rate": LR, **options}
    return FakeRun(fleet, folder, scalars=settings, **options)


def by_hand(nodes, rounds=2):
    total = np.zeros(COORDINATES.length)
    for number in range(1, rounds + 1):
        moved = [
            COORDINATES.moved(COORDINATES.draw(number, f"c{node:02d}", STEPS), scalars_of(node, number), LR)
            for node in nodes
        ]
        total += np.mean(moved, axis=0, dtype=np.float64)
    return total


def test_scalars_become_coefficients_of_their_directions(tmp_path):
    np.testing.assert_allclose(run_of(fleet_of(), tmp_path).run(), by_hand(range(3)), rtol=1e-5)


def test_what_is_too_little_to_be_sent_adds_up(tmp_path):
    """A tenth of a unit a round: published as 0 at first, as 1 after some rounds."""
    fleet = FakeFleet(1, size=16)
    fleet["c00"].train = sending(lambda frame: np.full(STEPS, -1 / 2560))
    settings = ScalarSettings(Coordinates(16, 1, 0, UNIT, 1, 1), clip=50.0)
    theta = run_of(fleet, tmp_path, settings, run__rounds=12).run()
    draws = np.concatenate([settings.coordinates.draw(number, "c00", STEPS) for number in range(1, 13)])
    np.testing.assert_allclose(theta, np.bincount(draws, minlength=16) / 10, rtol=1e-5)


def test_any_codec_serves(tmp_path):
    fleet = fleet_of(codec=Fp16)
    for client in fleet.clients:
        client.info = {"codecs": ("fp16",)}
    np.testing.assert_allclose(run_of(fleet, tmp_path, codec__up="fp16").run(), by_hand(range(3)), atol=2)


BAD = {
    "too few": (sending(lambda frame: np.ones(STEPS - 1)), "9 values|36 bytes"),
    "too many": (sending(lambda frame: np.ones(STEPS + 1)), "44 bytes of codec 'fp32'"),
    "nan": (sending(lambda frame: np.full(STEPS, np.nan)), "holds NaN"),
    "infinity": (sending(lambda frame: np.full(STEPS, np.inf)), "holds NaN or infinity"),
    "1e30": (sending(lambda frame: np.full(STEPS, 1e30)), "client c01 sent a scalar of magnitude 1e\\+30"),
    "a little too large": (sending(lambda frame: np.full(STEPS, 51.0)), "at most|scalar of magnitude 51"),
    "another codec": (sending(lambda frame: np.ones(STEPS), Fp16), "codec 'fp16'"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_client_costs_itself(case, tmp_path):
    fleet = fleet_of()
    fleet["c01"].train, reason = BAD[case]
    run = run_of(fleet, tmp_path)
    np.testing.assert_allclose(run.run(), by_hand([0, 2]), rtol=1e-5)
    refused = run.told(EventKind.REFUSED, "reason")
    assert [client for _, client, _ in refused] == ["c01", "c01"]
    assert re.search(reason, refused[0][2]), refused[0][2]


def test_no_client_moves_a_coefficient_by_more_than_clip_times_rate(tmp_path):
    fleet = fleet_of(1)
    fleet["c00"].train = sending(lambda frame: np.full(STEPS, 50.4))  # within what a lossy codec may round up
    theta = run_of(fleet, tmp_path, run__rounds=1).run()
    times = np.bincount(COORDINATES.draw(1, "c00", STEPS), minlength=COORDINATES.length)
    assert (np.abs(theta) == times * 50.0 * 256).all()


def with_digests(told):
    return ScalarSettings(COORDINATES, clip=50.0, digest=lambda vector: told)


def test_a_client_that_holds_another_model_is_named_and_sent_everything_again(tmp_path):
    """What it has is wrong: it is refused, and its next frame is a difference from version 0."""
    fleet, ours = fleet_of(), "ab" * 32
    right, wrong = float(int(ours[:12], 16)), float(int(ours[:12], 16) + 1)
    for client in fleet.clients:
        told = {"replica": right}
        client.train = sending(lambda frame, node=client.node: scalars_of(node, frame.round), metrics=told)
    honest = fleet["c01"].train
    fleet["c01"].train = lambda frame: (
        sending(lambda f: scalars_of(1, f.round), metrics={"replica": wrong})(frame)
        if frame.round == 2
        else honest(frame)
    )
    run = run_of(fleet, tmp_path, with_digests(ours), run__rounds=3, codec__down="int8")
    run.run()
    ((number, client, code, reason),) = run.told(EventKind.REFUSED, "code", "reason")
    assert (number, client, code) == (2, "c01", "client.replica-differs")
    assert "client c01 says that model ababababab" in reason
    bases = {frame.client: frame.base for frame in fleet.asked if frame.round == 3}
    assert bases == {"c00": 1, "c01": 0, "c02": 1}


def test_a_client_that_does_not_say_is_refused(tmp_path):
    run = run_of(fleet_of(), tmp_path, with_digests("ab" * 32), round__min_replies=1)
    with pytest.raises(Exception, match="does not say which model it started from"):
        run.run()


def test_the_commit_is_named_by_the_model(tmp_path):
    fleet = FakeFleet(1, size=COORDINATES.length)
    fleet["c00"].train = sending(
        lambda frame: scalars_of(0, frame.round), metrics={"replica": float(int("cd" * 6, 16))}
    )
    run = run_of(fleet, tmp_path, with_digests("cd" * 32))
    run.run()
    assert {event.payload["adapter"] for event in run.journal.events(EventKind.COMMITTED)} == {"cd" * 32}


def test_coefficients_that_are_no_longer_exact_end_the_run_with_a_remedy(tmp_path):
    fleet = FakeFleet(1, size=16)
    fleet["c00"].train = sending(lambda frame: np.full(STEPS, 49.0))
    settings = ScalarSettings(Coordinates(16, 1, 0, LR * 2.0**-12, 1, 1), clip=50.0)
    with pytest.raises(RoundError, match="at most 16777215 is exact"):
        run_of(fleet, tmp_path, settings, run__rounds=250).run()


def test_a_killed_run_goes_on_bit_by_bit(tmp_path):
    whole = run_of(fleet_of(), tmp_path / "whole", run__rounds=2).run()
    first = run_of(fleet_of(), tmp_path / "cut", run__rounds=1)
    first.run()
    first.journal.close()
    assert (run_of(fleet_of(), tmp_path / "cut", run__rounds=2).run() == whole).all()


def test_steps_that_a_client_skipped_are_in_the_journal(tmp_path):
    fleet = fleet_of(2)
    fleet["c01"].train = sending(lambda frame: scalars_of(1, frame.round), metrics={"steps_skipped": 3.0})
    run = run_of(fleet, tmp_path, run__rounds=1)
    run.run()
    found = {e.client: e.payload.get("steps_skipped") for e in run.journal.events(EventKind.ACCEPTED)}
    assert found == {"c00": None, "c01": 3.0}


@pytest.mark.parametrize(
    "optimizer", [Momentum(), Adam(), SpsaGc(), AdaMU(), Sign()], ids=lambda own: type(own).__name__
)
def test_it_replays_the_run_s_optimizer_and_nobody_reaches_further_than_it_says(optimizer, tmp_path):
    """Every scalar at the clip, all one way: the worst that a client can send."""
    coordinates = replace(COORDINATES, optimizer=optimizer)
    fleet = fleet_of(1)
    fleet["c00"].train = sending(lambda frame: np.full(STEPS, 50.4))
    theta = run_of(fleet, tmp_path, ScalarSettings(coordinates, clip=50.0), run__rounds=1).run()
    scalars = np.full(STEPS, 50.0, dtype=np.float32)
    right = coordinates.moved(coordinates.draw(1, "c00", STEPS), scalars, LR)
    np.testing.assert_allclose(theta, right, rtol=1e-5)
    assert (right != COORDINATES.moved(COORDINATES.draw(1, "c00", STEPS), scalars, LR)).any()
    assert np.abs(theta).sum() <= LR / UNIT * STEPS * optimizer.reach(50.0, STEPS, K) * (1 + 1e-6)
