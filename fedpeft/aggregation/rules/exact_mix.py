"""Exact mix: the state moves by the mean of what clients changed in the product, whatever their ranks.

With D the mean of the differences that clients made (`LayerRound.step`), E the residual, and [·]_r the best part of
rank r (Eckart and Young 1936):

    W = B A + E + Σ_k p_k ((B̂_k + ΔB_k)(Â_k + ΔA_k) − B̂_k Â_k),    B' A' = [W]_r,    E' = [W − B' A']_e

Differences, not products: Σ_k p_k B_k A_k would let what lies above a small client's rank fade although nobody trained
it. Everything stays in factors (`factors.py`): a layer takes R = 2 r + e + Σ_k r_k components, O((m + n) R²) time and
8 (m + n) R bytes; where R is not below min(m, n), W is formed. What a state of rank r cannot hold is not forgotten: E
comes back into the next round's W, so directions that many rounds agree on win through in the end, as error feedback
does for a codec. Only what even E cannot hold is lost, and the journal tells how much that was.

The basis is that of `basis.py`: sorted by singular value between the ranks of the run, so that a client of a smaller
rank is sent the best part that it can hold, and within them near the mean of the clients' factors.

With components that nobody trains (`adapter.merged`, e of them), clients feel what comes next after the best r
components too: those go into the e, and what is carried begins after them.

Transmits what plain averaging does. State between rounds: E, 4 e (m + n) bytes a layer.
"""

from __future__ import annotations

from typing import get_args

from fedpeft.aggregation.basis import as_factors
from fedpeft.aggregation.factors import Factors, Method, leading, stacked
from fedpeft.aggregation.rules.base import LayerRound, Mixed, Rule


class ExactMix(Rule):
    """The best part of the exact mean, and a residual of what it leaves.

    Args:
        residual_rank: e >= 0, components of E; 0 forgets, None is as many as the layer's rank.
        method: how the best part is found, `exact`, or `randomised` for very many components and up to 1 % more error.

    Raises:
        ValueError: a parameter out of its range.
    """

    turns_basis = True
    merges = "may"
    partial = True

    def __init__(self, residual_rank: int | None = None, method: str = "exact") -> None:
        whole = isinstance(residual_rank, int) and not isinstance(residual_rank, bool)
        if residual_rank is not None and (not whole or residual_rank < 0):
            raise ValueError(f"residual_rank = {residual_rank!r} must be a whole number, at least 0")
        if method not in get_args(Method):
            raise ValueError(f"method = {method!r} must be one of {', '.join(get_args(Method))}")
        self.residual_rank = residual_rank
        self.method: Method = "exact" if method == "exact" else "randomised"

    def mix(self, layer: LayerRound, residual: Factors | None = None) -> Mixed:
        """See `Rule.mix`."""
        full = layer.state.left.shape[1]
        rank = full - layer.merged
        capped = rank if self.residual_rank is None else self.residual_rank
        whole = layer.exact if residual is None else stacked([layer.exact, residual])
        part = leading(whole, full + capped, self.method)
        pair = as_factors(part.first(rank), rank, layer.seeded[:rank], layer.trainable(layer.stepped), layer.cuts)
        factors, carried = layer.with_merged(pair, part.first(full).after(rank)), part.after(full)
        return Mixed(factors, carried.balanced() if carried.s.size else None)
