"""SCAFFOLD: averaging whose clients correct their steps by control variates, so that unlike data pull less.

Karimireddy et al. 2020, "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning" (arXiv 1910.06378),
Algorithm 1, with S the clients that replied, N all clients, and Δy_i, Δc_i what client i sends:

    x ← x + η_g (1/|S|) Σ_{i∈S} Δy_i
    c ← c + (|S|/N) (1/|S|) Σ_{i∈S} Δc_i

The client half, the local steps and Δc_i are in `fedpeft.training.objectives.scaffold`. As in the paper every client
counts the same, however many examples it has. A reply that is late and folded in counts in x by its discount, in c in
full, since its client has moved its c_i by all of Δc_i. What is kept is N c = Σ_i c_i, so that N may change.

The paper's local steps are SGD's: `local.optimizer = "sgd"` and `local.max_grad_norm = 0`. Under AdamW the gradient is
corrected before AdamW sees it: sound (see the client half), but beyond the paper's theory.

Transmits what FedAvg does, and c down and Δc up through the codec `codec.auxiliary`: in int8 twice FedAvg's bytes.
State between rounds: Σ_i c_i, 8d bytes; on each client's disk c_i, 4d bytes for each of the last two rounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fedpeft.aggregation import WeightedMean
from fedpeft.aggregation.mean import MAX_ABS
from fedpeft.config import RunConfig
from fedpeft.errors import ClientFault
from fedpeft.strategies.base import State
from fedpeft.strategies.fedavg import FedAvg
from fedpeft.strategies.parameters import number
from fedpeft.types import FloatArray, Update


class Scaffold(FedAvg):
    """Stochastic controlled averaging.

    Memory: FedAvg's and as much again, and Σ_i c_i.

    Args:
        learning_rate: η_g > 0, the server's step. The paper's experiments take 1.

    Raises:
        ValueError: a parameter out of its range.
    """

    objective = "scaffold"
    sends = ("c",)
    receives = ("c",)
    partial = False  # control variates are of all coordinates of every client

    def __init__(self, learning_rate: float = 1.0) -> None:
        super().__init__()
        self.eta = np.float32(number("learning_rate", learning_rate, above=0))
        self.clients = 0  # N
        self._sum: npt.NDArray[np.float64] | None = None  # Σ_i c_i, shape (d,); None: all zero
        self._change: WeightedMean | None = None  # of Δc

    def meet(self, clients: int) -> None:
        """See `Strategy.meet`."""
        self.clients = clients

    def auxiliary(self) -> dict[str, FloatArray]:
        """c, shape (d,)."""
        return {} if self._sum is None else {"c": (self._sum / max(self.clients, 1)).astype(np.float32)}

    def begin(self, theta: FloatArray) -> None:
        """See `Strategy.begin`."""
        super().begin(theta)
        self._change = WeightedMean(theta.size)

    def accept(self, update: Update, weight: float) -> None:
        """See `Strategy.accept`. An update without Δc leaves c as it is; the coordinator lets none pass.

        Raises:
            ClientFault: as `FedAvg.accept`; Δc out of the same range.
        """
        change = update.auxiliary.get("c")
        if change is not None and not (largest := float(np.abs(change).max(initial=0.0))) <= MAX_ABS:
            raise ClientFault(
                f"client {update.client}, round {update.round}: its control variate has an element of size {largest:g}",
                code="strategy.range",
                allowed=f"at most {MAX_ABS:g}",
                remedy="lower limits.max_auxiliary_norm, so that the guard refuses it",
            )
        super().accept(update, weight / update.weight)
        if change is not None and self._change is not None:
            self._change.add(change, 1.0)

    def finish(self) -> FloatArray:
        """See `Strategy.finish`."""
        change, self._change = self._change, None
        if change is not None and change.count:
            step = change.mean().astype(np.float64) * change.count
            self._sum = step if self._sum is None else self._sum + step
        return super().finish()

    def step(self, theta: FloatArray, delta: FloatArray) -> FloatArray:
        """x + η_g Δy."""
        return theta + self.eta * delta

    def remarks(self, config: RunConfig) -> list[str]:
        """See `Strategy.remarks`."""
        if config.local.optimizer == "sgd":
            return []
        optimizer = config.local.optimizer
        sentence = f'SCAFFOLD is defined for SGD: with local.optimizer = "{optimizer}" its clients correct their '
        return [sentence + "gradients, and the optimizer makes of them what it will"]

    def state(self) -> State:
        """`controls`: Σ_i c_i, shape (d,), fp64; empty while all are zero."""
        return {} if self._sum is None else {"controls": self._sum.copy()}

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """See `Strategy.restore`."""
        arrays = self.read_state(state, {"controls": np.float64})
        self._sum = arrays["controls"] if arrays else None
