"""The agent: frames in, frames out. Whatever is wrong with one comes back as a refusal that says so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fedpeft.client import Agent, ClientStore, Home
from fedpeft.client.agent import INT8
from fedpeft.codecs.broadcast import dequantise, encode_difference, quantise, zero_codes
from fedpeft.codecs.int8 import Int8
from fedpeft.errors import ClientFault
from fedpeft.evaluation import Evaluation
from fedpeft.training import TrainingResult
from fedpeft.types import Layout, Plan, TensorSpec
from fedpeft.wire.frame import Frame, FrameKind, FrameLimits, decode_frame, encode_frame

SIZE = 64
LAYOUT = Layout((TensorSpec("w", (SIZE,), 0),), SIZE, "1a" * 32)
LIMITS = FrameLimits(max_body_bytes=1_000_000)
INITIAL = np.linspace(-1, 1, SIZE, dtype=np.float32)


class FakeTrainer:
    """Δ = a fixed vector that depends on the plan's seed; remembers where it was started from."""

    def __init__(self):
        self.batches = []
        self.starts = []
        self.broken = {}

    def run(self, jobs):
        self.batches.append([job.plan.client for job in jobs])
        for job in jobs:
            self.starts.append(job.start.copy())
            problem = self.broken.get(job.plan.client)
            if isinstance(problem, ClientFault):
                yield TrainingResult(job.plan, fault=problem)
            elif isinstance(problem, Exception):
                raise problem
            else:
                yield TrainingResult(job.plan, delta_of(job.plan) if problem is None else problem, {"loss_last": 0.5})


def delta_of(plan):
    return np.random.default_rng(plan.seed).normal(size=SIZE).astype(np.float32)


def make(tmp_path, clients=("c00", "c01"), downlink=INT8):
    trainer = FakeTrainer()
    homes = {c: Home([1, 2, 3], [1, 2], ClientStore(tmp_path / c, SIZE, run="run"), "phone", 512) for c in clients}
    agent = Agent(
        trainer, lambda theta, data: Evaluation(None, float(theta.sum()), len(data)), INITIAL, LAYOUT, homes, LIMITS,
        downlink,
    )  # fmt: skip
    return agent, trainer


def train(client="c00", number=1, *, version=0, base=0, body=None, attempt=1, feedback=-1, **plan):
    body = encode_difference(zero_codes(SIZE), zero_codes(SIZE)) if body is None else body
    told = Plan(
        "run", number, attempt, client, seed=number, steps=2, batch_size=2, learning_rate=0.1, version=version,
        feedback=feedback, layout=LAYOUT.digest,
    )  # fmt: skip
    return Frame(
        FrameKind.TRAIN, "run", number, attempt, client, body=body, version=version, base=base,
        plan=replace(told, **plan),
    )  # fmt: skip


def ask(agent, frame, client="c00"):
    return decode_frame(agent.handle(client, encode_frame(frame)), LIMITS)


def test_a_hello_tells_who_lives_here_and_what_it_can_do(tmp_path):
    agent, _ = make(tmp_path)
    agent.homes["c01"].store.keep_broadcast(4, zero_codes(SIZE), also=())
    reply = ask(agent, Frame(FrameKind.HELLO, "run", 0, 0, ""), "c01")
    assert reply.kind is FrameKind.HELLO_REPLY
    info = reply.info
    assert (info.client, info.examples, info.device, info.memory_mb) == ("c01", 3, "phone", 512)
    assert info.versions == (4,)
    assert info.layout == LAYOUT.digest
    assert {"int8", "fp32"} <= set(info.codecs)
    assert {"plain", "proximal"} <= set(info.objectives)


@pytest.mark.parametrize("key", ["codec", "auxiliary", "objective", "optimizer", "importance"])
def test_a_coordinator_names_plug_ins_and_never_files_of_the_device(tmp_path, key):
    agent, trainer = make(tmp_path)
    (tmp_path / "mine.py").write_text("raise SystemExit('a file of the device was run')")
    reply = ask(agent, train(**{key: f"{tmp_path}/mine.py:Rule"}))
    assert reply.kind is FrameKind.REFUSAL
    assert reply.refusal.code == "client.no-plugin"
    assert "mine.py" in reply.refusal.reason
    assert trainer.starts == []


def test_training_starts_from_the_broadcast_and_keeps_it(tmp_path):
    agent, trainer = make(tmp_path)
    codes = quantise(np.full(SIZE, 0.3, dtype=np.float32))
    reply = ask(agent, train(number=5, version=4, body=encode_difference(codes, zero_codes(SIZE))))
    assert reply.kind is FrameKind.UPDATE
    assert (reply.codec, reply.weight, reply.metrics) == ("int8", 3.0, {"loss_last": 0.5})
    np.testing.assert_array_equal(trainer.starts[0], INITIAL + dequantise(codes))
    assert agent.homes["c00"].store.versions() == (4,)
    newer = quantise(np.full(SIZE, 0.5, dtype=np.float32))
    ask(agent, train(number=6, version=5, base=4, body=encode_difference(newer, codes)))
    np.testing.assert_array_equal(trainer.starts[1], INITIAL + dequantise(newer))


def test_round_one_starts_from_the_adapter_that_nobody_sends(tmp_path):
    agent, trainer = make(tmp_path)
    ask(agent, train())
    np.testing.assert_array_equal(trainer.starts[0], INITIAL)
    assert agent.homes["c00"].store.versions() == ()


def test_the_residual_that_counts_is_the_one_that_the_plan_names(tmp_path):
    agent, _ = make(tmp_path)

    def lost(frame):
        before = agent.homes["c00"].store.residual(frame.plan.feedback) if frame.plan.feedback >= 0 else 0.0
        owed = delta_of(frame.plan) + before
        sent = Int8().decode(ask(agent, frame).body, SIZE)
        return owed - sent

    first = lost(train(number=1))
    np.testing.assert_array_equal(agent.homes["c00"].store.residual(1), first)
    second = lost(train(number=2, feedback=1))
    np.testing.assert_array_equal(agent.homes["c00"].store.residual(2), second)
    third = lost(train(number=3, feedback=1))  # round 2 was not folded in: its residual does not count
    np.testing.assert_array_equal(agent.homes["c00"].store.residual(3), third)
    assert agent.homes["c00"].store.residual(2) is None


def test_the_same_round_asked_again_gives_the_same_bytes(tmp_path):
    agent, _ = make(tmp_path)
    ask(agent, train(number=1))
    bodies = [ask(agent, train(number=2, attempt=attempt, feedback=1)).body for attempt in (1, 2, 3)]
    assert bodies[0] == bodies[1] == bodies[2]


@pytest.mark.parametrize("codec", ["int8", "fp32"])
@pytest.mark.parametrize("damage", ["gone", "cut", "two bytes"])
def test_a_residual_that_is_lost_is_told_and_the_client_goes_on(tmp_path, damage, codec):
    """With fp32 nothing is owed, and that is kept too."""
    agent, _ = make(tmp_path)
    assert "residual_lost" not in ask(agent, train(number=1, codec=codec)).metrics
    assert "residual_lost" not in ask(agent, train(number=2, feedback=1, codec=codec)).metrics
    path = tmp_path / "c00" / "residual-000002.safetensors"
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
        agent.homes["c00"].store.look_again()
    else:  # before the digest's 32 bytes: of the last value of the residual, which is a NaN then
        path.write_bytes(content[:50] if damage == "cut" else content[:-34] + b"\xff\xff" + content[-32:])
    frame = train(number=3, feedback=2, codec=codec)
    reply = ask(agent, frame)
    assert reply.kind is FrameKind.UPDATE, reply.refusal
    assert reply.metrics["residual_lost"] == 1
    assert reply.body == ask(make(tmp_path / "anew")[0], train(number=3, codec=codec)).body, "it owes nothing"
    assert "residual_lost" not in ask(agent, train(number=4, feedback=3, codec=codec)).metrics


def test_who_was_never_asked_has_lost_no_residual(tmp_path):
    agent, _ = make(tmp_path)
    assert "residual_lost" not in ask(agent, train(number=9)).metrics
    ask(agent, train(number=10))
    assert "residual_lost" not in ask(agent, train(number=11)).metrics, "round 10 came to nothing"


def test_evaluation_answers_without_an_accuracy_where_the_task_has_none(tmp_path):
    agent, _ = make(tmp_path)
    frame = Frame(FrameKind.EVALUATE, "run", 0, 0, "c00", body=encode_difference(zero_codes(SIZE), zero_codes(SIZE)))
    reply = ask(agent, frame)
    assert reply.kind is FrameKind.EVALUATION
    assert (reply.weight, set(reply.metrics)) == (2.0, {"loss"})


def test_the_plain_downlink(tmp_path):
    agent, trainer = make(tmp_path, downlink=None)
    theta = np.arange(SIZE, dtype=np.float32)
    ask(agent, train(number=3, version=2, body=theta.tobytes()))
    np.testing.assert_array_equal(trainer.starts[0], theta)
    assert agent.homes["c00"].store.versions() == ()


def test_a_base_that_is_not_what_the_coordinator_means_is_as_good_as_lost(tmp_path):
    """An old disk, put back: version 7 is there, but is another adapter. Never train from a wrong start."""
    agent, trainer = make(tmp_path)
    meant, found, new = (quantise(np.full(SIZE, x, dtype=np.float32)) for x in (0.3, -0.9, 0.4))
    agent.homes["c00"].store.keep_broadcast(7, found, also=())
    reply = ask(agent, train(number=9, version=8, base=7, body=encode_difference(new, meant)))
    assert reply.refusal.code == "client.base-lost"
    assert trainer.starts == []


# What is refused


REFUSED = {
    "rubbish": (None, "wire.length"),
    "somebody else's frame": (train("c01"), "client.other-client"),
    "no plan": (replace(train(), plan=None), "client.no-plan"),
    "another layout": (train(layout="ff" * 32), "client.layout"),
    "unknown codec": (train(codec="zip9"), "client.no-plugin"),
    "a codec that is told nonsense": (train(codec="topk(7)+int8"), "client.no-plugin"),
    "a budget too small for its tensors": (train(codec="lgreco(bits=0.01)+zstd"), "client.no-plugin"),
    "unknown objective": (train(objective="selfish"), "client.no-plugin"),
    "unknown optimizer": (train(optimizer="lbfgs"), "client.no-plugin"),
    "a base that is gone": (train(number=9, version=8, base=7), "client.base-lost"),
    "a body that is none": (train(body=b"rubbish"), "codec.malformed"),
    "an answer": (Frame(FrameKind.UPDATE, "run", 1, 1, "c00"), "client.kind"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("ahead", [False, True], ids=["alone", "ahead"])
def test_what_cannot_be_done_is_refused_by_name(tmp_path, case, ahead):
    frame, code = REFUSED[case]
    agent, trainer = make(tmp_path)
    data = encode_frame(frame) if frame is not None else b"x"
    if ahead:
        agent.train_ahead([("c00", data)])
    reply = decode_frame(agent.handle("c00", data), LIMITS)
    assert reply.kind is FrameKind.REFUSAL
    assert reply.refusal.code == code
    assert trainer.starts == []


@pytest.mark.parametrize("ahead", [False, True], ids=["alone", "ahead"])
def test_a_fault_or_numbers_that_are_not_finite_are_refused(tmp_path, ahead):
    agent, trainer = make(tmp_path)
    broken = np.full(SIZE, np.inf, dtype=np.float32)
    for problem, code in (
        (ClientFault("client c00: nan", code="training.x"), "training.x"),
        (broken, "client.not-finite"),
    ):
        trainer.broken = {"c00": problem}
        if ahead:
            agent.train_ahead([("c00", encode_frame(train()))])
        assert ask(agent, train()).refusal.code == code


# Many at once


def test_clients_trained_ahead_are_answered_without_training_again(tmp_path):
    agent, trainer = make(tmp_path)
    alone = [ask(make(tmp_path / "x")[0], train(c), c).body for c in ("c00", "c01")]
    frames = {c: train(c) for c in ("c00", "c01")}
    agent.train_ahead([(c, encode_frame(frame)) for c, frame in frames.items()])
    assert trainer.batches == [["c00", "c01"]]
    assert [ask(agent, frame, c).body for c, frame in frames.items()] == alone
    assert trainer.batches == [["c00", "c01"]]


def test_a_result_for_another_plan_is_not_used(tmp_path):
    agent, trainer = make(tmp_path)
    agent.train_ahead([("c00", encode_frame(train(number=1)))])
    assert ask(agent, train(number=2)).round == 2
    assert trainer.batches == [["c00"], ["c00"]]


def test_one_client_that_crashes_does_not_take_the_others_along(tmp_path):
    agent, trainer = make(tmp_path, clients=("c00", "c01", "c02"))
    trainer.broken = {"c01": ZeroDivisionError("its own code")}
    frames = {c: train(c) for c in ("c00", "c01", "c02")}
    agent.train_ahead([(c, encode_frame(frame)) for c, frame in frames.items()])
    assert ask(agent, frames["c00"], "c00").kind is FrameKind.UPDATE
    with pytest.raises(ZeroDivisionError):  # Flower answers for a ClientApp that raises
        agent.handle("c01", encode_frame(frames["c01"]))
    assert ask(agent, frames["c02"], "c02").kind is FrameKind.UPDATE
