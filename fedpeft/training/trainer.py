"""The trainer takes many clients at once and yields each one's delta as it is done.

`SequentialTrainer` trains them one after the other on one model. The interface does not say so: a trainer that puts
many clients into one forward and backward pass of the frozen base takes the same jobs and yields the same results.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from fedpeft.adapters import FlatAdapter
from fedpeft.adapters.ranks import truncate
from fedpeft.adapters.seeded import seeded_torch
from fedpeft.errors import ClientFault
from fedpeft.pruning.scoring import Scoring
from fedpeft.pruning.sent import still_places
from fedpeft.randomness.streams import Stream, derive
from fedpeft.registry import load
from fedpeft.training.objectives import Objective
from fedpeft.training.objectives.frozen import hold
from fedpeft.training.objectives.open import open_objective, sent_by
from fedpeft.training.steps import PLAIN, StepSettings
from fedpeft.training.task import Task
from fedpeft.types import FloatArray, Layout, Plan


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """One client's work of one round."""

    plan: Plan
    start: FloatArray  # θ the round starts from, shape (d,)
    data: Any  # the client's examples, as `Task.encode` returned them
    received: Mapping[str, FloatArray] = field(default_factory=dict)  # for the client half, each of shape (d,)
    memory: Mapping[str, FloatArray] = field(default_factory=dict)  # the client half's own, each of shape (d,)
    scoring: Scoring | None = None  # told of every gradient, where heads and channels are scored
    frozen: npt.NDArray[np.bool_] | None = None  # which values do not move, shape (d,), as the trainer read in the plan
    layout: Layout | None = None  # of the start, as the trainer's adapter has it


SCALARS = "zeroth.scalars"
"""Under this name a zeroth-order trainer sends its scalars, where a client half would send its vectors."""


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What came of a job: a delta, or a fault that names the client."""

    plan: Plan
    delta: FloatArray | None = None  # shape (d,)
    metrics: dict[str, float] = field(default_factory=dict)  # loss_first, loss_last, seconds
    fault: ClientFault | None = None
    sent: Mapping[str, FloatArray] = field(default_factory=dict)  # by the client half, each of shape (d,)

    @property
    def scalars(self) -> FloatArray | None:
        """Zeroth order: what is sent in the delta's place, shape (steps · directions,); else None."""
        return self.sent.get(SCALARS)


class Trainer(Protocol):
    """The contract of a trainer."""

    def run(self, jobs: Sequence[TrainingJob]) -> Iterator[TrainingResult]:
        """Train every job; one result a job, in the order of the jobs. A client's fault never ends the others' work."""


def as_planned(job: TrainingJob, adapter: FlatAdapter) -> TrainingJob:
    """The job as a trainer of this adapter does it: start, and what came with it, cut to the plan's rank; which values
    its round freezes; and the layout, for objectives that ask."""
    plan, layout = job.plan, adapter.layout
    job = replace(job, layout=layout)
    if plan.frozen or adapter.merged:
        job = replace(job, frozen=still_places(layout, plan.frozen, adapter.merged))
    start = truncate(job.start, layout, plan.rank, adapter.merged)
    if start is job.start:
        return job
    received = {name: truncate(vector, layout, plan.rank, adapter.merged) for name, vector in job.received.items()}
    return replace(job, start=start, received=received)


GROUP = 8
"""Batches among which examples are sorted by length."""


def batch_order(
    seed: int, examples: int, batch_size: int, steps: int, lengths: npt.NDArray[np.int64] | None = None
) -> Iterator[npt.NDArray[np.int64]]:
    """The example indices of each step: seeded permutations of the client's data, one after another.

    Every batch has min(batch_size, examples) examples: a client with little data repeats it more often. Where lengths
    are known, examples of like length share a batch, so that it holds little padding (half the tokens of a step on
    Banking77): windows of `GROUP` batches are sorted by length, cut into batches, and the batches shuffled.

    Args:
        seed: uint64.
        examples: the client has.
        batch_size: examples a step.
        steps: batches to yield.
        lengths: of the examples, shape (examples,), e.g. in tokens.
    """
    size = min(batch_size, examples)
    stream = Stream(derive(seed, "data-order"))
    pending: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)
    for _ in range(steps):
        while len(pending) < size:
            order = stream.permutation(examples)
            if lengths is not None:
                order = _group_by_length(order, lengths, size, stream)
            pending = np.concatenate([pending, order])
        yield pending[:size]
        pending = pending[size:]


def _group_by_length(
    order: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], size: int, stream: Stream
) -> npt.NDArray[np.int64]:
    """One pass over the data, regrouped; what does not fill a batch stays last."""
    batches = []
    for begin in range(0, len(order), GROUP * size):
        window = order[begin : begin + GROUP * size]
        window = window[np.argsort(lengths[window], kind="stable")]
        whole = len(window) // size * size
        batches += [window[:whole].reshape(-1, size)[stream.permutation(whole // size)].reshape(-1), window[whole:]]
    return np.concatenate(batches)


class SequentialTrainer:
    """One client at a time on one model.

    Args:
        adapter: the model; its θ is overwritten by each job.
        task: what is trained.
        on_step: called after each optimizer step, for progress.
        settings: of each step.
    """

    def __init__(
        self,
        adapter: FlatAdapter,
        task: Task,
        on_step: Callable[[], None] | None = None,
        settings: StepSettings = PLAIN,
    ) -> None:
        self.adapter = adapter
        self.task = task
        self.on_step = on_step
        self.settings = settings
        self._prepared_for: FloatArray | None = None
        self._prepared: Any = None

    def run(self, jobs: Sequence[TrainingJob]) -> Iterator[TrainingResult]:
        """See `Trainer.run`."""
        for job in jobs:
            try:
                yield self._train(job)
            except ClientFault as fault:
                yield TrainingResult(job.plan, fault=fault)

    def _train(self, job: TrainingJob) -> TrainingResult:
        job = as_planned(job, self.adapter)
        plan, adapter = job.plan, self.adapter
        began = time.perf_counter()
        adapter.set(job.start)
        prepared = self._prepare(job.start)
        objective = open_objective(plan, job.received, job.memory, adapter.theta, job.frozen, job.layout)
        watched: Any = objective if job.scoring is None else job.scoring.watching(objective)
        optimizer = load("optimizer", plan.optimizer)([adapter.theta], plan)
        start = adapter.theta.clone()
        losses: list[float] = []
        adapter.train(True)
        try:
            with seeded_torch(plan.seed, adapter.theta.device):  # dropout
                lengths = getattr(job.data, "lengths", None)
                for indices in batch_order(plan.seed, len(job.data), plan.batch_size, plan.steps, lengths):
                    batch = self.settings.batch(self.task, job.data, indices)
                    loss = gradient_step(
                        adapter,
                        self.task,
                        batch,
                        prepared,
                        optimizer,
                        watched,
                        start,
                        plan.max_grad_norm,
                        self.settings,
                    )
                    with torch.no_grad():
                        hold(objective, adapter.theta, start)
                    if not np.isfinite(loss):
                        raise not_finite(plan, f"the training loss is {loss} at step {len(losses) + 1}")
                    losses.append(loss)
                    if self.on_step is not None:
                        self.on_step()
        except ClientFault:
            raise
        except Exception as error:
            error.add_note(f"while training client {plan.client}, step {len(losses) + 1}, round {plan.round}")
            raise
        finally:
            adapter.train(False)
        delta = (adapter.theta - start).cpu().numpy()
        if not np.isfinite(delta).all():  # the gradient of the last step may overflow where its loss did not
            raise not_finite(plan, f"the adapter is no longer finite after step {len(losses)}")
        metrics = {"loss_first": losses[0], "loss_last": losses[-1], "seconds": time.perf_counter() - began}
        return TrainingResult(plan, delta, metrics, sent=sent_by(objective, len(losses)))

    def _prepare(self, start: FloatArray) -> Any:
        """`Task.prepare` for this start; a cohort that starts from one broadcast shares it."""
        if self._prepared_for is None or not np.array_equal(self._prepared_for, start):
            self._prepared = self.task.prepare(self.adapter.model)
            self._prepared_for = start.copy()
        return self._prepared


def not_finite(plan: Plan, what: str) -> ClientFault:
    """The fault of a client whose training left the finite numbers."""
    return ClientFault(
        f"client {plan.client}: {what}, round {plan.round}",
        code="training.loss-not-finite",
        allowed="a finite loss and a finite adapter",
        remedy="lower local.learning_rate or look at this client's data",
    )


def gradient_step(
    adapter: FlatAdapter,
    task: Task,
    batch: Any,
    prepared: Any,
    optimizer: torch.optim.Optimizer,
    objective: Objective,
    start: torch.Tensor,
    max_norm: float,
    settings: StepSettings = PLAIN,
) -> float:
    """One optimizer step on one batch; returns the mean loss before it.

    With a loss that is not finite nothing is changed.

    Args:
        adapter: holds θ, which `optimizer` steps.
        task: what is trained.
        batch: from `task.batch`, or `settings.batch`.
        prepared: from `task.prepare`.
        optimizer: over `adapter.theta`.
        objective: adds to the gradient.
        start: θ as the round started, shape (d,).
        max_norm: L2 norm that the gradient is clipped to; 0 = no clipping.
        settings: how the gradient is made.
    """
    adapter.gradient.zero_()
    value = settings.add_gradient(adapter, task, batch, prepared)
    if not np.isfinite(value):
        return value
    adapter.theta.grad = adapter.gradient
    with torch.no_grad():
        objective.add_gradient(adapter.gradient, adapter.theta, start)
        clip_gradients(adapter.gradient.unsqueeze(0), [max_norm])
        optimizer.step()
    return value


def clip_gradients(gradients: torch.Tensor, max_norms: Sequence[float]) -> None:
    """Scale each client's gradient in place to an L2 norm of at most its `max_norm`; 0 = leave it.

    Args:
        gradients: (N, d).
        max_norms: N numbers.
    """
    if not any(max_norms):
        return
    norms = torch.linalg.vector_norm(gradients, dim=1).add_(1e-6)  # a row's norm does not depend on the other rows
    limits = torch.tensor([limit or math.inf for limit in max_norms], dtype=norms.dtype, device=norms.device)
    gradients.mul_(limits.div_(norms).clamp_(max=1.0).unsqueeze(1))
