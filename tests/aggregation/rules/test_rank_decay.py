"""How far a rank falls at a time, and which numbers are refused."""

import math

import pytest
from factors_toy import rule_named
from hypothesis import given
from hypothesis import strategies as st

from fedpeft.aggregation.rules import RankDecay
from fedpeft.errors import PluginError


@given(st.floats(0.01, 0.99), st.integers(1, 512), st.integers(1, 16))
def test_a_rank_falls_to_whole_components_and_never_below_the_least(decay, rank, least):
    found = RankDecay(decay, min_rank=least).next_rank(rank)
    assert 1 <= found <= rank
    assert found >= min(rank, least)
    if rank > least:
        assert found < rank  # however near to 1 the decay is, one component goes
        assert found == least or found >= decay * rank - 1


def test_what_is_a_whole_number_but_for_rounding_is_one():
    assert math.floor(0.29 * 100) == 28
    assert RankDecay(0.29).next_rank(100) == 29


def test_with_a_decay_of_1_ranks_stay():
    assert [RankDecay(1.0).next_rank(rank) for rank in (1, 2, 64)] == [1, 2, 64]
    assert rule_named("hetlora").rank_decay is None
    assert rule_named("hetlora", decay=1.0, regularisation=0.5).rank_decay is None
    assert rule_named("hetlora", decay=0.9).rank_decay == RankDecay(0.9, 0.01, 1)


@pytest.mark.parametrize(
    ("params", "wrong"),
    [
        ({"decay": 0.0}, "decay = 0.0"),
        ({"decay": 1.5}, "decay = 1.5"),
        ({"decay": -0.5}, "decay = -0.5"),
        ({"decay": "fast"}, "fast"),
        ({"regularisation": -0.01}, "regularisation = -0.01"),
        ({"decay": 0.9, "regularisation": -1}, "regularisation = -1"),
        ({"decay": 0.9, "min_rank": 0}, "min_rank = 0"),
        ({"decay": 0.9, "min_rank": 2.5}, "min_rank = 2.5"),
    ],
)
def test_a_number_out_of_its_range_is_named(params, wrong):
    with pytest.raises(PluginError) as caught:
        rule_named("hetlora", **params)
    assert wrong in caught.value.message
    assert "decay, regularisation, min_rank" in caught.value.allowed
