"""What a searching codec is judged by: the θ that its client would have, on examples that it does not train on."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from fedpeft.adapters.sharing import Sharing
from fedpeft.client import Agent, ClientStore, Home
from fedpeft.client.judging import judge_of
from fedpeft.codecs.broadcast import encode_difference, zero_codes
from fedpeft.codecs.compeft import ALPHAS, DENSITIES
from fedpeft.evaluation import Evaluation
from fedpeft.layouts import make_layout
from fedpeft.registry import build
from fedpeft.training import TrainingJob, TrainingResult
from fedpeft.types import Held, Plan
from fedpeft.wire.frame import Frame, FrameKind, FrameLimits, decode_frame, encode_frame

SIZE = 64
LAYOUT = make_layout({"w": (SIZE,)})
LIMITS = FrameLimits(max_body_bytes=1_000_000)
INITIAL = np.linspace(-1, 1, SIZE, dtype=np.float32)
VALIDATION = ["put", "aside"]


class FakeTrainer:
    """Δ = a fixed vector that depends on the plan's seed."""

    def run(self, jobs):
        for job in jobs:
            yield TrainingResult(job.plan, delta_of(job.plan), {"loss_last": 0.5})


def delta_of(plan):
    return np.random.default_rng(plan.seed).normal(size=SIZE).astype(np.float32)


def train(number=1, **plan):
    told = {"seed": number, "steps": 2, "batch_size": 2, "learning_rate": 0.1, "layout": LAYOUT.digest, **plan}
    body = encode_difference(zero_codes(SIZE), zero_codes(SIZE))
    return Frame(FrameKind.TRAIN, "run", number, 1, "c00", body=body, plan=Plan("run", number, 1, "c00", **told))


def ask(agent, frame):
    return decode_frame(agent.handle("c00", encode_frame(frame)), LIMITS)


def make(tmp_path, validation=VALIDATION, loss=None):
    home = Home([1, 2, 3], [1, 2], ClientStore(tmp_path / "c00", SIZE, run="run"), "phone", 512, validation)
    return Agent(
        FakeTrainer(), lambda theta, data: Evaluation(None, 0.0, len(data)), INITIAL, LAYOUT, {"c00": home}, LIMITS,
        loss=loss,
    )  # fmt: skip


class Quadratic:
    """‖θ − target‖², and what it was asked."""

    def __init__(self, target):
        self.target = target
        self.thetas = []
        self.data = []

    def __call__(self, theta, data):
        self.thetas.append(theta.copy())
        self.data.append(data)
        return float(np.square(theta.astype(np.float64) - self.target).sum())


def best_pair(values, loss):
    """Of all pairs that lose no more than there is."""
    costs = {}
    for density, alpha in product(DENSITIES, ALPHAS):
        decoded = build("codec", f"compeft({density:g},{alpha:g})", {}).through(values)[1]
        if np.linalg.norm(values - decoded) <= np.linalg.norm(values):
            costs[density, alpha] = loss(INITIAL + decoded, None)
    return min(costs, key=costs.get)


def test_the_client_takes_the_pair_of_the_lowest_validation_loss_and_says_which(tmp_path):
    frame = train(codec="compeft")
    loss = Quadratic(INITIAL + 1.5 * delta_of(frame.plan) + 0.3)
    agent = make(tmp_path, loss=loss)
    reply = ask(agent, frame)
    assert all(data is VALIDATION for data in loss.data)
    density, alpha = best_pair(delta_of(frame.plan), loss)
    assert reply.metrics == {"codec.density": density, "codec.alpha": alpha, "loss_last": 0.5}
    assert reply.weight == 3.0, "of what it trains on"
    decoded = build("codec", "compeft", {}).decode(reply.body, SIZE)
    wanted = build("codec", f"compeft({density:g},{alpha:g})", {}).through(delta_of(frame.plan))[1]
    np.testing.assert_array_equal(decoded, wanted)


def test_what_was_not_sent_is_owed_and_judged_with_the_next_delta(tmp_path):
    loss = Quadratic(INITIAL + 1.0)
    agent = make(tmp_path, loss=loss)
    first = train(number=1, codec="compeft")
    sent = build("codec", "compeft", {}).decode(ask(agent, first).body, SIZE)
    owed = delta_of(first.plan) - sent
    np.testing.assert_array_equal(agent.homes["c00"].store.residual(1), owed)
    second = train(number=2, feedback=1, codec="compeft")
    reply = ask(agent, second)
    assert (reply.metrics["codec.density"], reply.metrics["codec.alpha"]) == best_pair(
        delta_of(second.plan) + owed, loss
    )


@pytest.mark.parametrize(("validation", "loss"), [((), Quadratic(0.0)), (VALIDATION, None)])
def test_who_has_nothing_to_judge_by_sends_unsearched(tmp_path, validation, loss):
    frame = train(codec="compeft")
    reply = ask(make(tmp_path, validation, loss), frame)
    assert reply.body == build("codec", "compeft", {}).encode(delta_of(frame.plan))
    assert reply.metrics == {"loss_last": 0.5}


def test_a_codec_that_is_told_everything_asks_nobody(tmp_path):
    loss = Quadratic(0.0)
    reply = ask(make(tmp_path, loss=loss), train(codec="compeft(0.1,1)"))
    assert loss.thetas == []
    assert "codec.density" not in reply.metrics


def job_of(layout, start, **plan):
    return TrainingJob(replace(train().plan, **plan), start, None)


PARTS = make_layout({"layer.lora_A.weight": (3, 2), "layer.lora_B.weight": (2, 3), "norm.bias": (2,)})


def judged_theta(job, delta, sharing, held, decoded):
    seen = []
    judge_of(job, delta, sharing, held, lambda theta: seen.append(theta.copy()) or 1.5)(decoded)
    (theta,) = seen
    return theta


def test_the_private_part_is_as_it_was_trained():
    sharing = Sharing(PARTS, ["lora_B"])
    start, delta = np.arange(14, dtype=np.float32), np.full(14, 0.5, dtype=np.float32)
    decoded = np.full(8, 100, dtype=np.float32)
    theta = judged_theta(job_of(PARTS, start), delta, sharing, None, decoded)
    private = sharing.private_of(np.ones(14, dtype=np.float32)).size
    assert private == 6
    np.testing.assert_array_equal(sharing.private_of(theta), sharing.private_of(start) + 0.5)
    np.testing.assert_array_equal(sharing.shared_of(theta), sharing.shared_of(start) + 100)


def test_what_is_not_sent_keeps_its_start():
    start, delta = np.arange(14, dtype=np.float32), np.full(14, 0.5, dtype=np.float32)
    held = Held("a", np.array([1, 5, 13]))
    theta = judged_theta(job_of(PARTS, start), delta, Sharing(PARTS), held, np.full(3, 100, dtype=np.float32))
    wanted = start.copy()
    wanted[[1, 5, 13]] += 100
    np.testing.assert_array_equal(theta, wanted)


def test_a_smaller_rank_starts_without_the_components_that_it_has_not():
    start = np.ones(14, dtype=np.float32)
    theta = judged_theta(job_of(PARTS, start, rank=1), start, Sharing(PARTS), None, np.zeros(14, dtype=np.float32))
    assert theta.sum() == 2 + 2 + 2  # a row of A, a column of B, the bias


def test_no_look_changes_what_the_next_one_starts_from():
    start = np.zeros(14, dtype=np.float32)
    seen = []
    judge = judge_of(job_of(PARTS, start), start, Sharing(PARTS), None, lambda theta: seen.append(theta) or 0.0)
    for _ in range(3):
        judge(np.ones(14, dtype=np.float32))
    assert [theta.sum() for theta in seen] == [14, 14, 14]
    assert not start.any()
