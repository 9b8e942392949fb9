"""The contract of a rule of mixing, and what it is told of one layer in one round.

Symbols, for one LoRA layer: B, shape (m, r), and A, shape (r, n), are the state; client k of rank r_k was sent B̂_k and
Â_k, the first r_k components of what the broadcast decodes to, and brings back B̂_k + ΔB_k and Â_k + ΔA_k with weight
p_k, Σ p_k = 1. All clients share the layer's scaling: a smaller rank is the federation's adapter with components left
out. So scaling cancels in every rule here.

A pruned client holds some rows of the product only (the layer's outputs) or some of its columns (inputs), never both in
one layer. With h_k(i) 1 where client k holds row i and 0 where it does not, row i counts with

    q_k(i) = p_k h_k(i) / Σ_l p_l h_l(i),      0 where nobody holds it

in the place of p_k, and so do columns.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from fedpeft.aggregation.basis import as_factors
from fedpeft.aggregation.factors import Factors, Matrix, Part, stacked
from fedpeft.aggregation.rules.rank_decay import RankDecay

Flags: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Trained:
    """What one client made of one layer."""

    weight: float  # p_k
    delta: Factors  # ΔB_k, shape (m, r_k), and ΔA_k, shape (r_k, n); r_k at most the layer's rank; 0 where not held
    rows: Flags | None = None  # h_k of the outputs, shape (m,); None: it holds all
    columns: Flags | None = None  # h_k of the inputs, shape (n,)

    @property
    def rank(self) -> int:
        """r_k."""
        return len(self.delta.right)


@dataclass(frozen=True)
class LayerRound:
    """One layer in one round."""

    state: Factors  # B and A as the round began
    sent: Factors  # B̂ and Â: what the broadcast decodes to; differs from the state by its codec
    stepped: Factors  # B and A after the strategy's own step along the plain mean of (ΔB_k, ΔA_k), zero-padded
    seeded: Matrix  # A of the untrained adapter, shape (r, n)
    trained: Sequence[Trained]  # at least one, in client order
    cuts: Sequence[int] = ()  # ranks that some client is cut to
    merged: int = 0  # e: the last so many of the r components are part of the forward pass, and nobody trains them

    def start(self, client: Trained) -> Factors:
        """B̂_k and Â_k."""
        return Factors(self.sent.left[:, : client.rank], self.sent.right[: client.rank])

    def trainable(self, pair: Factors) -> Factors:
        """The components of a pair that clients train: B, shape (m, r − e), and A, shape (r − e, n)."""
        count = len(pair.right) - self.merged
        return Factors(pair.left[:, :count], pair.right[:count])

    def with_merged(self, pair: Factors, merged: Part) -> Factors:
        """B, shape (m, r), and A, shape (r, n), of the components to train and of a product to merge, of rank e at
        most: in a basis near what is merged now, so that a broadcast differs little from the last."""
        if not self.merged:
            return pair
        count = len(pair.right)
        now = Factors(self.state.left[:, count:], self.state.right[count:])
        rest = as_factors(merged, self.merged, self.seeded[count:], now, ())
        return Factors(np.hstack([pair.left, rest.left]), np.vstack([pair.right, rest.right]))

    def products(self) -> Factors:
        """Σ_k p_k (B̂_k + ΔB_k)(Â_k + ΔA_k): the mean of the products of clients that hold the whole layer."""
        return stacked(
            Factors(start.left + client.delta.left, start.right + client.delta.right).scaled(client.weight)
            for client in self.trained
            for start in [self.start(client)]
        )

    @cached_property
    def step(self) -> Factors:
        """D = Σ_k q_k ((B̂_k + ΔB_k)(Â_k + ΔA_k) − B̂_k Â_k): the mean of what the clients changed in the product.

        With the zero-padded mean ΔB̄ of those that hold a row, D = ΔB̄ Â + Σ_k diag(q_k) (B̂_k + ΔB_k) ΔA_k, so it takes
        r + Σ r_k components. Where columns are held, D = B̂ ΔĀ + Σ_k ΔB_k (Â_k + ΔA_k) diag(q_k).
        """
        by_column = any(client.columns is not None for client in self.trained)
        shares = self._shares(by_column)
        mean, parts = np.zeros_like(self.sent.right if by_column else self.sent.left), []
        for client, share in zip(self.trained, shares, strict=True):
            start, (left, right) = self.start(client), client.delta
            if by_column:
                mean[: client.rank] += right * share
                parts.append(Factors(left, (start.right + right) * share))
            else:
                mean[:, : client.rank] += left * share[:, None]
                parts.append(Factors((start.left + left) * share[:, None], right))
        common = Factors(self.sent.left, mean) if by_column else Factors(mean, self.sent.right)
        return stacked([common, *parts])

    def _shares(self, by_column: bool) -> Matrix:
        """q_k of each row, or column, shape (clients, m) or (clients, n)."""
        size = self.sent.right.shape[1] if by_column else len(self.sent.left)
        held = [client.columns if by_column else client.rows for client in self.trained]
        shares = np.array(
            [
                np.full(size, client.weight) if own is None else client.weight * own
                for client, own in zip(self.trained, held, strict=True)
            ]
        )
        total = shares.sum(axis=0)
        of_each: Matrix = np.divide(shares, total, out=np.zeros_like(shares), where=total > 0)
        return of_each

    @cached_property
    def exact(self) -> Factors:
        """B A + D: where a rule would end that loses nothing."""
        return stacked([self.state, self.step])


@dataclass(frozen=True, slots=True)
class Mixed:
    """What a rule makes of a layer."""

    factors: Factors  # the new B and A
    residual: Factors | None = None  # of the product, kept by the server and given to the rule in the next round


class Rule(ABC):
    """How the factors of many clients become one pair a layer (registry kind `rule`). One of one's own, in a file:

    >>> import numpy as np
    >>> from fedpeft.aggregation.factors import Factors
    >>> class FirstOnly(Rule):
    ...     '''Client 0 decides.'''
    ...     def mix(self, layer, residual=None):
    ...         start, own = layer.start(layer.trained[0]), layer.trained[0].delta
    ...         return Mixed(Factors(start.left + own.left, start.right + own.right))
    >>> pair = Factors(np.ones((2, 1)), np.ones((1, 2)))
    >>> layer = LayerRound(pair, pair, pair, pair.right, [Trained(1.0, Factors(np.ones((2, 1)), np.zeros((1, 2))))])
    >>> FirstOnly().mix(layer).factors.dense()
    array([[2., 2.],
           [2., 2.]])

    A rule sees all replies of a round at once: the server keeps them, 4 Σ_k r_k (m + n) bytes a layer.
    """

    any_step: ClassVar[bool] = False
    """Whether it goes with strategies that step along the mean in their own way (momentum, Adam)."""

    merges: ClassVar[Literal["no", "may", "must"]] = "no"
    """Whether it puts something into the components that nobody trains (`adapter.merged`), and whether it needs any."""

    restarts: ClassVar[bool] = False
    """Whether clients begin every round with B = 0: a round that freezes B would then have nothing to learn."""

    turns_basis: ClassVar[bool] = False
    """Whether component i of the result is another one than component i that clients trained. A client's residual of
    the old basis is then dropped."""

    partial: ClassVar[bool] = False
    """Whether it takes clients that hold a part of a layer, which says nothing of the rest: one that adds differences
    does (`LayerRound.step`), one that averages what clients have does not."""

    rank_decay: RankDecay | None = None
    """How it lowers its clients' ranks; None: it leaves them alone."""

    @abstractmethod
    def mix(self, layer: LayerRound, residual: Factors | None = None) -> Mixed:
        """The layer after the round.

        Args:
            layer: somebody moved it.
            residual: what this rule left over in an earlier round.
        """
