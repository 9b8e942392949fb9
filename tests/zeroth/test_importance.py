"""Draws by importance: as the specification says, in whole numbers, and as often as the softmax."""

import re
from dataclasses import replace
from decimal import Decimal, localcontext
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpeft.randomness.streams import Stream, derive
from fedpeft.types import ClientId, Plan
from fedpeft.zeroth.coordinates import Coordinates
from fedpeft.zeroth.hadamard import HadamardPool
from fedpeft.zeroth.importance import HIGHEST, draw, numbers_of, weights_of
from fedpeft.zeroth.replica import Replica

K = 16
COORDINATES = Coordinates(size=K, epochs=3, refresh=2, unit=1e-4, directions=1, seed=5, temperature=1.0)


def some(*numbers):
    return np.array(numbers, dtype=np.int64)


def uniform(count, seed=1):
    return Stream(derive(seed, "test")).uint64(count) >> np.uint64(11)


def by_hand(numbers, draws, temperature):
    """`simulations/DIRECTIONS.md`, in Python's whole numbers and decimals."""
    with localcontext() as context:
        context.prec = 60
        octave = [int((2**20 * (Decimal(2).ln() * -i / 16).exp()).to_integral_value()) for i in range(16)]
        table = [int((2**20 * (Decimal(temperature) * (w - 255) / 255).exp()).to_integral_value()) for w in range(256)]
    top, used = max(numbers), [b for b in numbers if b]
    amplitude = {b: octave[(top - b) % 16] >> (top - b) // 16 for b in used}
    amplitude[0] = sum(amplitude[b] for b in used) // len(used) if used else 0
    sizes = [amplitude[b] for b in numbers]
    low, spread = min(sizes), max(sizes) - min(sizes)
    weights = [table[(255 * (size - low) + spread // 2) // spread if spread else 0] for size in sizes]
    sums = np.cumsum(np.array(weights, dtype=object)).tolist()
    return weights, [next(j for j, c in enumerate(sums) if u * sums[-1] < c << 53) for u in draws]


@settings(max_examples=60, deadline=None)
@given(
    numbers=st.lists(st.one_of(st.just(0), st.integers(1, HIGHEST), st.integers(490, 530)), min_size=K, max_size=K),
    temperature=st.sampled_from([0.0, 0.1, 1.0, 3.7, 10.0]),
    seed=st.integers(0, 99),
)
def test_it_is_what_the_specification_says(numbers, temperature, seed):
    weights, expected = by_hand(numbers, uniform(50, seed).tolist(), temperature)
    assert weights_of(some(*numbers), temperature).tolist() == weights
    assert draw(some(*numbers), uniform(50, seed), temperature).tolist() == expected


def test_the_largest_pool_is_drawn_from_exactly():
    numbers = np.random.default_rng(1).integers(400, 600, 2**16)
    ends = np.array([0, 2**53 - 1, 2**52], dtype=np.uint64)
    sums = np.cumsum(weights_of(numbers, 1.0))
    found = draw(numbers, np.concatenate([ends, uniform(20)]), 1.0)
    for u, place in zip([*ends.tolist(), *uniform(20).tolist()], found.tolist(), strict=True):
        wanted = u * int(sums[-1]) >> 53
        assert (int(sums[place - 1]) if place else 0) <= wanted < int(sums[place])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_draws_come_as_often_as_the_softmax_says(temperature):
    amplitudes = np.linspace(1.0, 9.0, K)
    scaled = (amplitudes - amplitudes.min()) / np.ptp(amplitudes)
    softmax = np.exp(temperature * scaled) / np.exp(temperature * scaled).sum()
    weights = weights_of(numbers_of(amplitudes, np.ones(K, dtype=np.int64)), temperature)
    # an amplitude is published in sixteenths of an octave, so right to 2.2 %, and so is the largest
    np.testing.assert_allclose(weights / weights.sum(), softmax, rtol=0.05 * max(temperature, 1))
    drawn = draw(numbers_of(amplitudes, np.ones(K, dtype=np.int64)), uniform(200_000), temperature)
    expected = weights / weights.sum() * 200_000
    chi_square = float(((np.bincount(drawn, minlength=K) - expected) ** 2 / expected).sum())
    assert chi_square < 37.7  # of 15 degrees of freedom, one in a thousand is larger


@pytest.mark.parametrize("temperature", [0.0, 1.0, 10.0])
def test_the_odds_of_two_directions_are_within_e_to_the_temperature(temperature):
    weights = weights_of(some(1, HIGHEST, *range(500, 514)), temperature)
    assert weights.max() == 2**20
    assert weights.max() / weights.min() == pytest.approx(np.exp(temperature), rel=0.02)


def test_temperature_zero_and_equal_importances_are_uniform_draws():
    plain = uniform(3000) * np.uint64(K) >> np.uint64(53)
    assert (draw(some(*range(500, 516)), uniform(3000), 0.0) == plain).all()
    for equal in (0, 1, 512, HIGHEST):
        assert (draw(np.full(K, equal), uniform(3000), 1.0) == plain).all()


def test_a_direction_that_was_never_used_counts_with_the_mean():
    sums, counts = np.array([2.0, 12.0, 0.0, 4.0] * 4), some(*[1, 3, 0, 1] * 4)
    weights = weights_of(numbers_of(sums, counts), 1.0)
    assert numbers_of(sums, counts)[2] == 0
    assert weights[0] < weights[2] < weights[1] == weights[3]
    between = (10 / 3 - 2) / (4 - 2)  # amplitudes 2, 4, 4: their mean on the scale from least to most
    assert weights[2] / weights[1] == pytest.approx(np.exp(between - 1), rel=0.01)


def test_numbers_are_sixteenths_of_an_octave():
    found = numbers_of(np.array([1.0, 2.0, 3.0, 0.0, 1e-30, 1e30, 0.0, 1000.0]), some(1, 1, 3, 4, 1, 1, 0, 1))
    assert found.tolist() == [512, 528, 512, 1, 1, HIGHEST, 0, 671]


# --- in the shared vector ---


def plan(**more):
    fields = {"round": 3, "client": ClientId("c00"), "steps": 500, **more}
    return Plan(run="r", attempt=1, seed=1, batch_size=1, learning_rate=0.1, **fields)


def test_importances_come_before_the_coefficients():
    start = np.zeros(COORDINATES.length, dtype=np.float32)
    assert COORDINATES.length == 4 * K
    places = COORDINATES.drawn(plan(), start)
    assert (places // K == 2).all()  # one run of importances, one closed epoch
    epochs, numbers = COORDINATES.of_places(places)
    assert set(epochs) == {1}
    assert (numbers == places % K).all()
    assert (COORDINATES.moved(places, np.ones(500, dtype=np.float32), 0.1)[: 2 * K] == 0).all()


def test_draws_follow_from_the_start_too():
    flat, steep = (np.zeros(COORDINATES.length, dtype=np.float32) for _ in range(2))
    steep[:K] = np.arange(500, 500 + 5 * K, 5)
    drawn = [COORDINATES.drawn(plan(), start) for start in (flat, steep)]
    assert not (drawn[0] == drawn[1]).all()
    assert drawn[1].mean() > drawn[0].mean()
    assert (COORDINATES.drawn(plan(), steep[:K]) == drawn[1]).all()


def test_both_sides_must_draw_alike():
    digests = {COORDINATES.layout("b").digest}
    for temperature in (None, 2.0):
        digests.add(replace(COORDINATES, temperature=temperature).layout("b").digest)
    assert len(digests) == 3


@pytest.mark.parametrize("wrong", [-1.0, 1024.0])
def test_numbers_that_are_no_importances(wrong):
    start = np.zeros(COORDINATES.length, dtype=np.float32)
    COORDINATES.check(start)
    start[3] = wrong
    with pytest.raises(ValueError, match="an importance is not from 0 to 1023"):
        COORDINATES.check(start)


def test_a_replica_is_made_of_what_comes_behind_them():
    theta, coefficients = np.linspace(-1, 1, 100, dtype=np.float32), np.arange(3 * K, dtype=np.float32) - 20
    plain = Replica(theta, HadamardPool(K, 5), replace(COORDINATES, temperature=None))
    drawn = Replica(theta, HadamardPool(K, 5), COORDINATES)
    for numbers in (0, 512):
        start = np.concatenate([np.full(K, numbers, dtype=np.float32), coefficients])
        assert (drawn.theta(start) == plain.theta(coefficients)).all()
    assert (drawn.direction(2 * K + 3, 100).values() == plain.direction(K + 3, 100).values()).all()


def test_the_values_of_the_specification():
    page = (Path(__file__).parents[2] / "simulations" / "DIRECTIONS.md").read_text(encoding="utf-8")
    numbers = some(*[0, 512, 496, 528, 1, 560, 0, 480] * 2)
    rows = re.findall(r"^\| ([\d.]+|uniform) \| ([\d ]*)\| ([\d ]+) \|$", page, re.M)
    assert [row[0] for row in rows] == ["1", "4", "uniform"]
    for temperature, weights, directions in rows:
        tau = None if temperature == "uniform" else float(temperature)
        coordinates = Coordinates(size=K, epochs=1, refresh=0, unit=1e-4, directions=1, seed=7, temperature=tau)
        places = coordinates.draw(3, "c01", 12, numbers.astype(np.float32)) - coordinates.first
        assert places.tolist() == [int(word) for word in directions.split()]
        if tau is not None:
            assert weights_of(numbers, tau)[:8].tolist() == [int(word) for word in weights.split()]
