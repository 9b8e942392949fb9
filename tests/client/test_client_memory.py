"""What a client remembers: kept under the round that made it, found again under the round that the plan names."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fedpeft.adapters.sharing import Sharing
from fedpeft.client import Agent, ClientMemory, ClientStore, Home
from fedpeft.codecs.broadcast import encode_difference, zero_codes
from fedpeft.codecs.int8 import Int8
from fedpeft.evaluation import Evaluation
from fedpeft.layouts import make_layout
from fedpeft.training import TrainingResult
from fedpeft.types import Plan
from fedpeft.wire.frame import Frame, FrameKind, FrameLimits, decode_frame, encode_frame
from fedpeft.wire.sections import Section

LAYOUT = make_layout({"a.lora_A.weight": (8, 8), "a.lora_B.weight": (4, 4)})
LIMITS = FrameLimits(max_body_bytes=1_000_000)
WHOLE, PRIVATE = Sharing(LAYOUT), Sharing(LAYOUT, ["lora_B"])
INITIAL = np.linspace(-1, 1, LAYOUT.size, dtype=np.float32)


class FakeTrainer:
    """Δ and what is sent depend on the seed; remembers its jobs."""

    def __init__(self):
        self.jobs = []

    def run(self, jobs):
        for job in jobs:
            self.jobs.append(job)
            sent = {"c": vector(job.plan.seed + 50) - job.memory["c_i"]} if "c_i" in job.memory else {}
            yield TrainingResult(job.plan, vector(job.plan.seed), {"loss_last": 0.5}, sent=sent)


def vector(seed, size=LAYOUT.size):
    return np.random.default_rng(seed).normal(size=size).astype(np.float32)


def make(tmp_path, sharing):
    trainer = FakeTrainer()
    homes = {"c00": Home([1, 2, 3], [1, 2], ClientStore(tmp_path / "c00", sharing.shared.size, run="run"))}
    agent = Agent(
        trainer, lambda theta, data: Evaluation(None, float(np.abs(theta).sum()), len(data)),
        sharing.shared_of(INITIAL), sharing.shared, homes, LIMITS,
        memory=ClientMemory(sharing, sharing.private_of(INITIAL)),
    )  # fmt: skip
    return agent, trainer


def train(sharing, number=1, *, feedback=-1, sections=(), attempt=1, **plan):
    body = encode_difference(zero_codes(sharing.shared.size), zero_codes(sharing.shared.size))
    told = Plan(
        "run", number, attempt, "c00", seed=number, steps=2, batch_size=2, learning_rate=0.1, feedback=feedback,
        layout=sharing.shared.digest,
    )  # fmt: skip
    return Frame(
        FrameKind.TRAIN, "run", number, attempt, "c00", body=body, plan=replace(told, **plan), sections=sections
    )


def scaffold(number=1, **options):
    return train(WHOLE, number, **({"objective": "scaffold", "auxiliary": "int8"} | options))


def ask(agent, frame, *, ahead=False):
    data = encode_frame(frame)
    if ahead:
        agent.train_ahead([("c00", data)])
    return decode_frame(agent.handle("c00", data), LIMITS)


# --- private tensors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ahead", [False, True])
def test_private_tensors_are_trained_and_stay(tmp_path, ahead):
    agent, trainer = make(tmp_path, PRIVATE)
    reply = ask(agent, train(PRIVATE), ahead=ahead)
    np.testing.assert_array_equal(trainer.jobs[0].start, INITIAL)
    assert reply.kind is FrameKind.UPDATE
    assert len(reply.body) == Int8().max_bytes(PRIVATE.shared.size)
    np.testing.assert_allclose(Int8().decode(reply.body, PRIVATE.shared.size), PRIVATE.shared_of(vector(1)), atol=0.02)
    assert reply.sections == ()
    kept = agent.homes["c00"].store.memory(1)
    np.testing.assert_array_equal(kept["private"], PRIVATE.private_of(INITIAL) + PRIVATE.private_of(vector(1)))


def test_the_round_that_the_plan_names_is_gone_on_from(tmp_path):
    agent, trainer = make(tmp_path, PRIVATE)
    ask(agent, train(PRIVATE, 1))
    ask(agent, train(PRIVATE, 2))  # the first came to nothing
    np.testing.assert_array_equal(trainer.jobs[1].start, INITIAL)
    ask(agent, train(PRIVATE, 3, feedback=2))
    own = PRIVATE.private_of(INITIAL) + PRIVATE.private_of(vector(2))
    np.testing.assert_array_equal(PRIVATE.private_of(trainer.jobs[2].start), own)
    np.testing.assert_array_equal(PRIVATE.shared_of(trainer.jobs[2].start), PRIVATE.shared_of(INITIAL))
    first = ask(agent, train(PRIVATE, 4, feedback=2)).body
    assert first == ask(agent, train(PRIVATE, 4, feedback=2, attempt=2)).body, "asked again: the same bytes"


@pytest.mark.parametrize("damage", ["gone", "cut", "another adapter"])
def test_memory_that_is_lost_begins_anew_and_is_told(tmp_path, damage):
    agent, trainer = make(tmp_path, PRIVATE)
    assert "memory_lost" not in ask(agent, train(PRIVATE, 1)).metrics
    (path,) = (tmp_path / "c00").glob("memory-*")
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:50])
    else:
        agent.homes["c00"].store.keep_memory(1, {"private": np.zeros(3, dtype=np.float32)}, also=())
    assert ask(agent, train(PRIVATE, 2, feedback=1)).metrics["memory_lost"] == 1
    np.testing.assert_array_equal(trainer.jobs[1].start, INITIAL)


def test_an_evaluation_is_of_the_clients_own(tmp_path):
    agent, _ = make(tmp_path, PRIVATE)
    ask(agent, train(PRIVATE, 1))
    body = encode_difference(zero_codes(PRIVATE.shared.size), zero_codes(PRIVATE.shared.size))
    own = PRIVATE.join(PRIVATE.shared_of(INITIAL), agent.homes["c00"].store.memory(1)["private"])
    for memory, theta in ((-1, INITIAL), (1, own)):
        reply = ask(agent, Frame(FrameKind.EVALUATE, "run", 1, 0, "c00", body=body, memory=memory))
        assert reply.metrics["loss"] == pytest.approx(float(np.abs(theta).sum()))


# --- client halves ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ahead", [False, True])
def test_a_client_half_gets_its_vectors_and_keeps_what_the_server_decodes(tmp_path, ahead):
    agent, trainer = make(tmp_path, WHOLE)
    c = Section("c", "fp32", vector(7).tobytes())
    reply = ask(agent, scaffold(1, sections=(c,)), ahead=ahead)
    np.testing.assert_array_equal(trainer.jobs[0].received["c"], vector(7))
    assert not trainer.jobs[0].memory["c_i"].any()
    (section,) = reply.sections
    assert (section.name, section.codec) == ("c", "int8")
    sent = Int8().decode(section.body, LAYOUT.size)
    np.testing.assert_array_equal(agent.homes["c00"].store.memory(1)["half.c_i"], sent)
    ask(agent, scaffold(2, feedback=1), ahead=ahead)
    np.testing.assert_array_equal(trainer.jobs[1].memory["c_i"], sent)
    assert trainer.jobs[1].received == {}


def test_a_client_half_sees_zeros_where_tensors_are_private(tmp_path):
    agent, trainer = make(tmp_path, PRIVATE)
    shared = PRIVATE.shared.size
    frame = train(
        PRIVATE, objective="scaffold", auxiliary="fp32", sections=(Section("c", "fp32", vector(7, shared).tobytes()),)
    )
    (section,) = ask(agent, frame).sections
    assert not PRIVATE.private_of(trainer.jobs[0].received["c"]).any()
    np.testing.assert_array_equal(np.frombuffer(section.body, "<f4"), PRIVATE.shared_of(vector(51)))
    assert set(agent.homes["c00"].store.memory(1)) == {"private", "half.c_i"}


class NotFinite(FakeTrainer):
    def run(self, jobs):
        for result in super().run(jobs):
            yield replace(result, sent={"c": np.full(LAYOUT.size, np.nan, dtype=np.float32)})


class Silent(FakeTrainer):
    def run(self, jobs):
        for result in super().run(jobs):
            yield replace(result, sent={})


@pytest.mark.parametrize("trainer", [NotFinite(), Silent()])
def test_what_is_no_finite_vector_is_refused_and_nothing_is_kept(tmp_path, trainer):
    agent, _ = make(tmp_path, WHOLE)
    agent.trainer = trainer
    reply = ask(agent, scaffold())
    assert reply.refusal.code == "client.not-finite"
    assert not list((tmp_path / "c00").glob("*"))


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (train(WHOLE, sections=(Section("c", "fp32", bytes(4 * LAYOUT.size)),)), "client.section"),
        (scaffold(sections=(Section("d", "fp32", bytes(4 * LAYOUT.size)),)), "client.section"),
        (scaffold(sections=(Section("c", "fp32", bytes(4 * LAYOUT.size + 4)),)), "codec.unexpected"),
        (scaffold(sections=(Section("c", "fp32", bytes(4 * LAYOUT.size - 4)),)), "codec.malformed"),
        (scaffold(sections=(Section("c", "zip9", b""),)), "client.no-plugin"),
        (scaffold(auxiliary="zip9"), "client.no-plugin"),
        (scaffold(objective_params={"mu": 1.0}), "client.no-plugin"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(tmp_path, frame, code, ahead):
    agent, trainer = make(tmp_path, WHOLE)
    reply = ask(agent, frame, ahead=ahead)
    assert reply.kind is FrameKind.REFUSAL
    assert reply.refusal.code == code
    assert trainer.jobs == []
