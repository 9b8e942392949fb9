"""What every strategy promises. To put one under this contract, add a line to `STRATEGIES`.

A name is one that a run file could give: built in, or `path/file.py:Class` relative to the root of the repository.
The parameters should suit a toy whose deltas are about 1 in size.
"""

import tracemalloc
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from fedpeft.aggregation import UpdateGuard
from fedpeft.codecs.int8 import Int8
from fedpeft.errors import ClientFault, PluginError
from fedpeft.registry import BUILTIN, build, names
from fedpeft.types import ClientId, ClientInfo, NodeId, Plan, Update

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Entry:
    name: str
    params: dict = field(default_factory=dict)
    rounds: int = 40  # that the toy needs to converge
    keeps_replies: bool = False  # the rule needs all replies at once, and says so
    uniform: bool = True  # samples clients uniformly and independently in each round

    def build(self):
        return build("strategy", self.name, self.params, relative_to=ROOT)


STRATEGIES = [
    Entry("fedavg"),
    Entry("fedprox", {"mu": 0.1}),
    Entry("fedavgm", {"momentum": 0.5, "learning_rate": 0.5}, rounds=80),
    Entry("fedadam", {"learning_rate": 0.1}, rounds=400),
    Entry("strategies/trimmed_mean.py:TrimmedMean", {"share": 0.1}, keeps_replies=True),
    Entry("strategies/fair_sampling.py:FairSampling", uniform=False),
]

D = 8
THETA = np.linspace(-1, 1, D).astype(np.float32)


@pytest.fixture(params=STRATEGIES, ids=lambda entry: entry.name.rsplit(":", 1)[-1])
def entry(request):
    return request.param


def info(index, examples=5):
    return ClientInfo(ClientId(f"c{index:02d}"), NodeId(index), examples)


def honest(index, number=1):
    """A delta near 1 that differs from client to client and from round to round."""
    noise = np.random.default_rng([index, number]).normal(0, 0.1, D)
    return Update(ClientId(f"c{index:02d}"), number, (1 + noise).astype(np.float32), weight=1 + index % 5)


def play(strategy, theta, updates):
    """One round as the coordinator plays it, after the guard. Returns the new θ."""
    strategy.begin(theta)
    for update in updates:
        strategy.accept(update, update.weight)
    return strategy.finish()


def play_rounds(strategy, theta, numbers):
    for number in numbers:
        theta = play(strategy, theta, [honest(index, number) for index in range(5)])
    return theta


def assert_same_bits(left, right):
    assert left.dtype == right.dtype == np.float32
    assert left.shape == right.shape
    assert left.tobytes() == right.tobytes()


def test_every_built_in_strategy_is_on_the_list():
    assert set(BUILTIN["strategy"]) <= {entry.name for entry in STRATEGIES}


def test_every_strategy_of_the_gallery_is_on_the_list():
    files = {f"strategies/{path.name}" for path in (ROOT / "strategies").glob("*.py")}
    assert files == {entry.name.split(":")[0] for entry in STRATEGIES if ".py:" in entry.name}


# --- folding ---------------------------------------------------------------------------------------------------------


def test_three_quadratic_clients_converge_to_their_mean(entry):
    """F_k(θ) = ½‖θ − c_k‖² with centres c, c + a, c − a: weighted mean, plain mean and median are all c."""
    rng = np.random.default_rng(5)
    centre, spread = rng.normal(0, 1, D), rng.normal(0, 1, D)
    centres = [centre, centre + spread, centre - spread]
    strategy, theta = entry.build(), np.zeros(D, dtype=np.float32)
    for number in range(entry.rounds):
        updates = [
            Update(ClientId(f"c{k}"), number, (0.5 * (c - theta)).astype(np.float32), weight)
            for k, (c, weight) in enumerate(zip(centres, [20, 7, 7], strict=True))
        ]
        theta = play(strategy, theta, updates)
    np.testing.assert_allclose(theta, centre, atol=1e-3)


def test_a_round_moves_towards_what_all_clients_want(entry):
    theta = play(entry.build(), THETA, [honest(index) for index in range(5)])
    assert theta.dtype == np.float32
    assert theta.shape == (D,)
    assert np.all(theta > THETA)


def test_codes_are_folded_as_the_delta_that_they_stand_for(entry):
    """A strategy may fold codes or read the decoded delta: nobody can tell which."""
    codec = Int8()
    coded, decoded = [], []
    for index in range(9):
        update = honest(index)
        view = codec.view(codec.encode(update.delta), D)
        coded.append(Update.of_codes(update.client, update.round, view, update.weight))
        decoded.append(replace(update, delta=view.decode()))
    assert_same_bits(play(entry.build(), THETA, coded), play(entry.build(), THETA, decoded))


def test_order_of_arrival_does_not_matter(entry):
    rng = np.random.default_rng(3)
    scales = 10.0 ** rng.integers(-6, 3, 9)  # so that a floating-point sum would depend on the order
    deltas = [(scale * rng.normal(0, 1, D)).astype(np.float32) for scale in scales]
    theta = THETA.copy()
    theta[0] = -0.0
    for k, delta in enumerate(deltas):
        delta[0] = 0.0 if k == 0 else -0.0  # equal, but not the same bits
    updates = [Update(ClientId(f"c{k}"), 1, delta, weight=1 + 0.37 * k) for k, delta in enumerate(deltas)]
    first = play(entry.build(), theta, updates)
    for _ in range(10):
        assert_same_bits(first, play(entry.build(), theta, [updates[k] for k in rng.permutation(9)]))


def test_an_interruption_leaves_no_trace(entry):
    strategy = entry.build()
    middle = play_rounds(strategy, THETA, range(1, 4))
    saved = strategy.state()
    uninterrupted = play_rounds(strategy, middle, range(4, 7))
    resumed = entry.build()
    resumed.restore(saved)
    assert_same_bits(uninterrupted, play_rounds(resumed, middle, range(4, 7)))
    assert strategy.state().keys() == resumed.state().keys()
    for name, array in strategy.state().items():
        np.testing.assert_array_equal(array, resumed.state()[name])


def test_the_cohorts_after_an_interruption_are_the_same(entry):
    available = [info(index) for index in range(7)]
    strategy = entry.build()
    for seed in range(3):
        strategy.select(available, 3, seed)
    resumed = entry.build()
    resumed.restore(strategy.state())
    for seed in range(3, 9):
        assert strategy.select(available, 3, seed) == resumed.select(available, 3, seed)


def test_a_saved_state_is_a_copy(entry):
    strategy = entry.build()
    strategy.select([info(index) for index in range(5)], 3, seed=1)
    theta = play_rounds(strategy, THETA, [1, 2])
    saved = strategy.state()
    kept = {name: array.copy() for name, array in saved.items()}
    resumed = entry.build()
    resumed.restore(saved)
    for array in saved.values():
        array[...] = 0  # must reach neither the strategy that handed it out nor the one that took it in
    uninterrupted, fresh = play_rounds(strategy, theta, [3]), entry.build()
    assert_same_bits(uninterrupted, play_rounds(resumed, theta, [3]))
    fresh.restore(kept)
    assert_same_bits(uninterrupted, play_rounds(fresh, theta, [3]))
    for name, array in strategy.state().items():
        np.testing.assert_array_equal(array, resumed.state()[name])


def test_a_saved_state_holds_plain_numbers(entry):
    strategy = entry.build()
    strategy.select([info(index) for index in range(5)], 3, seed=1)
    play_rounds(strategy, THETA, [1])
    for name, array in strategy.state().items():
        assert isinstance(name, str)
        assert array.dtype.kind in "fiu"


def test_a_foreign_state_is_refused(entry):
    with pytest.raises(PluginError, match="cannot go on") as error:
        entry.build().restore({"momentum of another rule": np.zeros(D, dtype=np.float32)})
    assert error.value.code == "strategy.state"


def test_zero_deltas_leave_theta_unchanged(entry):
    zeros = [Update(ClientId(f"c{k}"), 1, np.zeros(D, dtype=np.float32), weight=3) for k in range(4)]
    np.testing.assert_array_equal(play(entry.build(), THETA, zeros), THETA)


def test_a_round_without_updates_leaves_theta_and_state_unchanged(entry):
    strategy = entry.build()
    theta = play_rounds(strategy, THETA, [1, 2])
    before = strategy.state()
    assert_same_bits(play(strategy, theta, []), theta)
    after = strategy.state()
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_an_attempt_that_was_given_up_leaves_no_trace(entry):
    strategy = entry.build()
    strategy.begin(THETA)
    strategy.accept(honest(9), 5)  # too few: the coordinator starts the round again
    updates = [honest(index) for index in range(3)]
    assert_same_bits(play(strategy, THETA, updates), play(entry.build(), THETA, updates))


def test_what_is_passed_in_is_not_modified_and_not_shared(entry):
    theta, update = THETA.copy(), honest(0)
    theta.flags.writeable = update.delta.flags.writeable = False
    strategy = entry.build()
    for result in (play(strategy, theta, [update]), play(strategy, theta, [])):
        assert not np.shares_memory(result, theta)
        assert not np.shares_memory(result, update.delta)
        assert result.flags.writeable


def test_a_caller_may_reuse_its_buffer(entry):
    """Unless a rule keeps its own copy, a decoder that writes each delta into one buffer would spoil the round."""
    updates = [honest(index) for index in range(4)]
    strategy, buffer = entry.build(), np.empty(D, dtype=np.float32)
    strategy.begin(THETA)
    for update in updates:
        buffer[:] = update.delta
        strategy.accept(Update(update.client, 1, buffer, update.weight), update.weight)
    assert_same_bits(strategy.finish(), play(entry.build(), THETA, updates))


def test_memory_does_not_grow_with_the_cohort(entry):
    size, replies = 100_000, 200
    strategy, delta = entry.build(), np.full(100_000, 1e-3, dtype=np.float32)
    theta = np.zeros(size, dtype=np.float32)
    play(strategy, theta, [Update(ClientId("c00"), 1, delta, 1)])  # state is allocated here
    tracemalloc.start()
    try:
        strategy.begin(theta)
        for index in range(replies):
            strategy.accept(Update(ClientId(f"c{index}"), 2, delta + np.float32(0), 1), 1)
        held, _ = tracemalloc.get_traced_memory()
        strategy.finish()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    if entry.keeps_replies:
        assert replies * delta.nbytes <= held <= 1.05 * replies * delta.nbytes
        assert peak <= held + 8_000_000
    else:
        assert held <= 6 * delta.nbytes  # sums of 16 bytes an element, and a margin
        assert peak <= 16 * delta.nbytes


# --- asking ----------------------------------------------------------------------------------------------------------


def test_a_cohort_is_seeded_distinct_and_available(entry):
    available = [info(index) for index in range(20)]
    cohorts = [entry.build().select(available, 6, seed) for seed in range(30)]
    assert cohorts == [entry.build().select(available, 6, seed) for seed in range(30)]
    assert len({tuple(cohort) for cohort in cohorts}) > 25
    for cohort in cohorts:
        assert len(set(cohort)) == 6
        assert set(cohort) <= {one.client for one in available}


def test_a_cohort_does_not_depend_on_the_order_of_the_available(entry):
    available = [info(index) for index in range(20)]
    assert entry.build().select(available, 6, seed=4) == entry.build().select(available[::-1], 6, seed=4)


def test_all_are_asked_when_fewer_are_there(entry):
    available = [info(index) for index in range(3)]
    assert sorted(entry.build().select(available, 5, seed=0)) == ["c00", "c01", "c02"]
    assert entry.build().select([], 5, seed=0) == []
    assert entry.build().select(available, 0, seed=0) == []
    with pytest.raises(ValueError, match="count = -1"):
        entry.build().select(available, -1, seed=0)


def test_each_client_is_asked_as_often_as_any_other(entry):
    available, rounds = [info(index) for index in range(10)], 1000
    strategy = entry.build()
    counts = Counter(client for seed in range(rounds) for client in strategy.select(available, 3, seed))
    expected = rounds * 0.3
    slack = 5 * (rounds * 0.3 * 0.7) ** 0.5 if entry.uniform else 1  # five standard deviations of a uniform draw
    assert len(counts) == 10
    assert all(abs(count - expected) <= slack for count in counts.values())


def test_a_plan_keeps_what_the_strategy_does_not_own(entry):
    plan = Plan("run", 4, 2, ClientId("c03"), 77, 9, 16, 1e-3, weight_decay=0.1, rank=4, codec="fp16", version=3)
    strategy = entry.build()
    planned = strategy.plan(plan, info(3))
    assert planned.objective == strategy.objective
    assert planned.objective in names("objective") or ".py:" in planned.objective
    assert dict(planned.objective_params) == dict(strategy.objective_params)
    for name in Plan.__slots__:
        if name not in {"objective", "objective_params"}:
            assert getattr(planned, name) == getattr(plan, name)


# --- one bad client of ten -------------------------------------------------------------------------------------------

BAD = ClientId("c09")
ONES = np.ones(D, dtype=np.float32)
BAD_UPDATES = {
    "all NaN": (ONES * np.nan, 5, "guard.not-finite"),
    "all +inf": (ONES * np.inf, 5, "guard.not-finite"),
    "1e30": (ONES * np.float32(1e30), 5, "guard.norm"),
    "claims 1e15 examples": (ONES * np.float32(5), 1e15, "guard.weight"),
    "claims -89 examples": (ONES, -89, "guard.weight"),
    "claims NaN examples": (ONES, float("nan"), "guard.weight"),
    "claims no examples": (ONES, 0, "guard.weight"),
    "one element": (ONES[:1], 5, "guard.shape"),
    "one element more": (np.ones(D + 1, dtype=np.float32), 5, "guard.shape"),
    "float64": (ONES.astype(np.float64), 5, "guard.shape"),
    "two dimensions": (ONES.reshape(1, D), 5, "guard.shape"),
}


def guarded_round(strategy, theta, updates, max_norm=100.0, examples=5):
    """One round as the coordinator plays it, guard included. Returns the new θ and the faults."""
    guard, faults = UpdateGuard(D, max_norm=max_norm, max_examples=1e300), []
    strategy.begin(theta)
    for update in updates:
        try:
            strategy.accept(update, guard.check(update, info(int(update.client[1:]), examples)).weight)
        except ClientFault as fault:
            faults.append(fault)
    return strategy.finish(), faults


@pytest.mark.parametrize("case", BAD_UPDATES)
def test_one_bad_client_of_ten_costs_only_itself(entry, case):
    delta, weight, code = BAD_UPDATES[case]
    updates = [honest(index) for index in range(9)]
    expected, none = guarded_round(entry.build(), THETA, updates)
    assert none == []
    for position in (0, 4, 9):
        bad = Update(BAD, 1, delta, weight)
        theta, (fault,) = guarded_round(entry.build(), THETA, [*updates[:position], bad, *updates[position:]])
        assert_same_bits(theta, expected)
        assert fault.code == code
        assert f"client {BAD}" in fault.message


@pytest.mark.parametrize(
    ("delta", "weight"), [(ONES * np.float32(1e25), 5), (ONES, 1e200), (ONES, 1e-300), (ONES * np.float32(1e-45), 5)]
)
def test_what_a_lax_guard_lets_pass_never_ends_the_round(entry, delta, weight):
    """Folded in, or refused by name by the strategy itself, as if it had sent nothing; in either case θ is finite."""
    updates = [honest(index) for index in range(9)]
    extra = Update(BAD, 1, delta, weight)
    theta, faults = guarded_round(entry.build(), THETA, [*updates, extra], max_norm=1e300, examples=10**300)
    assert np.isfinite(theta).all()
    if faults:
        assert_same_bits(theta, play(entry.build(), THETA, updates))
        assert f"client {BAD}" in faults[0].message


@pytest.mark.parametrize("case", BAD_UPDATES)
def test_a_bad_client_in_round_two_of_three_leaves_no_trace(entry, case):
    delta, weight, _ = BAD_UPDATES[case]
    results = []
    for extra in ([], [Update(BAD, 2, delta, weight)]):
        strategy, theta = entry.build(), THETA
        for number in (1, 2, 3):
            updates = [honest(index, number) for index in range(9)]
            theta, faults = guarded_round(strategy, theta, [*(extra if number == 2 else []), *updates])
            assert len(faults) == (len(extra) if number == 2 else 0)
        results.append(theta)
    assert_same_bits(*results)
