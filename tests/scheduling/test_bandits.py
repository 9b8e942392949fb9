"""Each bandit against its formula, computed by hand."""

import math

import numpy as np
import pytest

from fedpeft.scheduling import Grid, Outcome, Request, Setting
from fedpeft.scheduling.class_statistics import ClassStatistics
from fedpeft.scheduling.exp3 import Exp3
from fedpeft.scheduling.thompson import Thompson
from fedpeft.scheduling.tree import Cell, Tree
from fedpeft.scheduling.ucb import Ucb
from fedpeft.scheduling.uniform import Uniform
from fedpeft.types import ClientId

GRID = Grid(ranks=(1, 2, 4, 8), ratios=(0.0,), codecs=("int8",), steps=(4,))


def begun(scheduler):
    scheduler.begin(Setting(GRID))
    return scheduler


def request(seed=1, offered=(0, 1, 2, 3), out=None):
    return Request(ClientId("c00"), "phone", 1, seed, offered, out or {})


def told(*pairs, probability=1.0):
    return [Outcome(ClientId("c00"), "phone", place, probability, reward) for place, reward in pairs]


def test_statistics_fade_with_every_observation_of_their_class():
    seen = ClassStatistics(2, discount=0.5)
    seen.add(told((0, 1.0), (1, 0.5), (0, 0.25)))
    seen.add([Outcome(ClientId("x"), "tablet", 1, 1.0, 1.0)])
    counts, sums = seen.of("phone")
    assert counts.tolist() == [1.25, 0.5]
    assert sums.tolist() == [0.5, 0.25]
    assert seen.of("nobody")[0].tolist() == [0.0, 0.0]


def test_ucb_tries_all_first_then_takes_the_highest_bound():
    scheduler, tried = begun(Ucb(discount=1.0, exploration=0.5)), set()
    for _ in range(4):
        place = scheduler.choose(request()).place
        tried.add(place)
        scheduler.observe(told((place, 0.5)))
    assert tried == {0, 1, 2, 3}
    scheduler.observe(told((2, 0.9), (2, 0.9), (1, 0.5)))
    bounds = {
        place: mean + 0.5 * math.sqrt(math.log(7) / n)
        for place, (mean, n) in enumerate([(0.5, 1), (0.5, 2), (2.3 / 3, 3), (0.5, 1)])
    }
    assert bounds[scheduler.choose(request()).place] == max(bounds.values())


def test_ucb_counts_who_is_at_work():
    scheduler = begun(Ucb(discount=1.0, exploration=0.5))
    scheduler.observe(told((0, 0.5), (1, 0.5), (2, 0.5), (3, 0.51)))
    assert scheduler.choose(request()).place == 3
    assert scheduler.choose(request(out={3: 4})).place != 3


def test_thompson_draws_around_the_mean():
    scheduler = begun(Thompson(discount=1.0, scatter=0.1))
    scheduler.observe(told(*[(1, 0.9)] * 30, *[(place, 0.1) for place in (0, 2, 3)] * 10))
    places = [scheduler.choose(request(seed)).place for seed in range(200)]
    assert places.count(1) > 190
    fresh = begun(Thompson(discount=1.0, scatter=0.1))
    drawn = [fresh.choose(request(seed)).place for seed in range(400)]
    assert all(60 < drawn.count(place) < 140 for place in range(4)), "four equal priors"


def test_exp3_has_the_papers_chances_and_weights():
    scheduler = begun(Exp3(mixing=0.2))
    scheduler.observe(told((1, 0.8), probability=0.25))
    weight = math.exp(0.2 * (0.8 / 0.25) / 4)
    chance = 0.8 * weight / (weight + 3) + 0.2 / 4
    picks = [scheduler.choose(request(seed)) for seed in range(2000)]
    assert {round(one.probability, 12) for one in picks if one.place == 1} == {round(chance, 12)}
    assert sum(one.place == 1 for one in picks) / 2000 == pytest.approx(chance, abs=0.04)
    halves = [scheduler.choose(request(seed, offered=(0, 1))) for seed in range(2)]
    assert all(
        one.probability == pytest.approx(0.8 * w / (weight + 1) + 0.1)
        for one in halves
        for w in [weight if one.place == 1 else 1.0]
    )


def test_exp3_takes_steps_as_long_as_the_arms_that_fit_are_few():
    """Two of four arms fit: the paper's game with two."""
    scheduler = begun(Exp3(mixing=0.2))
    scheduler.observe([Outcome(ClientId("c00"), "phone", 1, 0.5, 0.8, offered=(0, 1))])
    weight = math.exp(0.2 * (0.8 / 0.5) / 2)
    picks = [scheduler.choose(request(seed, offered=(0, 1))) for seed in range(50)]
    chance = 0.8 * weight / (weight + 1) + 0.1
    assert {round(one.probability, 12) for one in picks if one.place == 1} == {round(chance, 12)}


def test_random_is_uniform_over_what_is_offered():
    scheduler = begun(Uniform())
    places = [scheduler.choose(request(seed, offered=(0, 2, 3))).place for seed in range(900)]
    assert all(240 < places.count(place) < 360 for place in (0, 2, 3))


def test_the_tree_splits_cells_where_they_are_used_down_to_arms():
    scheduler = begun(Tree(split=2))
    assert scheduler.leaves("phone") == [Cell((0, 0, 0, 0), (4, 1, 1, 1))]
    scheduler.observe(told((3, 0.9), (3, 0.9)))
    assert [(leaf.low[0], leaf.high[0]) for leaf in scheduler.leaves("phone")] == [(0, 2), (2, 4)]
    scheduler.observe(told((3, 0.9), (3, 0.9), (3, 0.9)))
    leaves = scheduler.leaves("phone")
    assert [(leaf.low[0], leaf.high[0], leaf.depth) for leaf in leaves] == [(0, 2, 1), (2, 3, 2), (3, 4, 2)]
    assert scheduler.leaves("tablet") == [Cell((0, 0, 0, 0), (4, 1, 1, 1))]


def test_leaves_always_cover_every_arm_once():
    scheduler, chance = begun(Tree(split=1)), np.random.default_rng(3)
    for _ in range(30):
        scheduler.observe(told((int(chance.integers(4)), float(chance.uniform()))))
        for own in GRID.coordinates:
            assert sum(leaf.holds(own) for leaf in scheduler.leaves("phone")) == 1
    assert len(scheduler.leaves("phone")) == 4


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda: Ucb(discount=0.0), "discount = 0.0"),
        (lambda: Ucb(exploration=-1.0), "exploration = -1.0"),
        (lambda: Thompson(scatter=-0.1), "scatter = -0.1"),
        (lambda: Exp3(mixing=1.5), "mixing = 1.5"),
        (lambda: Tree(split=0), "split = 0"),
        (lambda: Tree(greed_least=2.0), "greed_least = 2.0"),
    ],
)
def test_parameters_that_mean_nothing_are_refused(make, part):
    with pytest.raises(ValueError, match=part):
        make()
