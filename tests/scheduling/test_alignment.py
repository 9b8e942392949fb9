"""What an update adds to what the others want: its equation, who the others are, and that a sample tells it."""

import numpy as np
import pytest

from fedpeft.scheduling.alignment import SAMPLE, Look, sampled
from fedpeft.scheduling.alignment import alignments as aligned


def alignments(deltas, weights, whole, size, holds=None):
    holds = holds or [None] * len(deltas)
    return aligned([Look(*one) for one in zip(deltas, weights, whole, holds, strict=True)], size)


def vectors(count, size, shared, seed=0):
    """Updates with something in common and noise of their own, fp32."""
    draw = np.random.default_rng(seed)
    common = draw.standard_normal(size)
    return [(shared * common + draw.standard_normal(size)).astype(np.float32) for _ in range(count)]


def test_it_is_the_length_along_the_weighted_sum_of_the_others():
    """No judge counts for more than the usual length and weight, which is the median's."""
    deltas, weights = vectors(3, 50, 0.5), [1.0, 2.0, 5.0]
    found = alignments(deltas, weights, [True] * 3, 50)
    usual = sorted(map(np.linalg.norm, deltas))[1]
    shorter = [min(1.0, usual / np.linalg.norm(delta)) for delta in deltas]
    assert min(shorter) < 1.0
    others = 1.0 * shorter[0] * deltas[0].astype(float) + 2.0 * shorter[2] * deltas[2].astype(float)
    assert found[1] == pytest.approx(deltas[1] @ others / np.linalg.norm(others))


def test_it_grows_with_the_update_and_not_with_its_weight():
    deltas = vectors(4, 400, 1.0)
    before = alignments(deltas, [1.0] * 4, [True] * 4, 400)
    longer = alignments([2 * deltas[0], *deltas[1:]], [1.0] * 4, [True] * 4, 400)
    heavier = alignments(deltas, [9.0, 1.0, 1.0, 1.0], [True] * 4, 400)
    assert longer[0] == pytest.approx(2 * before[0])
    assert heavier[0] == pytest.approx(before[0])


STEPS = [2, 4, 8] * 5
HONEST = [
    (shared * steps / 4).astype(np.float32) for shared, steps in zip(vectors(15, 4000, 0.3, seed=3), STEPS, strict=True)
]


def by_steps(found):
    """The mean gain of the honest with 2, 4 and 8 steps."""
    return [float(np.mean([gain for gain, own in zip(found, STEPS, strict=False) if own == n])) for n in (2, 4, 8)]


@pytest.mark.parametrize("liar", [-20.0 * np.sum(HONEST, axis=0) / 15, 1e6 * np.ones(4000), -HONEST[2]])
@pytest.mark.parametrize("weight", [1.0, 1e6])
def test_one_liar_among_sixteen_leaves_the_order_of_the_honest(liar, weight):
    alone = by_steps(alignments(HONEST, [1.0] * 15, [True] * 15, 4000))
    assert alone == sorted(alone)
    found = alignments([*HONEST, liar.astype(np.float32)], [1.0] * 15 + [weight], [True] * 16, 4000)
    beside = by_steps(found)
    assert beside == sorted(beside)
    assert beside[0] > 0.5 * alone[0]
    assert beside[2] > 1.5 * beside[1] > 2 * beside[0]


def test_updates_of_nothing_do_not_make_nothing_usual():
    """Half of a cohort skipped its steps: the others are judged by each other."""
    still = [np.zeros(4000, np.float32)] * 4
    found = alignments([*HONEST[:3], *still], [1.0] * 7, [True] * 7, 4000)
    assert min(found[:3]) > 0
    assert found[3:] == [0.0] * 4


def test_noise_gains_nothing_and_its_opposite_less():
    deltas = vectors(8, 4000, 1.0)
    noise = np.random.default_rng(9).standard_normal(4000).astype(np.float32)
    found = alignments([*deltas, noise, -deltas[0]], [1.0] * 10, [True] * 10, 4000)
    assert abs(found[8]) < 0.1 * found[1]
    assert found[9] < -0.5 * found[1]


def test_pruned_clients_are_measured_by_the_whole_ones():
    """Three of five agree with each other on something else; what counts is what the two whole ones want."""
    whole, other = vectors(2, 2000, 2.0, seed=1), vectors(3, 2000, 2.0, seed=2)
    found = alignments([*whole, *other], [1.0] * 5, [True, True, False, False, False], 2000)
    assert min(found[:2]) > 20 * max(map(abs, found[2:]))
    alone = alignments([whole[0], *other], [1.0] * 4, [True] + [False] * 3, 2000)
    assert alone[0] is None, "nobody else is whole"
    assert max(map(abs, alone[1:])) < 0.1 * found[0]
    assert alignments(other, [1.0] * 3, [False] * 3, 2000) == [None] * 3


def test_a_coordinate_that_few_train_counts_as_much_as_one_that_all_do():
    """Two of four train both halves, two the first alone: to hold half of the coordinates is to gain half as much."""
    size, first = 4000, np.arange(4000) < 2000
    deltas = vectors(4, size, 2.0)
    for small in deltas[2:]:
        small[~first] = 0.0
    found = alignments(deltas, [1.0] * 4, [True] * 4, size, [None, None, first, first])
    assert np.mean(found[2:]) / np.mean(found[:2]) == pytest.approx(0.5, rel=0.1)
    blind = alignments(deltas, [1.0] * 4, [True] * 4, size)
    assert np.mean(blind[2:]) / np.mean(blind[:2]) > 0.6


def test_nobody_to_agree_with_is_no_gain():
    assert alignments([], [], [], 5) == []
    assert alignments(vectors(1, 5, 1.0), [1.0], [True], 5) == [None]
    assert alignments([np.ones(5, np.float32), np.zeros(5, np.float32)], [1.0, 1.0], [True, True], 5)[0] is None


def test_a_sample_tells_what_all_coordinates_do():
    size = 40 * SAMPLE
    deltas = vectors(5, size, 0.3)
    places = sampled(size, seed=7)
    assert 0.98 * SAMPLE < len(places) <= SAMPLE
    assert (np.diff(places) > 0).all()
    exact = alignments(deltas, [1.0] * 5, [True] * 5, size)
    near = alignments([delta[places] for delta in deltas], [1.0] * 5, [True] * 5, size)
    assert near == pytest.approx(exact, rel=0.15)


def test_a_seed_has_its_own_places_and_short_vectors_are_looked_at_whole():
    assert not np.array_equal(sampled(10**6, 1), sampled(10**6, 2))
    assert np.array_equal(sampled(10**6, 1), sampled(10**6, 1))
    assert np.array_equal(sampled(9, 1), np.arange(9))
