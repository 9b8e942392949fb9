"""The coordinator's round over scripted clients: who is asked, what counts once, what is late, when it gives up."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from fake_fleet import SIZE, FakeFleet, FakeRun, answer, delta_of, refuse

from fedpeft.codecs.int8 import Int8, Int8Blocks
from fedpeft.errors import PluginError, RoundError
from fedpeft.journal import EventKind
from fedpeft.strategies import FedAvg
from fedpeft.types import Incoming, MessageId
from fedpeft.wire.frame import FrameKind


def mean(initial, nodes, rounds=1, weights=None):
    """What FedAvg makes of honest clients in rounds 1..rounds."""
    theta = initial.astype(np.float64)
    for number in range(1, rounds + 1):
        theta = theta + np.average([delta_of(node, number) for node in nodes], axis=0, weights=weights)
    return theta


def test_a_coordinator_needs_neither_torch_nor_flower():
    code = "import sys, fedpeft.server; sys.exit(any(name in sys.modules for name in ('torch', 'flwr', 'peft')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_honest_clients_end_in_their_mean(tmp_path):
    run = FakeRun(FakeFleet(4), tmp_path, run__rounds=3)
    np.testing.assert_allclose(run.run(), mean(run.initial, range(4), rounds=3), atol=1e-6)
    assert [e.round for e in run.journal.events(EventKind.COMMITTED)] == [0, 1, 2, 3]
    assert [e.attempt for e in run.journal.events(EventKind.COMMITTED)] == [None, 1, 1, 1]
    assert run.coordinator.inflight.messages() == []


def test_int8_updates_are_folded_from_their_codes(tmp_path, monkeypatch):
    """No fp32 copy of an update is ever made, and the norm in the journal is still that of the delta."""
    fleet, codec = FakeFleet(3), Int8()
    for client in fleet.clients:

        def train(frame, node=client.node):
            body = codec.encode(delta_of(node, frame.round))
            return answer(frame, FrameKind.UPDATE, body=body, codec="int8", weight=10.0)

        client.train = train
    decoded = [codec.decode(codec.encode(delta_of(node, 1)), SIZE) for node in range(3)]
    run = FakeRun(fleet, tmp_path, run__rounds=1, codec__up="int8")
    monkeypatch.setattr(Int8Blocks, "decode", None)
    np.testing.assert_allclose(run.run(), run.initial + np.mean(decoded, axis=0, dtype=np.float64), atol=1e-7)
    norms = {event.client: event.payload["norm"] for event in run.journal.events(EventKind.ACCEPTED)}
    assert norms == {f"c0{node}": pytest.approx(np.linalg.norm(decoded[node]), rel=1e-6) for node in range(3)}


def test_a_reply_delivered_twice_counts_once(tmp_path):
    fleet = FakeFleet(3)
    fleet.delivered_twice = True
    run = FakeRun(fleet, tmp_path, run__rounds=2)
    np.testing.assert_allclose(run.run(), mean(run.initial, range(3), rounds=2), atol=1e-6)
    assert len(run.told(EventKind.ACCEPTED)) == 6


def test_replies_to_messages_that_were_never_sent_are_ignored(tmp_path):
    fleet = FakeFleet(2)
    run = FakeRun(fleet, tmp_path, run__rounds=1)

    def with_strangers(frame):
        fleet.strangers = [
            Incoming(MessageId("m999"), fleet["c00"].honest(frame)),
            Incoming(MessageId(""), None, "an error about nothing"),
        ]
        return fleet["c00"].honest(frame)

    fleet["c00"].train = with_strangers
    np.testing.assert_allclose(run.run(), mean(run.initial, range(2)), atol=1e-6)
    assert len(run.told(EventKind.ACCEPTED)) == 2


FAULTS = {
    "error reply": (lambda c: lambda f: RuntimeError("boom"), EventKind.FAILED, "boom"),
    "refusal": (lambda c: lambda f: refuse(f, "training.loss", "the loss is nan"), EventKind.REFUSED, "loss is nan"),
    "refusal in the transport's name": (
        lambda c: lambda f: refuse(f, "transport.failed", "not really"),
        EventKind.REFUSED,
        "not really",
    ),
    "rubbish": (lambda c: lambda f: b"rubbish", EventKind.REFUSED, "malformed frame"),
    "empty": (lambda c: lambda f: b"", EventKind.REFUSED, "malformed frame"),
    "another round": (
        lambda c: lambda f: c.honest(type(f)(f.kind, f.run, f.round + 1, f.attempt, f.client, plan=f.plan)),
        EventKind.REFUSED,
        "round",
    ),
    "another client": (
        lambda c: lambda f: c.honest(type(f)(f.kind, f.run, f.round, f.attempt, "c00", plan=f.plan)),
        EventKind.REFUSED,
        "c00",
    ),
    "another codec": (
        lambda c: lambda f: answer(f, FrameKind.UPDATE, body=b"\0" * 256, codec="int8", weight=1.0),
        EventKind.REFUSED,
        "codec 'int8'",
    ),
    "too long": (
        lambda c: lambda f: answer(f, FrameKind.UPDATE, body=b"\0" * 4096, codec="fp32", weight=1.0),
        EventKind.REFUSED,
        "4096 bytes",
    ),
    "not finite": (
        lambda c: (
            lambda f: answer(f, FrameKind.UPDATE, body=np.full(64, np.nan, "<f4").tobytes(), codec="fp32", weight=1.0)
        ),
        EventKind.REFUSED,
        "NaN",
    ),
    "huge": (
        lambda c: (
            lambda f: answer(f, FrameKind.UPDATE, body=np.full(64, 1e30, "<f4").tobytes(), codec="fp32", weight=1.0)
        ),
        EventKind.REFUSED,
        "norm",
    ),
    "a weight beyond its examples": (
        lambda c: lambda f: answer(f, FrameKind.UPDATE, body=b"\0" * 256, codec="fp32", weight=1e15),
        EventKind.REFUSED,
        "weight",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_reply_costs_its_client_and_nobody_else(tmp_path, fault):
    act, kind, words = FAULTS[fault]
    fleet = FakeFleet(4)
    fleet["c02"].train = act(fleet["c02"])
    run = FakeRun(fleet, tmp_path, run__rounds=1)
    np.testing.assert_allclose(run.run(), mean(run.initial, [0, 1, 3]), atol=1e-6)
    ((number, client, reason),) = run.told(kind, "reason")
    assert (number, client) == (1, "c02")
    assert words in reason
    if kind is EventKind.REFUSED:
        assert "client c02" in reason, "every refusal names its client"


def test_a_message_that_cannot_be_sent_costs_its_client(tmp_path):
    fleet = FakeFleet(3)
    fleet.unsendable = {"c01"}
    run = FakeRun(fleet, tmp_path, run__rounds=1)
    np.testing.assert_allclose(run.run(), mean(run.initial, [0, 2]), atol=1e-6)
    assert run.told(EventKind.FAILED, "reason") == [(1, "c01", "the message could not be sent")]


def test_a_round_closes_early_when_everybody_has_answered(tmp_path):
    fleet = FakeFleet(3)
    fleet["c00"].train = lambda frame: RuntimeError("boom")
    run = FakeRun(fleet, tmp_path, run__rounds=1, round__deadline_s=1000.0)
    run.run()
    assert fleet.clock.now() < 5, "nobody is left to wait for"


def test_the_deadline_abandons_and_aggregates_what_is_there(tmp_path):
    fleet = FakeFleet(3)
    fleet["c01"].seconds = float("inf")
    run = FakeRun(fleet, tmp_path, run__rounds=1, round__deadline_s=10.0, round__min_replies=2)
    np.testing.assert_allclose(run.run(), mean(run.initial, [0, 2]), atol=1e-6)
    assert run.told(EventKind.ABANDONED) == [(1, "c01")]
    assert 10 <= fleet.clock.now() < 11


def test_busy_clients_are_not_asked_again(tmp_path):
    fleet = FakeFleet(3)
    fleet["c01"].seconds = lambda frame: 25.0 if frame.round == 1 else 1.0  # past the deadline, back by round 4
    run = FakeRun(fleet, tmp_path, run__rounds=5, round__deadline_s=10.0)
    for client in ("c00", "c02"):
        fleet[client].seconds = lambda frame: 9.0
    run.run()
    asked = [frame.round for frame in fleet.asked if frame.client == "c01"]
    assert asked[0] == 1
    assert asked[1] >= 4
    assert run.told(EventKind.LATE, "rule") == [(3, "c01", "drop")]


def test_too_few_replies_draw_another_cohort(tmp_path):
    fleet = FakeFleet(8)
    run = FakeRun(fleet, tmp_path, run__rounds=1, round__ask=2, round__min_replies=2, round__attempts=20)
    cohorts = []
    for client in fleet.clients[:4]:
        client.train = lambda frame: RuntimeError("boom")
    run.run()
    cohorts = [tuple(e.payload["cohort"]) for e in run.journal.events(EventKind.ROUND_OPENED)]
    shorts = run.told(EventKind.ROUND_SHORT, "needed")
    assert len(set(cohorts)) > 1
    assert len(shorts) == len(cohorts) - 1
    assert set(cohorts[-1]) <= {"c04", "c05", "c06", "c07"}
    last = [int(name[1:]) for name in cohorts[-1]]
    np.testing.assert_allclose(
        run.coordinator.broadcasts._theta, mean(run.initial, last), atol=1e-6, err_msg="earlier attempts left traces"
    )


def test_no_usable_reply_in_any_attempt_is_an_error_that_lists_the_reasons(tmp_path):
    fleet = FakeFleet(3)
    fleet["c00"].train = lambda frame: RuntimeError("out of memory")
    fleet["c01"].train = lambda frame: refuse(frame, "client.no-plugin", "client c01: no such optimizer")
    fleet["c02"].seconds = float("inf")
    run = FakeRun(fleet, tmp_path, round__attempts=3, round__deadline_s=10.0)
    with pytest.raises(RoundError) as caught:
        run.run()
    assert caught.value.code == "round.too-few-replies"
    assert caught.value.exit_status != 0
    assert "out of memory" in caught.value.message
    assert "no such optimizer" in caught.value.message
    assert len(run.told(EventKind.ROUND_SHORT)) == 3
    assert run.journal.last_commit().round == 0


def test_an_attempt_that_fails_again_after_a_resume_gets_all_its_attempts(tmp_path):
    fleet = FakeFleet(2)
    for client in fleet.clients:
        client.train = lambda frame: RuntimeError("boom")
    for expected in (2, 4):
        run = FakeRun(fleet, tmp_path, round__attempts=2)
        with pytest.raises(RoundError):
            run.run()
        assert len(run.told(EventKind.ROUND_SHORT)) == expected
        run.journal.close()
    for client in fleet.clients:
        client.train = None
    run = FakeRun(fleet, tmp_path, round__attempts=2)
    np.testing.assert_allclose(run.run(), mean(run.initial, range(2), rounds=3), atol=1e-6)


def test_over_selection_closes_at_ask_and_the_rest_is_late(tmp_path):
    fleet = FakeFleet(5)
    for seconds, client in enumerate(fleet.clients):
        client.seconds = float(seconds + 1)
    run = FakeRun(fleet, tmp_path, run__rounds=2, round__ask=3, round__over_select=2)
    run.run()
    accepted = run.told(EventKind.ACCEPTED)
    assert [client for number, client in accepted if number == 1] == ["c00", "c01", "c02"]
    assert {client for _, client, rule in run.told(EventKind.LATE, "rule")} >= {"c03", "c04"}
    assert run.told(EventKind.ABANDONED) == [], "closing early abandons nobody: their replies are late"


def test_replies_beyond_ask_in_one_look_are_late_at_once(tmp_path):
    fleet = FakeFleet(4)
    run = FakeRun(fleet, tmp_path, run__rounds=1, round__ask=3, round__over_select=1)
    run.run()
    assert len(run.told(EventKind.ACCEPTED)) == 3
    ((_, _, rule, age),) = run.told(EventKind.LATE, "rule", "age")
    assert (rule, age) == ("drop", 0)


class Picky(FedAvg):
    """Selects what it is told to."""

    def __init__(self, chosen):
        super().__init__()
        self.chosen = chosen

    def select(self, available, count, seed):
        return self.chosen


@pytest.mark.parametrize("chosen", [["c00", "c00"], ["c00", "c77"]], ids=["twice", "stranger"])
def test_a_strategy_that_selects_wrongly_is_named(tmp_path, chosen):
    run = FakeRun(FakeFleet(3), tmp_path, strategy=Picky(chosen))
    with pytest.raises(PluginError, match=chosen[1]) as caught:
        run.run()
    assert caught.value.code == "plugin.strategy-select"


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (lambda theta: np.full_like(theta, np.nan), "64 values that are not finite"),
        (lambda theta: theta[:3].copy(), r"shape \(3,\)"),
        (lambda theta: theta.astype(np.float64), "float64"),
        (lambda theta: theta.tolist(), "a list"),
    ],
    ids=["nan", "short", "float64", "list"],
)
def test_what_a_broken_strategy_makes_is_never_committed(tmp_path, result, words):
    class Broken(FedAvg):
        def finish(self):
            return result(super().finish())

    run = FakeRun(FakeFleet(2), tmp_path, strategy=Broken())
    with pytest.raises(RoundError, match=words) as caught:
        run.run()
    assert caught.value.code == "round.strategy-broke"
    assert run.journal.last_commit().round == 0


def test_a_loss_that_overflowed_does_not_stop_the_run(tmp_path):
    from fedpeft.evaluation import Evaluation

    run = FakeRun(FakeFleet(2), tmp_path, run__rounds=1)
    run.coordinator.evaluations.evaluate = lambda theta, last: Evaluation(0.5, float("inf"), 4)
    run.run()
    assert run.told(EventKind.EVALUATED, "loss", "accuracy") == [(0, None, None, 0.5), (1, None, None, 0.5)]


def test_clients_evaluate_before_and_after_and_liars_are_left_out(tmp_path):
    fleet = FakeFleet(4)
    fleet["c01"].evaluate = lambda f: answer(f, FrameKind.EVALUATION, weight=4.0, metrics={"accuracy": 7.0})
    fleet["c02"].evaluate = lambda f: RuntimeError("no data")
    fleet["c03"].evaluate = lambda f: answer(f, FrameKind.EVALUATION, weight=0.0)
    run = FakeRun(fleet, tmp_path, evaluation__clients=True)
    run.run()
    assert run.told(EventKind.CLIENT_EVALUATED, "accuracy") == [(0, "c00", 0.5), (3, "c00", 0.5)]
