"""Products kept as two thin factors, against the same computed densely."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpeft.aggregation.basis import as_factors
from fedpeft.aggregation.factors import Factors, leading, norm, stacked


def factors(m, n, k, seed=0, decay=1.0):
    rng = np.random.default_rng([seed, m, n, k])
    return Factors(rng.standard_normal((m, k)) * decay ** np.arange(k), rng.standard_normal((k, n)))


@settings(max_examples=60, deadline=None)
@given(
    m=st.integers(1, 40), n=st.integers(1, 40), k=st.integers(1, 50), count=st.integers(0, 45), seed=st.integers(0, 99)
)
def test_the_leading_part_is_the_svd_s(m, n, k, count, seed):
    """Of any shape, however many components are stacked, and however many are wanted."""
    whole = stacked([factors(m, n, k, seed), factors(m, n, 1, seed)])
    dense = whole.dense()
    part = leading(whole, count)
    s = np.linalg.svd(dense, compute_uv=False)
    count = min(count, s.size, int((s > 1e-6 * s[0]).sum()))
    assert part.s[:count] == pytest.approx(s[:count], rel=1e-6)
    assert np.linalg.norm(part.balanced().dense() - dense) <= np.linalg.norm(s[count:]) + 1e-6 * np.linalg.norm(dense)
    assert np.allclose(part.u.T @ part.u, np.eye(part.s.size), atol=1e-8)
    assert np.allclose(part.vt @ part.vt.T, np.eye(part.s.size), atol=1e-8)
    assert norm(whole) == pytest.approx(np.linalg.norm(dense))


def test_a_small_product_beside_a_large_one_is_not_lost():
    """1e-5 of the whole, and its factors of very different lengths."""
    small = factors(60, 50, 2, seed=1)
    lopsided = Factors(small.left * 1e-9, small.right * 1e4)
    part = leading(stacked([factors(60, 50, 3), lopsided]), 5)
    wanted = np.linalg.svd(stacked([factors(60, 50, 3), lopsided]).dense(), compute_uv=False)[:5]
    assert part.s == pytest.approx(wanted, rel=1e-4)


def test_components_that_are_not_there_are_not_invented():
    twice = stacked([factors(30, 20, 3), factors(30, 20, 3).scaled(2.0)])
    assert leading(twice, 10).s.size == 3
    assert leading(Factors(np.zeros((30, 4)), np.zeros((4, 20))), 10).s.size == 0


def test_the_randomised_part_is_within_one_per_cent():
    whole = factors(300, 200, 150, decay=0.97)
    exact, near = leading(whole, 16), leading(whole, 16, "randomised")
    floor = np.linalg.norm(exact.balanced().dense() - whole.dense())
    assert np.linalg.norm(near.balanced().dense() - whole.dense()) <= 1.01 * floor
    assert np.array_equal(near.u, leading(whole, 16, "randomised").u)


def test_the_basis_is_sorted_between_cuts_and_near_the_reference_within():
    whole = factors(30, 20, 8, decay=0.8)
    part = leading(whole, 8)
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((8, 8)))[0]
    product = part.balanced()
    reference = Factors(product.left @ turn, turn.T @ product.right)
    free = as_factors(part, 8, np.ones((8, 20)), reference, cuts=())
    assert np.allclose(free.left, reference.left)  # one rank for all: nothing moves
    assert np.allclose(free.right, reference.right)
    cut = as_factors(part, 8, np.ones((8, 20)), reference, cuts=(2, 5, 8, 99))
    assert np.allclose(cut.dense(), whole.dense())
    for rank in (2, 5):
        best = part.first(rank).balanced().dense()
        assert np.allclose(Factors(cut.left[:, :rank], cut.right[:rank]).dense(), best)
    assert np.linalg.norm(cut.right - reference.right) < np.linalg.norm(product.right - reference.right)


@pytest.mark.parametrize("cuts", [(), (2, 5)])
def test_a_stays_as_long_as_the_reference_s(cuts):
    """However large the product is: a step of Adam through B moves the product by a multiple of A's length."""
    part = leading(factors(30, 20, 8, decay=0.8), 8)
    rng = np.random.default_rng(0)
    reference = Factors(np.zeros((30, 8)), 100 * rng.standard_normal((8, 20)))
    found = as_factors(part, 8, np.ones((8, 20)), reference, cuts)
    for low, high in ((0, 2), (2, 5), (5, 8)) if cuts else ((0, 8),):
        lengths = [np.linalg.norm(rows[low:high]) for rows in (found.right, reference.right)]
        assert lengths[0] == pytest.approx(lengths[1], rel=0.3)  # where nothing is clipped, the same
    assert np.linalg.cond(found.right) < 100


def test_a_direction_that_the_reference_lacks_is_not_lopsided():
    part = leading(factors(30, 20, 4), 4)
    rows = np.vstack([part.vt[:3], part.vt[0] * 1e-9])  # nothing of the fourth direction
    found = as_factors(part, 4, np.ones((4, 20)), Factors(np.zeros((30, 4)), rows), ())
    assert np.allclose(found.dense(), part.balanced().dense())
    sizes = np.linalg.svd(found.right, compute_uv=False)
    assert sizes[-1] > sizes[0] / 10


def test_what_the_product_does_not_need_is_seeded():
    part = leading(factors(30, 20, 3), 8)
    seeded = np.random.default_rng(1).standard_normal((8, 20))
    seeded[6] = 0.0  # as of an adapter that starts from another one's values
    found = as_factors(part, 8, seeded, Factors(np.ones((30, 8)), np.ones((8, 20))), cuts=(2,))
    assert np.array_equal(found.right[3:6], seeded[3:6])
    assert found.right.any(axis=1).all()
    assert not found.left[:, 3:].any()
