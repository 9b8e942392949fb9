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
from fedpeft.training.zeroth.estimators import Estimator
from fedpeft.training.zeroth.walk import Walk
from fedpeft.types import FloatArray
from fedpeft.zeroth.direction import Direction
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

    replayed: ClassVar[bool] = True
    """Jobs start from coefficients, and θ is rebuilt from what is sent."""

    def __init__(self, job: TrainingJob, replica: Replica, settings: ZerothSettings) -> None:
        self.job = job
        self.plan = job.plan
        self.seconds = 0.0
        self._replica = replica
        self._settings = settings
        self._places = replica.coordinates.drawn(job.plan)
        self._scalars = np.zeros(len(self._places), dtype=np.float32)
        self.losses: list[float] = []  # mean over the points, a step
        self._began = time.perf_counter()

    def start(self) -> FloatArray:
        """θ as the job begins, shape (d,); not to be modified."""
        return self._replica.theta(self.job.start)

    @property
    def steps(self) -> int:
        """Steps that are done."""
        return len(self.losses)

    @property
    def places(self) -> npt.NDArray[np.int64]:
        """Of the directions of the next step, shape (directions,)."""
        return self._places[self._step()]

    def directions(self, size: int) -> list[Direction]:
        """Those along which the next step looks, over `size` places."""
        return [self._replica.direction(int(place), size) for place in self.places]

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

    def move(
        self,
        walk: Walk,
        theta: torch.Tensor,
        directions: Sequence[Direction],
        scalars: FloatArray,
        back: Sequence[float],
    ) -> None:
        """θ ← θ − lr · g · z along each direction.

        Args:
            walk: moves θ.
            theta: what it moves, shape (d,), fp32, contiguous.
            directions: from `directions`, before the step was noted.
            scalars: from `note`.
            back: by how much of each direction θ must go to be where the step began; done with the step, in one pass.
        """
        for direction, scalar, way in zip(directions, scalars, back, strict=True):
            move = way - self.plan.learning_rate * float(scalar)
            if move:
                walk.add(direction, move)

    def result(self, theta: torch.Tensor) -> TrainingResult:
        """What came of the job; a fault if no step had a finite loss.

        Args:
            theta: where the steps have led, shape (d,); what rounding left in it is thrown away with it.
        """
        ended = self._ended()
        if ended.fault is not None:
            return ended
        metrics = {**ended.metrics, "replica": float(fingerprint(self._replica.digest(self.job.start)))}
        delta = self._replica.coordinates.moved(self._places, self._scalars, self.plan.learning_rate)
        return replace(ended, delta=delta, metrics=metrics, sent={SCALARS: self._scalars})

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
