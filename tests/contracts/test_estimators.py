"""What every estimator must keep. To put one under this contract, add a line to `ESTIMATORS`."""

import doctest

import numpy as np
import pytest

from fedpeft.errors import PluginError
from fedpeft.registry import BUILTIN, build
from fedpeft.training.zeroth import estimators

ESTIMATORS = [
    ("two-point", {}),
    ("two-point", {"queries": 3}),
    ("forward", {"queries": 1}),
    ("forward", {}),
    ("forward-gradient", {}),
    ("forward-gradient", {"queries": 3}),
]
every_estimator = pytest.mark.parametrize(("name", "params"), ESTIMATORS)
D, EPSILON = 40, 1e-4


def asks_for_slopes(estimator):
    return getattr(estimator, "slopes", False)


def measured(estimator, loss, theta, z):
    """The scalars of one step along `z`, shape (directions, D)."""
    if asks_for_slopes(estimator):
        pairs = [[loss(theta + sign * EPSILON * own) for sign in (1, -1)] for own in z]
        return estimator.scalars(np.array([(one - other) / (2 * EPSILON) for one, other in pairs]), EPSILON)
    moves = [
        multiple * EPSILON * z[direction] if direction >= 0 else 0 * theta for direction, multiple in estimator.points
    ]
    points = [theta + move for move in moves]
    return estimator.scalars(np.array([loss(point) for point in points]), EPSILON)


def directions(count, seed=0):
    return np.random.default_rng(seed).choice([-1.0, 1.0], (count, D))


def test_the_contract_s_toy_runs():
    assert doctest.testmod(estimators, extraglobs={"np": np}).failed == 0


def test_every_estimator_is_on_the_list():
    assert {name for name, _ in ESTIMATORS} == set(BUILTIN["estimator"])


@every_estimator
def test_of_a_slope_it_measures_the_slope_along_each_direction(name, params):
    estimator, slope = build("estimator", name, params), np.linspace(-1, 1, D)
    z = directions(estimator.directions)
    found = measured(estimator, lambda theta: slope @ theta, np.zeros(D), z)
    np.testing.assert_allclose(found, z @ slope / estimator.directions, atol=1e-9)


@every_estimator
def test_its_mean_step_is_the_gradient(name, params):
    """E g z = ∇L for directions with E z zᵀ = I."""
    estimator, centre = build("estimator", name, params), np.linspace(-1, 2, D)
    theta, total, draws = np.ones(D), np.zeros(D), 4000

    def loss(at):
        return 0.5 * ((at - centre) ** 2).sum()

    for seed in range(draws):
        z = directions(estimator.directions, seed)
        total += measured(estimator, loss, theta, z) @ z
    gradient = theta - centre
    error = np.linalg.norm(total / draws - gradient) / np.linalg.norm(gradient)
    assert error < 5 * np.sqrt(D / draws)


@every_estimator
def test_scalars_have_no_nan_for_finite_losses(name, params):
    estimator = build("estimator", name, params)
    flat = np.zeros(estimator.directions) if asks_for_slopes(estimator) else np.full(len(estimator.points), 3.0)
    found = estimator.scalars(flat, EPSILON)
    assert found.shape == (estimator.directions,)
    assert (found == 0).all()


@pytest.mark.parametrize("name", sorted(BUILTIN["estimator"]))
@pytest.mark.parametrize("queries", [0, 65])
def test_queries_that_cannot_be(name, queries):
    with pytest.raises(PluginError, match=f"queries = {queries} must be from 1 to 64"):
        build("estimator", name, {"queries": queries})
