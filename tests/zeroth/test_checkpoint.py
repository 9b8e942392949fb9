"""θ_e in the place of old coefficients: named by a chain of hashes, and the same model bit by bit."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpeft.registry import build
from fedpeft.zeroth.blocks import BlockPool
from fedpeft.zeroth.checkpoint import BEYOND, LEAST, chain, past_of, stand_in
from fedpeft.zeroth.coordinates import LARGEST, Coordinates
from fedpeft.zeroth.replica import Replica
from fedpeft.zeroth.sparse import SparsePool

K, D, E = 32, 300, 4
START = np.random.default_rng(0).standard_normal(D).astype(np.float32)
COORDINATES = Coordinates(size=K, epochs=E, refresh=2, unit=1e-4, directions=1, seed=5)


def replica(pool="hadamard", temperature=None):
    own = build("pool", pool, {"size": K, "seed": 5})
    return Replica(START.copy(), own, replace(COORDINATES, temperature=temperature), pool)


def some(seed, first=0):
    values = np.random.default_rng(seed).integers(-900, 900, first + E * K)
    values[:first] = np.abs(values[:first])
    return values.astype(np.float32)


def by_checkpoint(coefficients, epochs, first=0):
    """The vector of who holds θ_e."""
    own = coefficients.copy()
    rows = coefficients[first:].astype(np.int64).reshape(-1, K)
    own[first : first + epochs * K] = stand_in(chain(rows[:epochs]), epochs * K)
    return own


@given(name=st.binary(min_size=32, max_size=32), size=st.integers(LEAST, 40), epochs=st.integers(1, 3), data=st.data())
def test_a_name_is_read_back_whatever_follows_it(name, size, epochs, data):
    rest = data.draw(st.lists(st.integers(-LARGEST, LARGEST), min_size=size, max_size=size))
    vector = np.concatenate([stand_in(name, epochs * size), np.array(rest)]).astype(np.float32)
    assert past_of(vector.astype(np.int64), size) == (epochs, name)


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=64))
def test_what_is_no_name_is_none(values):
    assert past_of(np.array(values), 16) == (0, b"")


def test_a_name_that_was_damaged_is_none():
    marks = stand_in(bytes(range(32)), 2 * K)
    for place in (0, 7, K + 3):
        other = marks.copy()
        other[place] += 1
        assert past_of(other, K)[0] == 0


def test_the_chain_goes_on_from_any_link():
    rows = np.random.default_rng(1).integers(-9, 9, (5, K))
    assert chain(rows[3:], chain(rows[:3])) == chain(rows)
    assert chain(rows[:0]) == b""
    assert chain(rows[[1, 0, 2, 3, 4]]) != chain(rows)


@pytest.mark.parametrize("pool", ["hadamard", "independent", "fresh", "near-gaussian"])
@pytest.mark.parametrize("temperature", [None, 2.0])
@pytest.mark.parametrize("epochs", [1, 3, 4])
def test_who_begins_from_it_has_the_bits_of_who_replays(pool, temperature, epochs):
    first = 0 if temperature is None else K
    coefficients = some(3, first)
    own, begun = replica(pool, temperature), by_checkpoint(coefficients, epochs, first)
    theta = replica(pool, temperature).after(coefficients, epochs)
    own.begin_from(begun, theta.copy())
    assert own.digest(begun) == replica(pool, temperature).digest(coefficients)
    later = coefficients.copy()
    later[-1] += 5 * (epochs < E)
    assert own.digest(by_checkpoint(later, epochs, first)) == replica(pool, temperature).digest(later)


def test_parts_of_the_weights_and_blocks():
    def narrow():
        inner = BlockPool(build("pool", "hadamard", {"size": K // 4, "seed": 5}), 4, D)
        mask = np.packbits(np.abs(START) < 0.5, bitorder="little")
        return Replica(START.copy(), SparsePool(inner, mask), COORDINATES, "parts")

    own, begun = narrow(), by_checkpoint(some(3), 2)
    own.begin_from(begun, narrow().after(some(3), 2))
    assert own.digest(begun) == narrow().digest(some(3))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["theta", "after", "begun"]), st.integers(0, 4), st.integers(1, 3)), max_size=8)
)
def test_what_was_asked_before_changes_no_bit(asked):
    walked = replica()
    for what, seed, epochs in asked:
        coefficients = some(seed)
        if what == "after":
            expected = replica().theta(coefficients[: epochs * K])
            assert (walked.after(coefficients, epochs) == expected).all()
            continue
        begun = by_checkpoint(coefficients, epochs) if what == "begun" else coefficients
        if what == "begun":
            walked.begin_from(begun, replica().after(coefficients, epochs))
        assert (walked.theta(begun) == replica().theta(coefficients)).all()


def test_the_next_epoch_costs_one_pass():
    """Nobody replays what it has: the end of an epoch is the beginning of the next one."""
    own, passes = replica(), []
    combine = own.pool.combine
    own.pool.combine = lambda epoch, *rest: (passes.append(epoch), combine(epoch, *rest))  # type: ignore[method-assign]
    coefficients = np.zeros(E * K, dtype=np.float32)
    for epoch in range(E):
        coefficients[epoch * K] = 5 + epoch
        own.theta(coefficients)
        own.after(coefficients, epoch)
    assert passes == [0, 1, 2, 3]


def test_an_unknown_checkpoint_is_refused_by_name():
    own = replica()
    own.begin_from(by_checkpoint(some(1), 2), START)
    with pytest.raises(
        ValueError, match=f"checkpoint {chain(some(2).astype(int).reshape(E, K)[:2]).hex()[:16]}, which"
    ):
        own.theta(by_checkpoint(some(2), 2))


def test_only_a_name_may_be_beyond_the_largest_coefficient():
    COORDINATES.check(by_checkpoint(some(1), 3))
    broken = by_checkpoint(some(1), 3)
    broken[1] += 2
    for wrong in (broken, np.full(E * K, BEYOND, dtype=np.float32) * 1.5, np.full(E * K, np.nan, dtype=np.float32)):
        with pytest.raises(ValueError, match="a coefficient is"):
            COORDINATES.check(wrong)
    late = by_checkpoint(some(1), 2)
    late[3 * K] = LARGEST + 1
    with pytest.raises(ValueError, match="a coefficient is"):
        COORDINATES.check(late)
