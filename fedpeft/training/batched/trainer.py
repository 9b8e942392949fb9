"""The loop: seats are taken by jobs, passes train them, results leave in the order of the jobs.

A client's result does not depend, bit by bit, on who shared its passes: rows of a frozen product do not see each other,
everything else works on one client's numbers. So one client alone, as on a device, and a thousand together agree.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from fedpeft.adapters import FlatAdapter
from fedpeft.training.batched.forward import forward_backward
from fedpeft.training.batched.model import ClientAxis
from fedpeft.training.batched.optimizers import SeatOptimizers
from fedpeft.training.batched.passes import TRANSIENT, TRANSIENT_BF16, PassLimits, next_pass
from fedpeft.training.batched.seat import Seat
from fedpeft.training.batched.seating import PreparedStarts, seated
from fedpeft.training.objectives.open import vectors_held
from fedpeft.training.task import Task
from fedpeft.training.trainer import TrainingJob, TrainingResult, as_planned, clip_gradients
from fedpeft.types import FloatArray

_STATE, _PASS = 3, 2
"""Vectors of θ's size: of a client at work (θ and AdamW's two moments), and of its row in a pass (θ and gradient)."""


class BatchedTrainer:
    """Many clients in one pass of the frozen base; see `examine` for whether a model and task allow it.

    Args:
        adapter: the model. Its own θ serves `Task.prepare` only.
        task: what is trained.
        on_step: called after each client's optimizer step, for progress.
        rows: of an adapter layer's widest input in one pass, e.g. tokens.
        memory: bytes for the clients' state and activations, beside the base.
    """

    def __init__(
        self,
        adapter: FlatAdapter,
        task: Task,
        on_step: Callable[[], None] | None = None,
        *,
        rows: int = 4096,
        memory: int = 300_000_000,
    ) -> None:
        self.adapter = adapter
        self.task = task
        self.on_step = on_step
        self.memory = memory
        vector = 4 * adapter.layout.size
        self.seats = max(1, memory // 2 // (_STATE * vector))
        low = any(parameter.dtype == torch.bfloat16 for parameter in adapter.model.parameters())
        transient = TRANSIENT_BF16 if low else TRANSIENT
        self.limits = PassLimits(rows, memory, state=_STATE * vector, row=_PASS * vector, transient=transient)
        self._axis = ClientAxis(adapter)
        self._prepared = PreparedStarts(self._prepare)

    def run(self, jobs: Sequence[TrainingJob]) -> Iterator[TrainingResult]:
        """See `Trainer.run`."""
        optimizers = SeatOptimizers()

        def sit(order: int, job: TrainingJob) -> Seat:
            seat = self._sit(order, job)
            optimizers.add(seat)
            return seat

        def work(seats: Sequence[Seat]) -> None:
            self._pass(next_pass(seats, self.limits), optimizers)

        return seated(jobs, self._make_room(jobs), sit, work, optimizers.drop)

    def _make_room(self, jobs: Sequence[TrainingJob]) -> int:
        """How many clients may be at work at a time, each with what its objective holds."""
        plans = {job.plan.objective: job.plan for job in jobs}
        held = max((vectors_held(plan) for plan in plans.values()), default=0) or int(bool(self.adapter.merged))
        self.limits.state = (_STATE + held) * 4 * self.adapter.layout.size
        return self.seats if not held else max(1, self.memory // 2 // self.limits.state)

    def _sit(self, order: int, job: TrainingJob) -> Seat:
        began = time.perf_counter()
        job = as_planned(job, self.adapter)
        seat = Seat(order, job, self.task, self._prepared.of(job.start), self.adapter.theta.device)
        seat.fetch()
        seat.seconds = time.perf_counter() - began
        return seat

    def _prepare(self, start: FloatArray) -> Any:
        self.adapter.set(start)
        return self.task.prepare(self.adapter.model)

    def _pass(self, group: Sequence[Seat], optimizers: SeatOptimizers) -> None:
        if not group:
            return
        began = time.perf_counter()
        shape = group[0].shape
        drawn = [seat.draws() for seat in group]
        try:
            losses, gradients, held = forward_backward(
                self._axis, self.task, group, measure=not self.limits.known(shape)
            )
        except Exception as error:
            self._blame(error, group, drawn, optimizers)
            return
        if held is not None:
            self.limits.measured(shape, len(group), self._axis.rows, held)
        moving = [
            (seat, gradient)
            for seat, loss, gradient in zip(group, losses, gradients, strict=True)
            if seat.take(loss, gradient)
        ]
        clip_gradients(gradients, [seat.plan.max_grad_norm for seat in group])
        optimizers.step([seat for seat, _ in moving], [gradient for _, gradient in moving])
        share = (time.perf_counter() - began) / len(group)
        for seat, _ in moving:
            seat.hold()
            seat.seconds += share
            seat.fetch()
            if self.on_step is not None:
                self.on_step()

    def _blame(
        self, error: Exception, group: Sequence[Seat], drawn: Sequence[torch.Tensor | None], optimizers: SeatOptimizers
    ) -> None:
        """A pass raised: repeat it client by client, so that whose data did it is known, and the others go on."""
        if len(group) == 1:
            group[0].blame(error)
            return
        for seat, state in zip(group, drawn, strict=True):
            seat.draw_again(state)
            self._pass([seat], optimizers)
