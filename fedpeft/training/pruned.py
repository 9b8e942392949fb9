"""Clients of different masks, each trained on a model of its own size.

Clients of one mask share one smaller model and one trainer, which takes them together where clients are trained
together at all; masks are served side by side, and results leave in the order of the jobs. What comes back is in the
coordinates of the full model: a delta is zero where its client holds nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from fedpeft.adapters import FlatAdapter
from fedpeft.pruning.importance import is_measured
from fedpeft.pruning.scoring import SCORES, Scoring
from fedpeft.pruning.shrink import Pruner, Shrunk
from fedpeft.registry import build
from fedpeft.training.trainer import Trainer, TrainingJob, TrainingResult
from fedpeft.types import FloatArray


class PrunedTrainer:
    """Trains clients without a mask on the full model, and each other on what its mask leaves.

    Args:
        whole: trains the full model.
        pruner: makes the smaller ones.
        make: a trainer of such a model.
    """

    def __init__(self, whole: Trainer, pruner: Pruner, make: Callable[[FlatAdapter], Trainer]) -> None:
        self.whole = whole
        self.pruner = pruner
        self._make = make
        self._trainers: dict[Shrunk, Trainer] = {}

    def run(self, jobs: Sequence[TrainingJob]) -> Iterator[TrainingResult]:
        """See `Trainer.run`."""
        masks = dict.fromkeys(job.plan.mask for job in jobs)
        streams = {mask: self._of_mask(mask, [job for job in jobs if job.plan.mask == mask]) for mask in masks}
        for job in jobs:
            yield next(streams[job.plan.mask])

    def _of_mask(self, mask: bytes, jobs: Sequence[TrainingJob]) -> Iterator[TrainingResult]:
        shrunk = self.pruner.shrunk(mask) if mask else None
        smaller = [self._smaller(job, shrunk) for job in jobs]
        trainer = self.whole if shrunk is None else self._trainer(shrunk)
        for job, result in zip(smaller, trainer.run(smaller), strict=True):
            yield self._larger(job, result, shrunk)

    def _trainer(self, shrunk: Shrunk) -> Trainer:
        if shrunk not in self._trainers:
            self._trainers = {known: t for known, t in self._trainers.items() if self.pruner.keeps(known)}
            self._trainers[shrunk] = self._make(shrunk.adapter)
        return self._trainers[shrunk]

    def _smaller(self, job: TrainingJob, shrunk: Shrunk | None) -> TrainingJob:
        """The job as its client sees it: vectors of what it holds, and something that scores its units."""
        places = None if shrunk is None else shrunk.places
        importance = build("importance", job.plan.importance, {}) if job.plan.importance else None
        scoring = Scoring(importance, self.pruner.units, places) if is_measured(importance) else None
        if places is None:
            return replace(job, scoring=scoring)
        return replace(
            job,
            start=job.start[places],
            received={name: vector[places] for name, vector in job.received.items()},
            memory={name: vector[places] for name, vector in job.memory.items()},
            scoring=scoring,
        )

    def _larger(self, job: TrainingJob, result: TrainingResult, shrunk: Shrunk | None) -> TrainingResult:
        if result.delta is None:
            return result
        if shrunk is not None:
            sent = {name: self._spread(vector, shrunk) for name, vector in result.sent.items()}
            result = replace(result, delta=self._spread(result.delta, shrunk), sent=sent)
        if job.scoring is not None:
            result = replace(result, sent={**result.sent, SCORES: job.scoring.shares()})
        return result

    def _spread(self, vector: FloatArray, shrunk: Shrunk) -> FloatArray:
        whole = np.zeros(self.pruner.adapter.layout.size, dtype=np.float32)
        whole[shrunk.places] = vector
        return whole
