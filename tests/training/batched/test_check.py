"""What cannot be trained many clients at a time is found before the first round, with the reason."""

from __future__ import annotations

import numpy as np
import peft
import pytest
import torch
from tiny_models import Classify, encoder, examples, jobs, plan

from fedpeft.adapters import FlatAdapter, build_adapter
from fedpeft.errors import ClientFault
from fedpeft.training import SequentialTrainer, TrainingJob
from fedpeft.training.batched import BatchedTrainer, examine
from fedpeft.training.choice import choose_trainer, make_trainer
from fedpeft.training.tasks.custom import CustomTask

WIDTH = 32


def items(count=12, seed=0, *, width=WIDTH, spread=1.0):
    generator = torch.Generator().manual_seed(seed)
    x = spread * torch.randn(count, width, generator=generator) + torch.linspace(-1, 1, width)
    return [(x[i], (x[i, 0] > 0).long()) for i in range(count)]


def each(model, batch):
    return torch.nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")


class Net(torch.nn.Module):
    """Two layers; `before` sees the examples, `middle` what is between the layers."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(4)
            self.one = torch.nn.Linear(WIDTH, WIDTH)
            self.two = torch.nn.Linear(WIDTH, 2)

    def before(self, x):
        return x

    def middle(self, x):
        return x

    def forward(self, x):
        return self.two(torch.relu(self.middle(self.one(self.before(x)))))


class CentresItsInput(Net):
    def before(self, x):
        return x - x.mean(0)


class CentresItsFeatures(Net):
    def middle(self, x):
        return x - x.mean(0)


class AttendsToOthers(Net):
    def middle(self, x):
        return x + 0.1 * torch.softmax(x @ x.T, 1) @ x


class LooksAtTheFirst(Net):
    def middle(self, x):
        return x + x[:1]


class ReadsAWeight(Net):
    def middle(self, x):
        return x + 0.1 * self.two.lora_A["default"].weight.sum()


class NeverCallsTheLayer(Net):
    def forward(self, x):
        layer = self.one
        inner = x @ layer.lora_A["default"].weight.T @ layer.lora_B["default"].weight.T
        return self.two(torch.relu(layer.base_layer(x) + inner))


class TurnsItsExamples(Net):
    def forward(self, x):
        return self.two(torch.relu(self.one(x.flip(0)).flip(0)))


def adapter_of(model, **more):
    return build_adapter(model, peft.LoraConfig(r=2, target_modules=["one", "two"], **more), seed=1)


def job_of(adapter, data, **more):
    return TrainingJob(plan("a", **more), adapter.get(), data)


def answer(model, loss=each, data=None, **more):
    adapter = adapter_of(model)
    return examine(adapter, CustomTask(loss), job_of(adapter, data or items(), **more))


def test_an_ordinary_model_passes():
    assert answer(Net()) == ("", "")


@pytest.mark.parametrize("batch_size", [1, 4, 12, 99])
@pytest.mark.parametrize(
    "model",
    [CentresItsInput, CentresItsFeatures, AttendsToOthers, LooksAtTheFirst, ReadsAWeight, NeverCallsTheLayer],
)
def test_a_model_that_mixes_examples_or_goes_round_a_layer_is_found(model, batch_size):
    trouble, _ = answer(model(), batch_size=batch_size)
    assert "gradients of two clients in one pass differ from each one's alone by" in trouble


def test_a_model_that_turns_its_examples_is_found():
    """Each client's rows go to another's tensors."""
    trouble, _ = answer(TurnsItsExamples())
    assert "gradients of two clients" in trouble


def in_batch(model, batch):
    """Each example against the others of its batch, as contrastive losses do it."""
    y = model(batch[0])
    return torch.nn.functional.cross_entropy(y @ y.T, torch.arange(len(y)), reduction="none")


def repeated_mean(model, batch):
    return each(model, batch).mean().repeat(len(batch[1]))


def mean(model, batch):
    return each(model, batch).mean()


def matrix(model, batch):
    return model(batch[0]).square()


@pytest.mark.parametrize(
    ("loss", "reason"),
    [
        (mean, "one mean over a batch"),
        (matrix, "one mean over a batch, not a loss per example"),
        (repeated_mean, "a client's loss is"),
        (in_batch, "gradients of two clients"),
    ],
)
def test_a_loss_that_is_not_one_per_example_is_found(loss, reason):
    trouble, _ = answer(Net(), loss)
    assert reason in trouble


class TwoInputs(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.pair = torch.nn.Bilinear(WIDTH, WIDTH, 2)

    def forward(self, x):
        return self.pair(x, x.abs())


class TwoOutputs(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = torch.nn.LSTM(WIDTH, 2, batch_first=True)

    def forward(self, x):
        return self.cell(x[:, None])[0][:, 0]


class ByName(Net):
    def forward(self, x):
        return self.two(input=torch.relu(self.one(x)))


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (TwoInputs(), "Bilinear takes several tensors"),
        (TwoOutputs(), "LSTM does not return one tensor"),
        (ByName(), "two is called with keywords: input"),
    ],
    ids=["two inputs", "two outputs", "keywords"],
)
def test_a_layer_that_takes_or_gives_something_else_is_named(model, reason):
    adapter = FlatAdapter(model)
    trouble, _ = examine(adapter, CustomTask(each), job_of(adapter, items()))
    assert reason in trouble


def test_batches_that_cannot_be_joined():
    def collate(rows):
        return torch.stack([x for x, _ in rows]), torch.stack([y for _, y in rows]), torch.tensor(0.5)

    adapter = adapter_of(Net())
    task = CustomTask(lambda model, batch: each(model, batch) * batch[2], collate=collate)
    trouble, _ = examine(adapter, task, job_of(adapter, items()))
    assert trouble == "a batch holds a tensor without an axis of examples"


def test_class_weights_in_a_batch_are_not_examples():
    def collate(rows):
        return torch.stack([x for x, _ in rows]), torch.stack([y for _, y in rows]), torch.tensor([1.0, 2.0])

    def loss(model, batch):
        return torch.nn.functional.cross_entropy(model(batch[0]), batch[1], weight=batch[2], reduction="none")

    adapter = adapter_of(Net())
    trouble, _ = examine(adapter, CustomTask(loss, collate=collate), job_of(adapter, items()))
    assert trouble.startswith("it fails with several clients: ")
    assert "weight" in trouble


def test_a_model_whose_last_bits_depend_on_the_company_is_let_pass_with_a_note():
    class Narrow(torch.nn.Module):
        """5 numbers a row do not fill a vector register: the last ones of a batch go through other code."""

        def __init__(self):
            super().__init__()
            self.one, self.two = torch.nn.Linear(WIDTH, 5), torch.nn.Linear(5, 2)

        def forward(self, x):
            middle = self.one(x)
            ends = torch.arange(len(x))[:, None] == len(x) - 1  # made sure of, on any processor
            return self.two(torch.where(ends, middle * (1 + 2e-7), middle))

    trouble, note = answer(Narrow())
    assert trouble == ""
    assert "last bits" in note


@pytest.mark.parametrize("bad", ["nan", "fault"])
def test_data_without_an_answer_leave_it_to_the_next_client(bad):
    def loss(model, batch):
        if bad == "fault" and not torch.isfinite(batch[0]).all():
            raise ClientFault("client a: its images are broken", code="mine")
        return each(model, batch)

    adapter = adapter_of(CentresItsInput())
    poisoned = [(x * float("nan"), y) for x, y in items()]
    task = CustomTask(loss)
    work = [job_of(adapter, poisoned), job_of(adapter, items())]
    assert examine(adapter, task, work[0]) is None
    choice = choose_trainer("batched", adapter, task, *work)
    assert not choice.together
    assert "gradients of two clients" in choice.note
    blind = choose_trainer("batched", adapter, task, work[0])
    assert not blind.together
    assert "not finite" in blind.note


def test_a_bug_of_the_users_is_left_to_the_training_that_names_client_and_step():
    def loss(model, batch):
        raise KeyError("label")

    adapter = adapter_of(Net())
    choice = choose_trainer("batched", adapter, CustomTask(loss), job_of(adapter, items()))
    assert not choice.together
    trainer = make_trainer(choice, adapter, CustomTask(loss), rows=64, memory=10**8)
    with pytest.raises(KeyError) as caught:
        list(trainer.run([job_of(adapter, items())]))
    assert caught.value.__notes__ == ["while training client a, step 1, round 2"]


@pytest.mark.parametrize(
    ("wanted", "model", "kind", "note"),
    [
        ("batched", Net, BatchedTrainer, ""),
        ("batched", CentresItsInput, SequentialTrainer, "clients are trained one at a time: gradients of two"),
        ("sequential", Net, SequentialTrainer, ""),
        ("sequential", CentresItsInput, SequentialTrainer, ""),
    ],
)
def test_the_trainer_that_is_chosen_trains_right(wanted, model, kind, note):
    adapter, task = adapter_of(model()), CustomTask(each)
    work = [
        TrainingJob(plan(f"c{k}", optimizer="sgd", learning_rate=0.1), adapter.get(), items(seed=k)) for k in range(3)
    ]
    choice = choose_trainer(wanted, adapter, task, work[0])
    assert choice.note.startswith(note)
    assert bool(choice.note) == bool(note)
    trainer = make_trainer(choice, adapter, task, rows=64, memory=10**8)
    assert type(trainer) is kind
    reference = SequentialTrainer(adapter, task).run(work)
    for mine, right in zip(list(trainer.run(work)), reference, strict=True):
        np.testing.assert_allclose(mine.delta, right.delta, atol=1e-6 * np.abs(right.delta).max(), rtol=1e-5)


def test_the_model_is_as_it_was_also_after_a_refusal():
    adapter = adapter_of(CentresItsFeatures())
    before, state = adapter.get(), torch.get_rng_state()
    forwards = [module.forward for module in adapter.model.modules()]
    trouble, _ = examine(adapter, CustomTask(each), job_of(adapter, items()))
    assert trouble
    assert np.array_equal(adapter.get(), before)
    assert not adapter.gradient.any()
    assert [module.forward for module in adapter.model.modules()] == forwards
    assert torch.equal(torch.get_rng_state(), state)


def test_positions_of_a_text_are_no_examples():
    """A trained embedding of positions sees (1, T): not what the clients' examples are."""
    adapter = build_adapter(
        encoder("bert"), peft.LoraConfig(r=2, target_modules=["query", "position_embeddings"]), seed=1
    )
    (job,) = jobs("bert", adapter.get(), 1)
    trouble, _ = examine(adapter, Classify(), job)
    assert "position_embeddings sees an input of shape (1, 5)" in trouble


def test_texts_of_different_lengths_and_few_of_them():
    adapter = build_adapter(encoder("bert"), peft.LoraConfig(r=2, target_modules=["query"]), seed=1)
    for count in (1, 2, 3, 9):
        data = examples("bert", count, seed=count, lengths=(2, 9))
        assert examine(adapter, Classify(), TrainingJob(plan("a"), adapter.get(), data)) == ("", "")
