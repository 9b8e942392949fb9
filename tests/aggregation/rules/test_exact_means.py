"""What is called exact, against the dense mean of what clients changed, to 1e-5 of it; state, ranks and masks mixed."""

import numpy as np
import pytest
from factors_toy import RANK, Toy, rule_named

from fedpeft.adapters.ranks import truncate
from fedpeft.aggregation.factors import Factors
from fedpeft.aggregation.rules import FedIT, LayerRound, Trained
from fedpeft.registry import build
from fedpeft.types import Update

SHAPE = (24, 40)
TRAINED, WHOLE = 4, min(SHAPE)
"""Components that clients train, and that a layer needs to hold any product."""


def layer_round(merged, ranks=(4, 2, 3, 4), held=None):
    """A layer with some components that nobody trains, a broadcast that loses something, and its dense W."""
    rng = np.random.default_rng(3)
    (m, n), full = SHAPE, TRAINED + merged
    state = Factors(rng.standard_normal((m, full)), rng.standard_normal((full, n)))
    sent = Factors(state.left.round(2), state.right.round(2))
    weights = rng.dirichlet(np.ones(len(ranks)))
    flags = [None] * len(ranks) if held is None else list(rng.random((len(ranks), SHAPE[held])) < 0.6)
    trained, wanted, total = [], np.zeros(SHAPE), np.zeros(SHAPE)
    for weight, rank, own in zip(weights, ranks, flags, strict=True):
        delta = Factors(0.3 * rng.standard_normal((m, rank)), 0.3 * rng.standard_normal((rank, n)))
        holds = np.ones(SHAPE)
        if held == 0:
            delta, holds = Factors(delta.left * own[:, None], delta.right), holds * own[:, None]
        if held == 1:
            delta, holds = Factors(delta.left, delta.right * own), holds * own
        start = Factors(sent.left[:, :rank], sent.right[:rank])
        moved = Factors(start.left + delta.left, start.right + delta.right).dense() - start.dense()
        wanted, total = wanted + weight * holds * moved, total + weight * holds
        trained.append(Trained(float(weight), delta, *((own, None) if held == 0 else (None, own))))
    wanted = state.dense() + wanted / np.maximum(total, 1e-300)
    stepped = Factors(state.left + 0.1, state.right + 0.1)
    return LayerRound(state, sent, stepped, rng.standard_normal((full, n)), trained, (2, 3), merged), wanted


@pytest.mark.parametrize("held", [None, 0, 1], ids=["whole", "rows", "columns"])
@pytest.mark.parametrize("rule", ["fedex", "flora", "exact-mix"])
def test_with_room_for_all_nothing_is_lost(rule, held):
    layer, wanted = layer_round(WHOLE, held=held)
    found = rule_named(rule).mix(layer).factors
    assert np.linalg.norm(found.dense() - wanted) <= 1e-5 * np.linalg.norm(wanted)


def test_a_plain_mean_is_not():
    layer, wanted = layer_round(0, ranks=(4, 4, 4, 4))
    pairs = [(client.weight, client.delta) for client in layer.trained]
    mean = Factors(*(sum(weight * delta[side] for weight, delta in pairs) for side in (0, 1)))
    stepped = Factors(layer.state.left + mean.left, layer.state.right + mean.right)
    plain = LayerRound(layer.state, layer.sent, stepped, layer.seeded, layer.trained)
    found = FedIT().mix(plain).factors.dense()
    assert np.linalg.norm(found - wanted) > 1e-3 * np.linalg.norm(wanted)


@pytest.mark.parametrize("strategy", ["ffa", "rolora"])
def test_with_one_factor_fixed_the_plain_mean_is_the_mean_of_products(strategy):
    """FFA-LoRA and RoLoRA: what a round freezes has no delta."""
    toy, own = Toy(rule_named("fedit"), [RANK] * 4), build("strategy", strategy, {})
    for number in (1, 2):
        still = (*own.frozen, *own.frozen_in(number))
        assert still
        updates = []
        for update in toy.updates(number):
            delta = update.delta.copy()
            for tensor in toy.layout.tensors:
                if any(part in tensor.name for part in still):
                    delta[tensor.offset : tensor.offset + tensor.size] = 0
            updates.append(Update(update.client, number, truncate(delta, toy.layout, RANK), update.weight))
        own.begin(toy.theta)
        for update in updates:
            own.accept(update, update.weight)
        after = own.finish()
        for layer in toy.layers:
            wanted = toy.product(toy.theta, layer) + toy.step(updates, layer)
            assert np.linalg.norm(toy.product(after, layer) - wanted) <= 1e-5 * np.linalg.norm(wanted), layer.name
        toy.theta = after
