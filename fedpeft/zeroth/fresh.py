"""Fresh seeds: each direction a stream of its own, as MeZO draws one for every step.

Malladi et al. 2023, "Fine-Tuning Language Models with Just Forward Passes" (arXiv 2305.17333), Algorithm 1; Fang et al.
2022, "Communication-Efficient Stochastic Zeroth-Order Optimization for Federated Learning" (FedZO, arXiv 2201.09531).
With an epoch a round (`refresh = 1`) no direction is used twice, but for one that is drawn twice within a round: the
seed-scalar protocol. The price is replay: a pass over the weights for each direction that moved.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fedpeft.randomness.directions import add_signs, packed
from fedpeft.randomness.streams import derive
from fedpeft.zeroth.direction import Direction, Signs
from fedpeft.zeroth.one_by_one import OneByOnePool, Used
from fedpeft.zeroth.sign_stream import SignStream


class FreshPool(OneByOnePool):
    """See `Pool`."""

    name = "fresh"

    def direction(self, epoch: int, number: int, begin: int, count: int) -> Direction:
        """See `Pool.direction`."""
        return Signs(None, count, SignStream(self._key(epoch, number), begin))

    def total(self, epoch: int, used: Used, begin: int, count: int) -> npt.NDArray[np.int32]:
        """See `OneByOnePool.total`."""
        total = np.zeros(count, dtype=np.int32)
        for number, own in used:
            add_signs(total, packed(self._key(epoch, number), begin, count), own)
        return total

    def _key(self, epoch: int, number: int) -> bytes:
        return derive(self.seed, "zeroth/fresh", epoch, number)
