"""Local training against an ordinary loop over peft's own parameters: same batches, same optimizer, same result."""

from dataclasses import replace

import numpy as np
import peft
import pytest
import torch
from tiny_text import rows, save_model

from fedpeft.adapters import build_adapter, load_base, peft_config
from fedpeft.adapters.flat import canonical_name
from fedpeft.config import AdapterTable
from fedpeft.data import TextExamples
from fedpeft.training import SequentialTrainer, TaskContext, TrainingJob, batch_order
from fedpeft.training.tasks.label_names import LabelNames
from fedpeft.training.tasks.linear_head import LinearHead
from fedpeft.training.trainer import clip_gradients
from fedpeft.types import ClientId, Plan

# said by peft about transformers, when a user of both wraps a model
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")
LABELS = ("sky", "sun")
TEXTS = [text for text, _ in rows(22)]
NUMBERS = np.array([LABELS.index(label) for _, label in rows(22)])
PLAN = Plan(
    "r", 1, 1, ClientId("a"), seed=6, steps=3, batch_size=4, learning_rate=0.03, optimizer="sgd", max_grad_norm=0.0
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(save_model(tmp_path_factory.mktemp("base") / "model"))


def ordinary_model(folder, head):
    """As a user of peft writes it, with θ_0 copied in."""
    from transformers import AutoModel, AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification if head else AutoModel
    config = peft.LoraConfig(
        r=2,
        lora_alpha=16,
        target_modules=["query", "value"],
        task_type="SEQ_CLS" if head else None,
    )
    return peft.get_peft_model(model.from_pretrained(folder), config).eval()


def ordinary_loop(model, folder, head, start, plan):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    named = {canonical_name(n): p for n, p in model.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for name, parameter in named.items():
            parameter.copy_(start[name])
    optimizer = torch.optim.SGD(named.values(), lr=plan.learning_rate, weight_decay=plan.weight_decay)

    def embed(texts):
        batch = tokenizer(texts, padding=True, return_tensors="pt")
        hidden = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
        mask = batch["attention_mask"][..., None]
        mean = (hidden * mask).sum(1) / mask.sum(1)
        return mean / mean.norm(dim=1, keepdim=True)

    with torch.no_grad():
        names = None if head else embed(list(LABELS))
    lengths = np.array([len(ids) for ids in tokenizer(TEXTS)["input_ids"]])
    for indices in batch_order(plan.seed, len(TEXTS), plan.batch_size, plan.steps, lengths):
        texts, labels = [TEXTS[i] for i in indices], torch.from_numpy(NUMBERS[indices])
        if head:
            batch = tokenizer(texts, padding=True, return_tensors="pt")
            loss = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels).loss
        else:
            loss = torch.nn.functional.cross_entropy(20.0 * embed(texts) @ names.T, labels)
        optimizer.zero_grad()
        loss.backward()
        if plan.max_grad_norm:
            torch.nn.utils.clip_grad_norm_(named.values(), plan.max_grad_norm)
        optimizer.step()
    return {name: parameter.detach() - start[name] for name, parameter in named.items()}


@pytest.mark.parametrize("max_grad_norm", [0.0, 0.05])
@pytest.mark.parametrize("head", [False, True], ids=["label-names", "linear-head"])
def test_training_equals_plain_peft(folder, head, max_grad_norm):
    base = load_base(folder, labels=LABELS if head else None)
    table = AdapterTable(rank=2, target_modules=["query", "value"])
    adapter = build_adapter(base.model, peft_config(table, classifier=head, fresh=base.fresh), seed=3)
    theta = adapter.get() + np.random.default_rng(1).normal(0, 0.1, adapter.layout.size).astype(np.float32)
    task = (LinearHead if head else LabelNames)(TaskContext.of(base, LABELS, max_length=16))
    plan = replace(PLAN, max_grad_norm=max_grad_norm)
    job = TrainingJob(plan, theta, task.encode(TextExamples(tuple(TEXTS), NUMBERS)))
    (result,) = SequentialTrainer(adapter, task).run([job])
    start = {
        t.name: torch.from_numpy(theta[t.offset : t.offset + t.size].reshape(t.shape)) for t in adapter.layout.tensors
    }
    expected = ordinary_loop(ordinary_model(folder, head), folder, head, start, plan)
    assert set(expected) == set(start)
    assert np.abs(result.delta).max() > 1e-4
    for tensor in adapter.layout.tensors:
        ours = torch.from_numpy(result.delta[tensor.offset : tensor.offset + tensor.size].reshape(tensor.shape))
        torch.testing.assert_close(ours, expected[tensor.name], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("max_norm", [0.5, 1e3])
def test_clipping_is_torch_s(max_norm):
    gradient = torch.randn(100, generator=torch.Generator().manual_seed(1))
    parameters = [torch.nn.Parameter(torch.zeros(40)), torch.nn.Parameter(torch.zeros(60))]
    for parameter, part in zip(parameters, gradient.split([40, 60]), strict=True):
        parameter.grad = part.clone()
    torch.nn.utils.clip_grad_norm_(parameters, max_norm)
    clip_gradients(gradient.unsqueeze(0), [max_norm])
    torch.testing.assert_close(gradient, torch.cat([parameter.grad for parameter in parameters]))


def test_no_clipping_with_zero():
    gradient = torch.full((4,), 1e6)
    clip_gradients(gradient.unsqueeze(0), [0.0])
    assert torch.equal(gradient, torch.full((4,), 1e6))


def test_clipping_one_clients_gradient_does_not_look_at_the_others():
    for size in (1, 7, 100, 99_991):
        gradients = torch.randn(9, size, generator=torch.Generator().manual_seed(size))
        norms = [0.0, 0.5, 1e9, 0.1, 3.0, 0.0, 1e-3, 2.0, 0.7]
        together = gradients.clone()
        clip_gradients(together, norms)
        for mine, own, norm in zip(together, gradients, norms, strict=True):
            alone = own.clone().unsqueeze(0)
            clip_gradients(alone, [norm])
            assert torch.equal(alone[0], mine)
            assert not norm or float(mine.norm()) <= norm * (1 + 1e-5)
