"""The rules themselves, against torch's own optimizers and by hand."""

import numpy as np
import torch

from fedpeft.zeroth.optimizers import Course
from fedpeft.zeroth.optimizers.adam import Adam
from fedpeft.zeroth.optimizers.adamu import AdaMU, History
from fedpeft.zeroth.optimizers.momentum import Momentum
from fedpeft.zeroth.optimizers.sgd import Sgd
from fedpeft.zeroth.optimizers.sign import Sign
from fedpeft.zeroth.optimizers.spsa_gc import SpsaGc

K, RATE = 8, 0.1
NUMBERS = np.random.default_rng(0).integers(0, K, (20, 2))
SCALARS = np.random.default_rng(1).standard_normal((20, 2))


def gradients():
    """G_t, shape (20, K)."""
    found = np.zeros((20, K))
    for gradient, numbers, scalars in zip(found, NUMBERS, SCALARS, strict=True):
        np.add.at(gradient, numbers, scalars)
    return found


def by_torch(make):
    point = torch.zeros(K, dtype=torch.float64, requires_grad=True)
    optimizer = make([point])
    for gradient in gradients():
        point.grad = torch.from_numpy(gradient)
        optimizer.step()
    return point.detach().numpy()


def replayed(optimizer):
    return optimizer.replay(NUMBERS, SCALARS, K, RATE)


def test_sgd_is_torch_s():
    np.testing.assert_allclose(replayed(Sgd()), by_torch(lambda p: torch.optim.SGD(p, lr=RATE)), atol=1e-12)


def test_momentum_is_torch_s():
    right = by_torch(lambda p: torch.optim.SGD(p, lr=RATE, momentum=0.7))
    np.testing.assert_allclose(replayed(Momentum(0.7)), right, atol=1e-12)


def test_adam_is_torch_s():
    right = by_torch(lambda p: torch.optim.Adam(p, lr=RATE, betas=(0.8, 0.95), eps=1e-6))
    np.testing.assert_allclose(replayed(Adam(0.8, 0.95, 1e-6)), right, atol=1e-9)


def test_spsa_gc_ends_where_torch_s_nesterov_does_but_for_the_look_ahead():
    """Nesterov's momentum in torch stands where BlackVIP's looks from: one β m further."""
    optimizer = SpsaGc(0.7)
    course = Course(optimizer, K, RATE)
    stands = sum(course.take(*step) for step in zip(NUMBERS, SCALARS, strict=True))
    right = by_torch(lambda p: torch.optim.SGD(p, lr=RATE, momentum=0.7, nesterov=True))
    np.testing.assert_allclose(stands, right, atol=1e-9)
    assert not np.allclose(course.moved, right)


def test_sign_moves_by_the_rate():
    np.testing.assert_allclose(replayed(Sign()), -RATE * np.sign(gradients()).sum(0), atol=1e-12)


def test_adamu_by_hand():
    m, a = np.zeros(K), np.zeros(K)
    for t, (numbers, scalars) in enumerate(zip(NUMBERS, SCALARS, strict=True)):
        fresh, signs = np.eye(K)[numbers], np.array([[1.0], [-1.0]]) * (-1.0) ** t
        length = np.linalg.norm(m)
        d = fresh if length == 0 else np.sqrt(0.75) * fresh + signs * np.sqrt(0.25) * m / length
        a = a - RATE * scalars @ d
        m = 0.6 * m + scalars @ d
    np.testing.assert_allclose(replayed(AdaMU(0.6, 0.25)), a, atol=1e-9)


def test_adamu_looks_a_length_of_one_where_the_direction_is_new():
    optimizer = AdaMU()
    assert optimizer.along(History(np.zeros(K)), np.array([3])) is None
    m = np.array([3.0, -4.0, *[0.0] * (K - 2)])
    for steps, sign in ((6, 1.0), (7, -1.0)):
        (d,) = optimizer.along(History(m, steps), np.array([3]))
        np.testing.assert_allclose(np.linalg.norm(d), 1.0)
        np.testing.assert_allclose(d[[0, 1, 3]], np.sqrt(0.5) * np.array([sign * 0.6, sign * -0.8, 1.0]))
    assert (m[:4] == [3.0, -4.0, 0.0, 0.0]).all()


def test_adamu_s_looks_cover_every_direction_of_the_pool():
    """E d dᵀ keeps away from 0, also across m and the mean of what is drawn."""
    optimizer, m = AdaMU(), np.eye(K)[0] - 1 / K
    looks = [optimizer.along(History(m, t), np.array([t // 2 % K]))[0] for t in range(2 * K)]
    assert np.linalg.eigvalsh(np.mean([np.outer(d, d) for d in looks], axis=0)).min() > 0.4 / K


def test_adam_s_reach_is_finite_and_does_not_grow_with_the_scalars():
    assert Adam().reach(1e9, 200, K) == Adam().reach(1.0, 200, K)
    assert 31 < Adam().reach(1.0, 5000, K) < 40


def test_a_coordinator_and_a_client_may_round_scalars_otherwise():
    """fp16 on the way: the coefficients differ by about as much as the scalars."""
    rounded = SCALARS.astype(np.float16).astype(np.float64)
    for optimizer in (Sgd(), Momentum(), Adam(), SpsaGc(), AdaMU()):
        one, other = replayed(optimizer), optimizer.replay(NUMBERS, rounded, K, RATE)
        assert np.abs(one - other).max() < 5e-3 * np.abs(one).max()
