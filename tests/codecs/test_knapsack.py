"""The dynamic programme against trying everything."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedpeft.codecs.knapsack import UNITS, cheapest

TABLES = st.tuples(st.integers(1, 4), st.integers(1, 4)).flatmap(
    lambda shape: st.tuples(
        hnp.arrays(np.float64, shape, elements=st.integers(0, 50)),
        hnp.arrays(np.float64, shape, elements=st.integers(0, 300)),
    )
)


def by_trying(costs, weights, limit):
    """The least cost within the limit; None where nothing is."""
    items = range(len(costs))
    found = [
        sum(costs[i, choice[i]] for i in items)
        for choice in itertools.product(range(costs.shape[1]), repeat=len(costs))
        if sum(weights[i, choice[i]] for i in items) <= limit
    ]
    return min(found, default=None)


def sums(table, choices):
    return float(sum(table[item, choice] for item, choice in enumerate(choices)))


@settings(max_examples=300, deadline=None)
@given(tables=TABLES, limit=st.integers(0, 1300))
def test_of_whole_numbers_it_finds_the_best(tables, limit):
    costs, weights = tables
    found, best = cheapest(costs, weights, limit), by_trying(costs, weights, limit)
    if found is None or best is None:
        assert found is None
        assert best is None
        return
    assert sums(costs, found) == best
    assert sums(weights, found) <= limit


@settings(max_examples=300, deadline=None)
@given(data=st.data(), shape=st.tuples(st.integers(1, 4), st.integers(2, 4)))
def test_of_any_numbers_it_keeps_the_limit_and_is_as_good_as_a_little_less_room(data, shape):
    elements = st.floats(0, 1e6)
    costs = data.draw(hnp.arrays(np.float64, shape, elements=elements))
    weights = data.draw(hnp.arrays(np.float64, shape, elements=elements))
    limit = data.draw(st.floats(0, 4e6))
    found = cheapest(costs, weights, limit)
    if found is None:
        assert limit < weights.min(axis=1).sum()
        return
    least = weights.min(axis=1).sum()
    assert sums(weights, found) <= limit * (1 + 1e-9)
    poorer = by_trying(costs, weights, limit - (limit - least) * len(costs) / UNITS - 1e-9 * limit)
    assert poorer is None or sums(costs, found) <= poorer * (1 + 1e-9)


def test_of_equals_the_first():
    assert cheapest(np.array([[2.0, 1.0, 1.0]]), np.array([[0.0, 5.0, 5.0]]), 5) == [1]


def test_no_room_leaves_the_lightest():
    costs, weights = np.array([[9.0, 1.0], [9.0, 1.0]]), np.array([[0.25, 0.5], [0.5, 1e-12 + 0.5]])
    assert cheapest(costs, weights, 0.75) == [0, 0]


@pytest.mark.parametrize("limit", [-1.0, 2.9])
def test_what_cannot_be_kept_is_none(limit):
    assert cheapest(np.ones((3, 2)), np.ones((3, 2)), limit) is None
