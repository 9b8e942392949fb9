"""Versions: what clients hold, what they are sent, and that both sides mean the same bits by it."""

from __future__ import annotations

import numpy as np
import pytest
from fake_fleet import FakeFleet, FakeRun, refuse

from fedpeft.codecs.broadcast import Codes, Int8Downlink, decode_difference, dequantise, quantise, zero_codes
from fedpeft.codecs.feedback_downlink import FeedbackDownlink
from fedpeft.journal import EventKind
from fedpeft.registry import build
from fedpeft.server.broadcasts import Broadcasts
from fedpeft.server.roster import Holding, Roster
from fedpeft.types import ClientInfo, NodeId


def info(client, **fields):
    return ClientInfo(client, NodeId(0), 10, **fields)


def same(a: Codes, b: Codes) -> bool:
    return a.digest() == b.digest()


# The coordinator


def test_a_client_is_sent_the_difference_from_what_it_acknowledged(tmp_path):
    fleet = FakeFleet(2)
    run = FakeRun(fleet, tmp_path, run__rounds=3, codec__down="int8", round__ask=2)
    fleet["c01"].train = lambda frame: RuntimeError("boom")  # acknowledges nothing
    run.run()
    bases = {(f.client, f.round): (f.version, f.base) for f in fleet.asked}
    assert [bases["c00", n] for n in (1, 2, 3)] == [(0, 0), (1, 0), (2, 1)]
    assert [bases["c01", n] for n in (1, 2, 3)] == [(0, 0), (1, 0), (2, 0)]


def test_a_lost_base_costs_one_turn_and_then_a_snapshot_is_sent(tmp_path):
    fleet = FakeFleet(2)
    honest = fleet["c01"].honest

    def forgetful(frame):
        return refuse(frame, "client.base-lost", "client c01 no longer holds it") if frame.base == 1 else honest(frame)

    fleet["c01"].train = forgetful
    run = FakeRun(fleet, tmp_path, run__rounds=4, codec__down="int8")
    run.run()
    mine = [f for f in fleet.asked if f.client == "c01"]
    assert [f.base for f in mine] == [0, 0, 1, 0]
    assert [(n, code) for n, _, code in run.told(EventKind.REFUSED, "code")] == [(3, "client.base-lost")]
    assert mine[3].plan.feedback == 2, "what it still owes is its own, and is not lost with the broadcast"


def test_feedback_names_the_last_round_that_was_folded_in(tmp_path):
    fleet = FakeFleet(2)
    honest = fleet["c01"].honest
    fleet["c01"].train = lambda f: RuntimeError("boom") if f.round == 2 else honest(f)
    run = FakeRun(fleet, tmp_path, run__rounds=4)
    run.run()
    assert [f.plan.feedback for f in fleet.asked if f.client == "c01"] == [-1, 1, 1, 3]


def test_an_attempt_that_came_to_nothing_taught_nothing(tmp_path):
    fleet = FakeFleet(2)
    honest = fleet["c01"].honest
    fleet["c01"].train = lambda f: RuntimeError("boom") if (f.round, f.attempt) == (2, 1) else honest(f)
    run = FakeRun(fleet, tmp_path, run__rounds=2, round__min_replies=2, codec__down="int8")
    run.run()
    second = [f for f in fleet.asked if f.round == 2]
    assert [(f.attempt, f.client, f.base, f.plan.feedback) for f in second] == [
        (1, "c00", 0, 1),
        (1, "c01", 0, 1),
        (2, "c00", 0, 1),
        (2, "c01", 0, 1),
    ]


def test_a_resumed_coordinator_goes_on_from_what_was_committed(tmp_path):
    fleet = FakeFleet(3)
    whole = FakeRun(fleet, tmp_path / "whole", run__rounds=4, codec__down="int8")
    theta = whole.run()
    first = FakeRun(FakeFleet(3), tmp_path / "parts", run__rounds=4, codec__down="int8")
    first.journal.subscribe(_stop_at(EventKind.COMMITTED, 3))
    with pytest.raises(KeyboardInterrupt):
        first.run()
    first.journal.close()
    fleet = FakeFleet(3)
    for client in fleet.clients:
        client.info = {"versions": (0, 1, 2)}
    second = FakeRun(fleet, tmp_path / "parts", run__rounds=4, codec__down="int8")
    np.testing.assert_array_equal(second.run(), theta)
    assert [f.round for f in fleet.asked] == [3, 3, 3, 4, 4, 4]
    assert {f.base for f in fleet.asked if f.round == 3} == {1}


def test_a_client_that_lost_its_disk_before_a_resume_is_given_a_snapshot(tmp_path):
    first = FakeRun(FakeFleet(2), tmp_path, run__rounds=4, codec__down="int8")
    first.journal.subscribe(_stop_at(EventKind.COMMITTED, 3))
    with pytest.raises(KeyboardInterrupt):
        first.run()
    first.journal.close()
    fleet = FakeFleet(2)
    fleet["c00"].info = {"versions": (1,)}
    second = FakeRun(fleet, tmp_path, run__rounds=4, codec__down="int8")
    second.run()
    assert {(f.client, f.base) for f in fleet.asked if f.round == 3} == {("c00", 1), ("c01", 0)}


def _stop_at(kind, count):
    left = [count]

    def observe(event):
        if event.kind is kind:
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt

    return observe


# Broadcasts


def test_every_base_gives_the_same_bits():
    rng = np.random.default_rng(0)
    initial = rng.normal(size=200).astype(np.float32)
    broadcasts = Broadcasts(initial, Int8Downlink())
    held = {0: zero_codes(200)}
    for version in range(1, 6):
        theta = initial + rng.normal(size=200).astype(np.float32) * 0.1 * version
        broadcasts.publish(version, theta, held=range(version))
        decoded = {base: decode_difference(broadcasts.body(base), codes) for base, codes in held.items()}
        assert all(same(codes, decoded[0]) for codes in decoded.values())
        assert same(decoded[0], quantise(theta - initial))
        held[version] = decoded[0]
    np.testing.assert_allclose(initial + dequantise(held[5]), theta, atol=0.01)


def test_versions_nobody_holds_and_versions_beyond_the_window_are_forgotten():
    initial = np.zeros(64, dtype=np.float32)
    broadcasts = Broadcasts(initial, Int8Downlink(), window=3)
    for version in range(1, 9):
        held = set(range(version)) - {6}
        broadcasts.publish(version, initial + np.float32(version), held=held)
    assert [v for v in range(1, 9) if broadcasts.base_for(v) == v] == [5, 7, 8]
    assert broadcasts.base_for(2) == 0
    assert len(broadcasts.state()) == 6


def test_restored_broadcasts_send_the_same_bytes():
    rng = np.random.default_rng(1)
    initial = rng.normal(size=130).astype(np.float32)
    one = Broadcasts(initial, Int8Downlink())
    theta = initial
    for version in (1, 2, 3):
        theta = theta + rng.normal(size=130).astype(np.float32)
        one.publish(version, theta, held={1, 2})
    other = Broadcasts(initial, Int8Downlink())
    other.restore(3, theta, one.state())
    assert [other.body(base) for base in (0, 1, 2, 3)] == [one.body(base) for base in (0, 1, 2, 3)]


def stepping(codec="sign", size=5000, count=6, window=16, held=lambda version: range(version)):
    """Broadcasts of an adapter that moves on, and what clients of each version hold."""
    downlink = FeedbackDownlink(build("codec", codec, {}))
    rng, initial = np.random.default_rng(2), np.ones(size, dtype=np.float32)
    broadcasts, theta, known = Broadcasts(initial, downlink, window), initial, {0: zero_codes(size)}
    for version in range(1, count + 1):
        theta = theta + (rng.standard_normal(size) / version).astype(np.float32)
        broadcasts.publish(version, theta, held=held(version))
        known[version] = downlink.decode_difference(broadcasts.body(version - 1), known[version - 1])
    return broadcasts, theta, known


@pytest.mark.parametrize("codec", ["sign", "topk(0.1)+sign", "uniform(1.2)+zstd", "int4(dither)"])
def test_by_steps_every_base_gives_the_same_bits_too(codec):
    broadcasts, theta, known = stepping(codec)
    for base in range(7):
        got = broadcasts.downlink.decode_difference(broadcasts.body(base), known[base])
        assert same(got, known[6])
    owed = np.linalg.norm(theta - 1 - dequantise(known[6])) / np.linalg.norm(theta - 1)
    assert broadcasts.owed == pytest.approx(owed, rel=1e-4)
    assert 0 < owed < 1


def test_steps_are_sent_while_they_are_shorter():
    """Of `sign`, one bit a value: a client one version behind is sent one, two steps behind two, ..., then codes."""
    broadcasts, _, _ = stepping()
    one = len(broadcasts.body(5))
    assert one < 5000 / 8 + 40
    assert len(broadcasts.body(4)) == pytest.approx(2 * one, abs=40)
    assert len(broadcasts.body(0)) < 5000 + 100
    assert broadcasts.base_for(5) == 5
    assert broadcasts.base_for(99) == 0


def test_who_is_too_far_behind_is_sent_what_is_shortest():
    broadcasts, _, _ = stepping(codec="uniform(0.5)+zstd", count=12, window=4, held=lambda version: {1, version - 1})
    lengths = {base: len(broadcasts.body(base)) for base in (0, 1, 11)}
    assert lengths[11] < lengths[0]
    assert broadcasts.base_for(11) == 11
    assert broadcasts.base_for(1) == (1 if lengths[1] <= lengths[0] else 0)
    steps = [name for name in broadcasts.state() if name.startswith("step.")]
    assert sorted(steps) == ["step.10", "step.11", "step.12", "step.9"]


def test_restored_steps_send_the_same_bytes_and_go_on_alike():
    one, theta, _ = stepping()
    other = Broadcasts(one.initial, one.downlink)
    other.restore(6, theta, one.state())
    for broadcasts in (one, other):
        broadcasts.publish(7, theta + np.float32(0.25), held=range(7))
    assert [other.body(base) for base in range(8)] == [one.body(base) for base in range(8)]
    assert other.owed == one.owed


def test_the_plain_downlink_knows_no_versions():
    theta = np.arange(10, dtype=np.float32)
    broadcasts = Broadcasts(np.zeros(10, dtype=np.float32), None)
    broadcasts.publish(4, theta, held={2, 3})
    assert broadcasts.base_for(3) == 0
    assert broadcasts.body(0) == theta.tobytes()
    assert broadcasts.owed is None
    assert broadcasts.state() == {}


# The roster


def test_lessons_count_from_the_commit_on():
    roster = Roster()
    roster.welcome(info("c00"))
    roster.learn("c00", Holding(3, 4))
    assert roster.holding("c00") == Holding(0, -1)
    roster.forget_lessons()
    roster.commit()
    assert roster.holding("c00") == Holding(0, -1)
    roster.learn("c00", Holding(3, 4))
    roster.commit()
    assert roster.holding("c00") == Holding(3, 4)
    assert roster.held_versions() == {3}


def test_a_restored_roster_believes_a_hello_over_its_memory():
    roster = Roster()
    roster.restore({"c00": [5, 5], "c01": [5, 4]})
    roster.welcome(info("c00", versions=(4, 5)))
    roster.welcome(info("c01", versions=(2,)))
    assert roster.holding("c00") == Holding(5, 5)
    assert roster.holding("c01") == Holding(0, 4)
    assert roster.state() == {"c00": [5, 5], "c01": [0, 4]}


def test_available_is_in_id_order_without_the_busy():
    roster = Roster()
    for client in ("c02", "c00", "c01"):
        roster.welcome(info(client))
    assert [item.client for item in roster.available({"c01"})] == ["c00", "c02"]
