"""SCAFFOLD's client half against the paper's equations, by hand and over random paths."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fedpeft.registry import build
from fedpeft.training.objectives import ClientHalf
from fedpeft.training.objectives.open import open_objective, sent_by, vectors_held
from fedpeft.types import ClientId, Plan


def half():
    return build("objective", "scaffold", {})


def steps_of(objective, gradient_of, x, rate, steps):
    """y after so many plain SGD steps from x."""
    y = x.clone()
    for _ in range(steps):
        gradient = gradient_of(y)
        objective.add_gradient(gradient, y, x)
        y -= rate * gradient
    return y


def test_two_steps_by_hand():
    """F(y) = y²/2, x = 1, η = 0.1, c_i = 0.5, c = 0.2: y = 1 − 0.1 · 0.7 = 0.93, then 0.93 − 0.1 · 0.63 = 0.867.

    c_i⁺ = 0.5 − 0.2 + (1 − 0.867) / (2 · 0.1) = 0.965, which is the mean of the gradients 1 and 0.93.
    """
    one = half()
    x = torch.tensor([1.0], dtype=torch.float64)
    one.begin({"c": torch.tensor([0.2]).double()}, {"c_i": torch.tensor([0.5]).double()})
    y = steps_of(one, lambda y: y.clone(), x, 0.1, 2)
    assert float(y) == pytest.approx(0.867, abs=1e-7)
    sent = one.finish(2)
    assert float(sent["c"]) == pytest.approx(0.965 - 0.5, abs=1e-7)
    kept = one.remember({"c_i": np.array([0.5])}, {"c": sent["c"].numpy()}, np.zeros(1))
    assert kept["c_i"] == pytest.approx(0.965, abs=1e-7)


def test_under_sgd_it_is_option_two():
    """c_i⁺ = c_i − c + (x − y)/(Kη) for any path, in many dimensions."""
    generator = torch.Generator().manual_seed(3)
    a, b, x, c, c_i = (torch.randn(40, generator=generator, dtype=torch.float64) for _ in range(5))
    one, rate, steps = half(), 0.05, 17
    one.begin({"c": c}, {"c_i": c_i})
    y = steps_of(one, lambda y: a.abs() * (y - b), x, rate, steps)
    torch.testing.assert_close(c_i + one.finish(steps)["c"], c_i - c + (x - y) / (steps * rate))


def test_what_is_sent_has_the_size_of_gradients_whatever_the_optimizer():
    """Under AdamW the paper's (x − y)/(Kη) is about 1 a coordinate; gradients here are a thousandth of that."""
    one, steps, x = half(), 10, torch.zeros(5)
    one.begin({"c": torch.zeros(5)}, {"c_i": torch.zeros(5)})
    y = x.clone().requires_grad_(True)
    optimizer = torch.optim.AdamW([y], lr=0.1, weight_decay=0.0)
    for _ in range(steps):
        gradient = torch.full((5,), 1e-3)
        one.add_gradient(gradient, y.detach(), x)
        y.grad = gradient
        optimizer.step()
    assert float(((x - y.detach()) / (steps * 0.1)).abs().min()) > 0.9
    torch.testing.assert_close(one.finish(steps)["c"], torch.full((5,), 1e-3))


def test_one_client_or_many():
    generator = torch.Generator().manual_seed(5)
    c = torch.randn(7, generator=generator)
    own, gradients = torch.randn(3, 7, generator=generator), torch.randn(2, 3, 7, generator=generator)
    many = half()
    many.begin({"c": c.expand(3, 7)}, {"c_i": own})
    corrected = gradients.clone()
    for step in corrected:
        many.add_gradient(step, own, own)
    for client in range(3):
        one = half()
        one.begin({"c": c}, {"c_i": own[client]})
        for number in range(2):
            alone = gradients[number, client].clone()
            one.add_gradient(alone, own[client], own[client])
            assert torch.equal(alone, corrected[number, client])
        assert torch.equal(one.finish(2)["c"], many.finish(2)["c"][client])


def plan(objective="scaffold"):
    return Plan("run", 1, 1, ClientId("c0"), 0, 1, 1, 0.1, objective=objective)


def test_what_did_not_come_or_is_not_kept_yet_is_zero():
    objective = open_objective(plan(), {}, {}, torch.zeros(3))
    gradient = torch.tensor([1.0, 2.0, 3.0])
    objective.add_gradient(gradient, gradient, gradient)
    assert gradient.tolist() == [1, 2, 3]
    assert sent_by(objective, 1)["c"].tolist() == [1, 2, 3]


def test_what_comes_in_is_not_changed_nor_warned_about_when_read_only():
    received, memory = {"c": np.ones(3, dtype=np.float32)}, {"c_i": np.full(3, 2, dtype=np.float32)}
    received["c"].flags.writeable = memory["c_i"].flags.writeable = False
    objective = open_objective(plan(), received, memory, torch.zeros(3))
    gradient = torch.zeros(3)
    objective.add_gradient(gradient, gradient, gradient)
    assert gradient.tolist() == [-1, -1, -1]


def test_only_a_client_half_is_one():
    assert isinstance(half(), ClientHalf)
    for name in ("plain", "proximal"):
        objective = build("objective", name, {"mu": 0.1} if name == "proximal" else {})
        assert not isinstance(objective, ClientHalf)
        assert sent_by(objective, 1) == {}


def test_what_it_holds_for_a_client_at_work_is_counted():
    """θ as the round began, c, c_i and c − c_i, the sum of gradients; of FedProx the start alone."""
    assert [vectors_held(plan(name)) for name in ("plain", "scaffold")] == [0, 5]
    assert vectors_held(replace(plan("proximal"), objective_params={"mu": 0.1})) == 1
    assert vectors_held(replace(plan("small-tail"), objective_params={"regularisation": 0.1, "kept": 1})) == 1
