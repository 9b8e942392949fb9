"""What each task asks the model, and what it makes of a batch."""

import numpy as np
import pytest
import torch
from tiny_text import save_model, tokenizer

from fedpeft.adapters import load_base
from fedpeft.data import TextExamples
from fedpeft.training import TaskContext
from fedpeft.training.tasks.custom import CustomTask
from fedpeft.training.tasks.label_names import LabelNames
from fedpeft.training.tasks.linear_head import LinearHead
from fedpeft.training.tasks.text import pad, padding_of

TEXTS = TextExamples(("the sky is here", "lemon", "my gold is"), np.array([0, 1, 1]))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return load_base(str(save_model(tmp_path_factory.mktemp("base") / "model")))


@pytest.fixture
def task(base):
    return LabelNames(TaskContext.of(base, ("sky", "sun"), max_length=6))


def test_texts_are_tokenised_once_cut_and_padded_on_the_right(task):
    data = task.encode(TEXTS)
    assert data.lengths.tolist() == [6, 3, 5]
    assert [len(task.encode(TextExamples(("the " * 40,), np.array([0]))).tokens[0])] == [6]
    batch = task.batch(data, np.array([1, 2]))
    assert batch.inputs["input_ids"].shape == (2, 5)
    assert batch.inputs["input_ids"][0, 3:].tolist() == [0, 0]
    assert batch.inputs["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert batch.labels.tolist() == [1, 1]


def test_select_and_pool_keep_texts_with_their_labels(task):
    data = task.encode(TEXTS)
    part = task.select(data, [2, 0])
    assert [row.tolist() for row in part.tokens] == [data.tokens[2].tolist(), data.tokens[0].tolist()]
    assert part.labels.tolist() == [1, 0]
    both = task.pool([part, data])
    assert len(both) == 5
    assert both.labels.tolist() == [1, 0, 0, 1, 1]


def test_no_texts_are_an_empty_data_set(task):
    data = task.encode(TextExamples((), np.array([], dtype=np.int64)))
    assert len(data) == 0
    assert data.lengths.tolist() == []


def test_label_names_are_unit_vectors_without_gradient(base, task):
    prepared = task.prepare(base.model)
    torch.testing.assert_close(prepared.norm(dim=1), torch.ones(2))
    assert not prepared.requires_grad


def test_a_text_that_is_a_label_name_is_that_label(base, task):
    batch = task.batch(task.encode(TextExamples(("sun", "sky"), np.array([1, 0]))), np.array([0, 1]))
    outcomes = task.outcomes(base.model, batch, task.prepare(base.model))
    assert outcomes.scores["accuracy"].tolist() == [1.0, 1.0]
    cosine = float(torch.dot(*task.prepare(base.model)))
    expected = np.log(1 + np.exp(20 * (cosine - 1)))  # its own cosine is 1
    np.testing.assert_allclose(outcomes.losses.detach(), [expected, expected], atol=1e-5)


def test_labels_of_one_name_each_need_words_only(base):
    assert LabelNames.architecture == "encoder"
    assert LinearHead.architecture == "sequence-classifier"
    assert LinearHead(TaskContext.of(base, ("a", "b", "c"), max_length=6)).labels == 3


def test_an_untrained_head_finds_all_labels_alike(tmp_path):
    base = load_base(str(save_model(tmp_path / "model")), labels=("sky", "sun"))
    task = LinearHead(TaskContext.of(base, ("sky", "sun"), max_length=6))
    outcomes = task.outcomes(base.model, task.batch(task.encode(TEXTS), np.arange(3)), task.prepare(base.model))
    np.testing.assert_allclose(outcomes.losses.detach(), np.full(3, np.log(2)), atol=1e-6)


def test_a_tokenizer_without_padding_token_pads_with_its_end_of_text():
    padding = padding_of(tokenizer(padding=False))
    assert pad([np.array([5]), np.array([6, 7])], padding)["input_ids"].tolist() == [[5, 3], [6, 7]]


def square(model, batch):
    return (model(batch[0]) - batch[1]).square().sum(1)


def pairs(count):
    return [(torch.full((2,), float(i)), torch.zeros(3)) for i in range(count)]


def test_a_loss_per_example_and_its_mean_train_alike():
    torch.manual_seed(1)
    model = torch.nn.Linear(2, 3)
    gradients = []
    for task in (CustomTask(square), CustomTask(lambda m, b: square(m, b).mean())):
        outcomes = task.outcomes(model, task.batch(pairs(5), np.array([1, 3, 4])), task.prepare(model))
        assert outcomes.losses.shape == (3,)
        assert not outcomes.scores
        gradients.append(torch.autograd.grad(outcomes.losses.mean(), model.weight)[0])
    torch.testing.assert_close(gradients[0], gradients[1])


def test_a_users_collate_and_correct_are_called():
    task = CustomTask(
        lambda m, b: m(b),
        lambda m, b: torch.tensor([True, False]),
        collate=lambda items: torch.stack([x for x, _ in items]),
    )
    batch = task.batch(pairs(5), np.array([1, 3]))
    outcomes = task.judge(lambda x: x.sum(1), batch, None)
    assert outcomes.losses.tolist() == [2.0, 6.0]
    assert outcomes.scores["accuracy"].tolist() == [1.0, 0.0]
    assert not task.outcomes(lambda x: x.sum(1), batch, None).scores  # a training step does not pay for them


def test_metrics_of_ones_own_are_of_each_example_or_their_mean():
    metrics = {"size": lambda m, b: b[0].sum(1), "half": lambda m, b: 0.5, "mean": lambda m, b: b[0].mean()}
    task = CustomTask(square, metrics=metrics)
    torch.manual_seed(1)
    scores = task.judge(torch.nn.Linear(2, 3), task.batch(pairs(5), np.array([1, 3])), None).scores
    assert {name: values.tolist() for name, values in scores.items()} == {
        "size": [2.0, 6.0],
        "half": [0.5, 0.5],
        "mean": [2.0, 2.0],
    }


def test_a_metric_that_cannot_be_is_named():
    with pytest.raises(ValueError, match="'loss' is there already"):
        CustomTask(square, metrics={"loss": square})
    with pytest.raises(ValueError, match="'accuracy' is there already"):
        CustomTask(square, lambda m, b: b[1][:, 0] == 0, metrics={"accuracy": square})
    CustomTask(square, metrics={"accuracy": square})
    task = CustomTask(square, metrics={"wide": lambda m, b: b[0]})
    with pytest.raises(ValueError, match=r"metric 'wide' gave a tensor of shape \(2, 2\) for 2 examples"):
        task.judge(torch.nn.Linear(2, 3), task.batch(pairs(5), np.array([1, 3])), None)


def test_any_data_set_can_be_selected_from_and_pooled():
    task = CustomTask(square)
    items = pairs(4)
    assert task.encode(items) is items
    pooled = task.pool([task.select(items, [2, 0]), items])
    assert [float(pooled[i][0][0]) for i in range(len(pooled))] == [2, 0, 0, 1, 2, 3]
