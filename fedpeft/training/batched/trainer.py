"""The loop: seats are taken by jobs, passes train them, results leave in the order of the jobs.

A client's result does not depend, bit by bit, on who shared its passes: rows of a frozen product do not see each other,
everything else works on one client's numbers. So one client alone, as on a device, and a thousand together agree.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from fedpeft.adapters import FlatAdapter
from fedpeft.errors import ClientFault
from fedpeft.training.batched.forward import forward_backward
from fedpeft.training.batched.model import ClientAxis
from fedpeft.training.batched.optimizers import SeatOptimizers
from fedpeft.training.batched.passes import TRANSIENT, TRANSIENT_BF16, PassLimits, next_pass
from fedpeft.training.batched.seat import Seat
from fedpeft.training.objectives.open import vectors_held
from fedpeft.training.task import Task
from fedpeft.training.trainer import TrainingJob, TrainingResult, at_rank, clip_gradients
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
        self._prepared: list[tuple[FloatArray, Any]] = []  # (start, what the task prepared for it), the last four

    def run(self, jobs: Sequence[TrainingJob]) -> Iterator[TrainingResult]:
        """See `Trainer.run`."""
        waiting = iter(enumerate(jobs))
        optimizers = SeatOptimizers()
        seats: list[Seat] = []
        done: dict[int, Seat] = {}
        following, end = 0, len(jobs)
        most = self._make_room(jobs)
        while following < len(jobs):
            while len(seats) < most and end == len(jobs) and (entry := next(waiting, None)) is not None:
                seat = self._sit(*entry)
                seats.append(seat)
                optimizers.add(seat)
            self._pass(next_pass(seats, self.limits), optimizers)
            for seat in [seat for seat in seats if seat.batch is None]:
                optimizers.drop(seat)
                done[seat.order] = seat
                if seat.error is not None:  # it is raised in its turn, when the jobs before it are done
                    end = min(end, seat.order)
            seats = [seat for seat in seats if seat.batch is not None and seat.order < end]
            while following in done:
                yield done.pop(following).result()
                following += 1

    def _make_room(self, jobs: Sequence[TrainingJob]) -> int:
        """How many clients may be at work at a time, each with what its objective holds."""
        plans = {job.plan.objective: job.plan for job in jobs}
        held = max((vectors_held(plan) for plan in plans.values()), default=0)
        self.limits.state = (_STATE + held) * 4 * self.adapter.layout.size
        return self.seats if not held else max(1, self.memory // 2 // self.limits.state)

    def _sit(self, order: int, job: TrainingJob) -> Seat:
        began = time.perf_counter()
        job = at_rank(job, self.adapter)
        seat = Seat(order, job, self.task, self._prepare(job), self.adapter.theta.device)
        self._advance(seat)
        seat.seconds = time.perf_counter() - began
        return seat

    @staticmethod
    def _advance(seat: Seat) -> None:
        try:
            seat.advance()
        except ClientFault as fault:
            seat.fail(fault)
        except Exception as error:
            seat.crash(error)

    def _prepare(self, job: TrainingJob) -> Any:
        """`Task.prepare` for the job's start; the clients of one broadcast share it."""
        for start, prepared in self._prepared:
            if start is job.start or np.array_equal(start, job.start):
                return prepared
        self.adapter.set(job.start)
        prepared = self.task.prepare(self.adapter.model)
        self._prepared = [(job.start.copy(), prepared), *self._prepared[:3]]
        return prepared

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
            seat.seconds += share
            self._advance(seat)
            if self.on_step is not None:
                self.on_step()

    def _blame(
        self, error: Exception, group: Sequence[Seat], drawn: Sequence[torch.Tensor | None], optimizers: SeatOptimizers
    ) -> None:
        """A pass raised: repeat it client by client, so that whose data did it is known, and the others go on."""
        if len(group) == 1:
            if isinstance(error, ClientFault):
                group[0].fail(error)
            else:
                group[0].crash(error)
            return
        for seat, state in zip(group, drawn, strict=True):
            seat.draw_again(state)
            self._pass([seat], optimizers)
