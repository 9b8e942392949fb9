"""One client at work: where its training stands between two passes."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch

from fedpeft.errors import ClientFault
from fedpeft.training.batches import signature
from fedpeft.training.objectives import Objective
from fedpeft.training.objectives.frozen import hold
from fedpeft.training.objectives.open import open_objective, sent_by
from fedpeft.training.objectives.plain import Plain
from fedpeft.training.task import Task
from fedpeft.training.trainer import TrainingJob, TrainingResult, batch_order, not_finite


class Generators(Sequence[torch.Generator]):
    """The generators of several seats, each made when it is first asked for: without dropout nobody does."""

    def __init__(self, seats: Sequence[Seat]) -> None:
        self._seats = seats

    def __len__(self) -> int:
        return len(self._seats)

    def __getitem__(self, place: Any) -> Any:
        return self._seats[place].generator


class Seat:
    """A job being worked on.

    Args:
        order: the job's place among all jobs.
        job: what is to be done.
        task: what is trained.
        prepared: `Task.prepare` for the job's start; jobs with one start share the object.
        device: where θ lives.

    Attributes:
        theta: (d,), fp32; its `.grad` is None between passes.
        batch: the next one, once `advance` was called; None when all steps are done.
        shape: of the next batch; passes are measured by it.
        key: what clients in one pass must share.
    """

    def __init__(self, order: int, job: TrainingJob, task: Task, prepared: Any, device: torch.device) -> None:
        self.order = order
        self.job = job
        self.plan = job.plan
        self.prepared = prepared
        self.theta = torch.from_numpy(job.start).to(device, copy=True)
        self.objective: Objective = open_objective(
            job.plan, job.received, job.memory, self.theta, job.frozen, job.layout
        )
        self.losses: list[float] = []
        self.seconds = 0.0
        self.fault: ClientFault | None = None
        self.error: Exception | None = None
        self.batch: Any = None
        self.shape: Hashable = None
        self.key: Hashable = None
        self._task = task
        self._start = None if isinstance(self.objective, Plain) else self.theta.clone()
        lengths = getattr(job.data, "lengths", None)
        self._order = batch_order(job.plan.seed, len(job.data), job.plan.batch_size, job.plan.steps, lengths)

    @cached_property
    def generator(self) -> torch.Generator:
        """For dropout, started as `seeded_torch` does; made when it is first asked for."""
        return torch.Generator(self.theta.device).manual_seed(self.plan.seed % 2**63)

    def draws(self) -> torch.Tensor | None:
        """Where the generator stands; None before it is first asked for."""
        return self.generator.get_state() if "generator" in vars(self) else None

    def draw_again(self, state: torch.Tensor | None) -> None:
        """Go back to what `draws` returned."""
        if state is None:
            vars(self).pop("generator", None)
        else:
            self.generator.set_state(state)

    @property
    def left(self) -> int:
        """Steps to go."""
        return 0 if self.batch is None else self.plan.steps - len(self.losses)

    def advance(self) -> None:
        """Fetch the next batch."""
        indices = next(self._order, None)
        if indices is None:
            self.batch = None
            return
        self.batch = self._task.batch(self.job.data, indices)
        self.shape = signature(self.batch)
        self.key = (self.shape, id(self.prepared))

    def fetch(self) -> None:
        """As `advance`; whatever the client's data raise is kept until its result is asked for."""
        try:
            self.advance()
        except Exception as error:
            self.blame(error)

    def blame(self, error: Exception) -> None:
        """This client's data raised `error`: its own fault, or somebody's bug."""
        if isinstance(error, ClientFault):
            self.fail(error)
        else:
            self.crash(error)

    def take(self, loss: float, gradient: torch.Tensor) -> bool:
        """Take up what a pass made of the client's batch; True if θ is to step.

        The objective adds its part to `gradient`, shape (d,); it is not clipped yet.
        """
        if not math.isfinite(loss):
            step = len(self.losses) + 1
            self.fail(not_finite(self.plan, f"the training loss is {loss} at step {step}"))
            return False
        self.losses.append(loss)
        if self.job.scoring is not None:
            self.job.scoring.look(self.theta, gradient)
        if self._start is not None:
            self.objective.add_gradient(gradient, self.theta, self._start)
        return True

    def hold(self) -> None:
        """θ has stepped: what its round freezes goes back to where it started."""
        hold(self.objective, self.theta, self._start)

    def fail(self, fault: ClientFault) -> None:
        """This client is out; the others go on."""
        self.fault = fault
        self.batch = None

    def crash(self, error: Exception) -> None:
        """Something raised `error` over this client's data: a bug of somebody's, which `result` raises again."""
        step = len(self.losses) + 1
        error.add_note(f"while training client {self.plan.client}, step {step}, round {self.plan.round}")
        self.error = error
        self.batch = None

    def result(self) -> TrainingResult:
        """What came of the job; a fault if θ is no longer finite."""
        if self.error is not None:
            raise self.error
        if self.fault is not None:
            return TrainingResult(self.plan, fault=self.fault)
        delta = self.theta.cpu().numpy() - self.job.start
        with np.errstate(over="ignore"):  # what has diverged is told below
            length = float(delta @ delta)
        if not math.isfinite(length) and not torch.isfinite(self.theta).all():
            return TrainingResult(
                self.plan,
                fault=not_finite(self.plan, f"the adapter is no longer finite after step {len(self.losses)}"),
            )
        metrics = {"loss_first": self.losses[0], "loss_last": self.losses[-1], "seconds": self.seconds}
        return TrainingResult(self.plan, delta, metrics, sent=sent_by(self.objective, len(self.losses)))
