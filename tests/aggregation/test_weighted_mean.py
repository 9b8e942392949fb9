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
from fedpeft.aggregation.mean import MAX_ABS, MAX_TOTAL_WEIGHT, WEIGHT_BITS

values = st.floats(-1000, 1000, width=32) | st.sampled_from([0.0, -0.0, 1e-45, -1e-38, 3e-8, MAX_ABS, -MAX_ABS])
weights = st.integers(1, 10**6) | st.floats(1e-12, 1e6)


def mean_of(rows, row_weights, **limits):
    result = WeightedMean(len(rows[0]), **limits)
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
    bound = result.count / result.total_weight * result.resolution / 2 + 2.0**-50 * largest
    for got, want in zip(result.mean(), exact_mean(rows, row_weights), strict=True):
        half_ulp = float(np.spacing(np.abs(got))) / 2
        assert abs(Fraction(float(got)) - want) <= bound + half_ulp


def test_lora_sized_deltas_are_exact_to_one_ulp():
    rng = np.random.default_rng(0)
    rows = (rng.standard_normal((30, 2000)) * 1e-3).astype(np.float32)
    row_weights = rng.integers(1, 400, 30)
    want = np.average(rows.astype(np.longdouble), axis=0, weights=row_weights.astype(np.longdouble))
    got = mean_of(rows, [int(weight) for weight in row_weights]).mean()
    large = np.abs(want) > 1e-5
    assert large.mean() > 0.9
    assert np.all(np.abs(got - want)[large] <= np.spacing(np.abs(got))[large])
    assert np.all(np.abs(got - want)[~large] <= 1e-12)


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
    np.testing.assert_array_equal(mean_of([[3.0]], [3], max_abs=3, max_total_weight=3).mean(), [3.0])


def test_a_narrower_range_gives_a_finer_grid():
    assert WeightedMean(1, max_abs=1, max_total_weight=1024).resolution < WeightedMean(1).resolution == 2.0**-40


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


def test_the_fine_limb_is_guarded_too(monkeypatch):
    monkeypatch.setattr(mean, "MAX_COUNT", 2)
    result = mean_of([[1.0], [2.0]], [1, 1])
    with pytest.raises(ValueError, match="2 deltas"):
        result.add(np.ones(1, dtype=np.float32), 1)


@pytest.mark.parametrize(
    ("size", "limits", "named"),
    [
        (-1, {}, "size = -1"),
        (1, {"max_abs": 0}, "max_abs = 0"),
        (1, {"max_abs": math.inf}, "max_abs = inf"),
        (1, {"max_total_weight": math.nan}, "max_total_weight = nan"),
    ],
)
def test_limits_are_checked(size, limits, named):
    with pytest.raises(ValueError, match=named):
        WeightedMean(size, **limits)


def test_the_smallest_weight_still_counts():
    result = mean_of([[7.0]], [1e-30])
    assert result.total_weight == 2.0**-20
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
    assert doctest.testmod(mean, extraglobs={"np": np}) == (0, 4)
