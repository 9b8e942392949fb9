"""Steps of every optimizer in both trainers: the walk goes where a replay of the scalars says."""

from functools import partial

import numpy as np
import pytest
import torch
import zeroth_jobs
from zeroth_jobs import K, job, some_start

from fedpeft.training.zeroth.batched import BatchedZerothTrainer
from fedpeft.training.zeroth.estimators.forward import Forward
from fedpeft.training.zeroth.estimators.two_point import TwoPoint
from fedpeft.training.zeroth.look import Look
from fedpeft.training.zeroth.trainer import ZerothTrainer
from fedpeft.zeroth.optimizers import Course
from fedpeft.zeroth.optimizers.adam import Adam
from fedpeft.zeroth.optimizers.adamu import AdaMU
from fedpeft.zeroth.optimizers.momentum import Momentum
from fedpeft.zeroth.optimizers.sgd import Sgd
from fedpeft.zeroth.optimizers.sign import Sign
from fedpeft.zeroth.optimizers.spsa_gc import SpsaGc

OPTIMIZERS = [Sgd(), Sign(), Momentum(), Adam(), SpsaGc(), AdaMU()]
every_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda found: type(found).__name__)
RATE = 0.01
alone = partial(zeroth_jobs.trainer, ZerothTrainer)
together = partial(zeroth_jobs.trainer, BatchedZerothTrainer)


def result_of(subject, *jobs):
    (result, *_) = subject.run(jobs or [job(start=some_start(), learning_rate=RATE)])
    return result


def course_of(subject, result):
    """What the scalars say, and where the next step would look from, both as coefficients of epoch 0."""
    coordinates = subject.replica.coordinates
    numbers = coordinates.drawn(result.plan).reshape(-1, coordinates.directions)
    course, stands = Course(coordinates.optimizer, K, RATE), np.zeros(K)
    for own, scalars in zip(numbers, result.scalars.reshape(numbers.shape).astype(np.float64), strict=True):
        stands = stands + course.take(own, scalars)
    return course.moved, stands


def combined(subject, coefficients):
    size = subject.adapter.layout.size
    return sum(c * subject.replica.pool.direction(0, j, 0, size).values() for j, c in enumerate(coefficients))


@every_optimizer
@pytest.mark.parametrize("estimator", [TwoPoint(), TwoPoint(3), Forward(2)], ids=["one", "three", "forward"])
@pytest.mark.parametrize("pool", ["hadamard", "independent"])
def test_the_walk_ends_where_its_scalars_say(optimizer, estimator, pool):
    subject = alone(optimizer=optimizer, estimator=estimator, pool=pool)
    result = result_of(subject)
    moved, stands = course_of(subject, result)
    start = subject.replica.theta(some_start()).astype(np.float64)
    np.testing.assert_allclose(subject.adapter.get(), start + combined(subject, stands), atol=3e-6)
    np.testing.assert_allclose(
        result.delta[:K] * subject.replica.coordinates.unit, moved, rtol=1e-5, atol=1e-9
    )  # what the coordinator makes of the same scalars
    assert not result.delta[K:].any()


@every_optimizer
@pytest.mark.parametrize("estimator", [TwoPoint(), Forward(3)], ids=["two-point", "forward"])
def test_together_is_one_after_the_other(optimizer, estimator):
    jobs = [job(client, start=some_start(), learning_rate=RATE) for client in "abc"]
    found = [r.scalars for r in together(optimizer=optimizer, estimator=estimator, epsilon=1e-2).run(jobs)]
    right = [r.scalars for r in alone(optimizer=optimizer, estimator=estimator, epsilon=1e-2).run(jobs)]
    for one, other in zip(found, right, strict=True):
        assert one.any()
        np.testing.assert_allclose(one, other, rtol=5e-3, atol=5e-4)


@every_optimizer
def test_company_changes_no_bit(optimizer):
    jobs = [job(client, learning_rate=RATE) for client in "abc"]
    found = {r.plan.client: r.scalars for r in together(optimizer=optimizer).run(jobs)}
    for one in jobs:
        assert (result_of(together(optimizer=optimizer), one).scalars == found[one.plan.client]).all()


def test_the_second_step_looks_from_where_momentum_leads():
    """BlackVIP's correction: its losses are taken one β m further, so its second scalar is another."""
    plain, ahead = (result_of(alone(optimizer=own)) for own in (Momentum(0.9), SpsaGc(0.9)))
    assert plain.scalars[0] == ahead.scalars[0]
    assert plain.scalars[1] != ahead.scalars[1]


def test_adamu_measures_along_the_mixed_direction():
    subject = alone(optimizer=AdaMU(0.9, 0.5))
    result = result_of(subject, job(steps=2, batch_size=20, learning_rate=RATE))
    numbers = subject.replica.coordinates.drawn(result.plan)
    m = np.zeros(K)
    m[numbers[0]] = np.sign(result.scalars[0])
    d = np.sqrt(0.5) * (np.eye(K)[numbers[1]] - m)
    first = -RATE * float(result.scalars[0]) * np.eye(K)[numbers[0]]
    replica, theta = subject.replica, subject.replica.initial

    def loss(coefficients):
        subject.adapter.set((theta + combined(subject, coefficients)).astype(np.float32))
        with torch.no_grad():
            return subject._measure(subject.task.batch(job().data, np.arange(20)), None)

    slope = (loss(first + 1e-3 * d) - loss(first - 1e-3 * d)) / 2e-3
    assert replica.coordinates.directions == 1
    assert result.scalars[1] == pytest.approx(slope, rel=1e-3, abs=1e-6)


class Counted:
    """A pool that counts its passes over the weights."""

    def __init__(self, pool):
        self.pool, self.size, self.combined, self.made = pool, pool.size, 0, 0

    def direction(self, *about):
        self.made += 1
        return self.pool.direction(*about)

    def combine(self, *about):
        self.combined += 1
        self.pool.combine(*about)


@pytest.mark.parametrize(("optimizer", "passes"), [(Sgd(), 0), (Sign(), 0), (Momentum(), 5), (Adam(), 5)])
def test_a_dense_step_is_one_pass_and_a_sparse_one_none(optimizer, passes):
    """The first step is along the drawn direction alone, whatever the optimizer; the move back from ε is part of it."""
    subject = alone(optimizer=optimizer)
    subject.replica.theta(some_start())
    subject.replica.pool = Counted(subject.replica.pool)
    result_of(subject)
    assert (subject.replica.pool.made, subject.replica.pool.combined) == (6, passes)


def test_the_way_back_from_where_it_looked_is_part_of_the_step():
    subject = alone()
    numbers, change = np.array([3, 5, 3]), np.zeros(K)
    change[[3, 5]] = (0.5, -0.25)
    size = subject.adapter.layout.size
    back = [1e-3, 0.0, -2e-3]
    z = {j: subject.replica.pool.direction(0, j, 0, size).values() for j in (3, 5)}
    right = 0.5 * z[3] - 0.25 * z[5] - 1e-3 * z[3] + 2e-3 * z[3]
    sparse = Look(subject.replica, 0, numbers, None, size).moves(change, back)
    assert len(sparse) == 3
    np.testing.assert_allclose(sum(scale * own.values() for own, scale in sparse), right, atol=1e-6)
    change[7] = 1e-9
    ((own, scale),) = Look(subject.replica, 0, numbers, None, size).moves(change, back)
    np.testing.assert_allclose(scale * own.values(), right, atol=1e-6)
    assert Look(subject.replica, 0, numbers, None, size).moves(np.zeros(K)) == []


@pytest.mark.parametrize("kind", [ZerothTrainer, BatchedZerothTrainer])
def test_momentum_of_signs(kind):
    subject = zeroth_jobs.trainer(kind, optimizer=Momentum(), settings={"sign": True})
    result = result_of(subject)
    assert set(np.abs(result.scalars)) == {1.0}
    moved, _ = course_of(subject, result)
    np.testing.assert_allclose(result.delta[:K] * subject.replica.coordinates.unit, moved, rtol=1e-5)
