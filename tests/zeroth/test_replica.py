"""The replica: whatever the way there, the same coefficients are the same model, bit by bit."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from fedpeft.types import ClientId, Plan
from fedpeft.zeroth.coordinates import LARGEST, Coordinates
from fedpeft.zeroth.hadamard import HadamardPool
from fedpeft.zeroth.pools import step_of
from fedpeft.zeroth.replica import Replica, fingerprint

K, D = 32, 300
COORDINATES = Coordinates(size=K, epochs=3, refresh=2, unit=1e-4, directions=1, seed=5)
START = np.random.default_rng(0).standard_normal(D).astype(np.float32)


def replica():
    return Replica(START, HadamardPool(K, 5), COORDINATES, "hadamard")


def some(seed, epochs=3):
    values = np.random.default_rng(seed).integers(-900, 900, (3, K))
    values[epochs:] = 0
    return values.reshape(-1).astype(np.float32)


def by_hand(coefficients):
    """θ ← fl(θ + fl(c S_e)), epoch by epoch, direction by direction."""
    theta, pool = START.copy(), HadamardPool(K, 5)
    for epoch, own in enumerate(coefficients.astype(np.int64).reshape(3, K)):
        total = sum(int(a) * pool.direction(epoch, j, 0, D).values().astype(np.int64) for j, a in enumerate(own))
        theta = theta + step_of(total, COORDINATES.unit)
    return theta


@pytest.mark.parametrize("epochs", [0, 1, 2, 3])
def test_it_is_the_sum_epoch_by_epoch(epochs):
    assert (replica().theta(some(1, epochs)) == by_hand(some(1, epochs))).all()


def test_what_was_asked_before_changes_no_bit():
    walked = replica()
    for seed in (1, 2, 3):
        for epochs in (1, 2, 3, 1):
            assert (walked.theta(some(seed, epochs)) == by_hand(some(seed, epochs))).all()


def test_an_older_epoch_may_still_move():
    """A late update belongs to the epoch that it was measured in."""
    walked, late = replica(), some(1)
    walked.theta(late)
    late[3] += 40
    assert (walked.theta(late) == by_hand(late)).all()


def test_after_ten_thousand_steps_it_is_what_a_replay_of_the_log_gives():
    walked, coefficients, log = replica(), np.zeros(3 * K, dtype=np.float32), []
    draw = np.random.default_rng(4)
    for step in range(10_000):
        place, move = int(draw.integers(0, 3 * K)), float(draw.integers(-50, 50))
        log.append((place, move))
        coefficients[place] += move
        if step % 1000 == 999:
            replayed = np.zeros(3 * K, dtype=np.float32)
            for other, by in log:
                replayed[other] += by
            assert walked.digest(coefficients) == replica().digest(replayed)


def test_the_digest_is_the_hash_of_the_model():
    own = replica()
    assert own.digest(some(1)) == hashlib.sha256(by_hand(some(1)).astype("<f4").tobytes()).hexdigest()
    assert fingerprint(own.digest(some(1))) == int(own.digest(some(1))[:12], 16) < 2**48


def test_the_identity_tells_bases_apart():
    moved = START.copy()
    moved[7] = np.nextafter(moved[7], np.float32(9))
    others = [
        Replica(moved, HadamardPool(K, 5), COORDINATES, "hadamard"),
        Replica(START, HadamardPool(K, 6), COORDINATES, "hadamard"),
        Replica(START, HadamardPool(K, 5), COORDINATES, "another ε"),
    ]
    assert len({other.identity for other in others} | {replica().identity}) == 4


def test_sums_that_would_not_be_exact_are_refused():
    huge = np.zeros(3 * K, dtype=np.float32)
    huge[:] = 2.0**27
    with pytest.raises(ValueError, match="must be below 2\\^31"):
        replica().theta(huge)


# --- coordinates ---


def plan(**more):
    fields = {"round": 1, "client": ClientId("c00"), "steps": 50, **more}
    return Plan(run="r", attempt=1, seed=1, batch_size=1, learning_rate=0.1, **fields)


@pytest.mark.parametrize(("round_number", "epoch"), [(1, 0), (2, 0), (3, 1), (6, 2)])
def test_rounds_and_their_epochs(round_number, epoch):
    assert COORDINATES.epoch(round_number) == epoch
    places = COORDINATES.drawn(plan(round=round_number))
    assert ((places >= epoch * K) & (places < (epoch + 1) * K)).all()


def test_draws_follow_from_round_and_client_alone():
    first = COORDINATES.drawn(plan())
    assert (COORDINATES.drawn(replace(plan(), attempt=7, seed=99)) == first).all()
    assert (COORDINATES.drawn(plan(steps=20)) == first[:20]).all()
    for other in (plan(round=2), plan(client=ClientId("c01"))):
        assert not (COORDINATES.drawn(other) == first).all()
    assert not (replace(COORDINATES, seed=6).drawn(plan()) == first).all()


def test_draws_that_a_round_shares():
    shared = replace(COORDINATES, shared=True)
    assert (shared.drawn(plan()) == shared.drawn(plan(client=ClientId("c09")))).all()
    assert not (shared.drawn(plan()) == shared.drawn(plan(round=2))).all()
    assert shared.layout("b").digest != COORDINATES.layout("b").digest


def test_draws_are_uniform():
    counts = np.bincount(COORDINATES.drawn(plan(steps=64_000)), minlength=K)
    assert np.abs(counts[:K] - 2000).max() < 5 * np.sqrt(2000)


def test_several_directions_a_step():
    assert replace(COORDINATES, directions=3).drawn(plan()).shape == (150,)


def test_what_scalars_add():
    moved = COORDINATES.moved(np.array([35, 40, 35]), np.array([1.0, 2.0, 0.5], dtype=np.float32), 0.01)
    assert moved.shape == (3 * K,)
    np.testing.assert_allclose(moved[[35, 40]], [-150.0, -200.0], rtol=1e-6)
    assert np.count_nonzero(moved) == 2


def test_the_layout_tells_all_that_both_sides_must_share():
    digests = {COORDINATES.layout("base").digest, COORDINATES.layout("other").digest}
    for change in ({"size": 64}, {"refresh": 3}, {"unit": 2e-4}, {"directions": 2}, {"seed": 6}):
        digests.add(replace(COORDINATES, **change).layout("base").digest)
    assert len(digests) == 7
    assert COORDINATES.layout("base").size == 3 * K
    assert replace(COORDINATES, epochs=4).layout("base").digest in digests  # a run that goes on for more rounds


@pytest.mark.parametrize(
    ("value", "count", "message"),
    [(2.0**24, 1, "at most 16777215 is exact"), (float("nan"), 1, "nan"), (2.0**23, 256, "add up to 2147483648")],
)
def test_coefficients_that_no_replica_could_be_made_of(value, count, message):
    coordinates = replace(COORDINATES, size=256)
    wrong = np.zeros(3 * 256, dtype=np.float32)
    coordinates.check(wrong + LARGEST // 256)
    wrong[256 : 256 + count] = value
    with pytest.raises(ValueError, match=message):
        coordinates.check(wrong)


def test_fractions_of_a_unit_are_nobody_s_model():
    whole = some(1)
    assert (replica().theta(whole + 0.4) == replica().theta(whole)).all()


def test_fewer_epochs_are_zeros_behind():
    assert (replica().theta(some(1, 2)[: 2 * K]) == replica().theta(some(1, 2))).all()
