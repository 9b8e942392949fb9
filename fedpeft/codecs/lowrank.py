"""Low rank: of each matrix its r largest directions, found by a few power iterations; the factors go through any codec.

    Q ← seeded Gaussian, (m, r);    repeat: P ← orth(M Q), Q ← Mᵀ P;    M̂ = P Qᵀ = Σ_k p_k q_kᵀ

PowerSGD (Vogels et al. 2019, arXiv 1905.13727), Algorithm 1, for an M of shape (n, m). There one iteration starts from
the last round's Q; a codec remembers nothing, so it takes three from a seeded start, after which the error is within
two percent of the least at that rank. r (n + m) values go for n m: `lowrank(4)+int8`. Both factors of a direction get
the same length, √‖q_k‖, so that one codec fits both. Tensors of one dimension, and matrices that would not get smaller,
go as they are; of more dimensions, all but the first count as m.

A client's delta of a few steps is of few directions in many of its matrices, LoRA's A above all; a Gaussian matrix has
none: r directions hold about r (√n + √m)² / (n m) of its squared norm. `lgreco` tells which is which.

    body = d mod 2^32, u32 LE ‖ inner codec of, tensor by tensor: P (n r values) ‖ Q (m r values), or the tensor itself

Decoding multiplies and adds in a fixed order, value by value: the same bits on every machine.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from fedpeft.codecs.base import Codec, MalformedPayload, inside, length_of
from fedpeft.codecs.tensors import PerTensor
from fedpeft.randomness.streams import Stream, derive
from fedpeft.types import FloatArray, TensorSpec

_ITERATIONS = 3
_LARGEST = float(np.finfo(np.float32).max)

Matrix = npt.NDArray[np.float64]


class LowRank(PerTensor):
    """See the module.

    Args:
        inner: of the factors.
        rank: r.

    Raises:
        ValueError: rank is no whole number from 1 to 1024.
    """

    def __init__(self, inner: Codec, rank: float) -> None:
        if not (1 <= rank <= 1024 and rank == int(rank)):
            raise ValueError(f"rank = {rank:g} must be a whole number from 1 to 1024")
        self.inner = inner
        self.rank = int(rank)
        self.name = f"lowrank({self.rank})+{inner.name}"

    def encode(self, values: FloatArray) -> bytes:
        """See `Codec.encode`."""
        parts: list[npt.NDArray[np.float64] | FloatArray] = [np.empty(0, dtype=np.float32)]
        for tensor in self.tensors(values.size):
            own = values[tensor.offset : tensor.offset + tensor.size]
            shape = self._matrix(tensor)
            parts += [own] if shape is None else factors(own.reshape(shape), self.rank)
        told = np.concatenate([part.reshape(-1) for part in parts])
        return length_of(values.size) + self.inner.encode(np.clip(told, -_LARGEST, _LARGEST).astype(np.float32))

    def decode(self, body: bytes, size: int) -> FloatArray:
        """See `Codec.decode`."""
        if not body.startswith(length_of(size)):
            raise MalformedPayload(self.name, "it is of another number of values", allowed=f"{size}")
        with inside(self.name):
            told = self.inner.decode(body[4:], self._told(size))
        values, place = np.empty(size, dtype=np.float32), 0
        for tensor in self.tensors(size):
            shape = self._matrix(tensor)
            count = tensor.size if shape is None else self.rank * sum(shape)
            own = told[place : place + count]
            values[tensor.offset : tensor.offset + tensor.size] = own if shape is None else _product(own, *shape)
            place += count
        return values

    def max_bytes(self, size: int) -> int:
        """See `Codec.max_bytes`."""
        return 4 + self.inner.max_bytes(self._told(size))

    def nominal_bytes(self, size: int) -> int:
        """See `Codec.nominal_bytes`."""
        return 4 + self.inner.nominal_bytes(self._told(size))

    def _told(self, size: int) -> int:
        shapes = ((tensor, self._matrix(tensor)) for tensor in self.tensors(size))
        return sum(tensor.size if shape is None else self.rank * sum(shape) for tensor, shape in shapes)

    def _matrix(self, tensor: TensorSpec) -> tuple[int, int] | None:
        """(n, m), or None where the factors would be no fewer values."""
        if len(tensor.shape) < 2 or not tensor.size:
            return None
        n, m = tensor.shape[0], tensor.size // tensor.shape[0]
        return (n, m) if self.rank * (n + m) < n * m else None


def factors(matrix: FloatArray, rank: int) -> list[Matrix]:
    """P √s, shape (n, rank), and Q / √s, shape (m, rank), with s_k = ‖q_k‖; equal matrices give equal factors.

    Args:
        matrix: M, shape (n, m), finite.
        rank: below n and m.
    """
    largest = float(np.abs(matrix).max(initial=0))
    if not largest:
        return [np.zeros((side, rank)) for side in matrix.shape]
    scaled = matrix.astype(np.float64) / largest  # no product overflows or vanishes
    q = _gaussian(matrix.shape[1], rank)
    for _ in range(_ITERATIONS):
        p, _ = np.linalg.qr(scaled @ q)
        q = scaled.T @ p
    lengths = np.sqrt(np.linalg.norm(q, axis=0))
    fair = np.where(lengths > 0, lengths, 1.0)
    return [p * lengths * np.sqrt(largest), q / fair * np.sqrt(largest)]


def _product(told: FloatArray, n: int, m: int) -> FloatArray:
    """P Qᵀ of both factors, one behind the other, shape (n · m,)."""
    rank = told.size // (n + m)
    p = told[: n * rank].reshape(n, rank).astype(np.float64)
    q = told[n * rank :].reshape(m, rank).astype(np.float64)
    found = np.zeros((n, m))
    for one, other in zip(p.T, q.T, strict=True):  # not `@`: libraries differ in the order of a sum
        found += one[:, None] * other
    return np.clip(found, -_LARGEST, _LARGEST).astype(np.float32).reshape(-1)


@lru_cache(maxsize=64)
def _gaussian(rows: int, columns: int) -> Matrix:
    """Box and Muller's normal numbers, always the same ones; not to be written to."""
    count = rows * columns
    draws = Stream(derive(0, "codec/lowrank")).uniform(2 * count)
    radius, angle = np.sqrt(-2 * np.log1p(-draws[:count])), 2 * np.pi * draws[count:]
    found: Matrix = (radius * np.cos(angle)).reshape(rows, columns)
    found.flags.writeable = False
    return found
