"""A rule around a strategy: what it restores, and what it refuses to go on from."""

from dataclasses import replace

import numpy as np
import pytest
from factors_toy import Toy, rule_named, tail

from fedpeft.adapters.ranks import truncate
from fedpeft.codecs.broadcast import Int8Downlink
from fedpeft.errors import PluginError
from fedpeft.server.broadcasts import Broadcasts
from fedpeft.strategies import FedAvg
from fedpeft.strategies.fedadam import FedAdam


def saved():
    toy = Toy(rule_named("exact-mix"), [2, 8, 8])
    toy.round(1, toy.updates(1))
    return toy.mixing.state()


@pytest.mark.parametrize("spoil", [
    lambda state: state.pop("mixing.left.0"),
    lambda state: state.update({"mixing.left.99": np.zeros((3, 1), dtype=np.float32)}),
    lambda state: state.update({"mixing.left.0": state["mixing.left.0"].astype(np.float64)}),
    lambda state: state.update({"mixing.right.0": state["mixing.right.0"][:, 1:]}),
    lambda state: state.update({"mixing.right.0": state["mixing.right.0"][1:]}),
])  # fmt: skip
def test_a_state_of_another_adapter_is_refused(spoil):
    state = saved()
    spoil(state)
    with pytest.raises(PluginError) as caught:
        Toy(rule_named("exact-mix"), [2, 8, 8]).mixing.restore(state)
    assert caught.value.code == "strategy.state"


def test_the_strategy_s_own_state_is_kept_beside():
    toy = Toy(rule_named("fedit"), [8, 8], inner=FedAdam(learning_rate=0.1))
    toy.round(1, toy.updates(1))
    other = FedAdam(learning_rate=0.1)
    other.restore(toy.mixing.state())  # nothing of the rule's is in it
    assert other.state().keys() == toy.mixing.state().keys()


def test_a_broadcast_s_start_is_what_clients_decode():
    theta = np.linspace(-1, 1, 200, dtype=np.float32)
    downlink = Int8Downlink()
    broadcasts = Broadcasts(np.zeros(200, dtype=np.float32), downlink)
    assert not broadcasts.start().any()
    broadcasts.publish(1, theta, ())
    codes = downlink.decode_difference(broadcasts.body(0), downlink.zero(200))
    assert np.array_equal(broadcasts.start(), downlink.dequantise(codes))
    assert not np.array_equal(broadcasts.start(), theta)
    plain = Broadcasts(np.zeros(200, dtype=np.float32), None)
    plain.publish(1, theta, ())
    assert np.array_equal(plain.start(), theta)


class OfRankThree(FedAvg):
    """Its plans set the rank, whatever the device class says."""

    def plan(self, plan, client):
        return replace(super().plan(plan, client), rank=3)


def test_a_strategy_s_plans_may_set_the_rank():
    toy = Toy(rule_named("exact-mix"), [8, 8], inner=OfRankThree())
    beyond = toy.updates(1)  # values above rank 3 are none that such a client can have trained: they do not count
    within = [replace(update, delta=truncate(update.delta, toy.layout, 3)) for update in beyond]
    other = Toy(rule_named("exact-mix"), [8, 8], inner=OfRankThree())
    found = toy.round(1, beyond)
    plain = [layer.read(other.round(1, within)).dense() for layer in toy.layers[:1]]
    assert np.allclose(toy.layers[0].read(found).dense(), plain[0])
    for layer in toy.layers:  # and the next client of rank 3 is sent the best part that it can hold
        product = toy.product(found, layer)
        assert np.linalg.norm(product - toy.product(found, layer, 3)) == pytest.approx(
            tail(product, 3), rel=1e-3, abs=1e-4
        )
