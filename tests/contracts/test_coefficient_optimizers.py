"""What every optimizer of coefficients must keep. To put one under this contract, add a line to `OPTIMIZERS`."""

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpeft.errors import PluginError
from fedpeft.registry import BUILTIN, build
from fedpeft.zeroth import optimizers
from fedpeft.zeroth.optimizers import Course

OPTIMIZERS = [
    ("sgd", {}),
    ("sign", {}),
    ("momentum", {}),
    ("momentum", {"beta": 0.0}),
    ("adam", {}),
    ("adam", {"beta1": 0.0, "beta2": 0.5, "eps": 1e-3}),
    ("spsa-gc", {}),
    ("adamu", {}),
    ("adamu", {"beta": 0.5, "mix": 0.1}),
]
every_optimizer = pytest.mark.parametrize(("name", "params"), OPTIMIZERS)
K, CLIP, RATE = 16, 4.0, 0.05


def optimizer_of(name, params):
    return build("coefficient_optimizer", name, params)


def drawn(steps, directions=1, seed=0, size=K):
    """Numbers and scalars, each of shape (steps, directions)."""
    generator = np.random.default_rng(seed)
    shape = (steps, directions)
    return generator.integers(0, size, shape), generator.uniform(-CLIP, CLIP, shape)


def test_the_contract_s_toy_runs():
    assert doctest.testmod(optimizers, extraglobs={"np": np}).failed == 0


def test_every_optimizer_is_on_the_list():
    assert {name for name, _ in OPTIMIZERS} == set(BUILTIN["coefficient_optimizer"])


@every_optimizer
@pytest.mark.parametrize("directions", [1, 3])
def test_a_replay_is_its_steps_one_by_one(name, params, directions):
    numbers, scalars = drawn(30, directions)
    course = Course(optimizer_of(name, params), K, RATE)
    for own, found in zip(numbers, scalars, strict=True):
        course.take(own, found)
    replayed = optimizer_of(name, params).replay(numbers, scalars, K, RATE)
    assert replayed.shape == (K,)
    assert replayed.any()
    np.testing.assert_allclose(replayed, course.moved, rtol=1e-12, atol=1e-15)


@every_optimizer
def test_the_walk_is_told_where_to_look_from(name, params):
    """What `take` returns adds up to where the coefficients are, and as far ahead as the next step looks."""
    optimizer = optimizer_of(name, params)
    numbers, scalars = drawn(12, 2)
    course, stands, state = Course(optimizer, K, RATE), np.zeros(K), optimizer.begin(K)
    for own, found in zip(numbers, scalars, strict=True):
        gradient, along = np.zeros(K), optimizer.along(state, own)
        for place, (number, scalar) in enumerate(zip(own, found, strict=True)):
            gradient += scalar * (np.eye(K)[number] if along is None else along[place])
        state = optimizer.step(state, gradient, RATE)[1]
        stands += course.take(own, found)
    ahead = optimizer.ahead(state)
    np.testing.assert_allclose(stands, course.moved + (0 if ahead is None else ahead), rtol=1e-9, atol=1e-12)


@every_optimizer
def test_rounds_begin_anew_and_share_nothing(name, params):
    optimizer = optimizer_of(name, params)
    numbers, scalars = drawn(20)
    first = optimizer.replay(numbers, scalars, K, RATE)
    optimizer.replay(*drawn(20, seed=5), K, RATE)
    assert (optimizer.replay(numbers, scalars, K, RATE) == first).all()


@every_optimizer
def test_arguments_are_left_alone(name, params):
    optimizer = optimizer_of(name, params)
    numbers, scalars = drawn(9)
    before = numbers.copy(), scalars.copy()
    optimizer.replay(numbers, scalars, K, RATE)
    assert (numbers == before[0]).all()
    assert (scalars == before[1]).all()


@every_optimizer
@settings(max_examples=30, deadline=None)
@given(steps=st.integers(1, 60), directions=st.integers(1, 3), seed=st.integers(0, 999), hard=st.booleans())
def test_one_client_moves_no_weight_further_than_its_reach(name, params, steps, directions, seed, hard):
    """Σ_j |Δ_j| bounds what directions of ±1 can add to a weight; the worst scalars are ±clip, all one way."""
    optimizer = optimizer_of(name, params)
    numbers, scalars = drawn(steps, directions, seed)
    if hard:
        numbers, scalars = numbers % 2, np.full_like(scalars, CLIP)
    moved = np.abs(optimizer.replay(numbers, scalars, K, RATE)).sum()
    assert moved <= RATE * steps * directions * optimizer.reach(CLIP, steps * directions, K) * (1 + 1e-9)


@every_optimizer
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), steps=st.integers(2, 30))
def test_no_step_is_larger_than_its_draws_together_allow(name, params, seed, steps):
    """At any time in the round, not only when it ends."""
    optimizer = optimizer_of(name, params)
    numbers, scalars = drawn(steps, seed=seed)
    course, walked = Course(optimizer, K, RATE), 0.0
    for own, found in zip(numbers, scalars, strict=True):
        before = course.moved
        course.take(own, found)
        walked += np.abs(course.moved - before).sum()
    assert walked <= RATE * steps * optimizer.reach(CLIP, steps, K) * (1 + 1e-9)


@every_optimizer
def test_it_is_proportional_to_the_rate(name, params):
    """So the coordinator may count in units at once, and schedules replay."""
    numbers, scalars = drawn(25, 2)
    optimizer = optimizer_of(name, params)
    np.testing.assert_allclose(
        optimizer.replay(numbers, scalars, K, 256 * RATE), 256 * optimizer.replay(numbers, scalars, K, RATE), rtol=1e-9
    )


@every_optimizer
def test_nothing_measured_is_nothing_moved(name, params):
    numbers, scalars = drawn(8)
    assert not optimizer_of(name, params).replay(numbers, 0 * scalars, K, RATE).any()


@every_optimizer
def test_whether_it_stays_where_the_scalar_is_0_is_as_it_says(name, params):
    optimizer = optimizer_of(name, params)
    numbers, scalars = drawn(10, seed=3)
    course = Course(optimizer, K, RATE)
    for own, found in zip(numbers, scalars, strict=True):
        course.take(own, found)
    step, back = (course.trial(numbers[0], sign * scalars[0]) for sign in (1, -1))
    stayed = not course.take(numbers[0], 0 * scalars[0]).any() and (step == -back).all()
    if optimizer.stays:
        assert stayed
    elif not params:  # with some parameters, e.g. a β of 0, they do too
        assert not stayed


@every_optimizer
def test_whether_it_has_a_state_is_as_it_says(name, params):
    """Without one, the order of the steps does not matter."""
    numbers, scalars = drawn(40, seed=2)
    optimizer = optimizer_of(name, params)
    forward = optimizer.replay(numbers, scalars, K, RATE)
    backward = optimizer.replay(numbers[::-1], scalars[::-1], K, RATE)
    same = np.allclose(forward, backward, rtol=1e-9, atol=1e-12)
    if optimizer.stateless:
        assert same
    elif not params:
        assert not same


@every_optimizer
def test_it_descends(name, params):
    """A quadratic over the coefficients, measured exactly where each step looks, along what it looks along."""
    optimizer, centre = optimizer_of(name, params), np.linspace(-1, 1, K)
    course, stands = Course(optimizer, K, 0.01), np.zeros(K)
    start = np.linalg.norm(centre)
    for (own,) in drawn(4000)[0]:
        numbers = np.array([own])
        along = course.along(numbers)
        d = np.eye(K)[own] if along is None else along[0]
        stands = stands + course.take(numbers, np.array([d @ (stands - centre)]))
    assert np.linalg.norm(course.moved - centre) < 0.5 * start


WRONG = [
    ("momentum", {"beta": 1.0}, "beta = 1.0 must be from 0 to below 1"),
    ("spsa-gc", {"beta": -0.1}, "beta = -0.1 must be from 0 to below 1"),
    ("adamu", {"mix": 1.0}, "mix = 1.0 must be from 0 to below 1"),
    ("adam", {"beta2": 1.5}, "beta2 = 1.5 must be from 0 to below 1"),
    ("adam", {"beta1": 0.99, "beta2": 0.5}, "beta2 = 0.5 must be above beta1² = 0.9801"),
    ("adam", {"eps": 0.0}, "eps = 0.0 must be above 0"),
    ("sgd", {"beta": 0.9}, "has no parameter beta"),
    ("adamw", {}, 'did you mean "adam'),
]


@pytest.mark.parametrize(("name", "params", "message"), WRONG)
def test_what_cannot_be_is_refused(name, params, message):
    with pytest.raises(PluginError, match=message):
        optimizer_of(name, params)
