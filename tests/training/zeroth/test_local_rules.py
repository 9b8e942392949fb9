"""The rules of ZO-Adam and ZO-AdaMU: torch's Adam fed with g·z, and the formulas written out."""

import math

import numpy as np
import pytest
import torch

from fedpeft.registry import build, load
from fedpeft.training.zeroth.local.adamu import Annealed
from fedpeft.types import ClientId, Plan

D, STEPS, RATE = 50, 20, 0.03
POOL = build("pool", "independent", {"size": 64, "seed": 2})


def plan():
    about = {"seed": 1, "steps": STEPS, "batch_size": 1, "learning_rate": RATE}
    return Plan(run="r", round=1, attempt=1, client=ClientId("a"), **about)


def directions(step, count):
    places = np.random.default_rng(step).integers(64, size=count)
    return [POOL.direction(0, int(place), 0, D) for place in places]


@pytest.mark.parametrize("count", [1, 3])
def test_adam_is_torch_s_fed_with_g_times_z(count):
    theta, theirs = torch.linspace(-1, 1, D), torch.linspace(-1, 1, D).requires_grad_()
    ours, adam = load("zeroth_optimizer", "zo-adam")(D, plan()), torch.optim.Adam([theirs], lr=RATE)
    scalars = np.random.default_rng(0).normal(size=(STEPS, count)).astype(np.float32)
    for step, own in enumerate(scalars):
        looked = ours.look([[one] for one in directions(step, count)])
        ours.move(theta, looked, own)
        theirs.grad = sum(float(g) * torch.from_numpy(z.values()) for g, z in zip(own, looked, strict=True))
        adam.step()
        np.testing.assert_allclose(theta, theirs.detach(), atol=2e-6)


def test_along_one_direction_of_signs_adam_scales_all_weights_alike():
    """What the docstring says of v."""
    ours, theta = load("zeroth_optimizer", "zo-adam")(D, plan()), torch.zeros(D)
    for step, g in enumerate(np.random.default_rng(1).normal(size=STEPS).astype(np.float32)):
        ours.move(theta, ours.look([directions(step, 1)]), np.array([g]))
        assert len(np.unique(ours._v)) == 1
    ours.move(theta, ours.look([[one] for one in directions(99, 2)]), np.float32([1.0, 2.0]))
    assert len(np.unique(ours._v)) == 2


@pytest.mark.parametrize("count", [1, 2])
def test_adamu_is_its_formulas(count):
    """In fp64, after the module's docstring, with nothing of its code."""
    ours, theta = load("zeroth_optimizer", "zo-adamu")(D, plan()), torch.linspace(-1, 1, D)
    at, h = np.linspace(-1, 1, D), np.zeros(D)
    for t in range(STEPS):
        drawn = [directions(2 * t + 1000 * i, 2) for i in range(count)]
        looked = ours.look(drawn)
        g = np.random.default_rng(t).normal(size=count).astype(np.float32)
        ours.move(theta, looked, g)

        s = 1.0 if t < 2 else (1 + math.cos(math.pi * (t - 2) / 18)) / 2
        b1, b2, history = s**0.1, s**1.5, np.zeros(D)
        step = np.zeros(D)
        for (u, around), own in zip(drawn, g, strict=True):
            fresh = math.sqrt(s) * u.values().astype(np.float64)
            near = h + math.sqrt(1 - s) * around.values()
            z = b1 * fresh + (1 - b1) * near
            step += float(own) * z / np.sqrt(b2 * fresh**2 + (1 - b2) * near**2 + 1e-8)
            history += np.sign(own) * z / count
        at, h = at - RATE * step, history
        np.testing.assert_allclose(theta, at, atol=1e-4)
    assert np.abs(h).max() > 0.1


def test_adamu_begins_as_mezo_s_step():
    ours, mezo = (load("zeroth_optimizer", name)(D, plan()) for name in ("zo-adamu", "sgd"))
    here, there = torch.zeros(D), torch.zeros(D)
    for step in range(2):
        fresh, around = directions(step, 2)
        ours.move(here, ours.look([[fresh, around]]), np.float32([0.7]))
        mezo.move(there, mezo.look([[fresh]]), np.float32([0.7]))
    np.testing.assert_allclose(here, there, rtol=1e-6)


def test_its_history_points_up_the_hill():
    """Whatever the sign of g along it: so the next look is likelier to go where the loss rises, as the last did."""
    for g in (2.0, -2.0):
        ours = load("zeroth_optimizer", "zo-adamu")(D, plan())
        (z,) = ours.look([directions(0, 2)])
        before = z.values()
        ours.move(torch.zeros(D), [z], np.float32([g]))
        assert (ours._history == np.sign(g) * before).all()


@pytest.mark.parametrize("steps", [1, 2, 9, 10, 200])
def test_annealing_falls_from_one_and_never_reaches_nothing(steps):
    found = [Annealed.at(step, steps) for step in range(steps)]
    assert found[0] == Annealed(1.0, 1.0, 1.0)
    assert sum(one.s == 1.0 for one in found) == max(1, steps // 10 + 1)
    values = np.array([(one.s, one.beta_1, one.beta_2) for one in found])
    assert (np.diff(values, axis=0) <= 0).all()
    assert (values > 0).all()
