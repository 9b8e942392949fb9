"""The streaming mean: same bits in any order, close to the exact mean, never past its range."""

import doctest
import math
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpeft.aggregation import WeightedMean, mean
from fedpeft.aggregation.compiled import Compiled
from fedpeft.aggregation.mean import MAX_ABS, MAX_TOTAL_WEIGHT, MOST_FOLDS, UNIT_BITS, WEIGHT_BITS
from fedpeft.aggregation.portable import Portable
from fedpeft.codecs.int8 import Int8

values = st.floats(-1000, 1000, width=32) | st.sampled_from([0.0, -0.0, 1e-45, -1e-38, 3e-8, MAX_ABS, -MAX_ABS])
weights = st.integers(1, 10**6) | st.floats(1e-12, 1e6)


def mean_of(rows, row_weights):
    result = WeightedMean(len(rows[0]))
    for row, weight in zip(rows, row_weights, strict=True):
        result.add(np.array(row, dtype=np.float32), weight)
    return result


def exact_mean(rows, row_weights):
    """In rational numbers, of the values as fp32 and the weights as rounded to their grid."""
    grid = [Fraction(max(1, round(math.ldexp(weight, WEIGHT_BITS))), 2**WEIGHT_BITS) for weight in row_weights]
    columns = zip(*[[Fraction(float(np.float32(x))) for x in row] for row in rows], strict=True)
    return [sum(w * x for w, x in zip(grid, column, strict=True)) / sum(grid) for column in columns]


@st.composite
def cohorts(draw):
    count, size = draw(st.integers(1, 8)), draw(st.integers(1, 5))
    rows = draw(st.lists(st.lists(values, min_size=size, max_size=size), min_size=count, max_size=count))
    return rows, draw(st.lists(weights, min_size=count, max_size=count))


@settings(max_examples=100, deadline=None)
@given(cohorts(), st.randoms(use_true_random=False))
def test_any_order_gives_the_same_bits(cohort, random):
    rows, row_weights = cohort
    order = list(range(len(rows)))
    random.shuffle(order)
    first = mean_of(rows, row_weights)
    second = mean_of([rows[i] for i in order], [row_weights[i] for i in order])
    assert first.mean().tobytes() == second.mean().tobytes()
    assert first.total_weight == second.total_weight


def test_float64_sums_would_depend_on_the_order():
    """The case that fixed point is for: a plain float64 sum of these gives another model in another order."""
    rows, ones = np.array([[1e6], [1e-11], [-1e6]], dtype=np.float32), [1, 1, 1]
    forward, other = rows.astype(np.float64).cumsum(axis=0)[-1], rows[[0, 2, 1]].astype(np.float64).cumsum(axis=0)[-1]
    assert forward != other
    assert mean_of(rows, ones).mean() == mean_of(rows[[0, 2, 1]], ones).mean() == pytest.approx(1e-11 / 3, abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(cohorts())
def test_error_is_within_the_stated_bound(cohort):
    rows, row_weights = cohort
    result = mean_of(rows, row_weights)
    largest = max(abs(float(x)) for row in rows for x in row)
    bound = result.count / result.total_weight * 2.0**-45 + 2.0**-51 * largest
    for got, want in zip(result.mean(), exact_mean(rows, row_weights), strict=True):
        half_ulp = float(np.spacing(np.abs(got))) / 2
        assert abs(Fraction(float(got)) - want) <= bound + half_ulp


def test_lora_sized_deltas_are_exact_to_one_ulp():
    rng = np.random.default_rng(0)
    rows = (rng.standard_normal((30, 2000)) * 1e-3).astype(np.float32)
    row_weights = rng.integers(1, 400, 30)
    want = np.average(rows.astype(np.longdouble), axis=0, weights=row_weights.astype(np.longdouble))
    got = mean_of(rows, [int(weight) for weight in row_weights]).mean()
    large = np.abs(want) > 1e-6
    assert large.mean() > 0.99
    assert np.all(np.abs(got - want)[large] <= np.spacing(np.abs(got))[large])
    assert np.all(np.abs(got - want)[~large] <= 1e-13)


def test_many_chunks_equal_one_by_one():
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((3, 70_001)).astype(np.float32)
    whole = mean_of(rows, [1, 2, 3]).mean()
    parts = [mean_of(rows[:, part], [1, 2, 3]).mean() for part in (slice(0, 40_000), slice(40_000, None))]
    np.testing.assert_array_equal(whole, np.concatenate(parts))


def test_one_delta_comes_back_as_it_was():
    delta = np.array([0.1, -2.5, 1e5, 3e-3], dtype=np.float32)
    np.testing.assert_array_equal(mean_of([delta], [7]).mean(), delta)


def test_the_corners_of_the_range_do_not_overflow():
    corner = np.array([MAX_ABS, -MAX_ABS], dtype=np.float32)
    result = mean_of([corner, corner], [MAX_TOTAL_WEIGHT / 2, MAX_TOTAL_WEIGHT / 2])
    np.testing.assert_array_equal(result.mean(), corner)


def integers(result):
    """S, in exact integers, whichever way it is split."""
    high = np.zeros_like(result._low) if result._high is None else result._high
    return [int(h) * 2**mean.HIGH_BITS + int(low) for h, low in zip(high, result._low, strict=True)]


@settings(max_examples=200, deadline=None)
@given(st.floats(-(2.0**20), 2.0**20, width=32), st.integers(1, 10**6))
def test_every_product_is_rounded_once_to_the_grid(value, weight):
    """Whether one int64 takes it or it is split: the integer is rint(fl(w · x) · 2^44), half to even."""
    product = Fraction(float(np.float64(np.float32(value)) * weight)) * 2**UNIT_BITS
    assert integers(mean_of([[value]], [weight])) == [round(product)]


def test_small_deltas_need_no_second_integer():
    rows = np.full((5, 3), 0.25, dtype=np.float32)
    result = mean_of(rows, [500] * 5)
    assert result._high is None
    result.add(np.full(3, 0.25, dtype=np.float32), 600)
    assert result._high is not None
    np.testing.assert_array_equal(result.mean(), rows[0])


def test_thousands_of_deltas_at_the_limit_of_one_integer_do_not_overflow():
    """Each is just below 2^51 units, so that 2^12 of them would be 2^63."""
    largest = np.array([np.nextafter(np.float32(2.0**7), np.float32(0)), -2.0], dtype=np.float32)
    result = WeightedMean(2)
    count = 3 * MOST_FOLDS
    for _ in range(count):
        result.add(largest, 1)
    assert integers(result) == [count * int(largest[0] * 2.0**UNIT_BITS), count * -(2 ** (UNIT_BITS + 1))]
    np.testing.assert_array_equal(result.mean(), largest)


def test_the_bits_of_the_mean_do_not_depend_on_how_the_sum_is_split():
    rng = np.random.default_rng(2)
    rows = (rng.standard_normal((9, 500)) * 1e-6).astype(np.float32)  # small, so that the lowest bits are in use
    plain, split = mean_of(rows, range(1, 10)), WeightedMean(500)
    for weight, row in enumerate(rows, 1):
        split.add(row, weight)
        split._carry()
    assert plain._high is None
    assert split._high is not None
    assert integers(plain) == integers(split)
    assert plain.mean().tobytes() == split.mean().tobytes()


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("size", [1, 63, 64, 65, 70_001])
def test_codes_have_the_bits_of_the_decoded_delta_in_numpy_and_in_numba(size, scale):
    """Scale 1e3 with these weights takes the way of the large products."""
    rng = np.random.default_rng(size)
    codec, means = Int8(), []
    bodies = [codec.encode((rng.standard_normal(size) * scale).astype(np.float32)) for _ in range(4)]
    for passes in (Portable(), Compiled()):
        for form in (codec.decode, codec.view):
            result = WeightedMean(size, passes=passes)
            for weight, body in enumerate(bodies, 1):
                result.add(form(body, size), weight)
            means.append(result.mean().tobytes())
    assert len(set(means)) == 1


def test_any_other_codes_are_decoded():
    class Ones:
        size = 3

        def decode(self):
            return np.ones(3, dtype=np.float32)

    result = WeightedMean(3)
    result.add(Ones(), 1)
    np.testing.assert_array_equal(result.mean(), np.ones(3))
    with pytest.raises(ValueError, match="3 codes: it must have 4"):
        WeightedMean(4).add(Ones(), 1)


def test_codes_are_refused_for_what_they_hold_not_for_what_their_scale_could():
    """127 times this scale is beyond the range, but no code is that large."""
    scale = np.array([MAX_ABS / 4], dtype="<f4").tobytes()
    result = mean_of([[0.0, 0.0]], [1])
    result.add(Int8().view(scale + bytes([4, 2]), 2), 1)
    np.testing.assert_array_equal(result.mean(), [MAX_ABS / 2, MAX_ABS / 4])
    before = integers(result)
    with pytest.raises(ValueError, match=r"1\.31072e\+06"):
        result.add(Int8().view(scale + bytes([5, 2]), 2), 1)
    assert integers(result) == before
    assert result.count == 2


@pytest.mark.parametrize("passes", [Portable(), Compiled()], ids=lambda passes: passes.name)
def test_a_strided_or_unaligned_delta_is_added_as_it_reads(passes):
    delta = np.arange(6, dtype=np.float32)
    unaligned = np.frombuffer(b"x" + delta.tobytes(), dtype=np.float32, offset=1)
    for odd in (delta[::2], unaligned):
        result = WeightedMean(odd.size, passes=passes)
        result.add(odd, 3)
        np.testing.assert_array_equal(result.mean(), odd)


def test_fractional_weights_count_as_they_are():
    """Normalised weights, a thousandth each: the fp64 mean to fp32's precision."""
    rng = np.random.default_rng(4)
    rows = (rng.standard_normal((1000, 50)) * 1e-3).astype(np.float32)
    row_weights = rng.dirichlet(np.full(1000, 0.5))
    want = np.average(rows.astype(np.float64), axis=0, weights=row_weights)
    got = mean_of(rows, row_weights.tolist()).mean()
    assert np.linalg.norm(got - want) <= 1e-7 * np.linalg.norm(want)


@pytest.mark.parametrize(
    ("delta", "weight", "named"),
    [
        (np.zeros(3, dtype=np.float64), 1, "float64"),
        (np.zeros(1, dtype=np.float32), 1, r"\(1,\)"),
        (np.zeros((3, 1), dtype=np.float32), 1, r"\(3, 1\)"),
        (np.array([0, np.nan, 0], dtype=np.float32), 1, "nan"),
        (np.array([0, np.inf, 0], dtype=np.float32), 1, "inf"),
        (np.array([0, -np.inf, 0], dtype=np.float32), 1, "inf"),
        (np.array([0, -2e6, 0], dtype=np.float32), 1, r"2e\+06"),
        (np.zeros(3, dtype=np.float32), 0, "weight = 0"),
        (np.zeros(3, dtype=np.float32), -89, "weight = -89"),
        (np.zeros(3, dtype=np.float32), math.nan, "weight = nan"),
        (np.zeros(3, dtype=np.float32), math.inf, "weight = inf"),
        (np.zeros(3, dtype=np.float32), MAX_TOTAL_WEIGHT, "beyond"),
    ],
)
def test_a_refused_delta_is_named_and_leaves_the_mean_as_it_was(delta, weight, named):
    result = mean_of([[1.0, 2.0, 3.0]], [5])
    with pytest.raises(ValueError, match=named):
        result.add(delta, weight)
    np.testing.assert_array_equal(result.mean(), np.array([1, 2, 3], dtype=np.float32))
    assert (result.count, result.total_weight) == (1, 5.0)


@pytest.mark.parametrize("size", [1, 40_000])
def test_a_refused_delta_is_taken_out_to_the_last_bit(size):
    """It is folded before anyone knows that it is bad: the integers are as before, even where NaN was added."""
    rng = np.random.default_rng(size)
    good, bad = (rng.standard_normal(size).astype(np.float32) for _ in range(2))
    bad[rng.integers(0, size, max(1, size // 10))] = np.inf
    bad.view(np.uint32)[size // 2] = 0x7FA00001  # a signalling NaN
    for passes in (Portable(), Compiled()):
        result = WeightedMean(size, passes=passes)
        result.add(good, 3)
        before = integers(result)
        with pytest.raises(ValueError, match="nan"):
            result.add(bad, 5)
        assert integers(result) == before


def test_a_negative_size_is_refused():
    with pytest.raises(ValueError, match="size = -1"):
        WeightedMean(-1)


def test_the_smallest_weight_still_counts():
    result = mean_of([[7.0]], [1e-30])
    assert result.total_weight == 2.0**-40
    assert result.mean() == 7.0


def test_no_deltas_have_no_mean():
    with pytest.raises(ValueError, match="at least one"):
        WeightedMean(3).mean()


def test_adding_takes_no_memory_and_keeps_no_reference():
    delta = np.ones(200_000, dtype=np.float32)
    result = WeightedMean(delta.size)
    result.add(delta, 1)
    tracemalloc.start()
    for _ in range(20):
        result.add(delta, 1)
    current, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert current < 10_000
    assert peak < 2_000_000  # the temporaries of one chunk
    delta[:] = 9
    assert result.mean()[0] == 1


def test_the_docstring_runs():
    assert doctest.testmod(mean, extraglobs={"np": np}) == (0, 8)
