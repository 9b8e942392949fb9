"""Micro-batches, checkpointing and autocast: less memory or time, and the gradient of the plain step."""

import dataclasses

import numpy as np
import peft
import pytest
import torch
from tiny_models import Classify, encoder, jobs, linear_names, scattered
from tiny_text import write_run

from fedpeft import api
from fedpeft.adapters import build_adapter
from fedpeft.config import load_run_file
from fedpeft.errors import ConfigError
from fedpeft.training import SequentialTrainer
from fedpeft.training.checkpointing import blocks, checkpointed
from fedpeft.training.choice import choose_trainer, make_trainer
from fedpeft.training.memory import step_memory
from fedpeft.training.steps import PLAIN, MicroBatches, StepSettings

MODELS = ("bert", "vit", "gpt2", "llama")


def lora_on(model, **keys):
    adapter = build_adapter(
        encoder(model), peft.LoraConfig(r=4, target_modules=linear_names(encoder(model)), **keys), seed=1
    )
    adapter.set(scattered(adapter.get()))
    return adapter


def gradient(adapter, settings, model, *, size=7, lengths=(3, 9)):
    (job,) = jobs(model, adapter.get(), 1, lengths=lengths)
    task = Classify()
    adapter.gradient.zero_()
    adapter.train(True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        loss = settings.add_gradient(adapter, task, settings.batch(task, job.data, np.arange(size)), None)
    adapter.train(False)
    return loss, adapter.gradient.clone()


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("parts", [2, 3, 7, 50])
def test_micro_batches_add_up_to_the_batch(model, parts):
    """Also where they are of unequal size: 7 examples in 2 or 3 parts."""
    adapter = lora_on(model)
    # texts of one length: mean pooling over padding, as this task does it, is another loss in a shorter batch
    loss, whole = gradient(adapter, PLAIN, model, lengths=(5, 5))
    micro_loss, sum_of_parts = gradient(adapter, StepSettings(accumulate=parts), model, lengths=(5, 5))
    assert micro_loss == pytest.approx(loss, rel=1e-6)
    assert float((sum_of_parts - whole).norm()) <= 1e-6 * float(whole.norm())


def test_micro_batches_weigh_as_many_examples_as_they_have():
    (job,) = jobs("bert", np.zeros(1, np.float32), 1)
    parts = StepSettings(accumulate=3).batch(Classify(), job.data, np.arange(7))
    assert isinstance(parts, MicroBatches)
    assert [int(batch[0]) for batch, _ in parts] == [3, 2, 2]
    assert sum(share for _, share in parts) == pytest.approx(1)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_checkpointing_gives_the_same_bits(model, dropout):
    """The blocks that run a second time draw the same dropout."""
    adapter = lora_on(model, lora_dropout=dropout)
    loss, plain = gradient(adapter, PLAIN, model)
    again_loss, again = gradient(adapter, StepSettings(checkpointing=True), model)
    assert again_loss == loss
    assert torch.equal(again, plain)


def test_checkpointed_blocks_run_twice_and_are_then_as_before():
    adapter = lora_on("gpt2")
    runs = []
    own = blocks(adapter.model)
    hooks = [block.ln_1.register_forward_pre_hook(lambda *_: runs.append(1)) for block in own]
    cache = adapter.model.config.use_cache
    gradient(adapter, StepSettings(checkpointing=True), "gpt2")
    assert len(runs) == 2 * len(own) == 4
    assert not any("forward" in vars(block) for block in own)
    assert adapter.model.config.use_cache == cache
    for hook in hooks:
        hook.remove()


def test_the_blocks_are_the_outermost_lists():
    inner = torch.nn.ModuleList([torch.nn.Linear(2, 2)])
    block = torch.nn.Module()
    block.experts = inner
    model = torch.nn.Module()
    model.layers = torch.nn.ModuleList([block, block])
    assert blocks(model) == [block, block]


def test_a_model_without_blocks_and_one_with_prefixes_are_refused():
    with pytest.raises(ConfigError, match="no list of blocks"), checkpointed(torch.nn.Linear(2, 2)):
        pass
    adapter = build_adapter(encoder("llama"), peft.PrefixTuningConfig(num_virtual_tokens=2), seed=1)
    (job,) = jobs("llama", adapter.get(), 1)
    with pytest.raises(ConfigError, match="prefix tuning") as caught:
        choose_trainer("sequential", adapter, Classify(), job, settings=StepSettings(checkpointing=True))
    assert caught.value.code == "config.checkpointing"


@pytest.mark.parametrize("model", MODELS)
def test_autocast_rounds_products_only(model):
    adapter = lora_on(model)
    loss, plain = gradient(adapter, PLAIN, model)
    half_loss, half = gradient(adapter, StepSettings(autocast=True), model)
    assert half.dtype == torch.float32
    assert not torch.equal(half, plain)
    assert half_loss == pytest.approx(loss, rel=0.1)
    assert float(torch.nn.functional.cosine_similarity(half, plain, dim=0)) > 0.98
    assert all(parameter.dtype == torch.float32 for parameter in adapter.model.parameters())
    assert torch.equal(gradient(adapter, PLAIN, model)[1], plain)  # it ends with the step


def test_a_loss_that_is_not_finite_is_returned_at_once():
    adapter = lora_on("bert")
    adapter.set(np.full(adapter.layout.size, np.nan, np.float32))
    assert np.isnan(gradient(adapter, StepSettings(accumulate=3), "bert")[0])


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (StepSettings(accumulate=2), "local.accumulate = 2"),
        (StepSettings(checkpointing=True), "local.checkpointing = true"),
        (StepSettings(autocast=True), "local.autocast"),
    ],
)
def test_clients_are_then_trained_one_at_a_time_and_the_plan_says_why(settings, reason):
    adapter = lora_on("bert")
    work = jobs("bert", adapter.get(), 2)
    choice = choose_trainer("batched", adapter, Classify(), work[0], settings=settings)
    assert not choice.together
    assert reason in choice.note
    trainer = make_trainer(choice, adapter, Classify(), rows=100, memory=10**8, settings=settings)
    assert isinstance(trainer, SequentialTrainer)
    assert trainer.settings == settings
    plain = list(SequentialTrainer(adapter, Classify()).run(work))
    for mine, right in zip(trainer.run(work), plain, strict=True):
        assert np.linalg.norm(mine.delta - right.delta) < 0.2 * np.linalg.norm(right.delta)


def test_the_memory_of_a_step_counts_what_is_there_at_once():
    adapter = lora_on("bert")
    (job,) = jobs("bert", adapter.get(), 1, lengths=(9, 9))
    fixed = step_memory(adapter, Classify(), job.data, 0 + 1) * 0  # bytes of model and state, below
    needed = {
        name: step_memory(adapter, Classify(), job.data, 8, settings) - fixed
        for name, settings in {
            "plain": PLAIN,
            "halves": StepSettings(accumulate=2),
            "eighths": StepSettings(accumulate=8),
            "checkpointed": StepSettings(checkpointing=True),
        }.items()
    }
    assert needed["eighths"] < needed["halves"] < needed["plain"]
    assert needed["checkpointed"] < needed["plain"]
    assert needed["halves"] == step_memory(adapter, Classify(), job.data, 4)


@pytest.mark.parametrize(
    "changes",
    [{"local__accumulate": 2}, {"local__checkpointing": True}, {"local__autocast": "bf16"}],
    ids=["accumulate", "checkpointing", "autocast"],
)
def test_a_run_file_asks_for_it(tmp_path, changes):
    plans = []
    result = api.run(load_run_file(write_run(tmp_path, **changes)), on_plan=plans.append)
    assert plans[0].trainer == "one at a time"
    key, value = next(iter(changes.items()))
    assert any(key.replace("__", ".") in note for note in plans[0].notes)
    if key == "local__autocast":
        assert "bf16" in plans[0].arithmetic
    plain = api.run(
        load_run_file(write_run(tmp_path, run__name="plain", engine__trainer="sequential", engine__kernel="torch"))
    )
    if value is True:
        assert result.adapter_hash == plain.adapter_hash
    assert result.federated == pytest.approx(plain.federated, abs=0.2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"local__accumulate": 5}, "local.accumulate = 5 is more than local.batch_size = 4"),
        ({"local__autocast": "bf16", "model__dtype": "bf16"}, 'contradicts model.dtype = "bf16"'),
        ({"local__autocast": "bf16", "engine__kernel": "onednn"}, 'contradicts engine.kernel = "onednn"'),
        ({"local__autocast": "fp16"}, "local.autocast"),
    ],
)
def test_settings_that_contradict_each_other(tmp_path, changes, message):
    with pytest.raises(ConfigError) as caught:
        load_run_file(write_run(tmp_path, **changes))
    assert message in caught.value.message
    assert caught.value.allowed


def test_settings_come_from_the_run_file(tmp_path):
    config = load_run_file(write_run(tmp_path, local__accumulate=3, local__checkpointing=True))
    assert StepSettings.of(config.local) == StepSettings(3, True, False)
    assert dataclasses.replace(PLAIN).alone == ""
