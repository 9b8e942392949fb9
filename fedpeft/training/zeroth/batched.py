"""Many clients' forward passes as one: every client has a row of adapter weights for each point of its step.

The frozen base sees the examples of all of them at once; θ + εz and θ − εz of one client are two rows like those of two
clients. A client's result does not depend, bit by bit, on who shared its passes, as in `fedpeft.training.batched`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from fedpeft.adapters import FlatAdapter
from fedpeft.training.batched.mapped import Unbatchable
from fedpeft.training.batched.model import ClientAxis
from fedpeft.training.batched.passes import PassLimits, next_pass
from fedpeft.training.batched.seat import Generators, Seat
from fedpeft.training.batched.seating import PreparedStarts, seated
from fedpeft.training.batches import join
from fedpeft.training.task import Task
from fedpeft.training.trainer import TrainingJob, TrainingResult
from fedpeft.training.zeroth.conservative import MULTIPLES, best_of
from fedpeft.training.zeroth.objective import measured
from fedpeft.training.zeroth.record import Record, ZerothSettings, impossible
from fedpeft.training.zeroth.walk import go, walk_of
from fedpeft.types import FloatArray
from fedpeft.zeroth.replica import Replica


class ZerothSeat(Seat):
    """A zeroth-order job being worked on.

    Args:
        order: the job's place among all jobs.
        record: of the job.
        theta: where it starts, shape (d,).
        task: what is trained.
        prepared: `Task.prepare` for the job's start.
        device: where θ lives.
    """

    def __init__(
        self, order: int, record: Record, theta: FloatArray, task: Task, prepared: Any, device: torch.device
    ) -> None:
        job = record.job
        super().__init__(order, TrainingJob(job.plan, theta, job.data), task, prepared, device)
        self.record = record
        self.losses = record.losses

    def result(self) -> TrainingResult:
        """What came of the job."""
        if self.error is not None:
            raise self.error
        if self.fault is not None:
            return TrainingResult(self.plan, fault=self.fault)
        self.record.seconds = self.seconds
        return self.record.result(self.theta)


class BatchedZerothTrainer:
    """Many clients in one forward pass; see `ZerothTrainer` for what goes in and comes out.

    Args:
        adapter: the model. Its own θ serves `Task.prepare` only.
        task: what is trained.
        replica: makes θ of coefficients, and knows the directions.
        settings: of each step.
        on_step: called after each client's step, for progress.
        records: see `ZerothTrainer`.
        rows: of an adapter layer's widest input in one pass, e.g. tokens.
        memory: bytes for the clients' rows and state.
        vectors: of θ's size that a client at work holds beside θ.
    """

    def __init__(
        self,
        adapter: FlatAdapter,
        task: Task,
        replica: Replica,
        settings: ZerothSettings,
        on_step: Callable[[], None] | None = None,
        records: type[Record] = Record,
        *,
        rows: int = 4096,
        memory: int = 300_000_000,
        vectors: int = 0,
    ) -> None:
        self.adapter = adapter
        self.task = task
        self.replica = replica
        self.settings = settings
        self.on_step = on_step
        self.records = records
        self.points = settings.estimator.points
        vector = 4 * adapter.layout.size
        state = (1 + vectors) * vector
        self.seats = max(1, memory // 2 // state)
        self.limits = PassLimits(rows, memory, state=state, row=2 * settings.widest * vector)
        self._axis = ClientAxis(adapter)
        self._prepared = PreparedStarts(self._prepare)

    def run(self, jobs: Sequence[TrainingJob]) -> Iterator[TrainingResult]:
        """See `Trainer.run`."""

        def sit(order: int, job: TrainingJob) -> ZerothSeat | TrainingResult:
            fault = impossible(job, self.replica, self.records.replayed)
            return self.seat(order, job) if fault is None else TrainingResult(job.plan, fault=fault)

        def work(seats: Sequence[ZerothSeat]) -> None:
            self._pass(next_pass(seats, self.limits))

        return seated(jobs, self.seats, sit, work)

    def losses(self, group: Sequence[ZerothSeat]) -> torch.Tensor:
        """The mean objective of each client's batch at each point of its step, shape (N, points), fp64.

        Raises:
            Unbatchable: the model or the task cannot serve several clients.
            ConfigError: the task has no such objective.
        """
        return self._losses(group, len(self.points), self._fill)

    def _losses(
        self, group: Sequence[ZerothSeat], places: int, fill: Callable[[torch.Tensor, ZerothSeat], None]
    ) -> torch.Tensor:
        """As `losses`, at so many places, shape (N, places); `fill` writes a client's row for each of them."""
        count = len(group) * places
        theta, _ = self._axis.rows_of(count)
        for number, seat in enumerate(group):
            fill(theta[number * places : (number + 1) * places], seat)
        each = [seat for seat in group for _ in range(places)]
        with torch.no_grad(), self._axis.serving(count, Generators(each)):
            outcomes = self.task.outcomes(self.adapter.model, join([seat.batch for seat in each]), group[0].prepared)
        found = measured(outcomes, self.settings.objective)
        if found.ndim != 1 or len(found) % count or (found.stride(0) == 0 and len(found) > 1):
            raise Unbatchable("the task's loss is one mean over a batch, not a loss per example")
        return found.cpu().double().reshape(len(group), places, -1).mean(2)  # not every device has fp64

    def _fill(self, rows: torch.Tensor, seat: ZerothSeat) -> None:
        """A client's row for each point."""
        rows[:] = seat.theta
        look = seat.record.look()
        for row, (own, multiple) in zip(rows, self.points, strict=True):
            if own >= 0:
                walk_of(row).add(look.directions[own], multiple * self.settings.epsilon)

    def _fill_trial(self, rows: torch.Tensor, seat: ZerothSeat, scalars: FloatArray) -> None:
        """A client's row for the step that its scalars say, for none, and for the opposite."""
        rows[:] = seat.theta
        look, trial = seat.record.look(), seat.record.trial(scalars)
        for row, multiple in zip(rows, MULTIPLES, strict=True):
            go(walk_of(row), look.moves(multiple * trial))

    def _pass(self, group: Sequence[ZerothSeat]) -> None:
        if not group:
            return
        began, shape = time.perf_counter(), group[0].shape
        try:
            losses = self.losses(group).numpy()
            rows = self._axis.rows
            means = [float(own.mean()) for own in losses]
            scalars = [
                seat.record.scalars(np.asarray(own), mean) for seat, own, mean in zip(group, losses, means, strict=True)
            ]
            if self.settings.conservative:
                scalars = self._best(group, scalars)
                rows = max(rows, self._axis.rows)
        except Exception as error:
            self._blame(error, group)
            return
        if not self.limits.known(shape):
            self.limits.measured(shape, len(group), rows, 0)
        for seat, own, mean in zip(group, scalars, means, strict=True):
            seat.record.move(walk_of(seat.theta), seat.theta, seat.record.look(), own, mean)
        share = (time.perf_counter() - began) / len(group)
        for seat in group:
            seat.seconds += share
            seat.fetch()
            if self.on_step is not None:
                self.on_step()

    def _best(self, group: Sequence[ZerothSeat], scalars: Sequence[FloatArray]) -> list[FloatArray]:
        """The scalars of what is best for each client on its batch: to step, to stay, or to step the other way."""
        own = {id(seat): mine for seat, mine in zip(group, scalars, strict=True)}
        found = self._losses(group, len(MULTIPLES), lambda rows, seat: self._fill_trial(rows, seat, own[id(seat)]))
        return [mine * np.float32(best_of(losses)) for mine, losses in zip(scalars, found.numpy(), strict=True)]

    def rows(self, seat: ZerothSeat) -> torch.Tensor:
        """A client's θ at each point of its next step, shape (points, d)."""
        rows = seat.theta.repeat(len(self.points), 1)
        self._fill(rows, seat)
        return rows

    def seat(self, order: int, job: TrainingJob) -> ZerothSeat:
        """A client at work, with its first batch."""
        began = time.perf_counter()
        record = self.records(job, self.replica, self.settings)
        theta = record.start()
        seat = ZerothSeat(order, record, theta, self.task, self._prepared.of(theta), self.adapter.theta.device)
        seat.fetch()
        seat.seconds = time.perf_counter() - began
        return seat

    def _prepare(self, theta: FloatArray) -> Any:
        self.adapter.set(theta)
        with torch.no_grad():
            return self.task.prepare(self.adapter.model)

    def _blame(self, error: Exception, group: Sequence[ZerothSeat]) -> None:
        """A pass raised: repeat it client by client, so that whose data did it is known, and the others go on."""
        if len(group) == 1:
            group[0].blame(error)
            return
        for seat in group:
            self._pass([seat])
