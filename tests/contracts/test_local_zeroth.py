"""What every optimizer of a client without gradients must keep. To put one under this contract, add a line to
`OPTIMIZERS`."""

import doctest

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpeft.registry import BUILTIN, build, load
from fedpeft.training.zeroth import local
from fedpeft.training.zeroth.local.pieces import PIECE
from fedpeft.training.zeroth.walk import DeviceWalk
from fedpeft.types import ClientId, Plan
from fedpeft.zeroth.direction import Signs

OPTIMIZERS = [  # with a learning rate at which 300 steps on the quadratic below are a way down
    ("sgd", 0.01),
    ("zo-adam", 0.05),
    ("zo-adamu", 0.01),
]
every_optimizer = pytest.mark.parametrize(("name", "rate"), OPTIMIZERS)
D, K, EPSILON = 40, 64, 1e-3


def plan(rate, steps=300):
    about = {"seed": 1, "steps": steps, "batch_size": 1, "learning_rate": rate}
    return Plan(run="r", round=1, attempt=1, client=ClientId("a"), **about)


def pool(size=K):
    return build("pool", "hadamard", {"size": size, "seed": 4})


def drawn(name, size, count, step=0, of=None):
    """For each of `count` directions those of the pool that go into it."""
    draws, of = load("zeroth_optimizer", name).draws, of or pool()
    places = np.random.default_rng(step).integers(of.size, size=(count, draws))
    return [[of.direction(0, int(place), 0, size) for place in one] for one in places]


def walked(name, rate, size, scalars):
    """θ, from 0, after steps along the directions of the pool with these scalars, shape (steps, count)."""
    optimizer = load("zeroth_optimizer", name)(size, plan(rate, len(scalars)))
    theta = torch.zeros(size)
    for step, own in enumerate(np.float32(scalars)):
        optimizer.move(theta, optimizer.look(drawn(name, size, len(own), step)), own)
    return theta.numpy()


def some(seed, steps=12, count=2):
    return np.random.default_rng(seed).normal(size=(steps, count))


def test_the_contract_s_toy_runs():
    found = {"np": np, "torch": torch, "Signs": Signs, "Plan": Plan}
    assert doctest.testmod(local, extraglobs=found).failed == 0


def test_every_optimizer_is_on_the_list():
    assert {name for name, _ in OPTIMIZERS} == set(BUILTIN["zeroth_optimizer"])


@every_optimizer
def test_it_holds_as_many_vectors_as_it_says(name, rate):
    optimizer = load("zeroth_optimizer", name)(D, plan(rate))
    held = [value for value in vars(optimizer).values() if isinstance(value, np.ndarray | torch.Tensor)]
    assert [vector.nbytes for vector in held] == [4 * D] * optimizer.vectors


@every_optimizer
@pytest.mark.parametrize("count", [1, 3])
def test_it_looks_along_as_many_directions_as_were_drawn(name, rate, count):
    optimizer = load("zeroth_optimizer", name)(D, plan(rate))
    found = optimizer.look(drawn(name, D, count))
    assert len(found) == count
    for direction in found:
        z = direction.values()
        assert direction.size == len(z) == D
        moved = np.linspace(-1, 1, D, dtype=np.float32)
        direction.add_to(moved, 0.5)
        np.testing.assert_allclose(moved, np.linspace(-1, 1, D) + 0.5 * z, atol=1e-6)
        assert (direction.values(8, 16) == z[8:24]).all()


@every_optimizer
def test_a_device_looks_the_same_way_as_the_host(name, rate):
    optimizer, size = load("zeroth_optimizer", name)(PIECE + 24, plan(rate, 4)), PIECE + 24
    for step in range(3):
        directions = optimizer.look(drawn(name, size, 2, step))
        for direction in directions:
            here, there = torch.ones(size), torch.ones(size)
            direction.add_to(here.numpy(), 0.3)
            DeviceWalk(there).add(direction, 0.3)
            assert torch.equal(here, there)
        optimizer.move(torch.zeros(size), directions, np.float32([0.5, -2.0]))


@every_optimizer
def test_asked_twice_it_looks_the_same_way(name, rate):
    optimizer, theta = load("zeroth_optimizer", name)(D, plan(rate, 10)), torch.zeros(D)
    for step in range(9):
        one, other = (optimizer.look(drawn(name, D, 2, step)) for _ in range(2))
        assert all((a.values() == b.values()).all() for a, b in zip(one, other, strict=True))
        optimizer.move(theta, one, np.float32([0.5, -2.0]))


@every_optimizer
@pytest.mark.parametrize("count", [1, 2])
def test_it_goes_down(name, rate, count):
    """A quadratic that is ten times as steep in half of its weights, measured to both sides."""
    steep, centre = np.where(np.arange(D) % 2, 1.0, 0.1), np.linspace(-1, 2, D)

    def loss(at):
        return 0.5 * (steep * (at - centre) ** 2).sum()

    optimizer, theta = load("zeroth_optimizer", name)(D, plan(rate)), torch.zeros(D)
    for step in range(300):
        directions = optimizer.look(drawn(name, D, count, step))
        at = theta.numpy().astype(np.float64)
        z = [direction.values().astype(np.float64) for direction in directions]
        g = [(loss(at + EPSILON * one) - loss(at - EPSILON * one)) / (2 * EPSILON * count) for one in z]
        optimizer.move(theta, directions, np.float32(g))
    assert loss(theta.numpy()) < 0.3 * loss(np.zeros(D))


@every_optimizer
def test_a_round_begins_anew(name, rate):
    assert (walked(name, rate, D, some(0)) == walked(name, rate, D, some(0))).all()
    assert (walked(name, rate, D, some(0)) != walked(name, rate, D, some(1))).any()


@every_optimizer
@settings(max_examples=15, deadline=None)
@given(size=st.integers(1, D), seed=st.integers(0, 99))
def test_every_weight_goes_its_own_way(name, rate, size, seed):
    """Directions of a longer vector begin as those of a shorter one, and so does what is made of them."""
    assert (walked(name, rate, D, some(seed))[:size] == walked(name, rate, size, some(seed))).all()


@every_optimizer
def test_pieces_do_not_show(name, rate):
    whole = walked(name, rate, PIECE + 100, some(3))
    assert (whole[:PIECE] == walked(name, rate, PIECE, some(3))).all()
    assert (whole[PIECE:] != 0).any()
