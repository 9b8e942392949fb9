"""A job whose client keeps θ where its steps have led, and sends the delta."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from fedpeft.registry import load
from fedpeft.training.trainer import TrainingJob, TrainingResult, not_finite
from fedpeft.training.zeroth.local import LocalOptimizer
from fedpeft.training.zeroth.look import Look
from fedpeft.training.zeroth.record import Record, ZerothSettings
from fedpeft.training.zeroth.walk import Walk
from fedpeft.types import FloatArray
from fedpeft.zeroth.optimizers import Vector
from fedpeft.zeroth.replica import Replica


class LocalRecord(Record):
    """As `Record`, with an optimizer of the client's own.

    The directions are drawn as ever; an optimizer that wants several for one look is given those that the stream draws
    next. What rounding leaves of the way to the points and back stays in θ, as in MeZO.

    Args:
        job: its start is θ, shape (d,).
        replica: knows the directions, and nothing else of it is asked.
        settings: of each step.
    """

    replayed = False

    def __init__(self, job: TrainingJob, replica: Replica, settings: ZerothSettings) -> None:
        super().__init__(job, replica, settings)
        plan = job.plan
        self._optimizer: LocalOptimizer = load("zeroth_optimizer", plan.optimizer)(len(job.start), plan)
        draws = self._optimizer.draws
        drawn = replica.coordinates.draw(plan.round, plan.client, draws * plan.steps)
        self._drawn = drawn.reshape(draws, -1)  # its first row is `drawn(plan)`

    def start(self) -> FloatArray:
        """See `Record.start`."""
        return self.job.start

    def look(self) -> Look:
        """See `Record.look`."""
        look, drawn = super().look(), self._drawn[:, self._step()].T
        size = len(self.job.start)
        made = [[self._replica.direction(int(place), size) for place in one] for one in drawn]
        look.directions = self._optimizer.look(made)
        return look

    def move(
        self,
        walk: Walk,
        theta: torch.Tensor,
        look: Look,
        scalars: FloatArray,
        loss: float,
        back: Sequence[float] | None = None,
        stands: Vector | float = 0.0,
    ) -> None:
        """See `Record.move`."""
        self.losses.append(loss)
        for direction, offset in zip(look.directions, back or (), strict=back is not None):
            if offset:
                walk.add(direction, -offset)
        if not np.isfinite(loss):
            return
        if self.plan.weight_decay:
            theta.mul_(1 - self.plan.learning_rate * self.plan.weight_decay)
        self._optimizer.move(theta, look.directions, scalars)

    def result(self, theta: torch.Tensor) -> TrainingResult:
        """See `Record.result`; a fault also if θ is no longer finite."""
        ended = self._ended()
        if ended.fault is not None:
            return ended
        delta = theta.cpu().numpy() - self.job.start
        if not np.isfinite(delta).all():
            what = f"the adapter is no longer finite after step {self.steps}"
            return TrainingResult(self.plan, fault=not_finite(self.plan, what))
        return replace(ended, delta=delta)
