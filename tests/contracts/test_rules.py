"""What every rule of mixing promises. To put one under the contract, add a line to `RULES`.

A name is one that a run file could give: built in, or `path/file.py:Class` relative to the root of the repository.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from factors_toy import PRUNED, RANK, Toy, tail

from fedpeft.registry import BUILTIN, build
from fedpeft.strategies import FedAvg
from fedpeft.types import ClientId, ClientInfo, NodeId, Plan

ROOT = Path(__file__).parents[2]
MIXED = [2, 8, 3, 8, 2]


@dataclass(frozen=True)
class Entry:
    name: str
    params: dict = field(default_factory=dict)
    best: str = ""  # where its state is the best of its rank: "" nowhere, "equal" ranks of all clients, "any" ranks
    keeps: bool = True  # what nobody trained stays as it is
    lossless: bool = False  # with what it carries into the next round, nothing is lost
    merged: int = 0  # components that nobody trains

    def build(self):
        return build("rule", self.name, self.params, relative_to=ROOT)

    def toy(self, ranks, **options):
        return Toy(self.build(), ranks, merged=self.merged, **options)


RULES = [
    Entry("fedit"),
    Entry("hetlora", keeps=False),
    Entry("hetlora", {"decay": 0.7, "regularisation": 0.1}, keeps=False),
    Entry("flexlora", best="equal", keeps=False),
    Entry("lora-fair"),
    Entry("fedex", merged=2),
    Entry("flora", merged=2, keeps=False),
    Entry("exact-mix", best="any"),
    Entry("exact-mix", {"residual_rank": 0}, best="any"),
    Entry("exact-mix", {"residual_rank": 100}, best="any", lossless=True),
    Entry("exact-mix", {"method": "randomised", "residual_rank": 2}, best="any"),
    Entry("exact-mix", {"residual_rank": 0}, best="any", merged=2),
    Entry("exact-mix", {"residual_rank": 100}, best="any", lossless=True, merged=1),
]


def title(entry):
    return "-".join(map(str, (entry.name, *entry.params.values(), *([f"merged{entry.merged}"] * bool(entry.merged)))))


@pytest.fixture(params=RULES, ids=title)
def entry(request):
    return request.param


def rounded(theta):
    """A broadcast that loses something, as an int8 downlink does."""
    return (np.round(theta * 512) / 512).astype(np.float32)


def test_every_built_in_rule_is_on_the_list():
    assert set(BUILTIN["rule"]) == {entry.name for entry in RULES}


@pytest.mark.parametrize("downlink", [lambda theta: theta, rounded])
def test_without_training_not_one_bit_changes(entry, downlink):
    toy = entry.toy(MIXED, downlink=downlink)
    toy.round(1, toy.updates(1))  # leaves a residual where there is one
    before, state = toy.theta.copy(), toy.mixing.state()
    toy.round(2, toy.updates(2, size=0.0))
    assert np.array_equal(toy.theta, before)
    after = toy.mixing.state()
    assert after.keys() == state.keys()
    assert all(np.array_equal(after[name], state[name]) for name in state)
    assert toy.mixing.losses is None


def test_no_reply_no_change(entry):
    toy = entry.toy(MIXED)
    before = toy.theta
    after = toy.round(1, [])
    assert np.array_equal(after, before)
    assert not np.shares_memory(after, before)


def test_the_order_of_arrival_changes_nothing(entry):
    first, second = entry.toy(MIXED), entry.toy(MIXED)
    for number in (1, 2):
        updates = first.updates(number)
        assert np.array_equal(first.round(number, updates), second.round(number, updates[::-1]))


def test_interrupted_and_resumed_ends_alike(entry):
    whole, cut = entry.toy(MIXED), entry.toy(MIXED)
    for number in (1, 2, 3):
        whole.round(number, whole.updates(number))
        state = {name: array.copy() for name, array in cut.mixing.state().items()}
        again = entry.toy(MIXED)
        again.theta = cut.theta
        again.mixing.restore(state)
        cut = again
        cut.begin(number)
        cut.mixing.accept(cut.updates(number)[0], 5.0)  # an attempt that came to nothing
        cut.round(number, cut.updates(number))
        assert np.array_equal(whole.theta, cut.theta)


@pytest.mark.parametrize("ranks", [MIXED, [RANK] * 5])
@pytest.mark.parametrize("trained", [False, True])
def test_every_component_can_be_trained_by_every_client(entry, ranks, trained):
    """With A and B both 0 a component has no gradient, ever."""
    toy = entry.toy(ranks, trained=trained)
    for number in (1, 2):
        toy.round(number, toy.updates(number)[:1])  # a single client of rank 2: few components are needed
    for layer in toy.layers:
        pair = layer.read(toy.theta)
        assert (pair.right.any(axis=1) | pair.left.any(axis=0)).all(), layer.name


def test_other_tensors_are_averaged_plainly(entry):
    toy, plain = entry.toy(MIXED), FedAvg()
    updates = toy.updates(1)
    plain.begin(toy.theta)
    for update in updates:
        plain.accept(update, update.weight)
    own = next(slice(t.offset, t.offset + t.size) for t in toy.layout.tensors if t.name == "classifier.bias")
    assert np.array_equal(toy.round(1, updates)[own], plain.finish()[own])


HELD = {"whole": (), "pruned": PRUNED, "gaps": [PRUNED[1], PRUNED[2], PRUNED[3], PRUNED[1], PRUNED[3]]}
"""What clients hold: everything, or parts of two layers; of the last, nobody holds some rows and some columns."""


def of(entries):
    """Each entry with whole clients, and where its rule takes them with pruned ones."""
    return [
        pytest.param(entry, masks, id=f"{title(entry)}-{held}")
        for entry in entries
        for held, masks in HELD.items()
        if not masks or entry.build().partial
    ]


@pytest.mark.parametrize(("entry", "masks"), of([entry for entry in RULES if entry.best]))
def test_the_state_is_the_best_of_its_rank(entry, masks):
    """Within 1 % of the floor of Eckart and Young, of the dense mean of what clients changed."""
    any_ranks = entry.best == "any"  # else also an exact broadcast: a mean of products takes up what it loses
    toy = entry.toy(MIXED, downlink=rounded, masks=masks) if any_ranks else entry.toy([RANK] * 5, masks=masks)
    updates = toy.updates(1)
    wanted = {layer.name: toy.product(toy.theta, layer) + toy.step(updates, layer) for layer in toy.layers}
    toy.round(1, updates)
    for layer in toy.layers:
        aim = wanted[layer.name]
        distance = np.linalg.norm(toy.product(toy.theta, layer) - aim)
        assert distance <= 1.01 * tail(aim, layer.rank) + 1e-6 * np.linalg.norm(aim), layer.name


@pytest.mark.parametrize(("entry", "masks"), of([entry for entry in RULES if entry.lossless]))
def test_with_what_it_carries_nothing_is_lost(entry, masks):
    """Over rounds: state and residual together are the sum of all that clients changed, to 1e-5 of it."""
    toy = entry.toy(MIXED, downlink=rounded, masks=masks)
    wanted = {layer.name: toy.product(toy.theta, layer) for layer in toy.layers}
    for number in (1, 2, 3):
        updates = toy.updates(number)
        wanted = {layer.name: wanted[layer.name] + toy.step(updates, layer) for layer in toy.layers}
        toy.round(number, updates)
        assert toy.mixing.losses.mix_discarded < 1e-5
    state = toy.mixing.state()
    for index, layer in enumerate(toy.layers):
        found = toy.product(toy.theta, layer)
        if f"mixing.left.{index}" in state:
            found = found + state[f"mixing.left.{index}"].astype(np.float64) @ state[f"mixing.right.{index}"]
        assert np.linalg.norm(found - wanted[layer.name]) <= 1e-5 * np.linalg.norm(wanted[layer.name]), layer.name


@pytest.mark.parametrize(("entry", "masks"), of(RULES))
def test_clients_that_change_nearly_nothing_leave_it_if_the_rule_says_so(entry, masks):
    """One value of one client by 1e-6: the rule is asked, and what it makes of the state is the state."""
    toy = entry.toy(MIXED, masks=masks)
    updates = toy.updates(1, size=0.0)
    updates[0].delta[[layer.b.offset for layer in toy.layers]] = 1e-6
    before = {layer.name: toy.product(toy.theta, layer) for layer in toy.layers}
    toy.round(1, updates)
    worst = max(
        np.linalg.norm(toy.product(toy.theta, layer) - before[layer.name]) / np.linalg.norm(before[layer.name])
        for layer in toy.layers
    )
    assert (worst < 1e-5) == entry.keeps


def test_what_small_clients_cannot_hold_stays_if_it_says_so(entry):
    """Twenty rounds of clients of rank 2 that change nearly nothing: is the rest of the state still there?"""
    toy = entry.toy([2, 2, 8])
    before = {layer.name: toy.product(toy.theta, layer) for layer in toy.layers}
    for number in range(1, 21):
        toy.round(number, toy.updates(number, size=1e-5)[:2])
    worst = max(
        np.linalg.norm(toy.product(toy.theta, layer) - before[layer.name]) / np.linalg.norm(before[layer.name])
        for layer in toy.layers
    )
    assert (worst < 0.01) == entry.keeps


@pytest.mark.parametrize(("entry", "masks"), of(RULES))
def test_the_losses_are_those_of_the_dense_products(entry, masks):
    toy = entry.toy(MIXED, downlink=rounded, masks=masks)
    updates = toy.updates(1)
    before = toy.theta
    steps = [layer.scaling * toy.step(updates, layer) for layer in toy.layers]
    after = toy.round(1, updates)
    moved = [layer.scaling * (toy.product(after, layer) - toy.product(before, layer)) for layer in toy.layers]
    apart = np.sqrt(sum(np.linalg.norm(a - b) ** 2 for a, b in zip(moved, steps, strict=True)))
    length = np.sqrt(sum(np.linalg.norm(step) ** 2 for step in steps))
    losses = toy.mixing.losses
    assert losses.mix_distance == pytest.approx(apart / length, rel=1e-3)
    gone = np.hypot(losses.mix_carried, losses.mix_discarded)  # what is not in the state is carried or discarded
    assert gone == pytest.approx(losses.mix_distance, rel=1e-3)
    assert (losses.mix_discarded > 1e-4) == (not entry.lossless)


def test_a_residual_of_an_old_basis_is_not_asked_for(entry):
    toy = entry.toy([2, 8])
    toy.begin(1)
    plan = Plan("toy", 1, 1, ClientId("c00"), 0, 1, 1, 0.1, rank=2, feedback=3)
    told = toy.mixing.plan(plan, ClientInfo(ClientId("c00"), NodeId(0), 10))
    assert told.feedback == (-1 if entry.build().turns_basis else 3)
    assert told.rank == 2
