"""An evaluation depends on θ and the examples, not on how they are batched."""

import numpy as np
import peft
import pytest
import torch
from tiny_text import rows, save_model

from fedpeft.adapters import build_adapter, load_base, peft_config
from fedpeft.config import AdapterTable
from fedpeft.data import TextExamples
from fedpeft.evaluation import evaluate
from fedpeft.training import Outcomes, TaskContext
from fedpeft.training.tasks.custom import CustomTask
from fedpeft.training.tasks.label_names import LabelNames


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    base = load_base(str(save_model(tmp_path_factory.mktemp("base") / "model")))
    adapter = build_adapter(base.model, peft_config(AdapterTable(rank=2)), seed=1)
    task = LabelNames(TaskContext.of(base, ("sky", "sun"), max_length=16))
    found = [(f"{text} {'here ' * (i % 5)}", label) for i, (text, label) in enumerate(rows(23))]
    labels = np.array([("sky", "sun").index(label) for _, label in found])
    return adapter, task, task.encode(TextExamples(tuple(text for text, _ in found), labels))


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_padding_and_batching_do_not_change_the_result(text, batch_size):
    adapter, task, data = text
    alone = [evaluate(adapter, task, task.select(data, [i]), batch_size=1) for i in range(len(data))]
    result = evaluate(adapter, task, data, batch_size=batch_size)
    assert result.examples == 23
    assert result.accuracy == pytest.approx(np.mean([one.accuracy for one in alone]))
    assert result.loss == pytest.approx(np.mean([one.loss for one in alone]), abs=1e-5)


def test_the_order_of_the_examples_does_not_matter(text):
    adapter, task, data = text
    turned = task.select(data, list(range(23))[::-1])
    one, two = (evaluate(adapter, task, part, batch_size=8) for part in (data, turned))
    assert (one.accuracy, one.examples) == (two.accuracy, two.examples)
    assert one.loss == pytest.approx(two.loss, abs=1e-6)


def test_label_embeddings_follow_the_adapter(text):
    adapter, task, data = text
    theta = adapter.get()
    before = evaluate(adapter, task, data, batch_size=8)
    adapter.set(theta + np.random.default_rng(0).normal(0, 0.5, theta.size).astype(np.float32))
    moved = evaluate(adapter, task, data, batch_size=8)
    adapter.set(theta)
    assert moved.loss != before.loss
    assert evaluate(adapter, task, data, batch_size=8) == before


class Generates(LabelNames):
    """Its scores cost more than a forward pass, and what it makes of them needs them."""

    asked = 0

    def judge(self, model, batch, prepared):
        self.asked += 1
        return Outcomes(self.outcomes(model, batch, prepared).losses, {"rouge": batch[1].float()})

    def summary(self, means):
        return {"rouge": means["rouge"]}


def test_for_the_loss_alone_nothing_is_judged(text):
    adapter, task, data = text
    generates = Generates.__new__(Generates)
    generates.__dict__ = dict(task.__dict__)
    found = evaluate(adapter, generates, data, batch_size=8, losses_only=True)
    assert (generates.asked, found.accuracy, found.metrics, found.examples) == (0, None, {}, 23)
    assert found.loss == evaluate(adapter, task, data, batch_size=8).loss


def test_progress_tells_every_example(text):
    adapter, task, data = text
    told = []
    evaluate(adapter, task, data, batch_size=8, on_batch=told.append)
    assert told == [8, 8, 7]


def test_an_empty_set_has_no_accuracy(text):
    adapter, task, data = text
    result = evaluate(adapter, task, task.select(data, []), batch_size=8)
    assert (result.accuracy, result.loss, result.examples) == (None, 0.0, 0)


def custom(correct):
    adapter = build_adapter(
        torch.nn.Sequential(torch.nn.Linear(2, 2)), peft.LoraConfig(r=1, target_modules=["0"]), seed=1
    )
    return adapter, CustomTask(lambda model, batch: model(batch).square().mean(1), correct)


def test_a_task_without_right_and_wrong_has_no_accuracy():
    adapter, task = custom(None)
    result = evaluate(adapter, task, [torch.ones(2)] * 5, batch_size=2)
    assert result.accuracy is None
    assert result.loss > 0


def test_accuracy_is_the_share_that_is_right():
    adapter, task = custom(lambda model, batch: batch[:, 0] > 2)
    result = evaluate(adapter, task, [torch.full((2,), float(i)) for i in range(5)], batch_size=2)
    assert result.accuracy == pytest.approx(2 / 5)


def test_a_model_may_keep_what_it_computed_and_be_trained_afterwards():
    class Caching(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(2, 2)
            self.scale = None

        def forward(self, x):
            if self.scale is None:
                self.scale = torch.ones(2) * 2  # as rotary embeddings are: made in the first pass, whichever it is
            return self.layer(x) * self.scale

    adapter = build_adapter(Caching(), peft.LoraConfig(r=1, target_modules=["layer"]), seed=1)
    task = CustomTask(lambda model, batch: model(batch).square().mean(1))
    evaluate(adapter, task, [torch.ones(2)] * 3, batch_size=2)
    task.outcomes(adapter.model, task.batch([torch.ones(2)], np.array([0])), None).losses.mean().backward()
    assert adapter.gradient.any()


class Judged:
    """Scores what an example is, of those that the judge is asked about."""

    def __init__(self, wanted=None):
        if wanted is not None:
            self.judged = wanted

    def batch(self, data, indices):
        return torch.tensor([data[i] for i in indices])

    def prepare(self, model):
        return None

    def outcomes(self, model, batch, prepared):
        return Outcomes(batch, {"always": batch})

    def judge(self, model, batch, prepared):
        return Outcomes(batch, {"always": batch, "seldom": batch})


@pytest.mark.parametrize(
    ("wanted", "asked"), [(None, range(10)), (10, range(10)), (99, range(10)), (4, (0, 2, 5, 7)), (1, (0,)), (0, ())]
)
@pytest.mark.parametrize("batch_size", [3, 64])
def test_a_judge_is_asked_about_some_examples_spread_evenly(wanted, asked, batch_size):
    adapter, _ = custom(None)
    told = []
    result = evaluate(
        adapter, Judged(wanted), [float(i) for i in range(10)], batch_size=batch_size, on_batch=told.append
    )
    assert (result.loss, result.examples, sum(told)) == (4.5, 10, 10)
    expected = {"always": 4.5} | ({"seldom": float(np.mean(list(asked)))} if asked else {})
    assert result.metrics == pytest.approx(expected)
