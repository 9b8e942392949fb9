"""What every strategy promises. To put one under the contract, add a line to `STRATEGIES`.

A name is one that a run file could give: built in, `flower:Name`, or `path/file.py:Class` relative to the root of the
repository. The parameters should suit a toy whose deltas are about 1 in size. The tests themselves are those of
`fedpeft.contracts.StrategyContract`, which a plug-in outside this repository runs too.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from fedpeft.contracts import StrategyContract
from fedpeft.contracts.strategies.toy import info
from fedpeft.registry import BUILTIN, build
from fedpeft.strategies import FedAvg
from fedpeft.types import Update

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Entry:
    name: str
    params: dict = field(default_factory=dict)
    about: dict = field(default_factory=dict)  # attributes of the contract, where they differ

    def build(self):
        return build("strategy", self.name, self.params, relative_to=ROOT)


KEEPS = {"keeps_replies": True}  # as robust rules and all of Flower's do
STRATEGIES = [
    Entry("fedavg"),
    Entry("fedprox", {"mu": 0.1}),
    Entry("fedavgm", {"momentum": 0.5, "learning_rate": 0.5}, {"rounds": 80}),
    Entry("fedbuff", {"momentum": 0.5, "learning_rate": 0.5}, {"rounds": 80}),
    Entry("fedadam", {"learning_rate": 0.1}, {"rounds": 400}),
    Entry("fedyogi", {"learning_rate": 0.1}, {"rounds": 400}),
    Entry("fedadagrad", {"learning_rate": 0.5}, {"rounds": 400}),
    Entry("scaffold", {"learning_rate": 0.5}),
    Entry("fedsa"),
    Entry("ffa"),
    Entry("rolora"),
    Entry("median", about=KEEPS),
    Entry("trimmed-mean", {"share": 0.1}, KEEPS),
    Entry("sign-vote", about={"settles": False}),
    Entry("flower:FedAvg", about=KEEPS),
    Entry("flower:FedProx", {"proximal_mu": 0.1}, KEEPS),
    Entry("flower:FedAvgM", {"server_momentum": 0.5, "server_learning_rate": 0.5}, {"rounds": 80, **KEEPS}),
    Entry("flower:FedAdam", {"eta": 0.1}, {"rounds": 400, **KEEPS}),
    Entry("flower:FedYogi", {"eta": 0.1}, {"rounds": 400, **KEEPS}),
    Entry("flower:FedAdagrad", {"eta": 0.5}, {"rounds": 400, **KEEPS}),
    Entry("flower:FedMedian", about={**KEEPS, "copies": 2}),
    Entry("flower:FedTrimmedAvg", {"beta": 0.1}, {**KEEPS, "copies": 2}),
    Entry("flower:Krum", {"num_malicious_nodes": 1}, {**KEEPS, "copies": 2, "settles": False}),
    Entry("flower:MultiKrum", {"num_malicious_nodes": 1, "num_nodes_to_select": 4}, {**KEEPS, "copies": 2}),
    Entry("flower:Bulyan", about={**KEEPS, "copies": 5}),
    Entry("flower:QFedAvg", {"client_learning_rate": 1.0}, {**KEEPS, "rounds": 100}),
    Entry("strategies/fair_sampling.py:FairSampling", about={"uniform": False}),
    Entry("strategies/extrapolation.py:FedExP", {"epsilon": 1.0}),
    Entry("strategies/elastic_net.py:FedElasticNet", {"l1": 0.1, "mu": 0.1}),
]


def contract(entry):
    """The contract's tests, on one strategy."""
    title = f"Test_{entry.name.rsplit(':', 1)[-1]}"
    title += "_of_flower" if entry.name.startswith("flower:") else ""
    methods = {"build": lambda self: entry.build(), "__module__": __name__, **entry.about}
    return title, type(title, (StrategyContract,), methods)


globals().update(map(contract, STRATEGIES))


def test_every_built_in_strategy_is_on_the_list():
    assert set(BUILTIN["strategy"]) <= {entry.name for entry in STRATEGIES}


def test_every_strategy_of_the_gallery_is_on_the_list():
    files = {f"strategies/{path.name}" for path in (ROOT / "strategies").glob("*.py")}
    assert files == {entry.name.split(":")[0] for entry in STRATEGIES if ".py:" in entry.name}


# --- the contract itself: each of its tests fails on a strategy that breaks it ---------------------------------------


class Sums(FedAvg):
    """Adds up as replies come: the bits depend on their order."""

    def begin(self, theta):
        self.theta, self.total, self.weight = theta, theta * 0, 0.0

    def accept(self, update, weight):
        self.total = self.total + update.delta * type(self.total[0])(weight)
        self.weight += weight

    def finish(self):
        return self.theta + self.total / type(self.total[0])(self.weight) if self.weight else self.theta.copy()


class Writes(FedAvg):
    def finish(self):
        theta, mean = self._round()
        theta += mean.mean() if mean.count else 0
        return theta


class Forgets(FedAvg):
    """Momentum that `state` does not tell of."""

    velocity = 0.0

    def step(self, theta, delta):
        self.velocity = self.velocity * theta.dtype.type(0.5) + delta
        return theta + self.velocity


class Keeps(FedAvg):
    """Every update it was given, for ever."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def accept(self, update, weight):
        self.seen.append(update.delta.copy())
        super().accept(update, weight)


class Views(FedAvg):
    """Keeps no copy of a delta that it needs at the end."""

    def begin(self, theta):
        super().begin(theta)
        self.updates = []

    def accept(self, update, weight):
        self.updates.append((update, weight))

    def finish(self):
        for update, weight in self.updates:
            super().accept(Update(update.client, update.round, update.delta, weight), weight)
        return super().finish()


class First(FedAvg):
    """Asks whoever comes first."""

    def select(self, available, count, seed):
        return [one.client for one in available][:count]


class Counts(FedAvg):
    """Asks those whom it has asked least often, and counts attempts that nobody will remember."""

    def __init__(self):
        super().__init__()
        self.asked = {}

    def select(self, available, count, seed):
        order = sorted(super().select(available, len(available), seed), key=lambda one: self.asked.get(one, 0))
        self.asked |= {client: self.asked.get(client, 0) + 1 for client in order[:count]}
        return order[:count]

    def state(self):
        return {"asked": np.array([self.asked.get(f"c{k:02d}", 0) for k in range(20)])}

    def restore(self, state):
        arrays = self.read_state(state, {"asked": np.int64})
        self.asked = {f"c{k:02d}": int(count) for k, count in enumerate(arrays["asked"])} if arrays else {}


class Deaf(FedAvg):
    """Weighs a stale update as if it were fresh."""

    def accept(self, update, weight):
        super().accept(update, update.weight)


class Meddles(FedAvg):
    def plan(self, plan, client):
        from dataclasses import replace

        return replace(super().plan(plan, client), steps=1)


class Explodes(FedAvg):
    """Takes whatever the guard lets pass, and squares it."""

    def accept(self, update, weight):
        if abs(update.delta).max() > 1e9:
            raise OverflowError("too large")
        super().accept(update, weight)


@pytest.mark.parametrize(
    ("broken", "test"),
    [
        (Sums, "order_of_arrival_does_not_matter"),
        (Writes, "what_is_passed_in_is_not_modified_and_not_shared"),
        (Forgets, "an_interruption_leaves_no_trace"),
        (Forgets, "restoring_nothing_is_starting_anew"),
        (Counts, "a_run_that_was_killed_after_a_short_attempt_goes_on_as_if_it_was_not"),
        (Deaf, "a_discounted_update_counts_for_less"),
        (Keeps, "memory_does_not_grow_with_the_cohort"),
        (Views, "a_caller_may_reuse_its_buffer"),
        (First, "a_cohort_is_seeded_distinct_and_available"),
        (First, "a_cohort_does_not_depend_on_the_order_of_the_available"),
        (First, "each_client_is_asked_as_often_as_any_other"),
        (Meddles, "a_plan_keeps_what_the_strategy_does_not_own"),
        (Explodes, "what_a_lax_guard_lets_pass_never_ends_the_round"),
    ],
)
def test_a_strategy_that_breaks_the_contract_is_found_out(broken, test):
    subject = type("Subject", (StrategyContract,), {"build": lambda self: broken()})()
    with pytest.raises((AssertionError, ValueError, OverflowError)):
        getattr(subject, f"test_{test}")()


def test_the_toy_s_clients_have_names_that_sort():
    assert [info(index).client for index in (0, 3, 11)] == ["c00", "c03", "c11"]
