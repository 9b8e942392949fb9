"""Each published rule against its formula, computed by hand, and what it refuses."""

import numpy as np
import pytest
from factors_toy import RANK, Toy, rule_named

from fedpeft.errors import PluginError
from fedpeft.strategies import FedAvg
from fedpeft.strategies.fedadam import FedAdam

LAYER = "wide"


def clients_of(toy, updates):
    """A_k, B_k and n_k of one layer after training, and the layer; every client has the whole rank."""
    (layer,) = [layer for layer in toy.layers if layer.name == LAYER]
    pairs = [layer.read(toy.theta + update.delta) for update in updates]
    weights = np.array([update.weight for update in updates])
    return layer, pairs, weights / weights.sum()


def one_round(name, **params):
    toy = Toy(rule_named(name, **params), [RANK] * 4)
    updates = toy.updates(1)
    layer, pairs, p = clients_of(toy, updates)
    return layer.read(toy.round(1, updates)), pairs, p, toy


def test_fedit_is_the_mean_of_the_factors():
    found, pairs, p, _ = one_round("fedit")
    assert np.allclose(found.left, sum(w * pair.left for w, pair in zip(p, pairs, strict=True)), atol=1e-6)
    assert np.allclose(found.right, sum(w * pair.right for w, pair in zip(p, pairs, strict=True)), atol=1e-6)


@pytest.mark.parametrize("strategy", [FedAvg, lambda: FedAdam(learning_rate=0.1)])
def test_fedit_is_the_strategy_s_own_step_bit_by_bit(strategy):
    toy, own = Toy(rule_named("fedit"), [2, 8, 8], inner=strategy()), strategy()
    theta = toy.theta
    for number in (1, 2):
        own.begin(theta)
        for update in toy.updates(number):
            own.accept(update, update.weight)
        theta = own.finish()
        assert np.array_equal(toy.round(number, toy.updates(number)), theta)


def test_flexlora_is_the_svd_of_the_mean_product():
    found, pairs, p, _ = one_round("flexlora")
    u, s, vt = np.linalg.svd(sum(w * pair.dense() for w, pair in zip(p, pairs, strict=True)))
    assert np.allclose(found.dense(), (u[:, :RANK] * s[:RANK]) @ vt[:RANK], atol=1e-5)
    assert np.allclose(found.right @ found.right.T, np.eye(RANK), atol=1e-5)  # B = U Σ, A = V^T


def test_hetlora_weighs_by_the_norm_of_the_product():
    found, pairs, _, _ = one_round("hetlora")
    norms = np.array([np.linalg.norm(pair.dense()) for pair in pairs])
    assert np.allclose(
        found.left, sum(w * pair.left for w, pair in zip(norms / norms.sum(), pairs, strict=True)), atol=1e-5
    )


def test_lora_fair_turns_the_product_towards_the_mean_of_products():
    plain, pairs, p, _ = one_round("fedit")
    found, *_ = one_round("lora-fair", regularisation=0.0, learning_rate=0.5, steps=2000)
    free, *_ = one_round("lora-fair", regularisation=1e6)
    aim = sum(w * pair.dense() for w, pair in zip(p, pairs, strict=True))

    def cosine(pair):
        return np.sum(aim * pair.dense()) / np.linalg.norm(aim) / np.linalg.norm(pair.dense())

    assert np.array_equal(found.right, plain.right)
    # The best product with this A is the projection of the aim onto its rows.
    best = aim @ np.linalg.pinv(plain.right) @ plain.right
    assert 1 - cosine(found) <= 1.02 * (1 - np.linalg.norm(best) / np.linalg.norm(aim))
    assert cosine(found) > cosine(plain)
    assert np.allclose(free.left, plain.left)  # a correction that costs more than it brings is none


@pytest.mark.parametrize(
    ("name", "params", "wrong"),
    [
        ("exact-mix", {"residual_rank": -1}, "residual_rank = -1"),
        ("exact-mix", {"residual_rank": 1.5}, "residual_rank = 1.5"),
        ("exact-mix", {"method": "fast"}, "method = 'fast'"),
        ("lora-fair", {"regularisation": -0.1}, "regularisation = -0.1"),
        ("lora-fair", {"learning_rate": 0.0}, "learning_rate = 0.0"),
        ("lora-fair", {"steps": 0}, "steps = 0"),
        ("hetlora", {"gamma": 0.9}, "gamma"),
    ],
)
def test_a_wrong_parameter_is_named(name, params, wrong):
    with pytest.raises(PluginError) as caught:
        rule_named(name, **params)
    assert wrong in caught.value.message
