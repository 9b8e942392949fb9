"""ZO-AdaMU: the momentum is in the direction along which one looks, not in what was found there.

Jiang et al. 2024, "ZO-AdaMU Optimizer: Adapting Perturbation by the Momentum and Uncertainty in Zeroth-order
Optimization" (arXiv 2312.15184). With h the history, u and u' two directions of the pool where the paper has normal
deviates, and s, β_1, β_2 of the step t of T:

    ż = √s · u                            fresh
    z̈ = h + √(1 − s) · u'                 around the history
    z = β_1 ż + (1 − β_1) z̈               along which the loss is taken, and the step goes
    v = β_2 ż² + (1 − β_2) z̈²
    θ ← θ − η g z / √(v + 1e-8)
    h ← sign(g) z                         so h points up the hill

    s = 1 for a tenth of the steps, then (1 + cos π p) / 2 with p from 0 to 1;    β_1 = s^0.1,    β_2 = s^1.5

At first this is MeZO's step; the later, the more a direction repeats the last ones. Paper and released code differ, and
the code as released cannot run, so some of it had to be settled: the direction of the look is that of the step (there
two mixtures of the same draws), the three numbers anneal over the T steps of a round, since the history lives no
longer, and the code's factors 0.1, 1 and 1.5 are taken as exponents. Over n directions the step is the sum of theirs,
which is what an estimator's g are made for, and h the mean of sign(g_i) z_i.

Transmits the delta through the run's codec. State: h, 4 bytes a weight; v needs no memory, it belongs to one step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from fedpeft.training.zeroth.local.pieces import pieces, subtract
from fedpeft.types import FloatArray, Plan
from fedpeft.zeroth.direction import Direction

WARM_UP = 0.1
"""Share of a round's steps without history."""

SIGMA = 1e-8


@dataclass(frozen=True, slots=True)
class Annealed:
    """s, β_1 and β_2 of one step."""

    s: float
    beta_1: float
    beta_2: float

    @classmethod
    def at(cls, step: int, steps: int) -> Annealed:
        """Of a step, from 0, of so many."""
        warm_up = int(WARM_UP * steps)
        s = 0.5 * (1 + math.cos(math.pi * max(0, step - warm_up) / (steps - warm_up)))
        return cls(s, s**0.1, s**1.5)


@dataclass(frozen=True, slots=True)
class Mixed:
    """z of one step; see `Direction`."""

    fresh: Direction  # u
    around: Direction  # u'
    history: FloatArray  # h, shape (d,); as it is when a piece is asked for
    now: Annealed

    @property
    def size(self) -> int:
        """See `Direction.size`."""
        return len(self.history)

    def halves(self, begin: int, count: int) -> tuple[FloatArray, FloatArray]:
        """ż and z̈ at some places, fp32, new arrays."""
        z_dot = np.float32(math.sqrt(self.now.s)) * self.fresh.values(begin, count)
        around = np.float32(math.sqrt(1 - self.now.s)) * self.around.values(begin, count)
        return z_dot, self.history[begin : begin + count] + around

    def values(self, begin: int = 0, count: int | None = None) -> FloatArray:
        """See `Direction.values`."""
        return self.mix(*self.halves(begin, self.size - begin if count is None else count))

    def mix(self, z_dot: FloatArray, z_around: FloatArray) -> FloatArray:
        """z of its halves."""
        return np.float32(self.now.beta_1) * z_dot + np.float32(1 - self.now.beta_1) * z_around

    def add_to(self, weights: FloatArray, scale: float) -> None:
        """See `Direction.add_to`."""
        for part in pieces(len(weights)):
            weights[part] += np.float32(scale) * self.values(part.start, part.stop - part.start)


class ZoAdaMU:
    """See `LocalOptimizer`."""

    draws = 2
    vectors = 1

    def __init__(self, size: int, plan: Plan) -> None:
        self._rate = plan.learning_rate
        self._steps = plan.steps
        self._history: FloatArray = np.zeros(size, dtype=np.float32)
        self._step = 0

    def look(self, drawn: Sequence[Sequence[Direction]]) -> list[Direction]:
        """See `LocalOptimizer.look`."""
        now = Annealed.at(self._step, self._steps)
        return [Mixed(fresh, around, self._history, now) for fresh, around in drawn]

    def move(self, theta: torch.Tensor, directions: Sequence[Direction], scalars: FloatArray) -> None:
        """See `LocalOptimizer.move`."""
        for part in pieces(len(theta)):
            step = np.zeros(part.stop - part.start, dtype=np.float32)
            history = np.zeros_like(step)
            for direction, scalar in zip(directions, scalars, strict=True):
                assert isinstance(direction, Mixed)  # `look` made it
                z_dot, z_around = direction.halves(part.start, len(step))
                z, beta_2 = direction.mix(z_dot, z_around), np.float32(direction.now.beta_2)
                v = beta_2 * z_dot * z_dot + (1 - beta_2) * z_around * z_around
                step += np.float32(scalar) * z / np.sqrt(v + np.float32(SIGMA))
                history += np.sign(scalar) * z
            subtract(theta, part, np.float32(self._rate) * step)
            self._history[part] = history / len(directions)
        self._step += 1
