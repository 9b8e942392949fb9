"""Each job is trained alone: what it gives depends on its plan, start and data, and on no other job."""

from dataclasses import replace

import numpy as np
import peft
import pytest
import torch

from fedpeft.adapters import build_adapter
from fedpeft.errors import ClientFault, PluginError
from fedpeft.training import SequentialTrainer, TrainingJob
from fedpeft.training.batched import BatchedTrainer
from fedpeft.training.tasks.custom import CustomTask
from fedpeft.types import ClientId, Plan


def cross_entropy(model, batch):
    return torch.nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")


def data(seed, count=20):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 6, generator=generator)
    return [(x[i], (x[i, 0] > 0).long()) for i in range(count)]


def adapter(dropout=0.0):
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
    return build_adapter(model, peft.LoraConfig(r=2, target_modules=["0", "2"], lora_dropout=dropout), seed=3)


def plan(client, **more):
    fields = {"seed": 11, "steps": 4, "batch_size": 5, "learning_rate": 0.05, **more}
    return Plan(run="r", round=3, attempt=1, client=ClientId(client), **fields)


def trainer(dropout=0.0, **more):
    return SequentialTrainer(adapter(dropout), CustomTask(cross_entropy), **more)


def job(subject, client, seed=None, **more):
    return TrainingJob(plan(client, **more), START, data(seed or sum(map(ord, client))))


START = adapter().get()


def deltas(subject, jobs):
    return {result.plan.client: result.delta for result in subject.run(jobs)}


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_job_gives_the_same_bits_in_any_company(dropout, optimizer):
    subject = trainer(dropout)
    a, b = (job(subject, client, optimizer=optimizer) for client in "ab")
    together = deltas(subject, [a, b])
    turned = deltas(subject, [b, a])
    alone = deltas(trainer(dropout), [b])
    assert np.array_equal(together["a"], turned["a"])
    assert np.array_equal(together["b"], turned["b"])
    assert np.array_equal(together["b"], alone["b"])
    assert not np.array_equal(together["a"], together["b"])


def test_optimizer_moments_are_fresh_in_each_job():
    subject = trainer()
    first, second = (result.delta for result in subject.run([job(subject, "a"), job(subject, "a")]))
    assert np.array_equal(first, second)


def test_the_result_is_what_changed_and_how_the_loss_went():
    subject = trainer()
    (result,) = subject.run([job(subject, "a", steps=30)])
    assert result.fault is None
    np.testing.assert_allclose(subject.adapter.get(), START + result.delta, atol=1e-6)
    assert result.delta.dtype == np.float32
    assert set(result.metrics) == {"loss_first", "loss_last", "seconds"}
    assert result.metrics["loss_last"] < result.metrics["loss_first"]
    assert result.metrics["seconds"] > 0


def test_torch_s_generator_is_left_as_it_was():
    subject = trainer(dropout=0.5)
    before = torch.get_rng_state()
    deltas(subject, [job(subject, "a")])
    assert torch.equal(torch.get_rng_state(), before)


def test_dropout_is_on_in_training_only_and_seeded():
    with_dropout, without = trainer(dropout=0.5), trainer()
    a = job(with_dropout, "a", batch_size=20, optimizer="sgd")
    one = deltas(with_dropout, [a])["a"]
    two = deltas(with_dropout, [replace(a, plan=replace(a.plan, seed=12))])["a"]
    assert not np.array_equal(one, two)
    assert not np.array_equal(one, deltas(without, [a])["a"])
    x = data(5)[0][0]
    assert torch.equal(with_dropout.adapter.model(x), with_dropout.adapter.model(x))


def test_steps_are_told_one_by_one():
    told = []
    subject = trainer(on_step=lambda: told.append(1))
    deltas(subject, [job(subject, "a", steps=3), job(subject, "b", steps=2)])
    assert len(told) == 5


def test_a_loss_that_is_not_a_number_names_client_step_and_round_and_costs_that_job_only():
    subject = trainer()
    good = job(subject, "a")
    poisoned = data(7)
    poisoned = [(x.fill_(float("nan")) if i == 13 else x, y) for i, (x, y) in enumerate(poisoned)]
    bad = TrainingJob(plan("evil"), START, poisoned)
    results = list(subject.run([good, bad, job(subject, "b")]))
    assert [result.plan.client for result in results] == ["a", "evil", "b"]
    assert [result.fault is None for result in results] == [True, False, True]
    fault = results[1].fault
    assert isinstance(fault, ClientFault)
    assert fault.code == "training.loss-not-finite"
    assert "client evil: the training loss is nan at step" in fault.message
    assert "round 3" in fault.message
    assert "local.learning_rate" in fault.remedy
    assert results[1].delta is None
    assert np.array_equal(results[2].delta, deltas(trainer(), [job(subject, "b")])["b"])


def test_the_step_that_is_named_is_the_one_that_failed():
    calls = []

    def loss(model, batch):
        calls.append(1)
        return cross_entropy(model, batch) * (float("inf") if len(calls) == 3 else 1.0)

    subject = SequentialTrainer(adapter(), CustomTask(loss))
    (result,) = subject.run([job(subject, "a")])
    assert "the training loss is inf at step 3" in result.fault.message


def test_an_adapter_that_overflows_in_the_last_step_is_a_fault():
    def loss(model, batch):  # finite itself, but its gradient is not
        return torch.sqrt((model(batch[0]) - model(batch[0]).detach()).abs().sum(1)) + 1.0

    subject = SequentialTrainer(adapter(), CustomTask(loss))
    (result,) = subject.run([job(subject, "a", steps=1, max_grad_norm=0.0)])
    assert result.delta is None
    assert "no longer finite after step 1, round 3" in result.fault.message
    assert result.fault.code == "training.loss-not-finite"


def test_a_bug_in_the_users_loss_is_not_taken_for_a_clients_fault_but_says_where_it_was():
    def loss(model, batch):
        raise KeyError("label")

    subject = SequentialTrainer(adapter(), CustomTask(loss))
    with pytest.raises(KeyError) as caught:
        list(subject.run([job(subject, "a")]))
    assert caught.value.__notes__ == ["while training client a, step 1, round 3"]


@pytest.mark.parametrize("more", [{"objective": "plane"}, {"optimizer": "adamx"}])
def test_an_unknown_plug_in_is_named(more):
    subject = trainer()
    with pytest.raises(PluginError, match=next(iter(more.values()))):
        list(subject.run([job(subject, "a", **more)]))


def test_what_a_task_prepares_is_made_once_for_each_start_and_stays_fixed():
    class Preparing(CustomTask):
        made = 0
        seen = ()

        def prepare(self, model):
            self.made += 1
            return self.made

        def outcomes(self, model, batch, prepared):
            self.seen = (*self.seen, prepared)
            return super().outcomes(model, batch, None)

    task = Preparing(cross_entropy)
    subject = SequentialTrainer(adapter(), task)
    a, b = job(subject, "a", steps=2), job(subject, "b", steps=2)
    other = replace(a, start=START + 1)
    list(subject.run([a, b, other]))
    assert task.made == 2
    assert task.seen == (1, 1, 1, 1, 2, 2)


def test_few_examples_make_small_batches():
    sizes = []

    def loss(model, batch):
        sizes.append(len(batch[1]))
        return cross_entropy(model, batch)

    subject = SequentialTrainer(adapter(), CustomTask(loss))
    (result,) = subject.run([TrainingJob(plan("a", batch_size=16), START, data(1, count=3))])
    assert sizes == [3, 3, 3, 3]
    assert result.delta.any()


@pytest.mark.parametrize("kind", ["sequential", "batched"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_what_a_round_freezes_stands_still_under_a_decay_of_weights(kind, optimizer):
    """Every step's model sees it as it was: with a decay the clients of FFA and RoLoRA would train another model."""
    own, seen = adapter(), []

    def watched(model, batch):
        seen.append(model.base_model.model[0].lora_A["default"](torch.eye(6)).detach().clone())
        return cross_entropy(model, batch)

    made = (SequentialTrainer if kind == "sequential" else BatchedTrainer)(own, CustomTask(watched))
    job = TrainingJob(plan("c00", optimizer=optimizer, weight_decay=0.5, frozen=("lora_A",)), own.get(), data(1))
    (result,) = made.run([job])
    frozen = np.concatenate([np.full(t.size, "lora_A" in t.name) for t in own.layout.tensors])
    assert not result.delta[frozen].any()
    assert result.delta[~frozen].any()
    if kind == "sequential":
        assert len(seen) == 4
        assert all(torch.equal(one, seen[0]) for one in seen)
