"""What a worker does with a share of jobs: train them together, and one by one what is left when that crashes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from fedpeft.simulation.federation import Federation
from fedpeft.simulation.workers.workshop import Crashed, Done
from fedpeft.training import Trainer, TrainingJob, TrainingResult
from fedpeft.types import FloatArray, Plan


class Order(NamedTuple):
    """All of a job that a worker has not got itself."""

    place: int
    plan: Plan
    start: FloatArray  # shape (d,)
    received: Mapping[str, FloatArray] = {}  # as of `TrainingJob`
    memory: Mapping[str, FloatArray] = {}


class Workbench:
    """Model, data and a trainer of a worker's own.

    Args:
        federation: forked from the parent's, or assembled here.

    Attributes:
        steps: optimizer steps taken; whoever tells of them sets it to 0.
    """

    def __init__(self, federation: Federation) -> None:
        self.data = federation.train
        self.steps = 0
        self.trainer: Trainer = federation.trainer(on_step=self._step)

    def train(self, orders: Sequence[Order]) -> Iterator[Done | Crashed]:
        """Train a share; each job is told of once, as soon as it is done."""
        left = list(orders)
        # What crashes is not known by name when many are trained together: they are then taken one at a time.
        with suppress(Exception):
            for result in self.trainer.run([self._job(order) for order in orders]):
                yield Done(left.pop(0).place, own_memory(result))
        for order in left:
            try:
                (result,) = self.trainer.run([self._job(order)])
            except Exception:
                yield Crashed(order.place)
            else:
                yield Done(order.place, own_memory(result))

    def _job(self, order: Order) -> TrainingJob:
        return TrainingJob(order.plan, order.start, self.data[order.plan.client], order.received, order.memory)

    def _step(self) -> None:
        self.steps += 1


def own_memory(result: TrainingResult) -> TrainingResult:
    """The result with contiguous fp32 vectors, as they are sent byte by byte."""
    if result.delta is None:
        return result
    delta = np.ascontiguousarray(result.delta, dtype=np.float32)
    sent = {name: np.ascontiguousarray(vector, dtype=np.float32) for name, vector in result.sent.items()}
    return TrainingResult(result.plan, delta, result.metrics, result.fault, sent)
