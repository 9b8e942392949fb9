"""What one client has measured so far in a round: losses in, scalars out, and in the end the job's result."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedpeft.errors import ClientFault
from fedpeft.training.trainer import SCALARS, TrainingJob, TrainingResult, not_finite
from fedpeft.training.zeroth.estimators import Estimator
from fedpeft.types import FloatArray
from fedpeft.zeroth.replica import Replica, fingerprint


@dataclass(frozen=True, slots=True)
class ZerothSettings:
    """What `[zeroth]` says of a step."""

    estimator: Estimator
    epsilon: float
    clip: float
    sign: bool = False  # a scalar is ±1, whatever its size


MOST_SCALARS = 1 << 20
"""Of one client and round: what a plan may make a client allocate."""


def impossible(job: TrainingJob, replica: Replica) -> ClientFault | None:
    """Why nobody could do a job as it came from the network; None if it can be done."""
    plan, scalars = job.plan, job.plan.steps * replica.coordinates.directions
    if scalars > MOST_SCALARS:
        return ClientFault(
            f"client {plan.client}: plan.steps = {plan.steps} of {replica.coordinates.directions} directions each",
            code="training.too-many-scalars",
            allowed=f"at most {MOST_SCALARS} directions a round",
            remedy="lower local.steps, or the queries of zeroth.estimator",
        )
    if replica.coordinates.epoch(plan.round) >= replica.coordinates.epochs:
        return ClientFault(
            f"client {plan.client}: round {plan.round} belongs to epoch {replica.coordinates.epoch(plan.round)} of the "
            "directions",
            code="training.epoch",
            allowed=f"epochs from 0 to {replica.coordinates.epochs - 1}: those of run.rounds here",
            remedy="use the same run file on both sides",
        )
    try:
        replica.coordinates.check(job.start)
    except ValueError as error:
        return ClientFault(
            f"client {plan.client}: version {plan.version}: {error}", code="training.coefficients", allowed="exact sums"
        )
    return None


class Record:
    """The scalars of a job, step by step.

    Args:
        job: its start are coefficients, shape (E·K,).
        replica: knows the directions.
        settings: of each step.
    """

    def __init__(self, job: TrainingJob, replica: Replica, settings: ZerothSettings) -> None:
        self.job = job
        self.plan = job.plan
        self.seconds = 0.0
        self._replica = replica
        self._settings = settings
        self._places = replica.coordinates.drawn(job.plan, job.start)
        self._scalars = np.zeros(len(self._places), dtype=np.float32)
        self.losses: list[float] = []  # mean over the points, a step
        self._began = time.perf_counter()

    @property
    def steps(self) -> int:
        """Steps that are done."""
        return len(self.losses)

    @property
    def places(self) -> npt.NDArray[np.int64]:
        """Of the directions of the next step, shape (directions,)."""
        return self._places[self._step()]

    def note(self, losses: npt.NDArray[np.float64]) -> FloatArray:
        """Take the losses at the points of a step; returns g of its directions, shape (directions,), 0 where a loss is
        not finite: the step is skipped, and counted."""
        these, settings = self._step(), self._settings
        mean = float(losses.mean())
        if np.isfinite(mean):
            found = settings.estimator.scalars(losses, settings.epsilon)
            self._scalars[these] = np.sign(found) if settings.sign else np.clip(found, -settings.clip, settings.clip)
        if settings.sign:  # a tie or a skipped step has no sign to send: half of the directions vote each way
            undecided = self._scalars[these] == 0
            self._scalars[these][undecided] = 1.0 - 2.0 * (self.places[undecided] % 2)
        self.losses.append(mean)
        return self._scalars[these]

    def result(self) -> TrainingResult:
        """What came of the job; a fault if no step had a finite loss."""
        plan, losses = self.plan, self.losses
        sound = [loss for loss in losses if np.isfinite(loss)]
        if not sound:
            return TrainingResult(
                plan, fault=not_finite(plan, f"the loss is {losses[0]} in all of {len(losses)} steps")
            )
        metrics = {
            "loss_first": sound[0],
            "loss_last": sound[-1],
            "seconds": self.seconds or time.perf_counter() - self._began,
            "replica": float(fingerprint(self._replica.digest(self.job.start))),
        }
        if len(sound) < len(losses):
            metrics["steps_skipped"] = float(len(losses) - len(sound))
        delta = self._replica.coordinates.moved(self._places, self._scalars, plan.learning_rate)
        return TrainingResult(plan, delta, metrics, sent={SCALARS: self._scalars})

    def _step(self) -> slice:
        count = self._settings.estimator.directions
        return slice(self.steps * count, (self.steps + 1) * count)
