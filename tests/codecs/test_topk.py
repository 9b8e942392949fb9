"""Which values a top-k codec keeps, of many as of few."""

import numpy as np
import pytest

from fedpeft.codecs.topk import _at_least
from fedpeft.registry import build

RNG = np.random.default_rng(0)
MANY = 1 << 17
VECTORS = {
    "gaussian": RNG.standard_normal(MANY),
    "heavy": RNG.standard_cauchy(MANY),
    "sorted": np.sort(RNG.standard_normal(MANY)),
    "zeros": np.zeros(MANY),
    "few": np.r_[np.zeros(MANY - 50), RNG.standard_normal(50)],
    "equal": RNG.integers(0, 3, MANY),
    "periodic": np.tile([5.0, *[1.0] * 7], MANY // 8),  # a sample of every eighth value sees fives alone
}


@pytest.mark.parametrize("vector", VECTORS)
@pytest.mark.parametrize("count", [1, 2, 50, MANY // 100, MANY // 10, MANY // 2, MANY - 1])
def test_the_threshold_among_many_is_exact(vector, count):
    sizes = np.abs(VECTORS[vector].astype(np.float32))
    assert _at_least(sizes, count) == np.sort(sizes)[::-1][count - 1]


def test_of_equals_the_first_are_kept():
    values = np.where(np.arange(MANY) % 2, 1.0, -1.0).astype(np.float32)
    codec = build("codec", "topk(0.25)+fp32", {})
    kept = np.flatnonzero(codec.decode(codec.encode(values), MANY))
    assert np.array_equal(kept, np.arange(MANY // 4))
