"""Clients that learn from forward passes alone, one after the other.

    coefficients ── replica ──> θ ── points of a step ──> losses ── estimator ──> g ──> θ ← θ − lr Σ g z, and on
                                                                                  └──> scalars: all that is sent

MeZO's step (Malladi et al. 2023, arXiv 2305.17333), in place: to θ + εz, to θ − εz, and from there straight to the next
θ, so a step passes over the weights three times, whatever the optimizer of the coefficients adds up. What rounding
those moves leave behind is thrown away with θ at the end of the round: the federation's model is what the replica
rebuilds from the scalars. By a `LocalRecord` θ is kept, and its difference sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fedpeft.adapters import FlatAdapter
from fedpeft.errors import ClientFault
from fedpeft.training.task import Task
from fedpeft.training.trainer import TrainingJob, TrainingResult, batch_order
from fedpeft.training.zeroth.conservative import MULTIPLES, best_of
from fedpeft.training.zeroth.look import Look
from fedpeft.training.zeroth.objective import measured
from fedpeft.training.zeroth.record import Record, ZerothSettings, impossible
from fedpeft.training.zeroth.slopes import slopes_along
from fedpeft.training.zeroth.walk import Walk, go, walk_of
from fedpeft.types import FloatArray
from fedpeft.zeroth.optimizers import Vector
from fedpeft.zeroth.replica import Replica


class ZerothTrainer:
    """One client at a time on one model; see `Trainer`. A job's start are coefficients, shape (E·K,), and so is its
    result's delta, in units; the result's `scalars` are what a client sends.

    Args:
        adapter: the model; its θ is overwritten by each job.
        task: what is trained.
        replica: makes θ of coefficients, and knows the directions.
        settings: of each step.
        on_step: called after each step, for progress.
        records: what becomes of a job: by `Record` scalars, by `LocalRecord` a delta of θ, whose jobs start from θ.
    """

    def __init__(
        self,
        adapter: FlatAdapter,
        task: Task,
        replica: Replica,
        settings: ZerothSettings,
        on_step: Callable[[], None] | None = None,
        records: type[Record] = Record,
    ) -> None:
        self.adapter = adapter
        self.task = task
        self.replica = replica
        self.settings = settings
        self.on_step = on_step
        self.records = records
        self._prepared_for: FloatArray | None = None
        self._prepared: Any = None

    def run(self, jobs: Sequence[TrainingJob]) -> Iterator[TrainingResult]:
        """See `Trainer.run`."""
        for job in jobs:
            fault = impossible(job, self.replica, self.records.replayed)
            if fault is not None:
                yield TrainingResult(job.plan, fault=fault)
                continue
            try:
                yield self._train(job)
            except ClientFault as fault:
                yield TrainingResult(job.plan, fault=fault)

    def _train(self, job: TrainingJob) -> TrainingResult:
        record, plan = self.records(job, self.replica, self.settings), job.plan
        self.adapter.set(record.start())
        self.adapter.train(False)
        walk, lengths = walk_of(self.adapter.theta), getattr(job.data, "lengths", None)
        try:
            with torch.no_grad():
                prepared = self._prepare(job.start)
                for indices in batch_order(plan.seed, len(job.data), plan.batch_size, plan.steps, lengths):
                    self.step(walk, record, self.task.batch(job.data, indices), prepared)
                    if self.on_step is not None:
                        self.on_step()
        except ClientFault:
            raise
        except Exception as error:
            error.add_note(f"while training client {plan.client}, step {record.steps + 1}, round {plan.round}")
            raise
        return record.result(self.adapter.theta)

    def step(self, walk: Walk, record: Record, batch: Any, prepared: Any) -> None:
        """One step of θ on one batch; under a loss that is not finite its scalars are 0.

        Args:
            walk: moves θ.
            record: of the client.
            batch: from `task.batch`.
            prepared: from `task.prepare`.
        """
        look = record.look()
        values, loss, back = self.values(walk, look, batch, prepared)
        scalars = record.scalars(values, loss)
        stands: Vector | float = 0.0  # by how much θ was moved on already, in coefficients
        if self.settings.conservative and scalars.any():
            trial, at = record.trial(scalars), 0
            losses: list[float] = []
            go(walk, look.moves(np.zeros_like(trial), back))
            for multiple in MULTIPLES:
                go(walk, look.moves((multiple - at) * trial))
                losses.append(self._measure(batch, prepared))
                at = multiple
            scalars, stands, back = scalars * np.float32(best_of(losses)), at * trial, None
        record.move(walk, self.adapter.theta, look, scalars, loss, back, stands)

    def values(
        self, walk: Walk, look: Look, batch: Any, prepared: Any
    ) -> tuple[npt.NDArray[np.float64], float, list[float] | None]:
        """What the estimator asks for, the step's loss, and how far θ then stands along each direction.

        Raises:
            ConfigError: the task has no such objective.
            ModelError: the estimator asks for slopes, and the model has none.
        """
        settings = self.settings
        if settings.slopes:
            loss, slopes = slopes_along(self.adapter, self.task, batch, prepared, look.directions)
            return slopes, loss if np.isfinite(slopes).all() else float("nan"), None
        points, epsilon = settings.estimator.points, settings.epsilon
        offsets = [0] * settings.estimator.directions  # where θ stands along each direction, in ε
        losses = np.empty(len(points))
        for number, (own, multiple) in enumerate(points):
            for other, offset in enumerate(offsets):
                wanted = multiple if other == own else 0
                if offset != wanted:
                    walk.add(look.directions[other], (wanted - offset) * epsilon)
                    offsets[other] = wanted
            losses[number] = self._measure(batch, prepared)
        return losses, float(losses.mean()), [offset * epsilon for offset in offsets]

    def _measure(self, batch: Any, prepared: Any) -> float:
        """The objective's mean over a batch, where θ stands."""
        outcomes = self.task.outcomes(self.adapter.model, batch, prepared)
        return float(measured(outcomes, self.settings.objective).cpu().double().mean())  # not every device has fp64

    def _prepare(self, start: FloatArray) -> Any:
        """`Task.prepare` for this start; a cohort that starts from one broadcast shares it."""
        if self._prepared_for is None or not np.array_equal(self._prepared_for, start):
            self._prepared = self.task.prepare(self.adapter.model)
            self._prepared_for = start.copy()
        return self._prepared
