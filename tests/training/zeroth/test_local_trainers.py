"""Clients that keep θ and send a delta: alone or together, with bad losses, and with one optimizer a client."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
import zeroth_jobs
from zeroth_jobs import cross_entropy, job, some_start

from fedpeft.errors import ClientFault
from fedpeft.registry import load
from fedpeft.training.placed import placed
from fedpeft.training.zeroth.batched import BatchedZerothTrainer
from fedpeft.training.zeroth.check import examine_losses
from fedpeft.training.zeroth.estimators.forward import Forward
from fedpeft.training.zeroth.estimators.two_point import TwoPoint
from fedpeft.training.zeroth.local.record import LocalRecord
from fedpeft.training.zeroth.trainer import ZerothTrainer
from fedpeft.training.zeroth.walk import walk_of

every_optimizer = pytest.mark.parametrize("name", ["sgd", "zo-adam", "zo-adamu"])
both_trainers = pytest.mark.parametrize("kind", [ZerothTrainer, BatchedZerothTrainer])
trainer = partial(zeroth_jobs.trainer, records=LocalRecord, epsilon=1e-2)
START = zeroth_jobs.adapter().get()
RATE = 0.01


def own_job(client="a", name="sgd", start=None, **more):
    more = {"learning_rate": RATE, **more}
    return job(client, START if start is None else start.astype(np.float32), optimizer=name, **more)


def result_of(subject, *jobs):
    (result, *_) = subject.run(jobs)
    return result


def deltas(subject, *jobs):
    return {result.plan.client: result.delta for result in subject.run(jobs)}


@every_optimizer
@pytest.mark.parametrize("estimator", [TwoPoint(), TwoPoint(2), Forward(3)])
def test_together_is_one_after_the_other(name, estimator):
    """But for rounding."""
    about = {"learning_rate": 0.002}
    jobs = [own_job(client, name, START + 0.1 * place, **about) for place, client in enumerate("abcde")]
    together, alone = (
        deltas(trainer(kind, estimator=estimator), *jobs) for kind in (BatchedZerothTrainer, ZerothTrainer)
    )
    assert list(together) == list("abcde")
    for client, own in alone.items():
        assert own.shape == START.shape
        assert np.abs(own).max() > 1e-3
        np.testing.assert_allclose(together[client], own, atol=1e-6)


@every_optimizer
@both_trainers
@pytest.mark.parametrize("order", ["abcd", "dcba", "bd", "c"])
def test_company_and_order_change_no_bit(kind, name, order):
    alone = {client: deltas(trainer(kind), own_job(client, name))[client] for client in order}
    found = deltas(trainer(kind), *(own_job(client, name) for client in order))
    assert list(found) == list(order)
    assert all((found[client] == alone[client]).all() for client in order)


def test_clients_of_other_optimizers_steps_and_batches_share_passes():
    jobs = [own_job("a", "zo-adam", steps=2), own_job("b", batch_size=3), own_job("c", "zo-adamu", steps=9)]
    found = deltas(trainer(BatchedZerothTrainer), *jobs)
    for one in jobs:
        alone = deltas(trainer(BatchedZerothTrainer), one)[one.plan.client]
        assert (alone == found[one.plan.client]).all()


@pytest.mark.parametrize("estimator", [TwoPoint(), Forward(2)])
def test_by_sgd_it_goes_where_scalars_would_lead(estimator):
    """The same directions and steps, but for the rounding of coefficients."""
    subject = zeroth_jobs.trainer(estimator=estimator, epsilon=1e-2)
    by_scalars = result_of(subject, job(learning_rate=RATE))
    delta = result_of(trainer(estimator=estimator), own_job()).delta
    np.testing.assert_allclose(START + delta, subject.adapter.get(), atol=1e-6)
    replica = subject.replica
    np.testing.assert_allclose(START + delta, replica.theta(by_scalars.delta), atol=3e-4)


@both_trainers
def test_nothing_but_a_delta_is_sent(kind):
    result = result_of(trainer(kind), own_job())
    assert result.scalars is None
    assert not result.sent
    assert set(result.metrics) == {"loss_first", "loss_last", "seconds"}


@every_optimizer
@both_trainers
def test_it_learns(kind, name):
    theta, losses = START, []
    for number in range(6):
        one = own_job("a", name, theta, steps=100, batch_size=20, learning_rate=0.005)
        result = result_of(trainer(kind), replace(one, plan=replace(one.plan, round=number + 1)))
        theta = theta + result.delta
        losses.append(result.metrics["loss_last"])
    assert losses[-1] < 0.8 * losses[0]


@every_optimizer
@both_trainers
def test_other_rounds_look_other_ways(kind, name):
    one = own_job("a", name)
    later = replace(one, plan=replace(one.plan, round=3))
    assert (deltas(trainer(kind), one)["a"] != deltas(trainer(kind), later)["a"]).any()


class Poisoned:
    """A loss that is not finite in some steps; the points of a step come in one call or one by one."""

    def __init__(self, bad, points):
        self.bad, self.points, self.calls = bad, points, 0

    def __call__(self, model, batch):
        step = self.calls // self.points
        self.calls += 1
        return cross_entropy(model, batch) * (float("nan") if step in self.bad else 1.0)


@every_optimizer
@pytest.mark.parametrize(("kind", "calls"), [(ZerothTrainer, 2), (BatchedZerothTrainer, 1)])
def test_a_loss_that_is_nan_skips_its_step_and_is_counted(kind, calls, name):
    """θ, momentum and step count are as if that step had not been."""
    result = result_of(trainer(kind, loss=Poisoned({1, 4}, calls)), own_job("a", name))
    assert result.metrics["steps_skipped"] == 2
    assert np.isfinite(result.delta).all()
    assert result.delta.any()
    only_first = result_of(trainer(kind, loss=Poisoned({1, 2, 3, 4, 5}, calls)), own_job("a", name))
    first = result_of(trainer(kind), own_job("a", name, steps=1))
    np.testing.assert_allclose(only_first.delta, first.delta, atol=1e-6)


@both_trainers
def test_a_client_all_of_whose_losses_are_nan_is_at_fault(kind):
    result = result_of(trainer(kind, loss=lambda model, batch: cross_entropy(model, batch) / 0), own_job("bad"))
    assert isinstance(result.fault, ClientFault)
    assert "client bad: the loss is" in result.fault.message
    assert "in all of 6 steps, round 2" in result.fault.message


def test_a_client_that_left_the_finite_numbers_is_at_fault():
    """The last step may do it: no loss is taken after it."""
    subject = trainer()
    record = LocalRecord(own_job("far"), subject.replica, subject.settings)
    theta = torch.from_numpy(START.copy())
    record.move(walk_of(theta), theta, record.look(), np.float32([0.5]), 1.0)
    assert record.result(theta).fault is None
    theta[3] = float("inf")
    fault = record.result(theta).fault
    assert isinstance(fault, ClientFault)
    assert "client far: the adapter is no longer finite after step 1, round 2" in fault.message


@both_trainers
def test_what_nobody_could_do_is_the_plan_s_fault_and_nobody_else_s(kind):
    results = list(trainer(kind).run([own_job("a"), own_job("b", steps=2**31), own_job("d")]))
    assert [None if r.fault is None else r.fault.code for r in results] == [None, "training.too-many-scalars", None]
    assert "client b: plan.steps = 2147483648" in results[1].fault.message


@both_trainers
def test_dropout_is_off(kind):
    assert (result_of(trainer(kind, dropout=0.9), own_job()).delta == result_of(trainer(kind), own_job()).delta).all()


@both_trainers
def test_scalars_are_clipped(kind):
    result = result_of(trainer(kind, clip=0.01), own_job(steps=1))
    np.testing.assert_allclose(np.abs(result.delta), RATE * 0.01, atol=2e-7)


@every_optimizer
@both_trainers
def test_weight_decay(kind, name):
    """θ ← (1 − η λ) θ before the step, whatever makes the step."""
    plain = result_of(trainer(kind), own_job("a", name, steps=1)).delta
    decayed = result_of(trainer(kind), own_job("a", name, steps=1, weight_decay=0.5)).delta
    np.testing.assert_allclose(decayed, plain - RATE * 0.5 * START, atol=1e-6)


@every_optimizer
def test_two_clients_may_be_measured_in_one_pass(name):
    subject = trainer(BatchedZerothTrainer)
    assert examine_losses(subject, own_job("a", name)) == ("", "")


def test_an_optimizer_s_memory_is_counted():
    size = 4 * START.size
    for name in ("sgd", "zo-adam", "zo-adamu"):
        vectors = load("zeroth_optimizer", name).vectors
        subject = trainer(BatchedZerothTrainer, memory=20 * size, vectors=vectors)
        assert subject.seats == 10 // (1 + vectors)
        assert subject.limits.state == (1 + vectors) * size


def test_a_start_of_coefficients_is_none_of_its():
    with pytest.raises(ValueError, match="the adapter needs"):
        result_of(trainer(), own_job(start=some_start()[: START.size - 1]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@every_optimizer
def test_on_a_gpu_it_learns_as_on_a_cpu(name):
    subject = trainer()
    subject.adapter.move(torch.device("cuda"))
    subject.adapter.forget_gradient()
    subject.task = placed(subject.task, subject.adapter.theta.device)
    here, there = result_of(trainer(), own_job("a", name)), result_of(subject, own_job("a", name))
    np.testing.assert_allclose(there.delta, here.delta, atol=1e-4)
