"""A job whose client keeps θ where its steps have led, and sends the delta."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from fedpeft.registry import load
from fedpeft.training.trainer import TrainingJob, TrainingResult, not_finite
from fedpeft.training.zeroth.local import LocalOptimizer
from fedpeft.training.zeroth.record import Record, ZerothSettings
from fedpeft.training.zeroth.walk import Walk
from fedpeft.types import FloatArray
from fedpeft.zeroth.direction import Direction
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

    def directions(self, size: int) -> list[Direction]:
        """See `Record.directions`."""
        drawn = self._drawn[:, self._step()].T
        return self._optimizer.look([[self._replica.direction(int(place), size) for place in one] for one in drawn])

    def move(
        self,
        walk: Walk,
        theta: torch.Tensor,
        directions: Sequence[Direction],
        scalars: FloatArray,
        back: Sequence[float],
    ) -> None:
        """See `Record.move`."""
        for direction, way in zip(directions, back, strict=True):
            if way:
                walk.add(direction, way)
        if not np.isfinite(self.losses[-1]):
            return
        if self.plan.weight_decay:
            theta.mul_(1 - self.plan.learning_rate * self.plan.weight_decay)
        self._optimizer.move(theta, directions, scalars)

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
