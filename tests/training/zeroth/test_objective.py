"""What a step measures: the loss, or how many answers are wrong."""

import numpy as np
import pytest
import torch
import zeroth_jobs
from zeroth_jobs import cross_entropy, job

from fedpeft.errors import ConfigError
from fedpeft.training.task import Outcomes
from fedpeft.training.tasks.custom import CustomTask
from fedpeft.training.zeroth.batched import BatchedZerothTrainer
from fedpeft.training.zeroth.check import examine_alone, examine_losses
from fedpeft.training.zeroth.objective import measured
from fedpeft.training.zeroth.trainer import ZerothTrainer

ERROR = {"objective": "error"}


class Scored(CustomTask):
    """Says in training what was right, as the tasks of the run file do."""

    def outcomes(self, model, batch, prepared):
        _, (x, y) = batch
        return Outcomes(self.loss(model, (x, y)), {"accuracy": (model(x).argmax(1) == y).float()})


def trainer(kind=ZerothTrainer, **more):
    subject = zeroth_jobs.trainer(kind, settings=ERROR, epsilon=0.3, **more)
    subject.task = Scored(cross_entropy)
    return subject


def test_which_number_it_is():
    outcomes = Outcomes(torch.tensor([2.0, 3.0]), {"accuracy": torch.tensor([1.0, 0.0])})
    assert measured(outcomes, "loss").tolist() == [2.0, 3.0]
    assert measured(outcomes, "error").tolist() == [0.0, 1.0]
    with pytest.raises(ConfigError, match=r'zeroth\.objective = "error".*has no accuracy'):
        measured(Outcomes(torch.tensor([2.0])), "error")


@pytest.mark.parametrize("kind", [ZerothTrainer, BatchedZerothTrainer])
def test_scalars_are_differences_of_shares_of_wrong_answers(kind):
    (result,) = trainer(kind).run([job(steps=40, batch_size=20)])
    counts = result.scalars.astype(np.float64) * 2 * 0.3 * 20
    np.testing.assert_allclose(counts, np.rint(counts), atol=1e-4)
    assert (result.scalars == 0).any()
    assert result.scalars.any()
    assert 0 <= result.metrics["loss_last"] <= 1


def test_together_is_one_after_the_other():
    jobs = [job(client, steps=10, batch_size=20) for client in "abc"]
    for one, other in zip(trainer(BatchedZerothTrainer).run(jobs), trainer().run(jobs), strict=True):
        np.testing.assert_allclose(one.scalars, other.scalars, atol=1e-6)


def test_it_learns_to_be_right():
    subject, coefficients = trainer(), np.zeros(2 * zeroth_jobs.K, dtype=np.float32)
    errors = []
    for _ in range(6):
        one = job(start=np.rint(coefficients), steps=100, batch_size=20, learning_rate=0.05)
        (result,) = subject.run([one])
        coefficients += result.delta
        errors.append(result.metrics["loss_last"])
    assert min(errors[-2:]) < max(errors[0], 0.3)


def test_the_test_at_start_takes_it_too():
    assert examine_losses(trainer(BatchedZerothTrainer), job()) == ("", "")
    subject = trainer()
    before = subject.adapter.get()
    examine_alone(subject, job())
    assert (subject.adapter.get() == before).all()


@pytest.mark.parametrize("kind", [ZerothTrainer, BatchedZerothTrainer])
def test_a_task_that_does_not_say_what_was_right_is_found_out_at_start(kind):
    subject = zeroth_jobs.trainer(kind, settings=ERROR)
    with pytest.raises(ConfigError, match="a loss of your own may return any number"):
        (examine_alone if kind is ZerothTrainer else examine_losses)(subject, job())
