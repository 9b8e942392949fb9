"""Sign vote: each client has one vote for the sign of each coordinate's step, and the majority decides.

    θ_j ← θ_j + sign( Σ_k sign(Δ_{k,j}) ) · max_k |Δ_{k,j}|

Made for zeroth-order runs whose clients send one bit a step (`zeroth.scalars = "sign"`, `codec.up = "sign"`,
`zeroth.draws = "round"`: all clients look along the same directions): every step then has the length of the learning
rate, whoever votes. That is FeedSign (Cai et al. 2025, "FeedSign: Robust Full-parameter Federated Fine-tuning of Large
Models with Extremely Low Communication Overhead of One Bit", arXiv 2501.17610), with as many steps a round as the run
file says; over gradients it is signSGD with majority vote (Bernstein et al. 2019, arXiv 1810.05291), except that a
coordinate moves as far as its most decided voter wants. A vote counts once, however many examples are behind it: a
dishonest client has one.

Transmits what FedAvg does through the run's codecs; with the codec `sign` 1 bit a scalar and 4 bytes. State between
rounds: none.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fedpeft.strategies.base import Strategy
from fedpeft.types import FloatArray, Update


class SignVote(Strategy):
    """Majority of signs, one vote a client. Memory: θ and 8 bytes an element. Any order of replies gives the same
    bits."""

    asynchronous = False  # a vote cannot be discounted
    compares = True

    def begin(self, theta: FloatArray) -> None:
        """See `Strategy.begin`."""
        self._theta = theta
        self._votes: npt.NDArray[np.int32] = np.zeros(theta.shape, dtype=np.int32)
        self._steps: FloatArray = np.zeros(theta.shape, dtype=np.float32)

    def accept(self, update: Update, weight: float) -> None:
        """See `Strategy.accept`."""
        self._votes += np.sign(update.delta).astype(np.int32)
        np.maximum(self._steps, np.abs(update.delta), out=self._steps)

    def finish(self) -> FloatArray:
        """See `Strategy.finish`."""
        moved: FloatArray = self._theta + np.sign(self._votes).astype(np.float32) * self._steps
        return moved
