"""Draws are pinned: these numbers must be the same on every machine, for the assistant corpus is frozen on them."""

import math

import pytest

from fedpeft.data.draws import Draws

PINNED = [329, 895, 23, 0, 798]


def test_streams_are_pinned_and_apart():
    draws = Draws(7, "a")
    assert [draws.below(1000) for _ in range(5)] == PINNED
    other = [Draws(8, "a"), Draws(7, "b"), Draws(7, "a", 0)]
    assert all([stream.below(1000) for _ in range(5)] != PINNED for stream in other)


def test_shuffled_is_a_permutation_and_leaves_its_argument():
    items = list(range(50))
    order = Draws(1, "s").shuffled(items)
    assert sorted(order) == items == list(range(50))
    assert order != items


def test_weighted_follows_the_weights():
    draws = Draws(1, "w")
    counts = [0, 0, 0]
    for _ in range(3000):
        counts[draws.weighted([1.0, 0.0, 3.0])] += 1
    assert counts[1] == 0
    assert counts[2] / 3000 == pytest.approx(0.75, abs=0.03)


def test_normal_has_mean_zero_and_deviation_one():
    draws = Draws(1, "n")
    values = [draws.normal() for _ in range(4000)]
    mean = sum(values) / 4000
    assert mean == pytest.approx(0.0, abs=0.06)
    assert math.sqrt(sum((value - mean) ** 2 for value in values) / 4000) == pytest.approx(1.0, abs=0.05)


def test_chance_and_uniform_keep_their_bounds():
    draws = Draws(1, "c")
    assert not any(draws.chance(0.0) for _ in range(100))
    assert all(draws.chance(1.0) for _ in range(100))
    assert all(2.0 <= draws.uniform(2.0, 3.0) < 3.0 for _ in range(100))
