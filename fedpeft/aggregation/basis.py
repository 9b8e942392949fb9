"""Which B and A stand for a product: B A = (B G)(G^-1 A) for any G, and clients see the factors, not the product.

Three wishes decide:

1. The first r components are the best part of rank r, for every rank r that some client is cut to: then truncation
   costs that client as little as can be (Eckart-Young). So components are sorted by singular value *between* these
   ranks, the cuts. With one rank for all there are no cuts below it.
2. The factors are near those that clients just moved to, so that the next broadcast differs little from this one and a
   client's optimizer meets a familiar basis. *Within* two cuts any change of basis leaves the first wish as it is. With
   U diag(s) V^T the part there, A = M V^T and B = U diag(s) M^-1 with M = A_ref V, the reference seen in the rows of
   the part: where the part is the reference's product, that is the reference itself. Size matters too: a step of Adam
   moves every value by the learning rate, whatever its gradient, so where A is a fifth as long, B's steps move the
   product a fifth as far. So M is scaled to the length of A_ref.
3. Every component can be trained: with A = 0 and B = 0 both gradients are 0 for good. Components that the product
   does not need get their initial, seeded A and B = 0. And none is lopsided: singular values of M are kept within
   `LOOSE` times their root mean square, for a direction that is new would give A nothing and B all.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from fedpeft.aggregation.factors import Factors, Matrix, Part

LOOSE = 3.0
"""How many times as long, or as short, as usual a direction of A may be."""


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
    left, right = np.zeros((part.u.shape[0], rank)), seeded.copy()
    borders = sorted({0, live, *(cut for cut in cuts if 0 < cut < live)})
    for low, high in itertools.pairwise(borders):
        own = slice(low, high)
        left[:, own], right[own] = _near(part.after(low).first(high - low), reference.right[own])
    _fill_empty(right[live:])
    return Factors(left, right)


def _near(part: Part, rows: Matrix) -> Factors:
    """B and A of a part, A near to these rows, shape (k, n), and as long."""
    usual = float(np.linalg.norm(rows)) / math.sqrt(max(len(rows), 1))
    if usual == 0.0:
        return part.balanced()
    x, sizes, zt = np.linalg.svd(rows @ part.vt.T)
    seen = float(np.linalg.norm(sizes)) / math.sqrt(max(sizes.size, 1))
    sizes = np.clip(sizes * (usual / seen) if seen > 0 else sizes, usual / LOOSE, usual * LOOSE)
    return Factors((part.u * part.s) @ (zt.T / sizes) @ x.T, (x * sizes) @ (zt @ part.vt))


def _fill_empty(rows: Matrix) -> None:
    """Rows of A that began as 0 (an adapter that starts from another one's values) get unit vectors, in place."""
    empty = np.flatnonzero(~rows.any(axis=1))
    rows[empty, empty % rows.shape[1]] = 1.0
