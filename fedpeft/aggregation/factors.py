"""Matrices that are kept as a product of two thin ones, W = L R: sums, norms and best low-rank parts without forming W.

What federated LoRA adds up has a rank far below its size, so W, shape (m, n), is L, shape (m, k), times R, shape (k,
n). A sum of such is a stack: [L_1 L_2] [R_1; R_2]. Its best part of rank r (Eckart and Young 1936) is U U^T W with U
the r leading left singular vectors. They are the leading eigenvectors of

    W W^T = L (R R^T) L^T = (L C) (L C)^T,    R R^T = C C^T

which take two eigenproblems of size k and O((m + n) k^2) beside them. Eigenvalues are squares of singular values, so in
float64 whatever is below 1e-8 of the largest one is noise; but a part is always a projection of W itself, exact to
rounding, so U alone suffers, and of fp32 factors nothing that they hold. Where k is not below min(m, n), W is formed.

Halko, Martinsson and Tropp 2011 (arXiv 0909.4061), Algorithm 4.4, finds nearly the same U from products of W with a few
vectors, in O((m + n) k r): `method = "randomised"`, with three power iterations and sixteen vectors more than wanted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from fedpeft.randomness.streams import Stream, derive

Matrix: TypeAlias = npt.NDArray[np.float64]
Method: TypeAlias = Literal["exact", "randomised"]

NOISE = 1e-7
"""Singular values below this share of the largest are taken for 0: fp32 factors say nothing of them."""

_OVERSAMPLED = 16
_POWER_ITERATIONS = 3


class Factors(NamedTuple):
    """A matrix W = left @ right, shape (m, n)."""

    left: Matrix  # shape (m, k), float64
    right: Matrix  # shape (k, n), float64

    def dense(self) -> Matrix:
        """W itself, shape (m, n)."""
        product: Matrix = self.left @ self.right
        return product

    def scaled(self, factor: float) -> Factors:
        """factor · W."""
        return Factors(self.left * factor, self.right)


class Part(NamedTuple):
    """The leading part of a matrix, U diag(s) V^T of rank k."""

    u: Matrix  # shape (m, k), orthonormal columns
    s: Matrix  # shape (k,), falling; none is 0
    vt: Matrix  # shape (k, n), orthonormal rows

    def first(self, count: int) -> Part:
        """Its own best part of a smaller rank."""
        return Part(self.u[:, :count], self.s[:count], self.vt[:count])

    def after(self, count: int) -> Part:
        """What the first `count` components leave."""
        return Part(self.u[:, count:], self.s[count:], self.vt[count:])

    def balanced(self) -> Factors:
        """(U √s) (√s V^T): both factors share the size of the product."""
        root = np.sqrt(self.s)
        return Factors(self.u * root, root[:, None] * self.vt)


def factors_of(left: npt.NDArray[np.floating], right: npt.NDArray[np.floating]) -> Factors:
    """A product of factors of any precision."""
    return Factors(left.astype(np.float64), right.astype(np.float64))


def stacked(parts: Iterable[Factors]) -> Factors:
    """The sum of products of one shape as one product; at least one."""
    parts = list(parts)
    return Factors(
        np.concatenate([part.left for part in parts], axis=1), np.concatenate([part.right for part in parts], axis=0)
    )


def norm(factors: Factors) -> float:
    """‖W‖_F = √ tr((L^T L)(R R^T)), in O((m + n) k^2)."""
    left, right = factors
    if left.shape[1] >= min(left.shape[0], right.shape[1]):
        return float(np.linalg.norm(factors.dense()))
    return math.sqrt(max(0.0, float(np.sum((left.T @ left) * (right @ right.T)))))


def leading(factors: Factors, count: int, method: Method = "exact") -> Part:
    """The best part of rank `count`; less where W has less.

    Args:
        factors: W, finite.
        count: components wanted, >= 0.
        method: `exact`, or `randomised` where `count` is far below the rank of W and a little more error will do.
    """
    (m, k), n = factors.left.shape, factors.right.shape[1]
    count = min(count, m, n)
    if count == 0:
        return Part(np.zeros((m, 0)), np.zeros(0), np.zeros((0, n)))
    if method == "randomised" and count + _OVERSAMPLED < min(m, n, k):
        basis = _sketched(factors, count + _OVERSAMPLED)
    else:
        basis = _leading_basis(factors, count)
    small = (basis.T @ factors.left) @ factors.right  # (k', n)
    u, s, vt = np.linalg.svd(small, full_matrices=False)
    kept = int(np.count_nonzero(s[:count] > NOISE * s[0])) if s.size and s[0] > 0 else 0
    return Part(basis @ u[:, :kept], s[:kept], vt[:kept])


def _leading_basis(factors: Factors, count: int) -> Matrix:
    """Orthonormal columns, shape (m, at most `count`), that span the leading left singular vectors."""
    (m, k), n = factors.left.shape, factors.right.shape[1]
    if k >= min(m, n):
        dense = factors.dense()
        if m <= n:
            return np.linalg.eigh(dense @ dense.T)[1][:, ::-1][:, :count]
        squares, vectors = np.linalg.eigh(dense.T @ dense)
        moved = dense @ _largest(squares, vectors, count)
    else:
        left, right = _evened(factors)
        squares, vectors = np.linalg.eigh(right @ right.T)
        root = vectors * np.sqrt(np.maximum(squares, 0.0))  # C, shape (k, k)
        moving = left.T @ left
        squares, vectors = np.linalg.eigh(root.T @ moving @ root)
        moved = left @ (root @ _largest(squares, vectors, count))
    return np.linalg.qr(moved)[0]


def _evened(factors: Factors) -> Factors:
    """The same W; column i of L and row i of R have one length, so that neither hides a large product from rounding."""
    left, right = np.linalg.norm(factors.left, axis=0), np.linalg.norm(factors.right, axis=1)
    kept = (left > 0) & (right > 0)
    ratio = np.sqrt(right[kept] / left[kept])
    return Factors(factors.left[:, kept] * ratio, factors.right[kept] / ratio[:, None])


def _largest(squares: Matrix, vectors: Matrix, count: int) -> Matrix:
    """The eigenvectors of the largest eigenvalues, falling, each divided by its root; none that is noise."""
    squares, vectors = squares[::-1][:count], vectors[:, ::-1][:, :count]
    sound = squares > NOISE**2 * max(float(squares[0]), 0.0) if squares.size else squares > 0
    found: Matrix = vectors[:, sound] / np.sqrt(squares[sound])
    return found


def _sketched(factors: Factors, width: int) -> Matrix:
    """Orthonormal columns, shape (m, width), that nearly span the leading left singular vectors."""
    left, right = factors
    n = right.shape[1]
    draw = Stream(derive(0, "sketch", n, width)).uniform(n * width).reshape(n, width) - 0.5
    basis = np.linalg.qr(left @ (right @ draw))[0]
    for _ in range(_POWER_ITERATIONS):
        back = np.linalg.qr(right.T @ (left.T @ basis))[0]
        basis = np.linalg.qr(left @ (right @ back))[0]
    return basis
