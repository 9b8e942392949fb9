"""Normal numbers of the framework's own generator: the reference that other pools are compared with. **Not portable.**

What `torch.randn` gives depends on torch's version and on what the processor can do. All who share a run with this pool
need the same of both: samples of the directions are part of what a client and the coordinator compare, and whoever
draws other numbers is refused. A direction is drawn on the CPU in blocks of 16,384 numbers, each from its own seed, so
that any slice can be made alone. Sums are in fp64 in the order of numbers, rounded once: the same bits on one machine,
whatever the threads.

Replay is a pass over the weights for each direction that moved. torch is imported when numbers are drawn, no earlier: a
coordinator that evaluates nothing needs none.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt

from fedpeft.randomness.streams import derive_seed
from fedpeft.types import FloatArray
from fedpeft.zeroth.direction import Direction, Numbers
from fedpeft.zeroth.one_by_one import OneByOnePool, Used

_BLOCK = 1 << 14  # numbers of a seed


class GaussianPool(OneByOnePool):
    """See `Pool`; its sums are not exact, only made in a fixed order."""

    name = "gaussian"

    def direction(self, epoch: int, number: int, begin: int, count: int) -> Direction:
        """See `Pool.direction`."""
        return Numbers(partial(self._values, epoch, number, begin), count)

    def total(self, epoch: int, used: Used, begin: int, count: int) -> npt.NDArray[np.float64]:
        """See `OneByOnePool.total`."""
        total = np.zeros(count, dtype=np.float64)
        for number, own in used:
            total += own * self._values(epoch, number, begin, 0, count).astype(np.float64)
        return total

    def _values(self, epoch: int, number: int, first: int, begin: int, count: int) -> FloatArray:
        """z at places `first + begin` on, shape (count,)."""
        import torch

        start = first + begin
        found, generator = np.empty(count, dtype=np.float32), torch.Generator()
        for block in range(start // _BLOCK, -(-(start + count) // _BLOCK)):
            generator.manual_seed(derive_seed(self.seed, "zeroth/gaussian", epoch, number, block))
            drawn = torch.randn(_BLOCK, generator=generator, dtype=torch.float32, device="cpu").numpy()
            skip = max(start - block * _BLOCK, 0)
            place = block * _BLOCK + skip - start
            taken = drawn[skip : skip + count - place]
            found[place : place + len(taken)] = taken
        return found
