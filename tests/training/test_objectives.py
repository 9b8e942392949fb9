"""An objective's gradient is that of the function in its docstring."""

import pytest
import torch

from fedpeft.errors import PluginError
from fedpeft.registry import build


def random(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_plain_adds_nothing():
    gradient = random(7, seed=1)
    before = gradient.clone()
    build("objective", "plain", {}).add_gradient(gradient, random(7, seed=2), random(7, seed=3))
    assert torch.equal(gradient, before)


def test_the_proximal_gradient_is_that_of_the_proximal_term():
    mu, theta, start = 0.7, random(7, seed=2), random(7, seed=3)
    gradient = torch.zeros(7, dtype=torch.float64)
    build("objective", "proximal", {"mu": mu}).add_gradient(gradient, theta, start)

    def term(w):
        return mu / 2 * (w - start).square().sum()

    h = 1e-5
    for i in range(7):
        step = torch.zeros(7, dtype=torch.float64)
        step[i] = h
        slope = (term(theta + step) - term(theta - step)) / (2 * h)
        assert float(gradient[i]) == pytest.approx(float(slope), abs=1e-8)


def test_it_adds_to_what_is_there_for_one_client_or_many():
    objective = build("objective", "proximal", {"mu": 0.5})
    theta, start, gradient = (random(3, 7, seed=seed) for seed in (1, 2, 3))
    many = gradient.clone()
    objective.add_gradient(many, theta, start)
    for client in range(3):
        one = gradient[client].clone()
        objective.add_gradient(one, theta[client], start[client])
        assert torch.equal(one, many[client])


@pytest.mark.parametrize("mu", [-0.1, float("nan")])
def test_a_mu_below_zero_is_refused(mu):
    with pytest.raises(PluginError, match="mu"):
        build("objective", "proximal", {"mu": mu})
