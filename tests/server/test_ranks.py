"""Clients that give up rank: who does, against dense products; what is kept, and what leaves no trace."""

from dataclasses import replace

import numpy as np
import pytest
from factors_toy import RANK, Toy, rule_named

from fedpeft.adapters.ranks import truncate
from fedpeft.errors import PluginError
from fedpeft.strategies.fedprox import FedProx
from fedpeft.types import ALL_COMPONENTS, ClientId, ClientInfo, NodeId, Plan, Update

RANKS = [2, 8, 3, 8]


def toy_of(ranks=RANKS, **more):
    params = {"decay": 0.7, "regularisation": 0.1, **more.pop("params", {})}
    return Toy(rule_named("hetlora", **params), ranks, **more)


def plan_of(toy, client, **more):
    name = ClientId(f"c{client:02d}")
    rank = toy.ranks[client] if toy.ranks[client] < RANK else ALL_COMPONENTS  # as a class that names none has it
    return toy.mixing.plan(
        Plan("toy", 1, 1, name, 0, 1, 1, 0.1, rank=rank, **more), ClientInfo(name, NodeId(client), 100)
    )


def scaled(toy, client, factor):
    """An update that scales all that the client holds."""
    start = truncate(toy.downlink(toy.theta), toy.layout, toy.ranks[client])
    return Update(ClientId(f"c{client:02d}"), 1, ((factor - 1) * start).astype(np.float32), 10.0)


def test_whose_tail_is_shorter_after_training_than_before_gives_it_up():
    toy = toy_of(downlink=lambda theta: (np.round(theta * 64) / 64).astype(np.float32))
    updates = toy.updates(1)
    expected = {}
    for client, update in enumerate(updates):
        rank = toy.ranks[client]
        kept = toy.mixing.rule.rank_decay.next_rank(rank)
        start = truncate(toy.downlink(toy.theta), toy.layout, rank)

        def length(theta, kept=kept):
            parts = [layer.read(theta) for layer in toy.layers]
            products = [part.left[:, kept:] @ part.right[kept:] for part in parts]
            return sum((s.scaling * np.linalg.norm(p)) ** 2 for s, p in zip(toy.layers, products, strict=True))

        if length(start + update.delta) < length(start):
            expected[update.client] = kept
    updates[1] = scaled(toy, 1, 0.9)
    updates[3] = scaled(toy, 3, 1.1)
    expected = {client: kept for client, kept in expected.items() if client in ("c00", "c02")} | {"c01": 5}
    toy.round(1, updates)
    assert toy.mixing.falling.fell == expected
    assert [toy.mixing.falling.of(ClientId(f"c{k:02d}")) for k in (1, 3)] == [5, ALL_COMPONENTS]


def test_a_rank_stays_fallen_and_falls_on_to_the_least():
    toy = toy_of(params={"min_rank": 3})
    seen = []
    for _ in range(5):
        toy.begin(1)
        seen.append(plan_of(toy, 1).rank)
        toy.mixing.accept(scaled(toy, 1, 0.9), 1.0)
        toy.theta = toy.mixing.finish()
    assert seen == [ALL_COMPONENTS, 5, 3, 3, 3]
    assert toy.mixing.falling.fell == {}
    assert plan_of(toy, 3).rank == ALL_COMPONENTS


def test_a_plan_says_what_is_to_shrink():
    toy = toy_of(params={"min_rank": 3})
    toy.begin(1)
    told = plan_of(toy, 1)
    assert (told.objective, told.objective_params) == ("small-tail", {"regularisation": 0.1, "kept": 5})
    assert toy.mixing.objective == "small-tail"  # what a client is met with
    at_the_least = plan_of(toy, 2)
    assert (at_the_least.objective, at_the_least.objective_params) == ("plain", {})


def test_without_the_term_tails_may_shrink_by_themselves():
    toy = toy_of(params={"regularisation": 0.0})
    assert toy.mixing.objective == "plain"
    toy.begin(1)
    assert plan_of(toy, 1).objective == "plain"
    toy.mixing.accept(scaled(toy, 1, 0.9), 1.0)
    toy.mixing.finish()
    assert toy.mixing.falling.fell == {"c01": 5}


def test_who_does_not_answer_or_changes_nothing_keeps_its_rank():
    toy = toy_of()
    toy.round(1, [scaled(toy, 0, 1.0), scaled(toy, 1, 0.9)])
    assert toy.mixing.falling.fell == {"c01": 5}
    toy.begin(2)
    assert toy.mixing.falling.fell == {}
    toy.mixing.finish()
    assert toy.mixing.falling.fell == {}


def test_a_round_that_came_to_nothing_leaves_no_trace():
    toy = toy_of()
    toy.begin(1)
    toy.mixing.accept(scaled(toy, 1, 0.9), 1.0)  # and then too few others answer
    toy.round(1, [scaled(toy, 3, 0.9)])
    assert toy.mixing.falling.fell == {"c03": 5}
    assert toy.mixing.falling.of(ClientId("c01")) == ALL_COMPONENTS


def test_it_goes_on_from_its_state():
    toy, again = toy_of(), toy_of()
    assert "mixing.ranks" not in toy.mixing.state()
    toy.round(1, [scaled(toy, 1, 0.9)])
    again.mixing.restore(toy.mixing.state())
    assert again.mixing.falling.of(ClientId("c01")) == 5
    assert again.mixing.falling.fell == {}
    assert again.mixing.state().keys() == toy.mixing.state().keys()


@pytest.mark.parametrize("text", ["[3]", '{"c01": 0}', '{"c01": 2.5}', '{"c01": true}', "{", "\xff"])
def test_a_state_that_holds_no_ranks_is_refused(text):
    with pytest.raises(PluginError) as caught:
        toy_of().mixing.restore({"mixing.ranks": np.frombuffer(text.encode("latin-1"), dtype=np.uint8)})
    assert caught.value.code == "strategy.state"
    assert "ranks by client" in caught.value.allowed


def test_a_rule_that_leaves_ranks_alone_refuses_a_state_with_some():
    toy = toy_of()
    toy.round(1, [scaled(toy, 1, 0.9)])
    with pytest.raises(PluginError, match=r"mixing\.ranks"):
        Toy(rule_named("hetlora"), RANKS).mixing.restore(toy.mixing.state())


def test_a_strategy_whose_plans_have_an_objective_is_told_so():
    toy = toy_of(inner=FedProx(mu=0.1))
    with pytest.raises(PluginError, match="small-tail") as caught:
        toy.begin(1)
    assert caught.value.code == "plugin.two-objectives"
    toy_of(inner=FedProx(mu=0.1), params={"regularisation": 0.0}).begin(1)


def test_a_plan_of_a_smaller_rank_is_not_raised():
    toy = toy_of()
    toy.round(1, [scaled(toy, 1, 0.9)])
    toy.begin(2)
    plan = replace(plan_of(toy, 3), rank=2, objective="plain", objective_params={})
    assert toy.mixing.falling.plan(replace(plan, client=ClientId("c01"))).rank == 2
