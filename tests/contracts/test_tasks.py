"""The contract of tasks: everything on the list trains several clients in one pass, as each alone, bit by bit.

A new task is one line in `KINDS`.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_language import chats, pictures, save_decoder, save_vit
from tiny_text import rows, save_model

from fedpeft.adapters import build_adapter, load_base
from fedpeft.config import GenerationTable
from fedpeft.data import ImageExamples, TextExamples
from fedpeft.evaluation import evaluate
from fedpeft.training import SequentialTrainer, TaskContext, TrainingJob
from fedpeft.training.batched import BatchedTrainer, examine
from fedpeft.training.tasks.causal_lm import CausalLanguageModel
from fedpeft.training.tasks.images import Images
from fedpeft.training.tasks.instructions import Instructions
from fedpeft.training.tasks.label_names import LabelNames
from fedpeft.training.tasks.linear_head import LinearHead
from fedpeft.types import ClientId, Plan

LABELS = ("sky", "sun")


def texts(count, shift, *, choices=False):
    found = rows(count, shift=shift)
    labels = np.array([LABELS.index(label) for _, label in found])
    allowed = tuple((0, 1) if i % 3 else (int(label),) for i, label in enumerate(labels))
    return TextExamples(tuple(text for text, _ in found), labels, allowed if choices else None)


def images(count, shift):
    found, labels = pictures(count, shift=shift)
    return ImageExamples(tuple(found), np.array(labels))


KINDS = {  # name -> what it is, how its model is saved, examples of a client
    "label-names": (LabelNames, save_model, texts),
    "label-names, choices": (LabelNames, save_model, lambda count, shift: texts(count, shift, choices=True)),
    "linear-head": (LinearHead, save_model, texts),
    "causal-lm, llama": (CausalLanguageModel, save_decoder, lambda n, s: chats(n, shift=s)),
    "causal-lm, gpt2": (CausalLanguageModel, lambda path: save_decoder(path, "gpt2"), lambda n, s: chats(n, shift=s)),
    "instructions, llama": (Instructions, save_decoder, lambda n, s: chats(n, shift=s)),
    "instructions, gpt2": (Instructions, lambda path: save_decoder(path, "gpt2"), lambda n, s: chats(n, shift=s)),
    "images": (Images, save_vit, images),
}


class Cohort:
    def __init__(self, folder, kind):
        import peft

        task_class, save, examples = KINDS[kind]
        base = load_base(str(save(folder / "model")), form=task_class.architecture, labels=LABELS, seed=3)
        context = TaskContext.of(base, LABELS, max_length=24, generation=GenerationTable(examples=0))
        self.task = task_class(context)
        whole = list(base.fresh) if base.form.classifier else None
        skipped = rf".*({'|'.join(base.fresh)}|pooler).*" if base.fresh else ".*pooler.*"
        config = peft.LoraConfig(r=2, target_modules="all-linear", exclude_modules=skipped, modules_to_save=whole)
        self.adapter = build_adapter(base.model, config, seed=3)
        theta = self.adapter.get()
        start = (theta + np.random.default_rng(2).normal(0, 0.02, theta.size)).astype(np.float32)
        self.data = [self.task.encode(examples(9 + k, k)) for k in range(4)]
        self.jobs = [
            TrainingJob(
                Plan("r", 1, 1, ClientId(f"c{k}"), seed=k, steps=3, batch_size=4, learning_rate=1e-2, optimizer="sgd"),
                start,
                data,
            )
            for k, data in enumerate(self.data)
        ]


@pytest.fixture(params=KINDS)
def cohort(request, tmp_path):
    return Cohort(tmp_path, request.param)


def deltas(trainer, jobs):
    results = list(trainer.run(jobs))
    assert not [result.fault for result in results if result.fault]
    return np.stack([result.delta for result in results])


def test_clients_are_trained_together_as_each_alone(cohort):
    assert examine(cohort.adapter, cohort.task, cohort.jobs[0]) == ("", "")
    together = deltas(BatchedTrainer(cohort.adapter, cohort.task), cohort.jobs)
    single = np.concatenate([deltas(BatchedTrainer(cohort.adapter, cohort.task), [job]) for job in cohort.jobs])
    assert np.array_equal(together, single)  # bit by bit
    alone = deltas(SequentialTrainer(cohort.adapter, cohort.task), cohort.jobs)
    sizes = np.linalg.norm(alone, axis=1)
    assert (sizes > 0).all()
    assert (np.linalg.norm(together - alone, axis=1) < 1e-4 * sizes).all()


def test_an_evaluation_does_not_depend_on_its_batches(cohort):
    pooled = cohort.task.pool(cohort.data)
    assert len(pooled) == sum(map(len, cohort.data))
    cohort.adapter.set(cohort.jobs[0].start)
    one, seven = (evaluate(cohort.adapter, cohort.task, pooled, batch_size=size) for size in (1, 7))
    assert one.examples == seven.examples == len(pooled)
    assert one.loss == pytest.approx(seven.loss, rel=1e-4)
    assert one.metrics == pytest.approx(seven.metrics, rel=1e-4)


def test_only_an_example_s_own_choices_compete(tmp_path):
    cohort = Cohort(tmp_path, "label-names, choices")
    task, model, data = cohort.task, cohort.adapter.model, cohort.data[0]
    free = task.encode(texts(9, 0))
    prepared = task.prepare(model)
    with torch.no_grad():
        chosen = task.outcomes(model, task.batch(data, np.arange(9)), prepared)
        among_all = task.outcomes(model, task.batch(free, np.arange(9)), prepared)
    for i in range(9):
        if i % 3:
            assert chosen.losses[i] == among_all.losses[i]
        else:  # its label is the only choice
            assert chosen.losses[i] == 0
            assert chosen.scores["accuracy"][i] == 1
            assert among_all.losses[i] > 0
    mixed = task.pool([data, free])
    assert mixed.choices.shape == (18, 2)
    assert mixed.choices[9:].all()
    assert mixed.choices[0].sum() == 1
    assert task.select(data, [0, 1]).choices.tolist() == data.choices[:2].tolist()
