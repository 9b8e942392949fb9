"""What every pool must keep. To put one under this contract, add a line to `POOLS`."""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpeft.registry import BUILTIN, build
from fedpeft.types import Layout, TensorSpec
from fedpeft.zeroth.blocks import BlockPool
from fedpeft.zeroth.pools import check_range, largest_of, step_of
from fedpeft.zeroth.sparse import SparsePool, smallest

POOLS = ["hadamard", "independent", "fresh", "near-gaussian", "gaussian"]
EXACT = [name for name in POOLS if name != "gaussian"]  # in whole numbers; `gaussian` has a fixed order of sums instead
OF_SIGNS = ["hadamard", "independent", "fresh"]
PARTS = ["hadamard in blocks", "fresh in blocks", "hadamard, sparse", "near-gaussian, sparse in blocks"]
every_pool = pytest.mark.parametrize("name", POOLS)
every_form = pytest.mark.parametrize("name", [*POOLS, *PARTS])
K, D, UNIT = 64, 1000, 3e-5


def pool(name, size=K, seed=9, places=D):
    """One of the list, or parts of one: `hadamard, sparse in blocks`."""
    blocks = 4 if "in blocks" in name else 1
    found = build("pool", name.split(",")[0].split()[0], {"size": size // blocks, "seed": seed})
    if "sparse" in name:
        layout = Layout((TensorSpec("a", (333,), 0), TensorSpec("b", (places - 333,), 333)), places, "")
        found = SparsePool(found, smallest(np.cos(np.arange(places, dtype=np.float32)), layout, 0.3))
    return BlockPool(found, blocks, places) if blocks > 1 else found


def matrix(of, epoch=0, count=D):
    """All directions, shape (K, count)."""
    return np.array([of.direction(epoch, j, 0, count).values() for j in range(of.size)]).astype(np.float64)


def total(a, directions):
    """Σ a z in the order of numbers: in fp64 exact but for `gaussian`, whose sum is defined so."""
    found = np.zeros(directions.shape[1])
    for own, z in zip(a, directions, strict=True):
        found += float(own) * z
    return found


def some(seed, size=K, largest=3000):
    return np.random.default_rng(seed).integers(-largest, largest, size)


def weights(count=D):
    return np.random.default_rng(1).standard_normal(count).astype(np.float32)


def test_every_pool_is_on_the_list():
    assert set(POOLS) == set(BUILTIN["pool"])


@every_form
def test_replay_is_the_sum_of_its_directions_rounded_once(name):
    of, a, moved = pool(name), some(0), weights()
    of.combine(2, a, moved, UNIT)
    assert (moved == weights() + step_of(total(a, matrix(of, 2)), UNIT)).all()


@every_form
@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(0, D // 8), max_size=4), seed=st.integers(0, 99))
def test_replay_in_pieces_has_the_same_bits(name, cuts, seed):
    of, whole, pieces = pool(name), weights(), weights()
    of.combine(0, some(seed), whole, UNIT)
    places = [0, *sorted(8 * cut for cut in cuts), D]
    for begin, end in pairwise(places):
        of.combine(0, some(seed), pieces[begin:end], UNIT, begin=begin)
    assert (pieces == whole).all()


@every_form
@settings(max_examples=30, deadline=None)
@given(begin=st.integers(0, 100), count=st.integers(1, 150), number=st.integers(0, K - 1))
def test_any_slice_of_a_direction(name, begin, count, number):
    of = pool(name)
    count = min(count, D - 8 * begin)
    whole = of.direction(1, number, 0, D).values()
    assert whole.any()
    assert (of.direction(1, number, 8 * begin, count).values() == whole[8 * begin : 8 * begin + count]).all()


@every_form
@settings(max_examples=30, deadline=None)
@given(
    begin=st.integers(0, 40),
    count=st.integers(1, 600),
    first=st.integers(0, 20),
    number=st.integers(0, K - 1),
    scale=st.floats(-10, 10, width=32),
)
def test_a_direction_is_added_and_read_alike(name, begin, count, first, number, scale):
    """Also in slices of a slice."""
    of = pool(name).direction(0, number, 8 * begin, count)
    z = of.values()
    assert of.size == len(z) == count
    assert (of.values(8 * first, max(0, count - 8 * first)) == z[8 * first :]).all()
    moved = weights(count)
    of.add_to(moved, scale)
    assert (moved == weights(count) + np.float32(scale) * z).all()


@every_form
def test_threads_that_make_slices_at_once_get_the_same_bits(name):
    of, a = pool(name), some(3)
    alone = weights()
    of.combine(0, a, alone, UNIT)
    whole = [of.direction(0, number, 0, D).values() for number in range(K)]
    moved = weights()

    def slice_of(place):
        of.combine(0, a, moved[place : place + 40], UNIT, begin=place)
        return all(
            (of.direction(0, number, place, 40).values() == whole[number][place : place + 40]).all()
            for number in range(0, K, 7)
        )

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(slice_of, range(0, D, 40)))
    assert (moved == alone).all()


@every_pool
def test_longer_vectors_begin_as_shorter_ones(name):
    of = pool(name)
    assert (matrix(of, 0, 300) == matrix(of)[:, :300]).all()


@every_form
def test_replay_of_more_than_one_piece(name):
    count = 2**18 + 2**16 + 40
    size = 32 if "in blocks" in name else 16
    of, a, moved = pool(name, size, places=count), some(4, size), np.zeros(count, dtype=np.float32)
    of.combine(0, a, moved, UNIT)
    assert (moved == step_of(total(a, matrix(of, 0, count)), UNIT)).all()


@every_form
def test_seeds_and_epochs_give_other_directions(name):
    found = [matrix(pool(name, seed=seed), epoch) for seed, epoch in ((9, 0), (9, 1), (10, 0))]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert np.abs((found[one] * found[other]).sum(axis=1)).max() < 6 * np.sqrt(D)


@every_pool
def test_directions_are_nearly_orthogonal(name):
    """E z zᵀ = I: of different directions the products are small, of each with itself D."""
    products = matrix(pool(name)) @ matrix(pool(name)).T
    own = np.diag(products)
    assert (own == D).all() if name in OF_SIGNS else (np.abs(own - D) < 5 * np.sqrt(2 * D)).all()
    assert np.abs(products - np.diag(own)).max() < 6 * np.sqrt(D)


def test_hadamard_directions_are_orthogonal_over_each_run_of_k():
    part = matrix(pool("hadamard"))[:, 2 * K : 3 * K]
    assert (part @ part.T == K * np.eye(K)).all()


@every_form
def test_nothing_moved_is_nothing_changed(name):
    moved = weights()
    pool(name).combine(0, np.zeros(K, dtype=np.int64), moved, UNIT)
    assert (moved == weights()).all()


@pytest.mark.parametrize("name", EXACT)
def test_a_sum_of_nothing_adds_plus_zero(name):
    """Else the sign of a weight that is −0 would depend on the pool: its hash too."""
    a = np.zeros(K, dtype=np.int64)
    a[:2] = (5, 5) if name == "hadamard" else (5, -5)
    moved = np.full(D, -0.0, dtype=np.float32)
    pool(name).combine(0, a, moved, UNIT)
    still = total(a, matrix(pool(name))) == 0
    assert still.any()
    assert not np.signbit(moved[still]).any()


@pytest.mark.parametrize("name", PARTS)
def test_what_a_part_leaves_out_keeps_its_bits(name):
    a = np.zeros(K, dtype=np.int64)
    a[[1, 5]] = 7, 9  # of the second of four blocks
    of, moved, walked = pool(name), np.full(D, -0.0, dtype=np.float32), np.full(D, -0.0, dtype=np.float32)
    of.combine(0, a, moved, UNIT)
    of.direction(0, 1, 0, D).add_to(walked, 1.0)
    left_out = ~matrix(of)[[1, 5]].any(axis=0)
    if name.startswith("near"):  # whose numbers may be 0 by chance
        left_out &= ~matrix(of)[1::4].any(axis=0)
    assert left_out.any()
    assert np.signbit(moved[left_out]).all()
    assert np.signbit(walked[left_out]).all()


def test_ranges_are_those_of_the_numbers():
    """No sum leaves int32: what `check_range` lets pass is exact at the far end too."""
    assert [largest_of(pool(name)) for name in [*POOLS, *PARTS]] == [1, 1, 1, 8, 1, 1, 1, 1, 8]
    assert largest_of(object()) == 1
    of = pool("near-gaussian", 1)
    a = np.array([2**28 - 1])
    check_range(a, 8)
    with pytest.raises(ValueError, match="268435456 times 8, the largest number of a direction, it must be below"):
        check_range(a + 1, 8)
    moved = np.zeros(1 << 18, dtype=np.float32)
    of.combine(0, a, moved, 1e-9)
    z = of.direction(0, 0, 0, 1 << 18).values().astype(np.float64)
    assert np.abs(z).max() == 4.0
    assert (moved == step_of(float(a[0]) * z, 1e-9)).all()


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("hadamard", 48),
        ("hadamard", 4),
        ("hadamard", 2**17),
        ("independent", 8),
        ("fresh", 0),
        ("near-gaussian", 65537),
        ("gaussian", 65537),
    ],
)
def test_sizes_that_cannot_be(name, size):
    with pytest.raises(Exception, match=f"size = {size} must be"):
        pool(name, size)


@pytest.mark.parametrize("size", [1, 7, 65536])
def test_streams_of_their_own_come_in_any_number(size):
    of, moved = pool("fresh", size), weights()
    a = np.zeros(size, dtype=np.int64)
    a[-1] = 3
    of.combine(0, a, moved, UNIT)
    assert (moved == weights() + step_of(3 * of.direction(0, size - 1, 0, D).values().astype(np.int64), UNIT)).all()


def test_sums_beyond_int32_are_refused():
    with pytest.raises(ValueError, match="must be below 2\\^31"):
        check_range(np.array([2**30, -(2**30)]))
    check_range(np.array([2**30, -(2**30) + 1]))
