"""Conservative steps: what is worse is not done, what was done is what is sent, in both trainers."""

import doctest
from functools import partial

import numpy as np
import pytest
import zeroth_jobs
from zeroth_jobs import cross_entropy, job

from fedpeft.training.zeroth import conservative
from fedpeft.training.zeroth.batched import BatchedZerothTrainer
from fedpeft.training.zeroth.conservative import best_of
from fedpeft.training.zeroth.estimators.forward import Forward
from fedpeft.training.zeroth.estimators.forward_gradient import ForwardGradient
from fedpeft.training.zeroth.estimators.two_point import TwoPoint
from fedpeft.training.zeroth.trainer import ZerothTrainer
from fedpeft.zeroth.optimizers.adamu import AdaMU

CAREFUL = {"conservative": True}
BOTH = pytest.mark.parametrize("kind", [ZerothTrainer, BatchedZerothTrainer])
trainer = partial(zeroth_jobs.trainer, settings=CAREFUL)


def results(subject, *jobs):
    return list(subject.run(jobs))


def losses_of(subject, result, whole):
    """Of all the client's examples, after each step that its scalars say."""
    coordinates, found = subject.replica.coordinates, []
    places = coordinates.drawn(result.plan)
    for steps in range(result.plan.steps + 1):
        done = places[: steps * coordinates.directions]
        delta = coordinates.moved(done, result.scalars[: len(done)], result.plan.learning_rate)
        size = subject.adapter.layout.size
        theta = subject.replica.initial.astype(np.float64)
        for place in np.flatnonzero(delta):
            theta = theta + coordinates.unit * delta[place] * subject.replica.direction(int(place), size).values()
        subject.adapter.set(theta.astype(np.float32))
        found.append(cross_entropy(subject.adapter.model, whole[1]).double().mean().item())
    return found


def test_the_docstring_is_true():
    assert doctest.testmod(conservative).failed == 0


def test_a_loss_that_is_not_finite_is_no_choice():
    assert best_of([np.nan, 2.0, np.inf]) == 0
    assert best_of([np.inf, np.nan, 7.0]) == -1


@BOTH
def test_with_a_rate_that_is_far_too_large_the_loss_never_rises(kind):
    """All examples in every batch: the step that is looked at is the step that counts."""
    one = job(steps=25, batch_size=20, learning_rate=5.0)
    whole = trainer().task.batch(one.data, np.arange(20))
    bold, careful = (zeroth_jobs.trainer(kind, settings=own) for own in ({}, CAREFUL))
    (free,), (held,) = results(bold, one), results(careful, one)
    rises = np.diff(losses_of(bold, free, whole))
    assert rises.max() > 0.01
    assert np.diff(losses_of(careful, held, whole)).max() < 1e-5
    assert (held.scalars == 0).any()
    assert held.scalars.any()


@BOTH
def test_what_is_sent_is_the_scalar_its_opposite_or_nothing(kind):
    """Step by step from one place: the first scalar is that of the bold client, times 1, 0 or −1."""
    seen = set()
    for rate in (1e-3, 0.3, 3.0, 30.0):
        for client in "abcdef":
            one = job(client, steps=1, learning_rate=rate)
            (free,), (held,) = results(zeroth_jobs.trainer(kind), one), results(trainer(kind), one)
            assert abs(held.scalars[0]) in (0.0, abs(free.scalars[0]))
            seen.add(float(np.sign(held.scalars[0]) * np.sign(free.scalars[0])))
    assert {1.0, 0.0} <= seen


@pytest.mark.parametrize("estimator", [TwoPoint(), TwoPoint(3), Forward(2)], ids=["one", "three", "forward"])
@pytest.mark.parametrize("optimizer", [None, AdaMU()], ids=["sgd", "adamu"])
def test_together_is_one_after_the_other(estimator, optimizer):
    jobs = [job(client, learning_rate=0.3) for client in "abc"]
    about = {"estimator": estimator, "optimizer": optimizer, "epsilon": 1e-2}
    found, right = results(trainer(BatchedZerothTrainer, **about), *jobs), results(trainer(**about), *jobs)
    for one, other in zip(found, right, strict=True):
        np.testing.assert_allclose(one.scalars, other.scalars, rtol=5e-3, atol=5e-4)


def test_company_changes_no_bit():
    jobs = [job(client, learning_rate=0.3) for client in "abc"]
    found = results(trainer(BatchedZerothTrainer), *jobs)
    for one, own in zip(jobs, found, strict=True):
        assert (results(trainer(BatchedZerothTrainer), one)[0].scalars == own.scalars).all()


def test_slopes_may_be_conservative_too():
    one = job(steps=25, batch_size=20, learning_rate=5.0)
    subject = trainer(estimator=ForwardGradient())
    (held,) = results(subject, one)
    whole = subject.task.batch(one.data, np.arange(20))
    assert np.diff(losses_of(subject, held, whole)).max() < 1e-5
    assert held.scalars.any()


@BOTH
def test_a_client_all_of_whose_losses_are_nan_is_at_fault(kind):
    def never(model, batch):
        return cross_entropy(model, batch) * float("nan")

    (result,) = results(trainer(kind, loss=never), job(steps=3))
    assert "the loss is nan in all of 3 steps" in result.fault.message


class Uphill(TwoPoint):
    """Has the sign wrong: every step is a step up."""

    def scalars(self, losses, epsilon):
        return -super().scalars(losses, epsilon)


@BOTH
def test_the_opposite_is_taken_where_it_is_best(kind):
    one = job(steps=8, batch_size=20, learning_rate=1e-2)
    (right,), (turned,) = results(zeroth_jobs.trainer(kind), one), results(trainer(kind, estimator=Uphill()), one)
    assert (np.sign(turned.scalars) == np.sign(right.scalars)).all()
    np.testing.assert_allclose(turned.scalars, right.scalars, rtol=2e-2, atol=2e-3)
