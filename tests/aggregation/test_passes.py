"""The passes over an update: NumPy's are right, and numba's have the same bits."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedpeft.aggregation.compiled import Compiled
from fedpeft.aggregation.portable import CHUNK, Portable
from fedpeft.codecs.int8 import Int8Blocks

PASSES = [Portable(), Compiled()]
SIZES = st.integers(1, 200)
ANY_FLOAT = hnp.arrays(np.uint32, SIZES, elements=st.integers(0, 2**32 - 1)).map(lambda bits: bits.view(np.float32))
MODEST = hnp.arrays(np.float32, SIZES, elements=st.floats(-100, 100, width=32))
FACTORS = st.floats(2.0**20, 2.0**44)


@pytest.fixture(params=PASSES, ids=lambda passes: passes.name)
def passes(request):
    return request.param


def blocks(size, seed=0):
    rng = np.random.default_rng([size, seed])
    scales = rng.uniform(0, 1e-3, -(-size // 64)).astype(np.float32)
    return Int8Blocks(scales, rng.integers(-127, 128, size).astype(np.int8))


def folded(passes, delta, factor, sums=None, **options):
    sums = np.zeros(delta.size, dtype=np.int64) if sums is None else sums.copy()
    return passes.fold(sums, delta, factor, **options), sums


@settings(max_examples=100, deadline=None)
@given(MODEST, FACTORS)
def test_a_fold_adds_each_product_rounded_once_half_to_even(values, factor):
    exact = [round(Fraction(float(x) * factor)) for x in values]
    for passes in PASSES:
        largest, sums = folded(passes, values, factor, np.full(values.size, 7))
        assert [int(s) - 7 for s in sums] == exact
        assert largest == np.abs(values).max()


@pytest.mark.parametrize("size", [1, 63, 64, 65, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 77])
def test_all_sizes_have_the_same_bits(size):
    values = np.random.default_rng(size).standard_normal(size).astype(np.float32)
    for delta in (values, blocks(size)):
        (bound, sums), (other_bound, other_sums) = (folded(passes, delta, 12345.678 * 2**20) for passes in PASSES)
        assert sums.any()
        assert bound == other_bound
        assert sums.tobytes() == other_sums.tobytes()


@settings(max_examples=200, deadline=None)
@given(ANY_FLOAT, FACTORS)
def test_whatever_was_folded_in_can_be_taken_out(values, factor):
    """NaN, infinities and products beyond 2^63 too."""
    before = np.arange(values.size) * 10**15
    for passes in PASSES:
        largest, sums = folded(passes, values, factor, before)
        _, sums = folded(passes, values, factor, sums, out=True)
        assert sums.tobytes() == before.tobytes()
        assert math.isfinite(largest) == np.isfinite(values).all()


@pytest.mark.parametrize("size", [1, 64, 100, CHUNK + 65])
def test_codes_fold_as_their_decoded_values(passes, size):
    coded = blocks(size)
    bound, sums = folded(passes, coded, 3e12)
    largest, decoded = folded(passes, coded.decode(), 3e12)
    assert sums.tobytes() == decoded.tobytes()
    assert largest <= bound == pytest.approx(127 * float(coded.scales.max()), rel=1e-6)
    _, sums = folded(passes, coded, 3e12, sums, out=True)
    assert not sums.any()


def test_read_only_input_is_taken(passes):
    values = np.ones(100, dtype=np.float32)
    values.flags.writeable = False
    assert folded(passes, values, 4.0)[1].tolist() == [4] * 100


@pytest.mark.parametrize("size", [1, 64, 100, CHUNK + 65])
def test_the_squared_norm_is_that_of_the_values(passes, size):
    values = np.random.default_rng(size).standard_normal(size).astype(np.float32)
    assert passes.squared_norm(values) == pytest.approx(math.fsum(float(x) ** 2 for x in values), rel=1e-13)
    coded = blocks(size)
    assert passes.squared_norm(coded) == pytest.approx(passes.squared_norm(coded.decode()), rel=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, CHUNK, CHUNK + 99])
def test_one_bad_value_shows(passes, bad, place):
    values = np.ones(CHUNK + 100, dtype=np.float32)
    values[place] = bad
    assert not math.isfinite(passes.squared_norm(values))
    assert not math.isfinite(folded(passes, values, 1.0)[0])


def test_the_squared_norm_does_not_overflow(passes):
    assert passes.squared_norm(np.full(1000, 3.4e38, dtype=np.float32)) == pytest.approx(1000 * 3.4e38**2, rel=1e-6)


def test_an_empty_delta_has_nothing(passes):
    empty = np.zeros(0, dtype=np.float32)
    assert folded(passes, empty, 1.0)[0] == 0
    assert passes.squared_norm(empty) == 0
