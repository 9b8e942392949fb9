"""A sum of directions in one go: what adding them one by one gives, in pieces too, on a host and on a device."""

import numpy as np
import pytest
import torch

from fedpeft.registry import build
from fedpeft.training.zeroth.walk import DeviceWalk, HostWalk
from fedpeft.zeroth.combination import Combination

K, D = 64, 3000
every_pool = pytest.mark.parametrize("name", ["hadamard", "independent"])


def pool(name):
    return build("pool", name, {"size": K, "seed": 2})


def coefficients(count=K, seed=0):
    found = np.zeros(K)
    found[:count] = np.random.default_rng(seed).normal(0, 1e-3, count)
    return found


def by_hand(of, own, size=D):
    return sum(c * of.direction(1, j, 0, size).values().astype(np.float64) for j, c in enumerate(own))


@every_pool
@pytest.mark.parametrize("count", [1, 5, K])
def test_it_is_the_sum(name, count):
    of, own = pool(name), coefficients(count)
    found = Combination.of(of, 1, own, D)
    np.testing.assert_allclose(found.values(), by_hand(of, own), rtol=1e-5, atol=1e-8)
    weights = np.linspace(-1, 1, D, dtype=np.float32)
    right = weights - 0.3 * by_hand(of, own)
    found.add_to(weights, -0.3)
    np.testing.assert_allclose(weights, right, atol=2e-7)


@every_pool
def test_pieces_of_it(name):
    found = Combination.of(pool(name), 1, coefficients(), D)
    for begin, count in ((0, 8), (64, 100), (2000, None)):
        whole = found.values()[begin:] if count is None else found.values()[begin : begin + count]
        assert (found.values(begin, count) == whole).all()


def test_nothing_is_nothing():
    found = Combination.of(pool("hadamard"), 0, np.zeros(K), D)
    assert not found.values().any()


@pytest.mark.parametrize("size", [1e-12, 1.0, 1e12])
def test_any_size_of_coefficients_is_exact_enough_and_passes_the_range_check(size):
    from fedpeft.zeroth.pools import check_range

    of, own = pool("hadamard"), size * coefficients()
    found = Combination.of(of, 1, own, D)
    check_range(found.steps)
    np.testing.assert_allclose(found.values(), by_hand(of, own), rtol=1e-4, atol=size * 1e-8)


@every_pool
def test_both_ways_to_walk_end_at_one_place(name):
    found = Combination.of(pool(name), 1, coefficients(), D)
    start = torch.linspace(-1, 1, D)
    here, there = start.clone(), start.clone()
    HostWalk(here).add(found, 0.5)
    DeviceWalk(there).add(found, 0.5)
    torch.testing.assert_close(here, there, rtol=0, atol=2e-7)
    assert not torch.equal(here, start)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_gpu_walks_there_too():
    found, start = Combination.of(pool("hadamard"), 1, coefficients(), D), torch.linspace(-1, 1, D)
    here, there = start.clone(), start.cuda()
    HostWalk(here).add(found, 0.5)
    DeviceWalk(there).add(found, 0.5)
    torch.testing.assert_close(here, there.cpu(), rtol=0, atol=2e-7)


def test_a_pool_of_larger_whole_numbers_stays_exact_too():
    """Sums are of numbers up to `largest`, so its units are coarser."""

    class Wide:
        size, largest = K, 8

        def direction(self, *about):
            raise NotImplementedError

        def combine(self, epoch, found, weights, unit, begin=0):
            assert 8 * np.abs(found).sum() < 2**31
            weights += np.float32(unit * 8 * found.sum())

    own = coefficients()
    np.testing.assert_allclose(Combination.of(Wide(), 0, own, 5).values(), np.full(5, 8 * own.sum()), rtol=1e-5)
