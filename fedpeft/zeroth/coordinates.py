"""The vector that a zeroth-order federation shares: the coefficients of all its epochs, and which one is which.

    place of direction j of epoch e = e·K + j;      epoch of round r (from 1) = (r − 1) div R, all one if R = 0

A replica's coefficient is a whole number of magnitude below 2^24, which fp32 holds exactly: codecs, strategies and the
journal see an ordinary vector of shape (E·K,), in steps of the unit c = learning rate · 2^-resolution. The coordinator
keeps fractions of a unit to itself, so that what is too little to be sent today adds up; what it publishes is rounded.
Where directions are drawn by importance, the K numbers that tell it (`fedpeft.zeroth.importance`) come first and the
coefficients K places later, so that a run that goes on for more epochs grows at its end. In what follows, (s,) is
the shape of the whole.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedpeft.randomness.streams import Stream, derive
from fedpeft.types import FloatArray, Layout, Plan, TensorSpec
from fedpeft.zeroth import importance
from fedpeft.zeroth.checkpoint import BEYOND, past_of
from fedpeft.zeroth.optimizers import CoefficientOptimizer
from fedpeft.zeroth.optimizers.sgd import Sgd
from fedpeft.zeroth.pools import check_range

LARGEST = 2**24 - 1
"""Of a coefficient's magnitude: whole numbers that fp32 holds exactly, with their neighbours."""

_SGD = Sgd()


@dataclass(frozen=True, slots=True)
class Coordinates:
    """How coefficients are counted."""

    size: int  # K, directions of an epoch
    epochs: int  # E
    refresh: int  # R, rounds of an epoch; 0: one epoch for the whole run
    unit: float  # c
    directions: int  # measured in a local step
    seed: int  # of the run
    shared: bool = False  # all clients of a round draw the same directions
    largest: int = 1  # of the pool: in sums a coefficient counts so many times
    temperature: float | None = None  # τ, of draws by importance; None: uniform draws
    optimizer: CoefficientOptimizer = _SGD  # within a client's round; the replica's rules name it

    @property
    def first(self) -> int:
        """The place of the first coefficient: how many importances there are, K or none."""
        return 0 if self.temperature is None else self.size

    @property
    def length(self) -> int:
        """E·K, and K more with importances."""
        return self.first + self.size * self.epochs

    def epoch(self, round_number: int) -> int:
        """The epoch of a round, from 1."""
        return 0 if self.refresh == 0 else (round_number - 1) // self.refresh

    def begin(self, epoch: int) -> int:
        """The place of direction 0 of an epoch."""
        return self.first + epoch * self.size

    def drawn(self, plan: Plan, start: FloatArray | None = None) -> npt.NDArray[np.int64]:
        """The places of the directions that a plan's client moves along, shape (steps · directions,), in order.

        Both sides draw them, so only scalars are sent. With replacement, from a stream of its own for each round and
        client (for each round, if they are shared); another attempt at a round draws the same.

        Args:
            plan: of the client.
            start: the vector that it starts from, shape (s,), or its importances; uniform draws need none.
        """
        return self.draw(plan.round, plan.client, plan.steps, start)

    def draw(
        self, round_number: int, client: str, steps: int, start: FloatArray | None = None
    ) -> npt.NDArray[np.int64]:
        """As `drawn`, of a client's round."""
        stream = Stream(derive(self.seed, "zeroth/draw", round_number, "" if self.shared else client))
        if self.temperature is None:
            numbers = np.floor(stream.uniform(steps * self.directions) * self.size).astype(np.int64)
        else:
            assert start is not None
            published = np.rint(start[: self.size]).astype(np.int64)
            uniform = stream.uint64(steps * self.directions) >> np.uint64(11)
            numbers = importance.draw(published, uniform, self.temperature)
        return self.begin(self.epoch(round_number)) + numbers

    def of_places(self, places: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The epochs and numbers of the directions at places, each of shape (n,)."""
        epochs, numbers = np.divmod(places - self.first, self.size)
        return epochs, numbers

    def moved(self, places: npt.NDArray[np.int64], scalars: FloatArray, learning_rate: float) -> FloatArray:
        """What a client's steps add to the coefficients, in units, shape (s,), as the optimizer has it.

        Args:
            places: of the directions of one epoch, shape (steps · directions,), as `drawn` gives them; one may come
                twice.
            scalars: g, of the same shape.
            learning_rate: lr.
        """
        change = np.zeros(self.length, dtype=np.float64)
        begin = int(places[0]) // self.size * self.size if len(places) else 0
        drawn = (places - begin).reshape(-1, self.directions)
        own = scalars.astype(np.float64).reshape(-1, self.directions)
        change[begin : begin + self.size] = self.optimizer.replay(drawn, own, self.size, learning_rate / self.unit)
        return change.astype(np.float32)

    def check(self, coefficients: FloatArray) -> None:
        """Refuse coefficients, shape (s,), of which no replica could be made exactly.

        Epochs that the name of a checkpoint stands for have none.

        Raises:
            ValueError: one is beyond 2^24, or an epoch's magnitudes add up to 2^31, for numbers up to `largest`; or an
                importance is none.
        """
        whole = np.rint(coefficients)
        sizes = np.abs(whole).astype(np.float64)
        if BEYOND <= sizes.max(initial=0.0) < 2 * BEYOND:
            past, _ = past_of(whole[self.first :].astype(np.int64), self.size)
            sizes[self.first : self.begin(past)] = 0
        largest = float(sizes.max(initial=0.0))
        if not largest <= LARGEST:  # NaN too
            raise ValueError(f"a coefficient is {largest:g}: at most {LARGEST} is exact")
        known = coefficients[: self.first]
        if not ((known >= 0) & (known <= importance.HIGHEST)).all():
            raise ValueError(f"an importance is not from 0 to {importance.HIGHEST}")
        for place in range(self.first, len(sizes), self.size):
            check_range(sizes[place : place + self.size].astype(np.int64), self.largest)

    def layout(self, base: str) -> Layout:
        """Of the shared vector: one tensor, whose digest says all that both sides must agree on.

        The number of epochs is left out: a run that goes on for more rounds has more of them.

        Args:
            base: what the coefficients are added to, and how: see `Replica.identity`.
        """
        what = f"{base}:{self.size}:{self.refresh}:{self.unit.hex()}:{self.directions}:{self.seed}"
        what += ":shared" * self.shared
        what += "" if self.temperature is None else f":importance {self.temperature.hex()}"
        spec = TensorSpec("zeroth.coefficients", (self.length,), 0)
        return Layout((spec,), self.length, hashlib.sha256(what.encode()).hexdigest())
