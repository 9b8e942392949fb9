"""Fresh seeds: each direction a stream of its own, as MeZO draws one for every step.

Malladi et al. 2023, "Fine-Tuning Language Models with Just Forward Passes" (arXiv 2305.17333), Algorithm 1; Fang et al.
2022, "Communication-Efficient Stochastic Zeroth-Order Optimization for Federated Learning" (FedZO, arXiv 2201.09531).
With an epoch a round (`refresh = 1`) no direction is used twice, but for one that is drawn twice within a round: the
seed-scalar protocol. The price is replay: a pass over the weights for each direction that moved.
"""

from __future__ import annotations

import numpy as np

from fedpeft.randomness.directions import add_signs, packed
from fedpeft.randomness.streams import derive
from fedpeft.types import FloatArray
from fedpeft.zeroth.direction import Direction, Signs
from fedpeft.zeroth.pools import SPAN, Coefficients, check_size, step_of, used_of
from fedpeft.zeroth.sign_stream import SignStream


class FreshPool:
    """See `Pool`.

    Args:
        size: K, 1 to 65,536.
        seed: of the run.

    Raises:
        ValueError: another size.
    """

    largest = 1

    def __init__(self, size: int, seed: int) -> None:
        check_size(size, "fresh")
        self.size = size
        self.seed = seed

    def direction(self, epoch: int, number: int, begin: int, count: int) -> Direction:
        """See `Pool.direction`."""
        return Signs(None, count, SignStream(self._key(epoch, number), begin))

    def combine(self, epoch: int, coefficients: Coefficients, weights: FloatArray, unit: float, begin: int = 0) -> None:
        """See `Pool.combine`."""
        used = [(self._key(epoch, number), own) for number, own in used_of(coefficients)]
        for place in range(0, len(weights) if used else 0, SPAN):
            part = weights[place : place + SPAN]
            total = np.zeros(len(part), dtype=np.int32)
            for key, own in used:
                add_signs(total, packed(key, begin + place, len(part)), own)
            part += step_of(total, unit)

    def _key(self, epoch: int, number: int) -> bytes:
        return derive(self.seed, "zeroth/fresh", epoch, number)
