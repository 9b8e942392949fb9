"""What every pool must keep. To put one under this contract, add a line to `POOLS`."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpeft.registry import BUILTIN, build
from fedpeft.zeroth.pools import check_range, step_of

POOLS = ["hadamard", "independent"]
every_pool = pytest.mark.parametrize("name", POOLS)
K, D, UNIT = 64, 1000, 3e-5


def pool(name, size=K, seed=9):
    return build("pool", name, {"size": size, "seed": seed})


def matrix(of, epoch=0, count=D):
    """All directions, shape (K, count), whole numbers."""
    return np.array([of.direction(epoch, j, 0, count).values() for j in range(of.size)]).astype(np.int64)


def some(seed, size=K, largest=3000):
    return np.random.default_rng(seed).integers(-largest, largest, size)


def weights(count=D):
    return np.random.default_rng(1).standard_normal(count).astype(np.float32)


def test_every_pool_is_on_the_list():
    assert set(POOLS) == set(BUILTIN["pool"])


@every_pool
def test_replay_is_the_sum_of_its_directions_rounded_once(name):
    of, a, moved = pool(name), some(0), weights()
    of.combine(2, a, moved, UNIT)
    assert (moved == weights() + step_of(a @ matrix(of, 2), UNIT)).all()


@every_pool
@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(0, D // 8), max_size=4), seed=st.integers(0, 99))
def test_replay_in_pieces_has_the_same_bits(name, cuts, seed):
    of, whole, pieces = pool(name), weights(), weights()
    of.combine(0, some(seed), whole, UNIT)
    places = [0, *sorted(8 * cut for cut in cuts), D]
    for begin, end in pairwise(places):
        of.combine(0, some(seed), pieces[begin:end], UNIT, begin=begin)
    assert (pieces == whole).all()


@every_pool
@settings(max_examples=20, deadline=None)
@given(begin=st.integers(0, 100), count=st.integers(1, 150), number=st.integers(0, K - 1))
def test_any_slice_of_a_direction(name, begin, count, number):
    of = pool(name)
    found = of.direction(1, number, 8 * begin, count).values()
    assert (found == matrix(of, 1)[number, 8 * begin : 8 * begin + count][: len(found)]).all()


@every_pool
def test_longer_vectors_begin_as_shorter_ones(name):
    of = pool(name)
    assert (matrix(of, 0, 300) == matrix(of)[:, :300]).all()


@every_pool
def test_replay_of_more_than_one_piece(name):
    count = 2**18 + 2**16 + 40
    of, a, moved = pool(name, 16), some(4, 16), np.zeros(count, dtype=np.float32)
    of.combine(0, a, moved, UNIT)
    assert (moved == step_of(a @ matrix(of, 0, count), UNIT)).all()


@every_pool
def test_seeds_and_epochs_give_other_directions(name):
    found = [matrix(pool(name, seed=seed), epoch) for seed, epoch in ((9, 0), (9, 1), (10, 0))]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert np.abs((found[one] * found[other]).sum(axis=1)).max() < 6 * np.sqrt(D)


@every_pool
def test_directions_are_nearly_orthogonal(name):
    """E z zᵀ = I: of different directions the products are small, of each with itself D."""
    products = matrix(pool(name)) @ matrix(pool(name)).T
    assert (np.diag(products) == D).all()
    assert np.abs(products - D * np.eye(K)).max() < 6 * np.sqrt(D)


def test_hadamard_directions_are_orthogonal_over_each_run_of_k():
    part = matrix(pool("hadamard"))[:, 2 * K : 3 * K]
    assert (part @ part.T == K * np.eye(K)).all()


@every_pool
def test_nothing_moved_is_nothing_changed(name):
    moved = weights()
    pool(name).combine(0, np.zeros(K, dtype=np.int64), moved, UNIT)
    assert (moved == weights()).all()


@every_pool
def test_a_sum_of_nothing_adds_plus_zero(name):
    """Else the sign of a weight that is −0 would depend on the pool: its hash too."""
    a = np.zeros(K, dtype=np.int64)
    a[:2] = (5, -5) if name == "independent" else (5, 5)
    moved = np.full(D, -0.0, dtype=np.float32)
    pool(name).combine(0, a, moved, UNIT)
    still = (a @ matrix(pool(name))) == 0
    assert still.any()
    assert not np.signbit(moved[still]).any()


@pytest.mark.parametrize(("name", "size"), [("hadamard", 48), ("hadamard", 4), ("hadamard", 2**17), ("independent", 8)])
def test_sizes_that_cannot_be(name, size):
    with pytest.raises(Exception, match=f"size = {size} must be"):
        pool(name, size)


def test_sums_beyond_int32_are_refused():
    with pytest.raises(ValueError, match="must be below 2\\^31"):
        check_range(np.array([2**30, -(2**30)]))
    check_range(np.array([2**30, -(2**30) + 1]))
