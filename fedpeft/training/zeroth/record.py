"""What one client has measured so far in a round: losses in, scalars out, and in the end the job's result."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch

from fedpeft.errors import ClientFault
from fedpeft.training.trainer import SCALARS, TrainingJob, TrainingResult, not_finite
from fedpeft.training.zeroth.conservative import MULTIPLES
from fedpeft.training.zeroth.estimators import Estimator
from fedpeft.training.zeroth.look import Look
from fedpeft.training.zeroth.walk import Walk, go
from fedpeft.types import FloatArray
from fedpeft.zeroth.checkpoint import CHECKPOINT, past_of
from fedpeft.zeroth.optimizers import Course, Vector
from fedpeft.zeroth.replica import Replica, fingerprint


@dataclass(frozen=True, slots=True)
class ZerothSettings:
    """What `[zeroth]` says of a step."""

    estimator: Estimator
    epsilon: float
    clip: float
    sign: bool = False  # a scalar is ±1, whatever its size
    conservative: bool = False  # of stepping, staying and the opposite step the best is taken
    objective: str = "loss"  # or "error": what is measured

    @property
    def slopes(self) -> bool:
        """The estimator asks for slopes, not for the loss at points."""
        return bool(getattr(self.estimator, "slopes", False))

    @property
    def widest(self) -> int:
        """The most places that a step measures at in one go."""
        return max(len(self.estimator.points), len(MULTIPLES) * self.conservative)


MOST_SCALARS = 1 << 20
"""Of one client and round: what a plan may make a client allocate."""


def impossible(job: TrainingJob, replica: Replica, replayed: bool = True) -> ClientFault | None:
    """Why nobody could do a job as it came from the network; None if it can be done.

    Args:
        job: as it came.
        replica: of the run.
        replayed: it starts from coefficients, not from θ.
    """
    plan, scalars = job.plan, job.plan.steps * replica.coordinates.directions
    if scalars > MOST_SCALARS:
        return ClientFault(
            f"client {plan.client}: plan.steps = {plan.steps} of {replica.coordinates.directions} directions each",
            code="training.too-many-scalars",
            allowed=f"at most {MOST_SCALARS} directions a round",
            remedy="lower local.steps, or the queries of zeroth.estimator",
        )
    if not replayed:
        return None
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
        _check_checkpoint(job, replica)
    except ValueError as error:
        return ClientFault(
            f"client {plan.client}: version {plan.version}: {error}", code="training.coefficients", allowed="exact sums"
        )
    return None


def _check_checkpoint(job: TrainingJob, replica: Replica) -> None:
    """Whether the checkpoint that the start names came with the job, and ends before its round's epoch.

    Raises:
        ValueError: it did not.
    """
    coordinates = replica.coordinates
    epochs, name = past_of(np.rint(job.start[coordinates.first :]).astype(np.int64), coordinates.size)
    theta = job.received.get(CHECKPOINT)
    if epochs > coordinates.epoch(job.plan.round):
        raise ValueError(f"it names a checkpoint of {epochs} epochs, and its round's is still open")
    if name and (theta is None or theta.shape != replica.initial.shape):
        raise ValueError(f"it names checkpoint {name.hex()[:16]}, which did not come with it")


class Record:
    """The scalars of a job, step by step.

    Args:
        job: its start are coefficients, shape (E·K,).
        replica: knows the directions.
        settings: of each step.
    """

    replayed: ClassVar[bool] = True
    """Jobs start from coefficients, and θ is rebuilt from what is sent."""

    def __init__(self, job: TrainingJob, replica: Replica, settings: ZerothSettings) -> None:
        self.job = job
        self.plan = job.plan
        self.seconds = 0.0
        self._replica = replica
        self._settings = settings
        self._places = replica.coordinates.drawn(job.plan, job.start)
        self._scalars = np.zeros(len(self._places), dtype=np.float32)
        coordinates = replica.coordinates
        self._epoch = coordinates.epoch(job.plan.round)
        self._begin = coordinates.begin(self._epoch)
        self._course = Course(coordinates.optimizer, coordinates.size, job.plan.learning_rate)
        self.losses: list[float] = []  # mean over the points, a step
        self._began = time.perf_counter()

    def start(self) -> FloatArray:
        """θ as the job begins, shape (d,); not to be modified."""
        self._begin_from()
        return self._replica.theta(self.job.start)

    @property
    def steps(self) -> int:
        """Steps that are done."""
        return len(self.losses)

    def look(self) -> Look:
        """What the next step looks along."""
        numbers = self._places[self._step()] - self._begin
        return Look(self._replica, self._epoch, numbers, self._course.along(numbers), self._replica.initial.size)

    def scalars(self, values: npt.NDArray[np.float64], loss: float) -> FloatArray:
        """g of the next step's directions, shape (directions,), 0 where something is not finite: nothing is taken yet.

        Args:
            values: what the estimator asked for.
            loss: of the step, for the metrics.
        """
        these, settings = self._step(), self._settings
        scalars: FloatArray = np.zeros(these.stop - these.start, dtype=np.float32)
        if np.isfinite(loss) and np.isfinite(values).all():
            found = settings.estimator.scalars(values, settings.epsilon)
            scalars[:] = np.sign(found) if settings.sign else np.clip(found, -settings.clip, settings.clip)
        if settings.sign:  # a tie or a skipped step has no sign to send: half of the directions vote each way
            undecided = scalars == 0
            scalars[undecided] = 1.0 - 2.0 * (self._places[these][undecided] % 2)
        return scalars

    def trial(self, scalars: FloatArray) -> Vector:
        """What these scalars would add to the coefficients, shape (K,)."""
        return self._course.trial(self._places[self._step()] - self._begin, scalars.astype(np.float64))

    def take(self, scalars: FloatArray, loss: float) -> Vector:
        """Take a step; returns by how much the place moved that steps look from, in coefficients, shape (K,).

        Args:
            scalars: g as it is sent, shape (directions,).
            loss: of the step; one that is not finite is counted as skipped.
        """
        these = self._step()
        self._scalars[these] = scalars
        self.losses.append(loss)
        return self._course.take(self._places[these] - self._begin, scalars.astype(np.float64))

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
        """Take a step, and move θ to where the next one looks from.

        Args:
            walk: moves θ.
            theta: what it moves, shape (d,), fp32, contiguous.
            look: of the step.
            scalars: g as it is sent, shape (directions,).
            loss: of the step; one that is not finite is counted as skipped.
            back: how far θ stands along each of the step's directions, which is undone; None: nowhere.
            stands: by how much θ was moved on already, in coefficients, shape (K,).
        """
        go(walk, look.moves(self.take(scalars, loss) - stands, back))

    def result(self, theta: torch.Tensor) -> TrainingResult:
        """What came of the job; a fault if no step had a finite loss.

        Args:
            theta: where the steps have led, shape (d,); what rounding left in it is thrown away with it.
        """
        ended = self._ended()
        if ended.fault is not None:
            return ended
        self._begin_from()
        metrics = {**ended.metrics, "replica": float(fingerprint(self._replica.digest(self.job.start)))}
        delta = self._replica.coordinates.moved(self._places, self._scalars, self.plan.learning_rate)
        return replace(ended, delta=delta, metrics=metrics, sent={SCALARS: self._scalars})

    def _begin_from(self) -> None:
        """Tell the replica which θ_e the start names: it holds one at a time."""
        theta = self.job.received.get(CHECKPOINT)
        if theta is not None:
            self._replica.begin_from(self.job.start, theta)

    def _ended(self) -> TrainingResult:
        """The job with its metrics, or with the fault of a client none of whose losses is finite."""
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
        }
        if len(sound) < len(losses):
            metrics["steps_skipped"] = float(len(losses) - len(sound))
        return TrainingResult(plan, metrics=metrics)

    def _step(self) -> slice:
        count = self._settings.estimator.directions
        return slice(self.steps * count, (self.steps + 1) * count)
