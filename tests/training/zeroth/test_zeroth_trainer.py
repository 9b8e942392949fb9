"""Learning without gradients: the walk ends where the scalars say, and bad losses cost a step, not a client."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from zeroth_jobs import K, cross_entropy, data, job, some_start, trainer

from fedpeft.errors import ClientFault
from fedpeft.randomness.directions import packed
from fedpeft.training.zeroth.batched import BatchedZerothTrainer
from fedpeft.training.zeroth.estimators.forward import Forward
from fedpeft.training.zeroth.estimators.two_point import TwoPoint
from fedpeft.training.zeroth.record import ZerothSettings
from fedpeft.training.zeroth.trainer import ZerothTrainer
from fedpeft.training.zeroth.walk import DeviceWalk, HostWalk, walk_of
from fedpeft.zeroth.direction import Signs


def result_of(subject, *jobs):
    (result, *_) = subject.run(jobs)
    return result


@pytest.mark.parametrize("estimator", [TwoPoint(), TwoPoint(3), Forward(2)])
def test_the_walk_ends_where_its_scalars_say(estimator):
    """θ after the steps is θ before them − lr Σ g z, but for the rounding of the moves there and back."""
    subject = trainer(estimator=estimator)
    result = result_of(subject, job(start=some_start()))
    places = subject.replica.coordinates.drawn(result.plan)
    assert result.scalars.shape == places.shape == (6 * estimator.directions,)
    size = subject.adapter.layout.size
    wanted = subject.replica.theta(some_start()).astype(np.float64)
    for place, scalar in zip(places, result.scalars, strict=True):
        wanted -= 0.05 * float(scalar) * subject.replica.pool.direction(*divmod(int(place), K), 0, size).values()
    np.testing.assert_allclose(subject.adapter.get(), wanted, atol=2e-6)


def test_its_delta_is_what_the_coordinator_makes_of_its_scalars():
    subject = trainer()
    result = result_of(subject, job(start=some_start()))
    places = subject.replica.coordinates.drawn(result.plan)
    assert (result.delta == subject.replica.coordinates.moved(places, result.scalars, 0.05)).all()
    np.testing.assert_allclose(
        subject.replica.theta(some_start() + result.delta), subject.adapter.get(), atol=2e-4
    )  # coefficients are rounded to whole units of 1.2e-5


def test_a_scalar_is_the_slope_along_its_direction():
    subject = trainer(epsilon=1e-3)
    first = result_of(subject, job(steps=1, batch_size=20))
    (place,) = subject.replica.coordinates.drawn(first.plan)
    size, own = subject.adapter.layout.size, subject.adapter
    z = torch.from_numpy(subject.replica.pool.direction(*divmod(int(place), K), 0, size).values())
    theta = torch.from_numpy(subject.replica.initial)

    def loss(at):
        own.theta.copy_(theta + at * z)
        with torch.no_grad():
            examples = data(ord("a"))
            x, y = torch.stack([x for x, _ in examples]), torch.stack([y for _, y in examples])
            return cross_entropy(own.model, (x, y)).double().mean().item()

    assert first.scalars[0] == pytest.approx((loss(1e-3) - loss(-1e-3)) / 2e-3, rel=1e-3, abs=1e-6)


def test_a_client_gives_the_same_bits_in_any_company():
    subject = trainer()
    alone = {c: result_of(trainer(), job(c)).scalars for c in "ab"}
    for order in ("ab", "ba"):
        found = {r.plan.client: r.scalars for r in subject.run([job(c) for c in order])}
        assert all((found[c] == alone[c]).all() for c in "ab")


def test_it_learns():
    subject, coefficients = trainer(), np.zeros(2 * K, dtype=np.float32)
    losses = []
    for _ in range(8):
        result = result_of(subject, job(start=np.rint(coefficients), steps=100, batch_size=20, learning_rate=0.002))
        coefficients += result.delta
        losses.append(result.metrics["loss_last"])
    assert losses[-1] < 0.8 * losses[0]


def test_dropout_is_off():
    """Two losses under two masks would differ by the masks, not by the step."""
    assert (result_of(trainer(dropout=0.9), job()).scalars == result_of(trainer(), job()).scalars).all()


class BadEverySo:
    """A loss that is not finite in every third pass."""

    def __init__(self, every):
        self.every, self.calls = every, 0

    def __call__(self, model, batch):
        self.calls += 1
        bad = self.calls % self.every == 0
        return cross_entropy(model, batch) * (float("nan") if bad else 1.0)


def test_a_loss_that_is_nan_skips_its_step_and_is_counted():
    subject = trainer(loss=BadEverySo(4))  # the second loss of every second step
    result = result_of(subject, job())
    assert result.metrics["steps_skipped"] == 3
    assert (result.scalars[1::2] == 0).all()
    assert (result.scalars[::2] != 0).all()
    assert np.isfinite(subject.adapter.get()).all()


def test_a_client_all_of_whose_losses_are_nan_is_at_fault():
    result = result_of(trainer(loss=BadEverySo(1)), job("bad"))
    assert isinstance(result.fault, ClientFault)
    assert "client bad: the loss is nan in all of 6 steps, round 2" in result.fault.message


def test_an_objective_that_has_no_gradient():
    """Accuracy itself: any scalar will do."""

    def errors(model, batch):
        return (model(batch[0]).argmax(1) != batch[1]).float()

    result = result_of(trainer(loss=errors, epsilon=0.3), job(steps=30, batch_size=20))
    assert np.isfinite(result.scalars).all()
    assert result.scalars.any()


def test_scalars_are_clipped():
    result = result_of(trainer(clip=0.01), job())
    assert np.abs(result.scalars).max() == np.float32(0.01)


def test_signs_are_all_that_counts():
    subject = trainer()
    plain = result_of(trainer(), job(steps=1))
    subject.settings = ZerothSettings(TwoPoint(), 1e-3, 1000.0, sign=True)
    result = result_of(subject, job())
    assert set(np.abs(result.scalars)) == {1.0}
    assert result.scalars[0] == np.sign(plain.scalars[0])


def test_a_tie_votes_by_its_direction():
    """Signs carry one bit: what has none counts for half of the directions each way, and not always the same."""

    def flat(model, batch):
        return 0 * cross_entropy(model, batch) + 1

    subject = trainer(loss=flat)
    subject.settings = ZerothSettings(TwoPoint(), 1e-3, 1000.0, sign=True)
    result = result_of(subject, job(steps=60))
    places = subject.replica.coordinates.drawn(result.plan)
    assert (result.scalars == np.where(places % 2, -1, 1)).all()


@pytest.mark.parametrize("kind", [ZerothTrainer, BatchedZerothTrainer])
def test_what_nobody_could_do_is_the_plan_s_fault_and_nobody_else_s(kind):
    huge = np.full(2 * K, 2.0**30, dtype=np.float32)
    jobs = [job("a"), job("b", steps=2**31), job("c", start=huge), job("d"), job("e")]
    jobs[4] = replace(jobs[4], plan=replace(jobs[4].plan, round=7))  # of the third epoch of two
    results = list(trainer(kind).run(jobs))
    assert [result.plan.client for result in results] == list("abcde")
    assert [None if r.fault is None else r.fault.code for r in results] == [
        None,
        "training.too-many-scalars",
        "training.coefficients",
        None,
        "training.epoch",
    ]
    assert "client b: plan.steps = 2147483648" in results[1].fault.message
    assert "client e: round 7 belongs to epoch 2" in results[4].fault.message


def test_it_says_which_model_it_started_from():
    one, other = result_of(trainer(), job()), result_of(trainer(), job(start=some_start()))
    assert one.metrics["replica"] != other.metrics["replica"]
    assert one.metrics["replica"] == int(one.metrics["replica"]) < 2**48


def test_progress_is_told_step_by_step():
    steps = []
    result_of(trainer(on_step=lambda: steps.append(1)), job(steps=7))
    assert len(steps) == 7


def test_an_error_of_the_loss_says_where():
    def broken(model, batch):
        raise KeyError("ouch")

    with pytest.raises(KeyError) as caught:
        result_of(trainer(loss=broken), job())
    assert caught.value.__notes__ == ["while training client a, step 1, round 2"]


@pytest.mark.parametrize("size", [5, 64, 70_003])
def test_both_ways_to_walk_have_the_same_bits(size):
    start = torch.linspace(-1, 1, size)
    direction = Signs(packed(bytes(32), 0, size), size)
    here, there = start.clone(), start.clone()
    HostWalk(here).add(direction, 0.3)
    DeviceWalk(there).add(direction, 0.3)
    assert torch.equal(here, there)
    assert isinstance(walk_of(here), HostWalk)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_gpu_walks_to_the_same_bits():
    start, direction = torch.linspace(-1, 1, 5_000_003), Signs(packed(bytes(32), 0, 5_000_003), 5_000_003)
    here, there = start.clone(), start.cuda()
    walk_of(here).add(direction, 1e-3)
    walk_of(there).add(direction, 1e-3)
    assert torch.equal(here, there.cpu())
