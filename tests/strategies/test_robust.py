"""Robust rules: what a dishonest minority sends is left out, coordinate by coordinate."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedpeft.errors import PluginError
from fedpeft.registry import build
from fedpeft.types import ClientId, Update


def trimmed_mean(share):
    return build("strategy", "trimmed-mean", {"share": share})


def median():
    return build("strategy", "median", {})


def fold(strategy, values, theta=0.0):
    strategy.begin(np.array([theta], dtype=np.float32))
    for index, value in enumerate(values):
        delta = np.array([value], dtype=np.float32)
        strategy.accept(Update(ClientId(f"c{index:02d}"), 1, delta, 1), 1)
    return strategy.finish()[0]


@pytest.mark.parametrize(
    ("share", "values", "expected"),
    [
        (0.0, [1, 2, 6], 3),  # nothing cut: the mean
        (0.1, [1, 2, 6], 2),  # one of three is cut at either end
        (0.25, [-900, 1, 3, 900], 2),
        (0.2, [-900, 1, 2, 3, 900], 2),
        (0.4, [-900, -800, 7, 800, 900], 7),
        (0.49, [1, 3], 2),  # two values: none can be cut
        (0.49, [5], 5),
        (0.07, [*[0] * 92, 86, *[1000] * 7], 1),  # 0.07 · 100 is 7.000000000000001, and still cuts 7
    ],
)
def test_trimmed_mean_cuts_both_ends(share, values, expected):
    assert fold(trimmed_mean(share), values) == expected
    assert fold(trimmed_mean(share), values[::-1], theta=1.0) == expected + 1


def test_trimmed_mean_stays_among_the_honest_while_the_bad_are_within_the_share():
    rng = np.random.default_rng(0)
    for bad in range(4):
        values = [*rng.normal(1, 0.1, 10 - bad), *[90.0] * bad]
        honest = values[: 10 - bad]
        assert min(honest) <= fold(trimmed_mean(0.3), values) <= max(honest)
    assert fold(trimmed_mean(0.3), [*[1.0] * 6, *[90.0] * 4]) > 20  # beyond the share there is no promise


def test_trimmed_mean_cuts_each_coordinate_by_itself_over_chunks():
    rng = np.random.default_rng(1)
    deltas = rng.normal(0, 1, (5, 120_000)).astype(np.float32)
    strategy = trimmed_mean(0.2)
    strategy.begin(np.zeros(120_000, dtype=np.float32))
    for index, delta in enumerate(deltas):
        strategy.accept(Update(ClientId(f"c{index}"), 1, delta, 1), 1)
    expected = np.sort(deltas, axis=0)[1:4].astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(strategy.finish(), expected, rtol=1e-6)


@pytest.mark.parametrize("rule", [median(), trimmed_mean(0.1)])
def test_a_round_must_be_begun(rule):
    with pytest.raises(RuntimeError, match="no round is open"):
        rule.finish()


@pytest.mark.parametrize("share", [-0.1, 0.5, float("nan"), "a tenth"])
def test_trimmed_mean_checks_its_share(share):
    with pytest.raises(PluginError, match=r"share = .* must be at least 0 and below 0.5|share"):
        trimmed_mean(share)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([5], 5), ([1, 3], 2), ([1, 2, 900], 2), ([-900, 1, 2, 900], 1.5), ([4, 4, -900, 7, 900], 4)],
)
def test_the_median_is_the_middle(values, expected):
    assert fold(median(), values) == expected
    assert fold(median(), values[::-1], theta=1.0) == expected + 1


@given(
    honest=st.lists(st.floats(-100, 100, width=32), min_size=2, max_size=9),
    bad=st.lists(st.floats(-1e6, 1e6, width=32), max_size=8),
)
def test_the_median_stays_among_the_honest_while_they_are_more(honest, bad):
    bad = bad[: len(honest) - 1]
    assert min(honest) <= fold(median(), [*bad, *honest]) <= max(honest)


def test_the_median_of_each_coordinate_over_chunks():
    deltas = np.random.default_rng(1).normal(0, 1, (6, 120_000)).astype(np.float32)
    strategy = median()
    strategy.begin(np.zeros(120_000, dtype=np.float32))
    for index, delta in enumerate(deltas):
        strategy.accept(Update(ClientId(f"c{index}"), 1, delta, 1), 1)
    np.testing.assert_allclose(strategy.finish(), np.median(deltas.astype(np.float64), axis=0), rtol=1e-6)
