"""Many clients in one forward pass: the scalars that each would measure alone, bit by bit in any company."""

from functools import partial

import numpy as np
import pytest
import torch
import zeroth_jobs
from zeroth_jobs import cross_entropy, data, job, some_start

from fedpeft.errors import ClientFault
from fedpeft.training.zeroth.batched import BatchedZerothTrainer
from fedpeft.training.zeroth.check import examine_losses
from fedpeft.training.zeroth.estimators.forward import Forward
from fedpeft.training.zeroth.estimators.two_point import TwoPoint
from fedpeft.training.zeroth.trainer import ZerothTrainer

trainer = partial(zeroth_jobs.trainer, BatchedZerothTrainer, epsilon=1e-2)


def scalars(subject, *jobs):
    return {result.plan.client: result.scalars for result in subject.run(jobs)}


@pytest.mark.parametrize("estimator", [TwoPoint(), TwoPoint(2), Forward(3)])
def test_together_is_one_after_the_other(estimator):
    """But for rounding: products of several rows are added up in another order."""
    jobs = [job(client, start=some_start()) for client in "abcde"]
    together, alone = (
        scalars(trainer(estimator=estimator), *jobs),
        scalars(zeroth_jobs.trainer(ZerothTrainer, estimator=estimator, epsilon=1e-2), *jobs),
    )
    assert list(together) == list("abcde")
    for client, own in alone.items():
        np.testing.assert_allclose(together[client], own, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("order", ["abcd", "dcba", "bd", "c"])
@pytest.mark.parametrize("rows", [4096, 20, 1])
def test_company_order_and_limits_change_no_bit(order, rows):
    alone = {client: scalars(trainer(), job(client))[client] for client in "abcd"}
    found = scalars(trainer(rows=rows), *(job(client) for client in order))
    assert list(found) == list(order)
    assert all((found[client] == alone[client]).all() for client in order)


def test_clients_of_other_steps_batches_and_starts_share_passes():
    jobs = [job("a", steps=2), job("b", batch_size=3), job("c", start=some_start(), steps=9), job("d")]
    found = scalars(trainer(), *jobs)
    assert [len(found[client]) for client in "abcd"] == [2, 6, 9, 6]
    for one in jobs:
        assert (scalars(trainer(), one)[one.plan.client] == found[one.plan.client]).all()


def test_a_client_whose_losses_are_nan_costs_itself():
    def bad(model, batch):
        return cross_entropy(model, batch) * torch.where(batch[0][:, 0].abs() > 1e6, float("nan"), 1.0)

    poisoned = job("b")
    poisoned = type(poisoned)(poisoned.plan, poisoned.start, [(x + 1e9, y) for x, y in data(1)])
    results = {r.plan.client: r for r in trainer(loss=bad).run([job("a"), poisoned, job("c")])}
    assert isinstance(results["b"].fault, ClientFault)
    assert "client b: the loss is nan in all of 6 steps" in results["b"].fault.message
    assert (results["c"].scalars == scalars(trainer(), job("c"))["c"]).all()


def test_an_error_over_one_client_s_data_is_raised_in_its_turn():
    class Ouch:
        def __len__(self):
            return 20

        def __getitem__(self, index):
            raise KeyError("ouch")

    broken = job("b")
    broken = type(broken)(broken.plan, broken.start, Ouch())
    run = trainer().run([job("a"), broken])
    assert next(run).plan.client == "a"
    with pytest.raises(KeyError) as caught:
        next(run)
    assert caught.value.__notes__ == ["while training client b, step 1, round 2"]


# --- the test at start ---


def test_an_ordinary_model_can_measure_for_many():
    subject = trainer()
    before = subject.adapter.get()
    assert examine_losses(subject, job("a")) == ("", "")
    assert (subject.adapter.get() == before).all()


def test_a_loss_without_a_gradient_can_too():
    def errors(model, batch):
        return (model(batch[0]).argmax(1) != batch[1]).float()

    assert examine_losses(trainer(loss=errors), job("a")) == ("", "")


def test_what_cannot_says_why():
    def mean(model, batch):
        return cross_entropy(model, batch).mean().expand(len(batch[1]))

    def crowd(model, batch):
        return cross_entropy(model, (batch[0] - batch[0].mean(0), batch[1]))

    assert "one mean over a batch" in examine_losses(trainer(loss=mean), job("a"))[0]
    assert "in one pass with another client" in examine_losses(trainer(loss=crowd), job("a"))[0]
    assert examine_losses(trainer(loss=lambda model, batch: cross_entropy(model, batch) / 0), job("a")) is None


def test_progress_is_told_for_every_client_and_step():
    steps = []
    list(trainer(on_step=lambda: steps.append(1)).run([job("a", steps=3), job("b", steps=4)]))
    assert len(steps) == 7
