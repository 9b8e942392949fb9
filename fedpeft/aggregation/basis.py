"""Which B and A stand for a product: B A = (B G)(G^-1 A) for any G, and clients see the factors, not the product.

Three wishes decide:

1. The first r components are the best part of rank r, for every rank r that some client is cut to: then truncation
   costs that client as little as can be (Eckart-Young). So components are sorted by singular value *between* these
   ranks, the cuts.
2. The factors are near those that clients just moved to, so that the next broadcast differs little from this one and
   a client's optimizer meets a familiar basis. *Within* two cuts any rotation leaves the first wish as it is, so there
   the factors are rotated onto a reference: Q = argmin ‖B Q - B_ref‖² + ‖Q^T A - A_ref‖² over orthogonal matrices
   (Schönemann 1966), Q = X Z^T with X Σ Z^T the SVD of B^T B_ref + A A_ref^T. With one rank for all there are no cuts
   below it, and the whole basis follows the reference.
3. Every component can be trained: with A = 0 and B = 0 both gradients are 0 for good. Components that the product
   does not need get their initial, seeded A and B = 0.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from fedpeft.aggregation.factors import Factors, Matrix, Part


def as_factors(part: Part, rank: int, seeded: Matrix, reference: Factors, cuts: Sequence[int]) -> Factors:
    """B, shape (m, rank), and A, shape (rank, n), of a product.

    Args:
        part: the product, of rank k <= `rank`.
        rank: components that the layer has.
        seeded: A of the components that it does not need, shape (rank, n); of it the last rank - k rows are used.
        reference: B and A to stay near to, of this rank.
        cuts: ranks that some client is cut to.
    """
    live = part.s.size
    product = part.balanced()
    left, right = np.zeros((part.u.shape[0], rank)), seeded.copy()
    borders = sorted({0, live, *(cut for cut in cuts if 0 < cut < live)})
    for low, high in itertools.pairwise(borders):
        own = slice(low, high)
        turn = _rotation(product.left[:, own].T @ reference.left[:, own] + product.right[own] @ reference.right[own].T)
        left[:, own], right[own] = product.left[:, own] @ turn, turn.T @ product.right[own]
    _fill_empty(right[live:])
    return Factors(left, right)


def _rotation(likeness: Matrix) -> Matrix:
    x, _, zt = np.linalg.svd(likeness)
    turn: Matrix = x @ zt
    return turn


def _fill_empty(rows: Matrix) -> None:
    """Rows of A that began as 0 (an adapter that starts from another one's values) get unit vectors, in place."""
    empty = np.flatnonzero(~rows.any(axis=1))
    rows[empty, empty % rows.shape[1]] = 1.0
