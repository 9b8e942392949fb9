"""FedAvg: one step along the mean delta, each client weighted by its examples.

McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from Decentralized Data" (arXiv 1602.05629),
Algorithm 1, w_{t+1} ← Σ_k n_k/n w^k_{t+1}, written on deltas Δ_k = w^k_{t+1} − w_t, with n the examples of those that
replied:

    θ_{t+1} = θ_t + Σ_k (n_k / n) Δ_k

Transmits per client and round: one θ down and one Δ up, d values each, through the codecs (4d bytes in fp32, about d
in int8). State between rounds: none.
"""

from __future__ import annotations

from fedpeft.aggregation import WeightedMean
from fedpeft.errors import ClientFault
from fedpeft.strategies.base import Strategy
from fedpeft.types import FloatArray, Update


class FedAvg(Strategy):
    """The weighted mean of the deltas, added to θ.

    Memory: θ and 8 bytes an element, 16 with very large or very many deltas, whatever the cohort. Updates in int8 are
    folded from their codes. The same replies give the same bits in any order. A rule that steps differently along the
    mean subclasses this and overrides `step`.

    Of pruned clients, each coordinate is the mean over those that hold it; one that nobody holds has a mean of 0.
    """

    partial = True

    def __init__(self) -> None:
        self._theta: FloatArray | None = None
        self._mean: WeightedMean | None = None

    def begin(self, theta: FloatArray) -> None:
        """See `Strategy.begin`."""
        self._theta = theta
        self._mean = WeightedMean(theta.size)

    def accept(self, update: Update, weight: float) -> None:
        """See `Strategy.accept`.

        Raises:
            ClientFault: code `strategy.range`; a delta or weight beyond the range of `WeightedMean`, which only limits
                far above the defaults let pass.
        """
        _, mean = self._round()
        try:
            mean.add(update.foldable, weight, update.held)
        except ValueError as error:
            raise ClientFault(
                f"client {update.client}, round {update.round}: {error}",
                code="strategy.range",
                remedy="lower limits.max_update_norm or limits.max_examples, so that the guard refuses it "
                "(zeroth order: zeroth.clip or zeroth.resolution)",
            ) from error

    def finish(self) -> FloatArray:
        """See `Strategy.finish`."""
        theta, mean = self._round()
        self._theta = self._mean = None
        return self.step(theta, mean.mean()) if mean.count else theta.copy()

    def step(self, theta: FloatArray, delta: FloatArray) -> FloatArray:
        """The server's step: here θ + Δ.

        Args:
            theta: θ_t, shape (d,), fp32; not to be modified.
            delta: the weighted mean delta of the round, shape (d,), fp32.

        Returns:
            θ_{t+1}, a new array of shape (d,), fp32.
        """
        return theta + delta

    def _round(self) -> tuple[FloatArray, WeightedMean]:
        if self._theta is None or self._mean is None:
            raise RuntimeError(f"{type(self).__name__}: no round is open; call begin(theta) first")
        return self._theta, self._mean
